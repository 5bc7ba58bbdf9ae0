//! What is asked for cannot be done: errors say what was attempted, why it failed, and what to do.

use std::time::Duration;

use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use kafka_wire::{
    Consumer, ErrorCode, ErrorKind, Isolation, NewTopic, Position, Producer, Record, TopicPartition,
};
use tidewater_tests::process::free_ports;
use tidewater_tests::real_kafka::Version;

use crate::support::{
    committed_values, consumer_config, create, on_shared, producer, producer_config, read_all, run,
};

#[test]
fn a_topic_that_does_not_exist_is_named() {
    on_shared(Version::V4_3, async |cluster| {
        let mut config = producer_config(cluster, "unknown-topic");
        config.max_block = Duration::from_secs(2);
        let producer = Producer::new(config).expect("a producer");
        let error = producer.send(Record::to("no-such-topic").value("v")).await.expect_err("it is not there");
        let text = error.to_string();
        assert!(text.contains("no-such-topic") && text.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{text}");
        assert!(!error.possibly_written());

        let mut consumer = Consumer::new(consumer_config(cluster, "unknown-topic")).expect("a consumer");
        consumer.assign([(TopicPartition::new("no-such-topic", 0), Position::Beginning)]).expect("assign");
        let error = consumer.poll(Duration::from_secs(60)).await.expect_err("it is not there");
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
        assert!(error.to_string().contains("no-such-topic"), "{error}");
    });
}

#[test]
fn a_partition_that_does_not_exist_is_named() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "two-partitions";
        create(cluster, NewTopic::new(NAME, 2)).await;
        let error = producer(cluster, NAME)
            .send(Record::to(NAME).partition(7).value("v"))
            .await
            .expect_err("there are two partitions");
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains(NAME) && error.to_string().contains('7'), "{error}");
        let mut consumer = Consumer::new(consumer_config(cluster, NAME)).expect("a consumer");
        consumer.assign([(TopicPartition::new(NAME, 7), Position::Beginning)]).expect("assign");
        let error = consumer.poll(Duration::from_secs(60)).await.expect_err("there are two partitions");
        let says = "partition 7 of topic 'two-partitions'";
        assert!(error.to_string().contains(says) && error.to_string().contains("2 partitions"), "{error}");
    });
}

/// A name that no topic may have is refused at once, not waited for.
#[test]
fn a_name_that_no_topic_can_have_is_refused() {
    on_shared(Version::V4_3, async |cluster| {
        let error = producer(cluster, "invalid-name")
            .send(Record::to("no spaces, please").value("v"))
            .await
            .expect_err("the name is invalid");
        assert!(error.to_string().contains("INVALID_TOPIC_EXCEPTION"), "{error}");
    });
}

/// Above the topic's limit the broker refuses the record, above the producer's own it is not even sent; either
/// way what to change is said, and records that fit go on.
#[test]
fn a_record_that_is_too_large_is_refused_with_the_limit() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "small-records";
        create(cluster, NewTopic::new(NAME, 1).config("max.message.bytes", "2000")).await;
        let producer = producer(cluster, NAME);
        let large = "x".repeat(5000);
        let error = producer.send(Record::to(NAME).value(&large)).await.expect_err("the topic takes 2000");
        assert!(error.to_string().contains("max.message.bytes"), "{error}");
        assert!(!error.possibly_written() && !error.is_retriable(), "{error}");
        let huge = "x".repeat(3 << 20);
        let error = producer.send(Record::to(NAME).value(&huge)).await.expect_err("too large to send");
        assert_eq!(error.kind(), ErrorKind::RecordTooLarge, "{error}");
        assert!(error.to_string().contains("max.request.size"), "{error}");
        producer.send(Record::to(NAME).value("fits")).await.expect("send");
        assert_eq!(committed_values(cluster, NAME).await, ["fits"]);
    });
}

#[test]
fn a_broker_that_cannot_be_reached_is_named_by_its_address() {
    run(async {
        let address = format!("127.0.0.1:{}", free_ports(1).expect("a free port")[0]);
        let client = ClientConfig::bootstrap(&address).expect("an address");
        let client = ClientConfig { default_api_timeout: Duration::from_secs(2), ..client };
        let max_block = Duration::from_secs(2);
        let config = ProducerConfig { client: client.clone(), max_block, ..Default::default() };
        let producer = Producer::new(config).expect("a producer");
        let error = producer.send(Record::to("anything").value("v")).await.expect_err("nobody listens");
        assert!(error.to_string().contains(&address), "{error}");

        let config = ConsumerConfig { client, ..Default::default() };
        let mut consumer = Consumer::new(config).expect("a consumer");
        consumer.assign([(TopicPartition::new("anything", 0), Position::Beginning)]).expect("assign");
        let error = consumer.poll(Duration::from_secs(60)).await.expect_err("nobody listens");
        assert!(error.to_string().contains(&address), "{error}");
    });
}

/// An idempotent batch that a topic refuses as too large must not cost the records of the batches after it.
#[test]
fn records_behind_a_refused_batch_are_written_in_order() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "behind-a-refused-batch";
        create(cluster, NewTopic::new(NAME, 1).config("max.message.bytes", "2000")).await;
        let producer = producer(cluster, NAME);
        let large = "x".repeat(5000);
        let mut receipts = Vec::new();
        for number in 0..30 {
            let value = if number % 10 == 4 { large.clone() } else { number.to_string() };
            let receipt = producer.enqueue(Record::to(NAME).value(&value)).await.expect("enqueue");
            // Each in a batch of its own: a batch is refused as a whole.
            producer.flush().await;
            receipts.push((number, value, receipt));
        }
        let mut written = Vec::new();
        for (number, value, receipt) in receipts {
            match receipt.await {
                Ok(_) => written.push(value),
                Err(error) => assert!(number % 10 == 4, "{number}: {error}"),
            }
        }
        assert_eq!(written.len(), 27);
        let log = read_all(cluster, NAME, Isolation::ReadUncommitted).await;
        assert_eq!(log.into_iter().map(|entry| entry.value).collect::<Vec<_>>(), written);
    });
}
