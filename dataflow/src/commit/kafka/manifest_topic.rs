//! The topic that a job's manifests are in: one partition, compacted, made by the job itself.

use std::future::poll_fn;
use std::time::Duration;

use kafka_wire::config::{ConsumerConfig, OffsetReset};
use kafka_wire::{
    Admin, ConfigResource, Consumer, ErrorCode, FetchedBatch, Isolation, NewTopic, OffsetSpec, Position,
    TopicPartition,
};

use super::failed;
use crate::commit::{CommitStart, Manifest};
use crate::engine::bridge;
use crate::error::{Error, ErrorKind, Result};

/// The key of each manifest: compaction keeps the newest.
pub(super) const KEY: &[u8] = b"manifest";

/// The name of the manifest topic of `job`.
pub(super) fn name(job: &str) -> Result<String> {
    let name = format!("__tidewater-{job}");
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if job.is_empty() || name.len() > MAX_NAME_BYTES || !job.bytes().all(fits) {
        let attempted = format!("use \"{job}\" as the id of a job");
        return Err(Error::new(ErrorKind::Config, attempted).with_hint(format!(
            "it becomes part of a topic's name: letters, digits, '.', '_' and '-', at most {} of them",
            MAX_NAME_BYTES - "__tidewater-".len()
        )));
    }
    Ok(name)
}

/// Kafka's limit (`org.apache.kafka.common.internals.Topic.MAX_NAME_LENGTH`).
const MAX_NAME_BYTES: usize = 249;

/// Makes the topic where it is missing, and makes sure that it is one that keeps what it is given.
pub(super) async fn ensure(admin: &Admin, topic: &str, brokers: usize) -> Result<()> {
    let attempted = || format!("use topic \"{topic}\" for the job's manifest");
    if let Some(found) = describe(admin, topic).await? {
        return check(admin, topic, found.partitions.len()).await;
    }
    let replicas = i16::try_from(brokers.clamp(1, 3)).unwrap_or(1);
    let wanted = NewTopic::new(topic, 1)
        .replication_factor(replicas)
        .config("cleanup.policy", "compact")
        // Only closed segments are compacted, and all that is left is read at each start.
        .config("segment.bytes", "1048576");
    for (_, created) in admin.create_topics([wanted]).await.map_err(|error| failed(attempted(), error))? {
        match created {
            Err(error) if error.code() != Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {
                return Err(failed(attempted(), error));
            }
            _ => tracing::info!(topic, replicas, "manifest topic created"),
        }
    }
    Ok(())
}

async fn describe(admin: &Admin, topic: &str) -> Result<Option<kafka_wire::TopicDescription>> {
    let attempted = || format!("look at topic \"{topic}\" for the job's manifest");
    let described = admin.describe_topics([topic]).await.map_err(|error| failed(attempted(), error))?;
    match described.into_iter().next() {
        Some((_, Ok(found))) => Ok(Some(found)),
        Some((_, Err(error))) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Ok(None),
        Some((_, Err(error))) => Err(failed(attempted(), error)),
        None => Ok(None),
    }
}

async fn check(admin: &Admin, topic: &str, partitions: usize) -> Result<()> {
    let attempted = || format!("look at the configuration of topic \"{topic}\"");
    if partitions != 1 {
        return Err(unfit(topic, format!("it has {partitions} partitions, and not one")));
    }
    let described = admin.describe_configs([ConfigResource::topic(topic)]).await;
    let described = described.map_err(|error| failed(attempted(), error))?;
    for (_, entries) in described {
        let entries = entries.map_err(|error| failed(attempted(), error))?;
        let policy = entries.into_iter().find(|entry| entry.name == "cleanup.policy");
        if let Some(value) = policy.and_then(|entry| entry.value)
            && value != "compact"
        {
            return Err(unfit(topic, format!("its cleanup.policy is {value}: the newest manifest might go")));
        }
    }
    Ok(())
}

fn unfit(topic: &str, reason: String) -> Error {
    Error::new(ErrorKind::Refused, format!("use topic \"{topic}\" for the job's manifest: {reason}")).with_hint(
        "it must have one partition and cleanup.policy=compact; change it, or give the job another --group",
    )
}

/// The newest committed manifest, up to the end of the log as `end` sees it. It is reached by position, since
/// the last thing in the log is no record but a marker.
///
/// A start, which has waited out all transactions, reads to where the log ends: the last stable offset may hide
/// a manifest whose commit is not visible yet. Before that, only the last stable offset can be reached.
pub(super) async fn newest(
    start: &CommitStart,
    admin: &Admin,
    topic: &str,
    end: Isolation,
) -> Result<Option<Manifest>> {
    let attempted = || format!("read the newest manifest from topic \"{topic}\"");
    let partition = TopicPartition::new(topic, 0);
    let wanted = [(partition.clone(), OffsetSpec::Latest)];
    let mut end_offset = 0;
    for (_, listed) in admin.list_offsets(wanted, end).await.map_err(|error| failed(attempted(), error))? {
        end_offset = listed.map_err(|error| failed(attempted(), error))?.offset.unwrap_or_default();
    }
    if end_offset == 0 {
        return Ok(None);
    }
    let mut config = ConsumerConfig::from_properties(&start.config.kafka)
        .map_err(|error| failed("read the configuration", error))?;
    config.isolation = Isolation::ReadCommitted;
    config.auto_offset_reset = OffsetReset::None;
    config.group_id = None;
    let patience = config.client.default_api_timeout;
    let mut consumer = Consumer::new(config).map_err(|error| failed(attempted(), error))?;
    consumer.assign([(partition, Position::Beginning)]).map_err(|error| failed(attempted(), error))?;
    match bridge::within(patience, last_before(&mut consumer, topic, end_offset)).await {
        Some(newest) => newest,
        None => Err(stuck(attempted(), end_offset, patience)),
    }
}

fn stuck(attempted: String, end: i64, patience: Duration) -> Error {
    let attempted = format!("{attempted} up to offset {end} within {} s", patience.as_secs());
    Error::new(ErrorKind::Connector, attempted)
        .with_hint("a transaction of somebody else may be open in it; nobody but the job may write there")
        .with_retriable(true)
}

async fn last_before(consumer: &mut Consumer, topic: &str, end: i64) -> Result<Option<Manifest>> {
    let mut newest = None;
    loop {
        let batch = poll_fn(|cx| consumer.poll_batch(cx))
            .await
            .map_err(|error| failed(format!("read the newest manifest from topic \"{topic}\""), error))?;
        if let Some(found) = manifest_in(&batch, topic)? {
            newest = Some(found);
        }
        if batch.next_offset() >= end {
            return Ok(newest);
        }
    }
}

fn manifest_in(batch: &FetchedBatch, topic: &str) -> Result<Option<Manifest>> {
    let last = batch.iter().filter(|record| record.key == Some(KEY)).last();
    let Some((offset, value)) = last.and_then(|record| Some((record.offset, record.value?))) else {
        return Ok(None);
    };
    Manifest::decode(value, &format!("topic \"{topic}\" offset {offset}")).map(Some)
}
