//! `tidewater group describe` and `members`: groups of every kind, how far they are, and who is in them.

use std::collections::{BTreeMap, HashMap};

use kafka_wire::admin::{
    GroupDescription, GroupMember, GroupType, StreamsGroupDescription, StreamsGroupMember,
};
use kafka_wire::{Admin, Error, ErrorCode, Isolation, OffsetSpec, TopicPartition};
use serde::Serialize;

use crate::cli::admin::{Common, commas, or_dash};
use crate::cli::common::Result;

/// A group, of Kafka Streams or not.
pub(super) enum Described {
    Reading(GroupDescription),
    Streams(StreamsGroupDescription),
}

impl Described {
    fn id(&self) -> &str {
        match self {
            Self::Reading(group) => &group.group_id,
            Self::Streams(group) => &group.group_id,
        }
    }

    fn group_type(&self) -> GroupType {
        match self {
            Self::Reading(group) => group.group_type,
            Self::Streams(_) => GroupType::Streams,
        }
    }

    /// What the members have, without where they are.
    fn assigned(&self) -> impl Iterator<Item = &TopicPartition> {
        let members = match self {
            Self::Reading(group) => &group.members[..],
            Self::Streams(_) => &[],
        };
        members.iter().flat_map(|member| &member.assignment)
    }

    fn reader(&self, partition: &TopicPartition) -> Option<Reader<'_>> {
        match self {
            Self::Reading(group) => {
                group.members.iter().find(|member| member.assignment.contains(partition)).map(Reader::from)
            }
            Self::Streams(group) => group.reader(partition).map(Reader::from),
        }
    }
}

/// Who reads a partition.
struct Reader<'a> {
    member_id: &'a str,
    host: &'a str,
    client_id: &'a str,
}

impl<'a> From<&'a GroupMember> for Reader<'a> {
    fn from(member: &'a GroupMember) -> Self {
        Self { member_id: &member.member_id, host: &member.host, client_id: &member.client_id }
    }
}

impl<'a> From<&'a StreamsGroupMember> for Reader<'a> {
    fn from(member: &'a StreamsGroupMember) -> Self {
        Self { member_id: &member.member_id, host: &member.host, client_id: &member.client_id }
    }
}

/// These groups, or all; one that cannot be described is an error.
pub(super) async fn describe(admin: &Admin, mut groups: Vec<String>) -> Result<Vec<Described>> {
    if groups.is_empty() {
        groups = admin.list_groups().await?.into_iter().map(|group| group.group_id).collect();
    }
    let mut described = Vec::new();
    for (id, group) in admin.describe_groups(groups).await? {
        described.push(match group {
            Ok(group) => Described::Reading(group),
            Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => {
                Described::Streams(describe_streams(admin, id, error).await?)
            }
            Err(error) => return Err(error.into()),
        });
    }
    described.sort_by(|a, b| a.id().cmp(b.id()));
    Ok(described)
}

/// What is no other group may be one of Kafka Streams.
async fn describe_streams(admin: &Admin, id: String, no_other: Error) -> Result<StreamsGroupDescription> {
    let described = admin.describe_streams_groups([id]).await?.into_iter().next();
    match described {
        Some((_, Ok(group))) => Ok(group),
        _ => Err(no_other.with_hint("`tidewater group list` shows all").into()),
    }
}

#[derive(Serialize)]
struct StateLine {
    group: String,
    #[serde(rename = "type")]
    kind: String,
    state: String,
    assignor: String,
    epoch: Option<i32>,
    members: usize,
}

