//! A partition's log: batches as they came, their offsets, and what the producers' state says of them.

mod compaction;
mod storage;

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use bytes::Bytes;
use kafka_wire::ErrorCode;

pub(crate) use self::compaction::Rules;
use self::storage::{Place, Storage};
use crate::batch::{Header, marker_outcome, stamp};
use crate::error::Failure;
use crate::producers::Producers;

/// One partition's records. There is no replication: the high watermark is the end of the log.
#[derive(Debug)]
pub(crate) struct Log {
    storage: Storage,
    batches: VecDeque<Batch>,
    /// Offsets below are deleted.
    start_offset: i64,
    end_offset: i64,
    /// Leader epochs that wrote, with the first offset of each (KIP-101).
    epochs: Vec<(i32, i64)>,
    pub(crate) producers: Producers,
    size_bytes: u64,
    /// Offsets below were looked at by the last compaction.
    compacted_to: i64,
    unsynced: bool,
}

#[derive(Debug)]
struct Batch {
    base_offset: i64,
    last_offset: i64,
    max_timestamp: i64,
    size: usize,
    place: Place,
}

impl Batch {
    fn new(header: &Header, place: Place) -> Self {
        Self {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp,
            size: header.size,
            place,
        }
    }
}

/// What a read found.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// Whole batches, in order.
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) bytes: usize,
    /// Behind the last batch; where nothing was found, the offset asked for.
    pub(crate) next_offset: i64,
}

impl Log {
    pub(crate) fn in_memory() -> Self {
        Self::with_storage(Storage::Memory)
    }

