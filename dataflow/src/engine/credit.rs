//! Back pressure by bytes (design D6): what sources have read and nobody has consumed yet.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// How many bytes may be under way between the sources and their consumers.
#[derive(Debug)]
pub(crate) struct Credits {
    capacity_bytes: usize,
    used_bytes: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
}

impl Credits {
    pub(crate) fn new(capacity_bytes: usize) -> Arc<Self> {
        Arc::new(Self { capacity_bytes, used_bytes: AtomicUsize::new(0), waiting: Mutex::default() })
    }

    /// Whether a source may read on. If not, `waker` is woken when it may.
    pub(crate) fn poll_room(&self, waker: &Waker) -> bool {
        if self.used_bytes() < self.capacity_bytes {
            return true;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        // What was returned between the check and the registration woke nobody: look again.
        self.used_bytes() < self.capacity_bytes
    }

    /// Takes credit for a batch that has been read. The last batch may overshoot the capacity by its size.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Arc<Credit> {
        self.used_bytes.fetch_add(bytes, Ordering::SeqCst);
        Arc::new(Credit { credits: Arc::clone(self), bytes })
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::SeqCst)
    }
}

/// The credit of one batch, shared by the parts that it is split into; returned when the last is dropped.
#[derive(Debug)]
pub(crate) struct Credit {
    credits: Arc<Credits>,
    bytes: usize,
}

impl Drop for Credit {
    fn drop(&mut self) {
        let before = self.credits.used_bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        let capacity = self.credits.capacity_bytes;
        if before >= capacity && before - self.bytes < capacity {
            let mut waiting = self.credits.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain(..).for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use super::*;

    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn d6_a_full_gate_opens_when_the_last_part_of_a_batch_is_consumed() {
        let credits = Credits::new(100);
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&flag));
        assert!(credits.poll_room(&waker));
        let batch = credits.take(120);
        let part = Arc::clone(&batch);
        assert!(!credits.poll_room(&waker));
        drop(batch);
        assert!(!flag.0.load(Ordering::SeqCst));
        assert_eq!(credits.used_bytes(), 120);
        drop(part);
        assert!(flag.0.load(Ordering::SeqCst));
        assert!(credits.poll_room(&waker));
    }
}