pub(super) fn states(common: &Common, groups: &[Described]) -> Result<()> {
    let lines: Vec<StateLine> = groups
        .iter()
        .map(|described| {
            let (state, assignor, epoch, members) = match described {
                Described::Reading(group) => {
                    (group.state, &*group.assignor, group.epoch, group.members.len())
                }
                // The coordinator does not tell which assignor it has.
                Described::Streams(group) => (group.state, "", Some(group.epoch), group.members.len()),
            };
            StateLine {
                group: described.id().to_owned(),
                kind: described.group_type().to_string(),
                state: state.to_string(),
                assignor: assignor.to_owned(),
                epoch,
                members,
            }
        })
        .collect();
    common.table(&["GROUP", "TYPE", "STATE", "ASSIGNMENT-STRATEGY", "EPOCH", "#MEMBERS"], &lines, |line| {
        vec![
            line.group.clone(),
            line.kind.clone(),
            line.state.clone(),
            or_dash(Some(&line.assignor).filter(|assignor| !assignor.is_empty())),
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

pub(super) async fn lags(common: &Common, admin: &Admin, groups: &[Described]) -> Result<()> {
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

/// Where a group is in a partition.
#[derive(Clone, Copy, Default)]
struct Position {
    offset: Option<i64>,
    /// Where the coordinator knows it: a share group may be done with records beyond its offset.
    lag: Option<i64>,
}

async fn lag_lines(admin: &Admin, group: &Described) -> Result<Vec<LagLine>> {
    let mut positions = positions(admin, group).await?;
    for partition in group.assigned() {
        positions.entry(partition.clone()).or_default();
    }
    let asked: Vec<_> = positions.keys().map(|partition| (partition.clone(), OffsetSpec::Latest)).collect();
    let listed = admin.list_offsets(asked, Isolation::ReadUncommitted).await?;
    // A topic may have been deleted since: that is a dash, and no reason to show nothing.
    let ends: HashMap<_, _> =
        listed.into_iter().map(|(at, end)| (at, end.ok().and_then(|end| end.offset))).collect();
    let lines = positions.into_iter().map(|(partition, position)| {
        let log_end_offset = ends.get(&partition).copied().flatten();
        let distance = position.offset.zip(log_end_offset).map(|(current, end)| (end - current).max(0));
        let reader = group.reader(&partition);
        LagLine {
            group: group.id().to_owned(),
            topic: partition.topic.to_string(),
            partition: partition.partition,
            current_offset: position.offset,
            log_end_offset,
            lag: position.lag.or(distance),
            consumer_id: reader.as_ref().map(|reader| reader.member_id.to_owned()),
            host: reader.as_ref().map(|reader| reader.host.to_owned()),
            client_id: reader.as_ref().map(|reader| reader.client_id.to_owned()),
        }
    });
    Ok(lines.collect())
}

async fn positions(admin: &Admin, group: &Described) -> Result<BTreeMap<TopicPartition, Position>> {
    if group.group_type() != GroupType::Share {
        let committed = admin.list_settled_offsets(group.id()).await?.into_iter();
        let position = |offset| Position { offset: Some(offset), lag: None };
        return Ok(committed.map(|(partition, of)| (partition, position(of.offset))).collect());
    }
    let mut positions = BTreeMap::new();
    for (_, offsets) in admin.list_share_group_offsets([group.id()]).await? {
        positions.extend(offsets?.into_iter().map(|(partition, offset)| {
            (partition, Position { offset: Some(offset.start_offset), lag: offset.lag })
        }));
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
    /// Partitions by topic; in a group of Kafka Streams active tasks by subtopology.
    assignment: BTreeMap<String, Vec<i32>>,
}

impl MemberLine {
    fn of(group: &str, member: &GroupMember) -> Self {
        let mut assignment: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for partition in &member.assignment {
            assignment.entry(partition.topic.to_string()).or_default().push(partition.partition);
        }
        Self {
            group: group.to_owned(),
            consumer_id: member.member_id.clone(),
            instance_id: member.group_instance_id.clone(),
            host: member.host.clone(),
            client_id: member.client_id.clone(),
            epoch: member.epoch,
            assignment,
        }
    }

    fn of_streams(group: &str, member: &StreamsGroupMember) -> Self {
        let mut assignment: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for task in &member.assignment.active {
            assignment.entry(task.subtopology.to_string()).or_default().push(task.partition);
        }
        Self {
            group: group.to_owned(),
            consumer_id: member.member_id.clone(),
            instance_id: member.group_instance_id.clone(),
            host: member.host.clone(),
            client_id: member.client_id.clone(),
            epoch: Some(member.epoch),
            assignment,
        }
    }
}

pub(super) fn members(common: &Common, groups: &[Described]) -> Result<()> {
    let mut lines = Vec::new();
    for described in groups {
        let id = described.id();
        match described {
            Described::Reading(group) => {
                lines.extend(group.members.iter().map(|member| MemberLine::of(id, member)));
            }
            Described::Streams(group) => {
                lines.extend(group.members.iter().map(|member| MemberLine::of_streams(id, member)));
            }
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
