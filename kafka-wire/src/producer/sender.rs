//! Sealed batches on their way to the partitions' leaders: order, sequences, retries, expiry.
//!
//! A value without connections: [`Sender::poll_call`] says what to send, [`Sender::handle_answer`] takes
//! what came back, and each batch's [`Done`] is called exactly once.
//!
//! Invariants, per partition:
//! - Batches are acknowledged or failed, never reordered: a batch is sent only when all before it are on
//!   the wire to the same broker, and after a failure one at a time until the front is settled.
//! - A batch keeps producer id, epoch and sequence for as long as its fate is open: sent again, it can
//!   only be recognised as a duplicate. Sequences start anew (KIP-360) only after the broker has refused
//!   the front as out of order, and with nothing on the wire.

mod queue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt as _};

use super::batch::Batch;
use super::measures::Measures;
use super::verdict::{Verdict, fenced, verdict};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::record::SealedBatch;
use crate::time::{Backoff, Rng};
use crate::txn::Admission;
use crate::types::{BrokerId, ProducerIdentity, TopicPartition};
use queue::{Entry, Queue, sequence_after};

/// What the sender takes from the producer's configuration.
#[derive(Clone, Debug)]
pub(crate) struct SenderConfig {
    pub(crate) is_idempotent: bool,
    pub(crate) is_transactional: bool,
    /// Unanswered requests per broker, and unacknowledged batches on the wire per partition.
    pub(crate) max_in_flight: usize,
    pub(crate) max_request_size: usize,
    /// How often a batch is sent again.
    pub(crate) retries: u32,
    pub(crate) delivery_timeout: Duration,
    pub(crate) retry_backoff: Backoff,
    pub(crate) seed: u64,
}

/// Names one produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallId(u64);

/// A produce request to make.
#[derive(Debug)]
pub(crate) struct ProduceCall {
    pub(crate) id: CallId,
    pub(crate) broker: BrokerId,
    /// At most one per partition, as brokers demand.
    pub(crate) batches: Vec<StampedBatch>,
}

/// A batch and what is written into its header.
#[derive(Debug)]
pub(crate) struct StampedBatch {
    pub(crate) partition: TopicPartition,
    pub(crate) records: SealedBatch,
    pub(crate) stamp: Option<Stamp>,
}

/// Who wrote a batch, and its place among what that producer wrote to the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) identity: ProducerIdentity,
    pub(crate) base_sequence: i32,
}

/// What a broker answered for one partition.
#[derive(Clone, Debug)]
pub(crate) struct PartitionAnswer {
    pub(crate) partition: TopicPartition,
    pub(crate) error: Option<ErrorCode>,
    /// −1 where not told.
    pub(crate) base_offset: i64,
    pub(crate) append_time_ms: Option<i64>,
    /// The broker's own words about the error.
    pub(crate) message: Option<String>,
}

impl PartitionAnswer {
    /// With `acks=0`, of a request that has left.
    pub(crate) fn unanswered(partition: &TopicPartition) -> Self {
        let partition = partition.clone();
        Self { partition, error: None, base_offset: -1, append_time_ms: None, message: None }
    }
}

/// Where a batch may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To this leader.
    Leader(BrokerId),
    /// Nobody is known to lead the partition.
    NoLeader,
    /// The transaction does not hold the partition yet.
    Hold,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sender {
    config: SenderConfig,
    places: HashMap<TopicPartition, usize>,
    queues: Vec<Queue>,
    /// Places of queues to look at: something has changed, and where they may go is not known.
    unrouted: Vec<usize>,
    /// Places of queues that may go nowhere before metadata changes.
    leaderless: Vec<usize>,
    /// Places of queues that may go nowhere before the transaction takes more.
    held: Vec<usize>,
    /// Places of queues with something to send, per leader, in the order of their turns. What is done for a
    /// request is in proportion to what it holds, and not to the number of partitions.
    ready: BTreeMap<BrokerId, VecDeque<usize>>,
    /// Places of queues that wait before they try again.
    delayed: BTreeSet<(Instant, usize)>,
    /// The metadata that `ready` and `leaderless` follow.
    generation: u64,
    /// The transaction that `held` follows.
    admission: Admission,
    /// Batches without their fate.
    unsettled: usize,
    /// When to look whether the first batch of a queue has expired.
    expiries: BTreeSet<(Instant, usize)>,
    /// Unanswered requests.
    calls: HashMap<CallId, OnWire>,
    in_flight: HashMap<BrokerId, usize>,
    identity: Option<ProducerIdentity>,
    next_call: u64,
    rng: Rng,
    is_metadata_stale: bool,
    /// The first failure since it was last taken.
    failure: Option<Error>,
    /// Set while nothing is tried again: why.
    giving_up: Option<Error>,
    measures: Measures,
}

