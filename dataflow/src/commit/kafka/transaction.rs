//! The open transaction of a run: what its sinks write into, and what the commit operator commits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kafka_wire::config::ProducerConfig;
use kafka_wire::record::{BatchBuilder, SealedBatch};
use kafka_wire::{
    BatchReceipt, Codec, CommittedOffset, Compression, ErrorCode, GroupMetadata, LeaderEpoch, TopicPartition,
    TransactionalProducer,
};

use super::{failed, manifest_topic};
use crate::commit::{Commits, Manifest};
use crate::engine::control::BoxFuture;
use crate::engine::crash;
use crate::error::{Error, Result};

/// One run's transactions: one producer for all workers, one transaction after another.
pub(crate) struct KafkaTransaction {
    job: Arc<str>,
    manifests: TopicPartition,
    producer: TransactionalProducer,
    /// How sinks compress, and how large their batches may get.
    pub(crate) compression: Compression,
    pub(crate) batch_bytes: usize,
    /// Partition counts of output topics, as they were when the run began: keys keep their partition in it.
    partitions: Mutex<BTreeMap<String, u32>>,
    /// Whether a transaction has been begun.
    is_open: Mutex<bool>,
    /// The epoch after the one committed last: it alone may be written to before it is complete.
    turn: AtomicU64,
    is_fenced: AtomicBool,
}

impl KafkaTransaction {
    pub(super) fn new(
        job: Arc<str>,
        topic: String,
        producer: TransactionalProducer,
        config: &ProducerConfig,
    ) -> Result<Self> {
        Ok(Self {
            job,
            manifests: TopicPartition::new(topic, 0),
            producer,
            compression: compression(config)?,
            batch_bytes: config.batch_size.min(config.max_request_size),
            partitions: Mutex::default(),
            is_open: Mutex::new(false),
            turn: AtomicU64::new(0),
            is_fenced: AtomicBool::new(false),
        })
    }

    /// Notes how many partitions a topic has.
    pub(crate) fn set_partitions(&self, topic: &str, partitions: u32) {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), partitions);
    }

    /// How many partitions a topic has that the run writes to.
    pub(crate) fn partitions(&self, topic: &str) -> u32 {
        let partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        partitions.get(topic).copied().unwrap_or(1)
    }

    /// Whether another producer has taken over.
    pub(super) fn is_fenced(&self) -> bool {
        self.is_fenced.load(Ordering::SeqCst)
    }

    /// Whether output of `epoch` may be sent before the epoch is complete: the one before is committed.
    pub(crate) fn is_turn(&self, epoch: u64) -> bool {
        self.turn.load(Ordering::SeqCst) == epoch
    }

    /// Sends a batch in the open transaction; begins one where none is.
    pub(crate) fn produce(&self, partition: TopicPartition, batch: SealedBatch) -> Result<BatchReceipt> {
        let mut is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_open {
            self.producer.begin().map_err(|error| self.failed("begin a transaction", error))?;
            *is_open = true;
        }
        self.producer.produce(partition, batch).map_err(|error| self.failed("write output", error))
    }

    /// An error of the producer as one of the job. All of them leave the outcome of the transaction open.
    pub(crate) fn failed(
        &self,
        attempted: impl Into<std::borrow::Cow<'static, str>>,
        error: kafka_wire::Error,
    ) -> Error {
        if is_fencing(&error) {
            self.is_fenced.store(true, Ordering::SeqCst);
        }
        failed(attempted, error)
    }

    async fn commit_epoch(&self, manifest: Manifest) -> Result<()> {
        crash::at("state-durable");
        let epoch = manifest.epoch;
        let attempted = || format!("commit epoch {epoch} of job \"{}\"", self.job);
        let receipt = self.produce(self.manifests.clone(), self.batch_of(&manifest)?)?;
        let offsets = offsets(&manifest);
        if !offsets.is_empty() {
            let group = GroupMetadata::without_member(&*self.job);
            let sent = self.producer.send_offsets(group, offsets);
            sent.await.map_err(|error| self.failed(attempted(), error))?;
        }
        receipt.await.map_err(|error| self.failed(attempted(), error))?;
        crash::at("manifest-sent");
        let committed = self.producer.commit();
        crash::at("commit-sent");
        committed.await.map_err(|error| self.failed(attempted(), error))?;
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.turn.store(epoch + 1, Ordering::SeqCst);
        crash::at("committed");
        Ok(())
    }

    fn batch_of(&self, manifest: &Manifest) -> Result<SealedBatch> {
        let value = manifest.encode()?;
        let mut batch = BatchBuilder::new(Compression::NONE, value.len() + 64);
        // Kafka fills in no time by itself, and the log's retention does not look at it: it is compacted.
        let appended = batch.append(-1, Some(manifest_topic::KEY), Some(&value), &[]);
        appended.map_err(|error| failed(format!("write the manifest of epoch {}", manifest.epoch), error))?;
        Ok(batch.seal())
    }
}

/// Whether an error, or what caused it, says that the producer's epoch is an old one. A partition's leader
/// does not know whether a newer producer or the coordinator itself has raised it.
fn is_fencing(error: &kafka_wire::Error) -> bool {
    use std::error::Error as _;

    let is_old = matches!(error.code(), Some(ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED));
    let cause = error.source().and_then(|cause| cause.downcast_ref::<kafka_wire::Error>());
    is_old || error.kind() == kafka_wire::ErrorKind::Fenced || cause.is_some_and(is_fencing)
}

impl Commits for Arc<KafkaTransaction> {
    fn commit(&self, manifest: Manifest) -> BoxFuture<'static, Result<()>> {
        let this = Self::clone(self);
        Box::pin(async move { this.commit_epoch(manifest).await })
    }
}

fn compression(config: &ProducerConfig) -> Result<Compression> {
    if config.compression == Codec::None {
        return Ok(Compression::NONE);
    }
    Compression::new(config.compression, config.compression_level)
        .map_err(|error| failed("read the configuration", error))
}

/// Where the sources stand, for tools that show lag: the job itself goes by its manifest.
fn offsets(manifest: &Manifest) -> Vec<(TopicPartition, CommittedOffset)> {
    let mut offsets = Vec::new();
    for source in &manifest.sources {
        let topic: Arc<str> = source.topic.as_str().into();
        for partition in &source.partitions {
            let offset = CommittedOffset {
                offset: partition.offset,
                leader_epoch: partition.leader_epoch.map(LeaderEpoch),
                metadata: String::new(),
            };
            offsets.push((TopicPartition::new(Arc::clone(&topic), partition.partition), offset));
        }
    }
    offsets
}
