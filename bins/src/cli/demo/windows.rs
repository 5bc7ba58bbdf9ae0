//! Reads the demo's results as they are committed, prints them, and adds them up.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dataflow::Decimal;
use kafka_wire::config::{ConsumerConfig, Properties};
use kafka_wire::{Consumer, FetchedBatch, Isolation, OffsetSpec, Position, TopicPartition};
use serde::Deserialize;

use super::{Format, OUTPUT, PARTITIONS, clicks};
use crate::cli::common::{Failure, Result, block_on};

/// All windows that were committed.
#[derive(Default)]
pub(super) struct Windows {
    /// User and start of each.
    pub(super) seen: HashSet<(String, i64)>,
    pub(super) duplicates: u64,
    pub(super) counted: u64,
    pub(super) sum: Decimal,
}

/// A line that the job wrote.
#[derive(Deserialize)]
struct Window {
    user: String,
    start: i64,
    end: i64,
    count: u64,
    sum: Decimal,
}

/// How often it is looked whether the job is over.
const LOOK: Duration = Duration::from_millis(50);

impl Windows {
    /// Reads on a thread of its own until `is_over`, and then to the end of what is committed.
    pub(super) fn start(
        bootstrap: &str,
        format: Option<Format>,
        is_over: Arc<AtomicBool>,
    ) -> Result<JoinHandle<Result<Self>>> {
        let mut properties = Properties::new();
        properties.set("bootstrap.servers", bootstrap)?;
        let mut consumer = Consumer::new(ConsumerConfig::from_properties(&properties)?)?;
        let partitions = (0..PARTITIONS).map(|number| TopicPartition::new(OUTPUT, number));
        consumer.assign(partitions.map(|partition| (partition, Position::Beginning)))?;
        Ok(thread::spawn(move || {
            let mut windows = Self::default();
            while !is_over.load(Ordering::Acquire) {
                windows.take(&consumer.poll_blocking(LOOK)?, format)?;
            }
            let wanted = consumer.assignment().into_iter().map(|partition| (partition, OffsetSpec::Latest));
            let wanted: Vec<_> = wanted.collect();
            let ends =
                block_on(async { Ok(consumer.list_offsets(wanted, Isolation::ReadCommitted).await?) })?;
            let is_behind = |consumer: &Consumer| {
                let positions = consumer.positions();
                ends.iter().any(|(partition, end)| {
                    let at = positions.iter().find(|(of, _)| of == partition);
                    at.map_or(0, |(_, at)| at.offset) < end.offset.unwrap_or(0)
                })
            };
            while is_behind(&consumer) {
                windows.take(&consumer.poll_blocking(LOOK)?, format)?;
            }
            Ok(windows)
        }))
    }

    fn take(&mut self, batch: &FetchedBatch, format: Option<Format>) -> Result<()> {
        let mut out = std::io::stdout().lock();
        for record in batch {
            let line = record.value.unwrap_or_default();
            let window: Window = serde_json::from_slice(line)
                .map_err(|error| Failure::failed(format_args!("read a window of the job: {error}")))?;
            self.counted += window.count;
            self.sum += window.sum;
            match format {
                Some(Format::Json) => {
                    out.write_all(line)?;
                    out.write_all(b"\n")?;
                }
                Some(Format::Table) => {
                    let second = |time_ms: i64| (time_ms - clicks::BEGIN_MS as i64) / 1000;
                    let span = format!("{} to {} s", second(window.start), second(window.end));
                    let (user, count, sum) = (&window.user, window.count, window.sum.to_string());
                    writeln!(out, "{user:<8} {span:>14} {count:>12} {sum:>16}")?;
                }
                None => {}
            }
            if !self.seen.insert((window.user, window.start)) {
                self.duplicates += 1;
            }
        }
        Ok(())
    }
}
