use std::fmt;
use std::iter::FusedIterator;

use super::deliveries::Delivery;
use super::ledger::{Ledger, Run};
use crate::error::Result;
use crate::protocol::limits::Limits;
use crate::protocol::share::AcquiredRecords;
use crate::record::{RecordIter, RecordRef, Records};
use crate::types::TopicPartition;

/// Records of one partition that are locked for this consumer; owns their bytes and lends them out.
///
/// For an uncompressed batch the bytes are the broker's answer itself, which stays in memory as a whole until the
/// last batch of it is dropped.
#[derive(Clone)]
pub struct ShareBatch {
    partition: TopicPartition,
    records: Option<Records>,
    acquired: Vec<AcquiredRecords>,
    len: usize,
}

/// A record, and how often it has been delivered.
#[derive(Clone, Copy, Debug)]
pub struct ShareRecord<'a> {
    /// The record.
    pub record: RecordRef<'a>,
    /// How often somebody of the group has been given it, this time included; from 1 on.
    pub delivery_count: i16,
}

impl ShareBatch {
    /// Decompresses and checks the records, and enters them in the ledger.
    pub(crate) fn open(delivery: Delivery, ledger: &mut Ledger, limits: &Limits) -> Result<Self> {
        let Delivery { node, topic_id, partition, batch, acquired, check_crc, .. } = delivery;
        let opened = if check_crc { batch.verify_crc() } else { Ok(()) };
        let records = opened.and_then(|()| batch.open(limits)).map_err(|error| {
            ledger.give_back((node, topic_id), &partition, &acquired);
            error.with_partition(partition.clone())
        })?;
        let mut batch = Self { partition, records: Some(records), acquired, len: 0 };
        let (runs, gaps) = batch.runs();
        batch.len = runs.iter().map(|(first, last)| (last - first) as usize + 1).sum();
        ledger.hand_out((node, topic_id), &batch.partition, &runs, &gaps);
        Ok(batch)
    }

    /// What a poll answers when there was nothing in the time allowed.
    pub(crate) fn nothing() -> Self {
        Self { partition: TopicPartition::new("", -1), records: None, acquired: Vec::new(), len: 0 }
    }

    /// The partition that the records are of; −1 of a topic without a name when there are none.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The records, in the order of their offsets; between them others may have some.
    pub fn iter(&self) -> ShareRecordIter<'_> {
        ShareRecordIter {
            records: self.records.as_ref().map(Records::iter).unwrap_or_default(),
            acquired: &self.acquired,
            left: self.len,
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The acquired offsets that are records, and those that are none, without holes.
    fn runs(&self) -> (Vec<Run>, Vec<Run>) {
        let (mut runs, mut gaps): (Vec<Run>, Vec<Run>) = (Vec::new(), Vec::new());
        let mut acquired = self.acquired.iter().copied();
        let mut current = acquired.next();
        for record in self.records.iter().flatten() {
            // Acquired offsets before the record have none.
            while let Some(range) = current.filter(|range| range.last_offset < record.offset) {
                gaps.push((range.first_offset, range.last_offset));
                current = acquired.next();
            }
            let Some(range) = current.filter(|range| range.first_offset <= record.offset) else { continue };
            if range.first_offset < record.offset {
                gaps.push((range.first_offset, record.offset - 1));
            }
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == record.offset => *last = record.offset,
                _ => runs.push((record.offset, record.offset)),
            }
            current = (record.offset < range.last_offset)
                .then_some(AcquiredRecords { first_offset: record.offset + 1, ..range })
                .or_else(|| acquired.next());
        }
        gaps.extend(current.into_iter().chain(acquired).map(|range| (range.first_offset, range.last_offset)));
        (runs, gaps)
    }
}

impl fmt::Debug for ShareBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} records)", self.partition, self.len)
    }
}

impl<'a> IntoIterator for &'a ShareBatch {
    type Item = ShareRecord<'a>;
    type IntoIter = ShareRecordIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterator over the records of a [`ShareBatch`].
#[derive(Clone, Debug)]
pub struct ShareRecordIter<'a> {
    records: RecordIter<'a>,
    acquired: &'a [AcquiredRecords],
    left: usize,
}

impl<'a> Iterator for ShareRecordIter<'a> {
    type Item = ShareRecord<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        for record in &mut self.records {
            while let Some((range, rest)) = self.acquired.split_first()
                && range.last_offset < record.offset
            {
                self.acquired = rest;
            }
            let range = self.acquired.first()?;
            if range.first_offset <= record.offset {
                self.left = self.left.saturating_sub(1);
                return Some(ShareRecord { record, delivery_count: range.delivery_count });
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ShareRecordIter<'_> {}
impl FusedIterator for ShareRecordIter<'_> {}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;

    use super::*;
    use crate::config::AcknowledgementMode;
    use crate::record::{BatchBuilder, Compression, batches};
    use crate::types::{BrokerId, TopicId};

    /// A batch of five records at 100 to 104.
    fn set() -> Bytes {
        let mut builder = BatchBuilder::new(Compression::default(), 10_000);
        for index in 0..5i64 {
            builder.append(index, None, Some(format!("value {index}").as_bytes()), &[]).unwrap();
        }
        let mut bytes = builder.seal().to_bytes(None, -1, false).to_vec();
        bytes[..8].copy_from_slice(&100i64.to_be_bytes());
        bytes.into()
    }

    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn open(ranges: &[(i64, i64, i16)], set: Bytes) -> (Result<ShareBatch>, Ledger) {
        let acquired = ranges.iter().map(|(first_offset, last_offset, delivery_count)| AcquiredRecords {
            first_offset: *first_offset,
            last_offset: *last_offset,
            delivery_count: *delivery_count,
        });
        let delivery = Delivery {
            node: BrokerId(1),
            topic_id: TopicId([1; 16]),
            partition: TopicPartition::new("t", 0),
            batch: batches(set).next().unwrap().unwrap(),
            acquired: acquired.collect(),
            check_crc: true,
            locked_until: Instant::now() + Duration::from_secs(1),
        };
        let mut ledger = Ledger::new(AcknowledgementMode::Implicit);
        (ShareBatch::open(delivery, &mut ledger, &Limits::DEFAULT), ledger)
    }

    #[test]
    fn only_acquired_records_are_handed_out_with_their_counts() {
        let (batch, mut ledger) = open(&[(98, 100, 1), (102, 103, 4), (106, 107, 1)], set());
        let batch = batch.unwrap();
        let seen: Vec<(i64, i16)> =
            batch.iter().map(|shared| (shared.record.offset, shared.delivery_count)).collect();
        assert_eq!(seen, [(100, 1), (102, 4), (103, 4)]);
        assert_eq!((batch.len(), batch.iter().len()), (3, 3));
        ledger.settle().unwrap();
        let said = ledger.take_said().remove(0).to_batches();
        let said: Vec<_> =
            said.iter().map(|said| (said.first_offset, said.last_offset, said.types[0])).collect();
        assert_eq!(said, [(98, 99, 0), (100, 100, 1), (102, 103, 1), (106, 107, 0)]);
    }

    #[test]
    fn a_damaged_batch_is_an_error_and_goes_back() {
        let mut bytes = set().to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let (batch, mut ledger) = open(&[(100, 104, 1)], bytes.into());
        assert!(batch.unwrap_err().partition().is_some());
        let said = ledger.take_said().remove(0).to_batches();
        assert_eq!((said[0].first_offset, said[0].last_offset, said[0].types[0]), (100, 104, 2));
    }
}
