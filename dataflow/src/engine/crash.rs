//! Places where a test kills the process: each a moment between two steps of a commit or of a start.

/// Dies here, as by SIGKILL, if `DATAFLOW_CRASH_AT` names this place: `state-durable`, or `state-durable:3` to
/// pass it twice and die at the third time. The log, at level debug, says of a process killed anywhere which place
/// it passed last. Without the feature `testing` this is nothing.
#[cfg(feature = "testing")]
pub(crate) fn at(place: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};

    static PASSED: AtomicU64 = AtomicU64::new(0);
    tracing::debug!(place, "passing");
    let Ok(wanted) = std::env::var("DATAFLOW_CRASH_AT") else { return };
    let (name, time) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    let time: u64 = time.parse().unwrap_or(1);
    if name != place || PASSED.fetch_add(1, Ordering::SeqCst) + 1 != time {
        return;
    }
    tracing::warn!(place, time, "crash point reached");
    // Nothing is flushed, dropped or unwound, as with SIGKILL, which a process without unsafe code can only
    // ask others for.
    let killed = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    tracing::error!(?killed, "still alive");
    std::process::abort();
}

#[cfg(not(feature = "testing"))]
pub(crate) fn at(_place: &str) {}
