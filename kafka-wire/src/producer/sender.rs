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

mod fate;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt as _};

use super::batch::Batch;
use super::measures::Measures;
use crate::error::{Error, ErrorCode};
use crate::record::SealedBatch;
use crate::time::{Backoff, Rng};
use crate::txn::Admission;
use crate::types::{BrokerId, ProducerIdentity, TopicPartition};
use queue::{Entry, Queue};

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

    /// When [`Self::expire`] or [`Self::route`] should be called at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.expiries.first().map(|(time, _)| *time).filter(|_| self.unsettled > 0);
        let retry = self.delayed.first().map(|(time, _)| *time);
        [expiry, retry].into_iter().flatten().min()
    }
}
