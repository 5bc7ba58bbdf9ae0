//! What administrators ask: configuration, users, replicas, producers, features, the quorum.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::alter_configs_request as replaced;
use kafka_wire::protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_wire::protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_wire::protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_wire::protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_wire::protocol::messages::describe_producers_request::TopicRequest;
use kafka_wire::protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_wire::protocol::messages::describe_topic_partitions_request::Cursor;
use kafka_wire::protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_wire::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_wire::protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_wire::protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_wire::protocol::messages::*;
use tidewater_broker::{Cluster, Options};

use crate::harness::*;
use crate::transactions::init;

const TOPIC_CONFIG: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

fn change(it: &mut Harness, kind: i8, name: &str, operation: i8, entry: &str, value: &str) -> i16 {
    let change = AlterableConfig::default().with_name(text(entry)).with_config_operation(operation);
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(vec![change.with_value(Some(text(value)))]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    it.call(1, request).responses[0].error_code
}

/// Value and source of an entry, nearest first.
fn value(it: &mut Harness, kind: i8, name: &str, entry: &str) -> Vec<(String, i8)> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text(entry)]));
    let request =
        DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let described = it.call(4, request).results.remove(0);
    assert_eq!(described.error_code, 0, "{:?}", described.error_message);
    let synonyms = described.configs.into_iter().flat_map(|it| it.synonyms);
    synonyms.map(|it| (it.value.unwrap().to_string(), it.source)).collect()
}

fn restart(it: &mut Harness, options: &Options) {
    drop(std::mem::replace(&mut it.cluster, Cluster::new(it.now, Options::default(), 1).unwrap()));
    it.cluster = Cluster::new(it.now, options.clone(), 2).unwrap();
}

fn persistent(folder: &tempfile::TempDir, nodes: u16) -> Options {
    Options { data: Some(folder.path().to_owned()), nodes, ..Options::default() }.with_topic(TOPIC, 2)
}

#[test]
fn every_resource_has_its_configuration_and_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = persistent(&folder, 2);
    let mut it = Harness::new(options.clone());
    assert_eq!(change(&mut it, TOPIC_CONFIG, TOPIC, 0, "retention.ms", "1000"), 0);
    assert_eq!(change(&mut it, TOPIC_CONFIG, TOPIC, 2, "cleanup.policy", "compact"), 0);
    assert_eq!(change(&mut it, BROKER, "", 0, "log.cleaner.threads", "2"), 0);
    assert_eq!(change(&mut it, BROKER, "1", 0, "log.cleaner.threads", "3"), 0);
    assert_eq!(change(&mut it, GROUP, "g", 0, "consumer.session.timeout.ms", "50000"), 0);
    assert_eq!(change(&mut it, CLIENT_METRICS, "m", 0, "interval.ms", "100"), 0);
    let invalid = ErrorCode::INVALID_CONFIG.code();
    assert_eq!(change(&mut it, GROUP, "g", 0, "retention.ms", "1"), invalid);
    assert_eq!(change(&mut it, BROKER, "1", 0, "log.cleaner.threads", "many"), invalid);
    assert_eq!(
        change(&mut it, BROKER, "7", 0, "log.cleaner.threads", "1"),
        ErrorCode::INVALID_REQUEST.code()
    );
    assert_eq!(change(&mut it, 8, "1", 0, "root", "INFO"), ErrorCode::INVALID_REQUEST.code());

    restart(&mut it, &options);
    let own = |value: &str, source| (value.to_owned(), source);
    assert_eq!(value(&mut it, TOPIC_CONFIG, TOPIC, "retention.ms"), [own("1000", 1), own("604800000", 5)]);
    assert_eq!(value(&mut it, TOPIC_CONFIG, TOPIC, "cleanup.policy")[0], own("delete,compact", 1));
    let threads = [own("3", 2), own("2", 3), own("1", 5)];
    assert_eq!(value(&mut it, BROKER, "1", "log.cleaner.threads"), threads);
    assert_eq!(value(&mut it, BROKER, "0", "log.cleaner.threads"), threads[1..]);
    assert_eq!(value(&mut it, BROKER, "0", "num.partitions"), [own("1", 4)]);
    assert_eq!(value(&mut it, GROUP, "g", "consumer.session.timeout.ms")[0], own("50000", 8));
    assert_eq!(value(&mut it, CLIENT_METRICS, "m", "interval.ms")[0], own("100", 7));

    let listed = it.call(1, ListConfigResourcesRequest::default()).config_resources;
    let listed: Vec<(i8, String)> =
        listed.iter().map(|it| (it.resource_type, it.resource_name.to_string())).collect();
    let expected = [(2, TOPIC), (4, "0"), (4, "1"), (16, "m"), (32, "g")];
    assert_eq!(listed, expected.map(|(kind, name)| (kind, name.to_owned())));
    assert_eq!(it.call(0, ListConfigResourcesRequest::default()).config_resources.len(), 1, "client metrics");

    // AlterConfigs replaces all.
    let entry = replaced::AlterableConfig::default().with_name(text("max.message.bytes"));
    let resource = replaced::AlterConfigsResource::default()
        .with_resource_type(TOPIC_CONFIG)
        .with_resource_name(text(TOPIC))
        .with_configs(vec![entry.with_value(Some(text("2000")))]);
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    assert_eq!(it.call(2, request).responses[0].error_code, 0);
    assert_eq!(value(&mut it, TOPIC_CONFIG, TOPIC, "retention.ms"), [own("604800000", 5)]);
    assert_eq!(value(&mut it, TOPIC_CONFIG, TOPIC, "max.message.bytes")[0], own("2000", 1));
}

