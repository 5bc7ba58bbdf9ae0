//! `tidewater cluster reassign`: partitions on their way to other brokers; what kafka-reassign-partitions does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use kafka_wire::admin::{Reassignment, TopicDescription};
use kafka_wire::{Admin, BrokerId, TopicPartition};
use serde::Serialize;

use super::plan::{Plan, spread};
use crate::cli::admin::{Common, TopicPartitions, commas};
use crate::cli::common::{Failure, Result, describe_topic_with, say};

/// Which partitions are moved where.
#[derive(Args)]
pub(super) struct Options {
    /// Move this partition to these brokers, the preferred leader first; may be repeated. Without any, what is under
    /// way is shown
    #[arg(long = "move", value_name = "TOPIC:PARTITION=ID,…", value_parser = Move::parse)]
    moves: Vec<Move>,
    /// Move all that this file says, in the JSON of kafka-reassign-partitions; how to go back is told on stderr
    #[arg(long, value_name = "FILE", alias = "reassignment-json-file", conflicts_with = "moves")]
    plan: Option<PathBuf>,
    /// Show how far the plan is, and move nothing
    #[arg(long, requires = "plan")]
    verify: bool,
    /// Take the moves of these partitions back, or with --plan and nothing behind it those of the plan
    #[arg(long, value_name = "TOPIC:PARTITION,…", value_parser = TopicPartitions::parse, num_args = 0..=1, conflicts_with = "verify")]
    cancel: Option<Vec<TopicPartitions>>,
    /// Print a plan that spreads this topic over --brokers, and move nothing; may be repeated
    #[arg(long, value_name = "TOPIC", requires = "brokers", conflicts_with_all = ["moves", "plan", "cancel"])]
    generate: Vec<String>,
    /// For --generate: the brokers that are to have the topics
    #[arg(long, value_name = "ID,…", value_delimiter = ',', requires = "generate", alias = "broker-list")]
    brokers: Vec<i32>,
    /// Refuse a move that changes the number of replicas (from Kafka 4.1)
    #[arg(long)]
    disallow_replication_factor_change: bool,
    #[command(flatten)]
    common: Common,
}

/// A partition, and who is to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Move {
    partition: TopicPartition,
    replicas: Vec<BrokerId>,
}

impl Move {
    fn parse(text: &str) -> Result<Self, String> {
        let read = || {
            let (partition, replicas) = text.split_once('=')?;
            let (topic, number) = partition.rsplit_once(':')?;
            let replicas: Option<Vec<BrokerId>> =
                replicas.split(',').map(|id| id.parse().ok().map(BrokerId)).collect();
            Some(Self { partition: TopicPartition::new(topic, number.parse().ok()?), replicas: replicas? })
        };
        read().ok_or_else(|| "expected TOPIC:PARTITION=ID,ID".to_owned())
    }
}

pub(super) async fn run(options: Options) -> Result<()> {
    let admin = options.common.admin()?;
    if !options.generate.is_empty() {
        return generate(&options, &admin).await;
    }
    let plan = options.plan.as_deref().map(Plan::read).transpose()?.map(|plan| plan.moves());
    if let Some(plan) = plan.as_ref().filter(|_| options.verify) {
        return verify(&options.common, &admin, plan).await;
    }
    if let Some(topics) = &options.cancel {
        return cancel(&options.common, &admin, topics, plan).await;
    }
    if let Some(plan) = &plan {
        let back = serde_json::to_string(&Plan::new(current(&admin, plan).await?));
        say(format_args!("to go back, --plan with: {}", back.map_err(Failure::failed)?));
    }
    let moves = options.moves.iter().map(|of| (of.partition.clone(), of.replicas.clone()));
    let moves: BTreeMap<_, _> = moves.chain(plan.into_iter().flatten()).collect();
    if moves.is_empty() {
        return show(&options.common, admin.list_partition_reassignments().await?);
    }
    let changes = moves.into_iter().map(|(at, replicas)| (at, Some(replicas)));
    let changed = match options.disallow_replication_factor_change {
        true => admin.alter_partition_reassignments_of_equal_size(changes).await?,
        false => admin.alter_partition_reassignments(changes).await?,
    };
    options.common.report("move of", "changed", &changed, None)
}

