//! Every operation of the admin client on real Kafka, with Kafka's own tools as witnesses where they see it too.

mod groups;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_wire::admin::{
    AclBinding, AclFilter, AclOperation, ConfigResourceKind, ConfigSource, ElectionType, FeatureUpdate,
    HangingTransaction, NewDelegationToken, NewPartitions, QuotaEntity, QuotaFilter, QuotaMatch,
    RaftEndpoint, Replica, ResourceType, ScramChange, ScramMechanism, TransactionFilter, TransactionState,
    UpgradeType,
};
use kafka_wire::config::Secret;
use kafka_wire::{
    Admin, BrokerId, ConfigChange, ConfigResource, ErrorCode, ErrorKind, Isolation, NewTopic, OffsetSpec,
    Producer, ProducerIdentity, Record, Result, TopicId, TopicPartition, Uuid,
};
use tidewater_tests::real_kafka::{self, Cluster, Options, Version};

use crate::support::{admin, producer_config, run, wait_until};

#[test]
fn every_operation_works_on_kafka_4_3() {
    every_operation_works(Version::V4_3);
}

#[test]
fn every_operation_works_on_kafka_3_9() {
    every_operation_works(Version::V3_9);
}

/// Three nodes that control access, though this client may do anything.
fn every_operation_works(version: Version) {
    if !real_kafka::available() {
        return;
    }
    let options = Options::new(version, 3)
        .property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .property("super.users", "User:ANONYMOUS")
        .property("delegation.token.secret.key", "for this test only");
    let cluster = Cluster::start(options);
    run(async {
        let admin = admin(&cluster);
        topics(&admin).await;
        records(&cluster, &admin).await;
        configs(&cluster, &admin).await;
        acls_and_quotas(&cluster, &admin).await;
        users(&cluster, &admin).await;
        groups::groups(&cluster, &admin).await;
        partitions(version, &admin).await;
        log_dirs(&admin).await;
        transactions(&cluster, &admin).await;
        the_cluster(&cluster, &admin).await;
        tokens_need_an_authenticated_client(&admin).await;
    });
}

