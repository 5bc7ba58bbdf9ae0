//! `tidewater topic describe`: partitions, leaders, replicas and configuration.

use clap::Args;
use kafka_wire::admin::{ConfigEntry, PartitionDescription};
use kafka_wire::{Admin, BrokerId, ConfigResource, TopicDescription, Uuid};
use serde::Serialize;

use crate::cli::admin::{Common, commas};
use crate::cli::common::{Result, describe_topic_with};

/// Which topics are shown, and what of them.
#[derive(Args)]
pub(super) struct Options {
    /// Their names; all topics without
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Leave out Kafka's own topics
    #[arg(long)]
    exclude_internal: bool,
    /// Only topics with a configuration of their own
    #[arg(long)]
    with_overrides: bool,
    #[command(flatten)]
    only: Only,
    #[command(flatten)]
    common: Common,
}

/// Only partitions that are in trouble; with several flags, in any of these.
#[derive(Args, Clone, Copy)]
struct Only {
    /// Only partitions without a leader
    #[arg(long)]
    unavailable: bool,
    /// Only partitions with a replica that is not in sync
    #[arg(long)]
    under_replicated: bool,
    /// Only partitions with fewer replicas in sync than min.insync.replicas: nobody can write there with acks=all
    #[arg(long)]
    under_min_isr: bool,
    /// Only partitions with just min.insync.replicas in sync
    #[arg(long)]
    at_min_isr: bool,
}

impl Only {
    fn is_all(self) -> bool {
        !(self.unavailable || self.under_replicated || self.under_min_isr || self.at_min_isr)
    }

    fn has(self, partition: &PartitionDescription, min_in_sync: usize) -> bool {
        let in_sync = partition.in_sync_replicas.len();
        self.is_all()
            || self.unavailable && partition.leader.is_none()
            || self.under_replicated && in_sync < partition.replicas.len()
            || self.under_min_isr && in_sync < min_in_sync
            || self.at_min_isr && in_sync == min_in_sync
    }
}

pub(super) async fn run(options: Options) -> Result<()> {
    let Options { mut topics, exclude_internal, with_overrides, only, common } = options;
    let admin = common.admin()?;
    if topics.is_empty() {
        topics = admin.list_topics().await?.into_keys().collect();
    }
    for name in topics {
        let topic = describe_topic_with(&admin, &name).await?;
        if exclude_internal && topic.is_internal {
            continue;
        }
        let description = Description::new(&name, &topic, &configs(&admin, &name).await?, only);
        let is_left_out = with_overrides && description.configs.is_empty()
            || !only.is_all() && description.partitions.is_empty();
        if !is_left_out {
            common.print(&description, || description.as_kafka_shows_it(only.is_all()))?;
        }
    }
    Ok(())
}

async fn configs(admin: &Admin, topic: &str) -> Result<Vec<ConfigEntry>> {
    let mut all = Vec::new();
    for (_, entries) in admin.describe_configs([ConfigResource::topic(topic)]).await? {
        all.extend(entries?);
    }
    Ok(all)
}

/// A topic as it is shown.
#[derive(Serialize)]
struct Description<'a> {
    topic: &'a str,
    topic_id: Option<String>,
    partition_count: usize,
    replication_factor: usize,
    internal: bool,
    /// What was set on the topic itself.
    configs: Vec<String>,
    /// Those that were asked for.
    partitions: Vec<PartitionLine>,
}

#[derive(Serialize)]
struct PartitionLine {
    partition: usize,
    leader: Option<i32>,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elr: Option<Vec<i32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_known_elr: Option<Vec<i32>>,
}

impl PartitionLine {
    fn new(partition: usize, of: &PartitionDescription) -> Self {
        let ids = |brokers: &Vec<BrokerId>| brokers.iter().map(|broker| broker.0).collect();
        Self {
            partition,
            leader: of.leader.map(|leader| leader.0),
            replicas: ids(&of.replicas),
            isr: ids(&of.in_sync_replicas),
            elr: of.eligible_leaders.as_ref().map(ids),
            last_known_elr: of.last_known_eligible_leaders.as_ref().map(ids),
        }
    }
}

impl<'a> Description<'a> {
    fn new(name: &'a str, topic: &TopicDescription, configs: &[ConfigEntry], only: Only) -> Self {
        let min_in_sync = configs.iter().find(|entry| entry.name == "min.insync.replicas");
        let min_in_sync = min_in_sync.and_then(|entry| entry.value.as_ref()?.parse().ok()).unwrap_or(1);
        let set = configs.iter().filter(|entry| entry.is_set).map(|entry| {
            let value = entry.value.as_deref().filter(|_| !entry.is_sensitive);
            format!("{}={}", entry.name, value.unwrap_or("[hidden]"))
        });
        let shown = topic.partitions.iter().enumerate().filter(|(_, of)| only.has(of, min_in_sync));
        Self {
            topic: name,
            topic_id: topic.id.is_some().then(|| Uuid::from(topic.id).to_string()),
            partition_count: topic.partitions.len(),
            replication_factor: topic.partitions.first().map_or(0, |first| first.replicas.len()),
            internal: topic.is_internal,
            configs: set.collect(),
            partitions: shown.map(|(number, of)| PartitionLine::new(number, of)).collect(),
        }
    }

    /// The lines of `kafka-topics --describe`, which has no first line where only some partitions are asked for.
    fn as_kafka_shows_it(&self, is_whole: bool) -> String {
        let name = self.topic;
        let mut lines = Vec::new();
        if is_whole {
            lines.push(format!(
                "Topic: {name}\tTopicId: {}\tPartitionCount: {}\tReplicationFactor: {}\tConfigs: {}",
                self.topic_id.as_deref().unwrap_or("none"),
                self.partition_count,
                self.replication_factor,
                self.configs.join(","),
            ));
        }
        for of in &self.partitions {
            let leader = of.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
            let (partition, replicas, isr) = (of.partition, commas(&of.replicas), commas(&of.isr));
            let mut line = format!(
                "\tTopic: {name}\tPartition: {partition}\tLeader: {leader}\tReplicas: {replicas}\tIsr: {isr}"
            );
            if let (Some(elr), Some(last)) = (&of.elr, &of.last_known_elr) {
                line += &format!("\tElr: {}\tLastKnownElr: {}", commas(elr), commas(last));
            }
            lines.push(line);
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_by_the_replicas_in_sync() {
        let none =
            Only { unavailable: false, under_replicated: false, under_min_isr: false, at_min_isr: false };
        let mut partition = PartitionDescription::default();
        partition.replicas.extend([0, 1, 2].map(BrokerId));
        partition.in_sync_replicas.extend([0, 1].map(BrokerId));
        partition.leader = Some(BrokerId(0));
        let has = |only: Only, min_in_sync| only.has(&partition, min_in_sync);
        assert!(has(none, 3));
        assert!(has(Only { under_replicated: true, ..none }, 1));
        assert!(!has(Only { unavailable: true, ..none }, 3));
        assert!(
            has(Only { under_min_isr: true, ..none }, 3) && !has(Only { under_min_isr: true, ..none }, 2)
        );
        assert!(has(Only { at_min_isr: true, ..none }, 2) && !has(Only { at_min_isr: true, ..none }, 1));
    }
}
