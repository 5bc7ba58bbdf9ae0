//! Quotas: who may set them, and what becomes of clients beyond them.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_wire::protocol::messages::create_topics_request::CreatableTopic;
use kafka_wire::protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_wire::protocol::messages::*;
use tidewater_broker::{Cluster, Options};
use uuid::Uuid;

use crate::harness::*;

/// Sets a quota, or removes it; of the default user where none is named.
fn set(it: &mut Harness, user: Option<&str>, key: &str, value: Option<f64>) -> i16 {
    let entity = EntityData::default().with_entity_type(text("user")).with_entity_name(user.map(text));
    let change = OpData::default().with_key(text(key)).with_value(value.unwrap_or(0.0));
    let change = change.with_remove(value.is_none());
    let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![change]);
    it.call(1, AlterClientQuotasRequest::default().with_entries(vec![entry])).entries[0].error_code
}

fn described(it: &mut Harness, match_type: i8, name: Option<&str>) -> Vec<(Option<String>, f64)> {
    let component = ComponentData::default().with_entity_type(text("user")).with_match_type(match_type);
    let component = component.with_match(name.map(text));
    let request = DescribeClientQuotasRequest::default().with_components(vec![component]).with_strict(true);
    let entries = it.call(1, request).entries.unwrap();
    let name = |entry: &describe_client_quotas_response::EntryData| {
        entry.entity[0].entity_name.as_ref().map(|name| name.to_string())
    };
    entries.iter().map(|entry| (name(entry), entry.values[0].value)).collect()
}

fn produce(it: &mut Harness, value: &str) -> ProduceResponse {
    it.call(9, produce_request(9, Uuid::nil(), 0, batch(&[value], None, false), None))
}

#[test]
fn quotas_are_checked_kept_and_found_by_filter() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { data: Some(folder.path().to_owned()), ..Options::default() };
    let mut it = Harness::new(options.clone());
    assert_eq!(set(&mut it, None, "producer_byte_rate", Some(1000.0)), 0);
    assert_eq!(set(&mut it, Some("alice"), "consumer_byte_rate", Some(2000.0)), 0);
    assert_eq!(set(&mut it, Some("bob"), "consumer_byte_rate", Some(1.0)), 0);
    assert_eq!(set(&mut it, Some("bob"), "consumer_byte_rate", None), 0);
    let invalid = ErrorCode::INVALID_REQUEST.code();
    for (key, value) in [("producer_byte_rate", 0.5), ("producer_byte_rate", -1.0), ("no_such_rate", 1.0)] {
        assert_eq!(set(&mut it, None, key, Some(value)), invalid, "{key} {value}");
    }
    drop(std::mem::replace(&mut it.cluster, Cluster::new(it.now, Options::default(), 1).unwrap()));
    it.cluster = Cluster::new(it.now, options, 2).unwrap();
    let (default, alice) = ((None, 1000.0), (Some("alice".to_owned()), 2000.0));
    assert_eq!(described(&mut it, 2, None), [default.clone(), alice.clone()]);
    assert_eq!(described(&mut it, 1, None), [default]);
    assert_eq!(described(&mut it, 0, Some("alice")), [alice]);
    assert_eq!(described(&mut it, 0, Some("bob")), []);
}

#[test]
fn who_writes_too_fast_is_told_and_its_connection_pauses() {
    let mut it = Harness::new(Options::default());
    it.be("alice");
    assert_eq!(set(&mut it, Some("alice"), "producer_byte_rate", Some(100.0)), 0);
    let value = "x".repeat(1100);
    let answer = produce(&mut it, &value);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "it is written");
    let pause = Duration::from_millis(answer.throttle_time_ms as u64);
    assert!(pause > Duration::from_secs(1) && pause < Duration::from_secs(2), "{pause:?}");
    // The connection that was told has to wait; its next request is late.
    let again = |it: &mut Harness| it.send_again(3, ApiVersionsRequest::default());
    assert!(matches!(again(&mut it), Outcome::Waiting));
    it.advance(pause / 2);
    assert!(matches!(it.outcome(), Outcome::Waiting));
    it.advance(pause / 2 + Duration::from_millis(1));
    assert!(matches!(it.outcome(), Outcome::Answered(_)));
    it.be("bob");
    assert_eq!(produce(&mut it, &value).throttle_time_ms, 0, "no quota of his");
}

#[test]
fn who_reads_too_fast_gets_nothing_until_the_pause_is_over() {
    let mut it = Harness::new(Options::default());
    let value = "x".repeat(1500);
    produce(&mut it, &value);
    it.be("alice");
    assert_eq!(set(&mut it, None, "consumer_byte_rate", Some(100.0)), 0);
    let mut request = fetch_request(12, Uuid::nil(), 0, 0);
    request.max_wait_ms = 0;
    let answer = it.call(12, request.clone());
    assert!(answer.throttle_time_ms > 4_000 && answer.responses.is_empty(), "{answer:?}");
    assert_eq!(set(&mut it, None, "consumer_byte_rate", Some(1000.0)), 0);
    let answer = it.call(12, request);
    assert_eq!(answer.throttle_time_ms, 0);
    assert_eq!(answer.responses[0].partitions[0].records.as_ref().map(Bytes::is_empty), Some(false));
}

