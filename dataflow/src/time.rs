//! Time as plain arithmetic: event time, watermarks and the engine's timestamp. Layer 1, no timely here.

mod split;

pub use split::{SplitClock, WatermarkStrategy};

use serde::{Deserialize, Serialize};

/// The lowest watermark: nothing is promised.
pub const START: u64 = 0;

/// The highest watermark: the end of input. Every window fires.
pub const END: u64 = u64::MAX;

/// The watermark that stands for an event time: keeps the order of the whole `i64` range.
pub const fn watermark_of(time_ms: i64) -> u64 {
    (time_ms as u64) ^ (1 << 63)
}

/// The event time in milliseconds since 1970 that a watermark stands for.
pub const fn time_of(watermark: u64) -> i64 {
    (watermark ^ (1 << 63)) as i64
}

/// The engine's timestamp: a commit epoch and a watermark, compared component by component.
///
/// A batch is stamped with what its sender could still promise when it left; a record's own event
/// time travels beside it. `Ord` is lexicographic and only there so that stamps can be sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time {
    /// The commit epoch: one transaction each.
    pub epoch: u64,
    /// Every later on-time record has an event time of at least this.
    pub watermark: u64,
}

impl Time {
    /// A timestamp of its two parts.
    pub const fn new(epoch: u64, watermark: u64) -> Self {
        Self { epoch, watermark }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermarks_keep_the_order_of_event_times() {
        let times = [i64::MIN, -1_000, -1, 0, 1, 1_700_000_000_000, i64::MAX];
        for pair in times.windows(2) {
            assert!(watermark_of(pair[0]) < watermark_of(pair[1]), "{pair:?}");
        }
        for time in times {
            assert_eq!(time_of(watermark_of(time)), time);
        }
        assert_eq!((watermark_of(i64::MIN), watermark_of(i64::MAX)), (START, END));
    }
}
