//! Calls that are dropped before they are done: the handle works on, and nothing is lost or doubled.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use kafka_wire::config::{AcknowledgementMode, GroupProtocol, OffsetReset};
use kafka_wire::{
    CommittedOffset, Consumer, ErrorKind, FetchedBatch, GroupMetadata, Isolation, NewTopic, OffsetSpec,
    Position, Producer, Record, TopicPartition,
};
use tidewater_broker::{EmbeddedBroker, Options, TransactionVersion};

use crate::consumer_reads::{consumer, partition, write};
use crate::producer_rig::{config, values};
use crate::{admin, block_on, broker, share};

/// Nothing that a test waits for takes so long.
const LONG: Duration = Duration::from_secs(30);

struct Unpark {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Runs a future and drops it at the given step, if it is not done by then. Steps are counted from 0: the future has
/// been polled for the first time; it has been woken; it has been polled again, and so on.
pub(crate) fn dropped_at<T>(step: usize, future: impl Future<Output = T>) -> Option<T> {
    let unpark = Arc::new(Unpark { thread: std::thread::current(), is_woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut future = pin!(future);
    for at in 0.. {
        if at % 2 == 0 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(output);
            }
        } else {
            await_wake(&unpark);
        }
        if at == step {
            break;
        }
    }
    None
}

#[allow(clippy::disallowed_methods, reason = "the rim: what hangs fails")]
fn await_wake(unpark: &Unpark) {
    let begun = Instant::now();
    while !unpark.is_woken.swap(false, Ordering::AcqRel) {
        assert!(begun.elapsed() < LONG, "it hangs");
        std::thread::park_timeout(LONG);
    }
}

/// Drops the calls that `call` makes at every step, until one is done before its step.
fn at_every_step(mut call: impl FnMut(usize) -> bool) {
    let done = (0..1000).find(|&step| call(step));
    assert!(done.is_some(), "it is never done");
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn number(value: &str) -> Record<'_> {
    Record::to("t").partition(0).value(value)
}

#[test]
fn a_record_whose_enqueue_was_dropped_is_not_sent_and_any_other_is_sent_once() {
    let broker = broker(Options::default().with_topic("t", 1));
    let mut expected = Vec::new();
    at_every_step(|step| {
        // A new one has to wait for the topic's metadata.
        let producer = Producer::new(config(&broker, &[])).unwrap();
        let value = format!("enqueued {step}");
        let enqueued = dropped_at(step, producer.enqueue(number(&value)));
        let is_done = enqueued.is_some();
        if let Some(receipt) = enqueued {
            expected.push(value);
            // Nobody awaits the receipt, and the record is sent all the same.
            drop(receipt.unwrap());
        }
        let value = format!("after {step}");
        block_on(producer.send(number(&value))).unwrap();
        expected.push(value);
        is_done
    });
    assert_eq!(values(&broker, &at(0)), expected);
}

#[test]
fn a_send_that_was_dropped_happens_once_or_not_at_all() {
    let broker = broker(Options::default().with_topic("t", 1));
    let producer = Producer::new(config(&broker, &[])).unwrap();
    let (mut sent, mut asked) = (Vec::new(), Vec::new());
    at_every_step(|step| {
        let value = format!("sent {step}");
        let outcome = dropped_at(step, producer.send(number(&value)));
        asked.push(value.clone());
        sent.extend(outcome.iter().map(|outcome| outcome.as_ref().map(|_| value.clone()).unwrap()));
        for _ in 0..2 {
            // It is flushed, whenever a flush is given up.
            dropped_at(step, producer.flush());
        }
        !sent.is_empty()
    });
    block_on(producer.flush());
    let written = values(&broker, &at(0));
    let (set, asked): (BTreeSet<_>, BTreeSet<_>) = (written.iter().collect(), asked.iter().collect());
    assert_eq!(set.len(), written.len(), "{written:?}");
    assert!(set.is_subset(&asked) && sent.iter().all(|value| set.contains(value)), "{written:?}");
}

fn clusters() -> impl Iterator<Item = EmbeddedBroker> {
    [TransactionVersion::V0, TransactionVersion::V2].into_iter().map(|transaction_version| {
        let marker_delay = Duration::from_millis(2);
        broker(Options { transaction_version, marker_delay, ..Options::default() }.with_topic("t", 1))
    })
}

#[test]
fn a_commit_that_was_dropped_is_made_or_can_be_made() {
    for broker in clusters() {
        let producer = Producer::new(config(&broker, &[("transactional.id", "job")])).unwrap();
        at_every_step(|step| dropped_at(step, producer.init_transactions()).is_some());
        let mut expected = Vec::new();
        block_on(producer.begin_transaction()).unwrap();
        at_every_step(|step| {
            let value = step.to_string();
            drop(block_on(producer.enqueue(number(&value))).unwrap());
            let is_done = dropped_at(step, producer.commit_transaction()).is_some();
            expected.push(value);
            // Whether it had begun to commit, the next begin tells.
            if let Err(error) = block_on(producer.begin_transaction()) {
                assert_eq!(error.kind(), ErrorKind::Usage, "{error:?}");
                block_on(producer.commit_transaction()).unwrap();
                block_on(producer.begin_transaction()).unwrap();
            }
            is_done
        });
        block_on(producer.abort_transaction()).unwrap();
        assert_eq!(values(&broker, &at(0)), expected);
    }
}

#[test]
fn an_abort_that_was_dropped_goes_on() {
    for broker in clusters() {
        let settings = [("transactional.id", "job"), ("linger.ms", "60000")];
        let producer = Producer::new(config(&broker, &settings)).unwrap();
        block_on(producer.init_transactions()).unwrap();
        let mut expected = Vec::new();
        at_every_step(|step| {
            at_every_step(|begin| dropped_at(begin, producer.begin_transaction()).is_some());
            drop(block_on(producer.enqueue(number("aborted"))).unwrap());
            let is_done = dropped_at(step, producer.abort_transaction()).is_some();
            block_on(producer.begin_transaction()).unwrap();
            let value = step.to_string();
            drop(block_on(producer.enqueue(number(&value))).unwrap());
            block_on(producer.commit_transaction()).unwrap();
            expected.push(value);
            is_done
        });
        assert_eq!(values(&broker, &at(0)), expected);
    }
}

#[test]
fn offsets_that_were_dropped_on_their_way_into_a_transaction_are_in_it() {
    for broker in clusters() {
        let producer = Producer::new(config(&broker, &[("transactional.id", "job")])).unwrap();
        block_on(producer.init_transactions()).unwrap();
        let reader = consumer(&broker, |config| config.group_id = Some("g".to_owned()));
        at_every_step(|step| {
            block_on(producer.begin_transaction()).unwrap();
            let offsets = vec![(at(0), committed(step))];
            let group = GroupMetadata::without_member("g");
            let sent = dropped_at(step, producer.send_offsets_to_transaction(group, offsets));
            block_on(producer.commit_transaction()).unwrap();
            let told = block_on(reader.committed([at(0)])).unwrap();
            assert_eq!(told[0].1.as_ref().map(|at| at.offset), Some(step as i64));
            sent.is_some()
        });
    }
}

fn committed(offset: usize) -> CommittedOffset {
    CommittedOffset { offset: offset as i64, leader_epoch: None, metadata: String::new() }
}

fn offsets(batch: &FetchedBatch) -> impl Iterator<Item = i64> {
    batch.iter().map(|record| record.offset)
}

/// Reads to offset `end` by polls that are dropped at ever later steps.
fn read_in_pieces(consumer: &mut Consumer, end: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    // Every poll that ends begins the round anew.
    for step in (0..6).cycle() {
        if let Some(batch) = dropped_at(step, consumer.poll(Duration::from_millis(20))) {
            seen.extend(offsets(&batch.unwrap()));
        }
        if seen.last().is_some_and(|last| *last >= end - 1) {
            break;
        }
    }
    seen
}

#[test]
fn polls_that_were_dropped_lose_nothing() {
    let broker = broker(Options::default().with_topic("t", 1));
    write(&broker, "t", 0..200);
    let few = |config: &mut kafka_wire::config::ConsumerConfig| {
        config.max_partition_fetch_bytes = 300;
        config.queued_max_bytes = 1000;
    };
    let mut assigned = consumer(&broker, few);
    assigned.assign([(partition("t"), Position::Beginning)]).unwrap();
    assert_eq!(read_in_pieces(&mut assigned, 200), (0..200).collect::<Vec<_>>());
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let mut member = consumer(&broker, |config| {
            few(config);
            config.group_id = Some(format!("{protocol:?}"));
            config.group.protocol = protocol;
            config.auto_offset_reset = OffsetReset::Earliest;
        });
        member.subscribe(["t"]).unwrap();
        assert_eq!(read_in_pieces(&mut member, 200), (0..200).collect::<Vec<_>>(), "{protocol:?}");
        block_on(member.close()).unwrap();
    }
}

