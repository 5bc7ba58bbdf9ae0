//! Times that are set: kept where that matters, and none is too long.

use std::time::Duration;

use kafka_wire::config::{
    Backoff, ClientConfig, ConsumerConfig, GroupConfig, OffsetReset, ProducerConfig, ShareConsumerConfig,
};
use kafka_wire::record::BatchBuilder;
use kafka_wire::{
    Admin, Compression, Consumer, ErrorKind, Position, Producer, Record, ShareConsumer, TopicPartition,
    TransactionalProducer,
};
use tidewater_broker::{Action, ApiKey, EmbeddedBroker, Options, Rule};

use crate::cancel::LONG;
use crate::{block_on, broker};

fn at() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// With nothing to wait for but what happens.
fn patient(broker: &EmbeddedBroker) -> ClientConfig {
    let max = Duration::MAX;
    ClientConfig {
        request_timeout: max,
        default_api_timeout: max,
        connection_setup_timeout: max,
        connection_setup_timeout_max: max,
        reconnect_backoff: Backoff { initial: Duration::from_millis(5), max },
        retry_backoff: Backoff { initial: Duration::from_millis(5), max },
        connections_max_idle: max,
        metadata_max_age: max,
        rebootstrap_trigger: max,
        ..ClientConfig::bootstrap(&broker.bootstrap()).unwrap()
    }
}

fn patient_producer(broker: &EmbeddedBroker) -> ProducerConfig {
    ProducerConfig {
        client: patient(broker),
        max_block: Duration::MAX,
        delivery_timeout: Duration::MAX,
        partitioner_availability_timeout: Duration::MAX,
        ..ProducerConfig::default()
    }
}

/// `Duration::MAX` means "for ever", and no clock is asked for that time.
#[test]
fn any_time_may_be_set() {
    let broker = broker(Options::default().with_topic("t", 1));
    let producer =
        Producer::new(ProducerConfig { linger: Duration::MAX, ..patient_producer(&broker) }).unwrap();
    let receipt = producer.enqueue_blocking(Record::to("t").value("a")).unwrap();
    block_on(producer.flush());
    block_on(receipt).unwrap();
    let job = ProducerConfig { transactional_id: Some("job".to_owned()), ..patient_producer(&broker) };
    let job = TransactionalProducer::new(&job).unwrap();
    block_on(job.init()).unwrap();
    job.begin().unwrap();
    let mut builder = BatchBuilder::new(Compression::NONE, 100);
    builder.append(1, None, Some(b"b"), &[]).unwrap();
    job.produce(at(), builder.seal()).unwrap();
    block_on(job.commit()).unwrap();
    let mut consumer = Consumer::new(ConsumerConfig {
        client: patient(&broker),
        group_id: Some("g".to_owned()),
        group: GroupConfig { max_poll_interval: Duration::MAX, ..GroupConfig::default() },
        auto_offset_reset: OffsetReset::ByDuration(Duration::MAX),
        enable_auto_commit: true,
        auto_commit_interval: Duration::MAX,
        ..ConsumerConfig::default()
    })
    .unwrap();
    consumer.subscribe(["t"]).unwrap();
    assert_eq!(consumer.poll_blocking(Duration::MAX).unwrap().len(), 1);
    assert_eq!(block_on(consumer.poll(Duration::MAX)).unwrap().len(), 1);
    block_on(consumer.commit()).unwrap();
    let admin = Admin::new(patient(&broker)).unwrap();
    assert!(block_on(admin.list_topics()).unwrap().contains_key("t"));
    let group_id = Some("s".to_owned());
    let config = ShareConsumerConfig { client: patient(&broker), group_id, ..Default::default() };
    let mut share = ShareConsumer::new(config).unwrap();
    share.subscribe(["t"]).unwrap();
    assert!(block_on(share.poll(Duration::ZERO)).unwrap().is_empty());
}

/// As in Java: by its own time, and not by that of the requests under it.
#[test]
fn a_position_is_told_within_default_api_timeout_or_not_at_all() {
    let broker = broker(Options::default().with_topic("t", 1));
    broker.add_rule(Rule::new(Action::Ignore).api(ApiKey::ListOffsets));
    let mut client = ClientConfig::bootstrap(&broker.bootstrap()).unwrap();
    client.default_api_timeout = Duration::from_millis(50);
    // Whoever waits for that waits too long.
    client.request_timeout = LONG * 10;
    let mut consumer = Consumer::new(ConsumerConfig { client, ..ConsumerConfig::default() }).unwrap();
    consumer.assign([(at(), Position::Beginning)]).unwrap();
    let error = block_on(consumer.position(&at())).unwrap_err();
    assert_eq!((error.kind(), error.partition()), (ErrorKind::Timeout, Some(&at())));
}
