//! `tidewater consume`: records out; the flags are kcat's.

mod console;
pub(super) mod format;
mod options;
mod start;
mod unpack;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{BufWriter, StdoutLock, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka_wire::config::{ClientConfig, ConsumerConfig, Properties};
use kafka_wire::{
    Admin, CloseOptions, Consumer, FetchedBatch, OffsetAndEpoch, OffsetSpec, RebalanceListener, RecordRef,
    TopicPartition,
};
use regex::Regex;

use self::format::{Origin, Style};
pub(super) use self::options::Options;
use self::start::{Bounds, Start};
use super::common::{Failure, Result, Stop, block_on, describe_topic_with};

/// How often what was printed is committed, when there is a group.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the last commit and leaving the group may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints until the end that was asked for, or until it is asked to stop.
pub(super) fn run(options: Options) -> Result<()> {
    options.connection.check_is_no_count("read")?;
    let (style, bounds) = (options.style()?, options.bounds()?);
    let flags = [("group.id", options.group.clone()), ("isolation.level", options.isolation.clone())];
    let is_member = options.group.is_some() && bounds.is_stored() && options.partition.is_empty();
    // A group that has committed nothing begins at the beginning, as without a group. An offset that is not
    // there is an error: nobody asked for another one.
    let is_stored = matches!(bounds.from, None | Some(Start::Stored));
    let reset = if is_stored && options.group.is_some() { "earliest" } else { "none" };
    let mut defaults = vec![("auto.offset.reset", reset)];
    if is_member {
        // What is printed is handed over before the next poll, which commits it.
        defaults.extend([("enable.auto.commit", "true"), ("auto.commit.interval.ms", "1000")]);
    }
    let properties = options.connection.properties(&defaults, &flags)?;
    block_on(async {
        let mut stop = Stop::listen()?;
        let patience = options.timeout_ms.map_or(Duration::MAX, Duration::from_millis);
        let mut reader = Reader::start(options, style, bounds, is_member, &properties).await?;
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

/// Notes the first assignment, even of nothing.
struct Joined(Arc<AtomicBool>);

impl RebalanceListener for Joined {
    fn assigned(&mut self, _: &mut Consumer, _: &[TopicPartition]) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Reader {
    options: Options,
    style: Style,
    consumer: Consumer,
    out: BufWriter<StdoutLock<'static>>,
    /// Whether it ends at ends.
    has_ends: bool,
    /// Where it has ends: partitions that are not at theirs yet, with the offset or `i64::MAX`.
    open: BTreeMap<TopicPartition, i64>,
    /// Records of this time or later are behind the end.
    until_ms: i64,
    /// A member of the group, and it has got its first assignment.
    is_member: bool,
    has_joined: Arc<AtomicBool>,
    printed: u64,
    /// Behind what was printed, and not committed yet.
    positions: BTreeMap<TopicPartition, OffsetAndEpoch>,
}

impl Reader {
    async fn start(
        options: Options,
        style: Style,
        bounds: Bounds,
        is_member: bool,
        properties: &Properties,
    ) -> Result<Self> {
        let topics = topics(&options, properties).await?;
        let partitions = partitions(&options, &topics)?;
        let config = ConsumerConfig::from_properties(properties)?;
        let (isolation, has_group) = (config.isolation, config.group_id.is_some());
        let mut consumer = Consumer::new(config)?;
        let wanted = partitions.into_iter().map(|partition| (partition, OffsetSpec::Latest));
        let ends = consumer.list_offsets(wanted, isolation).await?;
        let ends: Vec<(TopicPartition, i64)> =
            ends.into_iter().map(|(partition, end)| (partition, end.offset.unwrap_or(0))).collect();
        let has_joined = Arc::new(AtomicBool::new(false));
        let until_ms = bounds.until_ms.unwrap_or(i64::MAX);
        // What comes from now on is of a later time than one that has passed.
        let ends_here = options.exit || until_ms <= now_ms();
        let has_ends = ends_here || bounds.until_ms.is_some();
        let mut open = BTreeMap::new();
        if is_member {
            consumer.set_listener(Joined(Arc::clone(&has_joined)));
            consumer.subscribe(topics.keys().map(String::as_str))?;
            open.extend(ends);
        } else {
            let default = if has_group { Start::Stored } else { Start::Beginning };
            let start = bounds.from.unwrap_or(default);
            consumer.assign(start.positions(&consumer, &ends).await?)?;
            for (partition, end) in ends.into_iter().filter(|_| has_ends) {
                let end = if ends_here { end } else { i64::MAX };
                if consumer.position(&partition).await?.offset < end {
                    open.insert(partition, end);
                }
            }
        }
        Ok(Self {
            options,
            style,
            consumer,
            out: BufWriter::new(std::io::stdout().lock()),
            has_ends,
            open,
            until_ms,
            is_member,
            has_joined,
            printed: 0,
            positions: BTreeMap::new(),
        })
    }

    fn is_done(&self) -> bool {
        let is_at_end = if self.is_member { self.member_is_at_end() } else { self.open.is_empty() };
        self.has_ends && is_at_end || self.options.count.is_some_and(|count| self.printed >= count)
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
        let (mut position, mut is_at_end) = (batch.next_position(), false);
        for record in batch {
            is_at_end = self.is_behind_end(end, &record);
            if is_at_end || self.options.count.is_some_and(|count| self.printed >= count) {
                position.offset = record.offset;
                break;
            }
            self.style.write(&mut self.out, &Origin::of(batch), &record)?;
            self.printed += 1;
        }
        if self.is_member {
            // It goes on, for whoever, behind the last record that was printed.
            if position.offset < batch.next_offset() {
                self.consumer.seek(partition, position)?;
                self.consumer.pause([partition])?;
            }
            return Ok(self.out.flush()?);
        }
        if !self.has_ends || end.is_some() {
            self.positions.insert(partition.clone(), position);
        }
        if self.has_ends && (is_at_end || end.is_none_or(|end| position.offset >= end)) {
            self.open.remove(partition);
            self.consumer.pause([partition])?;
        }
        Ok(())
    }

    fn is_behind_end(&self, end: Option<i64>, record: &RecordRef<'_>) -> bool {
        self.has_ends && end.is_none_or(|end| record.offset >= end) || record.timestamp_ms >= self.until_ms
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

/// The topics that are read, each with the number of its partitions.
async fn topics(options: &Options, properties: &Properties) -> Result<BTreeMap<String, usize>> {
    let admin = Admin::new(ClientConfig::from_properties(properties)?)?;
    let mut topics = BTreeMap::new();
    for topic in &options.topics {
        if !topic.starts_with('^') {
            topics.insert(topic.clone(), describe_topic_with(&admin, topic).await?.partitions.len());
            continue;
        }
        let pattern = Regex::new(topic)
            .map_err(|error| Failure::usage(format_args!("read topics by the pattern {topic}: {error}")))?;
        let all = admin.list_topics().await?.into_iter();
        let matching = all.filter(|(name, about)| !about.is_internal && pattern.is_match(name));
        topics.extend(matching.map(|(name, about)| (name, about.partitions.len())));
    }
    if topics.is_empty() {
        let patterns = options.topics.join(" or ");
        return Err(Failure::failed(format_args!("read topics by the pattern {patterns}: no topic matches")));
    }
    Ok(topics)
}

fn partitions(options: &Options, topics: &BTreeMap<String, usize>) -> Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for (topic, count) in topics {
        let all = 0..i32::try_from(*count).unwrap_or(i32::MAX);
        if let Some(missing) = options.partition.iter().find(|partition| !all.contains(partition)) {
            return Err(Failure::usage(format_args!(
                "read partition {missing} of topic {topic}: it has {count} partitions, numbered from 0"
            )));
        }
        let chosen = if options.partition.is_empty() { all.collect() } else { options.partition.clone() };
        partitions.extend(chosen.into_iter().map(|number| TopicPartition::new(topic.as_str(), number)));
    }
    Ok(partitions)
}

#[allow(clippy::disallowed_methods, reason = "the end of what is read is compared with the time of day")]
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
