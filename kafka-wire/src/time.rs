//! Delays between attempts, and which time of day it is. Layer 1: time is passed in, randomness is a seeded value.

use std::time::{Duration, Instant};

/// The longest that anything waits for, a year or so: a clock cannot tell every time from now, and an application
/// that says `Duration::MAX` means "for ever".
pub(crate) const TIME_MAX: Duration = Duration::from_secs(1 << 25);

/// Shortens what is longer than [`TIME_MAX`].
pub(crate) fn bound<const N: usize>(times: [&mut Duration; N]) {
    times.into_iter().for_each(|time| *time = (*time).min(TIME_MAX));
}

/// The time of day, reckoned from one reading of the clock: machines are told only what passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    read_at: Instant,
    unix_ms: i64,
}

impl WallClock {
    /// It was `unix_ms` milliseconds after the start of 1970 at `read_at`.
    #[cfg_attr(not(feature = "net"), allow(dead_code, reason = "the rim reads the clock"))]
    pub(crate) fn new(read_at: Instant, unix_ms: i64) -> Self {
        Self { read_at, unix_ms }
    }

    /// Milliseconds since 1970.
    pub(crate) fn unix_ms(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.read_at).as_millis();
        self.unix_ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

/// A small seeded generator of random numbers (SplitMix64): jitter and choices, nothing secret.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator that `seed` determines.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

/// The shortest delay, also where none is wanted (`retry.backoff.ms=0`): a machine that may try again in the same
/// instant would go round for ever.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// Exponential backoff with jitter, as Kafka's `ExponentialBackoff`: doubles from `initial` to `max`,
/// each delay up to 20 % shorter or longer so that clients do not return in step, and 1 ms at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub initial: Duration,
    /// The longest delay, before jitter.
    pub max: Duration,
}

impl Backoff {
    /// How long to wait after `failures` failures in a row.
    pub fn delay(&self, failures: u32, rng: &mut Rng) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let delay = self.initial.saturating_mul(1 << doublings).min(self.max.max(self.initial));
        let permille = 800 + rng.below(401) as u32;
        (delay.saturating_mul(permille) / 1000).max(DELAY_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_maximum_and_jitters_by_a_fifth() {
        let backoff = Backoff { initial: Duration::from_millis(50), max: Duration::from_millis(1000) };
        let mut rng = Rng::new(7);
        for (failures, nominal_ms) in [(1, 50.0), (2, 100.0), (3, 200.0), (6, 1000.0), (u32::MAX, 1000.0)] {
            for _ in 0..100 {
                let ms = backoff.delay(failures, &mut rng).as_secs_f64() * 1000.0;
                assert!(
                    (0.8 * nominal_ms - 0.01..=1.2 * nominal_ms + 0.01).contains(&ms),
                    "{failures}: {ms}"
                );
            }
        }
    }

    #[test]
    fn time_passes_between_attempts_also_without_a_backoff() {
        let none = Backoff { initial: Duration::ZERO, max: Duration::ZERO };
        assert_eq!(none.delay(1, &mut Rng::new(7)), DELAY_MIN);
    }

    #[test]
    fn a_seed_determines_the_numbers_and_bounds_hold() {
        let (mut a, mut b) = (Rng::new(1), Rng::new(1));
        let numbers: Vec<usize> = (0..100).map(|_| a.below(10)).collect();
        assert!(numbers.iter().all(|n| *n < 10) && (0..10).all(|n| numbers.contains(&n)));
        assert_eq!(numbers, (0..100).map(|_| b.below(10)).collect::<Vec<_>>());
        assert_eq!(a.below(0), 0);
    }
}
