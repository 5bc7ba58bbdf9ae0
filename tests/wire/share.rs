//! Share groups: what their members are given, what they say of it, and what comes back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_wire::config::{AcknowledgementMode, ClientConfig, ShareConsumerConfig};
use kafka_wire::{
    AcknowledgeType, ConfigChange, ConfigResource, ErrorKind, Producer, Record, ShareBatch, ShareConsumer,
    TopicPartition,
};
use tidewater_broker::{EmbeddedBroker, Options};

use crate::producer_rig::config;
use crate::{admin, block_on};

/// Nothing that a test waits for takes so long.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A broker with `t`, and a group `g` that starts at its beginning, with more settings for that group.
pub(crate) fn broker(partitions: i32, settings: &[(&str, &str)]) -> EmbeddedBroker {
    let broker = crate::broker(Options::default().with_topic("t", partitions));
    let settings = [("share.auto.offset.reset", "earliest"), ("share.heartbeat.interval.ms", "5000")]
        .iter()
        .chain(settings)
        .map(|(name, value)| ConfigChange::set(*name, *value));
    let change = (ConfigResource::group("g"), settings.collect());
    let changed = block_on(admin(&broker).incremental_alter_configs([change])).unwrap();
    changed.into_iter().for_each(|(_, outcome)| outcome.unwrap());
    broker
}

/// Writes the numbers of `range` in one batch.
pub(crate) fn write(broker: &EmbeddedBroker, range: std::ops::Range<u32>) {
    let producer = Producer::new(config(broker, &[("linger.ms", "60000")])).unwrap();
    for number in range {
        producer.enqueue_blocking(Record::to("t").partition(0).value(&number.to_string())).unwrap();
    }
    block_on(producer.flush());
}

pub(crate) fn member(broker: &EmbeddedBroker, acknowledgement_mode: AcknowledgementMode) -> ShareConsumer {
    let mut member = ShareConsumer::new(ShareConsumerConfig {
        client: ClientConfig::bootstrap(&broker.bootstrap()).unwrap(),
        group_id: Some("g".to_owned()),
        acknowledgement_mode,
        fetch_max_wait: Duration::from_millis(50),
        ..Default::default()
    })
    .unwrap();
    member.subscribe(["t"]).unwrap();
    member
}

fn explicit(broker: &EmbeddedBroker) -> ShareConsumer {
    member(broker, AcknowledgementMode::Explicit)
}

/// The next batch with records.
fn next(member: &mut ShareConsumer) -> ShareBatch {
    let batch = block_on(member.poll(LONG)).unwrap();
    assert!(!batch.is_empty(), "no records came in {LONG:?}");
    batch
}

/// Offset and delivery count of so many records, all left without a word.
fn take(member: &mut ShareConsumer, count: usize) -> Vec<(i64, i16)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.extend(next(member).iter().map(|shared| (shared.record.offset, shared.delivery_count)));
    }
    seen
}

fn acknowledge(member: &mut ShareConsumer, offsets: impl IntoIterator<Item = i64>, kind: AcknowledgeType) {
    let partition = TopicPartition::new("t", 0);
    for offset in offsets {
        member.acknowledge(&partition, offset, kind).unwrap();
    }
}

/// Commits, and gives how many offsets the broker took it for.
pub(crate) fn commit(member: &mut ShareConsumer) -> u64 {
    let results = block_on(member.commit()).unwrap();
    results
        .into_iter()
        .map(|result| {
            let count = result.count();
            result.result.unwrap();
            count
        })
        .sum()
}

#[test]
fn what_is_accepted_is_delivered_once() {
    let broker = broker(1, &[]);
    write(&broker, 0..20);
    let mut member = member(&broker, AcknowledgementMode::Implicit);
    assert_eq!(take(&mut member, 20), (0..20).map(|offset| (offset, 1)).collect::<Vec<_>>());
    commit(&mut member);
    block_on(member.close(LONG)).unwrap();
    // If anything of the twenty were left, it would come before the one that is new.
    write(&broker, 20..21);
    let mut other = explicit(&broker);
    assert_eq!(take(&mut other, 1), [(20, 1)]);
}

