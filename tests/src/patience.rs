//! Waiting for what happens in other processes and threads.

use std::time::Duration;

/// Nothing that a test waits for takes so long.
const PATIENCE: Duration = Duration::from_secs(180);
const GLANCE: Duration = Duration::from_millis(20);

/// Looks again and again; false when it was not so for three minutes.
pub fn comes_about(mut is_so: impl FnMut() -> bool) -> bool {
    (0..PATIENCE.as_millis() / GLANCE.as_millis()).any(|_| {
        let is_so = is_so();
        if !is_so {
            std::thread::sleep(GLANCE);
        }
        is_so
    })
}