#[test]
fn too_many_new_partitions_are_refused_or_slowed_down() {
    let mut it = Harness::new(Options::default());
    assert_eq!(set(&mut it, None, "controller_mutation_rate", Some(1.0)), 0);
    let create = |it: &mut Harness, version, name: &str, partitions| {
        let topic = CreatableTopic::default().with_name(TopicName(text(name)));
        let topic = topic.with_num_partitions(partitions).with_replication_factor(1);
        let answer = it.call(version, CreateTopicsRequest::default().with_topics(vec![topic]));
        (answer.topics[0].error_code, answer.throttle_time_ms)
    };
    // Eleven may be had at once, and whoever owes nothing may go beyond that.
    assert_eq!(create(&mut it, 7, "a", 10), (0, 0));
    assert_eq!(create(&mut it, 7, "b", 10), (0, 0));
    let refused = ErrorCode::THROTTLING_QUOTA_EXCEEDED.code();
    assert_eq!(create(&mut it, 7, "c", 1), (refused, 9_000));
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("a"))]);
    assert_eq!(it.call(5, delete.clone()).responses[0].error_code, refused);
    assert_eq!(create(&mut it, 5, "c", 1), (0, 10_000), "old clients only pause");
    it.advance(Duration::from_secs(9));
    assert_eq!(create(&mut it, 7, "d", 1), (refused, 1_000));
    it.advance(Duration::from_secs(1));
    assert_eq!(create(&mut it, 7, "d", 1), (0, 0));
    assert_eq!(it.call(5, delete).responses[0].error_code, refused, "it owes one again");
}

#[test]
fn who_asks_too_often_is_told_and_its_connection_pauses() {
    let mut it = Harness::new(Options::default());
    assert_eq!(set(&mut it, Some("alice"), "request_percentage", Some(0.1)), 0);
    it.be("alice");
    let ask = |it: &mut Harness| it.call(3, ApiVersionsRequest::default()).throttle_time_ms;
    // A tenth of a percent is one millisecond a second: ten requests over the ten seconds that count.
    for turn in 0..10 {
        assert_eq!(ask(&mut it), 0, "request {turn}");
    }
    assert_eq!(ask(&mut it), 1_000, "one too many");
    assert!(matches!(it.send_again(3, ApiVersionsRequest::default()), Outcome::Waiting));
    it.advance(Duration::from_millis(999));
    assert!(matches!(it.outcome(), Outcome::Waiting));
    it.advance(Duration::from_millis(1));
    assert!(matches!(it.outcome(), Outcome::Answered(_)));
    // Elsewhere the pause is what an answer begins with, or ends with; and a topic is no partition too many for it.
    assert_eq!(produce(&mut it, "a").throttle_time_ms, 1_000);
    let metadata = it.call(12, MetadataRequest::default().with_topics(None));
    assert_eq!(metadata.throttle_time_ms, 1_000);
    let topic = CreatableTopic::default().with_name(TopicName(text("a"))).with_num_partitions(1);
    let topics = vec![topic.with_replication_factor(1)];
    let created = it.call(7, CreateTopicsRequest::default().with_topics(topics));
    assert_eq!((created.topics[0].error_code, created.throttle_time_ms), (0, 1_000));
    it.advance(Duration::from_secs(11));
    assert_eq!(ask(&mut it), 0, "that is forgotten");
    it.be("bob");
    assert_eq!(ask(&mut it), 0, "no quota of his");
}

#[test]
fn connections_beyond_an_addresss_quota_get_no_answer_and_are_closed() {
    let mut it = Harness::new(Options::default());
    let limit = |it: &mut Harness, address: Option<&str>, rate| {
        let entity = EntityData::default().with_entity_type(text("ip")).with_entity_name(address.map(text));
        let change = OpData::default().with_key(text("connection_creation_rate")).with_value(rate);
        let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![change]);
        it.call(1, AlterClientQuotasRequest::default().with_entries(vec![entry])).entries[0].error_code
    };
    assert_eq!(limit(&mut it, None, 1.0), 0);
    assert_eq!(limit(&mut it, Some("10.0.0.7"), 2.0), 0);
    for (address, allowed) in [("10.0.0.1", 10), ("10.0.0.7", 20)] {
        it.peer.host = address.to_owned();
        for turn in 0..allowed {
            let asked = it.send(0, 3, ApiVersionsRequest::default());
            assert!(matches!(asked, Outcome::Answered(_)), "{address}, connection {turn}");
            assert!(matches!(it.send_again(3, ApiVersionsRequest::default()), Outcome::Answered(_)));
        }
        assert!(matches!(it.send(0, 3, ApiVersionsRequest::default()), Outcome::Waiting), "one too many");
        it.advance(Duration::from_secs(1));
        assert!(matches!(it.outcome(), Outcome::Closed));
    }
    it.advance(Duration::from_secs(11));
    assert!(matches!(it.send(0, 3, ApiVersionsRequest::default()), Outcome::Answered(_)));
}
