//! Writes a topic of Kafka, in the job's transactions.

mod writer;

use std::sync::Arc;

use kafka_wire::ErrorCode;

use self::writer::KafkaWriter;
use crate::commit::kafka::{KafkaTransaction, admin, failed};
use crate::commit::{CommitStore, KafkaStore};
use crate::engine::control::BoxFuture;
use crate::engine::parcel::Data;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Encode, Json, Text};
use crate::sink::{OutputTopic, Sink, SinkContext, SinkStart, Transaction, Writer};

/// Writes records to a topic, exactly once: readers that read committed see each epoch whole or not at all.
///
/// A record's timestamp is the event time of its item. Records with a key go to the partition that any Kafka
/// client would give the key; those without one go to one partition at a time, batch by batch.
///
/// ```no_run
/// use dataflow::KafkaSink;
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Total { user: String, count: u64 }
///
/// let totals = KafkaSink::json("totals").key(|total: &Total| total.user.clone());
/// ```
pub struct KafkaSink<E: Encode> {
    topic: Arc<str>,
    format: E,
    key: Option<Key<E::Item>>,
}

/// Appends the key of an item.
type Key<T> = Arc<dyn Fn(&T, &mut Vec<u8>) + Send + Sync>;

impl KafkaSink<Text> {
    /// Writes values as JSON documents.
    pub fn json<T>(topic: impl Into<Arc<str>>) -> KafkaSink<Json<T>>
    where
        Json<T>: Encode<Item = T>,
    {
        KafkaSink::of(topic, Json::new())
    }

    /// Writes values that are text.
    pub fn string(topic: impl Into<Arc<str>>) -> Self {
        Self::of(topic, Text)
    }
}

impl<E: Encode> KafkaSink<E> {
    /// Writes values in any format.
    pub fn of(topic: impl Into<Arc<str>>, format: E) -> Self {
        Self { topic: topic.into(), format, key: None }
    }

    /// Gives each record a key. Default: none.
    #[must_use]
    pub fn key<K: AsRef<[u8]>>(mut self, key: impl Fn(&E::Item) -> K + Send + Sync + 'static) -> Self {
        self.key = Some(Arc::new(move |item, out| out.extend_from_slice(key(item).as_ref())));
        self
    }

    fn transaction(&self, transaction: Transaction) -> Result<Arc<KafkaTransaction>> {
        transaction.downcast().map_err(|_| {
            let attempted = format!("write topic \"{}\": the job does not commit on Kafka", self.topic);
            Error::new(ErrorKind::Usage, attempted)
                .with_hint("leave Job::commit_to out, or give it a KafkaStore")
        })
    }

    async fn describe(&self, start: SinkStart) -> Result<Vec<OutputTopic>> {
        let attempted = || format!("write topic \"{}\"", self.topic);
        let transaction = self.transaction(start.transaction)?;
        let admin = admin(&start.config)?;
        let described = admin.describe_topics([&*self.topic]).await;
        let mut outputs = Vec::new();
        for (topic, found) in described.map_err(|error| failed(attempted(), error))? {
            let found = found.map_err(|error| match error.code() {
                Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                    Error::new(ErrorKind::Connector, format!("{}: it does not exist", attempted()))
                        .with_hint("create it first, or check its name and the cluster")
                }
                _ => failed(attempted(), error),
            })?;
            let partitions = found.partitions.len() as u32;
            transaction.set_partitions(&self.topic, partitions);
            let topic_id = found.id.is_some().then(|| found.id.to_string());
            outputs.push(OutputTopic { topic, topic_id, partitions });
        }
        Ok(outputs)
    }
}

impl<E> Sink for KafkaSink<E>
where
    E: Encode + Sync,
    E::Item: Data,
{
    type Item = E::Item;

    fn uid(&self) -> &str {
        &self.topic
    }

    fn commit_store(&self) -> Option<Arc<dyn CommitStore>> {
        Some(Arc::new(KafkaStore::new()))
    }

    fn prepare(&self, start: SinkStart) -> BoxFuture<'_, Result<Vec<OutputTopic>>> {
        Box::pin(self.describe(start))
    }

    fn open(&self, context: SinkContext) -> Result<Box<dyn Writer<Item = E::Item>>> {
        let transaction = self.transaction(context.transaction)?;
        let partitions = transaction.partitions(&self.topic);
        let (topic, format, key) = (Arc::clone(&self.topic), self.format.clone(), self.key.clone());
        Ok(Box::new(KafkaWriter::new(topic, format, key, transaction, partitions, context.worker)))
    }
}