#[test]
fn questions_of_a_consumer_that_were_dropped_leave_it_as_it_was() {
    let broker = broker(Options::default().with_topic("t", 1));
    write(&broker, "t", 0..10);
    let group = |config: &mut kafka_wire::config::ConsumerConfig| config.group_id = Some("g".to_owned());
    at_every_step(|step| {
        let mut consumer = consumer(&broker, group);
        consumer.assign([(at(0), Position::Beginning)]).unwrap();
        let known = dropped_at(step, consumer.position(&at(0)));
        assert_eq!(block_on(consumer.position(&at(0))).unwrap().offset, 0);
        known.is_some()
    });
    let consumer = consumer(&broker, group);
    at_every_step(|step| {
        let asked = dropped_at(step, consumer.commit_offsets([(at(0), committed(step))]));
        // What was dropped may be on its way still, behind the question.
        let told = block_on(consumer.committed([at(0)])).unwrap();
        let told = told[0].1.as_ref().map(|at| at.offset);
        assert!(
            told == Some(step as i64) || asked.is_none() && told == step.checked_sub(1).map(|it| it as i64)
        );
        block_on(consumer.commit_offsets([(at(0), committed(step))])).unwrap();
        asked.is_some()
    });
    at_every_step(|step| {
        let asked = dropped_at(step, consumer.committed([at(0)]));
        assert!(block_on(consumer.committed([at(0)])).unwrap()[0].1.is_some());
        asked.is_some()
    });
    at_every_step(|step| {
        let ask = || consumer.list_offsets([(at(0), OffsetSpec::Latest)], Isolation::ReadCommitted);
        let asked = dropped_at(step, ask());
        assert_eq!(block_on(ask()).unwrap()[0].1.offset, Some(10));
        asked.is_some()
    });
}

