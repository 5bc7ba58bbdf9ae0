//! What a consumer hands out: all that was written, once and in order, whatever brokers and network do.

use std::time::Duration;

use kafka_wire::config::{ClientConfig, ConsumerConfig, OffsetReset, ProducerConfig};
use kafka_wire::{
    Codec, Consumer, ErrorKind, Header, Isolation, LeaderEpoch, Position, Producer, Record, TimestampType,
    TopicPartition,
};
use tidewater_broker::{Action, ApiKey, EmbeddedBroker, ErrorCode, Options, Rule, TopicOptions};

use super::{block_on, broker};

/// Nothing that a test waits for takes so long.
const LONG: Duration = Duration::from_secs(30);

pub(super) fn consumer(broker: &EmbeddedBroker, change: impl FnOnce(&mut ConsumerConfig)) -> Consumer {
    let client = ClientConfig::bootstrap(&broker.bootstrap()).unwrap();
    let fetch_max_wait = Duration::from_millis(50);
    let mut config = ConsumerConfig { client, fetch_max_wait, ..ConsumerConfig::default() };
    change(&mut config);
    Consumer::new(config).unwrap()
}

fn producer(broker: &EmbeddedBroker, change: impl FnOnce(&mut ProducerConfig)) -> Producer {
    let client = ClientConfig::bootstrap(&broker.bootstrap()).unwrap();
    let mut config = ProducerConfig { client, linger: Duration::ZERO, ..ProducerConfig::default() };
    change(&mut config);
    Producer::new(config).unwrap()
}

/// Writes the numbers of `range` to partition 0 of `topic`, a few to a batch.
pub(super) fn write(broker: &EmbeddedBroker, topic: &str, range: std::ops::Range<u32>) {
    let producer = producer(broker, |_| {});
    for number in range {
        let value = number.to_string();
        let record = Record::to(topic).partition(0).value(&value);
        producer.enqueue_blocking(record).unwrap();
        if number % 7 == 0 {
            block_on(producer.flush());
        }
    }
    block_on(producer.flush());
}

fn values(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let batch = consumer.poll_blocking(LONG).unwrap();
        assert!(!batch.is_empty(), "{} of {count} records came", values.len());
        values.extend(batch.iter().map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()));
    }
    values
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

pub(super) fn partition(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

/// What the broker sets is told to who writes and to who reads; what the producer set is gone.
#[test]
fn records_have_the_brokers_time_where_the_topic_says_so() {
    let topic = TopicOptions::new("t", 1).with_config("message.timestamp.type", "LogAppendTime");
    let broker = broker(Options { topics: vec![topic], ..Options::default() }.with_topic("other", 1));
    let producer = producer(&broker, |config| config.linger = Duration::from_millis(20));
    let sent =
        [41, 42].map(|at| producer.enqueue_blocking(Record::to("t").value("v").timestamp_ms(at)).unwrap());
    let other = producer.enqueue_blocking(Record::to("other").value("v").timestamp_ms(42)).unwrap();
    assert_eq!(other.wait().unwrap().append_time_ms, None);
    let appended = sent.map(|receipt| receipt.wait().unwrap().append_time_ms.unwrap());
    assert!(appended.iter().all(|at| *at > 1_600_000_000_000), "{appended:?}");
    let mut consumer = consumer(&broker, |_| {});
    consumer.assign([(partition("t"), Position::Beginning)]).unwrap();
    let mut read = Vec::new();
    while read.len() < 2 {
        let batch = consumer.poll_blocking(LONG).unwrap();
        assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
        read.extend(batch.iter().map(|record| record.timestamp_ms));
    }
    assert_eq!(read, appended);
}

#[test]
fn records_come_as_they_were_written_with_each_codec() {
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let broker = broker(Options::default().with_topic("t", 1));
        let producer = producer(&broker, |config| config.compression = codec);
        let headers = [Header { key: b"a", value: Some(b"1") }, Header { key: b"a", value: None }];
        let record = Record::to("t").key("k").value("v").timestamp_ms(42).headers(&headers);
        block_on(producer.send(record)).unwrap();
        let mut consumer = consumer(&broker, |_| {});
        consumer.assign([(partition("t"), Position::Beginning)]).unwrap();
        let batch = block_on(consumer.poll(LONG)).unwrap();
        assert_eq!((batch.len(), batch.next_offset(), batch.topic_partition()), (1, 1, &partition("t")));
        let record = batch.iter().next().unwrap();
        assert_eq!((record.offset, record.timestamp_ms), (0, 42));
        assert_eq!((record.key, record.value), (Some(&b"k"[..]), Some(&b"v"[..])));
        assert_eq!(record.headers().collect::<Vec<_>>(), headers);
    }
}

