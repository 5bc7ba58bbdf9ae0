//! `tidewater verifiable-share-consumer`: Kafka's own contract for a share consumer under test
//! (`org.apache.kafka.tools.VerifiableShareConsumer`): options as there, one JSON object a line on standard output.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use kafka_wire::config::{ClientConfig, Properties, ShareConsumerConfig};
use kafka_wire::{
    AcknowledgementResult, Admin, ConfigChange, ConfigResource, ShareBatch, ShareConsumer, TopicPartition,
};
use serde::Serialize;

use super::common::{Failure, Result, Stop, block_on};
use super::verifiable::print;

/// How long a poll waits for records, as in Kafka's tool.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was acknowledged may take to arrive at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// What was read by a member of a share group, and what became of it.
#[derive(Args)]
pub(super) struct Options {
    /// The topic
    #[arg(long)]
    topic: String,
    /// Brokers to start from
    #[arg(long, alias = "broker-list", value_name = "HOST:PORT")]
    bootstrap_server: String,
    /// The share group
    #[arg(long)]
    group_id: String,
    /// How many records are to be acknowledged; without end when negative
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    max_messages: i64,
    /// Tells each record, too. The program's own flag of that name, which also logs more
    #[arg(from_global)]
    verbose: u8,
    /// auto: the next poll acknowledges; sync: a commit that is waited for; async: one that is not
    #[arg(long, value_enum, default_value = "auto")]
    acknowledgement_mode: Mode,
    /// Where the group starts in its topics, earliest or latest; unchanged without it
    #[arg(long, default_value = "")]
    offset_reset_strategy: String,
    /// A properties file; the other options win over it
    #[arg(long, alias = "consumer.config", value_name = "FILE")]
    command_config: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Auto,
    Sync,
    Async,
}

/// What is told, with the names and in the order of Kafka's tool.
#[derive(Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
enum Event<'a> {
    StartupComplete,
    #[serde(rename_all = "camelCase")]
    OffsetResetStrategySet {
        offset_reset_strategy: &'a str,
    },
    RecordData {
        key: Option<String>,
        value: Option<String>,
        topic: &'a str,
        partition: i32,
        offset: i64,
    },
    RecordsConsumed {
        count: usize,
        partitions: [Partition<'a>; 1],
    },
    OffsetsAcknowledged {
        count: usize,
        partitions: [Partition<'a>; 1],
        success: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    ShutdownComplete,
}

#[derive(Serialize)]
struct Partition<'a> {
    topic: &'a str,
    partition: i32,
    count: usize,
    offsets: Vec<i64>,
}

impl<'a> Partition<'a> {
    fn new(partition: &'a TopicPartition, offsets: Vec<i64>) -> Self {
        Self { topic: &partition.topic, partition: partition.partition, count: offsets.len(), offsets }
    }
}

/// Reads until as much is acknowledged as was asked for, or it is asked to stop.
pub(super) fn run(options: Options) -> Result<()> {
    let properties = options.properties()?;
    let mut consumer = ShareConsumer::new(ShareConsumerConfig::from_properties(&properties)?)?;
    block_on(async {
        let mut stop = Stop::listen()?;
        print(&Event::StartupComplete);
        if !options.offset_reset_strategy.is_empty() {
            options.set_offset_reset_strategy(&properties).await?;
        }
        let acknowledged = Arc::new(AtomicU64::new(0));
        let total = Arc::clone(&acknowledged);
        consumer.on_acknowledged(move |result| tell(&result, &total));
        consumer.subscribe([options.topic.as_str()])?;
        let wanted = u64::try_from(options.max_messages).unwrap_or(u64::MAX);
        while acknowledged.load(Ordering::Relaxed) < wanted {
            let batch = tokio::select! {
                batch = consumer.poll(POLL_TIMEOUT) => batch?,
                () = stop.wait() => break,
            };
            options.tell(&batch);
            match options.acknowledgement_mode {
                Mode::Auto => {}
                Mode::Sync => drop(consumer.commit().await?),
                Mode::Async => consumer.commit_async()?,
            }
        }
        consumer.close(CLOSE_TIMEOUT).await?;
        print(&Event::ShutdownComplete);
        Ok(())
    })
}

impl Options {
    fn properties(&self) -> Result<Properties> {
        let mut properties = Properties::new();
        if let Some(file) = &self.command_config {
            properties.set_from_file(file)?;
        }
        properties.set("bootstrap.servers", self.bootstrap_server.as_str())?;
        properties.set("group.id", self.group_id.as_str())?;
        Ok(properties)
    }

    async fn set_offset_reset_strategy(&self, properties: &Properties) -> Result<()> {
        let strategy = self.offset_reset_strategy.as_str();
        let admin = Admin::new(ClientConfig::from_properties(properties)?)?;
        let name = "share.auto.offset.reset".to_owned();
        let change = ConfigChange::Set { name, value: strategy.to_owned() };
        let group = ConfigResource::group(self.group_id.as_str());
        for (_, result) in admin.incremental_alter_configs([(group, vec![change])]).await? {
            result.map_err(Failure::from)?;
        }
        print(&Event::OffsetResetStrategySet { offset_reset_strategy: strategy });
        Ok(())
    }

    fn tell(&self, batch: &ShareBatch) {
        if batch.is_empty() {
            return;
        }
        let partition = batch.topic_partition();
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let mut offsets = Vec::with_capacity(batch.len());
        for shared in batch {
            offsets.push(shared.record.offset);
            if self.verbose > 0 {
                print(&Event::RecordData {
                    key: text(shared.record.key),
                    value: text(shared.record.value),
                    topic: &partition.topic,
                    partition: partition.partition,
                    offset: shared.record.offset,
                });
            }
        }
        print(&Event::RecordsConsumed {
            count: batch.len(),
            partitions: [Partition::new(partition, offsets)],
        });
    }
}

fn tell(result: &AcknowledgementResult, acknowledged: &AtomicU64) {
    let offsets: Vec<i64> = result.offsets.iter().cloned().flatten().collect();
    if result.result.is_ok() {
        acknowledged.fetch_add(offsets.len() as u64, Ordering::Relaxed);
    }
    print(&Event::OffsetsAcknowledged {
        count: offsets.len(),
        partitions: [Partition::new(&result.partition, offsets)],
        success: result.result.is_ok(),
        error: result.result.as_ref().err().map(ToString::to_string),
    });
}