    /// Opens the log in the file `path` and rebuilds what follows from its batches.
    ///
    /// # Errors
    /// When the file cannot be read. A torn tail is cut, not an error.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut log = Self::with_storage(Storage::Memory);
        log.storage = Storage::open(path, |bytes, place| {
            // The storage has just parsed it.
            if let Ok(header) = Header::parse(&bytes) {
                log.index(&header, &bytes, place);
            }
        })?;
        Ok(log)
    }

    fn with_storage(storage: Storage) -> Self {
        Self {
            storage,
            batches: VecDeque::new(),
            start_offset: 0,
            end_offset: 0,
            epochs: Vec::new(),
            producers: Producers::default(),
            size_bytes: 0,
            compacted_to: 0,
            unsynced: false,
        }
    }

    pub(crate) fn start_offset(&self) -> i64 {
        self.start_offset
    }

    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What `read_committed` readers may read up to.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        self.producers.first_open_offset().unwrap_or(self.end_offset)
    }

    /// The leader epoch of the last batch.
    pub(crate) fn last_epoch(&self) -> Option<i32> {
        self.epochs.last().map(|&(epoch, _)| epoch)
    }

    /// Appends a batch that was checked, under the next offsets; returns its base offset.
    ///
    /// # Errors
    /// `KAFKA_STORAGE_ERROR`, when the file cannot be written; nothing was appended then.
    pub(crate) fn append(
        &mut self,
        batch: &[u8],
        leader_epoch: i32,
        append_time: Option<i64>,
    ) -> Result<i64, Failure> {
        let stamped = stamp(batch, self.end_offset, leader_epoch, append_time);
        let header = Header::parse(&stamped)?;
        let place = self.storage.append(&stamped).map_err(|error| {
            tracing::error!(%error, bytes = stamped.len(), "a batch could not be written");
            Failure {
                code: ErrorCode::KAFKA_STORAGE_ERROR,
                text: format!("write a batch of {} bytes: {error}", stamped.len()).into(),
            }
        })?;
        self.index(&header, &stamped, place);
        self.unsynced = true;
        Ok(header.base_offset)
    }

    fn index(&mut self, header: &Header, bytes: &[u8], place: Place) {
        self.end_offset = header.last_offset() + 1;
        self.size_bytes += header.size as u64;
        if self.last_epoch().is_none_or(|epoch| epoch < header.leader_epoch) {
            self.epochs.push((header.leader_epoch, header.base_offset));
        }
        self.batches.push_back(Batch::new(header, place));
        self.note_producer(header, bytes);
    }

    fn note_producer(&mut self, header: &Header, bytes: &[u8]) {
        if !header.has_producer() {
            return;
        }
        if !header.is_control() {
            self.producers.appended(header);
        } else if let Some(commit) = marker_outcome(bytes) {
            self.producers.ended(header, commit);
        }
    }

    /// Whole batches from the one that holds `offset` on, those that begin below `bound`, up to `max_bytes`;
    /// the first one even if it alone is larger, when `at_least_one`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn read(
        &self,
        offset: i64,
        bound: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> io::Result<Slice> {
        let mut slice = Slice { next_offset: offset, ..Slice::default() };
        let first = self.batches.partition_point(|batch| batch.last_offset < offset);
        let mut run: Option<(&Place, usize)> = None;
        for batch in self.batches.range(first..).take_while(|batch| batch.base_offset < bound) {
            let fits = slice.bytes + batch.size <= max_bytes || (at_least_one && slice.bytes == 0);
            if !fits {
                break;
            }
            slice.bytes += batch.size;
            slice.next_offset = batch.last_offset + 1;
            run = match (run, &batch.place) {
                // Batches that lie side by side in the file are read at once.
                (Some((start, bytes)), Place::File(_)) => Some((start, bytes + batch.size)),
                (None, Place::File(_)) => Some((&batch.place, batch.size)),
                (_, Place::Memory(bytes)) => {
                    slice.chunks.push(bytes.clone());
                    None
                }
            };
        }
        if let Some((start, bytes)) = run {
            slice.chunks.push(self.storage.read(start, bytes)?);
        }
        Ok(slice)
    }

    /// The batches of records that readers of committed records see.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn committed(&self) -> io::Result<Vec<Bytes>> {
        let stable = self.last_stable_offset();
        let mut committed = Vec::new();
        for batch in self.batches.iter().take_while(|batch| batch.base_offset < stable) {
            let bytes = self.storage.read(&batch.place, batch.size)?;
            let is_control = Header::parse(&bytes).is_ok_and(|header| header.is_control());
            if !is_control && !self.is_aborted(&bytes, batch) {
                committed.push(bytes);
            }
        }
        Ok(committed)
    }

    /// How many bytes a read from `offset` up to `bound` has, counted up to `enough`.
    pub(crate) fn readable_bytes(&self, offset: i64, bound: i64, enough: usize) -> usize {
        let first = self.batches.partition_point(|batch| batch.last_offset < offset);
        let mut bytes = 0;
        for batch in self.batches.range(first..).take_while(|batch| batch.base_offset < bound) {
            bytes += batch.size;
            if bytes >= enough {
                break;
            }
        }
        bytes
    }

    /// The first batch, if any, with a record of `timestamp` or later: the batch's bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn find_timestamp(&self, timestamp: i64) -> io::Result<Option<Bytes>> {
        let live = self.batches.iter().filter(|batch| batch.last_offset >= self.start_offset);
        self.load(live.into_iter().find(|batch| batch.max_timestamp >= timestamp))
    }

    /// The first batch, if any, with the largest timestamp.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn find_max_timestamp(&self) -> io::Result<Option<Bytes>> {
        let mut latest: Option<&Batch> = None;
        for batch in self.batches.iter().filter(|batch| batch.last_offset >= self.start_offset) {
            if latest.is_none_or(|latest| batch.max_timestamp > latest.max_timestamp) {
                latest = Some(batch);
            }
        }
        self.load(latest)
    }

    fn load(&self, batch: Option<&Batch>) -> io::Result<Option<Bytes>> {
        batch.map(|batch| self.storage.read(&batch.place, batch.size)).transpose()
    }

    /// The last epoch not above `epoch`, with the offset where a later one begins (KIP-101): what a reader
    /// compares its position with. `None` where `epoch` is later than the leader's, `current`.
    pub(crate) fn end_of_epoch(&self, epoch: i32, current: i32) -> Option<(i32, i64)> {
        if epoch >= current {
            return (epoch == current).then_some((current, self.end_offset));
        }
        let later = self.epochs.partition_point(|&(known, _)| known <= epoch);
        let known = later.checked_sub(1).map_or(epoch, |last| self.epochs[last].0);
        Some((known, self.epochs.get(later).map_or(self.end_offset, |&(_, start)| start)))
    }

    /// The epoch that wrote `offset`.
    pub(crate) fn epoch_at(&self, offset: i64) -> Option<i32> {
        let later = self.epochs.partition_point(|&(_, start)| start <= offset);
        Some(self.epochs.get(later.checked_sub(1)?)?.0)
    }

    /// Deletes what is below `offset`. In memory whole batches are dropped; a file keeps its bytes.
    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.start_offset = self.start_offset.max(offset.min(self.end_offset));
        while let Some(first) = self.batches.front() {
            if first.last_offset >= self.start_offset {
                break;
            }
            self.size_bytes -= first.size as u64;
            self.batches.pop_front();
        }
        self.producers.forget_before(self.start_offset);
    }

    /// Deletes the oldest batches until at most `bytes` are left, or one batch; says whether any went.
    pub(crate) fn retain_bytes(&mut self, bytes: u64) -> bool {
        let mut left = self.size_bytes;
        let mut start = self.start_offset;
        let stable = self.last_stable_offset();
        for batch in self.batches.iter().take(self.batches.len().saturating_sub(1)) {
            if left <= bytes || batch.last_offset >= stable {
                break;
            }
            left -= batch.size as u64;
            start = batch.last_offset + 1;
        }
        let any = start > self.start_offset;
        self.delete_before(start);
        any
    }

    /// Deletes the oldest batches whose records are all older than `before_ms`; says whether any went.
    pub(crate) fn retain_since(&mut self, before_ms: i64) -> bool {
        let stable = self.last_stable_offset();
        let start = self
            .batches
            .iter()
            .take_while(|batch| batch.max_timestamp < before_ms && batch.last_offset < stable)
            .last()
            .map_or(self.start_offset, |batch| batch.last_offset + 1);
        let any = start > self.start_offset;
        self.delete_before(start);
        any
    }

    /// Cuts the log to end at `offset`, or below where a batch spans it, as an unclean leader election
    /// would; the producers' state is that of the batches that stay.
    ///
    /// # Errors
    /// When the file cannot be cut or read.
    pub(crate) fn truncate(&mut self, offset: i64) -> io::Result<()> {
        let keep = self.batches.partition_point(|batch| batch.last_offset < offset);
        let Some(first_gone) = self.batches.get(keep) else { return Ok(()) };
        self.storage.truncate(&first_gone.place)?;
        let end = first_gone.base_offset;
        let kept: Vec<Batch> = self.batches.drain(..keep).collect();
        self.batches.clear();
        self.epochs.clear();
        self.producers = Producers::default();
        self.size_bytes = 0;
        for batch in kept {
            let bytes = self.storage.read(&batch.place, batch.size)?;
            if let Ok(header) = Header::parse(&bytes) {
                self.index(&header, &bytes, batch.place);
            }
        }
        self.end_offset = end;
        self.start_offset = self.start_offset.min(end);
        Ok(())
    }

    /// Makes what was appended since the last call survive a power loss.
    ///
    /// # Errors
    /// When the file system says so: then nothing is known to be safe.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.storage.sync()?;
            self.unsynced = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::end_marker;
    use kafka_wire::ProducerIdentity;

    /// Markers are batches of one record; as data their content does not matter to the log.
    fn data(unix_ms: i64) -> Bytes {
        end_marker(ProducerIdentity { id: 1, epoch: 0 }, true, unix_ms).unwrap()
    }

    fn append(log: &mut Log, epoch: i32, unix_ms: i64) -> i64 {
        log.append(&data(unix_ms), epoch, None).unwrap()
    }

    fn offsets(slice: &Slice) -> Vec<i64> {
        let mut offsets = Vec::new();
        for chunk in &slice.chunks {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let header = Header::parse(rest).unwrap();
                offsets.push(header.base_offset);
                rest = &rest[header.size..];
            }
        }
        offsets
    }

    fn both(test: impl Fn(&mut Log)) {
        test(&mut Log::in_memory());
        let folder = tempfile::tempdir().unwrap();
        test(&mut Log::open(&folder.path().join("0.log")).unwrap());
    }

    #[test]
    fn reads_whole_batches_within_bounds() {
        both(|log| {
            for index in 0..5 {
                assert_eq!(append(log, 0, index), index);
            }
            let size = data(0).len();
            assert_eq!(offsets(&log.read(1, 4, usize::MAX, true).unwrap()), [1, 2, 3]);
            assert_eq!(offsets(&log.read(0, 5, 2 * size, true).unwrap()), [0, 1]);
            assert_eq!(offsets(&log.read(2, 5, 1, true).unwrap()), [2]);
            assert_eq!(offsets(&log.read(2, 5, 1, false).unwrap()), [] as [i64; 0]);
            assert_eq!(log.read(5, 5, usize::MAX, true).unwrap().next_offset, 5);
            assert_eq!(log.readable_bytes(0, 5, usize::MAX), 5 * size);
        });
    }

    #[test]
    fn truncation_tells_where_an_epoch_ended() {
        both(|log| {
            for (epoch, time) in [(0, 0), (0, 1), (2, 2), (2, 3)] {
                append(log, epoch, time);
            }
            assert_eq!(log.end_of_epoch(1, 2), Some((0, 2)));
            assert_eq!(log.end_of_epoch(2, 2), Some((2, 4)));
            assert_eq!(log.end_of_epoch(3, 2), None);
            assert_eq!((log.epoch_at(1), log.epoch_at(3)), (Some(0), Some(2)));
            log.truncate(3).unwrap();
            assert_eq!((log.end_offset(), log.last_epoch()), (3, Some(2)));
            log.truncate(1).unwrap();
            assert_eq!(
                (log.end_offset(), log.last_epoch(), log.end_of_epoch(2, 3)),
                (1, Some(0), Some((0, 1)))
            );
            assert_eq!(append(log, 3, 9), 1);
        });
    }

    #[test]
    fn deletion_moves_the_start_and_keeps_the_end() {
        both(|log| {
            for time in 0..4 {
                append(log, 0, time);
            }
            log.delete_before(2);
            assert_eq!((log.start_offset(), log.end_offset()), (2, 4));
            assert!(log.retain_since(3) && log.start_offset() == 3);
            log.delete_before(99);
            assert_eq!((log.start_offset(), log.end_offset()), (4, 4));
            assert_eq!(append(log, 0, 9), 4);
        });
    }

    #[test]
    fn a_torn_tail_is_cut_and_the_rest_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut log = Log::open(&path).unwrap();
        for time in 0..3 {
            append(&mut log, 0, time);
        }
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        let size = whole.len() / 3;
        for cut in [2 * size + 1, 2 * size + 20, 3 * size - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut log = Log::open(&path).unwrap();
            assert_eq!(log.end_offset(), 2, "cut at {cut}");
            assert_eq!(append(&mut log, 0, 9), 2);
            drop(log);
            assert_eq!(Log::open(&path).unwrap().end_offset(), 3);
        }
        let mut flipped = whole;
        flipped[2 * size + 70] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert_eq!(Log::open(&path).unwrap().end_offset(), 2);
    }
}
