//! What a partition knows of the producers that write to it: duplicates, gaps, fencing, open transactions.
//!
//! As Kafka's `ProducerStateManager` and `ProducerAppendInfo`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use kafka_wire::{ErrorCode, ProducerIdentity};

use crate::batch::{Header, add_sequence};
use crate::error::{Failure, fail};

/// Batches remembered per producer: as many as a producer may have in flight.
const REMEMBERED_BATCHES: usize = 5;
/// Producers remembered; beyond, the one that wrote longest ago is forgotten. Kafka forgets by time instead
/// (`producer.id.expiration.ms`, a day).
const PRODUCERS_MAX: usize = 10_000;
const NO_SEQUENCE: i32 = -1;

/// What is to be done with a batch of a producer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    New,
    /// It is in the log already.
    Duplicate { base_offset: i64, timestamp: i64 },
}

/// A transaction that was aborted in this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// The offset of its abort marker.
    pub(crate) last_offset: i64,
}

/// What a partition tells about a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ActiveProducer {
    pub(crate) producer: ProducerIdentity,
    pub(crate) last_sequence: i32,
    /// −1 where no batch is remembered.
    pub(crate) last_timestamp: i64,
    pub(crate) transaction_start: Option<i64>,
    /// Whether one of its transactions has ended here.
    pub(crate) has_ended_one: bool,
}

#[derive(Clone, Debug)]
struct Producer {
    epoch: i16,
    has_ended_one: bool,
    transaction_start: Option<i64>,
    /// Of its last batch or marker.
    last_offset: i64,
    batches: VecDeque<RememberedBatch>,
}

#[derive(Clone, Copy, Debug)]
struct RememberedBatch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    timestamp: i64,
}

impl Producer {
    fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    fn move_to_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.batches.clear();
            self.epoch = epoch;
        }
    }
}

/// The producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    known: HashMap<i64, Producer>,
    /// First offsets of the transactions that are open.
    open: BTreeSet<i64>,
    /// By the offset of the abort marker.
    aborted: BTreeMap<i64, AbortedTransaction>,
}

impl Producers {
    /// Whether anything is known of `producer_id`.
    pub(crate) fn is_known(&self, producer_id: i64) -> bool {
        self.known.contains_key(&producer_id)
    }

    /// Whether the producer, in this epoch, has a transaction open here.
    pub(crate) fn has_open_transaction(&self, producer: ProducerIdentity) -> bool {
        self.known
            .get(&producer.id)
            .is_some_and(|known| known.epoch == producer.epoch && known.transaction_start.is_some())
    }

    /// The producers that wrote here.
    pub(crate) fn active(&self) -> impl Iterator<Item = ActiveProducer> {
        self.known.iter().map(|(&id, producer)| ActiveProducer {
            producer: ProducerIdentity { id, epoch: producer.epoch },
            last_sequence: producer.last_sequence(),
            last_timestamp: producer.batches.back().map_or(-1, |batch| batch.timestamp),
            transaction_start: producer.transaction_start,
            has_ended_one: producer.has_ended_one,
        })
    }

    /// Judges a marker that an administrator or coordinator asks for.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH`, when the producer has a newer one.
    pub(crate) fn check_marker(&self, producer: ProducerIdentity) -> Result<(), Failure> {
        match self.known.get(&producer.id).filter(|known| known.epoch > producer.epoch) {
            Some(known) => fail(
                ErrorCode::INVALID_PRODUCER_EPOCH,
                format!("producer {} has epoch {}, not {}", producer.id, known.epoch, producer.epoch),
            ),
            None => Ok(()),
        }
    }

    /// Where the oldest open transaction begins.
    pub(crate) fn first_open_offset(&self) -> Option<i64> {
        self.open.first().copied()
    }

