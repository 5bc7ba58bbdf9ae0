//! `tidewater consume`: records out; the flags are kcat's.

pub(super) mod format;
mod start;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{BufWriter, StdoutLock, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use kafka_wire::config::{ConsumerConfig, Properties};
use kafka_wire::{
    CloseOptions, Consumer, FetchedBatch, OffsetAndEpoch, OffsetSpec, RebalanceListener, TopicPartition,
};

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
    /// As --offset beginning
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
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
    #[arg(short, long, value_parser = Format::parse, conflicts_with = "json")]
    format: Option<Format>,
    /// Print keys, too, and this between key and value
    #[arg(short = 'K', long, value_name = "DELIMITER", value_parser = format::unescape, conflicts_with_all = ["format", "json"])]
    key_delimiter: Option<String>,
    /// What is printed behind each record
    #[arg(short = 'D', long, default_value = r"\n", value_parser = format::unescape, conflicts_with_all = ["format", "json"])]
    delimiter: String,
    /// How a record is printed, as for kafka-console-consumer: print.key=true, print.offset=true, key.separator=| …;
    /// may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::admin::entry, conflicts_with_all = ["format", "json", "key_delimiter", "delimiter"])]
    property: Vec<(String, String)>,
    /// Exit when no record comes for so long
    #[arg(long, value_name = "MILLISECONDS")]
    timeout_ms: Option<u64>,
    /// Print one JSON object a line, as kcat does
    #[arg(short = 'J', long)]
    json: bool,
    /// What is printed for a null key or value
    #[arg(short = 'Z', long, value_name = "TEXT", default_value = "", num_args = 0..=1, default_missing_value = "NULL")]
    null: String,
    /// Read as a member of this group: go on where it is, commit what was printed, share the partitions with its other
    /// members. With --partition or --offset, go on for it without being one
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
/// How long the last commit and leaving the group may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints until the end that was asked for, or until it is asked to stop.
pub(super) fn run(mut options: Options) -> Result<()> {
    if options.from_beginning {
        options.offset = Some(Start::Beginning);
    }
    if let Some((_, literal)) = options.property.iter().find(|(name, _)| name == "null.literal") {
        options.null.clone_from(literal);
    } else if !options.property.is_empty() && options.null.is_empty() {
        options.null = "null".to_owned();
    }
    let format = options.format()?;
    let flags = [("group.id", options.group.clone()), ("isolation.level", options.isolation.clone())];
    // A group that has committed nothing begins at the beginning, as without a group. An offset that is not
    // there is an error: nobody asked for another one.
    let is_stored = options.offset.is_none_or(|offset| offset == Start::Stored);
    let reset = if is_stored && options.group.is_some() { "earliest" } else { "none" };
    let mut defaults = vec![("auto.offset.reset", reset)];
    if options.is_member() {
        // What is printed is handed over before the next poll, which commits it.
        defaults.extend([("enable.auto.commit", "true"), ("auto.commit.interval.ms", "1000")]);
    }
    let properties = options.connection.properties(&defaults, &flags)?;
    block_on(async {
        let mut stop = Stop::listen()?;
        let patience = options.timeout_ms.map_or(Duration::MAX, Duration::from_millis);
        let mut reader = Reader::start(options, format, &properties).await?;
        let mut commits = tokio::time::interval(COMMIT_INTERVAL);
        let mut silence = std::pin::pin!(sleep(patience));
        while !reader.is_done() {
            tokio::select! {
                batch = reader.next_batch() => {
                    let batch = batch?;
                    if !batch.is_empty() {
                        silence.set(sleep(patience));
                    }
                    reader.print(&batch)?;
                }
                () = &mut silence => break,
                _ = commits.tick() => reader.commit().await?,
                () = stop.wait() => break,
            }
        }
        reader.commit().await?;
        Ok(reader.consumer.close_with(CloseOptions { timeout: CLOSE_TIMEOUT, ..Default::default() }).await?)
    })
}

/// For ever with `Duration::MAX`.
async fn sleep(time: Duration) {
    match time {
        Duration::MAX => std::future::pending().await,
        time => tokio::time::sleep(time).await,
    }
}

impl Options {
    fn is_member(&self) -> bool {
        let is_stored = self.offset.is_none_or(|offset| offset == Start::Stored);
        self.group.is_some() && is_stored && self.partition.is_empty()
    }

