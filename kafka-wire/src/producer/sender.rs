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

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt as _};

use super::batch::Batch;
use super::verdict::{Verdict, fenced, verdict};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::record::SealedBatch;
use crate::time::{Backoff, Rng};
use crate::types::{BrokerId, ProducerIdentity, TopicPartition};

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
    /// Places of queues that are not empty.
    active: Vec<usize>,
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
}

#[derive(Debug)]
struct OnWire {
    broker: BrokerId,
    queues: Vec<usize>,
}

/// A partition's batches whose fate is open, oldest first.
#[derive(Debug)]
struct Queue {
    partition: TopicPartition,
    entries: VecDeque<Entry>,
    /// Whether it is among the sender's active ones.
    is_active: bool,
    /// Batches on the wire, those included that have expired meanwhile; all to `broker`.
    on_wire: usize,
    broker: BrokerId,
    identity: Option<ProducerIdentity>,
    next_sequence: i32,
    failures: u32,
    not_before: Option<Instant>,
    /// A batch of unknown fate has expired: whether the log holds it decides about those behind it.
    has_gap: bool,
    /// The broker has written something under this producer id. Until then one batch at a time: a broker
    /// without memory of the id takes any sequence number, also that of the second batch first.
    is_acquainted: bool,
    /// The front was refused as out of order: sequences start anew when nothing is on the wire.
    is_resetting: bool,
}

#[derive(Debug)]
struct Entry {
    batch: Batch,
    stamp: Option<Stamp>,
    call: Option<CallId>,
    /// How often it was sent.
    attempts: u32,
    has_failed: bool,
    /// The fate of an earlier attempt is unknown.
    possibly_written: bool,
    last_error: Option<Error>,
}

impl Sender {
    pub(crate) fn new(config: SenderConfig) -> Self {
        Self {
            rng: Rng::new(config.seed),
            config,
            places: HashMap::new(),
            queues: Vec::new(),
            active: Vec::new(),
            calls: HashMap::new(),
            in_flight: HashMap::new(),
            identity: None,
            next_call: 0,
            is_metadata_stale: false,
            failure: None,
            giving_up: None,
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
        let queue = &mut self.queues[place];
        if !std::mem::replace(&mut queue.is_active, true) {
            self.active.push(place);
        }
        queue.entries.push_back(Entry {
            batch,
            stamp: None,
            call: None,
            attempts: 0,
            has_failed: false,
            possibly_written: false,
            last_error: None,
        });
    }

    /// Who writes from now on. Batches whose fate is open keep who they were sent by.
    pub(crate) fn identify(&mut self, identity: ProducerIdentity) {
        self.identity = Some(identity);
    }

    /// Whether a producer id is needed before anything can be sent.
    pub(crate) fn needs_identity(&self) -> bool {
        self.config.is_idempotent && self.identity.is_none()
    }

    /// The partitions that wait to be sent to.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &TopicPartition> {
        self.active.iter().map(|place| &self.queues[*place]).filter_map(|queue| {
            queue.entries.iter().any(|entry| entry.call.is_none()).then_some(&queue.partition)
        })
    }

