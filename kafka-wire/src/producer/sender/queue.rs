//! One partition's batches on their way out.

use std::collections::VecDeque;
use std::time::Instant;

use super::{CallId, Stamp, StampedBatch};
use crate::error::Error;
use crate::producer::batch::Batch;
use crate::types::{BrokerId, ProducerIdentity, TopicPartition};

/// A partition's batches whose fate is open, oldest first.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) partition: TopicPartition,
    pub(super) entries: VecDeque<Entry>,
    /// Whether it stands in one of the sender's lists of queues to look at.
    pub(super) is_listed: bool,
    /// Whether it stands in the sender's list of expiries, not later than its first batch expires.
    pub(super) is_timed: bool,
    /// Batches on the wire, those included that have expired meanwhile; all to `broker`.
    pub(super) on_wire: usize,
    pub(super) broker: BrokerId,
    pub(super) identity: Option<ProducerIdentity>,
    pub(super) next_sequence: i32,
    pub(super) failures: u32,
    pub(super) not_before: Option<Instant>,
    /// A batch of unknown fate has expired: whether the log holds it decides about those behind it.
    pub(super) has_gap: bool,
    /// The broker has written something under this producer id. Until then one batch at a time: a broker
    /// without memory of the id takes any sequence number, also that of the second batch first.
    pub(super) is_acquainted: bool,
    /// The front was refused as out of order: sequences start anew when nothing is on the wire.
    pub(super) is_resetting: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) batch: Batch,
    pub(super) stamp: Option<Stamp>,
    pub(super) call: Option<CallId>,
    /// How often it was sent.
    pub(super) attempts: u32,
    pub(super) has_failed: bool,
    /// The fate of an earlier attempt is unknown.
    pub(super) possibly_written: bool,
    pub(super) last_error: Option<Error>,
    /// From the first request to the fate.
    pub(super) span: tracing::Span,
}

impl Queue {
    pub(super) fn new(partition: TopicPartition) -> Self {
        Self {
            partition,
            entries: VecDeque::new(),
            is_listed: false,
            is_timed: false,
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
    pub(super) fn sendable(&mut self, now: Instant, max_in_flight: usize) -> Option<usize> {
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
    pub(super) fn stamp(&mut self, index: usize, identity: Option<ProducerIdentity>) -> bool {
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

    pub(super) fn put_on_wire(&mut self, index: usize, call: CallId, broker: BrokerId) -> StampedBatch {
        self.on_wire += 1;
        self.broker = broker;
        let entry = &mut self.entries[index];
        entry.call = Some(call);
        if entry.attempts == 0 {
            let (records, bytes) = (entry.batch.records.records(), entry.batch.records.size_bytes());
            entry.span = tracing::debug_span!("produce_batch", partition = %self.partition, records, bytes);
        }
        entry.attempts = entry.attempts.saturating_add(1);
        StampedBatch {
            partition: self.partition.clone(),
            records: entry.batch.records.clone(),
            stamp: entry.stamp,
        }
    }

    /// A failed entry that stood at `index` leaves: its sequence numbers are used again where nobody can
    /// have seen them, else they are missing.
    pub(super) fn forget_sequence(&mut self, index: usize, entry: &Entry) {
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
pub(super) fn sequence_after(base: i32, records: u32) -> i32 {
    ((i64::from(base) + i64::from(records)) & i64::from(i32::MAX)) as i32
}
