//! Administration.

use kafka_wire::config::ProducerConfig;
use kafka_wire::{
    ConfigChange, ConfigResource, ErrorCode, ErrorKind, Isolation, NewTopic, OffsetSpec, Producer, Record,
    Result, TopicPartition,
};
use tidewater_broker::{Action, ApiKey, EmbeddedBroker, Options, Rule};

use crate::{admin, block_on, broker};

/// The error code of each outcome, in the order of the keys.
fn codes<K: Ord, T>(mut results: Vec<(K, Result<T>)>) -> Vec<Option<ErrorCode>> {
    results.sort_by(|(a, _), (b, _)| a.cmp(b));
    results.into_iter().map(|(_, result)| result.err().map(|error| error.code().expect("a code"))).collect()
}

fn produce(broker: &EmbeddedBroker, topic: &str, records: usize) {
    let mut config = ProducerConfig::default();
    config.client = kafka_wire::config::ClientConfig::bootstrap(&broker.bootstrap()).expect("addresses");
    let producer = Producer::new(config).expect("a producer");
    for number in 0..records {
        let value = number.to_string();
        block_on(producer.send(Record::to(topic).partition(0).value(&value))).expect("sent");
    }
}

#[test]
fn topics_are_created_grown_described_and_deleted() {
    let broker = broker(Options::default());
    let admin = admin(&broker);
    let topics = [NewTopic::new("a", 3).config("retention.ms", "60000"), NewTopic::new("no/name", 1)];
    let created = block_on(admin.create_topics(topics)).unwrap();
    assert_eq!(codes(created), [None, Some(ErrorCode::INVALID_TOPIC_EXCEPTION)]);
    let again = block_on(admin.create_topics([NewTopic::new("a", 1)])).unwrap();
    assert_eq!(codes(again), [Some(ErrorCode::TOPIC_ALREADY_EXISTS)]);

    let grown = block_on(admin.create_partitions([("a", 5), ("none", 2)])).unwrap();
    assert_eq!(codes(grown), [None, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
    let described = block_on(admin.describe_topics(["a"])).unwrap().remove(0).1.unwrap();
    assert_eq!(described.partitions.len(), 5);
    assert!(described.id.is_some() && described.partitions.iter().all(|p| p.leader.is_some()));
    assert!(block_on(admin.list_topics()).unwrap().contains_key("a"));

    let deleted = block_on(admin.delete_topics(["a", "none"])).unwrap();
    assert_eq!(codes(deleted), [None, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
    assert!(!block_on(admin.list_topics()).unwrap().contains_key("a"));
    let gone = block_on(admin.describe_topics(["a"])).unwrap();
    assert_eq!(codes(gone), [Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
}

#[test]
fn configurations_are_described_and_changed_one_by_one() {
    let broker = broker(Options::default().with_topic("a", 1));
    let admin = admin(&broker);
    let a = || ConfigResource::topic("a");
    let changes = vec![ConfigChange::set("cleanup.policy", "compact")];
    assert_eq!(codes(block_on(admin.incremental_alter_configs([(a(), changes)])).unwrap()), [None]);
    let configs = block_on(admin.describe_configs([a()])).unwrap().remove(0).1.unwrap();
    let policy = configs.iter().find(|config| config.name == "cleanup.policy").unwrap();
    assert_eq!((policy.value.as_deref(), policy.is_set), (Some("compact"), true));
    let nonsense = vec![ConfigChange::set("no.such.config", "1")];
    let refused = block_on(admin.incremental_alter_configs([(a(), nonsense)])).unwrap();
    assert_eq!(codes(refused), [Some(ErrorCode::INVALID_CONFIG)]);
}

#[test]
fn offsets_are_listed_and_records_deleted() {
    let broker = broker(Options::default().with_topic("a", 2));
    let admin = admin(&broker);
    produce(&broker, "a", 3);
    let offset = |partition: i32, spec: OffsetSpec| {
        let asked = [(TopicPartition::new("a", partition), spec)];
        let listed = block_on(admin.list_offsets(asked, Isolation::ReadCommitted)).unwrap();
        listed.into_iter().next().unwrap().1.map(|listed| listed.offset)
    };
    assert_eq!(offset(0, OffsetSpec::Latest).unwrap(), Some(3));
    assert_eq!(offset(1, OffsetSpec::Latest).unwrap(), Some(0));
    let deleted = block_on(admin.delete_records([(TopicPartition::new("a", 0), Some(2))])).unwrap();
    assert_eq!(deleted[0].1.as_ref().unwrap(), &2);
    assert_eq!(offset(0, OffsetSpec::Earliest).unwrap(), Some(2));
    assert_eq!(offset(0, OffsetSpec::Timestamp(0)).unwrap(), Some(2));
    assert_eq!(offset(0, OffsetSpec::Timestamp(i64::MAX)).unwrap(), None);
    let beyond = block_on(admin.delete_records([(TopicPartition::new("a", 0), Some(9))])).unwrap();
    assert_eq!(codes(beyond), [Some(ErrorCode::OFFSET_OUT_OF_RANGE)]);
}

#[test]
fn a_leader_that_moved_is_found_again() {
    let broker = broker(Options { nodes: 3, ..Options::default() }.with_topic("a", 6));
    let admin = admin(&broker);
    let latest = || {
        let asked = (0..6).map(|partition| (TopicPartition::new("a", partition), OffsetSpec::Latest));
        let listed = block_on(admin.list_offsets(asked, Isolation::ReadUncommitted)).unwrap();
        assert_eq!(listed.len(), 6);
        listed.into_iter().map(|(_, listed)| listed.unwrap().offset).collect::<Vec<_>>()
    };
    assert_eq!(latest(), [Some(0); 6]);
    for node in [1, 2, 0, 2, 1] {
        let moved =
            broker.control(|cluster, now| (0..6).all(|index| cluster.move_leader(now, "a", index, node)));
        assert!(moved);
        assert_eq!(latest(), [Some(0); 6]);
    }
}

#[test]
fn a_topic_that_is_missing_is_said_to_be_missing() {
    let broker = broker(Options::default());
    let admin = admin(&broker);
    let asked = [(TopicPartition::new("none", 0), OffsetSpec::Latest)];
    let (_, result) = block_on(admin.list_offsets(asked, Isolation::ReadCommitted)).unwrap().remove(0);
    let error = result.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(
        error.to_string().contains("none-0") && error.to_string().contains("check the topic's name"),
        "{error}"
    );
}

#[test]
fn what_fails_in_passing_is_repeated() {
    let broker = broker(Options::default().with_topic("a", 1));
    let admin = admin(&broker);
    for action in
        [Action::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER), Action::Disconnect, Action::ApplyThenDisconnect]
    {
        broker.add_rule(Rule::new(action).api(ApiKey::ListOffsets).times(2));
        let asked = [(TopicPartition::new("a", 0), OffsetSpec::Latest)];
        let (_, listed) = block_on(admin.list_offsets(asked, Isolation::ReadCommitted)).unwrap().remove(0);
        assert_eq!(listed.unwrap().offset, Some(0), "{action:?}");
    }
}

#[test]
fn the_cluster_is_described() {
    let broker = broker(Options { nodes: 3, ..Options::default() });
    let described = block_on(admin(&broker).describe_cluster()).unwrap();
    let ports: Vec<u16> = described.brokers.iter().map(|broker| broker.address.port).collect();
    assert_eq!(ports, broker.addresses().iter().map(|address| address.port()).collect::<Vec<_>>());
    assert!(described.cluster_id.is_some() && described.controller.is_some());
}

#[test]
fn an_api_that_the_broker_does_not_know_is_named() {
    let broker = broker(Options::default());
    let error = block_on(admin(&broker).client_instance_id()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("GetTelemetrySubscriptions"), "{error}");
}

#[test]
fn a_group_without_commits_has_no_offsets() {
    let broker = broker(Options::default().with_topic("a", 1));
    assert!(block_on(admin(&broker).list_committed_offsets("g")).unwrap().is_empty());
}
