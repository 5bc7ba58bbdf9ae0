//! Faults by rule, and moves.

use std::time::Duration;

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::*;
use tidewater_broker::{Action, Options, Rule};
use uuid::Uuid;

use crate::harness::*;

fn produce(it: &mut Harness, value: &str) -> Outcome {
    it.send(0, 9, produce_request(9, Uuid::nil(), 0, batch(&[value], None, false), None))
}

fn log(it: &mut Harness) -> Vec<String> {
    values(&it.fetch(0, 0, false).records)
}

#[test]
fn an_answer_can_be_lost_after_the_request_was_applied() {
    let mut it = Harness::new(Options::default());
    let rule =
        it.cluster.add_rule(Rule::new(Action::ApplyThenDisconnect).api(ApiKey::Produce).skip(1).times(1));
    assert!(matches!(produce(&mut it, "a"), Outcome::Answered(_)));
    assert!(matches!(produce(&mut it, "b"), Outcome::Closed));
    assert!(matches!(produce(&mut it, "c"), Outcome::Answered(_)));
    assert_eq!(log(&mut it), ["a", "b", "c"]);
    assert_eq!(it.cluster.rule_hits(rule), 1);
}

#[test]
fn a_request_can_be_dropped_ignored_or_delayed() {
    let mut it = Harness::new(Options::default());
    it.cluster.add_rule(Rule::new(Action::Disconnect).api(ApiKey::Produce).times(1));
    assert!(matches!(produce(&mut it, "dropped"), Outcome::Closed));
    it.cluster.add_rule(Rule::new(Action::Ignore).api(ApiKey::Produce).times(1));
    assert!(matches!(produce(&mut it, "ignored"), Outcome::Waiting));
    it.advance(Duration::from_secs(60));
    assert!(matches!(it.outcome(), Outcome::Waiting));

    let delay = Duration::from_secs(5);
    it.cluster.add_rule(Rule::new(Action::Delay(delay)).api(ApiKey::Produce).times(1));
    assert!(matches!(produce(&mut it, "late"), Outcome::Waiting));
    assert_eq!(log(&mut it), [] as [&str; 0], "not applied yet");
    it.advance(delay);
    assert_eq!(log(&mut it), ["late"]);

    it.cluster.add_rule(Rule::new(Action::ApplyThenDelay(delay)).api(ApiKey::Produce).times(1));
    assert!(matches!(produce(&mut it, "answered late"), Outcome::Waiting));
    it.advance(delay);
    assert!(matches!(it.outcome(), Outcome::Answered(_)));
    assert_eq!(log(&mut it), ["late", "answered late"]);
}

#[test]
fn an_error_hits_the_partition_that_its_rule_names() {
    let mut it = Harness::new(Options::default());
    let code = ErrorCode::NOT_ENOUGH_REPLICAS;
    let rule = it.cluster.add_rule(Rule::new(Action::Error(code)).api(ApiKey::Produce).partition(TOPIC, 1));
    assert_eq!(it.produce(13, 0, batch(&["a"], None, false)).error_code, 0);
    assert_eq!(it.produce(13, 1, batch(&["b"], None, false)).error_code, code.code());
    it.cluster.remove_rule(rule);
    assert_eq!(it.produce(13, 1, batch(&["b"], None, false)).error_code, 0);
    it.cluster.add_rule(
        Rule::new(Action::Error(ErrorCode::COORDINATOR_NOT_AVAILABLE)).api(ApiKey::FindCoordinator),
    );
    let answer = it.call(4, FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]));
    assert_eq!(answer.coordinators[0].error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE.code());
}

#[test]
fn a_leader_moves_and_the_old_one_says_where_to() {
    let mut it = Harness::new(Options { nodes: 3, ..Options::default() });
    assert!(matches!(produce(&mut it, "a"), Outcome::Answered(_)));
    assert!(it.cluster.move_leader(it.now, TOPIC, 0, 2));
    let id = it.topic_id();
    let refused = it.call(13, produce_request(13, id, 0, batch(&["b"], None, false), None));
    let told = &refused.responses[0].partition_responses[0];
    assert_eq!(told.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.code());
    assert_eq!((told.current_leader.leader_id.0, told.current_leader.leader_epoch), (2, 1));
    assert_eq!(refused.node_endpoints[0].node_id.0, 2);
    let accepted = it.call_node(2, 13, produce_request(13, id, 0, batch(&["b"], None, false), None));
    assert_eq!(accepted.responses[0].partition_responses[0].base_offset, 1);
    let fetch = it.call(17, fetch_request(17, id, 0, 0));
    assert_eq!(fetch.responses[0].partitions[0].error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.code());
    assert_eq!(fetch.responses[0].partitions[0].current_leader.leader_id.0, 2);
    assert_eq!(fetch.node_endpoints[0].node_id.0, 2);
    let fetch = it.call_node(2, 17, fetch_request(17, id, 0, 0));
    assert_eq!(values(&fetch.responses[0].partitions[0].records), ["a", "b"]);
}

#[test]
fn a_stopped_node_leads_and_coordinates_nothing() {
    let mut it = Harness::new(Options { nodes: 2, ..Options::default() });
    it.cluster.move_group_coordinator("g", 1);
    let find = || FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    assert_eq!(it.call(4, find()).coordinators[0].node_id.0, 1);
    it.cluster.stop_node(it.now, 1);
    assert_eq!(it.call(4, find()).coordinators[0].node_id.0, 0);
    let metadata = it.call(12, MetadataRequest::default().with_topics(None));
    assert_eq!(metadata.brokers.len(), 1);
    assert!(metadata.topics[0].partitions.iter().all(|partition| partition.leader_id.0 == 0));
    it.cluster.start_node(1);
    assert_eq!(it.call(12, MetadataRequest::default().with_topics(None)).brokers.len(), 2);
}

