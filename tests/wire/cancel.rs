//! Calls that are dropped before they are done: the handle works on, and nothing is lost or doubled.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use kafka_wire::{CommittedOffset, ErrorKind, GroupMetadata, NewTopic, Producer, Record, TopicPartition};
use tidewater_broker::{EmbeddedBroker, Options, TransactionVersion};

use crate::consumer_reads::consumer;
use crate::producer_rig::{config, values};
use crate::{admin, block_on, broker};

/// Nothing that a test waits for takes so long.
pub(crate) const LONG: Duration = Duration::from_secs(30);

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

/// A future, polled by hand.
struct Watched<F> {
    future: Pin<Box<F>>,
    unpark: Arc<Unpark>,
}

impl<F: Future> Watched<F> {
    fn new(future: F) -> Self {
        let thread = std::thread::current();
        Self {
            future: Box::pin(future),
            unpark: Arc::new(Unpark { thread, is_woken: AtomicBool::new(false) }),
        }
    }

    fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.unpark));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    #[allow(clippy::disallowed_methods, reason = "the rim: what hangs fails")]
    fn await_wake(&self) {
        let begun = Instant::now();
        while !self.unpark.is_woken.swap(false, Ordering::AcqRel) {
            assert!(begun.elapsed() < LONG, "it hangs");
            std::thread::park_timeout(LONG);
        }
    }
}

/// Runs a future and drops it at the given step, if it is not done by then. Steps are counted from 0: the future has
/// been polled for the first time; it has been woken; it has been polled again, and so on.
pub(crate) fn dropped_at<T>(step: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut watched = Watched::new(future);
    for at in 0..=step {
        if at % 2 == 1 {
            watched.await_wake();
        } else if let Poll::Ready(output) = watched.poll() {
            return Some(output);
        }
    }
    None
}

/// Drops the calls that `call` makes at every step, until one is done before its step.
pub(crate) fn at_every_step(mut call: impl FnMut(usize) -> bool) {
    let done = (0..1000).find(|&step| call(step));
    assert!(done.is_some(), "it is never done");
}

pub(crate) fn at(partition: i32) -> TopicPartition {
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

pub(crate) fn committed(offset: usize) -> CommittedOffset {
    CommittedOffset { offset: offset as i64, leader_epoch: None, metadata: String::new() }
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
fn who_leaves_the_queue_for_memory_lets_the_next_in() {
    let broker = broker(Options::default().with_topic("t", 1));
    let settings = [("buffer.memory", "32768"), ("batch.size", "16384")];
    let producer = Producer::new(config(&broker, &settings)).unwrap();
    block_on(producer.send(number("first"))).unwrap();
    broker.control(|cluster, _| cluster.pause_node(0));
    let text = "x".repeat(1000);
    let mut count = 1;
    while producer.try_enqueue(number(&text)).is_ok() {
        count += 1;
    }
    let texts = ["leaves at once", "leaves when it is its turn", "stays"].map(|text| text.repeat(100));
    let [mut at_once, mut in_turn, mut stays] =
        texts.each_ref().map(|text| Watched::new(producer.enqueue(number(text))));
    assert!(at_once.poll().is_pending() && in_turn.poll().is_pending() && stays.poll().is_pending());
    drop(at_once);
    // The next one looks whether there is room now.
    in_turn.await_wake();
    assert!(in_turn.poll().is_pending());
    broker.control(|cluster, now| cluster.resume_node(now, 0));
    in_turn.await_wake();
    // It was told of the room, and does not take it.
    drop(in_turn);
    while stays.poll().is_pending() {
        stays.await_wake();
    }
    block_on(producer.flush());
    let written = values(&broker, &at(0));
    assert_eq!((written.len(), written.last()), (count + 1, Some(&texts[2])));
}

#[test]
fn a_close_of_a_producer_that_was_dropped_goes_on() {
    let broker = broker(Options::default().with_topic("t", 1));
    let mut expected = Vec::new();
    at_every_step(|step| {
        let producer = Producer::new(config(&broker, &[("linger.ms", "60000")])).unwrap();
        let value = step.to_string();
        let receipt = block_on(producer.enqueue(number(&value))).unwrap();
        let is_done = dropped_at(step, producer.close(LONG)).is_some();
        block_on(receipt).unwrap();
        expected.push(value);
        assert_eq!(block_on(producer.send(number("late"))).unwrap_err().kind(), ErrorKind::Closed);
        is_done
    });
    assert_eq!(values(&broker, &at(0)), expected);
}

#[test]
fn the_last_handle_of_a_producer_may_be_dropped_by_its_own_callback() {
    let broker = broker(Options::default().with_topic("t", 1));
    let last: Arc<Mutex<Option<Producer>>> = Arc::default();
    let held = Arc::clone(&last);
    let (dropped, heard) = mpsc::channel();
    let producer = Producer::with_delivery_callback(config(&broker, &[]), move |_| {
        drop(held.lock().unwrap().take());
        dropped.send(()).unwrap();
    })
    .unwrap();
    let receipt = {
        let mut last = last.lock().unwrap();
        let receipt = block_on(producer.enqueue(number("x"))).unwrap();
        *last = Some(producer);
        receipt
    };
    heard.recv_timeout(LONG).expect("the callback returns");
    block_on(receipt).unwrap();
}
