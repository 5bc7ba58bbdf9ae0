//! Every version of every message that the admin client sends, on real Kafka: a proxy makes the broker look older
//! and older, and each answer must be one that makes sense.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::admin::{
    AclBinding, AclFilter, AclOperation, ConfigResourceKind, ElectionType, FeatureUpdate, GroupFilter,
    HangingTransaction, MemberToRemove, NewDelegationToken, QuotaEntity, QuotaFilter, RaftEndpoint, Replica,
    ResourceType, ScramChange, ScramMechanism, TransactionFilter,
};
use kafka_wire::{
    Admin, BrokerId, CommittedOffset, ConfigChange, ConfigResource, Error, ErrorKind, Isolation, NewTopic,
    OffsetSpec, ProducerIdentity, Result, TopicId, TopicPartition, Uuid,
};
use tidewater_tests::proxy::Fault;
use tidewater_tests::real_kafka::{Cluster, Version};

use crate::support::{client, create, on_shared};

/// The greatest distance between the newest and the oldest version that both sides speak: ListOffsets.
const STEPS: i16 = 10;

/// Kafka's key of ApiVersions.
const API_VERSIONS: i16 = 18;

#[test]
fn every_version_makes_sense_to_kafka_4_3() {
    on_shared(Version::V4_3, every_version_makes_sense);
}

#[test]
fn every_version_makes_sense_to_kafka_3_9() {
    on_shared(Version::V3_9, every_version_makes_sense);
}

async fn every_version_makes_sense(cluster: &'static Cluster) {
    let mut called = BTreeSet::new();
    for step in 0..=STEPS {
        let id = format!("admin-versions-{step}");
        cluster.proxy().rule_for(&id, API_VERSIONS, 0, usize::MAX, Fault::LowerVersions(step));
        let admin = Admin::new(client(cluster, &id)).expect("an admin client").with_authorized_operations();
        Probe { admin, step, cluster }.all().await;
        called.extend(cluster.proxy().calls_of(&id));
    }
    let mut versions: BTreeMap<i16, Vec<i16>> = BTreeMap::new();
    for (api, version) in called {
        versions.entry(api).or_default().push(version);
    }
    for (api, versions) in &versions {
        let first = versions[0];
        let expected: Vec<i16> = (first..first + versions.len() as i16).collect();
        assert_eq!(versions, &expected, "a version of API {api} was passed over");
    }
    // OffsetFetch names groups in another field from 8 on, DeleteTopics topics from 6, FindCoordinator keys from 4.
    for (api, both) in [(9, [7, 8]), (20, [5, 6]), (10, [3, 4])] {
        assert!(
            both.iter().all(|version| versions[&api].contains(version)),
            "API {api}: {:?}",
            versions[&api]
        );
    }
}

/// One pass through all operations.
struct Probe {
    admin: Admin,
    step: i16,
    cluster: &'static Cluster,
}

impl Probe {
    /// An answer that makes sense: it succeeded, or the broker refused it for a reason of its own, or no version
    /// can say it.
    fn check<T>(&self, what: &str, result: Result<T>) -> Option<T> {
        let is_sensible = |error: &Error| {
            matches!(error.kind(), ErrorKind::Broker(code) if code.name() != "INVALID_REQUEST")
                || error.kind() == ErrorKind::Unsupported
        };
        result
            .inspect_err(|error| {
                let version = self.cluster.version().number();
                assert!(
                    is_sensible(error),
                    "Kafka {version}, {} versions less, {what}: {error:?}",
                    self.step
                );
            })
            .ok()
    }

    fn each<K, T>(&self, what: &str, results: Result<Vec<(K, Result<T>)>>) {
        for (_, result) in self.check(what, results).unwrap_or_default() {
            self.check(what, result);
        }
    }

    async fn all(&self) {
        let topic = format!("admin-versions-{}", self.step);
        // This one is there whether or not it could be created in those versions.
        create(self.cluster, NewTopic::new(topic.as_str(), 2)).await;
        self.topics(&topic).await;
        self.configs_and_access(&topic).await;
        self.groups(&topic).await;
        self.cluster(&topic).await;
        self.transactions(&topic).await;
        self.tokens().await;
        self.each("delete_topics", self.admin.delete_topics([topic.as_str()]).await);
    }

