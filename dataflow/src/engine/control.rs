//! What the workers of a job share: clock, credits, failure, and the world outside.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread::Thread;
use std::time::Duration;

use crate::engine::credit::Credits;
use crate::engine::epoch::{EpochLimits, Epochs};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
use crate::time::END;

/// A future that may run on another thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the engine takes from outside. The bridge is the real one; the simulation draws it from a seed.
pub(crate) trait World: Send + Sync {
    /// The wall clock, in milliseconds since 1970: for idleness and for event times that are too far ahead.
    fn now_ms(&self) -> i64;

    /// Runs a task in the background.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Waits until `worker` may step. `None`: its process has died.
    fn turn(&self, worker: usize) -> Option<Step>;

    /// `worker` steps no more.
    fn done(&self, worker: usize);
}

/// How long a step may wait for something to do; `None` for as long as it takes.
pub(crate) type Step = Option<Duration>;

/// Shared by the workers and background tasks of one run of a job.
pub(crate) struct Control {
    pub epochs: Epochs,
    pub credits: Arc<Credits>,
    pub world: Arc<dyn World>,
    pub metrics: Arc<Metrics>,
    /// Records that each source operator has yet to read, where it knows.
    lags: Mutex<BTreeMap<(u32, u32), u64>>,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
    threads: Mutex<Vec<Thread>>,
}

impl Control {
    pub(crate) fn new(
        world: Arc<dyn World>,
        metrics: Arc<Metrics>,
        committed: u64,
        limits: EpochLimits,
        credit_bytes: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            epochs: Epochs::new(committed, limits),
            credits: Credits::new(credit_bytes),
            world,
            metrics,
            lags: Mutex::default(),
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
            threads: Mutex::default(),
        })
    }

    /// Fails the run: every worker drops it. The first failure is the one that is reported.
    pub(crate) fn fail(&self, error: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.store(true, Ordering::SeqCst);
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Thread::unpark);
    }

    /// Says how many records a source operator has yet to read.
    pub(crate) fn set_lag(&self, source: u32, worker: u32, records: u64) {
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.insert((source, worker), records);
        self.metrics.lag_records.set(i64::try_from(lags.values().sum::<u64>()).unwrap_or(i64::MAX));
    }

    /// Takes the value of a result, or fails the run.
    pub(crate) fn check<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.fail(error)).ok()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A worker's thread, to be unparked when the run fails.
    pub(crate) fn register(&self, thread: Thread) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }

    /// Runs `future` in the background; its result is polled for by an operator.
    pub(crate) fn spawn<T: Send + 'static>(&self, future: BoxFuture<'static, Result<T>>) -> Task<T> {
        let slot = Arc::new(Mutex::new(Slot { result: None, waker: None }));
        let fill = Fill { slot: Arc::clone(&slot), filled: false };
        self.world.spawn(Box::pin(async move { fill.with(future.await) }));
        Task(slot)
    }
}

/// The result, some time, of a background task.
pub(crate) struct Task<T>(Arc<Mutex<Slot<T>>>);

struct Slot<T> {
    result: Option<Result<T>>,
    waker: Option<Waker>,
}

impl<T> Task<T> {
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Result<T>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}

/// Fills the slot, at the latest when the task is dropped: nobody may wait for a task that has died.
struct Fill<T> {
    slot: Arc<Mutex<Slot<T>>>,
    filled: bool,
}

impl<T> Fill<T> {
    fn with(mut self, result: Result<T>) {
        self.put(result);
    }

    fn put(&mut self, result: Result<T>) {
        self.filled = true;
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.result = Some(result);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

impl<T> Drop for Fill<T> {
    fn drop(&mut self) {
        if !self.filled {
            self.put(Err(Error::new(
                ErrorKind::Stopped,
                "run a background task: it panicked or was dropped",
            )));
        }
    }
}

/// Sources that feed one another's operators: an idle one follows the watermark of those that are not.
#[derive(Default)]
pub(crate) struct Followers {
    members: Mutex<Vec<Member>>,
}

struct Member {
    promise: Option<u64>,
    waker: Waker,
}

impl Followers {
    /// Adds a source operator of one worker; it is woken when there may be something to follow.
    pub(crate) fn join(&self, waker: Waker) -> usize {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.push(Member { promise: None, waker });
        members.len() - 1
    }

    /// Says what `member` promises by itself (`None` while it is idle); answers what an idle one may
    /// promise: as much as the slowest of the others that still read. The end of one is not the end of all.
    pub(crate) fn post(&self, member: usize, promise: Option<u64>) -> Option<u64> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let before = slowest(&members);
        if let Some(member) = members.get_mut(member) {
            member.promise = promise;
        }
        let after = slowest(&members);
        if after > before {
            members
                .iter()
                .filter(|member| member.promise.is_none())
                .for_each(|idle| idle.waker.wake_by_ref());
        }
        after
    }
}

fn slowest(members: &[Member]) -> Option<u64> {
    members.iter().filter_map(|member| member.promise).filter(|promise| *promise != END).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d4_4_an_idle_source_follows_the_slowest_active_one() {
        let followers = Followers::default();
        let members: Vec<usize> = (0..3).map(|_| followers.join(Waker::noop().clone())).collect();
        assert_eq!(followers.post(members[0], None), None);
        followers.post(members[1], Some(70));
        followers.post(members[2], Some(50));
        assert_eq!(followers.post(members[0], None), Some(50));
        followers.post(members[2], None);
        assert_eq!(followers.post(members[0], None), Some(70));
        followers.post(members[1], Some(END));
        assert_eq!(followers.post(members[0], None), None);
    }
}