async fn generate(options: &Options, admin: &Admin) -> Result<()> {
    let mut topics = Vec::new();
    for topic in &options.generate {
        topics.push(describe_topic_with(admin, topic).await?);
    }
    let brokers: Vec<BrokerId> = options.brokers.iter().map(|id| BrokerId(*id)).collect();
    let plan = Plan::new(spread(&topics, &brokers)?);
    // A plan is JSON, whatever is asked for.
    let text = serde_json::to_string(&plan).map_err(Failure::failed)?;
    options.common.print(&plan, || text)
}

async fn cancel(
    common: &Common,
    admin: &Admin,
    topics: &[TopicPartitions],
    plan: Option<BTreeMap<TopicPartition, Vec<BrokerId>>>,
) -> Result<()> {
    let mut partitions: Vec<TopicPartition> = match (topics, plan) {
        ([], Some(plan)) => {
            let under_way = admin.list_partition_reassignments_of(plan.into_keys()).await?;
            under_way.into_keys().collect()
        }
        ([], None) => return Err(Failure::usage("cancel which moves? name partitions, or a --plan")),
        _ => Vec::new(),
    };
    for topic in topics {
        partitions.extend(topic.resolve(admin).await?);
    }
    let changes = partitions.into_iter().map(|partition| (partition, None));
    common.report("move of", "changed", &admin.alter_partition_reassignments(changes).await?, None)
}

/// Who has the partitions of a plan.
async fn current(
    admin: &Admin,
    plan: &BTreeMap<TopicPartition, Vec<BrokerId>>,
) -> Result<Vec<(TopicPartition, Vec<BrokerId>)>> {
    let mut topics: BTreeMap<&str, TopicDescription> = BTreeMap::new();
    let mut current = Vec::new();
    for at in plan.keys() {
        if !topics.contains_key(&*at.topic) {
            topics.insert(&at.topic, describe_topic_with(admin, &at.topic).await?);
        }
        let index = usize::try_from(at.partition).unwrap_or(usize::MAX);
        let Some(partition) = topics[&*at.topic].partitions.get(index) else {
            return Err(Failure::usage(format_args!("move {at}: there is no such partition")));
        };
        current.push((at.clone(), partition.replicas.clone()));
    }
    Ok(current)
}

async fn verify(
    common: &Common,
    admin: &Admin,
    plan: &BTreeMap<TopicPartition, Vec<BrokerId>>,
) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        topic: String,
        partition: i32,
        replicas: Vec<i32>,
        status: &'static str,
    }
    let under_way = admin.list_partition_reassignments_of(plan.keys().cloned()).await?;
    let line = |(at, replicas): (TopicPartition, Vec<BrokerId>)| Line {
        status: match () {
            () if under_way.contains_key(&at) => "under way",
            () if plan.get(&at) == Some(&replicas) => "done",
            () => "not as planned",
        },
        topic: at.topic.to_string(),
        partition: at.partition,
        replicas: ids(replicas),
    };
    let lines: Vec<Line> = current(admin, plan).await?.into_iter().map(line).collect();
    common.table(&["TOPIC", "PARTITION", "REPLICAS", "STATUS"], &lines, |line| {
        vec![line.topic.clone(), line.partition.to_string(), commas(&line.replicas), line.status.to_owned()]
    })
}

fn ids(brokers: Vec<BrokerId>) -> Vec<i32> {
    brokers.into_iter().map(|broker| broker.0).collect()
}

fn show(common: &Common, under_way: BTreeMap<TopicPartition, Reassignment>) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        topic: String,
        partition: i32,
        replicas: Vec<i32>,
        adding: Vec<i32>,
        removing: Vec<i32>,
    }
    let line = |(partition, of): (TopicPartition, Reassignment)| Line {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        replicas: ids(of.replicas),
        adding: ids(of.adding),
        removing: ids(of.removing),
    };
    let lines: Vec<Line> = under_way.into_iter().map(line).collect();
    common.table(&["TOPIC", "PARTITION", "REPLICAS", "ADDING", "REMOVING"], &lines, |line| {
        vec![
            line.topic.clone(),
            line.partition.to_string(),
            commas(&line.replicas),
            commas(&line.adding),
            commas(&line.removing),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_names_a_partition_and_its_brokers() {
        let expected =
            Move { partition: TopicPartition::new("a:b", 3), replicas: vec![BrokerId(2), BrokerId(0)] };
        assert_eq!(Move::parse("a:b:3=2,0"), Ok(expected));
        for text in ["a", "a=1", "a:1", "a:x=1", "a:1=", "a:1=b"] {
            assert!(Move::parse(text).is_err(), "{text}");
        }
    }
}
