//! Watermarks per partition inside a source (design D4.4): minimum, idleness, end.

use std::time::Duration;

use crate::time::{END, START, watermark_of};

/// How a source turns the event times it sees into watermarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatermarkStrategy {
    /// How far a record may be behind the newest one of its partition and still be on time.
    /// Default 0: timestamps that ascend within each partition.
    pub disorder: Duration,
    /// How long a partition must have been read to its end before it no longer holds the watermark.
    /// Default 30 s: above a broker failover, which may not pass for idleness.
    pub idle_after: Duration,
    /// An event time further ahead of the clock than this is poison: it would close every window before
    /// its time. Default one day; `None` accepts any.
    pub max_ahead: Option<Duration>,
}

impl Default for WatermarkStrategy {
    fn default() -> Self {
        Self {
            disorder: Duration::ZERO,
            idle_after: Duration::from_secs(30),
            max_ahead: Some(Duration::from_secs(24 * 60 * 60)),
        }
    }
}

/// One partition's event time. A watermark never goes back.
#[derive(Clone, Copy, Debug)]
pub struct SplitClock {
    watermark: u64,
    caught_up_since_ms: Option<i64>,
    idle: bool,
    ended: bool,
}

impl SplitClock {
    /// A partition that is read for the first time, or again from a manifest.
    pub const fn new(watermark: u64, idle: bool) -> Self {
        Self { watermark, caught_up_since_ms: None, idle, ended: false }
    }

    /// A batch was read whose newest event time is `newest_ms`.
    pub fn observe(&mut self, newest_ms: i64, strategy: &WatermarkStrategy) {
        let disorder_ms = i64::try_from(strategy.disorder.as_millis()).unwrap_or(i64::MAX);
        self.watermark = self.watermark.max(watermark_of(newest_ms.saturating_sub(disorder_ms)));
        self.idle = false;
        self.caught_up_since_ms = None;
    }

    /// Lets time pass. `caught_up`: whether the position equals both the last stable offset and the high
    /// watermark at `now_ms`; a partition that has been so for long enough becomes idle. One that is down,
    /// paused, or behind an open transaction has not caught up.
    pub fn pass(&mut self, caught_up: bool, now_ms: i64, strategy: &WatermarkStrategy) {
        if !caught_up {
            self.caught_up_since_ms = None;
            self.idle = false;
            return;
        }
        let since_ms = *self.caught_up_since_ms.get_or_insert(now_ms);
        let idle_after_ms = i64::try_from(strategy.idle_after.as_millis()).unwrap_or(i64::MAX);
        self.idle |= now_ms.saturating_sub(since_ms) >= idle_after_ms;
    }

    /// The source does not read now, since too much is under way: nothing is known, and no time passes.
    pub fn hold(&mut self) {
        self.caught_up_since_ms = None;
    }

    /// The bounded end was reached: this partition holds no watermark any more.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// What this partition promises.
    pub const fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Whether it is left out of the minimum for want of records.
    pub const fn is_idle(&self) -> bool {
        self.idle
    }

    /// Whether its bounded end was reached.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// What a set of partitions promises together: the minimum over those that are neither idle nor at
    /// their end; [`END`] when all are at their end; `None` when there is nothing to go by, so that the
    /// watermark follows that of others.
    pub fn combine<'a>(clocks: impl IntoIterator<Item = &'a Self>, bounded: bool) -> Option<u64> {
        let mut all_ended = bounded;
        let mut minimum = None;
        for clock in clocks {
            all_ended &= clock.ended;
            if !clock.ended && !clock.idle {
                minimum = Some(minimum.map_or(clock.watermark, |least: u64| least.min(clock.watermark)));
            }
        }
        if all_ended { Some(END) } else { minimum }
    }
}

impl Default for SplitClock {
    fn default() -> Self {
        Self::new(START, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strategy(disorder_ms: u64, idle_ms: u64) -> WatermarkStrategy {
        WatermarkStrategy {
            disorder: Duration::from_millis(disorder_ms),
            idle_after: Duration::from_millis(idle_ms),
            max_ahead: None,
        }
    }

    fn read_up_to(time_ms: i64) -> SplitClock {
        let mut clock = SplitClock::default();
        clock.observe(time_ms, &strategy(0, 100));
        clock
    }

    #[test]
    fn d4_4_the_slowest_partition_holds_the_watermark() {
        let clocks = [read_up_to(500), read_up_to(100), read_up_to(900)];
        assert_eq!(SplitClock::combine(&clocks, false), Some(watermark_of(100)));
    }

    #[test]
    fn d4_4_an_unread_partition_promises_nothing() {
        let clocks = [read_up_to(500), SplitClock::default()];
        assert_eq!(SplitClock::combine(&clocks, false), Some(START));
    }

    #[test]
    fn d4_4_idle_only_after_being_caught_up_without_a_break() {
        let rules = strategy(0, 100);
        let mut clocks = [read_up_to(500), read_up_to(100)];
        clocks[1].pass(true, 1_000, &rules);
        clocks[1].pass(true, 1_099, &rules);
        assert!(!clocks[1].is_idle());
        // The broker is down or a transaction is open: no longer known to be at the end.
        clocks[1].pass(false, 1_100, &rules);
        clocks[1].pass(true, 1_150, &rules);
        assert_eq!(SplitClock::combine(&clocks, false), Some(watermark_of(100)));
        // Nor is time that the source spent at its gate.
        clocks[1].hold();
        clocks[1].pass(true, 1_300, &rules);
        clocks[1].pass(true, 1_399, &rules);
        assert!(!clocks[1].is_idle());
        clocks[1].pass(true, 1_400, &rules);
        clocks[1].hold();
        assert_eq!(SplitClock::combine(&clocks, false), Some(watermark_of(500)));
        clocks[1].observe(300, &rules);
        assert_eq!(SplitClock::combine(&clocks, false), Some(watermark_of(300)));
    }

    #[test]
    fn d4_4_an_idle_source_never_jumps_to_the_end() {
        let mut clock = read_up_to(100);
        clock.pass(true, 0, &strategy(0, 100));
        clock.pass(true, 100, &strategy(0, 100));
        assert_eq!(SplitClock::combine(&[clock], false), None);
        assert_eq!(SplitClock::combine(&[clock], true), None);
        assert_eq!(SplitClock::combine(&[], false), None);
    }

    #[test]
    fn d4_3_the_end_is_reached_when_every_partition_has() {
        let mut clocks = [read_up_to(500), read_up_to(100)];
        clocks[1].end();
        assert_eq!(SplitClock::combine(&clocks, true), Some(watermark_of(500)));
        clocks[0].end();
        assert_eq!(SplitClock::combine(&clocks, true), Some(END));
        assert_eq!(SplitClock::combine(&[], true), Some(END));
    }

    #[test]
    fn d4_5_watermarks_never_go_back() {
        let mut clock = read_up_to(500);
        clock.observe(20, &strategy(0, 100));
        assert_eq!(clock.watermark(), watermark_of(500));
        clock.observe(600, &strategy(200, 100));
        assert_eq!(clock.watermark(), watermark_of(500));
        clock.observe(i64::MIN, &strategy(1, 100));
        assert_eq!(clock.watermark(), watermark_of(500));
    }
}
