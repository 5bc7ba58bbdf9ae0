//! `tidewater verifiable-consumer`: Kafka's own contract for a consumer under test
//! (`org.apache.kafka.tools.VerifiableConsumer`): options as there, one JSON object a line on standard output.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kafka_wire::config::{ConsumerConfig, Properties};
use kafka_wire::{CommittedOffset, Consumer, FetchedBatch, RebalanceListener, TopicPartition};
use serde::Serialize;

use super::common::{Result, Stop, block_on};
use super::verifiable::print;

/// What a member of a group is assigned, reads and commits.
#[derive(Args)]
pub(super) struct Options {
    /// Brokers to start from
    #[arg(long, alias = "broker-list", value_name = "HOST:PORT")]
    bootstrap_server: String,
    /// The topic
    #[arg(long)]
    topic: String,
    /// The group
    #[arg(long)]
    group_id: String,
    /// How the group divides partitions: classic or consumer
    #[arg(long, default_value = "classic")]
    group_protocol: String,
    /// The coordinator's assignor, with --group-protocol consumer
    #[arg(long)]
    group_remote_assignor: Option<String>,
    /// A name of this member that outlives it
    #[arg(long)]
    group_instance_id: Option<String>,
    /// How many records; without end when negative
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    max_messages: i64,
    /// How long the member may be silent, in milliseconds
    #[arg(long, default_value_t = 30_000, value_name = "MS")]
    session_timeout: u64,
    /// Tell each record: the program's own --verbose, as in the contract
    #[arg(skip)]
    pub(super) is_verbose: bool,
    /// Commit now and then instead of after each batch
    #[arg(long)]
    enable_autocommit: bool,
    /// Where to begin when nothing is committed: earliest, latest or none
    #[arg(long, default_value = "earliest")]
    reset_policy: String,
    /// How partitions are divided, by the names of Java's classes
    #[arg(long, default_value = "org.apache.kafka.clients.consumer.RangeAssignor")]
    assignment_strategy: String,
    /// A properties file; the other options win over it
    #[arg(long, alias = "consumer.config", value_name = "FILE")]
    command_config: Option<PathBuf>,
}

/// What is told, with the names and in the order of Kafka's tool.
#[derive(Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
enum Event<'a> {
    StartupComplete,
    PartitionsAssigned {
        partitions: Vec<Partition<'a>>,
    },
    PartitionsRevoked {
        partitions: Vec<Partition<'a>>,
    },
    RecordsConsumed {
        count: usize,
        partitions: [Consumed<'a>; 1],
    },
    RecordData {
        key: Option<String>,
        value: Option<String>,
        topic: &'a str,
        partition: i32,
        offset: i64,
    },
    OffsetsCommitted {
        offsets: Vec<Committed<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        success: bool,
    },
    ShutdownComplete,
}

#[derive(Serialize)]
struct Partition<'a> {
    topic: &'a str,
    partition: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Consumed<'a> {
    topic: &'a str,
    partition: i32,
    count: usize,
    min_offset: i64,
    max_offset: i64,
}

#[derive(Serialize)]
struct Committed<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

struct Listener;

impl RebalanceListener for Listener {
    fn assigned(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) {
        print(&Event::PartitionsAssigned { partitions: partitions.iter().map(named).collect() });
    }

    fn revoked(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) {
        print(&Event::PartitionsRevoked { partitions: partitions.iter().map(named).collect() });
    }
}

fn named(at: &TopicPartition) -> Partition<'_> {
    Partition { topic: &at.topic, partition: at.partition }
}

