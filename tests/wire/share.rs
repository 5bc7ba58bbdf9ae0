//! Share groups: what their members are given, what they say of it, and what comes back.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_wire::config::{AcknowledgementMode, AcquireMode, Backoff, ClientConfig, ShareConsumerConfig};
use kafka_wire::{
    AcknowledgeType, AcknowledgementResult, ConfigChange, ConfigResource, ErrorCode, ErrorKind, Producer,
    Record, ShareBatch, ShareConsumer, TopicPartition,
};
use tidewater_broker::{Action, ApiKey, EmbeddedBroker, Options, Rule};

use crate::producer_rig::config;
use crate::{admin, block_on};

/// Nothing that a test waits for takes so long.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A broker with `t`, and a group `g` that starts at its beginning, with more settings for that group.
pub(crate) fn broker(partitions: i32, settings: &[(&str, &str)]) -> EmbeddedBroker {
    cluster(1, partitions, settings)
}

/// As [`broker`], of several nodes.
fn cluster(nodes: u16, partitions: i32, settings: &[(&str, &str)]) -> EmbeddedBroker {
    let broker = crate::broker(Options { nodes, ..Options::default() }.with_topic("t", partitions));
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
pub(crate) fn write(broker: &EmbeddedBroker, range: Range<u32>) {
    write_to(broker, "t", 0, range);
}

fn write_to(broker: &EmbeddedBroker, topic: &str, partition: i32, range: Range<u32>) {
    let producer = Producer::new(config(broker, &[("linger.ms", "60000")])).unwrap();
    for number in range {
        producer.enqueue_blocking(Record::to(topic).partition(partition).value(&number.to_string())).unwrap();
    }
    block_on(producer.flush());
}

pub(crate) fn member(broker: &EmbeddedBroker, acknowledgement_mode: AcknowledgementMode) -> ShareConsumer {
    member_with(broker, |config| config.acknowledgement_mode = acknowledgement_mode)
}

fn member_with(broker: &EmbeddedBroker, change: impl FnOnce(&mut ShareConsumerConfig)) -> ShareConsumer {
    let mut config = ShareConsumerConfig {
        client: ClientConfig::bootstrap(&broker.bootstrap()).unwrap(),
        group_id: Some("g".to_owned()),
        fetch_max_wait: Duration::from_millis(50),
        ..Default::default()
    };
    change(&mut config);
    let mut member = ShareConsumer::new(config).unwrap();
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

#[test]
fn batches_come_whole_unless_the_limit_is_strict() {
    let broker = broker(1, &[]);
    write(&broker, 0..10);
    for (acquire_mode, expected) in [(AcquireMode::RecordLimit, 3), (AcquireMode::BatchOptimized, 10)] {
        let mut member = member_with(&broker, |config| {
            config.acknowledgement_mode = AcknowledgementMode::Explicit;
            (config.acquire_mode, config.max_poll_records) = (acquire_mode, 3);
        });
        assert_eq!(next(&mut member).len(), expected);
        block_on(member.close(LONG)).unwrap();
    }
}

#[test]
fn a_lock_is_renewed() {
    let broker = broker(1, &[("share.record.lock.duration.ms", "45000")]);
    write(&broker, 0..2);
    let mut member = explicit(&broker);
    take(&mut member, 2);
    acknowledge(&mut member, [0, 1], AcknowledgeType::Renew);
    assert_eq!(commit(&mut member), 2);
    assert_eq!(member.lock_timeout(), Some(Duration::from_secs(45)));
    acknowledge(&mut member, [0], AcknowledgeType::Accept);
    acknowledge(&mut member, [1], AcknowledgeType::Release);
    assert_eq!(commit(&mut member), 2);
    assert_eq!(take(&mut member, 1), [(1, 2)]);
    acknowledge(&mut member, [1], AcknowledgeType::Accept);
    block_on(member.close(LONG)).unwrap();
    // Brokers before 4.2 have no such thing, and the record stays locked as it was.
    for api in [ApiKey::ShareFetch, ApiKey::ShareAcknowledge] {
        broker.control(|cluster, _| cluster.set_api_versions(api, Some(1..=1)));
    }
    let mut older = explicit(&broker);
    write(&broker, 2..3);
    assert_eq!(take(&mut older, 1), [(2, 1)]);
    acknowledge(&mut older, [2], AcknowledgeType::Renew);
    let results = block_on(older.commit()).unwrap();
    assert_eq!(results[0].result.as_ref().unwrap_err().kind(), ErrorKind::Unsupported);
    acknowledge(&mut older, [2], AcknowledgeType::Accept);
    assert_eq!(commit(&mut older), 1);
}

#[test]
fn that_a_lock_had_ended_is_told() {
    let broker = broker(1, &[("share.record.lock.duration.ms", "1000")]);
    write(&broker, 0..3);
    let mut slow = explicit(&broker);
    take(&mut slow, 3);
    acknowledge(&mut slow, 0..3, AcknowledgeType::Accept);
    let mut other = explicit(&broker);
    assert_eq!(take(&mut other, 3), [(0, 2), (1, 2), (2, 2)]);
    let results = block_on(slow.commit()).unwrap();
    assert_eq!((results.len(), results[0].count()), (1, 3));
    let error = results[0].result.as_ref().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::INVALID_RECORD_STATE));
    assert!(error.to_string().contains("lock had ended"), "{error}");
}

