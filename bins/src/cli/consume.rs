//! `tidewater consume`: records out; the flags are kcat's.

pub(super) mod format;
mod start;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{BufWriter, StdoutLock, Write as _};
use std::time::Duration;

use clap::Args;
use kafka_wire::config::{ConsumerConfig, Properties};
use kafka_wire::{Consumer, FetchedBatch, OffsetAndEpoch, OffsetSpec, TopicPartition};

use self::format::Format;
use self::start::Start;
use super::common::{Connection, Failure, Result, Stop, block_on, describe_topic};

/// What is read, from where, and how it is printed.
///
/// Only what is committed is read, unless --isolation says otherwise.
#[derive(Args)]
pub(super) struct Options {
    /// The topic
    topic: String,
    /// Where to begin: beginning, end, stored, an offset, -N for the last N of each partition, or s@TIMESTAMP in
    /// milliseconds [default: beginning; stored with --group]
    #[arg(short, long, value_parser = Start::parse, allow_hyphen_values = true)]
    offset: Option<Start>,
    /// Only these partitions; may be repeated
    #[arg(short, long)]
    partition: Vec<i32>,
    /// Exit at the end, as it is when this begins
    #[arg(short, long)]
    exit: bool,
    /// Exit after this many records
    #[arg(short = 'n', long, visible_alias = "max-messages", value_name = "N")]
    count: Option<u64>,
    /// How a record is printed: %k key, %v value, %o offset, %p partition, %t topic, %T timestamp, %h headers, %K and
    /// %V lengths (-1 for null), \n \t \xHH
    #[arg(short, long, default_value = r"%v\n", value_parser = Format::parse, conflicts_with = "json")]
    format: Format,
    /// Print one JSON object a line, as kcat does
    #[arg(short = 'J', long)]
    json: bool,
    /// What is printed for a null key or value
    #[arg(short = 'Z', long, value_name = "TEXT", default_value = "", num_args = 0..=1, default_missing_value = "NULL")]
    null: String,
    /// Go on where this group is, and commit what was printed for it; the process does not become its member
    #[arg(short = 'G', long)]
    group: Option<String>,
    /// read_committed, or read_uncommitted to see open and aborted transactions too
    #[arg(long, value_parser = ["read_committed", "read_uncommitted"])]
    isolation: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// How often what was printed is committed, when there is a group.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Prints until the end that was asked for, or until it is asked to stop.
pub(super) fn run(options: Options) -> Result<()> {
    let flags = [("group.id", options.group.clone()), ("isolation.level", options.isolation.clone())];
    // A group that has committed nothing begins at the beginning, as without a group. An offset that is not
    // there is an error: nobody asked for another one.
    let is_stored = options.offset.is_none_or(|offset| offset == Start::Stored);
    let reset = if is_stored && options.group.is_some() { "earliest" } else { "none" };
    let properties = options.connection.properties(&[("auto.offset.reset", reset)], &flags)?;
    block_on(async {
        let mut stop = Stop::listen()?;
        let mut reader = Reader::start(options, &properties).await?;
        let mut commits = tokio::time::interval(COMMIT_INTERVAL);
        while !reader.is_done() {
            tokio::select! {
                batch = reader.next_batch() => reader.print(&batch?)?,
                _ = commits.tick() => reader.commit().await?,
                () = stop.wait() => break,
            }
        }
        reader.commit().await
    })
}

struct Reader {
    options: Options,
    format: Format,
    consumer: Consumer,
    out: BufWriter<StdoutLock<'static>>,
    /// With `--exit`: partitions that are not at their end yet, with that end.
    open: BTreeMap<TopicPartition, i64>,
    printed: u64,
    /// Behind what was printed, and not committed yet.
    positions: BTreeMap<TopicPartition, OffsetAndEpoch>,
}

impl Reader {
    async fn start(options: Options, properties: &Properties) -> Result<Self> {
        let topic = describe_topic(properties, &options.topic).await?;
        let partitions = partitions(&options, topic.partitions.len())?;
        let config = ConsumerConfig::from_properties(properties)?;
        let (isolation, has_group) = (config.isolation, config.group_id.is_some());
        let mut consumer = Consumer::new(config)?;
        let wanted = partitions.into_iter().map(|partition| (partition, OffsetSpec::Latest));
        let ends = consumer.list_offsets(wanted, isolation).await?;
        let ends: Vec<(TopicPartition, i64)> =
            ends.into_iter().map(|(partition, end)| (partition, end.offset.unwrap_or(0))).collect();
        let default = if has_group { Start::Stored } else { Start::Beginning };
        let start = options.offset.unwrap_or(default);
        consumer.assign(start.positions(&consumer, &ends).await?)?;
        let mut open = BTreeMap::new();
        if options.exit {
            for (partition, end) in ends {
                if consumer.position(&partition).await?.offset < end {
                    open.insert(partition, end);
                }
            }
        }
        let format = if options.json { Format::Json } else { options.format.clone() };
        let out = BufWriter::new(std::io::stdout().lock());
        Ok(Self { options, format, consumer, out, open, printed: 0, positions: BTreeMap::new() })
    }

    fn is_done(&self) -> bool {
        let is_at_end = self.options.exit && self.open.is_empty();
        is_at_end || self.options.count.is_some_and(|count| self.printed >= count)
    }

    /// The next batch, with records or without: one without moves the position too. What is printed is
    /// flushed before it waits.
    async fn next_batch(&mut self) -> Result<FetchedBatch> {
        poll_fn(|context| {
            let batch = self.consumer.poll_batch(context).map_err(Failure::from);
            if batch.is_pending()
                && let Err(error) = self.out.flush()
            {
                return std::task::Poll::Ready(Err(error.into()));
            }
            batch
        })
        .await
    }

    fn print(&mut self, batch: &FetchedBatch) -> Result<()> {
        let partition = batch.topic_partition();
        let end = self.open.get(partition).copied();
        let mut position = batch.next_position();
        for record in batch {
            let is_behind_end = self.options.exit && end.is_none_or(|end| record.offset >= end);
            if is_behind_end || self.options.count.is_some_and(|count| self.printed >= count) {
                position.offset = record.offset;
                break;
            }
            self.format.write(&mut self.out, partition, &record, &self.options.null)?;
            self.printed += 1;
        }
        if end.is_some_and(|end| position.offset >= end) {
            self.open.remove(partition);
        }
        if !self.options.exit || end.is_some() {
            self.positions.insert(partition.clone(), position);
        }
        Ok(())
    }

    /// Commits what was printed, once it has reached whoever reads it.
    async fn commit(&mut self) -> Result<()> {
        self.out.flush()?;
        let positions = std::mem::take(&mut self.positions);
        if self.options.group.is_some() {
            let offsets = positions.into_iter().map(|(partition, at)| (partition, at.into()));
            self.consumer.commit_offsets(offsets).await?;
        }
        Ok(())
    }
}

fn partitions(options: &Options, count: usize) -> Result<Vec<TopicPartition>> {
    let all = 0..i32::try_from(count).unwrap_or(i32::MAX);
    if let Some(missing) = options.partition.iter().find(|partition| !all.contains(partition)) {
        let topic = &options.topic;
        return Err(Failure::usage(format_args!(
            "read partition {missing} of topic {topic}: it has {count} partitions, numbered from 0"
        )));
    }
    let chosen = if options.partition.is_empty() { all.collect() } else { options.partition.clone() };
    Ok(chosen.into_iter().map(|number| TopicPartition::new(options.topic.as_str(), number)).collect())
}
