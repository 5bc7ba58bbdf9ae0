//! Access control lists: who is refused what, and how lists are kept.

use kafka_wire::protocol::messages::create_acls_request::AclCreation;
use kafka_wire::protocol::messages::create_topics_request::CreatableTopic;
use kafka_wire::protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_wire::protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_wire::protocol::messages::*;
use kafka_wire::{ErrorCode, ProducerIdentity};
use tidewater_broker::{Acl, AuthorizerOptions, Cluster, Operation, Options};

use crate::harness::*;
use crate::transactions::{commit_offset, init};

fn guarded() -> Options {
    let authorizer =
        AuthorizerOptions { super_users: vec!["User:root".to_owned()], ..AuthorizerOptions::default() };
    Options { authorizer: Some(authorizer), ..Options::default() }
}

fn metadata_of(it: &mut Harness, topic: &str) -> i16 {
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    it.call(12, request.with_allow_auto_topic_creation(true)).topics[0].error_code
}

#[test]
fn each_refusal_has_the_code_of_its_resource() {
    let mut it = Harness::new(guarded());
    it.be("alice");
    let topic = ErrorCode::TOPIC_AUTHORIZATION_FAILED.code();
    let record = || batch(&["a"], None, false);
    let produce = |it: &mut Harness| {
        let request = produce_request(9, uuid::Uuid::nil(), 0, record(), None);
        it.call(9, request).responses[0].partition_responses[0].error_code
    };
    assert_eq!(produce(&mut it), topic);
    assert_eq!(it.fetch(0, 0, false).error_code, topic);
    assert_eq!(metadata_of(&mut it, TOPIC), topic);
    assert_eq!(metadata_of(&mut it, "not-there"), topic, "nothing is told of what may not be seen");
    assert_eq!(it.call(12, MetadataRequest::default().with_topics(None)).topics.len(), 0);
    let create = CreatableTopic::default().with_name(TopicName(text("new"))).with_num_partitions(1);
    let create = CreateTopicsRequest::default().with_topics(vec![create.with_replication_factor(1)]);
    assert_eq!(it.call(5, create).topics[0].error_code, topic);
    let group = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    let code = it.call(4, group).coordinators[0].error_code;
    assert_eq!(code, ErrorCode::GROUP_AUTHORIZATION_FAILED.code());
    let refused = init(&mut it).unwrap_err();
    assert_eq!(refused, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED.code());
    let idempotent = InitProducerIdRequest::default().with_transactional_id(None);
    let idempotent = idempotent.with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    let cluster = ErrorCode::CLUSTER_AUTHORIZATION_FAILED.code();
    assert_eq!(it.call(4, idempotent.clone()).error_code, cluster);

    it.cluster.add_acl(Acl::allow("User:alice", Operation::Write).topic(TOPIC));
    assert_eq!(produce(&mut it), 0);
    assert_eq!(it.call(4, idempotent).error_code, 0, "who may write to a topic may do so idempotently");
    assert_eq!(metadata_of(&mut it, TOPIC), 0, "who may write may see");
    assert_eq!(it.fetch(0, 0, false).error_code, topic, "but not read");
    it.be("root");
    assert_eq!(values(&it.fetch(0, 0, false).records), ["a"]);
}

#[test]
fn a_transaction_needs_its_id_its_group_and_its_topics() {
    let mut it = Harness::new(guarded());
    it.be("alice");
    it.cluster.add_acl(Acl::allow("User:alice", Operation::Write).transactional_id("*"));
    let producer: ProducerIdentity = init(&mut it).unwrap();
    let id = ErrorCode::GROUP_AUTHORIZATION_FAILED.code();
    assert_eq!(commit_offset(&mut it, producer, 1), id);
    it.cluster.add_acl(Acl::allow("User:alice", Operation::Read).group("*"));
    assert_eq!(commit_offset(&mut it, producer, 1), ErrorCode::TOPIC_AUTHORIZATION_FAILED.code());
    it.cluster.add_acl(Acl::allow("User:alice", Operation::Read).topic_prefix("ord"));
    assert_eq!(commit_offset(&mut it, producer, 1), 0);
    it.cluster.add_acl(Acl::deny("User:*", Operation::All).topic(TOPIC).host("127.0.0.1"));
    assert_eq!(commit_offset(&mut it, producer, 2), ErrorCode::TOPIC_AUTHORIZATION_FAILED.code());
}

fn creation(principal: &str, operation: i8, name: &str) -> AclCreation {
    AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(text(name))
        .with_resource_pattern_type(3)
        .with_principal(text(principal))
        .with_host(text("*"))
        .with_operation(operation)
        .with_permission_type(3)
}

fn describe_all(it: &mut Harness) -> DescribeAclsResponse {
    let request = DescribeAclsRequest::default().with_resource_type_filter(1).with_resource_name_filter(None);
    let request = request.with_pattern_type_filter(1).with_principal_filter(None).with_host_filter(None);
    it.call(3, request.with_operation(1).with_permission_type(1))
}

#[test]
fn lists_are_created_described_deleted_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { data: Some(folder.path().to_owned()), ..guarded() };
    let mut it = Harness::new(options.clone());
    it.be("root");
    let create = CreateAclsRequest::default().with_creations(vec![
        creation("User:alice", 3, "t"),
        creation("User:alice", 4, "t"),
        creation("User:bob", 3, "u"),
        creation("no colon", 3, "t"),
        creation("User:alice", 1, "t"),
    ]);
    let codes: Vec<i16> = it.call(3, create.clone()).results.iter().map(|it| it.error_code).collect();
    let invalid = ErrorCode::INVALID_REQUEST.code();
    assert_eq!(codes, [0, 0, 0, invalid, invalid]);
    let filter = DeleteAclsFilter::default().with_resource_type_filter(2).with_resource_name_filter(None);
    let filter = filter.with_pattern_type_filter(1).with_principal_filter(Some(text("User:bob")));
    let filter = filter.with_host_filter(None).with_operation(1).with_permission_type(1);
    let deleted = it.call(3, DeleteAclsRequest::default().with_filters(vec![filter]));
    assert_eq!(deleted.filter_results[0].matching_acls[0].resource_name.as_str(), "u");

    drop(std::mem::replace(&mut it.cluster, Cluster::new(it.now, guarded(), 1).unwrap()));
    it.cluster = Cluster::new(it.now, options, 2).unwrap();
    let described = describe_all(&mut it);
    assert_eq!(described.resources.len(), 1);
    let operations: Vec<i8> = described.resources[0].acls.iter().map(|acl| acl.operation).collect();
    assert_eq!((described.resources[0].resource_name.as_str(), operations), ("t", vec![3, 4]));

    it.be("alice");
    let cluster = ErrorCode::CLUSTER_AUTHORIZATION_FAILED.code();
    assert_eq!(describe_all(&mut it).error_code, cluster);
    assert_eq!(it.call(3, create).results[0].error_code, cluster);
    let mut open = Harness::new(Options::default());
    assert_eq!(describe_all(&mut open).error_code, ErrorCode::SECURITY_DISABLED.code());
}