    /// Whether every batch has met its fate.
    pub(crate) fn is_empty(&self) -> bool {
        self.active.iter().all(|place| self.queues[*place].entries.is_empty())
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

    /// The next request to make, until there is none.
    pub(crate) fn poll_call(
        &mut self,
        now: Instant,
        route: &mut dyn FnMut(&TopicPartition) -> Route,
    ) -> Option<ProduceCall> {
        let id = CallId(self.next_call);
        let mut call: Option<(ProduceCall, OnWire)> = None;
        let mut bytes = 0;
        for turn in 0..self.active.len() {
            // Each call starts with another partition, so that none is always the one that does not fit.
            let place = self.active[(turn + self.next_call as usize) % self.active.len()];
            let Some(index) = self.queues[place].sendable(now, self.config.max_in_flight) else { continue };
            let broker = match route(&self.queues[place].partition) {
                Route::Leader(broker) => broker,
                Route::Hold => continue,
                Route::NoLeader => {
                    self.is_metadata_stale = true;
                    continue;
                }
            };
            let is_full =
                self.in_flight.get(&broker).is_some_and(|calls| *calls >= self.config.max_in_flight);
            if is_full || call.as_ref().is_some_and(|(call, _)| call.broker != broker) {
                continue;
            }
            let queue = &mut self.queues[place];
            let size = queue.entries[index].batch.records.size_bytes();
            let is_elsewhere = queue.on_wire > 0 && queue.broker != broker;
            if is_elsewhere || (bytes > 0 && bytes + size > self.config.max_request_size) {
                continue;
            }
            if self.config.is_idempotent && !queue.stamp(index, self.identity) {
                continue;
            }
            bytes += size;
            let batch = queue.put_on_wire(index, id, broker);
            let (call, on_wire) = call.get_or_insert_with(|| {
                let on_wire = OnWire { broker, queues: Vec::new() };
                (ProduceCall { id, broker, batches: Vec::new() }, on_wire)
            });
            call.batches.push(batch);
            on_wire.queues.push(place);
        }
        let (call, on_wire) = call?;
        self.next_call += 1;
        *self.in_flight.entry(on_wire.broker).or_default() += 1;
        self.calls.insert(id, on_wire);
        Some(call)
    }

    /// What came of a request: an answer per partition, or the reason why there is none.
    pub(crate) fn handle_answer(&mut self, now: Instant, id: CallId, answer: Result<Vec<PartitionAnswer>>) {
        let Some(OnWire { broker, queues }) = self.calls.remove(&id) else { return };
        if let Some(calls) = self.in_flight.get_mut(&broker) {
            *calls -= 1;
        }
        for place in queues {
            self.queues[place].on_wire -= 1;
            let partition = &self.queues[place].partition;
            let verdict = match &answer {
                Ok(answers) => match answers.iter().find(|answer| answer.partition == *partition) {
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
        }
        self.drop_empty();
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
        let entry = |batch, stamp| Entry {
            batch,
            stamp,
            call: None,
            attempts: 0,
            // One at a time: what was sent behind it is refused as out of order, and comes after both.
            has_failed: true,
            possibly_written: false,
            last_error: last_error.clone(),
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
        queue.entries.insert(index, entry(back, of_back));
        queue.entries.insert(index, entry(front, stamp));
    }

    fn retry_later(&mut self, now: Instant, place: usize, index: usize, error: Error) {
        let queue = &mut self.queues[place];
        tracing::debug!(partition = %queue.partition, %error, "a batch is to be sent again");
        queue.entries[index].has_failed = true;
        queue.entries[index].last_error = Some(error);
        // One failure of several batches on the wire is one reason to wait.
        if index == 0 || queue.not_before.is_none_or(|time| time <= now) {
            queue.failures = queue.failures.saturating_add(1);
            queue.not_before = Some(now + self.config.retry_backoff.delay(queue.failures, &mut self.rng));
        }
    }

    /// Takes a batch out with an error.
    fn fail(&mut self, place: usize, index: usize, error: Error) {
        let queue = &mut self.queues[place];
        let Some(entry) = queue.entries.remove(index) else { return };
        let error = if entry.possibly_written { error.with_possibly_written() } else { error };
        let error = error.with_partition(queue.partition.clone()).with_api("Produce");
        queue.forget_sequence(index, &entry);
        self.failure.get_or_insert_with(|| error.clone());
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
        for turn in 0..self.active.len() {
            let place = self.active[turn];
            while let Some(front) = self.queues[place].entries.front_mut()
                && front.batch.created + self.config.delivery_timeout <= now
            {
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
            }
        }
        self.drop_empty();
    }

    /// Fails everything that is not on the wire, and what is there as soon as it fails once; nothing new
    /// is taken until [`Self::resume`].
    pub(crate) fn give_up(&mut self, reason: &Error) {
        self.giving_up.get_or_insert_with(|| reason.clone());
        self.fail_queued(reason);
    }

    /// Fails everything that is not on the wire.
    pub(crate) fn fail_queued(&mut self, reason: &Error) {
        for turn in 0..self.active.len() {
            let place = self.active[turn];
            while let Some(index) = self.queues[place].entries.iter().position(|entry| entry.call.is_none()) {
                self.fail(place, index, reason.clone());
            }
        }
        self.drop_empty();
    }

    /// Fails everything, on the wire or not.
    pub(crate) fn fail_all(&mut self, reason: &Error) {
        for turn in 0..self.active.len() {
            let place = self.active[turn];
            while let Some(front) = self.queues[place].entries.front_mut() {
                front.possibly_written |= front.call.is_some();
                self.fail(place, 0, reason.clone());
            }
        }
        self.drop_empty();
    }

    /// Batches are taken again.
    pub(crate) fn resume(&mut self) {
        self.giving_up = None;
        self.failure = None;
    }

    /// When [`Self::expire`] or [`Self::poll_call`] should be called at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let of_queue = |place: &usize| {
            let queue = &self.queues[*place];
            let expiry = queue.entries.front()?.batch.created + self.config.delivery_timeout;
            Some(queue.not_before.map_or(expiry, |retry| retry.min(expiry)))
        };
        self.active.iter().filter_map(of_queue).min()
    }

    fn drop_empty(&mut self) {
        let queues = &mut self.queues;
        self.active.retain(|place| {
            let queue = &mut queues[*place];
            queue.is_active = !queue.entries.is_empty();
            queue.is_active
        });
    }
}

impl Queue {
    fn new(partition: TopicPartition) -> Self {
        Self {
            partition,
            entries: VecDeque::new(),
            is_active: false,
            on_wire: 0,
            broker: BrokerId(-1),
            identity: None,
            next_sequence: 0,
            failures: 0,
            not_before: None,
            has_gap: false,
            is_acquainted: false,
            is_resetting: false,
        }
    }

    /// Which entry may be put on the wire now.
    fn sendable(&mut self, now: Instant, max_in_flight: usize) -> Option<usize> {
        // Over is over: a time that has passed must not be waited for.
        self.not_before = self.not_before.filter(|time| now < *time);
        if self.is_resetting || self.on_wire >= max_in_flight || self.not_before.is_some() {
            return None;
        }
        let index = self.entries.iter().position(|entry| entry.call.is_none())?;
        let is_calm = self.entries.iter().take(index + 1).all(|entry| !entry.has_failed);
        (index == 0 || is_calm).then_some(index)
    }

    /// Gives the entry its place in the sequence, unless it has one; `false` when it cannot have one yet.
    fn stamp(&mut self, index: usize, identity: Option<ProducerIdentity>) -> bool {
        if self.entries[index].stamp.is_some() {
            return true;
        }
        let Some(identity) = identity else { return false };
        if self.identity != Some(identity) {
            if self.on_wire > 0 || self.entries.iter().any(|entry| entry.stamp.is_some()) {
                return false;
            }
            self.is_acquainted &= self.identity.is_some_and(|old| old.id == identity.id);
            self.identity = Some(identity);
            self.next_sequence = 0;
        }
        if !self.is_acquainted && self.on_wire > 0 {
            return false;
        }
        let records = self.entries[index].batch.records.records();
        self.entries[index].stamp = Some(Stamp { identity, base_sequence: self.next_sequence });
        self.next_sequence = sequence_after(self.next_sequence, records);
        true
    }

    fn put_on_wire(&mut self, index: usize, call: CallId, broker: BrokerId) -> StampedBatch {
        self.on_wire += 1;
        self.broker = broker;
        let entry = &mut self.entries[index];
        entry.call = Some(call);
        entry.attempts = entry.attempts.saturating_add(1);
        StampedBatch {
            partition: self.partition.clone(),
            records: entry.batch.records.clone(),
            stamp: entry.stamp,
        }
    }

    /// A failed entry that stood at `index` leaves: its sequence numbers are used again where nobody can
    /// have seen them, else they are missing.
    fn forget_sequence(&mut self, index: usize, entry: &Entry) {
        let Some(stamp) = entry.stamp else { return };
        let is_last = self.entries.iter().skip(index).all(|later| later.stamp.is_none());
        if entry.possibly_written {
            self.has_gap = true;
        } else if is_last && self.identity == Some(stamp.identity) {
            self.next_sequence = stamp.base_sequence;
        }
    }
}

/// Sequence numbers count records and wrap to 0 after `i32::MAX`.
fn sequence_after(base: i32, records: u32) -> i32 {
    ((i64::from(base) + i64::from(records)) & i64::from(i32::MAX)) as i32
}
