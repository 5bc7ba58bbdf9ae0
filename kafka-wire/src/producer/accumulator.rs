//! Where records wait to become batches: encoded on the caller's thread, sealed by size or by time.
//!
//! A value without lock or clock: the rim keeps it behind one mutex, and reads the clock once per batch.
//!
//! Invariants: batches leave in the order in which they were closed, also when several threads compress
//! at a time; what open and unacknowledged batches take never exceeds `buffer.memory`; who waits for
//! memory is served in the order of arrival.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hashbrown::HashMap;

use super::debts::Debts;
use super::partitioner::{Partitioner, TopicPartitions, partition_for_key};
use super::pool::Pool;
use super::receipt::{Completion, Receipt};
use super::record::Record;
use super::sticky::Sticky;
use super::waiters::{WaitReason, Waiters};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{BATCH_HEADER_BYTES, BatchBuilder, Compression, SealedBatch};
use crate::types::{BrokerId, Codec, TopicPartition};

/// What the accumulator takes from the producer's configuration.
#[derive(Clone, Debug)]
pub(crate) struct AccumulatorConfig {
    pub(crate) compression: Compression,
    pub(crate) batch_size: usize,
    pub(crate) linger: Duration,
    pub(crate) buffer_memory: usize,
    /// The largest record, in its uncompressed wire form (`max.request.size`).
    pub(crate) max_request_size: usize,
    /// The application's, which is asked before keys are looked at.
    pub(crate) partitioner: Option<Arc<dyn Partitioner>>,
    pub(crate) ignore_keys: bool,
    /// Records without a key go rather where less waits.
    pub(crate) is_adaptive: bool,
    /// Brokers that have acknowledged nothing for so long get none of them; zero leaves it.
    pub(crate) availability_timeout: Duration,
    /// A partition with this many closed and unacknowledged batches lets its open one grow on: it could
    /// not be sent anyway.
    pub(crate) max_in_flight: usize,
    /// For the sticky partitioner.
    pub(crate) seed: u64,
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    /// Milliseconds since 1970.
    pub(crate) wall_ms: i64,
}

/// What came of an append.
#[derive(Debug)]
pub(crate) struct Append {
    /// The record's receipt, or what to wait for before the same append is tried again.
    pub(crate) outcome: Result<Receipt, WaitReason>,
    /// A batch that was closed to make room: to be sealed by the caller, outside the lock.
    pub(crate) seal: Option<SealJob>,
    /// The I/O thread has something new to look at.
    pub(crate) wake: bool,
}

/// A closed batch on its way through the compressor.
#[derive(Debug)]
pub(crate) struct SealJob {
    number: u64,
    builder: BatchBuilder,
}

impl SealJob {
    /// Compresses; takes a while, so not under the lock.
    pub(crate) fn run(self) -> Sealed {
        Sealed { number: self.number, batch: self.builder.seal() }
    }
}

/// A compressed batch on its way back.
#[derive(Debug)]
pub(crate) struct Sealed {
    number: u64,
    batch: SealedBatch,
}

/// A batch that is ready to be sent.
#[derive(Debug)]
pub(crate) struct ReadyBatch {
    pub(crate) partition: TopicPartition,
    pub(crate) batch: SealedBatch,
    /// When its first record came.
    pub(crate) created: Instant,
    pub(crate) completion: Arc<Completion>,
    pub(crate) lease: Lease,
}

/// A batch's memory and its place among the unfinished: to be given to [`Accumulator::release`].
#[derive(Debug)]
pub(crate) struct Lease {
    number: u64,
    lane: usize,
    bytes: usize,
    /// Who led the partition when the batch was closed.
    broker: Option<BrokerId>,
}

/// What is known of a topic's partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicShape {
    /// Who leads each, in order.
    pub leaders: Vec<Option<BrokerId>>,
    /// Those that records without a key are to be kept to, as far as there are any: their leaders are in
    /// the client's rack (KIP-1123).
    pub near: Vec<i32>,
}

impl TopicShape {
    /// The partitions with a leader.
    fn available(&self) -> Vec<i32> {
        let led = self.leaders.iter().enumerate().filter(|(_, leader)| leader.is_some());
        led.map(|(partition, _)| partition as i32).collect()
    }
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    /// Per partition, its place in `Accumulator::lanes`.
    lanes: Vec<usize>,
    /// Those with a leader.
    available: Vec<i32>,
    near: Vec<i32>,
    sticky: Sticky,
    /// Why its metadata is not there.
    failure: Option<Error>,
}

