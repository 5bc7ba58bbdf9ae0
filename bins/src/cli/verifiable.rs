//! What the programs of Kafka's test contract share: events on standard output, and a steady rate.

use std::io::{self, Write as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// An event and when it was told, in milliseconds since 1970.
#[derive(Serialize)]
struct Line<'a, E> {
    timestamp: u64,
    #[serde(flatten)]
    event: &'a E,
}

/// Prints an event as one line of JSON, its timestamp first.
pub(super) fn print(event: &impl Serialize) {
    #[allow(clippy::disallowed_methods, reason = "the contract wants the time, at the rim")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    // Events are plain structs, which always have a form in JSON; without a reader there is nobody to tell.
    if let Ok(line) = serde_json::to_string(&Line { timestamp, event }) {
        let _ = writeln!(io::stdout().lock(), "{line}");
    }
}

/// The time since a program began.
#[derive(Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    /// Begins now.
    #[allow(clippy::disallowed_methods, reason = "a measurement, at the rim")]
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago it began.
    pub(super) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Blocks this thread until it is the turn of number `number`, counted from 0, at so many per second.
    pub(super) fn wait_for_turn(&self, number: u64, per_second: u64) {
        let due =
            Duration::from_nanos((u128::from(number) * 1_000_000_000 / u128::from(per_second.max(1))) as u64);
        if let Some(early) = due.checked_sub(self.elapsed()) {
            std::thread::sleep(early);
        }
    }
}
