//! `tidewater group reset-offsets`: where a group goes on; the flags are kafka-consumer-groups'.

use std::collections::BTreeMap;

use clap::Args;
use kafka_wire::{Admin, CommittedOffset, Isolation, ListedOffset, OffsetSpec, TopicPartition};
use serde::Serialize;

use crate::cli::admin::{Common, TopicPartitions, or_dash};
use crate::cli::common::{Failure, Result, say};
use crate::cli::datetime;

/// Which offsets, and where they are to be.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("to").required(true))]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(super) struct Options {
    /// The group's id; it must have no members
    group: String,
    /// Of which topic, or some of its partitions; may be repeated
    #[arg(long, group = "what", value_name = "TOPIC[:PARTITION,…]", value_parser = TopicPartitions::parse)]
    topic: Vec<TopicPartitions>,
    /// Of all that the group has committed
    #[arg(long, group = "what")]
    all_topics: bool,
    /// To the first record that is still there
    #[arg(long, group = "to")]
    to_earliest: bool,
    /// Behind the last record
    #[arg(long, group = "to")]
    to_latest: bool,
    /// To where the group is: shows it, or commits it anew
    #[arg(long, group = "to")]
    to_current: bool,
    /// To the first record of this time or later: 2026-11-21T14:00:00, with .mmm and Z or +hh:mm behind it if wanted
    #[arg(long, group = "to", value_name = "TIME", value_parser = datetime::parse_ms)]
    to_datetime: Option<i64>,
    /// To this offset, or the nearest one that there is
    #[arg(long, group = "to", value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// So many records forward, or back with a minus
    #[arg(long, group = "to", value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// Do it
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,
    /// Only show what would be done; the default
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Line {
    group: String,
    topic: String,
    partition: i32,
    current_offset: Option<i64>,
    new_offset: i64,
}

pub(super) async fn run(options: Options) -> Result<()> {
    let admin = options.common.admin()?;
    let current = admin.list_committed_offsets(&options.group).await?;
    let partitions = options.partitions(&admin, &current).await?;
    let new = options.new_offsets(&admin, &current, partitions).await?;
    let lines: Vec<Line> = new
        .iter()
        .map(|(at, offset)| Line {
            group: options.group.clone(),
            topic: at.topic.to_string(),
            partition: at.partition,
            current_offset: current.get(at).map(|offset| offset.offset),
            new_offset: *offset,
        })
        .collect();
    if options.execute {
        let offset = |offset| CommittedOffset { offset, leader_epoch: None, metadata: String::new() };
        let offsets = new.into_iter().map(|(at, new)| (at, offset(new)));
        for (_, committed) in admin.alter_committed_offsets(&options.group, offsets).await? {
            committed?;
        }
    }
    options.common.table(
        &["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "NEW-OFFSET"],
        &lines,
        |line| {
            vec![
                line.group.clone(),
                line.topic.clone(),
                line.partition.to_string(),
                or_dash(line.current_offset),
                line.new_offset.to_string(),
            ]
        },
    )?;
    if !options.execute {
        say("nothing was changed; --execute does it");
    }
    Ok(())
}

impl Options {
    async fn partitions(
        &self,
        admin: &Admin,
        current: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<Vec<TopicPartition>> {
        if self.all_topics {
            if current.is_empty() {
                let text = format!("reset the offsets of group {}: it has committed none", self.group);
                return Err(Failure::usage(text));
            }
            return Ok(current.keys().cloned().collect());
        }
        let mut partitions = Vec::new();
        for topic in &self.topic {
            partitions.extend(topic.resolve(admin).await?);
        }
        Ok(partitions)
    }

    async fn new_offsets(
        &self,
        admin: &Admin,
        current: &BTreeMap<TopicPartition, CommittedOffset>,
        partitions: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let starts = offsets(admin, &partitions, OffsetSpec::Earliest).await?;
        let ends = offsets(admin, &partitions, OffsetSpec::Latest).await?;
        let by_time = match self.to_datetime {
            Some(time_ms) => offsets(admin, &partitions, OffsetSpec::Timestamp(time_ms)).await?,
            None => BTreeMap::new(),
        };
        let mut new = BTreeMap::new();
        for at in partitions {
            let known = |of: &BTreeMap<_, ListedOffset>| of.get(&at).and_then(|listed| listed.offset);
            let (start, end) = (known(&starts).unwrap_or(0), known(&ends).unwrap_or(0));
            let committed = current.get(&at).map(|offset| offset.offset);
            let wanted = if self.to_earliest {
                start
            } else if self.to_latest {
                end
            } else if self.to_datetime.is_some() {
                // No record is as late as that: behind the last one.
                known(&by_time).unwrap_or(end)
            } else if let Some(offset) = self.to_offset {
                offset
            } else {
                let Some(committed) = committed else {
                    let text = format!(
                        "move on from where group {} is in {at}: it has committed nothing",
                        self.group
                    );
                    return Err(Failure::usage(text));
                };
                committed.saturating_add(self.shift_by.unwrap_or(0))
            };
            new.insert(at, wanted.clamp(start, end));
        }
        Ok(new)
    }
}

async fn offsets(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, ListedOffset>> {
    let asked = partitions.iter().map(|partition| (partition.clone(), spec));
    let mut found = BTreeMap::new();
    for (partition, listed) in admin.list_offsets(asked, Isolation::ReadUncommitted).await? {
        found.insert(partition, listed?);
    }
    Ok(found)
}
