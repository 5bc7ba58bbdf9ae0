//! What an application puts into a producer: partitioners, interceptors; and what it takes out again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_wire::config::PartitionerClass;
use kafka_wire::{
    BatchMetadata, ErrorCode, ErrorKind, OwnedRecord, Producer, ProducerInterceptor, Purge, Record, Result,
    TopicPartition, TopicPartitions,
};
use tidewater_broker::{Action, ApiKey, Options, Rule};

use crate::cancel::dropped_at;
use crate::producer_rig::{config, read, values};
use crate::{block_on, broker};

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

#[test]
fn the_applications_partitioner_decides_and_leaves_the_rest_to_the_producer() {
    let broker = broker(Options::default().with_topic("orders", 3));
    let by_length = |record: &Record<'_>, topic: &TopicPartitions<'_>| {
        assert_eq!((topic.name(), topic.count(), topic.available()), ("orders", 3, &[0, 1, 2][..]));
        record.value.map(|value| value.len() as i32)
    };
    let producer = Producer::builder(config(&broker, &[])).partitioner(by_length).build().unwrap();
    for (value, partition) in [("", 0), ("a", 1), ("bb", 2)] {
        let report = block_on(producer.send(Record::to("orders").key("k").value(value))).unwrap();
        assert_eq!(report.partition, at(partition));
    }
    let report = block_on(producer.send(Record::to("orders").key("k"))).unwrap();
    assert_eq!(report.partition, at(kafka_wire::partition_for_key(b"k", 3)));
    let error = block_on(producer.send(Record::to("orders").value("long"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn round_robin_by_its_java_name_takes_one_partition_after_the_other() {
    let broker = broker(Options::default().with_topic("orders", 3));
    let class = "org.apache.kafka.clients.producer.RoundRobinPartitioner";
    let config = config(&broker, &[("partitioner.class", class)]);
    assert_eq!(config.partitioner, PartitionerClass::RoundRobin);
    let producer = Producer::new(config).unwrap();
    let partitions: Vec<_> = (0..6)
        .map(|_| block_on(producer.send(Record::to("orders").key("same"))).unwrap().partition.partition)
        .collect();
    assert_eq!(partitions, [0, 1, 2, 0, 1, 2]);
}

/// Adds a header, sends what it is told elsewhere, and keeps what it hears.
#[derive(Default)]
struct Tracing {
    fates: Arc<Mutex<Vec<Result<BatchMetadata>>>>,
}

impl ProducerInterceptor for Tracing {
    fn on_send(&self, record: &mut OwnedRecord) {
        let number = record.headers.len();
        record.headers.push((b"trace".to_vec(), Some(number.to_string().into_bytes())));
        if record.value.as_deref() == Some(b"panic") {
            record.value = Some(b"as it was left".to_vec());
            panic!("the application's");
        }
    }

    fn on_acknowledgement(&self, fate: &Result<BatchMetadata>) {
        self.fates.lock().unwrap().push(fate.clone());
        panic!("the application's, too");
    }
}

#[test]
fn interceptors_change_records_in_their_order_and_hear_of_every_fate() {
    let broker = broker(Options::default().with_topic("orders", 1));
    let fates = Arc::default();
    let [first, second] = [Tracing { fates: Arc::clone(&fates) }, Tracing::default()];
    let producer = Producer::builder(config(&broker, &[("max.request.size", "1000")]))
        .interceptor(first)
        .interceptor(second)
        .build()
        .unwrap();
    block_on(producer.send(Record::to("orders").value("one"))).unwrap();
    producer.enqueue_blocking(Record::to("orders").value("panic")).unwrap().wait().unwrap();
    assert!(producer.try_enqueue(Record::to("orders").value(&[1; 2_000])).is_err());
    block_on(producer.close(Duration::from_secs(30))).unwrap();
    let seen = read(&broker, &at(0));
    let header = |value: &str| (b"trace".to_vec(), Some(value.as_bytes().to_vec()));
    assert_eq!(seen[0].headers, [header("0"), header("1")]);
    assert_eq!((&seen[1].value[..], seen[1].headers.len()), (&b"as it was left"[..], 2));
    let fates = fates.lock().unwrap();
    let offsets: Vec<_> =
        fates.iter().map(|fate| fate.as_ref().ok().and_then(|batch| batch.base_offset)).collect();
    assert_eq!(offsets, [Some(0), Some(1), None]);
    assert_eq!(fates[2].as_ref().unwrap_err().kind(), ErrorKind::RecordTooLarge);
}

#[test]
fn interceptors_hear_of_a_record_whose_future_is_dropped_before_there_is_room() {
    let broker = broker(Options::default());
    let fates = Arc::default();
    let tracing = Tracing { fates: Arc::clone(&fates) };
    let producer = Producer::builder(config(&broker, &[])).interceptor(tracing).build().unwrap();
    // There is no such topic, so it waits.
    assert!(dropped_at(0, producer.enqueue(Record::to("orders").value("dropped"))).is_none());
    let fates = fates.lock().unwrap();
    assert_eq!(fates.len(), 1);
    assert_eq!(fates[0].as_ref().unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn purged_records_fail_honestly_and_the_producer_goes_on() {
    let broker = broker(Options::default().with_topic("orders", 1));
    let settings = [("linger.ms", "0"), ("max.in.flight.requests.per.connection", "1")];
    let producer = Producer::new(config(&broker, &settings)).unwrap();
    block_on(producer.send(Record::to("orders").value("before"))).unwrap();
    let held = broker.add_rule(Rule::new(Action::Ignore).api(ApiKey::Produce));
    let on_wire = producer.enqueue_blocking(Record::to("orders").value("on the wire")).unwrap();
    // The broker counts what it holds; nothing else tells that a request has left.
    while broker.control(|cluster, _| cluster.rule_hits(held)) == 0 {
        std::thread::yield_now();
    }
    let queued = producer.enqueue_blocking(Record::to("orders").value("queued")).unwrap();
    block_on(producer.purge(Purge::Queued)).unwrap();
    let error = queued.wait().unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && !error.possibly_written(), "{error:?}");
    assert!(on_wire.try_wait().is_none(), "it is heard out");
    block_on(producer.purge(Purge::QueuedAndInFlight)).unwrap();
    let error = on_wire.wait().unwrap_err();
    assert!(error.possibly_written() && error.to_string().contains("purged"), "{error:?}");
    broker.remove_rule(held);
    broker.control(|cluster, _| cluster.disconnect_all(0));
    let report = block_on(producer.send(Record::to("orders").value("after"))).unwrap();
    assert_eq!(report.offset, Some(1));
    assert_eq!(values(&broker, &at(0)), ["before", "after"]);
}

#[test]
fn without_retries_a_refusal_is_final_and_idempotence_is_off() {
    let broker = broker(Options::default().with_topic("orders", 1));
    broker.add_rule(Rule::new(Action::Error(ErrorCode::NOT_ENOUGH_REPLICAS)).api(ApiKey::Produce).times(1));
    let config = config(&broker, &[("retries", "0")]);
    assert!(!config.enable_idempotence);
    let producer = Producer::new(config).unwrap();
    let error = block_on(producer.send(Record::to("orders").value("x"))).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NOT_ENOUGH_REPLICAS));
    assert_eq!(block_on(producer.send(Record::to("orders").value("y"))).unwrap().offset, Some(0));
}
