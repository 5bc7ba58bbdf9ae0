//! `tidewater topic`: what topics there are, and making and removing them.

use std::io::Write as _;

use clap::{Args, Subcommand};
use kafka_wire::admin::PartitionDescription;
use kafka_wire::config::ClientConfig;
use kafka_wire::{Admin, BrokerId, ConfigResource, ErrorCode, NewTopic, TopicDescription};
use serde::Serialize;

use super::common::{Connection, Failure, Result, block_on, describe_topic_with, say};

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
        /// A topic that is there already is no error.
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show partitions, leaders, replicas and configuration.
    Describe {
        /// Their names; all topics without.
        #[arg(value_name = "TOPIC")]
        topics: Vec<String>,
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

#[derive(Args)]
struct Common {
    #[command(flatten)]
    connection: Connection,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

fn entry(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Does it.
pub(super) fn run(options: Options) -> Result<()> {
    block_on(async {
        match options.verb {
            Verb::List { exclude_internal, common } => list(&common, exclude_internal).await,
            Verb::Create { topics, partitions, replication_factor, configs, if_not_exists, common } => {
                let new = |name: &String| {
                    let topic = NewTopic::new(name, partitions.unwrap_or(-1));
                    let topic = topic.replication_factor(replication_factor.unwrap_or(-1));
                    configs.iter().fold(topic, |topic, (name, value)| topic.config(name, value))
                };
                let admin = common.admin()?;
                let created = admin.create_topics(topics.iter().map(new)).await?;
                let passed_over = if_not_exists.then_some(ErrorCode::TOPIC_ALREADY_EXISTS);
                report(&common, "created", &created, passed_over)
            }
            Verb::Describe { topics, common } => describe(&common, topics).await,
            Verb::Delete { topics, if_exists, common } => {
                let deleted = common.admin()?.delete_topics(topics).await?;
                report(
                    &common,
                    "deleted",
                    &deleted,
                    if_exists.then_some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                )
            }
        }
    })
}

impl Common {
    fn admin(&self) -> Result<Admin> {
        let properties = self.connection.properties(&[], &[])?;
        Ok(Admin::new(ClientConfig::from_properties(&properties)?)?)
    }

    fn print(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        let line = if self.json { serde_json::to_string(value).map_err(Failure::failed)? } else { text() };
        Ok(writeln!(std::io::stdout(), "{line}")?)
    }
}

/// One line for each topic; the first failure ends it, after all have been told.
fn report<T>(
    common: &Common,
    done: &'static str,
    outcomes: &[(String, kafka_wire::Result<T>)],
    passed_over: Option<ErrorCode>,
) -> Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        topic: &'a str,
        outcome: &'static str,
    }
    let mut failures = Vec::new();
    for (topic, outcome) in outcomes {
        match outcome {
            Err(error) if passed_over.is_none() || error.code() != passed_over => failures.push(error),
            _ => {
                let outcome = if outcome.is_ok() { done } else { "unchanged" };
                common.print(&Line { topic, outcome }, || format!("{outcome} topic {topic}"))?;
            }
        }
    }
    let Some((last, others)) = failures.split_last() else { return Ok(()) };
    for error in others {
        say(format_args!("error: {error}"));
    }
    Err((*last).clone().into())
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

/// A topic as it is shown.
#[derive(Serialize)]
struct Description<'a> {
    topic: &'a str,
    topic_id: Option<String>,
    replication_factor: usize,
    internal: bool,
    configs: Vec<String>,
    partitions: Vec<PartitionLine>,
}

#[derive(Serialize)]
struct PartitionLine {
    partition: usize,
    leader: Option<i32>,
    replicas: Vec<i32>,
    isr: Vec<i32>,
}

async fn describe(common: &Common, mut topics: Vec<String>) -> Result<()> {
    let admin = common.admin()?;
    if topics.is_empty() {
        topics = admin.list_topics().await?.into_keys().collect();
    }
    for name in topics {
        let topic = describe_topic_with(&admin, &name).await?;
        let description = Description::new(&name, &topic, configs(&admin, &name).await?);
        common.print(&description, || description.as_kafka_shows_it())?;
    }
    Ok(())
}

/// What was set on the topic itself.
async fn configs(admin: &Admin, topic: &str) -> Result<Vec<String>> {
    let mut set = Vec::new();
    for (_, entries) in admin.describe_configs([ConfigResource::topic(topic)]).await? {
        for entry in entries?.into_iter().filter(|entry| entry.is_set) {
            let value = if entry.is_sensitive { None } else { entry.value };
            set.push(format!("{}={}", entry.name, value.as_deref().unwrap_or("[hidden]")));
        }
    }
    Ok(set)
}

impl<'a> Description<'a> {
    fn new(name: &'a str, topic: &TopicDescription, configs: Vec<String>) -> Self {
        let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
        let line = |(partition, of): (usize, &PartitionDescription)| PartitionLine {
            partition,
            leader: of.leader.map(|leader| leader.0),
            replicas: ids(&of.replicas),
            isr: ids(&of.in_sync_replicas),
        };
        Self {
            topic: name,
            topic_id: topic.id.is_some().then(|| topic.id.to_string()),
            replication_factor: topic.partitions.first().map_or(0, |first| first.replicas.len()),
            internal: topic.is_internal,
            configs,
            partitions: topic.partitions.iter().enumerate().map(line).collect(),
        }
    }

    /// The lines of `kafka-topics --describe`.
    fn as_kafka_shows_it(&self) -> String {
        let name = self.topic;
        let join = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut text = format!(
            "Topic: {name}\tTopicId: {}\tPartitionCount: {}\tReplicationFactor: {}\tConfigs: {}",
            self.topic_id.as_deref().unwrap_or("none"),
            self.partitions.len(),
            self.replication_factor,
            self.configs.join(","),
        );
        for of in &self.partitions {
            let leader = of.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
            let (partition, replicas, isr) = (of.partition, join(&of.replicas), join(&of.isr));
            text += &format!(
                "\n\tTopic: {name}\tPartition: {partition}\tLeader: {leader}\tReplicas: {replicas}\tIsr: {isr}"
            );
        }
        text
    }
}
