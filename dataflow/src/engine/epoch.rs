//! The epoch clock: when epochs end, which are committed, when the job stops.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// When an epoch ends before its time is up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EpochLimits {
    pub records: u64,
    pub bytes: u64,
}

/// How many epochs may have ended without being committed. Beyond, the clock stands still and epochs grow.
const MAX_UNCOMMITTED: u64 = 2;

/// The clock that sources follow. Each source ends an epoch at a moment of its own, between two batches;
/// this only says which epoch is the one to read for.
#[derive(Debug)]
pub(crate) struct Epochs {
    limits: EpochLimits,
    current: AtomicU64,
    committed: AtomicU64,
    /// The last epoch to be committed, once a stop has been asked for.
    last: AtomicU64,
    /// Everything to be committed has been: sources may let go of their capabilities.
    released: AtomicBool,
    records: AtomicU64,
    bytes: AtomicU64,
    listeners: Mutex<Vec<Waker>>,
}

impl Epochs {
    /// A clock that goes on after epoch `committed`.
    pub(crate) fn new(committed: u64, limits: EpochLimits) -> Self {
        Self {
            limits,
            current: AtomicU64::new(committed + 1),
            committed: AtomicU64::new(committed),
            last: AtomicU64::new(u64::MAX),
            released: AtomicBool::new(false),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            listeners: Mutex::default(),
        }
    }

    /// Registers an operator to be woken at each tick and each commit.
    pub(crate) fn listen(&self, waker: Waker) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }

    /// The epoch that sources read for.
    pub(crate) fn current(&self) -> u64 {
        self.current.load(SeqCst)
    }

    /// The newest committed epoch.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(SeqCst)
    }

    /// Whether what is read for `epoch` will ever be committed.
    pub(crate) fn accepts(&self, epoch: u64) -> bool {
        epoch <= self.last.load(SeqCst)
    }

    /// Whether sources may let go of their capabilities, so that the dataflow ends.
    pub(crate) fn is_released(&self) -> bool {
        self.released.load(SeqCst)
    }

    /// Ends the current epoch, unless too many wait for their commit or the job stops after it.
    pub(crate) fn tick(&self) -> bool {
        let current = self.current();
        if current - self.committed() > MAX_UNCOMMITTED || current > self.last.load(SeqCst) {
            return false;
        }
        let ticked = self.current.compare_exchange(current, current + 1, SeqCst, SeqCst).is_ok();
        if ticked {
            self.records.store(0, SeqCst);
            self.bytes.store(0, SeqCst);
            self.wake();
        }
        ticked
    }

    /// Counts what a source has read; ends the epoch when that makes it too large.
    pub(crate) fn note(&self, records: u64, bytes: u64) {
        let records = self.records.fetch_add(records, SeqCst) + records;
        let bytes = self.bytes.fetch_add(bytes, SeqCst) + bytes;
        if records >= self.limits.records || bytes >= self.limits.bytes {
            self.tick();
        }
    }

    /// `epoch` is committed, or there was nothing in it to commit.
    pub(crate) fn commit(&self, epoch: u64) {
        self.committed.fetch_max(epoch, SeqCst);
        let last = self.last.load(SeqCst);
        if epoch >= last {
            self.released.store(true, SeqCst);
        } else if last != u64::MAX {
            self.tick();
        }
        self.wake();
    }

    /// Ends and commits the running epoch, then lets the job go.
    pub(crate) fn stop(&self) {
        let _ = self.last.compare_exchange(u64::MAX, self.current(), SeqCst, SeqCst);
        self.tick();
        self.wake();
    }

    /// The input has ended and its last epoch is committed.
    pub(crate) fn release(&self) {
        self.released.store(true, SeqCst);
        self.wake();
    }

    fn wake(&self) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Waker::wake_by_ref);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Epochs {
        Epochs::new(4, EpochLimits { records: 100, bytes: 1_000 })
    }

    #[test]
    fn d6_the_clock_stops_at_two_uncommitted_epochs() {
        let epochs = clock();
        assert_eq!(epochs.current(), 5);
        assert!(epochs.tick() && epochs.tick());
        assert_eq!(epochs.current(), 7);
        assert!(!epochs.tick());
        epochs.commit(5);
        assert!(epochs.tick());
        assert!(!epochs.tick());
    }

    #[test]
    fn d5_an_epoch_ends_by_records_or_bytes() {
        let epochs = clock();
        epochs.note(60, 10);
        assert_eq!(epochs.current(), 5);
        epochs.note(60, 10);
        assert_eq!(epochs.current(), 6);
        epochs.note(1, 999);
        assert_eq!(epochs.current(), 6);
        epochs.note(1, 1);
        assert_eq!(epochs.current(), 7);
    }

    #[test]
    fn d5_a_stop_commits_the_running_epoch_and_then_releases() {
        let epochs = clock();
        epochs.tick();
        epochs.tick();
        epochs.stop();
        assert_eq!(epochs.current(), 7);
        assert!(epochs.accepts(7) && !epochs.accepts(8));
        epochs.commit(5);
        assert_eq!(epochs.current(), 8);
        epochs.commit(6);
        assert!(!epochs.is_released() && !epochs.tick());
        epochs.commit(7);
        assert!(epochs.is_released());
    }
}