#[derive(Debug)]
struct OnWire {
    broker: BrokerId,
    queues: Vec<usize>,
}

impl Sender {
    pub(crate) fn new(config: SenderConfig) -> Self {
        Self {
            rng: Rng::new(config.seed),
            config,
            places: HashMap::new(),
            queues: Vec::new(),
            unrouted: Vec::new(),
            leaderless: Vec::new(),
            held: Vec::new(),
            ready: BTreeMap::new(),
            delayed: BTreeSet::new(),
            generation: 0,
            admission: Admission::default(),
            unsettled: 0,
            expiries: BTreeSet::new(),
            calls: HashMap::new(),
            in_flight: HashMap::new(),
            identity: None,
            next_call: 0,
            is_metadata_stale: false,
            failure: None,
            giving_up: None,
            measures: Measures::default(),
        }
    }

    /// Puts a batch behind its partition's others.
    pub(crate) fn push(&mut self, batch: Batch) {
        if let Some(reason) = &self.giving_up {
            let reason = reason.clone();
            return batch.fail(reason);
        }
        let place = *self.places.entry(batch.partition.clone()).or_insert_with(|| {
            self.queues.push(Queue::new(batch.partition.clone()));
            self.queues.len() - 1
        });
        self.unsettled += 1;
        let queue = &mut self.queues[place];
        if !std::mem::replace(&mut queue.is_timed, true) {
            self.expiries.insert((batch.created + self.config.delivery_timeout, place));
        }
        queue.entries.push_back(Entry {
            batch,
            stamp: None,
            call: None,
            attempts: 0,
            has_failed: false,
            possibly_written: false,
            last_error: None,
            span: tracing::Span::none(),
        });
        self.look_at(place);
    }

    /// Something has changed that may let a queue send.
    fn look_at(&mut self, place: usize) {
        let queue = &mut self.queues[place];
        if !queue.entries.is_empty() && !std::mem::replace(&mut queue.is_listed, true) {
            self.unrouted.push(place);
        }
    }

    /// Who writes from now on. Batches whose fate is open keep who they were sent by.
    pub(crate) fn identify(&mut self, identity: ProducerIdentity) {
        self.identity = Some(identity);
    }

    /// Whether a producer id is needed before anything can be sent.
    pub(crate) fn needs_identity(&self) -> bool {
        self.config.is_idempotent && self.identity.is_none()
    }

