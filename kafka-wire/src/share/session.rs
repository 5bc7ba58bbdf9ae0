//! The session with one broker: which partitions it knows, what is under way, what waits to be acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::ledger::Acknowledgement;
use crate::engine::Token;
use crate::protocol::share::ShareTopic;
use crate::types::{TopicId, TopicPartition};

/// A partition as this protocol names it.
pub(super) type Slot = (TopicId, i32);

/// How long acknowledgements wait for the next fetch to take them along.
pub(super) const ACKNOWLEDGE_LINGER: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Session {
    /// Of the next request: 0 opens the session.
    pub(super) epoch: i32,
    /// Those that the broker has in it.
    pub(super) partitions: BTreeSet<Slot>,
    pub(super) flight: Option<Flight>,
    /// To be told.
    pub(super) pending: BTreeMap<TopicPartition, Acknowledgement>,
    pub(super) pending_since: Option<Instant>,
    /// The application waits for it.
    pub(super) is_commit_wanted: bool,
    /// Which number the pending ones get when they are sent.
    pub(super) sequence: u64,
    pub(super) retry_at: Option<Instant>,
    pub(super) failures: u32,
    /// How often in a row acknowledgements could not be taken.
    pub(super) refusals: u32,
    /// The last fetch brought records: the next probably will.
    pub(super) is_flowing: bool,
}

/// One request under way; there is never more than one in a session.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) token: Token,
    pub(super) kind: FlightKind,
    pub(super) acknowledged: Vec<Acknowledgement>,
    pub(super) sequence: u64,
}

#[derive(Debug)]
pub(super) enum FlightKind {
    /// With what the session has afterwards.
    Fetch(BTreeSet<Slot>),
    Acknowledge,
    /// The last one.
    Close,
}

impl Session {
    pub(super) fn is_open(&self) -> bool {
        self.epoch > 0
    }

    /// What is said later about the same records replaces what was said before.
    pub(super) fn add(&mut self, now: Instant, acknowledgement: Acknowledgement) {
        self.pending_since.get_or_insert(now);
        match self.pending.get_mut(&acknowledgement.partition) {
            Some(pending) if pending.topic_id == acknowledgement.topic_id => pending.absorb(acknowledgement),
            _ => drop(self.pending.insert(acknowledgement.partition.clone(), acknowledgement)),
        }
    }

    /// Whether the same topic is still spoken of.
    pub(super) fn may_put_back(&self, said: &Acknowledgement) -> bool {
        self.pending.get(&said.partition).is_none_or(|pending| pending.topic_id == said.topic_id)
    }

    /// What was sent is to be sent again, but for what something else was said of meanwhile.
    pub(super) fn put_back(&mut self, now: Instant, mut acknowledgement: Acknowledgement) {
        if let Some(later) = self.pending.remove(&acknowledgement.partition) {
            acknowledgement.absorb(later);
        }
        self.add(now, acknowledgement);
    }

    /// Takes the pending ones, to be sent under the number that comes with them.
    pub(super) fn take_pending(&mut self) -> (Vec<Acknowledgement>, u64) {
        self.pending_since = None;
        self.is_commit_wanted = false;
        let sequence = self.sequence;
        self.sequence += 1;
        (std::mem::take(&mut self.pending).into_values().collect(), sequence)
    }

    /// The broker does not know the session (any more).
    pub(super) fn reset(&mut self) {
        self.epoch = 0;
        self.partitions.clear();
        self.is_flowing = false;
    }

    /// The request was heard.
    pub(super) fn advance(&mut self) {
        self.failures = 0;
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        let linger_is_over = self.pending_since.is_some_and(|since| now >= since + ACKNOWLEDGE_LINGER);
        !self.pending.is_empty() && (self.is_commit_wanted || linger_is_over)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.flight.is_some() {
            return None;
        }
        self.retry_at.or_else(|| self.pending_since.map(|since| since + ACKNOWLEDGE_LINGER))
    }
}

/// As requests name them: what is acknowledged, and what is new.
pub(super) fn topics(acknowledged: &[Acknowledgement], new: impl Iterator<Item = Slot>) -> Vec<ShareTopic> {
    let mut by_id: BTreeMap<TopicId, BTreeMap<i32, Vec<_>>> = BTreeMap::new();
    for (id, partition) in new {
        by_id.entry(id).or_default().entry(partition).or_default();
    }
    for acknowledgement in acknowledged {
        let of_topic = by_id.entry(acknowledgement.topic_id).or_default();
        of_topic.insert(acknowledgement.partition.partition, acknowledgement.to_batches());
    }
    let topics = by_id.into_iter();
    topics.map(|(id, partitions)| ShareTopic { id, partitions: partitions.into_iter().collect() }).collect()
}

pub(super) fn by_topic(slots: impl Iterator<Item = Slot>) -> Vec<(TopicId, Vec<i32>)> {
    let mut by_id: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (id, partition) in slots {
        by_id.entry(id).or_default().push(partition);
    }
    by_id.into_iter().collect()
}