#[test]
fn what_the_group_cannot_write_down_now_is_told_again() {
    let broker = broker(1, &[]);
    write(&broker, 0..2);
    let mut member = explicit(&broker);
    take(&mut member, 2);
    acknowledge(&mut member, [0, 1], AcknowledgeType::Accept);
    let fault = Rule::new(Action::Error(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    broker.add_rule(fault.api(ApiKey::ShareAcknowledge).topic("t").times(3));
    assert_eq!(commit(&mut member), 2);
    assert!(broker.control(|cluster, _| cluster.requests(ApiKey::ShareAcknowledge)) >= 4);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test that hangs should say so")]
fn a_member_that_does_not_poll_leaves_and_comes_back_with_the_next_poll() {
    let broker = broker(1, &[]);
    write(&broker, 0..2);
    let mut member = member_with(&broker, |config| config.max_poll_interval = Duration::from_secs(1));
    take(&mut member, 2);
    let members = || broker.control(|cluster, _| cluster.group_members("g"));
    let begun = Instant::now();
    while !members().is_empty() {
        assert!(begun.elapsed() < LONG, "the member stays");
        std::thread::yield_now();
    }
    // Its locks hold: what it had seen is accepted.
    assert_eq!(commit(&mut member), 2);
    write(&broker, 2..3);
    assert_eq!(take(&mut member, 1), [(2, 1)]);
    assert_eq!(members().len(), 1);
}

#[test]
fn topics_and_partitions_that_come_later_are_read() {
    let broker = broker(1, &[("share.heartbeat.interval.ms", "100")]);
    let mut member = member_with(&broker, |_| ());
    member.subscribe(["later", "t"]).unwrap();
    assert!(block_on(member.poll(Duration::from_millis(100))).unwrap().is_empty());
    broker.control(|cluster, now| cluster.create_topic(now, "later", 1)).unwrap();
    write_to(&broker, "later", 0, 0..1);
    assert_eq!(next(&mut member).topic_partition(), &TopicPartition::new("later", 0));
    let grown = block_on(admin(&broker).create_partitions([("t", 3)])).unwrap();
    grown.into_iter().for_each(|(_, outcome)| outcome.unwrap());
    write_to(&broker, "t", 2, 0..1);
    assert_eq!(next(&mut member).topic_partition(), &TopicPartition::new("t", 2));
}

/// What became of the records, by partition and offset.
#[derive(Default)]
struct Fates {
    /// Each delivery, with its count.
    delivered: BTreeSet<(i32, i64, i16)>,
    accepted: BTreeSet<(i32, i64)>,
    /// The answer was lost: accepted, or handed out again.
    unknown: BTreeSet<(i32, i64)>,
}

impl Fates {
    fn hand_out(&mut self, batch: &ShareBatch) {
        for shared in batch {
            let at = (batch.topic_partition().partition, shared.record.offset, shared.delivery_count);
            assert!(self.delivered.insert(at), "two members have the same delivery: {at:?}");
        }
    }

    fn note(&mut self, result: &AcknowledgementResult) {
        for offset in result.offsets.iter().cloned().flatten() {
            let at = (result.partition.partition, offset);
            match &result.result {
                Ok(()) => drop(self.accepted.insert(at)),
                Err(error) if error.possibly_written() => drop(self.unknown.insert(at)),
                Err(_) => {}
            }
        }
    }

    fn known(&self) -> usize {
        self.accepted.union(&self.unknown).count()
    }
}

/// Three members read 6 partitions of 3 nodes while `disturb` does something before each round: no record is lost, no
/// two members have the same delivery of one, and at the end the group has done with all of them.
fn each_record_is_accepted(lock: &str, disturb: impl Fn(&EmbeddedBroker, i32)) {
    const PER_PARTITION: u32 = 60;
    let settings = [("share.record.lock.duration.ms", lock), ("share.delivery.count.limit", "10")];
    let broker = cluster(3, 6, &settings);
    let fates = Arc::new(Mutex::new(Fates::default()));
    let mut members = [0; 3].map(|_| {
        let mut member = member_with(&broker, |config| {
            let soon = Backoff { initial: Duration::from_millis(5), max: Duration::from_millis(50) };
            (config.client.retry_backoff, config.client.reconnect_backoff) = (soon, soon);
            config.max_poll_records = 5;
        });
        let fates = Arc::clone(&fates);
        member.on_acknowledged(move |result| fates.lock().unwrap().note(&result));
        member
    });
    for partition in 0..6 {
        for first in (0..PER_PARTITION).step_by(5) {
            write_to(&broker, "t", partition, first..first + 5);
        }
    }
    for round in 0.. {
        assert!(round < 3000, "records are lost");
        disturb(&broker, round);
        for member in &mut members {
            for _ in 0..3 {
                let batch = block_on(member.poll(Duration::from_millis(20))).unwrap();
                fates.lock().unwrap().hand_out(&batch);
            }
            block_on(member.commit()).unwrap();
        }
        if round >= 12 && fates.lock().unwrap().known() == 6 * PER_PARTITION as usize {
            break;
        }
    }
    for member in members {
        block_on(member.close(LONG)).unwrap();
    }
    let unknown = std::mem::take(&mut fates.lock().unwrap().unknown);
    for partition in 0..6 {
        write_to(&broker, "t", partition, PER_PARTITION..PER_PARTITION + 1);
    }
    let mut last = member(&broker, AcknowledgementMode::Implicit);
    let mut new = BTreeSet::new();
    while new.len() < 6 {
        let batch = block_on(last.poll(LONG)).unwrap();
        assert!(!batch.is_empty(), "nothing after {new:?}");
        let partition = batch.topic_partition().partition;
        for shared in &batch {
            if shared.record.offset == i64::from(PER_PARTITION) {
                assert!(new.insert(partition) && shared.delivery_count == 1);
            } else {
                assert!(unknown.contains(&(partition, shared.record.offset)), "it was accepted");
            }
        }
    }
}

#[test]
fn leaders_and_coordinators_move_and_each_record_is_accepted() {
    each_record_is_accepted("30000", |broker, round| {
        if round < 12 {
            broker.control(|cluster, now| {
                assert!(cluster.move_leader(now, "t", round % 6, (round + round / 6) % 3));
                cluster.move_group_coordinator("g", round % 3);
            });
        }
    });
}

#[test]
fn nodes_stop_and_start_and_each_record_is_accepted() {
    each_record_is_accepted("2000", |broker, round| {
        if round < 9 {
            broker.control(|cluster, now| {
                let (gone, back) = (round % 3, (round + 2) % 3);
                cluster.start_node(back);
                cluster.stop_node(now, gone);
            });
        } else {
            broker.control(|cluster, _| (0..3).for_each(|node| cluster.start_node(node)));
        }
    });
}