fn upsertion(user: &str, mechanism: i8, iterations: i32) -> ScramCredentialUpsertion {
    ScramCredentialUpsertion::default()
        .with_name(text(user))
        .with_mechanism(mechanism)
        .with_iterations(iterations)
        .with_salt(bytes::Bytes::from_static(b"salt"))
        .with_salted_password(bytes::Bytes::from_static(b"password"))
}

#[test]
fn scram_users_are_kept_and_described_without_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let options = persistent(&folder, 1);
    let mut it = Harness::new(options.clone());
    let deletion = ScramCredentialDeletion::default().with_name(text("nobody")).with_mechanism(1);
    let request = AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion]).with_upsertions(
        ["alice", "bob", "carol", "dan"]
            .iter()
            .zip([(1, 4096), (2, 8192), (1, 4095), (7, 4096)])
            .map(|(user, (mechanism, iterations))| upsertion(user, mechanism, iterations))
            .chain([upsertion("eve", 1, 4096), upsertion("eve", 1, 4096)])
            .collect(),
    );
    let results = it.call(0, request).results;
    let codes: Vec<(&str, i16)> = results.iter().map(|it| (it.user.as_str(), it.error_code)).collect();
    assert_eq!(
        codes,
        [
            ("nobody", ErrorCode::RESOURCE_NOT_FOUND.code()),
            ("alice", 0),
            ("bob", 0),
            ("carol", ErrorCode::UNACCEPTABLE_CREDENTIAL.code()),
            ("dan", ErrorCode::UNSUPPORTED_SASL_MECHANISM.code()),
            ("eve", ErrorCode::DUPLICATE_RESOURCE.code()),
        ]
    );
    restart(&mut it, &options);
    let results = it.call(0, DescribeUserScramCredentialsRequest::default().with_users(None)).results;
    let known: Vec<(&str, i8, i32)> = results
        .iter()
        .map(|it| (it.user.as_str(), it.credential_infos[0].mechanism, it.credential_infos[0].iterations))
        .collect();
    assert_eq!(known, [("alice", 1, 4096), ("bob", 2, 8192)]);
}

fn partition(it: &mut Harness, index: usize) -> (i32, i32, Vec<i32>) {
    let metadata = it.call(12, MetadataRequest::default().with_topics(None));
    let partition = &metadata.topics[0].partitions[index];
    let replicas = partition.replica_nodes.iter().map(|id| id.0).collect();
    (partition.leader_id.0, partition.leader_epoch, replicas)
}

fn reassign(it: &mut Harness, replicas: Option<&[i32]>) -> i16 {
    let replicas = replicas.map(|ids| ids.iter().map(|&id| BrokerId(id)).collect());
    let partition = ReassignablePartition::default().with_partition_index(0).with_replicas(replicas);
    let topic = ReassignableTopic::default().with_name(topic_name()).with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    it.call(0, request).responses[0].partitions[0].error_code
}

fn elect(it: &mut Harness, kind: i8) -> i16 {
    let topic = TopicPartitions::default().with_topic(topic_name()).with_partitions(vec![0]);
    let request =
        ElectLeadersRequest::default().with_election_type(kind).with_topic_partitions(Some(vec![topic]));
    it.call(2, request).replica_election_results[0].partition_result[0].error_code
}