/// The one outcome there is.
fn only<K, T>(results: Result<Vec<(K, Result<T>)>>) -> Result<T> {
    let mut results = results.expect("the call as a whole");
    assert_eq!(results.len(), 1);
    results.remove(0).1
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    let error = result.expect_err("a refusal");
    error.code().unwrap_or_else(|| panic!("no code: {error}"))
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

async fn topics(admin: &Admin) {
    let brokers = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect::<Vec<_>>();
    let plan =
        || NewTopic::new("planned", -1).assignment(0, brokers(&[2, 0])).assignment(1, brokers(&[1, 2]));
    let would_be = only(admin.validate_new_topics([NewTopic::new("tried", 4)]).await).expect("valid");
    assert_eq!((would_be.partitions, would_be.replication_factor), (Some(4), Some(3)));
    let refused = only(admin.validate_new_topics([NewTopic::new("tried", 1).replication_factor(9)]).await);
    assert_eq!(code(refused), ErrorCode::INVALID_REPLICATION_FACTOR);
    let created = only(admin.create_topics([plan().config("retention.ms", "60000")]).await).expect("created");
    assert_eq!((created.partitions, created.replication_factor), (Some(2), Some(2)));
    let retention = created.configs.iter().find(|entry| entry.name == "retention.ms").expect("a value");
    assert_eq!((retention.value.as_deref(), retention.source), (Some("60000"), ConfigSource::Topic));
    assert!(!admin.list_topics().await.expect("topics").contains_key("tried"));
    assert_eq!(code(only(admin.create_topics([plan()]).await)), ErrorCode::TOPIC_ALREADY_EXISTS);

    let grow = || NewPartitions::up_to(3).assignment(brokers(&[0, 1]));
    only(admin.validate_new_partitions([("planned", grow())]).await).expect("valid");
    only(admin.create_partitions([("planned", grow())]).await).expect("grown");
    assert_eq!(code(only(admin.create_partitions([("planned", 3)]).await)), ErrorCode::INVALID_PARTITIONS);
    wait_until("all brokers know the new partition", async || {
        only(admin.describe_topics(["planned"]).await).is_ok_and(|topic| topic.partitions.len() == 3)
    })
    .await;
    let by_name = only(admin.describe_topics(["planned"]).await).expect("described");
    assert_eq!(by_name.id, created.id);
    let replicas: Vec<_> = by_name.partitions.iter().map(|partition| partition.replicas.clone()).collect();
    assert_eq!(replicas, [brokers(&[2, 0]), brokers(&[1, 2]), brokers(&[0, 1])]);
    let by_id = only(admin.describe_topics_by_id([created.id]).await).expect("described");
    assert_eq!((by_id.name.as_str(), by_id.partitions.len()), ("planned", 3));
    let rights = admin.with_authorized_operations();
    for topic in [
        only(rights.describe_topics(["planned"]).await).expect("described"),
        only(rights.describe_topics_by_id([created.id]).await).expect("described"),
    ] {
        let rights = topic.authorized_operations.expect("what this client may do");
        assert!(rights.contains(&AclOperation::Write) && !rights.contains(&AclOperation::All), "{rights:?}");
        assert!(!rights.contains(&AclOperation::ClusterAction), "{rights:?}");
    }
    assert_eq!(by_id.authorized_operations, None);
    let unknown = TopicId([7; 16]);
    assert_eq!(code(only(admin.describe_topics_by_id([unknown]).await)), ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(code(only(admin.describe_topics(["absent"]).await)), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);

    only(admin.delete_topics_by_id([created.id]).await).expect("deleted");
    assert_eq!(code(only(admin.delete_topics_by_id([unknown]).await)), ErrorCode::UNKNOWN_TOPIC_ID);
    only(admin.create_topics([NewTopic::new("brief", 1)]).await).expect("created");
    only(admin.delete_topics(["brief"]).await).expect("deleted");
    assert_eq!(code(only(admin.delete_topics(["brief"]).await)), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

/// More partitions than one answer may have: they come in pages.
async fn many_partitions(admin: &Admin) {
    only(admin.create_topics([NewTopic::new("wide", 2100).replication_factor(1)]).await).expect("created");
    wait_until("all brokers know the topic", async || {
        only(admin.describe_topics(["wide"]).await).is_ok_and(|topic| topic.partitions.len() == 2100)
    })
    .await;
    let described = admin.describe_topics(["absent", "wide", "offsets"]).await.expect("described");
    let counts: Vec<_> =
        described.into_iter().map(|(_, topic)| topic.map(|t| t.partitions.len()).ok()).collect();
    assert_eq!(counts, [None, Some(2100), Some(1)]);
    only(admin.delete_topics(["wide"]).await).expect("deleted");
}

async fn records(cluster: &Cluster, admin: &Admin) {
    only(admin.create_topics([NewTopic::new("offsets", 1)]).await).expect("created");
    let producer = Producer::new(producer_config(cluster, "admin-records")).expect("a producer");
    for number in 0..10 {
        let record = Record::to("offsets").partition(0).value("v").timestamp_ms(1_000 + number);
        producer.send(record).await.expect("sent");
    }
    let offset =
        async |spec| only(admin.list_offsets([(at("offsets", 0), spec)], Isolation::ReadCommitted).await);
    for (spec, expected) in [
        (OffsetSpec::Earliest, Some(0)),
        (OffsetSpec::Latest, Some(10)),
        (OffsetSpec::Timestamp(1_004), Some(4)),
        (OffsetSpec::Timestamp(2_000), None),
        (OffsetSpec::MaxTimestamp, Some(9)),
        (OffsetSpec::EarliestLocal, Some(0)),
        (OffsetSpec::LatestTiered, None),
        (OffsetSpec::EarliestPendingUpload, None),
    ] {
        if spec == OffsetSpec::EarliestPendingUpload && cluster.version() != Version::V4_3 {
            assert_eq!(offset(spec).await.expect_err("too old").kind(), ErrorKind::Unsupported);
            continue;
        }
        let listed = offset(spec).await.unwrap_or_else(|error| panic!("{spec:?}: {error}"));
        assert_eq!(listed.offset, expected, "{spec:?}");
    }
    let left = only(admin.delete_records([(at("offsets", 0), Some(3))]).await).expect("deleted");
    assert_eq!((left, offset(OffsetSpec::Earliest).await.expect("listed").offset), (3, Some(3)));
    assert_eq!(
        code(only(admin.delete_records([(at("offsets", 0), Some(99))]).await)),
        ErrorCode::OFFSET_OUT_OF_RANGE
    );
    if cluster.version() == Version::V4_3 {
        many_partitions(admin).await;
    }
}

async fn configs(cluster: &Cluster, admin: &Admin) {
    let value = async |resource: ConfigResource, name: &str| {
        let entries = only(admin.describe_configs([resource]).await).expect("described");
        let entry = entries.into_iter().find(|entry| entry.name == name)?;
        Some((entry.value?, entry.source, entry.is_set))
    };
    let topic = || ConfigResource::topic("offsets");
    let one = || ConfigResource::broker(BrokerId(1));
    let logger = || ConfigResource::new(ConfigResourceKind::BrokerLogger, "1");
    for (resource, name, set, source) in [
        (topic(), "cleanup.policy", "compact", ConfigSource::Topic),
        (one(), "log.cleaner.threads", "2", ConfigSource::Broker),
        (ConfigResource::all_brokers(), "log.cleaner.threads", "2", ConfigSource::DefaultBroker),
    ] {
        let change = || [(resource.clone(), vec![ConfigChange::set(name, set)])];
        only(admin.validate_config_changes(change()).await).expect("valid");
        only(admin.incremental_alter_configs(change()).await).expect("changed");
        wait_until("the change is in force", async || {
            value(resource.clone(), name).await == Some((set.to_owned(), source, true))
        })
        .await;
        only(admin.incremental_alter_configs([(resource.clone(), vec![ConfigChange::delete(name)])]).await)
            .expect("deleted");
        wait_until("the default is back", async || {
            value(resource.clone(), name).await.is_none_or(|(_, _, is_set)| !is_set)
        })
        .await;
    }
    let list = |change: fn(String, String) -> ConfigChange| {
        [(topic(), vec![change("cleanup.policy".to_owned(), "compact".to_owned())])]
    };
    only(admin.incremental_alter_configs(list(|name, value| ConfigChange::Append { name, value })).await)
        .expect("appended");
    wait_until("both policies hold", async || {
        value(topic(), "cleanup.policy").await.is_some_and(|(value, ..)| value.contains("delete,compact"))
    })
    .await;
    only(admin.incremental_alter_configs(list(|name, value| ConfigChange::Subtract { name, value })).await)
        .expect("subtracted");
    let refused = [(topic(), vec![ConfigChange::set("no.such.config", "1")])];
    assert_eq!(code(only(admin.incremental_alter_configs(refused).await)), ErrorCode::INVALID_CONFIG);
    let explained = only(admin.describe_configs_with_documentation([topic()]).await).expect("described");
    assert!(explained.iter().all(|entry| entry.documentation.as_ref().is_some_and(|text| !text.is_empty())));
    assert!(explained.iter().any(|entry| entry.synonyms.len() > 1));
    let levels = only(admin.describe_configs([logger()]).await).expect("described");
    assert!(levels.iter().any(|entry| entry.name == "root"), "{levels:?}");

    let metrics = || ConfigResource::new(ConfigResourceKind::ClientMetrics, "admin-metrics");
    let change = [(metrics(), vec![ConfigChange::set("interval.ms", "60000")])];
    only(admin.incremental_alter_configs(change).await).expect("changed");
    wait_until("the subscription is listed", async || {
        let listed = admin.list_config_resources([ConfigResourceKind::ClientMetrics]).await;
        listed.expect("listed").contains(&metrics())
    })
    .await;
    let all = admin.list_config_resources([]).await;
    if cluster.version() == Version::V4_3 {
        let all = all.expect("listed");
        assert!(all.contains(&topic()) && all.contains(&one()) && all.contains(&metrics()), "{all:?}");
        let group = || ConfigResource::group("admin-configured");
        let change = [(group(), vec![ConfigChange::set("consumer.session.timeout.ms", "50000")])];
        only(admin.incremental_alter_configs(change).await).expect("changed");
        wait_until("the group's configuration is in force", async || {
            value(group(), "consumer.session.timeout.ms").await
                == Some(("50000".to_owned(), ConfigSource::Group, true))
        })
        .await;
    } else {
        assert_eq!(all.expect_err("too old").kind(), ErrorKind::Unsupported);
    }
}

async fn acls_and_quotas(cluster: &Cluster, admin: &Admin) {
    let read = || AclBinding::allow("User:alice", AclOperation::Read, ResourceType::Topic, "in-").prefixed();
    let write = || {
        AclBinding::allow("User:bob", AclOperation::Write, ResourceType::Group, "g")
            .denied()
            .from_host("10.0.0.1")
    };
    for (entry, created) in admin.create_acls([read(), write()]).await.expect("acls") {
        created.unwrap_or_else(|error| panic!("{entry}: {error}"));
    }
    let listed = async |filter| {
        admin.describe_acls(filter).await.expect("listed").into_iter().collect::<BTreeSet<_>>()
    };
    wait_until("both entries are known", async || {
        listed(AclFilter::default()).await == BTreeSet::from([read(), write()])
    })
    .await;
    let of_alice = AclFilter { principal: Some("User:alice".to_owned()), ..AclFilter::default() };
    assert_eq!(listed(of_alice.clone()).await, BTreeSet::from([read()]));
    let class = match cluster.version() {
        Version::V4_3 => "org.apache.kafka.tools.AclCommand",
        _ => "kafka.admin.AclCommand",
    };
    let shown = cluster.tool(class, &["--list"]);
    assert!(
        shown.contains("User:alice") && shown.contains("PREFIXED") && shown.contains("10.0.0.1"),
        "{shown}"
    );
    let deleted = admin.delete_acls([of_alice, AclFilter::from(write())]).await.expect("deleted");
    let deleted: Vec<_> = deleted.into_iter().flat_map(|(_, entries)| entries.expect("deleted")).collect();
    assert_eq!(deleted.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([read(), write()]));

    let both = || QuotaEntity::user("alice").and("client-id", Some("app".to_owned()));
    let set = |value| BTreeMap::from([("producer_byte_rate".to_owned(), value)]);
    let rest = || QuotaEntity::default_of("user");
    only(admin.validate_client_quotas([(both(), set(Some(1.0)))]).await).expect("valid");
    for (entity, changed) in admin
        .alter_client_quotas([(both(), set(Some(1024.0))), (rest(), set(Some(9.0)))])
        .await
        .expect("quotas")
    {
        changed.unwrap_or_else(|error| panic!("{entity}: {error}"));
    }
    let users =
        |which| QuotaFilter { components: BTreeMap::from([("user".to_owned(), which)]), strict: false };
    let described = async |filter| admin.describe_client_quotas(filter).await.expect("described");
    let value = |rate| BTreeMap::from([("producer_byte_rate".to_owned(), rate)]);
    wait_until("the quotas are known", async || {
        described(users(QuotaMatch::Any)).await
            == BTreeMap::from([(both(), value(1024.0)), (rest(), value(9.0))])
    })
    .await;
    assert_eq!(described(users(QuotaMatch::Default)).await, BTreeMap::from([(rest(), value(9.0))]));
    let alone = QuotaFilter { strict: true, ..users(QuotaMatch::Exact("alice".to_owned())) };
    assert_eq!(described(alone).await, BTreeMap::new());
    let removed = admin.alter_client_quotas([(both(), set(None)), (rest(), set(None))]).await;
    assert!(removed.expect("quotas").iter().all(|(_, removed)| removed.is_ok()));
    let nonsense = BTreeMap::from([("no_such_quota".to_owned(), Some(1.0))]);
    assert_eq!(code(only(admin.alter_client_quotas([(rest(), nonsense)]).await)), ErrorCode::INVALID_REQUEST);
}

async fn users(cluster: &Cluster, admin: &Admin) {
    let upsert = |mechanism, iterations| ScramChange::Upsert {
        user: "alice".to_owned(),
        mechanism,
        iterations,
        password: Secret::from("a password"),
    };
    only(admin.alter_user_scram_credentials([upsert(ScramMechanism::Sha256, 4096)]).await).expect("set");
    only(admin.alter_user_scram_credentials([upsert(ScramMechanism::Sha512, 8192)]).await).expect("set");
    let described = async || only(admin.describe_user_scram_credentials(["alice"]).await);
    wait_until("both passwords are known", async || described().await.is_ok_and(|known| known.len() == 2))
        .await;
    let known: BTreeMap<_, _> =
        described().await.expect("described").into_iter().map(|c| (c.mechanism, c.iterations)).collect();
    assert_eq!(known, BTreeMap::from([(ScramMechanism::Sha256, 4096), (ScramMechanism::Sha512, 8192)]));
    let asked = ["--describe", "--entity-type", "users", "--entity-name", "alice"];
    let shown = cluster.tool("kafka.admin.ConfigCommand", &asked);
    assert!(shown.contains("SCRAM-SHA-256=iterations=4096"), "{shown}");
    let delete = |mechanism| ScramChange::Delete { user: "alice".to_owned(), mechanism };
    only(admin.alter_user_scram_credentials([delete(ScramMechanism::Sha256)]).await).expect("deleted");
    only(admin.alter_user_scram_credentials([delete(ScramMechanism::Sha512)]).await).expect("deleted");
    let again = admin.alter_user_scram_credentials([delete(ScramMechanism::Sha512)]).await;
    assert_eq!(code(only(again)), ErrorCode::RESOURCE_NOT_FOUND);
    wait_until("no broker knows the user any more", async || {
        described().await.is_err_and(|error| error.code() == Some(ErrorCode::RESOURCE_NOT_FOUND))
    })
    .await;
    let weak = admin.alter_user_scram_credentials([upsert(ScramMechanism::Sha256, 1)]).await;
    assert_eq!(weak.expect_err("too few iterations").kind(), ErrorKind::Usage);
}

async fn partitions(version: Version, admin: &Admin) {
    let here = |ids: &[i32]| Some(ids.iter().map(|id| BrokerId(*id)).collect::<Vec<_>>());
    let topic = NewTopic::new("moving", -1).assignment(0, vec![BrokerId(0), BrokerId(1)]);
    only(admin.create_topics([topic]).await).expect("created");
    only(admin.alter_partition_reassignments([(at("moving", 0), here(&[2, 1]))]).await).expect("begun");
    wait_until("the replicas have moved", async || {
        let under_way = admin.list_partition_reassignments().await.expect("listed");
        let described = only(admin.describe_topics(["moving"]).await).expect("described");
        under_way.is_empty() && Some(&described.partitions[0].replicas) == here(&[2, 1]).as_ref()
    })
    .await;
    assert!(admin.list_partition_reassignments_of([at("moving", 0)]).await.expect("listed").is_empty());
    let none = admin.alter_partition_reassignments([(at("moving", 0), None)]).await;
    assert_eq!(code(only(none)), ErrorCode::NO_REASSIGNMENT_IN_PROGRESS);
    let larger =
        only(admin.alter_partition_reassignments_of_equal_size([(at("moving", 0), here(&[0, 1, 2]))]).await)
            .expect_err("one replica more");
    match version {
        Version::V4_3 => assert_eq!(larger.code(), Some(ErrorCode::INVALID_REPLICATION_FACTOR)),
        _ => assert_eq!(larger.kind(), ErrorKind::Unsupported),
    }
    let wrong = admin.alter_partition_reassignments([(at("moving", 0), here(&[9]))]).await;
    assert_eq!(code(only(wrong)), ErrorCode::INVALID_REPLICA_ASSIGNMENT);

    let leader =
        async || only(admin.describe_topics(["moving"]).await).expect("described").partitions[0].leader;
    wait_until("the preferred replica leads", async || {
        match only(admin.elect_leaders(ElectionType::Preferred, [at("moving", 0)]).await) {
            Ok(()) => {}
            Err(error) => assert!(
                [Some(ErrorCode::ELECTION_NOT_NEEDED), Some(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE)]
                    .contains(&error.code()),
                "{error}"
            ),
        }
        leader().await == Some(BrokerId(2))
    })
    .await;
    let unclean = admin.elect_leaders(ElectionType::Unclean, [at("moving", 0)]).await;
    assert_eq!(code(only(unclean)), ErrorCode::ELECTION_NOT_NEEDED);
    admin.elect_all_leaders(ElectionType::Preferred).await.expect("elections");
}

async fn log_dirs(admin: &Admin) {
    let all = admin.describe_log_dirs([BrokerId(1), BrokerId(2)]).await.expect("described");
    assert_eq!(all.len(), 2);
    for (broker, folders) in all {
        let folders = folders.unwrap_or_else(|error| panic!("broker {broker}: {error}"));
        assert_eq!(folders.len(), 1);
        assert!(folders.values().all(|dir| dir.error.is_none() && dir.total_bytes > dir.usable_bytes));
        assert!(folders.values().all(|dir| !dir.is_cordoned));
    }
    let folders =
        only(admin.describe_log_dirs_of([BrokerId(2)], [at("moving", 0)]).await).expect("described");
    let (path, folder) = folders.first_key_value().expect("a folder");
    assert_eq!(folder.replicas.keys().collect::<Vec<_>>(), [&at("moving", 0)]);
    let replica = || Replica::new(at("moving", 0), BrokerId(2));
    // It is there already, so that there is nothing to be done.
    only(admin.alter_replica_log_dirs([(replica(), path.clone())]).await).expect("moved");
    let nowhere = admin.alter_replica_log_dirs([(replica(), "/no/such/folder".to_owned())]).await;
    assert_eq!(code(only(nowhere)), ErrorCode::LOG_DIR_NOT_FOUND);
}

async fn transactions(cluster: &Cluster, admin: &Admin) {
    let id = "admin-transaction";
    let mut config = producer_config(cluster, "admin-transactions");
    config.transactional_id = Some(id.to_owned());
    let producer = Producer::new(config).expect("a producer");
    producer.init_transactions().await.expect("init");
    producer.begin_transaction().await.expect("begin");
    producer.send(Record::to("offsets").partition(0).value("open")).await.expect("sent");

    let ongoing =
        TransactionFilter { states: vec![TransactionState::Ongoing], ..TransactionFilter::default() };
    let listed = admin.list_transactions(ongoing.clone()).await.expect("listed");
    let listing = listed.iter().find(|listing| listing.transactional_id == id).expect("the transaction");
    let described = only(admin.describe_transactions([id]).await).expect("described");
    assert_eq!(described.state, TransactionState::Ongoing);
    assert_eq!(described.producer.id, listing.producer_id);
    assert_eq!(described.partitions, BTreeSet::from([at("offsets", 0)]));
    assert!(described.started_ms.is_some());
    let old = TransactionFilter { longer_than: Some(Duration::from_secs(3600)), ..ongoing.clone() };
    assert!(admin.list_transactions(old).await.expect("listed").is_empty());
    let by_pattern = TransactionFilter { id_pattern: Some("admin-.*".to_owned()), ..ongoing };
    match admin.list_transactions(by_pattern).await {
        Ok(listed) => assert_eq!(listed.len(), 1),
        Err(error) => assert_eq!((error.kind(), cluster.version()), (ErrorKind::Unsupported, Version::V3_9)),
    }
    let absent = admin.describe_transactions(["admin-absent"]).await;
    assert_eq!(code(only(absent)), ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);

    let producers = only(admin.describe_producers([at("offsets", 0)]).await).expect("described");
    let state =
        producers.iter().find(|state| state.producer_id == listing.producer_id).expect("the producer");
    let start = state.transaction_start_offset.expect("an open transaction");
    let leader = only(admin.describe_topics(["offsets"]).await).expect("described").partitions[0].leader;
    let on_leader = admin.describe_producers_on(leader.expect("a leader"), [at("offsets", 0)]).await;
    assert!(only(on_leader).expect("described").contains(state));
    let stable = async || {
        let asked = [(at("offsets", 0), OffsetSpec::Latest)];
        only(admin.list_offsets(asked, Isolation::ReadCommitted).await).expect("listed").offset
    };
    assert_eq!(stable().await, Some(start));

    // Behind the coordinator's back, as for a transaction that no coordinator knows.
    let epoch = i16::try_from(state.producer_epoch).expect("an epoch");
    let hanging = HangingTransaction {
        producer: ProducerIdentity { id: state.producer_id, epoch },
        coordinator_epoch: state.coordinator_epoch.map_or(0, |epoch| i32::try_from(epoch).expect("an epoch")),
    };
    admin.abort_transaction(at("offsets", 0), hanging).await.expect("aborted");
    wait_until("readers can go on", async || stable().await > Some(start)).await;
    let fenced = only(admin.fence_producers([id]).await).expect("fenced");
    assert_eq!(fenced.id, listing.producer_id);
    let refused = producer.commit_transaction().await.expect_err("the producer is fenced");
    assert_eq!(refused.kind(), ErrorKind::Fenced, "{refused}");
    admin.force_terminate_transaction(id).await.expect("terminated");
    let ended = only(admin.describe_transactions([id]).await).expect("described");
    assert_ne!(ended.state, TransactionState::Ongoing);
}

async fn the_cluster(cluster: &Cluster, admin: &Admin) {
    let described = admin.describe_cluster().await.expect("described");
    assert_eq!(described.brokers.iter().map(|broker| broker.id.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(described.cluster_id.is_some() && described.fenced_brokers.is_empty());

    let rights = admin.with_authorized_operations().describe_cluster().await.expect("described");
    assert!(rights.authorized_operations.is_some_and(|rights| rights.contains(&AclOperation::Create)));
    assert_eq!(described.authorized_operations, None);

    let features = admin.describe_features().await.expect("described");
    let of_one = admin.describe_features_of(BrokerId(1)).await.expect("described");
    assert_eq!(
        (of_one.finalized, of_one.supported),
        (features.finalized.clone(), features.supported.clone())
    );
    let level = features.finalized["metadata.version"].max;
    assert!(features.supported["metadata.version"].max >= level && features.finalized_epoch.is_some());
    only(admin.validate_feature_updates([("metadata.version", FeatureUpdate::upgrade(level))]).await)
        .expect("valid");
    let unsafe_down = FeatureUpdate { level: 1, upgrade_type: UpgradeType::Upgrade };
    let refused = only(admin.update_features([("metadata.version", unsafe_down)]).await);
    assert_eq!(code(refused), ErrorCode::INVALID_UPDATE_VERSION);

    let quorum = admin.describe_metadata_quorum().await.expect("described");
    assert_eq!(
        quorum.voters.iter().map(|voter| voter.id.0).collect::<BTreeSet<_>>(),
        BTreeSet::from([0, 1, 2])
    );
    assert!(quorum.leader.is_some() && quorum.high_watermark > 0);
    assert!(quorum.voters.iter().all(|voter| voter.last_fetch_ms.is_some()));
    // The voters of this cluster are fixed by its configuration.
    let endpoint = RaftEndpoint { listener: "CONTROLLER".to_owned(), host: "127.0.0.1".to_owned(), port: 1 };
    let added = admin.add_raft_voter(BrokerId(9), Uuid([9; 16]), vec![endpoint]).await;
    assert_eq!(code(added), ErrorCode::UNSUPPORTED_VERSION);
    let removed = admin.remove_raft_voter(BrokerId(9), Uuid([9; 16])).await;
    assert_eq!(code(removed), ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(code(admin.unregister_broker(BrokerId(77)).await), ErrorCode::BROKER_ID_NOT_REGISTERED);
    let id = admin.client_instance_id().await;
    // Only brokers with a receiver of metrics have the call.
    assert_eq!(id.expect_err("no receiver").kind(), ErrorKind::Unsupported);

    // A broker that is down is fenced (told from Kafka 4.0), and may then be forgotten.
    cluster.kill(2);
    wait_until("the broker is down", async || {
        admin.describe_cluster().await.is_ok_and(|described| described.brokers.len() == 2)
    })
    .await;
    let fenced = admin.describe_cluster().await.expect("described").fenced_brokers;
    let expected: &[i32] = if cluster.version() == Version::V4_3 { &[2] } else { &[] };
    assert_eq!(fenced.iter().map(|broker| broker.id.0).collect::<Vec<_>>(), expected);
    admin.unregister_broker(BrokerId(2)).await.expect("unregistered");
    wait_until("the broker is forgotten", async || {
        admin.describe_cluster().await.is_ok_and(|described| described.fenced_brokers.is_empty())
    })
    .await;
}

async fn tokens_need_an_authenticated_client(admin: &Admin) {
    let refused = ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED;
    assert_eq!(code(admin.create_delegation_token(NewDelegationToken::default()).await), refused);
    assert_eq!(code(admin.renew_delegation_token(vec![1], None).await), refused);
    assert_eq!(code(admin.expire_delegation_token(vec![1], None).await), refused);
    assert_eq!(code(admin.describe_delegation_tokens(None).await), refused);
    let nobody = NewDelegationToken { owner: Some("alice".to_owned()), ..NewDelegationToken::default() };
    let error = admin.create_delegation_token(nobody).await.expect_err("no principal");
    assert_eq!(error.kind(), ErrorKind::Usage);
}
