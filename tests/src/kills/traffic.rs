//! The world around the job: clicks that keep coming, and a reader that sees results as they are committed.

#![allow(clippy::disallowed_methods, reason = "the world around a job has a clock")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use kafka_wire::{Consumer, Isolation, Position, Producer, Receipt, Record, TopicPartition};

use crate::clicks::{Click, clicks};

/// Users with clicks in every window.
const USERS: u64 = 12;
/// Event time from one click to the next: 40 clicks to a window. With ten windows a second nearly every epoch has
/// results, that a wrong commit could lose.
const STEP_MS: i64 = 250;
/// Real time from one click to the next: 400 a second.
const PAUSE: Duration = Duration::from_micros(2_500);
/// How far the sentinels lie ahead of the last click: they close its window, and theirs stays open.
const SENTINEL_AHEAD_MS: i64 = 86_400_000;

fn client(bootstrap: &str) -> ClientConfig {
    ClientConfig::bootstrap(bootstrap).expect("addresses")
}

/// Writes clicks at a steady rate until it is stopped.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Click>>,
}

impl Writer {
    pub(super) fn start(bootstrap: &str, topic: &str, partitions: i32, seed: u64) -> Self {
        let config = ProducerConfig { client: client(bootstrap), ..ProducerConfig::default() };
        let producer = Producer::new(config).expect("a producer");
        let stop = Arc::new(AtomicBool::new(false));
        let (topic, stopped) = (topic.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let written = write(&producer, &topic, seed, &stopped);
            let last = written.iter().map(|click| click.ts).max().unwrap_or_default();
            for partition in 0..partitions {
                let sentinel =
                    Click { user: format!("sentinel-{partition}"), ts: last + SENTINEL_AHEAD_MS, cents: 1 };
                let json = sentinel.json();
                let record = Record::to(&topic).partition(partition).key(&sentinel.user).value(&json);
                producer.enqueue_blocking(record).expect("room").wait().expect("a sentinel is acknowledged");
            }
            written
        });
        Self { stop, thread }
    }

    /// Ends the clicks, closes their windows, and returns all that were written: every one is acknowledged.
    pub(super) fn finish(self) -> Vec<Click> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("every click is acknowledged")
    }
}

fn write(producer: &Producer, topic: &str, seed: u64, stopped: &AtomicBool) -> Vec<Click> {
    let (mut written, mut receipts) = (Vec::new(), VecDeque::<Receipt>::new());
    let began = Instant::now();
    for click in clicks(seed, USERS, STEP_MS) {
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        let json = click.json();
        let record = Record::to(topic).key(&click.user).value(&json);
        receipts.push_back(producer.enqueue_blocking(record).expect("room for a click"));
        written.push(click);
        while let Some(fate) = receipts.front().and_then(Receipt::try_wait) {
            fate.expect("a click is acknowledged");
            receipts.pop_front();
        }
        let due = began + PAUSE * written.len() as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    for receipt in receipts {
        receipt.wait().expect("a click is acknowledged");
    }
    written
}

/// Reads the committed results of a job as they come.
pub(super) struct Reader {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Instant>>>,
    thread: JoinHandle<()>,
}

impl Reader {
    pub(super) fn start(bootstrap: &str, topic: &str, partitions: i32) -> Self {
        let config = ConsumerConfig {
            client: client(bootstrap),
            isolation: Isolation::ReadCommitted,
            fetch_max_wait: Duration::from_millis(50),
            ..ConsumerConfig::default()
        };
        let mut consumer = Consumer::new(config).expect("a consumer");
        let all = (0..partitions).map(|partition| TopicPartition::new(topic, partition));
        consumer.assign(all.map(|partition| (partition, Position::Beginning))).expect("assign");
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Instant>>>::default());
        let (stopped, arrivals) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let batch = consumer.poll_blocking(Duration::from_millis(100)).expect("read results");
                let now = Instant::now();
                let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
                arrivals.extend(batch.iter().map(|_| now));
            }
        });
        Self { stop, seen, thread }
    }

    /// How many results there are by now.
    pub(super) fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// When each result came, in order.
    pub(super) fn finish(self) -> Vec<Instant> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("results can be read");
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
