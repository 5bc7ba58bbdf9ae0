use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Instant;

use foldhash::{HashMap, HashMapExt as _};

use crate::config::AcknowledgementMode;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::share::{AcknowledgementBatch, AcquiredRecords};
use crate::types::{BrokerId, TopicId, TopicPartition};

/// What the application says about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AcknowledgeType {
    /// It was processed.
    Accept,
    /// It was not; somebody may have it again, unless it has been delivered too often
    /// (`group.share.delivery.count.limit`).
    Release,
    /// It cannot be processed: nobody gets it again.
    Reject,
    /// It is still being processed: its lock starts anew, and it is to be acknowledged again (KIP-1222; brokers
    /// from 4.2).
    Renew,
}

impl AcknowledgeType {
    const fn to_wire(self) -> i8 {
        match self {
            Self::Accept => 1,
            Self::Release => 2,
            Self::Reject => 3,
            Self::Renew => AcknowledgementBatch::RENEW,
        }
    }
}

/// The number for an offset without a record.
pub(super) const GAP: i8 = 0;
/// That an offset goes back which the application has not seen: a release, of which it does not hear.
pub(super) const RETURN: i8 = -1;

/// The number that a broker is told.
const fn wire(kind: i8) -> i8 {
    if kind == RETURN { AcknowledgeType::Release.to_wire() } else { kind }
}

/// Offsets without a hole, both ends included.
pub(super) type Run = (i64, i64);

/// What is to be told to one broker about one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    pub(super) node: BrokerId,
    pub(super) topic_id: TopicId,
    pub(super) partition: TopicPartition,
    /// By first offset; last offset and type.
    pub(super) runs: BTreeMap<i64, (i64, i8)>,
    /// Until when it is told again where the broker could not take it; once that has happened.
    pub(super) give_up_at: Option<Instant>,
}

impl Acknowledgement {
    pub(super) fn new(node: BrokerId, topic_id: TopicId, partition: TopicPartition) -> Self {
        Self { node, topic_id, partition, runs: BTreeMap::new(), give_up_at: None }
    }

    pub(super) fn add(&mut self, (first, last): Run, kind: i8) {
        self.runs.insert(first, (last, kind));
    }

    /// Whether a lock is to be renewed.
    pub(super) fn is_renewal(&self) -> bool {
        self.runs.values().any(|(_, kind)| *kind == AcknowledgementBatch::RENEW)
    }

    /// Later words replace earlier ones about the same offsets.
    pub(super) fn absorb(&mut self, other: Self) {
        self.runs.extend(other.runs);
    }

    /// Those of records of which the application has said something, without holes.
    pub(super) fn offsets(&self) -> Vec<RangeInclusive<i64>> {
        let mut offsets: Vec<RangeInclusive<i64>> = Vec::new();
        for (first, (last, _)) in self.runs.iter().filter(|(_, (_, kind))| ![GAP, RETURN].contains(kind)) {
            match offsets.last_mut() {
                Some(run) if run.end().checked_add(1) == Some(*first) => *run = *run.start()..=*last,
                _ => offsets.push(*first..=*last),
            }
        }
        offsets
    }

    pub(super) fn to_batches(&self) -> Vec<AcknowledgementBatch> {
        let mut batches: Vec<AcknowledgementBatch> = Vec::new();
        for (first, (last, kind)) in &self.runs {
            match batches.last_mut() {
                Some(batch)
                    if batch.last_offset.checked_add(1) == Some(*first) && batch.types == [wire(*kind)] =>
                {
                    batch.last_offset = *last;
                }
                _ => batches.push(AcknowledgementBatch {
                    first_offset: *first,
                    last_offset: *last,
                    types: vec![wire(*kind)],
                }),
            }
        }
        batches
    }
}

/// What was handed out to the application and has no final word yet.
#[derive(Debug)]
pub(crate) struct Ledger {
    mode: AcknowledgementMode,
    partitions: HashMap<TopicPartition, Held>,
}

#[derive(Debug)]
struct Held {
    node: BrokerId,
    topic_id: TopicId,
    /// By first offset: last offset, and whether the application has been told to say something: not after a
    /// renewal.
    runs: BTreeMap<i64, (i64, bool)>,
    said: Acknowledgement,
}