#[test]
fn replicas_move_at_once_or_when_they_are_held_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let options = persistent(&folder, 3);
    let mut it = Harness::new(options.clone());
    assert_eq!(reassign(&mut it, Some(&[1, 9])), ErrorCode::INVALID_REPLICA_ASSIGNMENT.code());
    assert_eq!(reassign(&mut it, None), ErrorCode::NO_REASSIGNMENT_IN_PROGRESS.code());
    assert_eq!(reassign(&mut it, Some(&[1, 2])), 0);
    assert_eq!(partition(&mut it, 0), (1, 1, vec![1, 2]));
    it.cluster.hold_reassignments(it.now, true);
    assert_eq!(reassign(&mut it, Some(&[2, 0])), 0);
    let list =
        |it: &mut Harness| it.call(0, ListPartitionReassignmentsRequest::default().with_topics(None)).topics;
    let ongoing = list(&mut it)[0].partitions[0].clone();
    assert_eq!(ongoing.adding_replicas, [BrokerId(0)]);
    assert_eq!(ongoing.removing_replicas, [BrokerId(1)]);
    assert_eq!(partition(&mut it, 0).2, [1, 2], "not yet");
    assert_eq!(reassign(&mut it, None), 0, "given up");
    assert!(list(&mut it).is_empty());
    assert_eq!(reassign(&mut it, Some(&[2, 0])), 0);
    restart(&mut it, &options);
    assert_eq!(list(&mut it)[0].partitions[0], ongoing, "under way as before");
    assert_eq!(partition(&mut it, 0).2, [1, 2]);
    it.cluster.hold_reassignments(it.now, false);
    assert_eq!(partition(&mut it, 0), (2, 2, vec![2, 0]));
    restart(&mut it, &options);
    assert!(list(&mut it).is_empty(), "done for good");

    it.cluster.move_leader(it.now, TOPIC, 0, 0);
    restart(&mut it, &options);
    assert_eq!(partition(&mut it, 0), (0, 3, vec![2, 0]));
    assert_eq!(elect(&mut it, 1), ErrorCode::ELECTION_NOT_NEEDED.code());
    assert_eq!(elect(&mut it, 0), 0);
    assert_eq!(partition(&mut it, 0).0, 2);
    assert_eq!(elect(&mut it, 0), ErrorCode::ELECTION_NOT_NEEDED.code());
    it.cluster.stop_node(it.now, 2);
    assert_eq!(elect(&mut it, 0), ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE.code());
}

#[test]
fn partitions_are_added_where_they_are_assigned() {
    let folder = tempfile::tempdir().unwrap();
    let options = persistent(&folder, 3);
    let mut it = Harness::new(options.clone());
    let grow = |it: &mut Harness, count, nodes: &[i32]| {
        let nodes = nodes.iter().map(|&id| BrokerId(id)).collect();
        let assignment = CreatePartitionsAssignment::default().with_broker_ids(nodes);
        let topic = CreatePartitionsTopic::default().with_name(topic_name()).with_count(count);
        let topic = topic.with_assignments(Some(vec![assignment]));
        it.call(3, CreatePartitionsRequest::default().with_topics(vec![topic])).results[0].error_code
    };
    let refused = ErrorCode::INVALID_REPLICA_ASSIGNMENT.code();
    assert_eq!(grow(&mut it, 4, &[2]), refused, "two are added, one is assigned");
    assert_eq!(grow(&mut it, 3, &[2, 2]), refused);
    assert_eq!(grow(&mut it, 3, &[2, 1]), 0);
    restart(&mut it, &options);
    assert_eq!(partition(&mut it, 2), (2, 0, vec![2, 1]));
}

