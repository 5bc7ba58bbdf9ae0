//! Where records wait to become batches: encoded on the caller's thread, sealed by size or by time.
//!
//! A value without lock or clock: the rim keeps it behind one mutex, and reads the clock once per batch.
//!
//! Invariants: batches leave in the order in which they were closed, also when several threads compress
//! at a time; what open and unacknowledged batches take never exceeds `buffer.memory`; who waits for
//! memory is served in the order of arrival.

mod lane;
mod lingering;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use lane::{Closed, FIRST_BATCH_BYTES, Lane, Open};
pub(crate) use lane::{Lease, ReadyBatch, SealJob, Sealed};
use lingering::Lingering;
pub use topics::TopicShape;
use topics::Topics;

use super::debts::Debts;
use super::partitioner::Partitioner;
use super::pool::Pool;
use super::receipt::{Completion, Receipt};
use super::record::Record;
use super::waiters::{WaitReason, Waiters};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{BATCH_HEADER_BYTES, BatchBuilder, Compression};
use crate::types::{Codec, TopicPartition};

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

/// See the module.
#[derive(Debug)]
pub(crate) struct Accumulator {
    config: AccumulatorConfig,
    topics: Topics,
    lanes: Vec<Lane>,
    debts: Debts,
    pool: Pool,
    lingering: Lingering,
    closed: VecDeque<Closed>,
    /// How many batches have left `closed`.
    taken: u64,
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

impl Accumulator {
    pub(crate) fn new(config: AccumulatorConfig) -> Self {
        Self {
            pool: Pool::new(config.buffer_memory),
            debts: Debts::new(config.availability_timeout),
            config,
            topics: Topics::default(),
            lanes: Vec::new(),
            lingering: Lingering::default(),
            closed: VecDeque::new(),
            taken: 0,
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
        // A partition's records keep the order in which they came, also those that came before the topic was known.
        let is_turn = self.waiters.is_turn_for(record.topic, ticket);
        let lane = if is_turn { self.choose_lane(record, size)? } else { None };
        let Some(lane) = lane else {
            let reason = WaitReason::Topic(record.topic.into());
            return Ok(Append { outcome: Err(reason), seal: None, wake: self.topics.has_unwatched() });
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
            wake |= self.lingering.is_empty();
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
        let Self { topics, lanes, debts, config, now, .. } = self;
        let is_stalled = |broker| now.is_some_and(|now| debts.is_stalled(broker, now));
        topics.choose(record, size, config, |lane| {
            let lane = lanes.get(lane)?;
            (!lane.leader.is_some_and(is_stalled)).then_some(lane.unacknowledged)
        })
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
        self.lingering.opened(number, lane);
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
        self.lingering.closed(number);
        let at = &mut self.lanes[lane];
        at.unacknowledged += 1;
        let broker = at.leader;
        if let (Some(broker), Some(now)) = (broker, self.now) {
            self.debts.add(broker, now);
        }
        // Half of what it grows to is copied once; a partition that slows down shrinks again.
        at.expected = builder.size_bytes().next_power_of_two().max(at.expected / 2).max(FIRST_BATCH_BYTES);
        let job = SealJob { place: self.taken + self.closed.len() as u64, builder };
        let (batch, job) = match self.config.compression.codec() {
            Codec::None => (Some(job.run().batch), None),
            _ => (None, Some(job)),
        };
        self.closed.push_back(Closed { lane, created, completion, number, bytes, broker, batch });
        job
    }

    /// A closed batch has been compressed; the answer is whether one is ready now.
    pub(crate) fn sealed(&mut self, sealed: Sealed) -> bool {
        let place = sealed.place.checked_sub(self.taken).and_then(|place| usize::try_from(place).ok());
        if let Some(closed) = place.and_then(|place| self.closed.get_mut(place)) {
            closed.batch = Some(sealed.batch);
        }
        self.closed.front().is_some_and(|closed| closed.batch.is_some())
    }

    /// Closes what has lingered long enough, or everything when memory is wanted; the caller seals.
    pub(crate) fn close_due(&mut self, moment: Moment) -> Vec<SealJob> {
        self.set_clock(moment);
        if self.waiters.is_memory_wanted() {
            return self.close_all();
        }
        let mut jobs = Vec::new();
        while let Some(lane) = self.lingering.first() {
            let at = &self.lanes[lane];
            if at.open.as_ref().is_some_and(|open| moment.now < open.created + self.config.linger) {
                break;
            }
            if at.unacknowledged < self.config.max_in_flight && at.open.is_some() {
                jobs.extend(self.close(lane));
            } else {
                self.lingering.defer_first();
            }
        }
        jobs
    }

    fn close_all(&mut self) -> Vec<SealJob> {
        self.lingering.lanes().into_iter().filter_map(|lane| self.close(lane)).collect()
    }

    /// When [`Self::close_due`] should be called at the latest; with something open, soon enough for the
    /// clock that the records' timestamps come from.
    pub(crate) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let clock = (!self.lingering.is_empty()).then_some(now + CLOCK_AGE);
        let first = self.lingering.first().and_then(|lane| self.lanes[lane].open.as_ref());
        let due = first.map(|open| open.created + self.config.linger);
        [due, clock, self.waiters.expire(now)].into_iter().flatten().min()
    }

    /// The next batch to send.
    pub(crate) fn pop_ready(&mut self) -> Option<ReadyBatch> {
        self.closed.front()?.batch.as_ref()?;
        let Closed { lane, created, completion, number, bytes, broker, batch } = self.closed.pop_front()?;
        self.taken += 1;
        Some(ReadyBatch {
            partition: self.lanes[lane].partition.clone(),
            batch: batch?,
            created,
            completion,
            lease: Lease { number, lane, bytes, broker },
        })
    }

    /// Whether what was appended before everything was refused is still being compressed somewhere.
    pub(crate) fn is_sealing_the_last(&self) -> bool {
        self.refusal.is_some() && self.closed.iter().any(|closed| closed.batch.is_none())
    }

    /// A batch's fate is known: its memory and its place are free again.
    pub(crate) fn release(&mut self, lease: Lease, buffer: Option<BytesMut>) {
        if let (Some(broker), Some(now)) = (lease.broker, self.now) {
            self.debts.settle(broker, now);
        }
        self.pool.give_back(lease.bytes, buffer);
        let lane = &mut self.lanes[lease.lane];
        lane.unacknowledged -= 1;
        if let Some(open) = lane.open.as_ref().filter(|_| lane.unacknowledged < self.config.max_in_flight) {
            self.lingering.recall(open.number);
        }
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
        self.topics.take_unwatched()
    }

    /// Metadata of a topic has come, or the reason why not.
    pub(crate) fn update_topic(&mut self, name: &str, shape: Result<TopicShape>) {
        let Self { topics, lanes, .. } = self;
        match shape {
            Ok(shape) => {
                let places = topics.update(name, &shape, |topic, partition| {
                    lanes.push(Lane::new(TopicPartition::new(Arc::clone(topic), partition)));
                    lanes.len() - 1
                });
                for (place, leader) in places.iter().zip(&shape.leaders) {
                    lanes[*place].leader = *leader;
                }
            }
            Err(failure) => topics.fail(name, failure),
        }
        self.waiters.wake_topic(name);
    }

    /// Why a wait for the topic was in vain, as far as it is known.
    pub(crate) fn topic_failure(&self, name: &str) -> Option<&Error> {
        self.topics.failure(name)
    }

    /// Closes everything open, whatever its linger: to be sealed by the caller. The number is for
    /// [`Self::poll_flushed`].
    pub(crate) fn flush(&mut self) -> (u64, Vec<SealJob>) {
        (self.next_number, self.close_all())
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
        let open = std::mem::take(&mut self.lingering).lanes();
        let open = open.into_iter().filter_map(|lane| self.lanes[lane].open.take());
        let mut abandoned: Vec<_> = open.map(|open| (open.number, open.completion)).collect();
        self.taken += self.closed.len() as u64;
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