#[test]
fn an_answer_can_be_damaged_and_records_can_under_their_checksum() {
    let mut it = Harness::new(Options::default());
    assert!(matches!(produce(&mut it, "a"), Outcome::Answered(_)));
    it.cluster.add_rule(Rule::new(Action::CorruptRecords).api(ApiKey::Fetch).times(1));
    let damaged = it.fetch(0, 0, false);
    let batch = kafka_wire::record::batches(damaged.records.unwrap()).next().unwrap().unwrap();
    assert_eq!(damaged.error_code, 0);
    assert!(batch.verify_crc().is_err());
    assert_eq!(log(&mut it), ["a"], "only the answer was");

    let ask = |it: &mut Harness| match it.send(0, 4, ApiVersionsRequest::default()) {
        Outcome::Answered(response) => response.body,
        other => panic!("{other:?}"),
    };
    let whole = ask(&mut it);
    it.cluster.add_rule(Rule::new(Action::Corrupt).api(ApiKey::ApiVersions).times(1));
    let damaged = ask(&mut it);
    let differences = whole.iter().zip(&damaged).filter(|(a, b)| a != b).count();
    assert_eq!((whole.len() == damaged.len(), differences), (true, 1));
}

#[test]
fn any_answer_can_ask_for_a_pause() {
    let mut it = Harness::new(Options::default());
    let pause = Duration::from_secs(3);
    it.cluster.add_rule(Rule::new(Action::Throttle(pause)).client_id("test").times(2));
    let request = || MetadataRequest::default().with_topics(None);
    assert_eq!(it.call(12, request()).throttle_time_ms, 3_000);
    assert!(matches!(it.send_again(12, request()), Outcome::Waiting));
    it.advance(pause);
    assert!(matches!(it.outcome(), Outcome::Answered(_)));
    it.cluster.add_rule(Rule::new(Action::Throttle(pause)).client_id("another"));
    assert_eq!(it.call(12, request()).throttle_time_ms, 0);
}

#[test]
fn a_paused_node_answers_when_it_goes_on() {
    let mut it = Harness::new(Options { nodes: 2, ..Options::default() });
    it.cluster.pause_node(0);
    assert!(matches!(produce(&mut it, "a"), Outcome::Waiting));
    it.advance(Duration::from_secs(60));
    assert!(matches!(it.outcome(), Outcome::Waiting));
    let metadata = it.call_node(1, 12, MetadataRequest::default().with_topics(None));
    assert_eq!(metadata.brokers.len(), 2, "it is there, it only hangs");
    assert!(matches!(produce(&mut it, "b"), Outcome::Waiting));
    it.cluster.resume_node(it.now, 0);
    assert!(matches!(it.outcome(), Outcome::Answered(_)));
    assert_eq!(log(&mut it), ["a", "b"]);
}

#[test]
fn versions_can_be_those_of_an_older_broker() {
    let mut it = Harness::new(Options::default());
    it.cluster.set_api_versions(ApiKey::Produce, Some(0..=9));
    it.cluster.set_api_versions(ApiKey::DescribeCluster, None);
    let served = it.call(4, ApiVersionsRequest::default()).api_keys;
    let range = |api: ApiKey| {
        let found = served.iter().find(|it| it.api_key == api as i16);
        found.map(|it| (it.min_version, it.max_version))
    };
    assert_eq!((range(ApiKey::Produce), range(ApiKey::DescribeCluster)), (Some((0, 9)), None));
    let id = it.topic_id();
    let request = produce_request(13, id, 0, batch(&["a"], None, false), None);
    assert!(matches!(it.send(0, 13, request), Outcome::Closed));
    assert!(matches!(produce(&mut it, "a"), Outcome::Answered(_)));
    assert_eq!(it.cluster.requests(ApiKey::Produce), 2, "the refused one counts");
}

#[test]
fn a_forgotten_producer_may_go_on_anywhere() {
    let mut it = Harness::new(Options::default());
    let producer = kafka_wire::ProducerIdentity { id: 7, epoch: 0 };
    let write = |it: &mut Harness, sequence| {
        it.produce(9, 0, batch(&["a"], Some((producer, sequence)), false)).error_code
    };
    assert_eq!(write(&mut it, 0), 0);
    assert_eq!(write(&mut it, 5), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER.code());
    it.cluster.forget_producers(TOPIC, 0);
    assert_eq!(write(&mut it, 5), 0);
}

#[test]
fn markers_wait_until_they_are_released() {
    let hour = Duration::from_secs(3600);
    let mut it = Harness::new(Options { marker_delay: hour, ..Options::default() });
    let producer = crate::transactions::init(&mut it).unwrap();
    assert_eq!(it.produce_in_transaction(12, "job", 0, batch(&["a"], Some((producer, 0)), true)), 0);
    crate::transactions::end(&mut it, 5, producer, true);
    assert_eq!(it.fetch(0, 0, true).last_stable_offset, 0);
    it.cluster.release_markers(it.now);
    assert_eq!(values(&it.fetch(0, 0, true).records), ["a"]);
}