/// One partition's way through the accumulator.
#[derive(Debug)]
struct Lane {
    partition: TopicPartition,
    leader: Option<BrokerId>,
    open: Option<Open>,
    /// How large the last batch became: what to reserve for the next.
    expected: usize,
    /// Closed batches whose fate is open.
    unacknowledged: usize,
}

#[derive(Debug)]
struct Open {
    builder: BatchBuilder,
    completion: Arc<Completion>,
    number: u64,
    created: Instant,
    /// Bytes taken from the pool.
    bytes: usize,
}

#[derive(Debug)]
struct Closed {
    lane: usize,
    created: Instant,
    completion: Arc<Completion>,
    number: u64,
    bytes: usize,
    broker: Option<BrokerId>,
    /// `None` while it is being compressed.
    batch: Option<SealedBatch>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Accumulator {
    config: AccumulatorConfig,
    topics: HashMap<Arc<str>, Topic>,
    lanes: Vec<Lane>,
    debts: Debts,
    pool: Pool,
    /// Lanes in the order in which their open batches were opened, with the batch's number: a lane whose
    /// open batch has another number was closed since.
    lingering: VecDeque<(usize, u64)>,
    /// Lanes whose open batch has lingered but could not be sent anyway.
    overdue: Vec<(usize, u64)>,
    closed: VecDeque<Closed>,
    unwatched: Vec<Arc<str>>,
    /// The wall clock for records without a timestamp, at most [`CLOCK_AGE`] old while a batch is open.
    wall_ms: i64,
    /// The other clock, likewise.
    now: Option<Instant>,
    next_number: u64,
    unfinished: BTreeSet<u64>,
    pub(crate) waiters: Waiters,
    /// Who waits for the batches before a number.
    flushes: Vec<(u64, Waker)>,
    /// Why nothing is taken any more.
    refusal: Option<Error>,
}

const CLOCK_AGE: Duration = Duration::from_millis(10);

/// What a partition's first batch reserves: Java's `batch.size`.
const FIRST_BATCH_BYTES: usize = 16 << 10;

/// Topics a producer may know: a bound against names made from data, far above what a cluster holds.
const TOPICS_MAX: usize = 100_000;

impl Accumulator {
    pub(crate) fn new(config: AccumulatorConfig) -> Self {
        Self {
            pool: Pool::new(config.buffer_memory),
            debts: Debts::new(config.availability_timeout),
            config,
            topics: HashMap::new(),
            lanes: Vec::new(),
            lingering: VecDeque::new(),
            overdue: Vec::new(),
            closed: VecDeque::new(),
            unwatched: Vec::new(),
            wall_ms: 0,
            now: None,
            next_number: 0,
            unfinished: BTreeSet::new(),
            waiters: Waiters::default(),
            flushes: Vec::new(),
            refusal: None,
        }
    }

    /// Puts `record` into its partition's open batch. `clock` is read when a batch is opened. Who has
    /// waited gives its `ticket` and is served in its turn.
    ///
    /// # Errors
    /// `RecordTooLarge`, `Usage` (no such partition), or what closed the producer.
    pub(crate) fn append(
        &mut self,
        record: &Record<'_>,
        ticket: Option<u64>,
        clock: impl Fn() -> Moment,
    ) -> Result<Append> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let size = record.size_max();
        self.check_size(record, size)?;
        let Some(lane) = self.choose_lane(record, size)? else {
            let reason = WaitReason::Topic(record.topic.into());
            return Ok(Append { outcome: Err(reason), seal: None, wake: !self.unwatched.is_empty() });
        };
        let (mut seal, mut wake) = (None, false);
        if let Some(open) = &self.lanes[lane].open
            && open.builder.size_bytes() + size > self.config.batch_size
        {
            seal = self.close(lane);
            wake = true;
        }
        if self.lanes[lane].open.is_some() && !self.grow(lane, size, ticket) {
            // `seal` is empty: a batch that was just closed is not open.
            seal = self.close(lane);
        }
        if self.lanes[lane].open.is_none() {
            // A first deadline to watch; the others follow it.
            wake |= self.lingering.is_empty() && self.overdue.is_empty();
            if !self.open(lane, size, ticket, clock) {
                // What is open elsewhere may be all that can free memory: it must not wait for its linger.
                return Ok(Append { outcome: Err(WaitReason::Memory), seal, wake: true });
            }
        }
        let timestamp_ms = record.timestamp_ms.unwrap_or(self.wall_ms);
        let Some(open) = &mut self.lanes[lane].open else {
            return Err(Error::new(ErrorKind::Usage, "append to a batch that is not open"));
        };
        let index = open.builder.append(timestamp_ms, record.key, record.value, record.headers)?;
        let receipt = Receipt::new(Arc::clone(&open.completion), index);
        if let Some(ticket) = ticket {
            self.waiters.leave(ticket);
        }
        Ok(Append { outcome: Ok(receipt), seal, wake })
    }