#[test]
fn administration_that_was_dropped_is_carried_out_or_not() {
    let broker = broker(Options::default());
    at_every_step(|step| {
        let admin = admin(&broker);
        let name = format!("topic-{step}");
        let created = dropped_at(step, admin.create_topics([NewTopic::new(&*name, 1)]));
        // The same client makes it now at the latest.
        block_on(admin.create_topics([NewTopic::new(&*name, 1)])).unwrap();
        assert!(block_on(admin.list_topics()).unwrap().contains_key(&name));
        let listed = dropped_at(step, admin.list_topics());
        let deleted = dropped_at(step, admin.delete_topics([&*name]));
        block_on(admin.delete_topics([&*name])).unwrap();
        assert!(!block_on(admin.list_topics()).unwrap().contains_key(&name));
        created.is_some() && listed.is_some() && deleted.is_some()
    });
}

#[test]
fn polls_and_commits_of_a_share_consumer_that_were_dropped_lose_nothing() {
    let broker = share::broker(1, &[]);
    for first in (0..100).step_by(5) {
        share::write(&broker, first..first + 5);
    }
    let mut member = share::member(&broker, AcknowledgementMode::Implicit);
    let mut seen = Vec::new();
    for step in (0..6).cycle() {
        if let Some(batch) = dropped_at(step, member.poll(LONG)) {
            seen.extend(batch.unwrap().iter().map(|shared| (shared.record.offset, shared.delivery_count)));
        }
        // What was handed out is told, whoever listens.
        drop(dropped_at(step, member.commit()));
        if seen.len() >= 100 {
            break;
        }
    }
    assert_eq!(seen, (0..100).map(|offset| (offset, 1)).collect::<Vec<_>>());
    share::commit(&mut member);
    block_on(member.close(LONG)).unwrap();
    share::write(&broker, 100..101);
    let mut other = share::member(&broker, AcknowledgementMode::Implicit);
    let batch = block_on(other.poll(LONG)).unwrap();
    assert_eq!(batch.iter().map(|shared| shared.record.offset).collect::<Vec<_>>(), [100]);
}