#[test]
fn a_poll_without_records_ends_with_its_timeout() {
    let broker = broker(Options::default().with_topic("t", 1));
    let mut consumer = consumer(&broker, |_| {});
    consumer.assign([(partition("t"), Position::Beginning)]).unwrap();
    for timeout in [Duration::ZERO, Duration::from_millis(60)] {
        assert!(block_on(consumer.poll(timeout)).unwrap().is_empty());
        assert!(consumer.poll_blocking(timeout).unwrap().is_empty());
    }
    write(&broker, "t", 0..1);
    assert_eq!(values(&mut consumer, 1), ["0"], "it goes on");
}

#[test]
fn faults_of_broker_and_network_neither_lose_nor_repeat_records() {
    let faults = [
        Action::Disconnect,
        Action::ApplyThenDisconnect,
        Action::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        Action::Error(ErrorCode::FENCED_LEADER_EPOCH),
        Action::Error(ErrorCode::UNKNOWN_LEADER_EPOCH),
        Action::Error(ErrorCode::UNKNOWN_SERVER_ERROR),
        Action::Delay(Duration::from_millis(100)),
    ];
    for fault in faults {
        let broker = broker(Options { nodes: 2, ..Options::default() }.with_topic("t", 1));
        write(&broker, "t", 0..100);
        broker.add_rule(Rule::new(fault).api(ApiKey::Fetch).topic("t").skip(1).times(3));
        let mut consumer = consumer(&broker, |config| {
            config.max_partition_fetch_bytes = 300;
            config.queued_max_bytes = 2000;
        });
        consumer.assign([(partition("t"), Position::Beginning)]).unwrap();
        assert_eq!(values(&mut consumer, 100), numbers(0..100), "{fault:?}");
    }
}

#[test]
fn a_leader_that_moves_is_followed() {
    let broker = broker(Options { nodes: 3, ..Options::default() }.with_topic("t", 1));
    let mut consumer = consumer(&broker, |_| {});
    consumer.assign([(partition("t"), Position::Beginning)]).unwrap();
    let mut seen = Vec::new();
    for round in 0..6u32 {
        broker.control(|cluster, now| cluster.move_leader(now, "t", 0, 1 + (round as i32 % 3)));
        write(&broker, "t", round * 20..(round + 1) * 20);
        seen.extend(values(&mut consumer, 20));
    }
    assert_eq!(seen, numbers(0..120));
}

#[test]
fn a_broker_that_restarts_is_found_again() {
    let broker = broker(Options { nodes: 1, ..Options::default() }.with_topic("t", 1));
    write(&broker, "t", 0..50);
    let mut consumer = consumer(&broker, |_| {});
    consumer.assign([(partition("t"), Position::Beginning)]).unwrap();
    assert_eq!(values(&mut consumer, 50), numbers(0..50));
    broker.control(|cluster, now| cluster.stop_node(now, 1));
    assert!(consumer.poll_blocking(Duration::from_millis(200)).unwrap().is_empty());
    broker.control(|cluster, _| cluster.start_node(1));
    write(&broker, "t", 50..60);
    assert_eq!(values(&mut consumer, 10), numbers(50..60));
}

