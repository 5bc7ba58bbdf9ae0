//! `tidewater cluster elect-leaders` and `reassign`.

use clap::Args;
use kafka_wire::admin::ElectionType;
use kafka_wire::{BrokerId, ErrorCode, TopicPartition};
use serde::Serialize;

use crate::cli::admin::{Common, TopicPartitions, commas};
use crate::cli::common::Result;

/// Of which partitions leaders are elected.
#[derive(Args)]
pub(super) struct Election {
    /// Of a topic, or some of its partitions; may be repeated
    #[arg(long, value_name = "TOPIC[:PARTITION,…]", value_parser = TopicPartitions::parse, required_unless_present = "all")]
    topic: Vec<TopicPartitions>,
    /// Of all that need it
    #[arg(long, conflicts_with = "topic")]
    all: bool,
    /// Also replicas that are not in sync, where no other is up: what they lack is lost
    #[arg(long)]
    unclean: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn elect(options: Election) -> Result<()> {
    let admin = options.common.admin()?;
    let election = if options.unclean { ElectionType::Unclean } else { ElectionType::Preferred };
    let elected = if options.all {
        admin.elect_all_leaders(election).await?
    } else {
        let mut partitions = Vec::new();
        for topic in &options.topic {
            partitions.extend(topic.resolve(&admin).await?);
        }
        admin.elect_leaders(election, partitions).await?
    };
    options.common.report("leader of", "elected", &elected, Some(ErrorCode::ELECTION_NOT_NEEDED))
}

/// Which partitions are moved where.
#[derive(Args)]
pub(super) struct Reassign {
    /// Move this partition to these brokers, the preferred leader first; may be repeated. Without any, what is under
    /// way is shown
    #[arg(long = "move", value_name = "TOPIC:PARTITION=ID,…", value_parser = Move::parse)]
    moves: Vec<Move>,
    /// Take the move of these partitions back; may be repeated
    #[arg(long, value_name = "TOPIC:PARTITION,…", value_parser = TopicPartitions::parse)]
    cancel: Vec<TopicPartitions>,
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

pub(super) async fn reassign(options: Reassign) -> Result<()> {
    let admin = options.common.admin()?;
    if options.moves.is_empty() && options.cancel.is_empty() {
        return show(&options.common, admin.list_partition_reassignments().await?);
    }
    let mut changes: Vec<_> = options.moves.into_iter().map(|of| (of.partition, Some(of.replicas))).collect();
    for topic in &options.cancel {
        changes.extend(topic.resolve(&admin).await?.into_iter().map(|partition| (partition, None)));
    }
    let changed = admin.alter_partition_reassignments(changes).await?;
    options.common.report("move of", "changed", &changed, None)
}

fn show(
    common: &Common,
    under_way: std::collections::BTreeMap<TopicPartition, kafka_wire::admin::Reassignment>,
) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        topic: String,
        partition: i32,
        replicas: Vec<i32>,
        adding: Vec<i32>,
        removing: Vec<i32>,
    }
    let ids = |brokers: Vec<BrokerId>| brokers.into_iter().map(|broker| broker.0).collect();
    let line = |(partition, of): (TopicPartition, kafka_wire::admin::Reassignment)| Line {
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
