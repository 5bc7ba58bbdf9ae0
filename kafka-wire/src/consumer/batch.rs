use std::fmt;

use super::fetched::{Content, LogEnds, Step};
use super::position::OffsetAndEpoch;
use crate::error::Result;
use crate::protocol::limits::Limits;
use crate::record::{RecordIter, Records};
use crate::types::{LeaderEpoch, TimestampType, TopicPartition};

/// Records of one partition, as one batch of its log held them; owns their bytes and lends them out.
///
/// A batch is also a step along the log: it moves the position from [`base_offset`](Self::base_offset) to
/// [`next_offset`](Self::next_offset), over what compaction removed and transactions left behind, and it may
/// do so without any record.
///
/// For an uncompressed batch the bytes are the broker's answer itself, which stays in memory as a whole
/// until the last batch of it is dropped: do not keep batches for long.
#[derive(Clone)]
pub struct FetchedBatch {
    partition: TopicPartition,
    records: Option<Records>,
    base_offset: i64,
    next: OffsetAndEpoch,
    ends: LogEnds,
    /// The most records of it that are handed out.
    records_max: usize,
    /// From here to when the application lets go of it.
    _span: tracing::Span,
}

impl FetchedBatch {
    /// Decompresses and checks the records.
    pub(crate) fn open(partition: TopicPartition, step: Step, limits: &Limits) -> Result<Self> {
        let records = match step.batch {
            Some(Content::Raw(batch)) => {
                Some(batch.open(limits).map_err(|error| error.with_partition(partition.clone()))?)
            }
            Some(Content::Open(records)) => Some(records),
            None => None,
        };
        let (base_offset, next, ends) = (step.from, step.next, step.ends);
        let span = tracing::debug_span!("fetched_batch", %partition, base_offset, next_offset = next.offset);
        Ok(Self { partition, records, base_offset, next, ends, records_max: usize::MAX, _span: span })
    }

    /// Keeps the first `count` records and gives back the step over the rest, if there is one.
    pub(crate) fn split(&mut self, count: usize) -> Option<Step> {
        let last = self.iter().first(count).last()?.offset;
        if self.len() <= count {
            return None;
        }
        let batch = self.records.clone().map(Content::Open);
        let rest = Step { batch, from: last + 1, next: self.next, ends: self.ends };
        self.next.offset = rest.from;
        self.records_max = count;
        Some(rest)
    }

    /// What a poll answers when there was nothing in the time allowed: no records, of the partition −1 of a
    /// topic without a name.
    pub(crate) fn nothing() -> Self {
        Self {
            partition: TopicPartition::new("", -1),
            records: None,
            base_offset: -1,
            next: OffsetAndEpoch { offset: -1, leader_epoch: None },
            ends: LogEnds { high_watermark: -1, last_stable_offset: -1, log_start_offset: -1 },
            records_max: 0,
            _span: tracing::Span::none(),
        }
    }

    /// The partition that the records are of.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The records, in the order of their offsets.
    pub fn iter(&self) -> RecordIter<'_> {
        let Some(records) = &self.records else {
            return RecordIter::default();
        };
        let mut iter = records.iter();
        if records.header().base_offset < self.base_offset {
            let mut rest = iter.clone();
            while rest.next().is_some_and(|record| record.offset < self.base_offset) {
                iter = rest.clone();
            }
        }
        iter.first(self.records_max)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.iter().len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position before this batch.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// The position after this batch.
    pub fn next_offset(&self) -> i64 {
        self.next.offset
    }

    /// The leader epoch of the last record passed; to be kept with [`next_offset`](Self::next_offset).
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.next.leader_epoch
    }

    /// The position after this batch, with its leader epoch.
    pub fn next_position(&self) -> OffsetAndEpoch {
        self.next
    }

    /// What the records' timestamps say: when the application or its client made the record, or when the broker got it
    /// (`message.timestamp.type`). `CreateTime` where there are no records.
    pub fn timestamp_type(&self) -> TimestampType {
        let records = self.records.as_ref();
        records.map_or(TimestampType::CreateTime, |records| records.header().timestamp_type())
    }

    /// The offset after the last record that all in-sync replicas have, when this was fetched.
    pub fn high_watermark(&self) -> i64 {
        self.ends.high_watermark
    }

    /// Up to where all transactions are decided: readers of committed records get no further. −1 when the
    /// broker did not say.
    pub fn last_stable_offset(&self) -> i64 {
        self.ends.last_stable_offset
    }

    /// The first offset that is still there. −1 when the broker did not say.
    pub fn log_start_offset(&self) -> i64 {
        self.ends.log_start_offset
    }
}

impl fmt::Debug for FetchedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}..{} ({} records)", self.partition, self.base_offset, self.next.offset, self.len())
    }
}

impl<'a> IntoIterator for &'a FetchedBatch {
    type Item = crate::record::RecordRef<'a>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
