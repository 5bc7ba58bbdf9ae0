//! Reads a topic of Kafka: each partition is a split, read by one worker with a consumer of its own.

mod discovery;
mod reader;
mod start;

use std::sync::Arc;
use std::time::Duration;

use self::reader::KafkaReader;
use crate::commit::{CommitStore, KafkaStore};
use crate::engine::control::BoxFuture;
use crate::engine::parcel::Data;
use crate::error::Result;
use crate::format::{Decode, Json, OrPoison, Poison, PoisonPolicy, Text};
use crate::source::{Assignment, Prepared, Reader, Source, SourceStart};
use crate::time::WatermarkStrategy;

/// Reads the records of a topic, committed ones only, from the positions that the job's manifest has.
///
/// ```no_run
/// use std::time::Duration;
/// use dataflow::KafkaSource;
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Click { user: String, ts: i64 }
///
/// let clicks = KafkaSource::json::<Click>("clicks")
///     .event_time(|click| click.ts)
///     .bounded_disorder(Duration::from_secs(2));
/// ```
pub struct KafkaSource<D: Decode> {
    topic: Arc<str>,
    format: D,
    event_time: Option<EventTime<D::Item>>,
    strategy: WatermarkStrategy,
    poison: PoisonPolicy,
}

/// The event time of an item, in milliseconds since 1970.
type EventTime<T> = Arc<dyn Fn(&T) -> i64 + Send + Sync>;

impl KafkaSource<Text> {
    /// Reads values that are JSON documents.
    pub fn json<T>(topic: impl Into<Arc<str>>) -> KafkaSource<Json<T>>
    where
        Json<T>: Decode<Item = T>,
    {
        KafkaSource::of(topic, Json::new())
    }

    /// Reads values that are text.
    pub fn string(topic: impl Into<Arc<str>>) -> Self {
        Self::of(topic, Text)
    }
}

impl<D: Decode> KafkaSource<D> {
    /// Reads values of any format.
    pub fn of(topic: impl Into<Arc<str>>, format: D) -> Self {
        Self {
            topic: topic.into(),
            format,
            event_time: None,
            strategy: WatermarkStrategy::default(),
            poison: PoisonPolicy::default(),
        }
    }

    /// Takes the event time, in milliseconds since 1970, from the item. Default: the record's timestamp.
    #[must_use]
    pub fn event_time(mut self, time_ms: impl Fn(&D::Item) -> i64 + Send + Sync + 'static) -> Self {
        self.event_time = Some(Arc::new(time_ms));
        self
    }

    /// How far a record may be behind the newest of its partition and still be on time. Default 0.
    #[must_use]
    pub fn bounded_disorder(mut self, disorder: Duration) -> Self {
        self.strategy.disorder = disorder;
        self
    }

    /// How long a partition must have been read to its end before it no longer holds the watermark.
    /// Default 30 s.
    #[must_use]
    pub fn idle_after(mut self, idle_after: Duration) -> Self {
        self.strategy.idle_after = idle_after;
        self
    }

    /// How event times become watermarks.
    #[must_use]
    pub fn watermark_strategy(mut self, strategy: WatermarkStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Keeps records that cannot be read: they are in the stream as errors, and may go to a dead-letter topic,
    /// which is then written in the same transaction as the results of their epoch. Give the event time before.
    ///
    /// ```
    /// use dataflow::format::{Bytes, Poison};
    /// use dataflow::{Job, KafkaSink, KafkaSource};
    ///
    /// let mut job = Job::new("numbers");
    /// let read = job.source(KafkaSource::json::<u32>("in").or_poison());
    /// read.clone().flat_map(|number| number.err()).map(|poison| poison.value).sink(KafkaSink::of("dead", Bytes));
    /// read.flat_map(|number| number.ok()).sink(KafkaSink::json("out"));
    /// ```
    #[must_use]
    pub fn or_poison(self) -> KafkaSource<OrPoison<D>>
    where
        D::Item: 'static,
    {
        let event_time = self.event_time.map(|of_item| {
            // What says nothing about time must not let it pass.
            let of_any = move |read: &Result<D::Item, Poison>| read.as_ref().map_or(i64::MIN, &*of_item);
            Arc::new(of_any) as EventTime<Result<D::Item, Poison>>
        });
        let (format, poison) = (OrPoison(self.format), self.poison);
        KafkaSource { topic: self.topic, format, event_time, strategy: self.strategy, poison }
    }

    /// What becomes of records that cannot be read. Default: the job stops and names the record.
    #[must_use]
    pub fn poison(mut self, policy: PoisonPolicy) -> Self {
        self.poison = policy;
        self
    }
}

impl<D> Source for KafkaSource<D>
where
    D: Decode + Sync,
    D::Item: Data,
{
    type Item = D::Item;

    fn uid(&self) -> &str {
        &self.topic
    }

    fn watermarks(&self) -> WatermarkStrategy {
        self.strategy
    }

    fn commit_store(&self) -> Option<Arc<dyn CommitStore>> {
        Some(Arc::new(KafkaStore::new()))
    }

    fn prepare(&self, start: SourceStart) -> BoxFuture<'_, Result<Prepared>> {
        Box::pin(start::prepare(Arc::clone(&self.topic), start))
    }

    fn open(&self, assignment: Assignment) -> Result<Box<dyn Reader<Item = D::Item>>> {
        let reader = KafkaReader::open(
            Arc::clone(&self.topic),
            self.format.clone(),
            self.event_time.clone(),
            self.poison,
            &assignment,
        )?;
        Ok(Box::new(reader))
    }
}
