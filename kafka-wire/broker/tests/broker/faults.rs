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
