//! Producing: what arrives, what is refused, and what becomes of records when things break.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use kafka_wire::{
    Acks, BrokerId, Codec, ErrorCode, ErrorKind, Header, Producer, Record, TopicPartition, partition_for_key,
};
use tidewater_broker::{Action, ApiKey, Now, Options, Rule};

use crate::producer_rig::{config, read, values};
use crate::{block_on, broker};

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

#[test]
fn a_record_arrives_as_it_was_sent_and_its_report_says_where() {
    let broker = broker(Options::default().with_topic("orders", 4));
    let producer = Producer::new(config(&broker, &[])).unwrap();
    let headers = [Header { key: b"trace", value: Some(b"a") }, Header { key: b"trace", value: None }];
    let record = Record::to("orders").key("42").value("seven").headers(&headers).timestamp_ms(1_234);
    let report = block_on(producer.send(record)).unwrap();
    assert_eq!(report.partition, at(partition_for_key(b"42", 4)), "where any Kafka client puts this key");
    assert_eq!((report.topic(), report.offset), ("orders", Some(0)));
    let second = block_on(producer.send(Record::to("orders").key("42"))).unwrap();
    assert_eq!(second.offset, Some(1));
    let seen = read(&broker, &report.partition);
    assert_eq!(
        (seen[0].key.as_deref(), &seen[0].value[..], seen[0].timestamp_ms),
        (Some(&b"42"[..]), &b"seven"[..], 1_234)
    );
    assert_eq!(seen[0].headers, [(b"trace".to_vec(), Some(b"a".to_vec())), (b"trace".to_vec(), None)]);
    assert!(seen[1].timestamp_ms > 1_600_000_000_000, "the time of the send: {}", seen[1].timestamp_ms);
}

#[test]
fn every_codec_arrives() {
    let broker = broker(Options::default().with_topic("orders", 1));
    let mut expected = Vec::new();
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut config = config(&broker, &[("batch.size", "2000")]);
        config.compression = codec;
        let producer = Producer::new(config).unwrap();
        for index in 0..500 {
            let value = format!("{}-{index}", codec.name());
            producer.enqueue_blocking(Record::to("orders").value(&value)).unwrap();
            expected.push(value);
        }
        block_on(producer.close(Duration::from_secs(30))).unwrap();
    }
    assert_eq!(values(&broker, &at(0)), expected);
}

#[test]
fn records_without_a_key_use_every_partition_and_explicit_ones_go_where_they_say() {
    let broker = broker(Options::default().with_topic("orders", 3));
    let producer = Producer::new(config(&broker, &[("batch.size", "300")])).unwrap();
    let receipts: Vec<_> = (0..600)
        .map(|_| producer.enqueue_blocking(Record::to("orders").value("0123456789")).unwrap())
        .collect();
    let mut records = [0; 3];
    for receipt in receipts {
        records[receipt.wait().unwrap().partition.partition as usize] += 1;
    }
    assert!(records.iter().all(|count| *count > 100), "{records:?}");
    let report = block_on(producer.send(Record::to("orders").key("x").partition(2))).unwrap();
    assert_eq!(report.partition.partition, 2);
    let error = block_on(producer.send(Record::to("orders").partition(3))).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("which has 3"), "{error}");
}

#[test]
fn lost_answers_refusals_and_leader_moves_lose_nothing_and_write_nothing_twice() {
    let broker = broker(Options { nodes: 2, ..Options::default() }.with_topic("orders", 2));
    let faults = [
        Action::ApplyThenDisconnect,
        Action::Disconnect,
        Action::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        Action::Error(ErrorCode::NOT_ENOUGH_REPLICAS),
        Action::ApplyThenDisconnect,
    ];
    for (index, action) in faults.into_iter().enumerate() {
        broker.add_rule(Rule::new(action).api(ApiKey::Produce).skip(3 + 7 * index as u64).times(2));
    }
    let producer = Producer::new(config(&broker, &[("batch.size", "200"), ("linger.ms", "0")])).unwrap();
    let mut receipts = Vec::new();
    let mut expected = [Vec::new(), Vec::new()];
    for index in 0..3_000 {
        let (partition, value) = (index % 2, format!("record {index}"));
        let record = Record::to("orders").partition(partition).value(&value);
        receipts.push(producer.enqueue_blocking(record).unwrap());
        expected[partition as usize].push(value);
        if index % 500 == 250 {
            let leader = index / 500 % 2;
            broker.control(|cluster, now: Now| cluster.move_leader(now, "orders", partition, leader));
        }
    }
    let mut next = [0, 0];
    for receipt in receipts {
        let report = receipt.wait().unwrap();
        let next = &mut next[report.partition.partition as usize];
        assert_eq!(report.offset, Some(*next), "{}", report.partition);
        *next += 1;
    }
    for partition in 0..2 {
        assert_eq!(values(&broker, &at(partition)), expected[partition as usize]);
    }
}

