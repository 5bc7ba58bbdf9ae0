//! `tidewater topic`: what topics there are, and making and removing them.

mod describe;

use clap::{Args, Subcommand};
use kafka_wire::{BrokerId, ErrorCode, Isolation, NewTopic, OffsetSpec};
use serde::Serialize;

use super::admin::{Common, TopicPartitions, entry, or_dash};
use super::common::{Result, block_on};
use super::datetime;

/// What to do, and where.
#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print the names of all topics.
    List {
        /// Leave out Kafka's own topics.
        #[arg(long)]
        exclude_internal: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Create topics.
    Create {
        /// Their names.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// How many partitions each has [default: the broker's num.partitions]
        #[arg(long, short, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// How many replicas of each partition [default: the broker's default.replication.factor]
        #[arg(long, short, value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A configuration such as cleanup.policy=compact; may be repeated.
        #[arg(long = "topic-config", value_name = "NAME=VALUE", value_parser = entry)]
        configs: Vec<(String, String)>,
        /// Who has the replicas: for each partition node ids with : between them, the preferred leader first
        #[arg(long, value_name = "ID:ID,…", value_parser = assignments, conflicts_with_all = ["partitions", "replication_factor"])]
        replica_assignment: Option<Assignments>,
        /// A topic that is there already is no error.
        #[arg(long)]
        if_not_exists: bool,
        /// Only ask whether it could be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show partitions, leaders, replicas and configuration.
    Describe(describe::Options),
    /// Add partitions, so that topics have as many as is said.
    Alter {
        /// Their names.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// How many partitions each shall have in all
        #[arg(long, short, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: i32,
        #[command(flatten)]
        common: Common,
    },
    /// Show offsets of topics: the end of each partition, unless a flag says otherwise.
    Offsets {
        /// Of which, or of which of their partitions; of all topics without
        #[arg(value_name = "TOPIC[:PARTITION,…]", value_parser = TopicPartitions::parse)]
        topics: Vec<TopicPartitions>,
        /// earliest, latest, max-timestamp, earliest-local, latest-tiered, earliest-pending-upload, or a time such as 2026-11-21T14:00:00
        #[arg(long, default_value = "latest", value_parser = offset_spec)]
        time: OffsetSpec,
        #[command(flatten)]
        common: Common,
    },
    /// Delete the records before an offset.
    DeleteRecords {
        /// Of which topic, or of which of its partitions.
        #[arg(value_name = "TOPIC[:PARTITION,…]", value_parser = TopicPartitions::parse)]
        topic: TopicPartitions,
        /// The first offset to be kept
        #[arg(long, value_name = "OFFSET", required_unless_present = "all")]
        before: Option<i64>,
        /// Delete all records
        #[arg(long, conflicts_with = "before")]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Delete topics with all their records.
    Delete {
        /// Their names.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// A topic that is not there is no error.
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// Does it.
pub(super) fn run(options: Options) -> Result<()> {
    block_on(async {
        match options.verb {
            Verb::List { exclude_internal, common } => list(&common, exclude_internal).await,
            Verb::Create {
                topics,
                partitions,
                replication_factor,
                configs,
                replica_assignment,
                if_not_exists,
                dry_run,
                common,
            } => {
                let Assignments(brokers) = replica_assignment.unwrap_or_default();
                let new = |name: &String| {
                    let topic = NewTopic::new(name, partitions.unwrap_or(-1));
                    let topic = topic.replication_factor(replication_factor.unwrap_or(-1));
                    let topic = configs.iter().fold(topic, |topic, (name, value)| topic.config(name, value));
                    (0..)
                        .zip(&brokers)
                        .fold(topic, |topic, (partition, on)| topic.assignment(partition, on.clone()))
                };
                let admin = common.admin()?;
                if dry_run {
                    let checked = admin.validate_new_topics(topics.iter().map(new)).await?;
                    return common.report("topic", "would create", &checked, None);
                }
                let created = admin.create_topics(topics.iter().map(new)).await?;
                let passed_over = if_not_exists.then_some(ErrorCode::TOPIC_ALREADY_EXISTS);
                common.report("topic", "created", &created, passed_over)
            }
            Verb::Describe(options) => describe::run(options).await,
            Verb::Alter { topics, partitions, common } => {
                let grown = topics.into_iter().map(|topic| (topic, partitions));
                common.report("topic", "grew", &common.admin()?.create_partitions(grown).await?, None)
            }
            Verb::Offsets { topics, time, common } => offsets(&common, topics, time).await,
            Verb::DeleteRecords { topic, before, all: _, common } => {
                let admin = common.admin()?;
                let partitions =
                    topic.resolve(&admin).await?.into_iter().map(|partition| (partition, before));
                let deleted = admin.delete_records(partitions).await?;
                common.report("records of", "deleted", &deleted, None)
            }
            Verb::Delete { topics, if_exists, common } => {
                let deleted = common.admin()?.delete_topics(topics).await?;
                let passed_over = if_exists.then_some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                common.report("topic", "deleted", &deleted, passed_over)
            }
        }
    })
}

/// The brokers of each partition.
#[derive(Clone, Default)]
struct Assignments(Vec<Vec<BrokerId>>);

fn assignments(text: &str) -> Result<Assignments, String> {
    let brokers = |partition: &str| partition.split(':').map(|id| id.parse().ok().map(BrokerId)).collect();
    let all: Option<Vec<Vec<BrokerId>>> = text.split(',').map(brokers).collect();
    all.map(Assignments).ok_or_else(|| "expected node ids such as 0:1,1:2".to_owned())
}

fn offset_spec(text: &str) -> Result<OffsetSpec, String> {
    Ok(match text {
        "earliest" => OffsetSpec::Earliest,
        "latest" => OffsetSpec::Latest,
        "max-timestamp" => OffsetSpec::MaxTimestamp,
        "earliest-local" => OffsetSpec::EarliestLocal,
        "latest-tiered" => OffsetSpec::LatestTiered,
        "earliest-pending-upload" => OffsetSpec::EarliestPendingUpload,
        time => OffsetSpec::Timestamp(datetime::parse_ms(time)?),
    })
}

/// Lines as kafka-get-offsets prints them.
async fn offsets(common: &Common, mut topics: Vec<TopicPartitions>, time: OffsetSpec) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        topic: String,
        partition: i32,
        offset: Option<i64>,
    }
    let admin = common.admin()?;
    if topics.is_empty() {
        let all = admin.list_topics().await?.into_keys();
        topics.extend(all.map(|topic| TopicPartitions { topic, partitions: Vec::new() }));
    }
    let mut partitions = Vec::new();
    for topic in topics {
        partitions.extend(topic.resolve(&admin).await?.into_iter().map(|partition| (partition, time)));
    }
    let mut listed = admin.list_offsets(partitions, Isolation::ReadUncommitted).await?;
    listed.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (at, offset) in listed {
        let line = Line { topic: at.topic.to_string(), partition: at.partition, offset: offset?.offset };
        common.print(&line, || format!("{}:{}:{}", line.topic, line.partition, or_dash(line.offset)))?;
    }
    Ok(())
}

async fn list(common: &Common, exclude_internal: bool) -> Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        topic: &'a str,
        partitions: usize,
        internal: bool,
    }
    for (name, topic) in common.admin()?.list_topics().await? {
        if exclude_internal && topic.is_internal {
            continue;
        }
        let (partitions, internal) = (topic.partitions.len(), topic.is_internal);
        common.print(&Line { topic: &name, partitions, internal }, || name.clone())?;
    }
    Ok(())
}
