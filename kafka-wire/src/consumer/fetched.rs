//! From the record set of one partition in a Fetch answer to steps along its log.

use bytes::Bytes;

use super::aborted::AbortedFilter;
use super::position::OffsetAndEpoch;
use crate::error::{Error, ErrorKind};
use crate::record::{self, ControlMarker, RawBatch, Records};
use crate::types::LeaderEpoch;

/// What is known about the ends of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogEnds {
    pub(crate) high_watermark: i64,
    /// −1 when not told.
    pub(crate) last_stable_offset: i64,
    /// −1 when not told.
    pub(crate) log_start_offset: i64,
}

/// A batch on its way to the application.
#[derive(Debug)]
pub(crate) enum Content {
    /// As it came over the wire.
    Raw(RawBatch),
    /// The rest of one of which the application has had some records (`max.poll.records`).
    Open(Records),
}

/// A step along a log: over a batch of records, or over what is nobody's business (control batches,
/// aborted and emptied ones), or on the spot when only the ends of the log have moved.
#[derive(Debug)]
pub(crate) struct Step {
    /// Records below `from` in it are not wanted.
    pub(crate) batch: Option<Content>,
    pub(crate) from: i64,
    pub(crate) next: OffsetAndEpoch,
    pub(crate) ends: LogEnds,
}

impl Step {
    /// Bytes of its batch.
    pub(crate) fn size_bytes(&self) -> usize {
        match &self.batch {
            None => 0,
            Some(Content::Raw(batch)) => batch.bytes().len(),
            Some(Content::Open(records)) => records.size_bytes(),
        }
    }

    /// Records and bytes of its batch, unless the application has had the first of them.
    pub(crate) fn fresh(&self) -> Option<(u64, u64)> {
        match &self.batch {
            Some(Content::Raw(batch)) => Some((batch.count(), batch.bytes().len() as u64)),
            Some(Content::Open(_)) | None => None,
        }
    }

    /// Copies its batch out of the answer that it came in, so that the rest of that can go.
    pub(crate) fn detach(&mut self) {
        if let Some(Content::Raw(batch)) = &mut self.batch {
            batch.detach();
        }
    }

    /// Takes `next` in, if the two are one step over nothing.
    pub(crate) fn absorb(&mut self, next: &Self) -> bool {
        let is_one = self.batch.is_none() && next.batch.is_none() && self.next.offset == next.from;
        if is_one {
            self.next = next.next;
            self.ends = next.ends;
        }
        is_one
    }
}

/// How far a record set led.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) steps: Vec<Step>,
    pub(crate) next: OffsetAndEpoch,
    pub(crate) end: WalkEnd,
    start: i64,
}

/// Why a walk went no further.
#[derive(Debug)]
pub(crate) enum WalkEnd {
    /// Nothing more was there; maybe the start of a batch that the next answer brings whole.
    Complete,
    /// There are bytes, but not one whole batch: the answer was cut too short for it.
    TooShort,
    /// The batch at `next` is damaged.
    Corrupt(Error),
}

/// Walks along `records` from `start`. With a filter, aborted transactions are left out.
pub(crate) fn walk(
    records: Bytes,
    start: OffsetAndEpoch,
    ends: LogEnds,
    mut filter: Option<AbortedFilter>,
    check_crcs: bool,
) -> Walk {
    let size = records.len();
    let mut batches = record::batches(records);
    let mut walk = Walk { steps: Vec::new(), next: start, end: WalkEnd::Complete, start: start.offset };
    for batch in &mut batches {
        if let Err(error) = batch.and_then(|batch| walk.pass(batch, ends, filter.as_mut(), check_crcs)) {
            walk.end = WalkEnd::Corrupt(error.with_offset(walk.next.offset));
            break;
        }
    }
    if size > 0 && batches.bytes_read() == 0 && matches!(walk.end, WalkEnd::Complete) {
        walk.end = WalkEnd::TooShort;
    }
    walk.end_at_next(ends);
    walk
}

