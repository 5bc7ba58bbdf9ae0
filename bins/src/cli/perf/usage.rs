//! What this process has used so far, as Linux tells it.

use std::time::Instant;

/// Clock ticks per second in `/proc`: 100 on every Linux of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// When the work began.
pub(super) struct Work(Instant);

impl Work {
    /// Begins.
    #[allow(clippy::disallowed_methods, reason = "a measurement, at the rim")]
    pub(super) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Prints the line for `ok` records of `bytes` in all.
    pub(super) fn report(&self, mode: &str, ok: u64, bytes: u64) {
        self.report_with(mode, ok, bytes, &[]);
    }

    /// As [`Self::report`], with `more` figures.
    #[allow(clippy::print_stdout, reason = "the result")]
    pub(super) fn report_with(&self, mode: &str, ok: u64, bytes: u64, more: &[(&str, u64)]) {
        let work_s = self.0.elapsed().as_secs_f64();
        let mut line = serde_json::json!({
            "mode": mode,
            "ok": ok,
            "bytes": bytes,
            "work_s": rounded(work_s),
            "cpu_s": rounded(cpu_s().unwrap_or(0.0)),
            "rss_mib": rounded(peak_rss_mib().unwrap_or(0.0)),
            "records_per_s": (ok as f64 / work_s).round(),
        });
        for (name, figure) in more {
            line[*name] = (*figure).into();
        }
        println!("{line}");
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// User and system time of all threads, also of those that have ended.
fn cpu_s() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold blanks, and ends with the last parenthesis; the times are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}
