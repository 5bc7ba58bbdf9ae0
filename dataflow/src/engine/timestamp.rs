//! [`Time`] as timely's root timestamp, and what frontiers of it say.
//!
//! `timely::order::Product` cannot be a root timestamp: it refines `u64`, not `()`.

use std::sync::Arc;
use std::task::{Wake, Waker};

use timely::PartialOrder;
use timely::progress::Timestamp;
use timely::progress::frontier::MutableAntichain;
use timely::progress::timestamp::{PathSummary, Refines};
use timely::scheduling::activate::SyncActivator;

use crate::time::Time;

impl PartialOrder for Time {
    fn less_equal(&self, other: &Self) -> bool {
        self.epoch <= other.epoch && self.watermark <= other.watermark
    }
}

impl Timestamp for Time {
    type Summary = ();

    fn minimum() -> Self {
        Self::default()
    }
}

impl PathSummary<Time> for () {
    fn results_in(&self, source: &Time) -> Option<Time> {
        Some(*source)
    }

    fn followed_by(&self, (): &Self) -> Option<()> {
        Some(())
    }
}

impl Refines<()> for Time {
    fn to_inner((): ()) -> Self {
        Self::default()
    }

    fn to_outer(self) {}

    fn summarize((): ()) {}
}

/// The least epoch that may still come, `None` when the dataflow is going away.
pub(crate) fn open_epoch(frontier: &MutableAntichain<Time>) -> Option<u64> {
    frontier.frontier().iter().map(|time| time.epoch).min()
}

/// The least watermark that may still come, `None` when the dataflow is going away.
pub(crate) fn watermark(frontier: &MutableAntichain<Time>) -> Option<u64> {
    frontier.frontier().iter().map(|time| time.watermark).min()
}

/// A waker that schedules one operator, from any thread, and unparks its worker.
pub(crate) fn waker(activator: SyncActivator) -> Waker {
    struct Activate(SyncActivator);
    impl Wake for Activate {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            // An error says that the worker is gone, and nobody is left to be woken.
            let _ = self.0.activate();
        }
    }
    Waker::from(Arc::new(Activate(activator)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_compare_component_by_component() {
        let time = Time::new;
        assert!(time(1, 5).less_equal(&time(1, 5)));
        assert!(time(1, 5).less_equal(&time(2, 5)));
        assert!(!time(1, 6).less_equal(&time(2, 5)));
        assert!(!time(2, 5).less_equal(&time(1, 6)));
    }

    #[test]
    fn a_frontier_gives_the_least_of_each_component() {
        let mut frontier = MutableAntichain::new();
        assert_eq!((open_epoch(&frontier), watermark(&frontier)), (None, None));
        frontier.update_iter([(Time::new(3, 10), 1), (Time::new(1, 40), 1)]);
        assert_eq!((open_epoch(&frontier), watermark(&frontier)), (Some(1), Some(10)));
    }
}
