//! Clients' figures (KIP-714): who is asked for which, and what is kept.

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_wire::protocol::messages::*;
use tidewater_broker::Options;
use uuid::Uuid;

use crate::harness::*;

const CLIENT_METRICS: i8 = 16;

fn subscribe(it: &mut Harness, name: &str, entries: &[(&str, &str)]) {
    let configs = entries
        .iter()
        .map(|(name, value)| AlterableConfig::default().with_name(text(name)).with_value(Some(text(value))));
    let resource = AlterConfigsResource::default()
        .with_resource_type(CLIENT_METRICS)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let answer = it.call(1, IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(answer.responses[0].error_code, 0);
}

fn ask(it: &mut Harness) -> (GetTelemetrySubscriptionsResponse, Vec<String>) {
    let answer = it.call(0, GetTelemetrySubscriptionsRequest::default());
    let wanted = answer.requested_metrics.iter().map(|name| name.to_string()).collect();
    (answer, wanted)
}

fn push(it: &mut Harness, instance: Uuid, subscription: i32, is_last: bool, size: usize) -> i16 {
    let request = PushTelemetryRequest::default()
        .with_client_instance_id(instance)
        .with_subscription_id(subscription)
        .with_terminating(is_last)
        .with_metrics(Bytes::from(vec![7; size]));
    it.call(0, request).error_code
}

#[test]
fn clients_are_asked_for_what_is_subscribed_of_them() {
    let mut it = Harness::new(Options { telemetry: true, ..Options::default() });
    let (nothing, wanted) = ask(&mut it);
    assert_eq!((wanted, nothing.push_interval_ms), (vec![], 300_000));
    subscribe(&mut it, "all", &[("metrics", "org.apache.kafka.producer."), ("interval.ms", "60000")]);
    subscribe(
        &mut it,
        "mine",
        &[("metrics", "b,a"), ("match", "client_id=te.t, client_source_address=127.*")],
    );
    subscribe(&mut it, "others", &[("metrics", "c"), ("match", "client_id=te"), ("interval.ms", "1000")]);
    subscribe(&mut it, "software", &[("metrics", "d"), ("match", "client_software_name=librdkafka")]);
    subscribe(&mut it, "nobody", &[("metrics", "e"), ("match", "client_instance_id=AAAAAAAAAAAAAAAAAAAAAQ")]);
    let (answer, wanted) = ask(&mut it);
    assert_eq!(wanted, ["a", "b", "org.apache.kafka.producer."]);
    assert_eq!((answer.push_interval_ms, answer.telemetry_max_bytes), (60_000, 1 << 20));
    assert_ne!(answer.subscription_id, nothing.subscription_id);
    assert_ne!(answer.client_instance_id, ask(&mut it).0.client_instance_id, "each gets an id");

    let says = ApiVersionsRequest::default()
        .with_client_software_name(text("librdkafka"))
        .with_client_software_version(text("2"));
    it.call(4, says);
    let Outcome::Answered(answer) = it.send_again(0, GetTelemetrySubscriptionsRequest::default()) else {
        panic!("no answer");
    };
    let answer = answer.decode::<GetTelemetrySubscriptionsRequest>().unwrap();
    assert!(answer.requested_metrics.iter().any(|name| name.as_str() == "d"));
    let one = GetTelemetrySubscriptionsRequest::default().with_client_instance_id(Uuid::from_u128(1));
    assert!(it.call(0, one).requested_metrics.iter().any(|name| name.as_str() == "e"), "ids are printed so");
    subscribe(&mut it, "all", &[("metrics", "*")]);
    assert_eq!(ask(&mut it).1, [""], "all of them");
}

#[test]
fn what_is_pushed_is_kept_and_what_was_not_asked_for_refused() {
    let mut it = Harness::new(Options { telemetry: true, ..Options::default() });
    subscribe(&mut it, "all", &[("metrics", "*")]);
    let (answer, _) = ask(&mut it);
    let (instance, subscription) = (answer.client_instance_id, answer.subscription_id);
    assert_eq!(push(&mut it, instance, subscription, false, 3), 0);
    let refused = [
        push(&mut it, Uuid::nil(), subscription, false, 3),
        push(&mut it, instance, subscription + 1, false, 3),
        push(&mut it, instance, subscription, false, (1 << 20) + 1),
    ];
    let codes =
        [ErrorCode::INVALID_REQUEST, ErrorCode::UNKNOWN_SUBSCRIPTION_ID, ErrorCode::TELEMETRY_TOO_LARGE];
    assert_eq!(refused, codes.map(ErrorCode::code));
    assert_eq!(push(&mut it, instance, subscription, true, 0), 0);
    assert_eq!(push(&mut it, instance, subscription, true, 0), ErrorCode::INVALID_REQUEST.code());
    let pushed = it.cluster.pushed_metrics();
    let told: Vec<_> =
        pushed.iter().map(|it| (it.client_id.as_str(), it.is_last, it.payload.len())).collect();
    assert_eq!(told, [("test", false, 3), ("test", true, 0)]);
    for _ in 0..1_100 {
        push(&mut it, Uuid::from_u128(1), subscription, false, 1);
    }
    assert_eq!(it.cluster.pushed_metrics().len(), 1_000);
}

#[test]
fn nobody_is_asked_by_default() {
    let mut it = Harness::new(Options::default());
    let served = it.call(4, ApiVersionsRequest::default()).api_keys;
    assert!(served.iter().all(|api| api.api_key != ApiKey::PushTelemetry as i16));
    assert!(matches!(it.send(0, 0, GetTelemetrySubscriptionsRequest::default()), Outcome::Closed));
}
