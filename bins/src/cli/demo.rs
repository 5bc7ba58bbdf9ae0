//! `tidewater demo`: a broker, clicks, and the exactly-once job `clicks` on them, in one process.

mod clicks;
mod windows;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use dataflow::checkpoint::StateStore;
use dataflow::format::PoisonPolicy;
use dataflow::metrics::MetricsSnapshot;
use dataflow::{Config, ConfigBuilder, JobHandle, Settings};
use serde::Serialize;
use tidewater_broker::{EmbeddedBroker, Options as BrokerOptions};

use self::windows::Windows;
use super::common::{Failure, Result, say};
use crate::jobs::{self, OnPoison};

/// How much is shown, and how.
#[derive(Args)]
pub(super) struct Options {
    /// How many clicks [default: 1000000; with --for 100000 a second]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    records: Option<u64>,
    /// Spread them over this time, such as 10s, instead of going as fast as it goes
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Print the summary only
    #[arg(short, long)]
    quiet: bool,
    /// A table to read, or a line of JSON for each window and for the summary
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit_ms) = match (text.strip_suffix("ms"), text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), ..) => (number, 1),
        (_, Some(number), _) => (number, 1_000),
        (.., Some(number)) => (number, 60_000),
        _ => (text, 1_000),
    };
    let milliseconds = number.parse().ok().and_then(|number: u64| number.checked_mul(unit_ms));
    let duration = milliseconds.filter(|time| (1..=86_400_000).contains(time)).map(Duration::from_millis);
    duration.ok_or_else(|| "expected a time up to a day, such as 500ms, 10s or 2m".to_owned())
}

const INPUT: &str = "clicks";
const OUTPUT: &str = "totals";
const PARTITIONS: i32 = 2;

/// Runs it, and checks that every click was counted once.
pub(super) fn run(options: &Options) -> Result<()> {
    let seconds = options.duration.map(|duration| duration.as_secs().max(1));
    let records = options.records.unwrap_or_else(|| seconds.map_or(1_000_000, |seconds| seconds * 100_000));
    let settings = BrokerOptions::default().with_topic(INPUT, PARTITIONS).with_topic(OUTPUT, PARTITIONS);
    let broker = EmbeddedBroker::start(settings)
        .map_err(|error| Failure::failed(format_args!("start the broker: {error}")))?;
    let bootstrap = broker.bootstrap();
    if options.format == Format::Table && !options.quiet {
        introduce(records, &bootstrap)?;
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let reader = Windows::start(&bootstrap, options.shown(), Arc::clone(&is_over))?;
    let begun = now();
    let ran = run_job(&bootstrap, records, options.duration);
    let elapsed = begun.elapsed();
    is_over.store(true, Ordering::Release);
    let windows = joined(reader)?;
    let (clicked, metrics) = ran?;
    let summary = Summary::new(&clicked, &windows, &metrics, elapsed);
    summary.print(options.format)?;
    if summary.exactly_once {
        Ok(())
    } else {
        Err(Failure::failed("the windows do not add up to the clicks"))
    }
}

/// Runs the job while clicks come, stops it, and runs it again on other workers to the end of its input: what
/// it had open goes on from where it was.
fn run_job(
    bootstrap: &str,
    records: u64,
    time: Option<Duration>,
) -> Result<(clicks::Clicked, [MetricsSnapshot; 2])> {
    let builder = ConfigBuilder::new().set("bootstrap.servers", bootstrap)?.set("group.id", "demo")?;
    let config = builder.set("input.topic", INPUT)?.set("output.topic", OUTPUT)?.build()?;
    let state = StateStore::memory();
    let first = start(&config, &state, Settings { workers: 1, ..Settings::from(&config) })?;
    let clicking = {
        let bootstrap = bootstrap.to_owned();
        thread::spawn(move || clicks::write(&bootstrap, INPUT, records, time))
    };
    let clicked = joined(clicking);
    first.stop();
    let metrics_of_first = Arc::clone(first.metrics());
    first.wait()?;
    let clicked = clicked?;
    let second = start(&config, &state, Settings { workers: 2, bounded: true, ..Settings::from(&config) })?;
    let metrics_of_second = Arc::clone(second.metrics());
    second.wait()?;
    Ok((clicked, [metrics_of_first.snapshot(), metrics_of_second.snapshot()]))
}

fn start(config: &Config, state: &StateStore, settings: Settings) -> Result<JobHandle> {
    let mut job = jobs::by_name("clicks", config, OnPoison::Policy(PoisonPolicy::Stop))?;
    job.keep_state_in(state.clone());
    Ok(job.start(settings)?)
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(Failure::failed("a thread of the demo panicked")))
}

