//! `tidewater group`: groups, their members and how far they are; the verbs are kafka-consumer-groups'.

mod reset;

use std::collections::{BTreeMap, HashMap};

use clap::{Args, Subcommand};
use kafka_wire::admin::{GroupDescription, GroupFilter, GroupState, GroupType, MemberToRemove};
use kafka_wire::{Admin, ErrorCode, Isolation, OffsetSpec, TopicPartition};
use serde::Serialize;

use super::admin::{Common, TopicPartitions, commas, or_dash};
use super::common::{Failure, Result, block_on};

/// What to do, and where.
#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print the ids of all groups.
    List {
        /// Only groups in this state: Stable, Empty, Dead …; may be repeated
        #[arg(long)]
        state: Vec<GroupState>,
        /// Only groups of this type: classic, consumer, share, streams; may be repeated
        #[arg(long = "type")]
        types: Vec<GroupType>,
        /// Also print type, protocol and state
        #[arg(short, long)]
        long: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show how far groups are behind, partition by partition.
    Describe {
        /// Their ids; all groups without
        #[arg(value_name = "GROUP")]
        groups: Vec<String>,
        /// Show state, protocol and the number of members instead
        #[arg(long)]
        state: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show the members of a group, and what they read.
    Members {
        /// Its id
        group: String,
        #[command(flatten)]
        common: Common,
    },
    /// Change where a group goes on. Only shows what would be done, unless --execute says otherwise.
    ResetOffsets(reset::Options),
    /// Delete groups that have no members, with their offsets.
    Delete {
        /// Their ids
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
        /// A group that is not there is no error
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Delete the offsets that a group has committed, of topics that it does not read.
    DeleteOffsets {
        /// Its id
        group: String,
        /// Of which topic, or some of its partitions; may be repeated
        #[arg(long, required = true, value_name = "TOPIC[:PARTITION,…]", value_parser = TopicPartitions::parse)]
        topic: Vec<TopicPartitions>,
        #[command(flatten)]
        common: Common,
    },
    /// Remove members from a group: static ones that will not come back, or ones that hang.
    RemoveMembers {
        /// Its id
        group: String,
        /// A member's id; may be repeated
        #[arg(long)]
        member: Vec<String>,
        /// A static member's group.instance.id; may be repeated
        #[arg(long)]
        instance: Vec<String>,
        /// All members
        #[arg(long, conflicts_with_all = ["member", "instance"], required_unless_present_any = ["member", "instance"])]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// Does it.
pub(super) fn run(options: Options) -> Result<()> {
    block_on(async {
        match options.verb {
            Verb::List { state, types, long, common } => {
                let filter = GroupFilter { states: state, types, ..GroupFilter::default() };
                list(&common, filter, long).await
            }
            Verb::Describe { groups, state, common } => {
                let admin = common.admin()?;
                let groups = describe(&admin, groups).await?;
                if state { states(&common, &groups) } else { lags(&common, &admin, groups).await }
            }
            Verb::Members { group, common } => {
                members(&common, &describe(&common.admin()?, vec![group]).await?)
            }
            Verb::ResetOffsets(options) => reset::run(options).await,
            Verb::Delete { groups, if_exists, common } => {
                let deleted = common.admin()?.delete_groups(groups).await?;
                common.report(
                    "group",
                    "deleted",
                    &deleted,
                    if_exists.then_some(ErrorCode::GROUP_ID_NOT_FOUND),
                )
            }
            Verb::DeleteOffsets { group, topic, common } => {
                let admin = common.admin()?;
                let mut partitions = Vec::new();
                for topic in topic {
                    partitions.extend(topic.resolve(&admin).await?);
                }
                let deleted = admin.delete_committed_offsets(group, partitions).await?;
                common.report("offset", "deleted", &deleted, None)
            }
            Verb::RemoveMembers { group, member, instance, all, common } => {
                let admin = common.admin()?;
                let named = member.into_iter().map(MemberToRemove::Member);
                let mut members: Vec<_> =
                    named.chain(instance.into_iter().map(MemberToRemove::Instance)).collect();
                if all {
                    members = all_members(&admin, &group).await?;
                }
                let removed =
                    admin.remove_group_members(group, members, "removed by tidewater group").await?;
                common.report("member", "removed", &removed, None)
            }
        }
    })
}

async fn all_members(admin: &Admin, group: &str) -> Result<Vec<MemberToRemove>> {
    let described = describe(admin, vec![group.to_owned()]).await?;
    let members = described.into_iter().flat_map(|group| group.members);
    Ok(members
        .map(|member| match member.group_instance_id {
            Some(id) => MemberToRemove::Instance(id),
            None => MemberToRemove::Member(member.member_id),
        })
        .collect())
}

#[derive(Serialize)]
struct ListLine {
    group: String,
    #[serde(rename = "type")]
    kind: String,
    protocol: String,
    state: String,
}

async fn list(common: &Common, filter: GroupFilter, long: bool) -> Result<()> {
    let groups = common.admin()?.list_groups_by(filter).await?;
    let lines: Vec<ListLine> = groups
        .into_iter()
        .map(|group| ListLine {
            kind: group.group_type.to_string(),
            state: group.state.to_string(),
            protocol: group.protocol_type,
            group: group.group_id,
        })
        .collect();
    if !long {
        return lines.iter().try_for_each(|line| common.print(line, || line.group.clone()));
    }
    common.table(&["GROUP", "TYPE", "PROTOCOL", "STATE"], &lines, |line| {
        vec![line.group.clone(), line.kind.clone(), line.protocol.clone(), line.state.clone()]
    })
}

/// These groups, or all; one that cannot be described is an error.
async fn describe(admin: &Admin, mut groups: Vec<String>) -> Result<Vec<GroupDescription>> {
    if groups.is_empty() {
        groups = admin.list_groups().await?.into_iter().map(|group| group.group_id).collect();
    }
    let mut described = Vec::new();
    for (_, group) in admin.describe_groups(groups).await? {
        described.push(group.map_err(|error| match error.code() {
            Some(ErrorCode::GROUP_ID_NOT_FOUND) => {
                Failure::from(error.with_hint("`tidewater group list` shows all"))
            }
            _ => error.into(),
        })?);
    }
    described.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    Ok(described)
}

#[derive(Serialize)]
struct StateLine<'a> {
    group: &'a str,
    #[serde(rename = "type")]
    kind: String,
    state: String,
    assignor: &'a str,
    epoch: Option<i32>,
    members: usize,
}

fn states(common: &Common, groups: &[GroupDescription]) -> Result<()> {
    let line = |group: &'_ GroupDescription| (group.group_type.to_string(), group.state.to_string());
    let lines: Vec<StateLine<'_>> = groups
        .iter()
        .map(|group| {
            let (kind, state) = line(group);
            let (members, epoch) = (group.members.len(), group.epoch);
            StateLine { group: &group.group_id, kind, state, assignor: &group.assignor, epoch, members }
        })
        .collect();
    common.table(&["GROUP", "TYPE", "STATE", "ASSIGNMENT-STRATEGY", "EPOCH", "#MEMBERS"], &lines, |line| {
        let assignor = if line.assignor.is_empty() { "-" } else { line.assignor };
        vec![
            line.group.to_owned(),
            line.kind.clone(),
            line.state.clone(),
            assignor.to_owned(),
            or_dash(line.epoch),
            line.members.to_string(),
        ]
    })
}

#[derive(Serialize)]
struct LagLine {
    group: String,
    topic: String,
    partition: i32,
    current_offset: Option<i64>,
    log_end_offset: Option<i64>,
    lag: Option<i64>,
    consumer_id: Option<String>,
    host: Option<String>,
    client_id: Option<String>,
}

async fn lags(common: &Common, admin: &Admin, groups: Vec<GroupDescription>) -> Result<()> {
    let mut lines = Vec::new();
    for group in groups {
        lines.extend(lag_lines(admin, group).await?);
    }
    let columns = [
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ];
    common.table(&columns, &lines, |line| {
        vec![
            line.group.clone(),
            line.topic.clone(),
            line.partition.to_string(),
            or_dash(line.current_offset),
            or_dash(line.log_end_offset),
            or_dash(line.lag),
            or_dash(line.consumer_id.as_ref()),
            or_dash(line.host.as_ref()),
            or_dash(line.client_id.as_ref()),
        ]
    })
}

async fn lag_lines(admin: &Admin, group: GroupDescription) -> Result<Vec<LagLine>> {
    let mut offsets: BTreeMap<TopicPartition, Option<i64>> = BTreeMap::new();
    let mut readers = HashMap::new();
    for member in &group.members {
        for partition in &member.assignment {
            offsets.insert(partition.clone(), None);
            readers.insert(partition.clone(), member);
        }
    }
    for (partition, offset) in positions(admin, &group).await? {
        offsets.insert(partition, Some(offset));
    }
    let asked: Vec<_> = offsets.keys().map(|partition| (partition.clone(), OffsetSpec::Latest)).collect();
    let listed = admin.list_offsets(asked, Isolation::ReadUncommitted).await?;
    // A topic may have been deleted since: that is a dash, and no reason to show nothing.
    let ends: HashMap<_, _> =
        listed.into_iter().map(|(at, end)| (at, end.ok().and_then(|end| end.offset))).collect();
    let lines = offsets.into_iter().map(|(partition, current_offset)| {
        let log_end_offset = ends.get(&partition).copied().flatten();
        let reader = readers.get(&partition);
        LagLine {
            group: group.group_id.clone(),
            topic: partition.topic.to_string(),
            partition: partition.partition,
            current_offset,
            log_end_offset,
            lag: current_offset.zip(log_end_offset).map(|(current, end)| (end - current).max(0)),
            consumer_id: reader.map(|reader| reader.member_id.clone()),
            host: reader.map(|reader| reader.host.clone()),
            client_id: reader.map(|reader| reader.client_id.clone()),
        }
    });
    Ok(lines.collect())
}

/// Up to where a group has got.
async fn positions(admin: &Admin, group: &GroupDescription) -> Result<BTreeMap<TopicPartition, i64>> {
    if group.group_type != GroupType::Share {
        let committed = admin.list_committed_offsets(&group.group_id).await?;
        return Ok(committed.into_iter().map(|(partition, offset)| (partition, offset.offset)).collect());
    }
    let mut positions = BTreeMap::new();
    for (_, offsets) in admin.list_share_group_offsets([&group.group_id]).await? {
        positions.extend(offsets?.into_iter().map(|(partition, offset)| (partition, offset.start_offset)));
    }
    Ok(positions)
}

#[derive(Serialize)]
struct MemberLine {
    group: String,
    consumer_id: String,
    instance_id: Option<String>,
    host: String,
    client_id: String,
    epoch: Option<i32>,
    assignment: BTreeMap<String, Vec<i32>>,
}

fn members(common: &Common, groups: &[GroupDescription]) -> Result<()> {
    let mut lines = Vec::new();
    for group in groups {
        for member in &group.members {
            let mut assignment: BTreeMap<String, Vec<i32>> = BTreeMap::new();
            for partition in &member.assignment {
                assignment.entry(partition.topic.to_string()).or_default().push(partition.partition);
            }
            lines.push(MemberLine {
                group: group.group_id.clone(),
                consumer_id: member.member_id.clone(),
                instance_id: member.group_instance_id.clone(),
                host: member.host.clone(),
                client_id: member.client_id.clone(),
                epoch: member.epoch,
                assignment,
            });
        }
    }
    let columns = ["GROUP", "CONSUMER-ID", "INSTANCE-ID", "HOST", "CLIENT-ID", "EPOCH", "ASSIGNMENT"];
    common.table(&columns, &lines, |line| {
        let topics = line.assignment.iter().map(|(topic, numbers)| format!("{topic}:{}", commas(numbers)));
        let topics: Vec<String> = topics.collect();
        vec![
            line.group.clone(),
            line.consumer_id.clone(),
            or_dash(line.instance_id.as_ref()),
            line.host.clone(),
            line.client_id.clone(),
            or_dash(line.epoch),
            if topics.is_empty() { "-".to_owned() } else { topics.join(" ") },
        ]
    })
}