#[test]
fn a_hanging_transaction_is_found_and_aborted() {
    let mut it = Harness::new(Options::default());
    let producer = init(&mut it).unwrap();
    assert_eq!(it.produce_in_transaction(12, "job", 0, batch(&["a"], Some((producer, 0)), true)), 0);
    let describe = |it: &mut Harness| {
        let topic = TopicRequest::default().with_name(topic_name()).with_partition_indexes(vec![0]);
        let answer = it.call(0, DescribeProducersRequest::default().with_topics(vec![topic]));
        answer.topics[0].partitions[0].active_producers[0].clone()
    };
    let open = describe(&mut it);
    assert_eq!((open.producer_id.0, open.last_sequence, open.current_txn_start_offset), (producer.id, 0, 0));
    let abort = |it: &mut Harness, epoch| {
        let topic = WritableTxnMarkerTopic::default().with_name(topic_name()).with_partition_indexes(vec![0]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(epoch)
            .with_topics(vec![topic]);
        let answer = it.call(1, WriteTxnMarkersRequest::default().with_markers(vec![marker]));
        answer.markers[0].topics[0].partitions[0].error_code
    };
    assert_eq!(abort(&mut it, producer.epoch - 1), ErrorCode::INVALID_PRODUCER_EPOCH.code());
    assert_eq!(abort(&mut it, producer.epoch), 0);
    assert_eq!(describe(&mut it).current_txn_start_offset, -1);
    assert_eq!(values(&it.fetch(0, 0, true).records), ["a"], "the bytes, with who aborted beside them");
    assert_eq!(it.fetch(0, 0, true).aborted_transactions.unwrap().len(), 1);
}

#[test]
fn features_go_up_and_with_leave_down() {
    let folder = tempfile::tempdir().unwrap();
    let options = persistent(&folder, 1);
    let mut it = Harness::new(options.clone());
    let update = |it: &mut Harness, name: &str, level, upgrade_type| {
        let update = FeatureUpdateKey::default().with_feature(text(name)).with_max_version_level(level);
        let updates = vec![update.with_upgrade_type(upgrade_type)];
        it.call(2, UpdateFeaturesRequest::default().with_feature_updates(updates)).error_code
    };
    let level = |it: &mut Harness| {
        let features = it.call(4, ApiVersionsRequest::default()).finalized_features;
        features.iter().find(|it| it.name.as_str() == "transaction.version").map(|it| it.max_version_level)
    };
    let refused = ErrorCode::INVALID_UPDATE_VERSION.code();
    assert_eq!(update(&mut it, "transaction.version", 1, 1), refused, "a downgrade");
    assert_eq!(update(&mut it, "transaction.version", 3, 1), refused);
    assert_eq!(update(&mut it, "no.such.version", 1, 1), refused);
    assert_eq!(level(&mut it), Some(2));
    assert_eq!(update(&mut it, "transaction.version", 1, 2), 0);
    restart(&mut it, &options);
    assert_eq!(level(&mut it), Some(1));
    assert_eq!(update(&mut it, "transaction.version", 0, 3), 0);
    assert_eq!(level(&mut it), None, "off");
}

#[test]
fn the_quorum_is_the_nodes_and_a_node_can_be_let_go() {
    let mut it = Harness::new(Options { nodes: 3, ..Options::default() });
    let partition = PartitionData::default().with_partition_index(0);
    let topic = TopicData::default().with_topic_name(TopicName(text("__cluster_metadata")));
    let request = DescribeQuorumRequest::default().with_topics(vec![topic.with_partitions(vec![partition])]);
    let quorum = it.call(2, request);
    let told = &quorum.topics[0].partitions[0];
    assert_eq!((told.error_code, told.leader_id.0, told.current_voters.len()), (0, 0, 3));
    assert!(told.high_watermark > 0 && quorum.nodes.len() == 3);
    let unregister = |it: &mut Harness, id| {
        it.call(0, UnregisterBrokerRequest::default().with_broker_id(BrokerId(id))).error_code
    };
    let brokers = |it: &mut Harness| {
        let request =
            DescribeClusterRequest::default().with_endpoint_type(1).with_include_fenced_brokers(true);
        let brokers = it.call(2, request).brokers;
        brokers.iter().map(|it| (it.broker_id.0, it.is_fenced)).collect::<Vec<_>>()
    };
    assert_eq!(unregister(&mut it, 9), ErrorCode::BROKER_ID_NOT_REGISTERED.code());
    it.cluster.stop_node(it.now, 2);
    assert_eq!(brokers(&mut it), [(0, false), (1, false), (2, true)]);
    assert_eq!(unregister(&mut it, 2), 0);
    assert_eq!(brokers(&mut it), [(0, false), (1, false)]);
    it.cluster.start_node(2);
    assert_eq!(brokers(&mut it).len(), 3);
}

#[test]
fn the_controller_moves_by_command_and_when_its_node_stops() {
    let folder = tempfile::tempdir().unwrap();
    let options = persistent(&folder, 3);
    let mut it = Harness::new(options.clone());
    let told = |it: &mut Harness| {
        let metadata = it.call(12, MetadataRequest::default().with_topics(None)).controller_id.0;
        let cluster = it.call(1, DescribeClusterRequest::default().with_endpoint_type(1)).controller_id.0;
        assert_eq!(metadata, cluster);
        let partition = PartitionData::default().with_partition_index(0);
        let topic = TopicData::default().with_topic_name(TopicName(text("__cluster_metadata")));
        let request =
            DescribeQuorumRequest::default().with_topics(vec![topic.with_partitions(vec![partition])]);
        let quorum = it.call(2, request).topics.remove(0).partitions.remove(0);
        assert_eq!(quorum.leader_id.0, cluster);
        (cluster, quorum.leader_epoch)
    };
    assert_eq!(told(&mut it), (0, 1));
    assert!(!it.cluster.move_controller(7));
    assert!(it.cluster.move_controller(2));
    assert!(it.cluster.move_controller(2), "already");
    assert_eq!(told(&mut it), (2, 2));
    restart(&mut it, &options);
    assert_eq!(told(&mut it), (2, 2));
    it.cluster.stop_node(it.now, 2);
    assert_eq!(told(&mut it), (0, 3));
    it.cluster.start_node(2);
    assert_eq!(told(&mut it), (0, 3), "it has been replaced");
}

#[test]
fn log_folders_tell_sizes_of_what_a_node_has() {
    let mut it = Harness::new(Options { nodes: 2, ..Options::default() });
    it.produce(9, 0, batch(&["a"], None, false));
    let described = it.call(4, DescribeLogDirsRequest::default().with_topics(None));
    let folder = &described.results[0];
    let sizes: Vec<(i32, bool)> =
        folder.topics[0].partitions.iter().map(|it| (it.partition_index, it.partition_size > 60)).collect();
    assert_eq!((folder.log_dir.as_str(), sizes), ("memory", vec![(0, true)]), "partition 1 is on node 1");
}

#[test]
fn partitions_are_described_page_by_page() {
    let mut it = Harness::new(Options::default().with_topic("a", 3).with_topic("b", 1));
    let mut pages = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(2);
        let answer = it.call(0, request.with_cursor(cursor));
        let topics = answer.topics.iter().map(|topic| {
            let first = topic.partitions[0].partition_index;
            format!("{} from {first}: {}", topic.name.as_ref().unwrap().as_str(), topic.partitions.len())
        });
        pages.push(topics.collect::<Vec<_>>().join(", "));
        match answer.next_cursor {
            Some(next) => {
                let start = Cursor::default().with_topic_name(next.topic_name);
                cursor = Some(start.with_partition_index(next.partition_index));
            }
            None => break,
        }
    }
    assert_eq!(pages, ["a from 0: 2", "a from 2: 1, b from 0: 1", "orders from 0: 2"]);
}