#[test]
fn aborted_records_are_seen_only_by_who_reads_all() {
    let broker = broker(Options::default().with_topic("t", 1));
    let producer = producer(&broker, |config| config.transactional_id = Some("tx".to_owned()));
    block_on(async {
        producer.init_transactions().await.unwrap();
        for (value, commit) in [("a", true), ("b", false), ("c", true), ("d", false)] {
            producer.begin_transaction().await.unwrap();
            producer.send(Record::to("t").partition(0).value(value)).await.unwrap();
            if commit {
                producer.commit_transaction().await.unwrap();
            } else {
                producer.abort_transaction().await.unwrap();
            }
        }
        // Left open: nobody may read on here who reads committed records.
        producer.begin_transaction().await.unwrap();
        producer.send(Record::to("t").partition(0).value("e")).await.unwrap();
    });
    for (isolation, expected) in [
        (Isolation::ReadCommitted, &["a", "c"][..]),
        (Isolation::ReadUncommitted, &["a", "b", "c", "d", "e"][..]),
    ] {
        let mut consumer = consumer(&broker, |config| config.isolation = isolation);
        consumer.assign([(partition("t"), Position::Beginning)]).unwrap();
        assert_eq!(values(&mut consumer, expected.len()), expected);
        assert!(consumer.poll_blocking(Duration::from_millis(300)).unwrap().is_empty());
        // Over the markers, and over what was aborted.
        let end = if isolation == Isolation::ReadCommitted { 8 } else { 9 };
        assert_eq!(block_on(consumer.position(&partition("t"))).unwrap().offset, end);
    }
    block_on(producer.abort_transaction()).unwrap();
}

#[test]
fn progress_without_records_is_told_to_who_polls_batches() {
    let broker = broker(Options::default().with_topic("t", 1));
    write(&broker, "t", 0..3);
    let mut consumer = consumer(&broker, |_| {});
    consumer.assign([(partition("t"), Position::End)]).unwrap();
    let batch = block_on(std::future::poll_fn(|context| consumer.poll_batch(context))).unwrap();
    assert!(batch.is_empty());
    assert_eq!((batch.base_offset(), batch.next_offset()), (3, 3));
    assert_eq!((batch.high_watermark(), batch.last_stable_offset(), batch.log_start_offset()), (3, 3, 0));
}

#[test]
fn deleted_records_stop_a_reader_that_must_not_lose_any() {
    let broker = broker(Options::default().with_topic("t", 1));
    write(&broker, "t", 0..20);
    broker.control(|cluster, now| cluster.delete_records(now, "t", 0, 12));
    let mut careful = consumer(&broker, |config| config.auto_offset_reset = OffsetReset::None);
    careful.assign([(partition("t"), Position::from(5))]).unwrap();
    for _ in 0..2 {
        let error = careful.poll_blocking(LONG).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::DataLoss, Some(5)));
        assert!(error.to_string().contains("offsets 5 to 11 are gone"), "{error}");
    }
    careful.seek(&partition("t"), 12).unwrap();
    assert_eq!(values(&mut careful, 8), numbers(12..20));
    let mut other = consumer(&broker, |config| config.auto_offset_reset = OffsetReset::Earliest);
    other.assign([(partition("t"), Position::from(5))]).unwrap();
    assert_eq!(values(&mut other, 8), numbers(12..20));
}

#[test]
fn a_truncated_log_stops_a_reader_that_must_not_lose_any() {
    let broker = broker(Options::default().with_topic("t", 1));
    write(&broker, "t", 0..20);
    let mut consumer = consumer(&broker, |config| config.auto_offset_reset = OffsetReset::None);
    consumer.assign([(partition("t"), Position::Beginning)]).unwrap();
    values(&mut consumer, 20);
    broker.control(|cluster, now| cluster.truncate(now, "t", 0, 15)).unwrap();
    write(&broker, "t", 100..120);
    let error = consumer.poll_blocking(LONG).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::DataLoss, Some(20)));
    assert!(error.to_string().contains("truncated to offset 15"), "{error}");
    // The same with a position that was kept: its epoch tells.
    let kept = Position::Offset { offset: 20, leader_epoch: Some(LeaderEpoch(0)) };
    consumer.seek(&partition("t"), kept).unwrap();
    assert_eq!(consumer.poll_blocking(LONG).unwrap_err().kind(), ErrorKind::DataLoss);
}