#[test]
fn each_record_is_acknowledged_for_itself() {
    let broker = broker(1, &[]);
    write(&broker, 0..10);
    let mut member = explicit(&broker);
    let told = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&told);
    member.on_acknowledged(move |result| *counter.lock().unwrap() += result.count());
    assert_eq!(take(&mut member, 10), (0..10).map(|offset| (offset, 1)).collect::<Vec<_>>());
    let unsaid = block_on(member.poll(Duration::ZERO)).unwrap_err();
    assert_eq!((unsaid.kind(), unsaid.offset()), (ErrorKind::Usage, Some(0)));
    acknowledge(&mut member, [0, 2, 4, 6, 8, 9], AcknowledgeType::Accept);
    acknowledge(&mut member, [1, 5], AcknowledgeType::Release);
    acknowledge(&mut member, [3, 7], AcknowledgeType::Reject);
    assert_eq!(commit(&mut member), 10);
    // What was released comes back, and nothing else.
    assert_eq!(take(&mut member, 2), [(1, 2), (5, 2)]);
    acknowledge(&mut member, [1, 5], AcknowledgeType::Accept);
    assert_eq!(commit(&mut member), 2);
    assert_eq!(*told.lock().unwrap(), 12);
    write(&broker, 10..11);
    assert_eq!(take(&mut member, 1), [(10, 1)]);
}

#[test]
fn what_a_member_leaves_without_a_word_comes_back() {
    let broker = broker(1, &[]);
    write(&broker, 0..6);
    let mut first = explicit(&broker);
    take(&mut first, 6);
    acknowledge(&mut first, [2], AcknowledgeType::Accept);
    block_on(first.close(LONG)).unwrap();
    let mut second = explicit(&broker);
    assert_eq!(take(&mut second, 5), [0, 1, 3, 4, 5].map(|offset| (offset, 2)));
    // Who is dropped gives back, too: the broker sees that the connection is gone.
    drop(second);
    let mut third = explicit(&broker);
    assert_eq!(take(&mut third, 5), [0, 1, 3, 4, 5].map(|offset| (offset, 3)));
    block_on(third.close(Duration::MAX)).unwrap();
}

#[test]
fn a_record_that_was_delivered_too_often_is_given_up() {
    let broker = broker(1, &[("share.delivery.count.limit", "2")]);
    write(&broker, 0..1);
    let mut member = explicit(&broker);
    for delivery in 1..=2 {
        assert_eq!(take(&mut member, 1), [(0, delivery)]);
        acknowledge(&mut member, [0], AcknowledgeType::Release);
        assert_eq!(commit(&mut member), 1);
    }
    write(&broker, 1..2);
    assert_eq!(take(&mut member, 1), [(1, 1)]);
}

#[test]
fn two_members_share_the_records_of_one_partition() {
    let broker = broker(1, &[]);
    let mut members = [0; 2].map(|_| member(&broker, AcknowledgementMode::Implicit));
    let mut seen: [BTreeSet<i64>; 2] = Default::default();
    let mut written = 0;
    loop {
        // Until each has had some: who asks while there is nothing gets what comes.
        if seen.iter().any(BTreeSet::is_empty) {
            assert!(written < 100_000, "one member gets nothing");
            write(&broker, written..written + 10);
            written += 10;
        }
        for (member, seen) in members.iter_mut().zip(&mut seen) {
            let batch = block_on(member.poll(Duration::from_millis(5))).unwrap();
            for shared in &batch {
                assert_eq!(shared.delivery_count, 1, "offset {}", shared.record.offset);
                assert!(seen.insert(shared.record.offset));
            }
        }
        if seen.iter().all(|seen| !seen.is_empty())
            && seen.iter().map(BTreeSet::len).sum::<usize>() == written as usize
        {
            break;
        }
    }
    for mut member in members {
        commit(&mut member);
        block_on(member.close(LONG)).unwrap();
    }
    assert!(seen[0].is_disjoint(&seen[1]));
}