    /// Judges a client's batch.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH`, `OUT_OF_ORDER_SEQUENCE_NUMBER`, `INVALID_TXN_STATE`, as Kafka.
    pub(crate) fn check(&self, batch: &Header) -> Result<Verdict, Failure> {
        let Some(producer) = self.known.get(&batch.producer_id) else {
            // An unknown producer may begin anywhere: its state may have expired, or records were deleted.
            return Ok(Verdict::New);
        };
        if let Some(duplicate) = producer.batches.iter().find(|known| {
            batch.producer_epoch == producer.epoch
                && (known.first_sequence, known.last_sequence) == (batch.base_sequence, batch.last_sequence())
        }) {
            return Ok(Verdict::Duplicate {
                base_offset: duplicate.base_offset,
                timestamp: duplicate.timestamp,
            });
        }
        if batch.producer_epoch < producer.epoch {
            return fail(
                ErrorCode::INVALID_PRODUCER_EPOCH,
                format!(
                    "producer {} writes with epoch {}, but epoch {} is known",
                    batch.producer_id, batch.producer_epoch, producer.epoch
                ),
            );
        }
        check_sequence(producer, batch)?;
        if producer.transaction_start.is_some() && !batch.is_transactional() {
            return fail(
                ErrorCode::INVALID_TXN_STATE,
                format!("producer {} writes outside of the transaction it has open here", batch.producer_id),
            );
        }
        Ok(Verdict::New)
    }

    /// Takes note of a client's batch that was appended; its header is the stamped one.
    pub(crate) fn appended(&mut self, batch: &Header) {
        let producer = self.touch(batch);
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(RememberedBatch {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
            timestamp: batch.max_timestamp,
        });
        if batch.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(batch.base_offset);
            self.open.insert(batch.base_offset);
        }
    }

    /// The producer of a batch that was appended, moved to the batch's epoch.
    fn touch(&mut self, batch: &Header) -> &mut Producer {
        if self.known.len() >= PRODUCERS_MAX && !self.known.contains_key(&batch.producer_id) {
            let idle = self.known.iter().filter(|(_, producer)| producer.transaction_start.is_none());
            if let Some(oldest) = idle.min_by_key(|(_, producer)| producer.last_offset).map(|(&id, _)| id) {
                self.known.remove(&oldest);
            }
        }
        let producer = self.known.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.producer_epoch,
            has_ended_one: false,
            transaction_start: None,
            last_offset: batch.base_offset,
            batches: VecDeque::new(),
        });
        producer.move_to_epoch(batch.producer_epoch);
        producer.last_offset = batch.base_offset;
        producer
    }

    /// Takes note of an end marker that was appended.
    pub(crate) fn ended(&mut self, marker: &Header, commit: bool) {
        let producer = self.touch(marker);
        producer.has_ended_one = true;
        let Some(first_offset) = producer.transaction_start.take() else { return };
        self.open.remove(&first_offset);
        if !commit {
            self.aborted.insert(
                marker.base_offset,
                AbortedTransaction {
                    producer_id: marker.producer_id,
                    first_offset,
                    last_offset: marker.base_offset,
                },
            );
        }
    }

    /// The aborted transactions with records in `from..to`.
    pub(crate) fn aborted(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        self.aborted.range(from..).map(|(_, aborted)| *aborted).filter(|a| a.first_offset < to).collect()
    }

    /// Forgets who has no transaction open.
    pub(crate) fn forget_idle(&mut self) {
        self.known.retain(|_, producer| producer.transaction_start.is_some());
    }

    /// Drops what only concerns offsets below `start`.
    pub(crate) fn forget_before(&mut self, start: i64) {
        self.aborted = self.aborted.split_off(&start);
    }
}