#[test]
fn transactions_are_found_by_state_age_and_name() {
    let mut it = Harness::new(Options::default());
    let producer = init(&mut it).unwrap();
    assert_eq!(it.produce_in_transaction(12, "job", 0, batch(&["a"], Some((producer, 0)), true)), 0);
    it.advance(std::time::Duration::from_secs(5));
    let list = |it: &mut Harness, states: &[&str], older_than_ms, pattern: &str| {
        let request = ListTransactionsRequest::default()
            .with_state_filters(states.iter().map(|state| text(state)).collect())
            .with_duration_filter(older_than_ms)
            .with_transactional_id_pattern(Some(text(pattern)));
        let answer = it.call(2, request);
        (answer.error_code, answer.transaction_states.len(), answer.unknown_state_filters.len())
    };
    assert_eq!(list(&mut it, &["Ongoing"], -1, ""), (0, 1, 0));
    assert_eq!(list(&mut it, &["Empty", "Strange"], -1, ""), (0, 0, 1));
    assert_eq!(list(&mut it, &[], 4_000, "j.b"), (0, 1, 0));
    assert_eq!(list(&mut it, &[], 5_000, "j.b"), (0, 0, 0));
    assert_eq!(list(&mut it, &[], -1, "j"), (0, 0, 0), "the whole name");
    assert_eq!(list(&mut it, &[], -1, "(").0, ErrorCode::INVALID_REGULAR_EXPRESSION.code());
}