    async fn topics(&self, topic: &str) {
        let (admin, at) = (&self.admin, || TopicPartition::new(topic, 0));
        let new = format!("{topic}-new");
        self.each("create_topics", admin.create_topics([NewTopic::new(&new, 2).replication_factor(1)]).await);
        self.each("delete_topics", admin.delete_topics([new]).await);
        self.each("create_partitions", admin.create_partitions([(topic, 3)]).await);
        self.check("list_topics", admin.list_topics().await);
        self.each("describe_topics", admin.describe_topics([topic]).await);
        self.each("describe_topics_by_id", admin.describe_topics_by_id([TopicId([7; 16])]).await);
        self.each("delete_topics_by_id", admin.delete_topics_by_id([TopicId([7; 16])]).await);
        for spec in [
            OffsetSpec::Latest,
            OffsetSpec::MaxTimestamp,
            OffsetSpec::EarliestLocal,
            OffsetSpec::LatestTiered,
            OffsetSpec::EarliestPendingUpload,
        ] {
            self.each("list_offsets", admin.list_offsets([(at(), spec)], Isolation::ReadCommitted).await);
        }
        self.each("delete_records", admin.delete_records([(at(), None)]).await);
    }

    async fn configs_and_access(&self, topic: &str) {
        let (admin, resource) = (&self.admin, || ConfigResource::topic(topic));
        let change = vec![ConfigChange::set("retention.ms", "100000")];
        self.each("alter_configs", admin.incremental_alter_configs([(resource(), change)]).await);
        self.each("describe_configs", admin.describe_configs_with_documentation([resource()]).await);
        self.check("list_config_resources", admin.list_config_resources([]).await);
        let metrics = admin.list_config_resources([ConfigResourceKind::ClientMetrics]).await;
        self.check("list_config_resources of client metrics", metrics);
        let entry = || AclBinding::allow("User:a", AclOperation::Read, ResourceType::Topic, "t").prefixed();
        self.each("create_acls", admin.create_acls([entry()]).await);
        self.check("describe_acls", admin.describe_acls(AclFilter::default()).await);
        self.each("delete_acls", admin.delete_acls([AclFilter::from(entry())]).await);
        let user = || QuotaEntity::user("versions");
        let quota = |value| BTreeMap::from([("consumer_byte_rate".to_owned(), value)]);
        self.each("alter_client_quotas", admin.alter_client_quotas([(user(), quota(Some(5.0)))]).await);
        self.check("describe_client_quotas", admin.describe_client_quotas(QuotaFilter::default()).await);
        self.each("alter_client_quotas", admin.alter_client_quotas([(user(), quota(None))]).await);
        let (user, mechanism) = ("versions".to_owned(), ScramMechanism::Sha256);
        let change = ScramChange::Delete { user, mechanism };
        self.each("alter_user_scram_credentials", admin.alter_user_scram_credentials([change]).await);
        self.each(
            "describe_user_scram_credentials",
            admin.describe_user_scram_credentials(["versions"]).await,
        );
    }

