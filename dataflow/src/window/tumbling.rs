//! Tumbling windows: of one size, side by side, aligned to 1970.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Windows of one size that follow each other without gap or overlap; one begins at 1970-01-01T00:00:00Z.
///
/// Allowed lateness keeps a window after it has fired, until the watermark has passed its end by that much.
/// A record that comes in this time updates the result, which is emitted anew (a refinement: same key and
/// window, the new value; its event time is behind the watermark). What comes later still goes to the late output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tumbling {
    size_ms: i64,
    lateness_ms: i64,
}

impl Tumbling {
    /// Windows of this size, in whole milliseconds, with no lateness allowed.
    pub const fn of(size: Duration) -> Self {
        Self { size_ms: millis(size), lateness_ms: 0 }
    }

    /// Keeps windows for refinements until the watermark is this far behind their end.
    #[must_use]
    pub const fn allowed_lateness(self, lateness: Duration) -> Self {
        Self { lateness_ms: millis(lateness), ..self }
    }

    /// Checked where a job is built.
    ///
    /// # Errors
    /// When the size is below a millisecond.
    pub fn check(&self) -> Result<()> {
        if self.size_ms > 0 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Usage, "build a tumbling window of less than 1 ms")
            .with_hint("event time is in whole milliseconds: use a size of at least one"))
    }

    /// The window that a time is in, as [start, end). Also right before 1970. At the very ends of time
    /// (292 million years away) windows are cut off.
    pub(super) const fn assign(&self, time_ms: i64) -> (i64, i64) {
        let end = time_ms.saturating_add(self.size_ms - time_ms.rem_euclid(self.size_ms));
        (self.start(end), end)
    }

    /// The start of the window with this end.
    pub(super) const fn start(&self, end_ms: i64) -> i64 {
        end_ms.saturating_sub(self.size_ms)
    }

    /// The watermark at which a window with this end is no longer kept.
    pub(super) const fn gone_at(&self, end_ms: i64) -> i64 {
        end_ms.saturating_add(self.lateness_ms)
    }

    /// Whether fired windows are kept at all.
    pub(super) const fn keeps_fired(&self) -> bool {
        self.lateness_ms > 0
    }

    /// Names state of these windows. More lateness than before would find windows dropped already, and
    /// refine results from nothing: so state of another lateness is refused.
    pub(super) fn describe(&self) -> String {
        format!("tumbling windows of {} ms with {} ms of allowed lateness", self.size_ms, self.lateness_ms)
    }
}

const fn millis(duration: Duration) -> i64 {
    let millis = duration.as_millis();
    if millis > i64::MAX as u128 { i64::MAX } else { millis as i64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn boundaries_belong_to_the_window_that_they_start() {
        let windows = Tumbling::of(Duration::from_secs(10));
        for (time_ms, start_ms) in [
            (0, 0),
            (9_999, 0),
            (10_000, 10_000),
            (-1, -10_000),
            (-10_000, -10_000),
            (-10_001, -20_000),
            (1_700_000_000_123, 1_700_000_000_000),
        ] {
            assert_eq!(windows.assign(time_ms), (start_ms, start_ms + 10_000), "{time_ms}");
        }
    }

    #[test]
    fn a_size_below_a_millisecond_is_an_error() {
        assert!(Tumbling::of(Duration::from_micros(999)).check().is_err());
        assert!(Tumbling::of(Duration::from_millis(1)).check().is_ok());
    }

    proptest! {
        #[test]
        fn every_time_is_in_its_window(time_ms in any::<i64>(), size_ms in 1i64..i64::MAX / 4) {
            let windows = Tumbling::of(Duration::from_millis(size_ms as u64));
            let (start, end) = windows.assign(time_ms);
            prop_assert!(start <= time_ms && time_ms <= end && start < end);
            if time_ms.unsigned_abs() < i64::MAX as u64 / 2 {
                prop_assert!(time_ms < end);
                prop_assert_eq!(end - start, size_ms);
                prop_assert_eq!(start.rem_euclid(size_ms), 0);
            }
        }
    }
}