impl Ledger {
    pub(crate) fn new(mode: AcknowledgementMode) -> Self {
        Self { mode, partitions: HashMap::new() }
    }

    /// These records are handed out now; `gaps` among them are no records.
    pub(super) fn hand_out(
        &mut self,
        (node, topic_id): (BrokerId, TopicId),
        partition: &TopicPartition,
        runs: &[Run],
        gaps: &[Run],
    ) {
        let held = self.partitions.entry(partition.clone()).or_insert_with(|| Held {
            node,
            topic_id,
            runs: BTreeMap::new(),
            said: Acknowledgement::new(node, topic_id, partition.clone()),
        });
        if (held.node, held.topic_id) != (node, topic_id) {
            // The leader has moved, and with it all locks are gone.
            held.runs.clear();
            held.said = Acknowledgement::new(node, topic_id, partition.clone());
            (held.node, held.topic_id) = (node, topic_id);
        }
        held.runs.extend(runs.iter().map(|(first, last)| (*first, (*last, true))));
        gaps.iter().for_each(|gap| held.said.add(*gap, GAP));
    }

    /// These were to be handed out, and cannot: somebody else may have more luck.
    pub(super) fn give_back(
        &mut self,
        owner: (BrokerId, TopicId),
        partition: &TopicPartition,
        acquired: &[AcquiredRecords],
    ) {
        self.hand_out(owner, partition, &[], &[]);
        if let Some(held) = self.partitions.get_mut(partition) {
            for range in acquired {
                held.said.add((range.first_offset, range.last_offset), RETURN);
            }
        }
    }

    /// # Errors
    /// `Usage`: implicit mode, or a record that was not handed out or has its final word.
    pub(crate) fn acknowledge(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        kind: AcknowledgeType,
    ) -> Result<()> {
        let attempted = || format!("acknowledge offset {offset} of {partition}");
        if self.mode == AcknowledgementMode::Implicit {
            return Err(Error::new(ErrorKind::Usage, attempted())
                .with_hint("set share.acknowledgement.mode=explicit"));
        }
        let held = self.partitions.get_mut(partition);
        let held = held.filter(|held| {
            held.runs.range(..=offset).next_back().is_some_and(|(_, (last, _))| *last >= offset)
        });
        let Some(held) = held else {
            return Err(Error::new(ErrorKind::Usage, attempted())
                .with_hint("it was not handed out, or is acknowledged already"));
        };
        held.carve(offset);
        if kind == AcknowledgeType::Renew {
            held.runs.insert(offset, (offset, false));
        }
        held.said.add((offset, offset), kind.to_wire());
        Ok(())
    }

    /// Before more is handed out: in implicit mode accepts everything.
    ///
    /// # Errors
    /// `Usage` in explicit mode while a record has no word.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if self.mode == AcknowledgementMode::Implicit {
            self.accept_all();
            return Ok(());
        }
        let open = self.partitions.iter().find_map(|(partition, held)| {
            let run = held.runs.iter().find(|(_, (_, is_open))| *is_open);
            run.map(|(first, _)| (partition.clone(), *first))
        });
        match open {
            None => Ok(()),
            Some((partition, offset)) => Err(Error::new(
                ErrorKind::Usage,
                "poll while records of the poll before are not acknowledged",
            )
            .with_partition(partition)
            .with_offset(offset)
            .with_hint("acknowledge each record before the next poll (share.acknowledgement.mode=explicit)")),
        }
    }

    /// In implicit mode; the application commits.
    pub(crate) fn accept_all(&mut self) {
        if self.mode != AcknowledgementMode::Implicit {
            return;
        }
        for held in self.partitions.values_mut() {
            for (first, (last, _)) in std::mem::take(&mut held.runs) {
                held.said.add((first, last), AcknowledgeType::Accept.to_wire());
            }
        }
    }

    /// What has been said since this was last called.
    pub(crate) fn take_said(&mut self) -> Vec<Acknowledgement> {
        let mut said = Vec::new();
        self.partitions.retain(|partition, held| {
            if !held.said.runs.is_empty() {
                let next = Acknowledgement::new(held.node, held.topic_id, partition.clone());
                said.push(std::mem::replace(&mut held.said, next));
            }
            !held.runs.is_empty()
        });
        said
    }
}

