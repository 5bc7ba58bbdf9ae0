//! Quotas: what clients beyond them see, and that they get on with what they have.

use std::collections::BTreeMap;

use kafka_wire::admin::QuotaEntity;
use kafka_wire::config::{ClientConfig, Properties};
use kafka_wire::{Admin, ErrorCode, ErrorKind, NewTopic, Producer, Record};
use tidewater_broker::{ApiKey, EmbeddedBroker, Options};

use crate::{admin, block_on, broker};

fn properties(broker: &EmbeddedBroker, client_id: &str) -> Properties {
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", broker.bootstrap()).unwrap();
    properties.set("client.id", client_id).unwrap();
    properties
}

/// Sets a quota, or takes it away.
fn limit(admin: &Admin, entity: QuotaEntity, quota: &str, value: Option<f64>) {
    let values = BTreeMap::from([(quota.to_owned(), value)]);
    let altered = block_on(admin.alter_client_quotas([(entity, values)])).unwrap();
    altered
        .into_iter()
        .for_each(|(entity, result)| result.unwrap_or_else(|error| panic!("{entity}: {error}")));
}

fn slow() -> QuotaEntity {
    QuotaEntity::client_id("slow")
}

#[test]
fn who_creates_too_many_partitions_is_told_which_quota_that_was() {
    let broker = broker(Options::default());
    let root = admin(&broker);
    // What is owed after two partitions is paid back in three minutes.
    limit(&root, slow(), "controller_mutation_rate", Some(0.01));
    let mut properties = properties(&broker, "slow");
    let admin = Admin::from_properties(&properties).unwrap();
    let create = |admin: &Admin, name: &str| {
        block_on(admin.create_topics([NewTopic::new(name, 2)])).unwrap().remove(0).1
    };
    create(&admin, "a").unwrap();
    properties.set("default.api.timeout.ms", "1000").unwrap();
    let hasty = Admin::from_properties(&properties).unwrap();
    let error = create(&hasty, "b").unwrap_err();
    assert!(error.is_retriable() && error.kind() == ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("throttling quota"), "{error}");
    assert_eq!(create(&root, "b").err().and_then(|error| error.code()), None, "it is not slow");
    limit(&root, slow(), "controller_mutation_rate", None);
    assert_eq!(
        create(&Admin::from_properties(&properties).unwrap(), "b").unwrap_err().code(),
        Some(ErrorCode::TOPIC_ALREADY_EXISTS)
    );
}

#[test]
fn who_asks_too_often_gets_on_slowly() {
    let broker = broker(Options::default().with_topic("t", 1));
    // Each request is one too many, for which its connection pauses.
    limit(&admin(&broker), slow(), "request_percentage", Some(0.001));
    let producer = Producer::from_properties(&properties(&broker, "slow")).unwrap();
    for offset in 0..2 {
        assert_eq!(block_on(producer.send(Record::to("t").value("a"))).unwrap().offset, Some(offset));
    }
    assert_eq!(broker.control(|cluster, _| cluster.requests(ApiKey::Produce)), 2, "none was sent twice");
}

#[test]
fn an_address_with_too_many_connections_is_not_served_until_it_may() {
    let broker = broker(Options::default());
    let root = admin(&broker);
    block_on(root.describe_cluster()).unwrap();
    let here = QuotaEntity::ip("127.0.0.1");
    limit(&root, here.clone(), "connection_creation_rate", Some(1.0));
    let patient = ClientConfig::bootstrap(&broker.bootstrap()).unwrap();
    // Ten are allowed over ten seconds, and each of these needs one at least.
    let refused = (0..100).find_map(|_| {
        let mut properties = properties(&broker, "one of many");
        properties.set("default.api.timeout.ms", "500").unwrap();
        let one = Admin::from_properties(&properties).unwrap();
        block_on(one.describe_cluster()).err()
    });
    let error = refused.expect("one connection is one too many");
    assert!(error.is_retriable(), "{error}");
    let waiting = Admin::new(patient).unwrap();
    limit(&root, here, "connection_creation_rate", None);
    block_on(waiting.describe_cluster()).unwrap();
}