fn check_sequence(producer: &Producer, batch: &Header) -> Result<(), Failure> {
    let last = producer.last_sequence();
    let in_order = if batch.producer_epoch == producer.epoch {
        batch.base_sequence == if last == NO_SEQUENCE { 0 } else { add_sequence(last, 1) }
    } else {
        batch.base_sequence == 0
    };
    if in_order {
        return Ok(());
    }
    fail(
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        format!(
            "producer {} epoch {} sends sequence {} after {last} of epoch {}",
            batch.producer_id, batch.producer_epoch, batch.base_sequence, producer.epoch
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, base_offset: i64, base_sequence: i32, records: i32, transactional: bool) -> Header {
        Header {
            base_offset,
            size: 100,
            leader_epoch: 0,
            attributes: if transactional { 1 << 4 } else { 0 },
            last_offset_delta: records - 1,
            max_timestamp: 1,
            producer_id: 9,
            producer_epoch: epoch,
            base_sequence,
            count: records,
        }
    }

    fn code(result: Result<Verdict, Failure>) -> ErrorCode {
        result.unwrap_err().code
    }

    #[test]
    fn the_last_five_batches_are_recognised_and_older_ones_are_out_of_order() {
        let mut producers = Producers::default();
        for index in 0..6 {
            let next = batch(0, i64::from(index) * 10, index * 10, 10, false);
            assert_eq!(producers.check(&next), Ok(Verdict::New));
            producers.appended(&next);
        }
        let again = batch(0, 0, 10, 10, false);
        assert_eq!(producers.check(&again), Ok(Verdict::Duplicate { base_offset: 10, timestamp: 1 }));
        assert_eq!(
            code(producers.check(&batch(0, 0, 0, 10, false))),
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        );
        assert_eq!(
            code(producers.check(&batch(0, 0, 61, 1, false))),
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        );
        assert_eq!(producers.check(&batch(0, 0, 60, 1, false)), Ok(Verdict::New));
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut producers = Producers::default();
        producers.appended(&batch(0, 0, 0, 5, false));
        assert_eq!(code(producers.check(&batch(1, 5, 5, 1, false))), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        assert_eq!(producers.check(&batch(1, 5, 0, 1, false)), Ok(Verdict::New));
        producers.appended(&batch(1, 5, 0, 1, false));
        assert_eq!(code(producers.check(&batch(0, 6, 5, 1, false))), ErrorCode::INVALID_PRODUCER_EPOCH);
    }

    #[test]
    fn an_aborted_transaction_is_listed_where_it_has_records() {
        let mut producers = Producers::default();
        producers.appended(&batch(0, 10, 0, 5, true));
        assert_eq!(
            (
                producers.first_open_offset(),
                producers.has_open_transaction(ProducerIdentity { id: 9, epoch: 0 })
            ),
            (Some(10), true)
        );
        assert_eq!(code(producers.check(&batch(0, 15, 5, 1, false))), ErrorCode::INVALID_TXN_STATE);
        let mut marker = batch(1, 15, -1, 1, true);
        marker.attributes |= 1 << 5;
        producers.ended(&marker, false);
        assert_eq!(producers.first_open_offset(), None);
        let expected = AbortedTransaction { producer_id: 9, first_offset: 10, last_offset: 15 };
        assert_eq!(producers.aborted(0, 11), [expected]);
        assert_eq!(producers.aborted(15, 100), [expected]);
        assert_eq!(producers.aborted(0, 10), []);
        assert_eq!(producers.aborted(16, 100), []);
        assert_eq!(
            code(producers.check(&batch(0, 16, 5, 1, true))),
            ErrorCode::INVALID_PRODUCER_EPOCH,
            "a late batch of the aborted epoch would otherwise hang for ever"
        );
    }

    #[test]
    fn the_producer_that_wrote_longest_ago_is_forgotten_unless_its_transaction_is_open() {
        let mut producers = Producers::default();
        for id in 0..=PRODUCERS_MAX as i64 {
            let next = Header { producer_id: id, ..batch(0, id, 0, 1, id == 0) };
            producers.appended(&next);
        }
        assert_eq!(producers.known.len(), PRODUCERS_MAX);
        assert!(producers.is_known(0) && !producers.is_known(1) && producers.is_known(2));
    }
}