    fn check_size(&self, record: &Record<'_>, size: usize) -> Result<()> {
        let batch = size + BATCH_HEADER_BYTES;
        let (limit, name) = if self.config.buffer_memory < self.config.max_request_size {
            (self.config.buffer_memory, "buffer.memory")
        } else {
            (self.config.max_request_size, "max.request.size")
        };
        if batch <= limit {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::RecordTooLarge,
            format!(
                "send a record of {size} bytes (key {}, value {}) to {}: a batch of it alone takes {batch} bytes, \
                 {name} is {limit}",
                record.key.map_or(0, <[u8]>::len),
                record.value.map_or(0, <[u8]>::len),
                record.topic,
            ),
        )
        .with_hint(format!("raise {name}, and for a broker's limit the topic's max.message.bytes too")))
    }

    /// The lane for `record`, or `None` while its topic is unknown.
    fn choose_lane(&mut self, record: &Record<'_>, size: usize) -> Result<Option<usize>> {
        let Some(topic) = self.topics.get_mut(record.topic) else {
            self.begin_topic(record.topic)?;
            return Ok(None);
        };
        if topic.lanes.is_empty() {
            return match &topic.failure {
                Some(failure) if !failure.is_retriable() => Err(failure.clone()),
                _ => Ok(None),
            };
        }
        let partitions = topic.lanes.len() as u32;
        let of_application = || {
            let known = TopicPartitions { name: &topic.name, count: partitions, available: &topic.available };
            self.config.partitioner.as_ref()?.partition(record, &known)
        };
        let partition = match record.partition.or_else(of_application) {
            Some(partition) => partition,
            None => match record.key.filter(|_| !self.config.ignore_keys) {
                Some(key) => partition_for_key(key, partitions),
                None => {
                    let Self { lanes, debts, config, now, .. } = self;
                    let is_stalled = |broker| now.is_some_and(|now| debts.is_stalled(broker, now));
                    choose_sticky(topic, lanes, config, is_stalled, size)
                }
            },
        };
        let lane = usize::try_from(partition).ok().and_then(|partition| topic.lanes.get(partition));
        lane.copied().map(Some).ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!("send to partition {partition} of {}, which has {partitions}", record.topic),
            )
        })
    }

    fn begin_topic(&mut self, name: &str) -> Result<()> {
        if self.topics.len() >= TOPICS_MAX {
            let text = format!("send to {name}: this producer already knows {TOPICS_MAX} topics");
            return Err(Error::new(ErrorKind::Usage, text)
                .with_hint("topic names seem to be made from data; use fewer topics"));
        }
        let name: Arc<str> = name.into();
        let topic = Topic {
            name: Arc::clone(&name),
            lanes: Vec::new(),
            available: Vec::new(),
            near: Vec::new(),
            sticky: Sticky::new(self.config.seed.wrapping_add(self.topics.len() as u64)),
            failure: None,
        };
        self.topics.insert(Arc::clone(&name), topic);
        self.unwatched.push(name);
        Ok(())
    }

    /// Takes the memory for `size` more bytes in the lane's open batch.
    fn grow(&mut self, lane: usize, size: usize, ticket: Option<u64>) -> bool {
        let Some(open) = &mut self.lanes[lane].open else { return false };
        let needed = open.builder.size_bytes() + size;
        if needed <= open.bytes {
            return true;
        }
        let wanted = needed.max((open.bytes * 2).min(self.config.batch_size));
        let granted = self.waiters.is_turn(ticket) && self.pool.grow(wanted - open.bytes);
        if granted {
            open.bytes = wanted;
        }
        granted
    }

    /// Opens a batch that has room for a record of `size` bytes.
    fn open(&mut self, lane: usize, size: usize, ticket: Option<u64>, clock: impl Fn() -> Moment) -> bool {
        if !self.waiters.is_turn(ticket) {
            return false;
        }
        let needed = BATCH_HEADER_BYTES + size;
        let wanted = needed.max(self.lanes[lane].expected.min(self.config.batch_size));
        // With little left, a smaller batch is better than none.
        let Some((buffer, bytes)) = self.pool.take(wanted).or_else(|| self.pool.take(needed)) else {
            return false;
        };
        let moment = clock();
        self.set_clock(moment);
        let number = self.next_number;
        self.next_number += 1;
        self.unfinished.insert(number);
        self.lingering.push_back((lane, number));
        self.lanes[lane].open = Some(Open {
            builder: BatchBuilder::with_buffer(self.config.compression, buffer),
            completion: Arc::default(),
            number,
            created: moment.now,
            bytes,
        });
        true
    }

    fn set_clock(&mut self, moment: Moment) {
        self.wall_ms = moment.wall_ms;
        self.now = Some(moment.now);
    }

    /// Takes the lane's open batch, if any, out of reach of appends. What is not compressed is ready at
    /// once, the rest when it has gone through [`SealJob::run`] and [`Self::sealed`].
    fn close(&mut self, lane: usize) -> Option<SealJob> {
        let Open { builder, completion, number, created, bytes } = self.lanes[lane].open.take()?;
        let at = &mut self.lanes[lane];
        at.unacknowledged += 1;
        let broker = at.leader;
        if let (Some(broker), Some(now)) = (broker, self.now) {
            self.debts.add(broker, now);
        }
        // Half of what it grows to is copied once; a partition that slows down shrinks again.
        at.expected = builder.size_bytes().next_power_of_two().max(at.expected / 2).max(FIRST_BATCH_BYTES);
        let job = SealJob { number, builder };
        let (batch, job) = match self.config.compression.codec() {
            Codec::None => (Some(job.run().batch), None),
            _ => (None, Some(job)),
        };
        self.closed.push_back(Closed { lane, created, completion, number, bytes, broker, batch });
        job
    }

    /// A closed batch has been compressed; the answer is whether one is ready now.
    pub(crate) fn sealed(&mut self, sealed: Sealed) -> bool {
        if let Some(closed) = self.closed.iter_mut().find(|closed| closed.number == sealed.number) {
            closed.batch = Some(sealed.batch);
        }
        self.closed.front().is_some_and(|closed| closed.batch.is_some())
    }

    /// Closes what has lingered long enough, or everything when memory is wanted; the caller seals.
    pub(crate) fn close_due(&mut self, moment: Moment) -> Vec<SealJob> {
        self.set_clock(moment);
        let is_pressed = self.waiters.is_memory_wanted();
        let mut jobs = Vec::new();
        while let Some(&(lane, number)) = self.lingering.front() {
            match self.lanes[lane].open.as_ref().filter(|open| open.number == number) {
                Some(open) if !is_pressed && moment.now < open.created + self.config.linger => break,
                Some(_) => self.overdue.push((lane, number)),
                None => {} // it was closed since
            }
            self.lingering.pop_front();
        }
        for (lane, number) in std::mem::take(&mut self.overdue) {
            let at = &self.lanes[lane];
            if at.open.as_ref().is_none_or(|open| open.number != number) {
                continue;
            }
            if at.unacknowledged < self.config.max_in_flight || is_pressed {
                jobs.extend(self.close(lane));
            } else {
                self.overdue.push((lane, number));
            }
        }
        jobs
    }

    /// When [`Self::close_due`] should be called at the latest; with something open, soon enough for the
    /// clock that the records' timestamps come from.
    pub(crate) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let clock = now + CLOCK_AGE;
        let front = self.lingering.iter().find_map(|&(lane, number)| {
            let open = self.lanes[lane].open.as_ref().filter(|open| open.number == number)?;
            Some((open.created + self.config.linger).min(clock))
        });
        let overdue = (!self.overdue.is_empty()).then_some(clock);
        [front, overdue, self.waiters.expire(now)].into_iter().flatten().min()
    }

    /// The next batch to send.
    pub(crate) fn pop_ready(&mut self) -> Option<ReadyBatch> {
        self.closed.front()?.batch.as_ref()?;
        let Closed { lane, created, completion, number, bytes, broker, batch } = self.closed.pop_front()?;
        Some(ReadyBatch {
            partition: self.lanes[lane].partition.clone(),
            batch: batch?,
            created,
            completion,
            lease: Lease { number, lane, bytes, broker },
        })
    }

    /// A batch's fate is known: its memory and its place are free again.
    pub(crate) fn release(&mut self, lease: Lease, buffer: Option<BytesMut>) {
        if let (Some(broker), Some(now)) = (lease.broker, self.now) {
            self.debts.settle(broker, now);
        }
        self.pool.give_back(lease.bytes, buffer);
        self.lanes[lease.lane].unacknowledged -= 1;
        self.unfinished.remove(&lease.number);
        self.waiters.wake_first();
        let first = self.unfinished.first().copied().unwrap_or(u64::MAX);
        self.flushes.retain(|(number, waker)| {
            let waits = first < *number;
            if !waits {
                waker.wake_by_ref();
            }
            waits
        });
    }

    /// Topics that somebody wants to send to and whose metadata nobody watches yet.
    pub(crate) fn take_unwatched(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.unwatched)
    }

    /// Metadata of a topic has come, or the reason why not.
    pub(crate) fn update_topic(&mut self, name: &str, shape: Result<TopicShape>) {
        let Some(topic) = self.topics.get_mut(name) else { return };
        match shape {
            Ok(shape) => {
                topic.failure = None;
                // Partitions are never taken away while a producer lives: a topic that was created anew
                // with fewer answers for those beyond its end itself.
                for partition in topic.lanes.len()..shape.leaders.len() {
                    topic.lanes.push(self.lanes.len());
                    self.lanes.push(Lane {
                        partition: TopicPartition::new(Arc::clone(&topic.name), partition as i32),
                        leader: None,
                        open: None,
                        expected: FIRST_BATCH_BYTES,
                        unacknowledged: 0,
                    });
                }
                for (lane, leader) in topic.lanes.iter().zip(&shape.leaders) {
                    self.lanes[*lane].leader = *leader;
                }
                let available = shape.available();
                if (&topic.available, &topic.near) != (&available, &shape.near) {
                    topic.available = available;
                    topic.near = shape.near;
                    topic.sticky.leave();
                }
            }
            Err(failure) => topic.failure = Some(failure),
        }
        self.waiters.wake_topic(name);
    }

    /// Why a wait for the topic was in vain, as far as it is known.
    pub(crate) fn topic_failure(&self, name: &str) -> Option<&Error> {
        self.topics.get(name)?.failure.as_ref()
    }

    /// Closes everything open, whatever its linger: to be sealed by the caller. The number is for
    /// [`Self::poll_flushed`].
    pub(crate) fn flush(&mut self) -> (u64, Vec<SealJob>) {
        self.overdue.clear();
        let open: Vec<_> = (0..self.lanes.len()).filter(|lane| self.lanes[*lane].open.is_some()).collect();
        let jobs = open.into_iter().filter_map(|lane| self.close(lane)).collect();
        self.lingering.clear();
        (self.next_number, jobs)
    }

    /// Whether every batch before `number` has met its fate; if not, `waker` is woken when so.
    pub(crate) fn poll_flushed(&mut self, number: u64, waker: &Waker) -> bool {
        let done = self.unfinished.first().is_none_or(|first| *first >= number);
        if !done && !self.flushes.iter().any(|(of, known)| *of == number && known.will_wake(waker)) {
            self.flushes.push((number, waker.clone()));
        }
        done
    }

    /// Batches whose fate is not known.
    pub(crate) fn unfinished(&self) -> usize {
        self.unfinished.len()
    }

    /// Gives up the batches that nobody has taken to send; their receipts are to be told.
    pub(crate) fn abandon(&mut self) -> Vec<Arc<Completion>> {
        let open = self.lanes.iter_mut().filter_map(|lane| lane.open.take());
        let mut abandoned: Vec<_> = open.map(|open| (open.number, open.completion)).collect();
        abandoned.extend(self.closed.drain(..).map(|closed| (closed.number, closed.completion)));
        for (number, _) in &abandoned {
            self.unfinished.remove(number);
        }
        self.flushes.drain(..).for_each(|(_, waker)| waker.wake());
        abandoned.into_iter().map(|(_, completion)| completion).collect()
    }

    /// Takes nothing more: every append answers `reason` from now on.
    pub(crate) fn refuse(&mut self, reason: Error) {
        self.refusal.get_or_insert(reason);
        self.waiters.wake_all();
    }
}

/// A partition for a record that nothing else decides; see [`Sticky`].
fn choose_sticky(
    topic: &mut Topic,
    lanes: &[Lane],
    config: &AccumulatorConfig,
    is_stalled: impl Fn(BrokerId) -> bool,
    size: usize,
) -> i32 {
    let Topic { lanes: places, available, near, sticky, .. } = topic;
    let candidates = if near.is_empty() { available } else { near };
    let queued = |partition: i32| {
        if !config.is_adaptive {
            return Some(0);
        }
        let lane = lanes.get(*places.get(usize::try_from(partition).ok()?)?)?;
        let is_stalled = lane.leader.is_some_and(&is_stalled);
        (!is_stalled).then_some(lane.unacknowledged)
    };
    let partition = sticky.partition(candidates, places.len() as u32, queued);
    sticky.record(size, config.batch_size.max(1));
    partition
}