/// Reads, tells and commits until all is read or it is asked to stop.
pub(super) fn run(options: Options) -> Result<()> {
    let mut consumer = Consumer::new(options.configuration()?)?;
    consumer.set_listener(Listener);
    consumer.subscribe([options.topic.as_str()])?;
    let mut reading = Reading { options, consumer, read: 0, uncommitted: BTreeMap::new() };
    block_on(async {
        let mut stop = Stop::listen()?;
        print(&Event::StartupComplete);
        while !reading.is_done() {
            let batch = tokio::select! {
                batch = reading.consumer.poll(Duration::MAX) => batch,
                () = stop.wait() => break,
            };
            match batch {
                Ok(batch) => reading.tell(&batch),
                // A topic that is not there yet, a coordinator that is not: Java's tool waits for both.
                Err(error) if error.is_retriable() => tracing::warn!(%error, "still waiting"),
                Err(error) => return Err(error.into()),
            }
            reading.commit().await;
        }
        reading.commit().await;
        let closed = reading.consumer.close().await;
        print(&Event::ShutdownComplete);
        Ok(closed?)
    })
}

impl Options {
    fn configuration(&self) -> Result<ConsumerConfig> {
        let mut properties = Properties::new();
        // Java's default, which the contract was made for.
        properties.set("isolation.level", "read_uncommitted")?;
        if let Some(file) = &self.command_config {
            properties.set_from_file(file)?;
        }
        let session_timeout = self.session_timeout.to_string();
        for (name, value) in [
            ("bootstrap.servers", self.bootstrap_server.as_str()),
            ("group.id", &self.group_id),
            ("group.protocol", &self.group_protocol),
            ("session.timeout.ms", &session_timeout),
            ("partition.assignment.strategy", &self.assignment_strategy),
            ("enable.auto.commit", if self.enable_autocommit { "true" } else { "false" }),
            ("auto.offset.reset", &self.reset_policy),
        ] {
            properties.set(name, value)?;
        }
        let optional = [
            ("group.remote.assignor", &self.group_remote_assignor),
            ("group.instance.id", &self.group_instance_id),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                properties.set(name, value.as_str())?;
            }
        }
        Ok(ConsumerConfig::from_properties(&properties)?)
    }
}

struct Reading {
    options: Options,
    consumer: Consumer,
    read: u64,
    /// Behind what was told.
    uncommitted: BTreeMap<TopicPartition, i64>,
}

impl Reading {
    fn left(&self) -> usize {
        let count = u64::try_from(self.options.max_messages).unwrap_or(u64::MAX);
        usize::try_from(count.saturating_sub(self.read)).unwrap_or(usize::MAX)
    }

    fn is_done(&self) -> bool {
        self.left() == 0
    }

    fn tell(&mut self, batch: &FetchedBatch) {
        let at = batch.topic_partition();
        let (topic, partition) = (&*at.topic, at.partition);
        let records: Vec<_> = batch.iter().take(self.left()).collect();
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        let (count, min_offset, max_offset) = (records.len(), first.offset, last.offset);
        let consumed = Consumed { topic, partition, count, min_offset, max_offset };
        print(&Event::RecordsConsumed { count, partitions: [consumed] });
        if self.options.is_verbose {
            let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            for record in &records {
                let (key, value, offset) = (text(record.key), text(record.value), record.offset);
                print(&Event::RecordData { key, value, topic, partition, offset });
            }
        }
        self.read += count as u64;
        if !self.options.enable_autocommit {
            self.uncommitted.insert(at.clone(), max_offset + 1);
        }
    }

    async fn commit(&mut self) {
        let offsets = std::mem::take(&mut self.uncommitted);
        if offsets.is_empty() {
            return;
        }
        let told = |(at, offset): (&TopicPartition, &i64)| {
            let offset = CommittedOffset { offset: *offset, leader_epoch: None, metadata: String::new() };
            (at.clone(), offset)
        };
        let outcome = self.consumer.commit_offsets(offsets.iter().map(told)).await;
        let offsets = offsets.iter().map(|(at, offset)| Committed {
            topic: &at.topic,
            partition: at.partition,
            offset: *offset,
        });
        let error = outcome.as_ref().err().map(ToString::to_string);
        print(&Event::OffsetsCommitted { offsets: offsets.collect(), error, success: outcome.is_ok() });
    }
}