impl Walk {
    fn pass(
        &mut self,
        batch: RawBatch,
        ends: LogEnds,
        filter: Option<&mut AbortedFilter>,
        check_crcs: bool,
    ) -> Result<(), Error> {
        if check_crcs {
            batch.verify_crc()?;
        }
        let header = batch.header;
        let end = header.base_offset.checked_add(i64::from(header.last_offset_delta));
        // The checksum does not cover the base offset, but nobody may read beyond the high watermark.
        if header.last_offset_delta < 0 || end.is_none_or(|last| last >= ends.high_watermark) {
            return Err(Error::new(
                ErrorKind::CorruptRecords,
                format!(
                    "read a batch from offset {} with last offset delta {}, the high watermark being {}",
                    header.base_offset, header.last_offset_delta, ends.high_watermark
                ),
            ));
        }
        let unwanted = match filter {
            Some(filter) => is_aborted(&batch, filter)? || header.is_control(),
            None => header.is_control(),
        };
        if header.next_offset() <= self.next.offset {
            return Ok(()); // Brokers answer from the batch that holds the offset asked for.
        }
        self.next = OffsetAndEpoch {
            offset: header.next_offset(),
            leader_epoch: LeaderEpoch::from_wire(header.partition_leader_epoch),
        };
        if !unwanted && header.count != 0 {
            let batch = Some(Content::Raw(batch));
            self.steps.push(Step { batch, from: self.reached(), next: self.next, ends });
        }
        Ok(())
    }

    /// What was passed over at the end is a step too.
    fn end_at_next(&mut self, ends: LogEnds) {
        let from = self.reached();
        if from != self.next.offset {
            self.steps.push(Step { batch: None, from, next: self.next, ends });
        }
    }

    /// Where the steps so far lead.
    fn reached(&self) -> i64 {
        self.steps.last().map_or(self.start, |step| step.next.offset)
    }
}