    fn format(&self) -> Result<Format> {
        if self.json {
            return Ok(Format::Json);
        }
        if !self.property.is_empty() {
            return Format::of_properties(&self.property).map_err(Failure::usage);
        }
        let plain = || Format::plain(self.key_delimiter.as_deref(), &self.delimiter);
        Ok(self.format.clone().unwrap_or_else(plain))
    }
}

/// Notes the first assignment, even of nothing.
struct Joined(Arc<AtomicBool>);

impl RebalanceListener for Joined {
    fn assigned(&mut self, _: &mut Consumer, _: &[TopicPartition]) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Reader {
    options: Options,
    format: Format,
    consumer: Consumer,
    out: BufWriter<StdoutLock<'static>>,
    /// With `--exit`: partitions that are not at their end yet, with that end.
    open: BTreeMap<TopicPartition, i64>,
    /// A member of the group, and it has got its first assignment.
    is_member: bool,
    has_joined: Arc<AtomicBool>,
    printed: u64,
    /// Behind what was printed, and not committed yet.
    positions: BTreeMap<TopicPartition, OffsetAndEpoch>,
}

impl Reader {
    async fn start(options: Options, format: Format, properties: &Properties) -> Result<Self> {
        let topic = describe_topic(properties, &options.topic).await?;
        let partitions = partitions(&options, topic.partitions.len())?;
        let config = ConsumerConfig::from_properties(properties)?;
        let (isolation, has_group) = (config.isolation, config.group_id.is_some());
        let mut consumer = Consumer::new(config)?;
        let wanted = partitions.into_iter().map(|partition| (partition, OffsetSpec::Latest));
        let ends = consumer.list_offsets(wanted, isolation).await?;
        let ends: Vec<(TopicPartition, i64)> =
            ends.into_iter().map(|(partition, end)| (partition, end.offset.unwrap_or(0))).collect();
        let has_joined = Arc::new(AtomicBool::new(false));
        let is_member = options.is_member();
        let mut open = BTreeMap::new();
        if is_member {
            consumer.set_listener(Joined(Arc::clone(&has_joined)));
            consumer.subscribe([options.topic.as_str()])?;
            open.extend(ends);
        } else {
            let default = if has_group { Start::Stored } else { Start::Beginning };
            let start = options.offset.unwrap_or(default);
            consumer.assign(start.positions(&consumer, &ends).await?)?;
            if options.exit {
                for (partition, end) in ends {
                    if consumer.position(&partition).await?.offset < end {
                        open.insert(partition, end);
                    }
                }
            }
        }
        let out = BufWriter::new(std::io::stdout().lock());
        let positions = BTreeMap::new();
        Ok(Self { options, format, consumer, out, open, is_member, has_joined, printed: 0, positions })
    }

    fn is_done(&self) -> bool {
        let is_at_end = if self.is_member { self.member_is_at_end() } else { self.open.is_empty() };
        self.options.exit && is_at_end || self.options.count.is_some_and(|count| self.printed >= count)
    }

    /// A member is at the end of what it has now; others see to the rest.
    fn member_is_at_end(&self) -> bool {
        let positions: BTreeMap<TopicPartition, OffsetAndEpoch> =
            self.consumer.positions().into_iter().collect();
        let is_at_end = |partition: &TopicPartition| {
            let position = positions.get(partition).map(|at| at.offset);
            position.is_some_and(|at| self.open.get(partition).is_none_or(|end| at >= *end))
        };
        self.has_joined.load(Ordering::Relaxed) && self.consumer.assignment().iter().all(is_at_end)
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
        if !self.is_member && end.is_some_and(|end| position.offset >= end) {
            self.open.remove(partition);
        }
        if self.is_member {
            // It goes on, for whoever, behind the last record that was printed.
            if position.offset < batch.next_offset() {
                self.consumer.seek(partition, position)?;
                self.consumer.pause([partition])?;
            }
            return Ok(self.out.flush()?);
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
        if self.options.group.is_some() && !self.is_member {
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