#[test]
fn an_unknown_topic_fails_in_time_and_holds_nobody_up() {
    let broker = broker(Options { auto_create_topics: false, ..Options::default() }.with_topic("orders", 1));
    let producer = Producer::new(config(&broker, &[("max.block.ms", "400")])).unwrap();
    let error = producer.try_enqueue(Record::to("missing").value("x")).unwrap_err();
    assert!(error.is_retriable(), "its metadata has not come yet: {error}");
    let waiting = std::thread::spawn({
        let producer = producer.clone();
        move || producer.enqueue_blocking(Record::to("missing").value("x")).unwrap_err()
    });
    assert!(block_on(producer.send(Record::to("orders").value("x"))).is_ok());
    let error = waiting.join().unwrap();
    assert!(error.kind() == ErrorKind::Timeout && error.to_string().contains("missing"), "{error}");
    assert!(error.to_string().contains("UNKNOWN_TOPIC_OR_PARTITION"), "{error}");
}

#[test]
fn a_record_that_is_too_large_is_refused_before_it_is_sent() {
    let broker = broker(Options::default().with_topic("orders", 1));
    let producer = Producer::new(config(&broker, &[("max.request.size", "1000")])).unwrap();
    let error = block_on(producer.send(Record::to("orders").key("ab").value(&[7; 2_000]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordTooLarge);
    let text = error.to_string();
    for part in ["key 2, value 2000", "orders", "max.request.size is 1000", "max.message.bytes"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(block_on(producer.send(Record::to("orders").value("small"))).is_ok());
}

#[test]
fn a_batch_that_the_broker_finds_too_large_is_split_and_one_record_that_is_too_large_fails_alone() {
    let topic = tidewater_broker::TopicOptions::new("orders", 1).with_config("max.message.bytes", "500");
    let broker = broker(Options { topics: vec![topic], ..Options::default() });
    for (codec, start) in [(Codec::None, 0), (Codec::Lz4, 100)] {
        let mut config = config(&broker, &[("linger.ms", "1000")]);
        config.compression = codec;
        let counted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&counted);
        let producer = Producer::with_delivery_callback(config, move |fate| {
            counter.fetch_add(fate.as_ref().map_or(1, |batch| u64::from(batch.records)), Ordering::Relaxed);
        })
        .unwrap();
        let send = |index: u64| {
            // Digits that no codec makes small.
            let noise: Vec<u8> = (0..40).map(|place| (index * 7919 + place * 104_729) as u8).collect();
            let value = if index == 60 { vec![noise; 50].concat() } else { noise };
            let value: Vec<u8> =
                value.iter().zip(0_u32..).map(|(byte, place)| byte ^ (place * place) as u8).collect();
            (producer.enqueue_blocking(Record::to("orders").value(&value)).unwrap(), value)
        };
        let sent: Vec<_> = (0..=100).map(send).collect();
        block_on(producer.flush());
        let mut expected = Vec::new();
        for (index, (receipt, value)) in sent.into_iter().enumerate() {
            match receipt.wait() {
                Err(error) => {
                    assert_eq!((index, error.code()), (60, Some(ErrorCode::MESSAGE_TOO_LARGE)), "{error}");
                    assert!(!error.possibly_written());
                }
                Ok(report) => {
                    assert_eq!(report.offset, Some(start + expected.len() as i64));
                    expected.push(value);
                }
            }
        }
        assert_eq!((expected.len(), counted.load(Ordering::Relaxed)), (100, 101));
        let seen: Vec<_> =
            read(&broker, &at(0)).into_iter().skip(start as usize).map(|record| record.value).collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn who_prefers_callbacks_gets_each_records_fate_in_order() {
    let broker = broker(Options::default().with_topic("orders", 1));
    let producer = Producer::new(config(&broker, &[("batch.size", "200")])).unwrap();
    let (sender, told) = std::sync::mpsc::channel();
    for index in 0..100 {
        let value = format!("value{index}");
        let sender = sender.clone();
        let receipt = producer.enqueue_blocking(Record::to("orders").value(&value)).unwrap();
        receipt.then(move |fate| sender.send(fate.unwrap().offset).unwrap());
    }
    block_on(producer.close(Duration::from_secs(30))).unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), (0..100).map(Some).collect::<Vec<_>>());
}

/// Who keeps the futures of many sends and awaits them together pays nothing for it on the wire: the same batches go
/// out, in as many requests, as when records are only enqueued.
#[test]
fn sends_that_are_awaited_together_fill_the_same_batches_as_records_that_are_enqueued() {
    const RECORDS: usize = 5_000;
    let settings = [("batch.size", "3000"), ("linger.ms", "60000"), ("delivery.timeout.ms", "120000")];
    let record = |index: usize| {
        let values: [&'static str; 3] = ["a", "a longer value", "one that is longer than any of the others"];
        Record::to("orders").value(values[index % 3]).timestamp_ms(1_700_000_000_000 + index as i64)
    };
    // How many requests there were, and how large the log is at last.
    let cost = |send_all: &dyn Fn(&Producer)| {
        let broker = broker(Options::default().with_topic("orders", 1));
        let producer = Producer::new(config(&broker, &settings)).unwrap();
        drop(producer.enqueue_blocking(Record::to("orders")).unwrap());
        block_on(producer.flush());
        send_all(&producer);
        let logs = block_on(crate::admin(&broker).describe_log_dirs([BrokerId(0)])).unwrap();
        let replicas = logs[0].1.as_ref().unwrap().values().flat_map(|folder| folder.replicas.values());
        let size: i64 = replicas.map(|replica| replica.size_bytes).sum();
        (broker.control(|cluster, _| cluster.requests(ApiKey::Produce)), size)
    };
    let enqueued = cost(&|producer| {
        (0..RECORDS).for_each(|index| drop(producer.enqueue_blocking(record(index)).unwrap()));
        block_on(producer.flush());
    });
    let awaited = cost(&|producer| {
        let mut sends: Vec<_> = (0..RECORDS).map(|index| Box::pin(producer.send(record(index)))).collect();
        let mut context = Context::from_waker(Waker::noop());
        assert!(sends.iter_mut().all(|send| send.as_mut().poll(&mut context).is_pending()));
        let flushing = producer.clone();
        let flushed = std::thread::spawn(move || block_on(flushing.flush()));
        for (offset, send) in (1..).zip(sends) {
            assert_eq!(block_on(send).unwrap().offset, Some(offset));
        }
        flushed.join().unwrap();
    });
    assert_eq!(awaited, enqueued);
    assert!((10..RECORDS as u64 / 20).contains(&enqueued.0), "{enqueued:?} for {RECORDS} records");
}

#[test]
fn memory_is_bounded_and_who_waits_goes_on_when_batches_are_acknowledged() {
    let broker = broker(Options::default().with_topic("orders", 1));
    let settings = [
        ("buffer.memory", "40000"),
        ("batch.size", "10000"),
        ("linger.ms", "60000"),
        ("delivery.timeout.ms", "120000"),
    ];
    let producer = Producer::new(config(&broker, &settings)).unwrap();
    block_on(producer.enqueue(Record::to("orders").value("first"))).unwrap();
    block_on(producer.flush());
    let held = broker.add_rule(Rule::new(Action::Ignore).api(ApiKey::Produce));
    let mut accepted = 0;
    let error = loop {
        match producer.try_enqueue(Record::to("orders").value(&[1; 1_000])) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("buffer.memory=40000 is full") && error.is_retriable(), "{error}");
    assert!((25..=40).contains(&accepted), "{accepted} records of 1000 bytes in 40000");
    // It waits in line; the future is polled once and woken when there is room.
    let mut waiting = pin!(producer.enqueue(Record::to("orders").value("waited")));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    broker.remove_rule(held);
    broker.control(|cluster, _| cluster.disconnect_all(0));
    let receipt = block_on(waiting).unwrap();
    block_on(producer.flush());
    assert_eq!(block_on(receipt).unwrap().offset, Some(1 + accepted));
}

#[test]
fn a_broker_that_never_answers_ends_in_an_honest_timeout() {
    let broker = broker(Options::default().with_topic("orders", 1));
    let settings = [("request.timeout.ms", "150"), ("delivery.timeout.ms", "500")];
    let producer = Producer::new(config(&broker, &settings)).unwrap();
    broker.add_rule(Rule::new(Action::Ignore).api(ApiKey::Produce));
    let error = block_on(producer.send(Record::to("orders").value("x"))).unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && error.possibly_written(), "{error:?}");
    assert!(error.to_string().contains("delivery.timeout.ms=500"), "{error}");
    assert_eq!(error.partition(), Some(&at(0)));
}

#[test]
fn acknowledgements_may_be_fewer_or_none() {
    let broker = broker(Options::default().with_topic("orders", 1));
    for (acks, offset) in [(Acks::Leader, Some(0)), (Acks::None, None)] {
        let mut config = config(&broker, &[]);
        config.acks = acks;
        config.enable_idempotence = false;
        let producer = Producer::new(config).unwrap();
        let report = block_on(producer.send(Record::to("orders").value("x"))).unwrap();
        assert_eq!(report.offset, offset, "{acks:?}");
        block_on(producer.close(Duration::from_secs(10))).unwrap();
    }
    let all = Producer::new(config(&broker, &[])).unwrap();
    assert_eq!(
        block_on(all.send(Record::to("orders").value("x"))).unwrap().offset,
        Some(2),
        "all three are there"
    );
}

#[test]
fn the_delivery_callback_counts_every_record_once() {
    let broker = broker(Options::default().with_topic("orders", 3));
    let (counter, count) = (Arc::new(AtomicU64::new(0)), 5_000);
    let counted = Arc::clone(&counter);
    let producer =
        Producer::with_delivery_callback(config(&broker, &[("batch.size", "1000")]), move |fate| {
            counted.fetch_add(u64::from(fate.as_ref().unwrap().records), Ordering::Relaxed);
        })
        .unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let producer = producer.clone();
            std::thread::spawn(move || {
                for index in 0..count {
                    let key = format!("{index}");
                    producer.enqueue_blocking(Record::to("orders").key(&key).value("v")).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    block_on(producer.flush());
    assert_eq!(counter.load(Ordering::Relaxed), 4 * count);
    let read: usize = (0..3).map(|partition| read(&broker, &at(partition)).len()).sum();
    assert_eq!(read as u64, 4 * count);
}

#[test]
fn close_sends_what_is_there_and_then_nothing_is_taken() {
    let broker = broker(Options::default().with_topic("orders", 1));
    let settings = [("linger.ms", "60000"), ("delivery.timeout.ms", "120000")];
    let producer = Producer::new(config(&broker, &settings)).unwrap();
    let receipt = producer.enqueue_blocking(Record::to("orders").value("x")).unwrap();
    block_on(producer.close(Duration::from_secs(30))).unwrap();
    assert_eq!(receipt.wait().unwrap().offset, Some(0));
    let error = producer.enqueue_blocking(Record::to("orders").value("late")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(block_on(producer.close(Duration::ZERO)).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn close_and_drop_are_bounded_when_no_broker_answers() {
    let broker = broker(Options::default().with_topic("orders", 1));
    let producer = Producer::new(config(&broker, &[])).unwrap();
    block_on(producer.send(Record::to("orders").value("x"))).unwrap();
    broker.add_rule(Rule::new(Action::Ignore).api(ApiKey::Produce));
    let receipt = producer.enqueue_blocking(Record::to("orders").value("y")).unwrap();
    block_on(producer.close(Duration::from_millis(50))).unwrap();
    let error = receipt.wait().unwrap_err();
    assert!(error.kind() == ErrorKind::Closed && error.possibly_written(), "{error:?}");
    let dropped = Producer::new(config(&broker, &[])).unwrap();
    let open = dropped.enqueue_blocking(Record::to("orders").value("z")).unwrap();
    drop(dropped);
    assert_eq!(open.wait().unwrap_err().kind(), ErrorKind::Closed);
}