impl Held {
    /// Takes one offset out of the run that has it.
    fn carve(&mut self, offset: i64) {
        let Some((first, (last, is_open))) = self.runs.range(..=offset).next_back().map(|(f, r)| (*f, *r))
        else {
            return;
        };
        self.runs.remove(&first);
        if first < offset {
            self.runs.insert(first, (offset - 1, is_open));
        }
        if offset < last {
            self.runs.insert(offset + 1, (last, is_open));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(mode: AcknowledgementMode) -> (Ledger, TopicPartition) {
        let (mut ledger, partition) = (Ledger::new(mode), TopicPartition::new("t", 0));
        ledger.hand_out((BrokerId(1), TopicId([1; 16])), &partition, &[(10, 14), (16, 17)], &[(15, 15)]);
        (ledger, partition)
    }

    fn batches(said: &[Acknowledgement]) -> Vec<(i64, i64, i8)> {
        let batches = said.iter().flat_map(Acknowledgement::to_batches);
        batches.map(|batch| (batch.first_offset, batch.last_offset, batch.types[0])).collect()
    }

    #[test]
    fn implicitly_all_that_was_handed_out_is_accepted_and_gaps_are_named() {
        let (mut ledger, partition) = ledger(AcknowledgementMode::Implicit);
        let error = ledger.acknowledge(&partition, 10, AcknowledgeType::Accept).unwrap_err();
        assert!(error.to_string().contains("share.acknowledgement.mode=explicit"), "{error}");
        assert_eq!(batches(&ledger.take_said()), [(15, 15, 0)]);
        ledger.settle().unwrap();
        let said = ledger.take_said();
        assert_eq!(batches(&said), [(10, 14, 1), (16, 17, 1)]);
        assert_eq!(said[0].offsets(), [10..=14, 16..=17]);
        assert!(ledger.take_said().is_empty() && ledger.partitions.is_empty());
    }

    #[test]
    fn explicitly_each_record_has_its_own_word_and_only_one() {
        let (mut ledger, partition) = ledger(AcknowledgementMode::Explicit);
        for (offset, kind) in [
            (12, AcknowledgeType::Release),
            (10, AcknowledgeType::Accept),
            (11, AcknowledgeType::Accept),
            (17, AcknowledgeType::Reject),
            (13, AcknowledgeType::Accept),
        ] {
            ledger.acknowledge(&partition, offset, kind).unwrap();
        }
        for offset in [9, 12, 15, 18] {
            let error = ledger.acknowledge(&partition, offset, AcknowledgeType::Accept).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{offset}");
        }
        assert_eq!(ledger.settle().unwrap_err().offset(), Some(14));
        ledger.acknowledge(&partition, 14, AcknowledgeType::Accept).unwrap();
        ledger.acknowledge(&partition, 16, AcknowledgeType::Accept).unwrap();
        ledger.settle().unwrap();
        let said = batches(&ledger.take_said());
        assert_eq!(said, [(10, 11, 1), (12, 12, 2), (13, 14, 1), (15, 15, 0), (16, 16, 1), (17, 17, 3)]);
    }

    #[test]
    fn a_renewed_record_gets_its_word_later() {
        let (mut ledger, partition) = ledger(AcknowledgementMode::Explicit);
        for offset in [10, 11, 12, 13, 14, 16, 17] {
            ledger.acknowledge(&partition, offset, AcknowledgeType::Renew).unwrap();
        }
        ledger.settle().unwrap();
        assert_eq!(batches(&ledger.take_said()), [(10, 14, 4), (15, 15, 0), (16, 17, 4)]);
        ledger.acknowledge(&partition, 13, AcknowledgeType::Accept).unwrap();
        assert!(ledger.acknowledge(&partition, 13, AcknowledgeType::Accept).is_err());
        assert_eq!(batches(&ledger.take_said()), [(13, 13, 1)]);
    }

    #[test]
    fn with_another_leader_earlier_locks_are_gone() {
        let (mut ledger, partition) = ledger(AcknowledgementMode::Explicit);
        ledger.hand_out((BrokerId(2), TopicId([1; 16])), &partition, &[(10, 10)], &[]);
        assert!(ledger.acknowledge(&partition, 11, AcknowledgeType::Accept).is_err());
        ledger.acknowledge(&partition, 10, AcknowledgeType::Accept).unwrap();
        assert_eq!(ledger.take_said()[0].node, BrokerId(2));
    }
}