fn is_aborted(batch: &RawBatch, filter: &mut AbortedFilter) -> Result<bool, Error> {
    let header = &batch.header;
    let aborted = filter.reach(header.producer_id, header.last_offset()) && header.is_transactional();
    if header.is_control() && batch.control()? == Some(ControlMarker::Abort) {
        filter.abort_marker(header.producer_id);
    }
    Ok(aborted)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::super::batch::FetchedBatch;
    use super::super::model::{self, Event, ModelLog, Seen};
    use super::*;
    use crate::protocol::limits::Limits;
    use crate::types::{Isolation, TopicPartition};

    fn ends(log: &ModelLog) -> LogEnds {
        LogEnds {
            high_watermark: log.high_watermark(),
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: 0,
        }
    }

    fn at(offset: i64) -> OffsetAndEpoch {
        OffsetAndEpoch { offset, leader_epoch: None }
    }

    fn records(step: Step) -> Vec<Seen> {
        let batch = FetchedBatch::open(TopicPartition::new("t", 0), step, &Limits::default()).unwrap();
        let seen: Vec<Seen> = batch
            .iter()
            .map(|record| Seen {
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                value: record.value.unwrap().to_vec(),
            })
            .collect();
        assert_eq!(batch.len(), seen.len());
        seen
    }

    fn read_all(log: &ModelLog, start: i64, max_bytes: usize, isolation: Isolation) -> (Vec<Seen>, i64) {
        let mut position = at(start);
        let mut seen = Vec::new();
        loop {
            let answer = log.fetch(position.offset, max_bytes, isolation);
            let filter = (isolation == Isolation::ReadCommitted).then(|| AbortedFilter::new(answer.aborted));
            let walk = walk(answer.records, position, ends(log), filter, true);
            assert!(matches!(walk.end, WalkEnd::Complete), "{:?}", walk.end);
            let mut reached = position;
            for step in walk.steps {
                assert_eq!(step.from, reached.offset, "steps join");
                assert!(step.next.offset > step.from);
                reached = step.next;
                seen.extend(records(step));
            }
            assert_eq!(reached, walk.next);
            if walk.next == position {
                return (seen, position.offset);
            }
            position = walk.next;
        }
    }

    proptest! {
        #[test]
        fn a_reader_sees_exactly_what_the_model_says(
            events in model::events(),
            start in 0..60i64,
            max_bytes in 1..2000usize,
            committed: bool,
        ) {
            let log = ModelLog::new(&events);
            let isolation = if committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
            let (seen, end) = read_all(&log, start, max_bytes, isolation);
            prop_assert_eq!(seen, log.expected(start, isolation));
            // Only offsets that compaction took from the very end cannot be told from an idle log.
            prop_assert!(end >= start);
        }
    }

    fn appended(records: u8) -> Event {
        Event::Append { producer: None, records, removed: 0, log_append_time: false }
    }

    #[test]
    fn a_damaged_batch_stops_the_walk_before_it_and_names_its_offset() {
        let log = ModelLog::new(&[appended(3), appended(3), appended(3)]);
        let mut bytes = BytesMut::from(&log.fetch(0, 10_000, Isolation::ReadCommitted).records[..]);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let walk = walk(bytes.freeze(), at(0), ends(&log), None, true);
        assert_eq!((walk.steps.len(), walk.next.offset), (1, 3));
        let WalkEnd::Corrupt(error) = walk.end else { panic!("{:?}", walk.end) };
        assert_eq!((error.kind(), error.offset()), (ErrorKind::CorruptRecords, Some(3)));
    }

    #[test]
    fn the_start_of_a_batch_alone_is_too_short() {
        let log = ModelLog::new(&[appended(3)]);
        let bytes = log.fetch(0, 10_000, Isolation::ReadCommitted).records;
        for cut in [1, 11, 60, bytes.len() - 1] {
            let walk = walk(bytes.slice(..cut), at(0), ends(&log), None, true);
            assert!(matches!(walk.end, WalkEnd::TooShort), "{cut}: {:?}", walk.end);
            assert_eq!((walk.steps.len(), walk.next), (0, at(0)));
        }
    }

    #[test]
    fn batches_that_do_not_advance_are_passed_over() {
        let log = ModelLog::new(&[appended(3), appended(3)]);
        let set = log.fetch(0, 10_000, Isolation::ReadCommitted).records;
        let twice = Bytes::from([&set[..], &set[..]].concat());
        let walk = walk(twice, at(1), ends(&log), None, true);
        let offsets: Vec<i64> =
            walk.steps.into_iter().flat_map(records).map(|record| record.offset).collect();
        assert_eq!(offsets, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn passed_over_batches_still_move_the_position() {
        let removed = Event::Append { producer: None, records: 5, removed: 0xff, log_append_time: false };
        let aborted = Event::Append { producer: Some(1), records: 2, removed: 0, log_append_time: false };
        let log = ModelLog::new(&[removed, aborted, Event::End { producer: 1, commit: false }]);
        let answer = log.fetch(0, 10_000, Isolation::ReadCommitted);
        let walk = walk(answer.records, at(0), ends(&log), Some(AbortedFilter::new(answer.aborted)), true);
        assert_eq!(walk.steps.len(), 1);
        assert!(walk.steps[0].batch.is_none());
        assert_eq!(walk.steps[0].next, OffsetAndEpoch { offset: 8, leader_epoch: Some(LeaderEpoch(0)) });
    }

    /// By Kafka's own classes: a gzip wrapper of format v1 around the offsets 1000, 1003 and 1006.
    const WRAPPER_V1: &str = "00000000000003ee0000007b3ac65cee01010000018bcfe56800ffffffff000000651f8b0800\
         0000000000ff63608003b1ba28bd1f8c400663f7f9a7190cff810021c9c00cc4d2335cbdb7c054a42f063258b3532b750d\
         9194b201b17deaf2747bb832379832232043a52c31a73455213f4da1283539bf2845c14801530400df075e8094000000";

    #[test]
    fn within_a_wrapper_of_an_old_format_reading_starts_at_the_position() {
        let digits: Vec<u8> =
            WRAPPER_V1.bytes().map(|digit| (digit as char).to_digit(16).unwrap() as u8).collect();
        let set: Bytes = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>().into();
        let ends = LogEnds { high_watermark: 1007, last_stable_offset: 1007, log_start_offset: 0 };
        let filter = Some(AbortedFilter::new(Vec::new()));
        let walk = walk(set, at(1001), ends, filter, true);
        assert!(matches!(walk.end, WalkEnd::Complete), "{:?}", walk.end);
        assert_eq!(walk.next, at(1007));
        let mut steps = walk.steps.into_iter();
        let step = steps.next().unwrap();
        assert_eq!((step.from, steps.len()), (1001, 0));
        let batch = FetchedBatch::open(TopicPartition::new("t", 0), step, &Limits::default()).unwrap();
        assert_eq!(batch.iter().map(|record| record.offset).collect::<Vec<_>>(), [1003, 1006]);
    }
}
