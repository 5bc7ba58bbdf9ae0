//! What brokers have handed over and the application has not taken yet, between the machine and the application.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::AcknowledgementResult;
use crate::error::Error;
use crate::protocol::share::AcquiredRecords;
use crate::record::RawBatch;
use crate::types::{BrokerId, TopicId, TopicPartition};

/// The most results of acknowledgements that wait for the application to ask for them.
const RESULTS_MAX: usize = 10_000;

/// Of one batch of the log, the records that were acquired.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(super) node: BrokerId,
    pub(super) topic_id: TopicId,
    pub(super) partition: TopicPartition,
    /// Neither checked nor decompressed.
    pub(super) batch: RawBatch,
    /// Sorted, and all for this batch to account for: what it has no record for is a gap.
    pub(super) acquired: Vec<AcquiredRecords>,
    pub(super) check_crc: bool,
    /// Afterwards the broker gives them to others.
    pub(super) locked_until: Instant,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedDeliveries(Arc<Mutex<Deliveries>>);

impl SharedDeliveries {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Deliveries> {
        // A panic elsewhere leaves nothing half done here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the application, if it waits.
    pub(crate) fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    queue: VecDeque<Delivery>,
    /// How many of them are of which broker: it is asked for more when it has none here.
    by_node: BTreeMap<BrokerId, usize>,
    error: Option<Error>,
    fatal: Option<Error>,
    results: VecDeque<AcknowledgementResult>,
    wants_results: bool,
    lock_timeout: Option<Duration>,
    /// Polls begun and ended.
    polls: u64,
    is_waiting: bool,
    wants_poll: bool,
    waker: Option<Waker>,
}

impl Deliveries {
    /// The application polls, and may wait from now on, or has stopped to. Whether the machine must be told.
    pub(crate) fn polled(&mut self, is_waiting: bool) -> bool {
        self.polls += 1;
        self.is_waiting = is_waiting;
        std::mem::take(&mut self.wants_poll)
    }

    /// How often it has polled, and whether it waits in a poll.
    pub(super) fn polls(&self) -> (u64, bool) {
        (self.polls, self.is_waiting)
    }

    /// The machine must be told of the next poll.
    pub(super) fn want_poll(&mut self) {
        self.wants_poll = true;
    }

    /// The next one whose lock still holds, and whether its broker has no more here.
    pub(crate) fn take(&mut self, now: Instant) -> (Option<Delivery>, bool) {
        let mut is_empty = false;
        while let Some(delivery) = self.queue.pop_front() {
            if let Some(left) = self.by_node.get_mut(&delivery.node) {
                *left -= 1;
                is_empty |= *left == 0;
            }
            if delivery.locked_until > now {
                return (Some(delivery), is_empty);
            }
        }
        (None, is_empty)
    }

    pub(crate) fn take_error(&mut self) -> Option<Error> {
        self.error.take().or_else(|| self.fatal.clone())
    }

    pub(crate) fn take_results(&mut self) -> VecDeque<AcknowledgementResult> {
        std::mem::take(&mut self.results)
    }

    /// Results are kept from now on.
    pub(crate) fn want_results(&mut self) {
        self.wants_results = true;
    }

    /// For how long the last records were locked.
    pub(crate) fn lock_timeout(&self) -> Option<Duration> {
        self.lock_timeout
    }

    pub(crate) fn register(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    pub(super) fn push(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        for delivery in deliveries {
            *self.by_node.entry(delivery.node).or_default() += 1;
            self.queue.push_back(delivery);
        }
    }

    pub(super) fn has_of(&self, node: BrokerId) -> bool {
        self.by_node.get(&node).is_some_and(|count| *count > 0)
    }

    /// Takes out what is not to be handed out any more.
    pub(super) fn withdraw(&mut self, is_gone: impl Fn(&Delivery) -> bool) -> Vec<Delivery> {
        let (gone, left): (Vec<Delivery>, Vec<Delivery>) = self.queue.drain(..).partition(is_gone);
        self.queue = left.into();
        self.by_node.clear();
        for delivery in &self.queue {
            *self.by_node.entry(delivery.node).or_default() += 1;
        }
        gone
    }

    pub(super) fn set_lock_timeout(&mut self, timeout: Duration) {
        self.lock_timeout = Some(timeout);
    }

    /// For the next poll; of several the first.
    pub(super) fn report(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// For every poll from now on.
    pub(super) fn fail(&mut self, error: Error) {
        self.fatal.get_or_insert(error);
    }

    pub(super) fn put_result(&mut self, result: AcknowledgementResult) {
        if self.wants_results {
            if self.results.len() >= RESULTS_MAX {
                self.results.pop_front();
            }
            self.results.push_back(result);
        }
    }
}
