//! Durations by their distribution, in fixed memory.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// A distribution of durations from 1 µs to over an hour, each kept to within a sixteenth of itself.
///
/// Buckets are log-linear: sixteen between a power of two and the next. Recording is one atomic addition.
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
}

/// What a [`Histogram`] held at one moment, in microseconds, never below what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// How many were recorded.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// 999 of 1000 took no longer.
    pub p999_us: u64,
    /// None took longer.
    pub max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.quantiles(), f)
    }
}

impl Histogram {
    /// Adds one.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }

    /// The distribution so far; none before the first.
    pub fn quantiles(&self) -> Option<Quantiles> {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        if count == 0 {
            return None;
        }
        let at = |per_mille: u64| {
            let rank = (count * per_mille).div_ceil(1000);
            let mut seen = 0;
            counts
                .iter()
                .position(|count| {
                    seen += count;
                    seen >= rank
                })
                .map_or(0, upper_bound)
        };
        Some(Quantiles { count, p50_us: at(500), p99_us: at(990), p999_us: at(999), max_us: at(1000) })
    }
}

/// Below `STEPS` one bucket per microsecond; from there `STEPS` per power of two, the last open to above.
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let power = micros.ilog2() - STEPS.ilog2();
    let step = (micros >> power) - STEPS;
    ((u64::from(power) + 1) * STEPS + step).min(BUCKETS as u64 - 1) as usize
}

/// The most microseconds that fall into a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let power = bucket / STEPS - 1;
    ((STEPS + bucket % STEPS + 1) << power) - 1
}

const STEPS: u64 = 16;

/// Up to 2³² µs, 71 minutes.
const BUCKETS: usize = 29 * STEPS as usize;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_of_a_known_distribution() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantiles(), None);
        for millis in 1..=1000 {
            histogram.record(Duration::from_millis(millis));
        }
        let quantiles = histogram.quantiles().unwrap();
        assert_eq!(quantiles.count, 1000);
        for (found, exact) in [
            (quantiles.p50_us, 500_000),
            (quantiles.p99_us, 990_000),
            (quantiles.p999_us, 999_000),
            (quantiles.max_us, 1_000_000),
        ] {
            assert!(found >= exact && found <= exact + exact / 16, "{found} for {exact}");
        }
    }

    #[test]
    fn the_last_bucket_is_open() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_secs(1_000_000));
        assert_eq!(histogram.quantiles().unwrap().max_us, u64::from(u32::MAX));
    }

    proptest! {
        #[test]
        fn a_bucket_is_at_most_a_sixteenth_wide(micros in 0u64..1 << 32) {
            let bound = upper_bound(bucket(micros));
            prop_assert!(bound >= micros && bound - micros <= micros / STEPS);
            prop_assert_eq!(bucket(bound), bucket(micros));
        }
    }
}