    /// The partitions of which it is not known where they may go.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &TopicPartition> {
        self.unrouted.iter().map(|place| &self.queues[*place].partition)
    }

    /// Whether every batch has met its fate.
    pub(crate) fn is_empty(&self) -> bool {
        self.unsettled == 0
    }

    /// Whether nothing is on the wire.
    pub(crate) fn is_quiet(&self) -> bool {
        self.calls.is_empty()
    }

    /// The broker that a request went to.
    pub(crate) fn broker_of(&self, id: CallId) -> Option<BrokerId> {
        self.calls.get(&id).map(|call| call.broker)
    }

    /// The partitions that a request has batches for.
    pub(crate) fn partitions_of(&self, id: CallId) -> impl Iterator<Item = &TopicPartition> {
        let places = self.calls.get(&id).map_or(&[][..], |call| &call.queues);
        places.iter().map(|place| &self.queues[*place].partition)
    }

    /// The first failure of a batch since the last call.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Whether an answer said that the metadata is wrong, since the last call.
    pub(crate) fn take_metadata_stale(&mut self) -> bool {
        std::mem::take(&mut self.is_metadata_stale)
    }

    /// Looks again at what waits for metadata or for the transaction, where these have changed; before
    /// [`Self::route`].
    pub(crate) fn follow(&mut self, generation: u64, admission: Admission) {
        if std::mem::replace(&mut self.generation, generation) != generation {
            self.unrouted.extend(std::mem::take(&mut self.ready).into_values().flatten());
            self.unrouted.append(&mut self.leaderless);
        }
        if std::mem::replace(&mut self.admission, admission) != admission {
            self.unrouted.append(&mut self.held);
        }
    }

    /// Finds out where batches may go; before [`Self::poll_call`].
    pub(crate) fn route(&mut self, now: Instant, route: &mut dyn FnMut(&TopicPartition) -> Route) {
        while let Some(&(time, place)) = self.delayed.first()
            && time <= now
        {
            self.delayed.pop_first();
            self.look_at(place);
        }
        for place in std::mem::take(&mut self.unrouted) {
            let queue = &mut self.queues[place];
            if queue.sendable(now, self.config.max_in_flight).is_none() {
                // An answer, or the end of its delay, will bring it back.
                queue.is_listed = false;
                continue;
            }
            match route(&queue.partition) {
                Route::Leader(broker) => self.ready.entry(broker).or_default().push_back(place),
                Route::Hold => self.held.push(place),
                Route::NoLeader => self.leaderless.push(place),
            }
        }
        self.is_metadata_stale |= !self.leaderless.is_empty();
    }

    /// The next request to make, until there is none.
    pub(crate) fn poll_call(
        &mut self,
        now: Instant,
        route: &mut dyn FnMut(&TopicPartition) -> Route,
    ) -> Option<ProduceCall> {
        if self.needs_identity() {
            return None;
        }
        let brokers: Vec<BrokerId> = self.ready.keys().copied().collect();
        brokers.into_iter().find_map(|broker| {
            let in_flight = self.in_flight.get(&broker).copied().unwrap_or(0);
            if in_flight >= self.config.max_in_flight { None } else { self.fill(now, broker, route) }
        })
    }

    pub(crate) fn measures(&self) -> &Measures {
        &self.measures
    }

    /// A request to `broker` with a batch of each partition whose turn it is, as many as it holds.
    fn fill(
        &mut self,
        now: Instant,
        broker: BrokerId,
        route: &mut dyn FnMut(&TopicPartition) -> Route,
    ) -> Option<ProduceCall> {
        let id = CallId(self.next_call);
        let mut turns = self.ready.remove(&broker)?;
        let (mut batches, mut places, mut more) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bytes, mut records) = (0, 0);
        while let Some(place) = turns.pop_front() {
            let queue = &mut self.queues[place];
            queue.is_listed = false;
            let Some(index) = queue.sendable(now, self.config.max_in_flight) else { continue };
            if route(&queue.partition) != Route::Leader(broker) {
                self.look_at(place);
                continue;
            }
            let size = queue.entries[index].batch.records.size_bytes();
            if bytes > 0 && bytes + size > self.config.max_request_size {
                queue.is_listed = true;
                turns.push_front(place);
                break;
            }
            let is_elsewhere = queue.on_wire > 0 && queue.broker != broker;
            if is_elsewhere || (self.config.is_idempotent && !queue.stamp(index, self.identity)) {
                // What is on the wire must be answered first, which will bring it back.
                continue;
            }
            bytes += size;
            let entry = &queue.entries[index];
            records += entry.batch.records.records();
            if entry.attempts == 0 && !entry.has_failed {
                self.measures.sent(now, &entry.batch);
            }
            batches.push(queue.put_on_wire(index, id, broker));
            places.push(place);
            if queue.sendable(now, self.config.max_in_flight).is_some() {
                queue.is_listed = true;
                more.push(place);
            }
        }
        turns.extend(more);
        if !turns.is_empty() {
            self.ready.insert(broker, turns);
        }
        if batches.is_empty() {
            return None;
        }
        self.measures.requested(now, records);
        self.next_call += 1;
        *self.in_flight.entry(broker).or_default() += 1;
        self.calls.insert(id, OnWire { broker, queues: places });
        Some(ProduceCall { id, broker, batches })
    }

    /// What came of a request: an answer per partition, or the reason why there is none.
    pub(crate) fn handle_answer(&mut self, now: Instant, id: CallId, answer: Result<Vec<PartitionAnswer>>) {
        let Some(OnWire { broker, queues }) = self.calls.remove(&id) else { return };
        if let Some(calls) = self.in_flight.get_mut(&broker) {
            *calls -= 1;
        }
        let answer = answer.map(|answers| {
            let by_partition = answers.into_iter().map(|answer| (answer.partition.clone(), answer));
            by_partition.collect::<HashMap<_, _>>()
        });
        for place in queues {
            self.queues[place].on_wire -= 1;
            let verdict = match &answer {
                Ok(answers) => match answers.get(&self.queues[place].partition) {
                    Some(answer) => verdict(answer),
                    None => Verdict::Retry {
                        error: Error::new(ErrorKind::Protocol, "the broker answered without this partition"),
                        possibly_written: true,
                        is_metadata_stale: true,
                    },
                },
                Err(error) => Verdict::of_failed_call(error),
            };
            self.settle(now, place, id, verdict, broker);
            if self.queues[place].is_resetting && self.queues[place].on_wire == 0 {
                self.reset_sequences(place);
            }
            self.look_at(place);
        }
    }

    fn settle(&mut self, now: Instant, place: usize, id: CallId, verdict: Verdict, broker: BrokerId) {
        let queue = &mut self.queues[place];
        // Expired batches are gone: their answer comes too late to matter.
        let Some(index) = queue.entries.iter().position(|entry| entry.call == Some(id)) else { return };
        queue.entries[index].call = None;
        match verdict {
            Verdict::Written { base_offset, append_time_ms } => {
                queue.failures = 0;
                queue.not_before = None;
                let stamp = queue.entries[index].stamp;
                queue.has_gap &= stamp.is_none();
                queue.is_acquainted |= stamp.is_some_and(|stamp| queue.identity == Some(stamp.identity));
                if let Some(entry) = queue.entries.remove(index) {
                    self.unsettled -= 1;
                    entry.span.in_scope(|| tracing::trace!(base_offset, "written"));
                    entry.batch.succeed(base_offset, append_time_ms);
                }
            }
            Verdict::Retry { error, possibly_written, is_metadata_stale } => {
                queue.entries[index].possibly_written |= possibly_written;
                self.is_metadata_stale |= is_metadata_stale;
                if self.giving_up.is_some() || queue.entries[index].attempts > self.config.retries {
                    self.fail(place, index, error.with_broker(broker));
                } else {
                    self.retry_later(now, place, index, error);
                }
            }
            // Only a coordinator raises the epoch of a transactional producer behind its back.
            Verdict::OutOfOrder(error)
                if self.config.is_transactional
                    && error.code() == Some(ErrorCode::INVALID_PRODUCER_EPOCH) =>
            {
                self.fail(place, index, fenced(error.with_broker(broker)));
            }
            Verdict::OutOfOrder(error) if index > 0 => self.retry_later(now, place, index, error),
            Verdict::OutOfOrder(_) if !self.config.is_transactional && self.giving_up.is_none() => {
                queue.entries[index].has_failed = true;
                queue.is_resetting = true;
            }
            Verdict::TooLarge(error) => self.split(place, index, error.with_broker(broker)),
            Verdict::OutOfOrder(error) | Verdict::Failed(error) => {
                self.fail(place, index, error.with_broker(broker));
            }
        }
    }

    /// Puts two halves in the place of a batch that the broker refused for its size; they share its sequence
    /// numbers, which nobody has seen. What may have been written all the same keeps its numbers and fails.
    fn split(&mut self, place: usize, index: usize, error: Error) {
        let queue = &mut self.queues[place];
        if self.giving_up.is_some() || queue.entries[index].possibly_written {
            return self.fail(place, index, error);
        }
        let Some(Entry { batch, stamp, last_error, .. }) = queue.entries.remove(index) else { return };
        tracing::debug!(partition = %queue.partition, %error, "a batch is split");
        self.measures.split();
        let entry = |batch, stamp| Entry {
            batch,
            stamp,
            call: None,
            attempts: 0,
            // One at a time: what was sent behind it is refused as out of order, and comes after both.
            has_failed: true,
            possibly_written: false,
            last_error: last_error.clone(),
            span: tracing::Span::none(),
        };
        let (front, back) = batch.split();
        let Some(back) = back else {
            queue.entries.insert(index, entry(front, stamp));
            return self.fail(place, index, error);
        };
        let of_back = stamp.map(|stamp| Stamp {
            base_sequence: sequence_after(stamp.base_sequence, front.records.records()),
            ..stamp
        });
        self.unsettled += 1;
        queue.entries.insert(index, entry(back, of_back));
        queue.entries.insert(index, entry(front, stamp));
    }

    fn retry_later(&mut self, now: Instant, place: usize, index: usize, error: Error) {
        let queue = &mut self.queues[place];
        tracing::debug!(partition = %queue.partition, %error, "a batch is to be sent again");
        queue.entries[index].has_failed = true;
        queue.entries[index].last_error = Some(error);
        self.measures.retried(queue.entries[index].batch.records.records());
        // One failure of several batches on the wire is one reason to wait.
        if index == 0 || queue.not_before.is_none_or(|time| time <= now) {
            queue.failures = queue.failures.saturating_add(1);
            let again = now + self.config.retry_backoff.delay(queue.failures, &mut self.rng);
            queue.not_before = Some(again);
            self.delayed.insert((again, place));
        }
    }

    /// Takes a batch out with an error.
    fn fail(&mut self, place: usize, index: usize, error: Error) {
        let queue = &mut self.queues[place];
        let Some(entry) = queue.entries.remove(index) else { return };
        self.unsettled -= 1;
        let error = if entry.possibly_written { error.with_possibly_written() } else { error };
        let error = error.with_partition(queue.partition.clone()).with_api("Produce");
        queue.forget_sequence(index, &entry);
        self.failure.get_or_insert_with(|| error.clone());
        self.measures.failed(entry.batch.records.records());
        entry.batch.fail(error);
    }

    /// Sequences of the partition start at 0 in a new epoch (KIP-360). The epoch is raised here, as Java
    /// does for a producer without transactions: brokers accept any higher one. When there is none, a new
    /// producer id is needed.
    fn reset_sequences(&mut self, place: usize) {
        let queue = &mut self.queues[place];
        queue.is_resetting = false;
        if queue.identity.is_some() && queue.identity == self.identity {
            self.identity = self.identity.and_then(|identity| {
                let epoch = identity.epoch.checked_add(1)?;
                Some(ProducerIdentity { epoch, ..identity })
            });
        }
        tracing::warn!(
            partition = %queue.partition, old = ?queue.identity, new = ?self.identity,
            "the broker has lost or never got earlier batches: sequences start anew"
        );
        if std::mem::take(&mut queue.has_gap) {
            // They may lie behind the expired batch in a connection that the broker has yet to read; sent
            // under a new epoch too, they would be there twice.
            while let Some(index) = self.queues[place].entries.iter().position(|entry| entry.possibly_written)
            {
                let code = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
                let error = Error::broker(code, self.queues[place].entries[index].batch.describe())
                    .with_hint(
                        "an earlier batch had expired; whether these records are there only a read can tell",
                    );
                self.fail(place, index, error);
            }
        }
        let queue = &mut self.queues[place];
        queue.entries.iter_mut().for_each(|entry| entry.stamp = None);
        queue.identity = None;
        queue.is_acquainted = false;
    }

    /// Fails what is older than the delivery timeout, on the wire or not.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(&(time, place)) = self.expiries.first()
            && time <= now
        {
            self.expiries.pop_first();
            self.queues[place].is_timed = false;
            self.expire_front(now, place);
        }
    }

    fn expire_front(&mut self, now: Instant, place: usize) {
        while let Some(front) = self.queues[place].entries.front_mut() {
            let expiry = front.batch.created + self.config.delivery_timeout;
            if now < expiry {
                self.queues[place].is_timed = true;
                self.expiries.insert((expiry, place));
                return;
            }
            front.possibly_written |= front.call.is_some();
            let text = format!(
                "{} within delivery.timeout.ms={}",
                front.batch.describe(),
                self.config.delivery_timeout.as_millis()
            );
            let mut error = Error::new(ErrorKind::Timeout, text);
            if let Some(cause) = front.last_error.take() {
                error = error.with_cause(cause);
            }
            self.fail(place, 0, error);
            // What stood behind it may go now.
            self.look_at(place);
        }
    }

    /// Fails everything that is not on the wire, and what is there as soon as it fails once; nothing new
    /// is taken until [`Self::resume`].
    pub(crate) fn give_up(&mut self, reason: &Error) {
        self.giving_up.get_or_insert_with(|| reason.clone());
        self.fail_queued(reason);
    }

    /// Fails everything that is not on the wire.
    pub(crate) fn fail_queued(&mut self, reason: &Error) {
        for place in self.filled() {
            while let Some(index) = self.queues[place].entries.iter().position(|entry| entry.call.is_none()) {
                self.fail(place, index, reason.clone());
            }
        }
    }

    /// Fails everything, on the wire or not.
    pub(crate) fn fail_all(&mut self, reason: &Error) {
        for place in self.filled() {
            while let Some(front) = self.queues[place].entries.front_mut() {
                front.possibly_written |= front.call.is_some();
                self.fail(place, 0, reason.clone());
            }
        }
    }

    /// Places of all queues, unless all are empty.
    fn filled(&self) -> std::ops::Range<usize> {
        if self.unsettled == 0 { 0..0 } else { 0..self.queues.len() }
    }

    /// Batches are taken again.
    pub(crate) fn resume(&mut self) {
        self.giving_up = None;
        self.failure = None;
    }

    /// When [`Self::expire`] or [`Self::route`] should be called at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.expiries.first().map(|(time, _)| *time).filter(|_| self.unsettled > 0);
        let retry = self.delayed.first().map(|(time, _)| *time);
        [expiry, retry].into_iter().flatten().min()
    }
}