    async fn groups(&self, topic: &str) {
        let (admin, at, group) = (&self.admin, || TopicPartition::new(topic, 0), topic);
        let offset = CommittedOffset { offset: 0, leader_epoch: None, metadata: String::new() };
        self.each("alter_committed_offsets", admin.alter_committed_offsets(group, [(at(), offset)]).await);
        let offsets = self.check("list_committed_offsets", admin.list_committed_offsets(group).await);
        // The oldest that OffsetCommit and OffsetFetch can say it in is 2; the newest on 3.9 is 9, on 4.3 it is 10.
        let is_said = self.step < if self.cluster.version() == Version::V4_3 { 9 } else { 8 };
        assert_eq!(offsets.map_or(0, |offsets| offsets.len()), usize::from(is_said), "{} less", self.step);
        let listed = self.check("list_groups", admin.list_groups_by(GroupFilter::default()).await);
        let is_listed = listed.expect("a list").iter().any(|listing| listing.group_id == group);
        assert!(is_listed || !is_said, "{} versions less", self.step);
        self.each("describe_groups", admin.describe_groups([group, "admin-versions-absent"]).await);
        let member = MemberToRemove::Member("nobody".to_owned());
        self.each("remove_group_members", admin.remove_group_members(group, [member], "a test").await);
        self.each("delete_committed_offsets", admin.delete_committed_offsets(group, [at()]).await);
        self.each("delete_groups", admin.delete_groups([group]).await);
        let share = format!("{group}-share");
        self.each("alter_share_group_offsets", admin.alter_share_group_offsets(&share, [(at(), 0)]).await);
        self.each("list_share_group_offsets", admin.list_share_group_offsets([&share]).await);
        self.each("delete_share_group_offsets", admin.delete_share_group_offsets(&share, [topic]).await);
        self.each("delete_groups", admin.delete_groups([share]).await);
        self.each("describe_streams_groups", admin.describe_streams_groups([group]).await);
    }

    async fn cluster(&self, topic: &str) {
        let (admin, at) = (&self.admin, || TopicPartition::new(topic, 0));
        let described = self.check("describe_cluster", admin.describe_cluster().await).expect("the cluster");
        assert_eq!(described.brokers.len(), 1);
        self.check("describe_features", admin.describe_features().await);
        let update = [("metadata.version", FeatureUpdate::upgrade(1))];
        self.each("validate_feature_updates", admin.validate_feature_updates(update).await);
        self.check("describe_metadata_quorum", admin.describe_metadata_quorum().await);
        let endpoint =
            RaftEndpoint { listener: "CONTROLLER".to_owned(), host: "127.0.0.1".to_owned(), port: 1 };
        self.check("add_raft_voter", admin.add_raft_voter(BrokerId(9), Uuid([9; 16]), vec![endpoint]).await);
        self.check("remove_raft_voter", admin.remove_raft_voter(BrokerId(9), Uuid([9; 16])).await);
        self.check("unregister_broker", admin.unregister_broker(BrokerId(77)).await);
        let here = || Some(vec![BrokerId(0)]);
        self.each("reassign", admin.alter_partition_reassignments([(at(), here())]).await);
        self.check("list_partition_reassignments", admin.list_partition_reassignments().await);
        self.each("elect_leaders", admin.elect_leaders(ElectionType::Preferred, [at()]).await);
        self.check("elect_all_leaders", admin.elect_all_leaders(ElectionType::Preferred).await);
        self.each("describe_log_dirs", admin.describe_log_dirs([BrokerId(0)]).await);
        let replica = Replica::new(at(), BrokerId(0));
        self.each(
            "alter_replica_log_dirs",
            admin.alter_replica_log_dirs([(replica, "/none".to_owned())]).await,
        );
    }

    async fn transactions(&self, topic: &str) {
        let (admin, at) = (&self.admin, || TopicPartition::new(topic, 0));
        self.each("fence_producers", admin.fence_producers([topic]).await);
        self.check("list_transactions", admin.list_transactions(TransactionFilter::default()).await);
        self.each("describe_transactions", admin.describe_transactions([topic]).await);
        self.each("describe_producers", admin.describe_producers([at()]).await);
        let producer = ProducerIdentity { id: 1_000_000, epoch: 0 };
        let hanging = HangingTransaction { producer, coordinator_epoch: 0 };
        self.check("abort_transaction", admin.abort_transaction(at(), hanging).await);
    }

    async fn tokens(&self) {
        let admin = &self.admin;
        let created = admin.create_delegation_token(NewDelegationToken::default()).await;
        self.check("create_delegation_token", created);
        self.check("renew_delegation_token", admin.renew_delegation_token(vec![1], None).await);
        self.check("expire_delegation_token", admin.expire_delegation_token(vec![1], None).await);
        self.check("describe_delegation_tokens", admin.describe_delegation_tokens(None).await);
    }
}