#[test]
fn a_truncated_log_is_found_by_asking_the_leader_where_fetches_do_not_tell() {
    for (newest_fetch, asks) in [(11, true), (12, false)] {
        let broker = broker(Options::default().with_topic("t", 1));
        broker.control(|cluster, _| cluster.set_api_versions(ApiKey::Fetch, Some(4..=newest_fetch)));
        write(&broker, "t", 0..20);
        let mut strict = consumer(&broker, |config| config.auto_offset_reset = OffsetReset::None);
        let mut lenient = consumer(&broker, |config| config.auto_offset_reset = OffsetReset::Latest);
        for consumer in [&mut strict, &mut lenient] {
            consumer.assign([(partition("t"), Position::Beginning)]).unwrap();
            values(consumer, 20);
        }
        broker.control(|cluster, now| cluster.truncate(now, "t", 0, 15)).unwrap();
        write(&broker, "t", 100..120);
        let error = strict.poll_blocking(LONG).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::DataLoss, Some(20)));
        assert!(error.to_string().contains("truncated to offset 15"), "{error}");
        assert_eq!(values(&mut lenient, 20), numbers(100..120));
        // The same with a position that was kept: its epoch tells.
        let kept = Position::Offset { offset: 20, leader_epoch: Some(LeaderEpoch(0)) };
        strict.seek(&partition("t"), kept).unwrap();
        assert_eq!(strict.poll_blocking(LONG).unwrap_err().kind(), ErrorKind::DataLoss);
        let asked = broker.control(|cluster, _| cluster.requests(ApiKey::OffsetForLeaderEpoch));
        assert_eq!(asked > 0, asks, "Fetch {newest_fetch}");
    }
}

/// Polls, for else nothing moves, until `holds`; the other tests' bound on waiting is the bound here.
fn poll_until(consumer: &mut Consumer, what: &str, holds: impl Fn(&Consumer) -> bool) {
    let tries = LONG.as_millis() / 20;
    for _ in 0..tries {
        consumer.poll_blocking(Duration::from_millis(20)).unwrap();
        if holds(consumer) {
            return;
        }
    }
    panic!("{what} did not come true");
}

#[test]
fn a_partition_whose_broker_is_down_is_out_of_contact_until_it_answers_again() {
    let broker = broker(Options { nodes: 2, ..Options::default() }.with_topic("t", 1));
    broker.control(|cluster, now| cluster.move_leader(now, "t", 0, 1));
    let mut consumer = consumer(&broker, |_| {});
    let partition = partition("t");
    assert!(!consumer.is_in_contact(&partition), "nothing was asked yet");
    consumer.assign([(partition.clone(), Position::Beginning)]).unwrap();
    poll_until(&mut consumer, "contact", |consumer| consumer.is_in_contact(&partition));
    broker.control(|cluster, now| cluster.stop_node(now, 1));
    poll_until(&mut consumer, "loss of contact", |consumer| !consumer.is_in_contact(&partition));
    broker.control(|cluster, _| cluster.start_node(1));
    poll_until(&mut consumer, "contact again", |consumer| consumer.is_in_contact(&partition));
}

#[test]
fn a_poll_gives_at_most_max_poll_records() {
    for codec in [Codec::None, Codec::Lz4] {
        let broker = broker(Options::default().with_topic("t", 1));
        let producer = producer(&broker, |config| {
            config.compression = codec;
            config.linger = LONG;
        });
        for number in 0..10 {
            producer.enqueue_blocking(Record::to("t").partition(0).value(&number.to_string())).unwrap();
        }
        block_on(producer.flush());
        let mut consumer = consumer(&broker, |config| config.max_poll_records = Some(4));
        consumer.assign([(partition("t"), Position::Beginning)]).unwrap();
        let mut next = || {
            let batch = consumer.poll_blocking(LONG).unwrap();
            let offsets: Vec<i64> = batch.iter().map(|record| record.offset).collect();
            assert_eq!(batch.len(), offsets.len());
            assert_eq!(block_on(consumer.position(&partition("t"))).unwrap().offset, batch.next_offset());
            (batch.base_offset(), offsets, batch.next_offset())
        };
        assert_eq!(next(), (0, vec![0, 1, 2, 3], 4));
        assert_eq!(next(), (4, vec![4, 5, 6, 7], 8));
        assert_eq!(next(), (8, vec![8, 9], 10));
        consumer.seek(&partition("t"), 3).unwrap();
        let batch = consumer.poll_blocking(LONG).unwrap();
        assert_eq!((batch.base_offset(), batch.len(), batch.next_offset()), (3, 4, 7));
        // What is left of the batch is forgotten by a seek.
        consumer.seek(&partition("t"), 9).unwrap();
        assert_eq!(values(&mut consumer, 1), ["9"]);
    }
}