impl Options {
    fn shown(&self) -> Option<Format> {
        (!self.quiet).then_some(self.format)
    }
}

fn introduce(records: u64, bootstrap: &str) -> Result<()> {
    let text = format!(
        "A Kafka broker runs in this process ({bootstrap}), and {records} clicks are being written to its topic\n\
         `{INPUT}`, a fifth of them out of order. The job `clicks` counts and sums them per user in windows of ten\n\
         seconds of the clicks' own time, and writes a window when no click of it can come any more.\n\
         \n\
         Each line below was read back from the topic `{OUTPUT}` after its commit: results, positions and state are\n\
         committed together, in one transaction, or not at all. On the way the job is stopped and started again on\n\
         another number of workers. Exactly once means: all the counts together are {records}, no window comes twice.\n\n\
         {:<8} {:>14} {:>12} {:>16}\n",
        "user", "window", "clicks", "sum"
    );
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// What came of it.
#[derive(Serialize)]
struct Summary {
    /// Clicks written, and acknowledged.
    records: u64,
    /// Clicks that the windows count.
    counted: u64,
    windows: usize,
    /// Windows that came more than once.
    duplicates: u64,
    late_records: u64,
    /// All amounts, written and summed by the job.
    sum_written: dataflow::Decimal,
    sum_counted: dataflow::Decimal,
    exactly_once: bool,
    seconds: f64,
    records_per_second: f64,
    epochs: u64,
    /// From the end of an epoch (of 200 ms) until its results are committed and can be read.
    commit_p50_ms: f64,
    commit_p99_ms: f64,
}

impl Summary {
    fn new(
        clicked: &clicks::Clicked,
        windows: &Windows,
        metrics: &[MetricsSnapshot; 2],
        elapsed: Duration,
    ) -> Self {
        let late_records = metrics.iter().map(|run| run.late_records).sum();
        // The slower of the two runs: quantiles do not add up.
        let latencies = || metrics.iter().filter_map(|run| run.commit_latency);
        let milliseconds = |micros: Option<u64>| micros.unwrap_or_default() as f64 / 1000.0;
        Self {
            records: clicked.records,
            counted: windows.counted,
            windows: windows.seen.len(),
            duplicates: windows.duplicates,
            late_records,
            sum_written: clicked.sum,
            sum_counted: windows.sum,
            exactly_once: windows.counted == clicked.records
                && windows.duplicates == 0
                && windows.sum == clicked.sum,
            seconds: elapsed.as_secs_f64(),
            records_per_second: clicked.records as f64 / elapsed.as_secs_f64(),
            epochs: metrics.iter().map(|run| run.epochs_committed).sum(),
            commit_p50_ms: milliseconds(latencies().map(|latency| latency.p50_us).max()),
            commit_p99_ms: milliseconds(latencies().map(|latency| latency.p99_us).max()),
        }
    }

    fn print(&self, format: Format) -> Result<()> {
        #[derive(Serialize)]
        struct Line<'a> {
            summary: &'a Summary,
        }
        let mut out = std::io::stdout().lock();
        if format == Format::Json {
            let line = serde_json::to_string(&Line { summary: self }).map_err(Failure::failed)?;
            return Ok(writeln!(out, "{line}")?);
        }
        let verdict = if self.exactly_once { "exactly once" } else { "NOT exactly once" };
        let Self { records, counted, windows, duplicates, late_records, seconds, epochs, .. } = self;
        writeln!(out, "\n{verdict}: {records} clicks written, {counted} counted, in {windows} windows")?;
        writeln!(
            out,
            "  duplicates  {duplicates}, late {late_records}; sum {} of {}",
            self.sum_counted, self.sum_written
        )?;
        writeln!(
            out,
            "  throughput  {:.0} clicks/s from being written to the last commit ({seconds:.1} s, {epochs} commits)",
            self.records_per_second
        )?;
        writeln!(
            out,
            "  latency     p50 {:.1} ms, p99 {:.1} ms from the end of an epoch (200 ms) to its commit",
            self.commit_p50_ms, self.commit_p99_ms
        )?;
        if self.exactly_once {
            say(
                "\nNext: `tidewater broker` for a broker to keep, `tidewater run clicks` for the job on your own Kafka.",
            );
        }
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "the demo tells how long it took")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_with_a_unit() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        for wrong in ["", "s", "0", "-1s", "1h", "99999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
