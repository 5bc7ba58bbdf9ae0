//! ConsumerGroupHeartbeat 0–1 and ConsumerGroupDescribe 0–1 (KIP-848).
//!
//! A classic group of consumers becomes one of this kind with the first member that speaks this protocol, and a
//! classic one again with the last that goes (`group.consumer.migration.policy=bidirectional`). Patterns are those of
//! the `regex` crate, which are RE2's but for some names of Unicode classes.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_wire::protocol::messages::consumer_group_describe_response as described;
use kafka_wire::protocol::messages::consumer_group_heartbeat_response as told;
use kafka_wire::protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, GroupId,
};
use kafka_wire::{ErrorCode, TopicId};
use regex::RegexBuilder;

use super::{Answer, Context, text, topic_name, uuid_of};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::{Cluster, GROUP};
use crate::error::{Failure, fail};
use crate::groups::Members;
use crate::groups::assignor::{Assignment, Assignor};
use crate::groups::consumer::{Beat, ConsumerGroup, LEAVE, LEAVE_FOR_A_WHILE, Member, Timing, Told};

/// Memory for one compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// `MemberType` of members that speak the classic protocol.
const CLASSIC_MEMBER: i8 = 0;
/// `MemberType` of members that speak this protocol.
const CONSUMER_MEMBER: i8 = 1;

pub(super) fn heartbeat(
    cluster: &mut Cluster,
    context: &Context,
    request: ConsumerGroupHeartbeatRequest,
) -> Answer {
    let interval = cluster.heartbeat_interval(&request.group_id, "consumer.heartbeat.interval.ms");
    let answer = ConsumerGroupHeartbeatResponse::default();
    context.answer(&match beat(cluster, context, &request) {
        Ok(said) => answer
            .with_member_id(Some(text(said.member_id)))
            .with_member_epoch(said.epoch)
            .with_heartbeat_interval_ms(if said.epoch > 0 { millis(interval) } else { 0 })
            .with_assignment(said.assignment.map(|assignment| {
                let partitions = assignment.into_iter().map(|(topic, partitions)| {
                    told::TopicPartitions::default()
                        .with_topic_id(uuid_of(topic))
                        .with_partitions(partitions.into_iter().collect())
                });
                told::Assignment::default().with_topic_partitions(partitions.collect())
            })),
        Err(failure) => {
            answer.with_error_code(failure.code.code()).with_error_message(Some(text(failure.text)))
        }
    })
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn beat(
    cluster: &mut Cluster,
    context: &Context,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<Told, Failure> {
    let group = request.group_id.as_str();
    context.authorize(Operation::Read, ResourceType::Group, group)?;
    check(context, request)?;
    cluster.check_coordinator(context, GROUP, group)?;
    for topic in request.subscribed_topic_names.iter().flatten() {
        context.authorize(Operation::Describe, ResourceType::Topic, topic)?;
    }
    let timing = Timing { session_timeout: cluster.session_timeout(group, "consumer.session.timeout.ms") };
    let mut beat = read(context, request);
    if beat.member_id.is_empty() {
        beat.member_id = cluster.next_member_id("");
    }
    let known = cluster.groups.consumer(group, None).ok();
    let pattern = beat.pattern.clone().or_else(|| known?.pattern_of(&beat.member_id));
    if let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) {
        beat.matching = matching(cluster, context, &pattern)?;
    }
    let Cluster { groups, topics, .. } = cluster;
    groups.consumer_heartbeat(context.now.instant, group, &beat, timing, topics)
}

fn check(context: &Context, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Failure> {
    let invalid = |text: &'static str| fail(ErrorCode::INVALID_REQUEST, text);
    let is_empty = |text: Option<&str>| text == Some("");
    if request.group_id.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if is_empty(request.instance_id.as_deref()) || is_empty(request.rack_id.as_deref()) {
        return invalid("InstanceId and RackId can't be empty.");
    }
    if request.member_id.is_empty() && (context.version >= 1 || request.member_epoch != 0) {
        return invalid("MemberId can't be empty.");
    }
    match request.member_epoch {
        0 => {
            if request.rebalance_timeout_ms == -1 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            let has_pattern = context.version >= 1 && request.subscribed_topic_regex.is_some();
            if request.subscribed_topic_names.is_none() && !has_pattern {
                return invalid("SubscribedTopicNames or SubscribedTopicRegex must be set in first request.");
            }
        }
        LEAVE_FOR_A_WHILE if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
        LEAVE | LEAVE_FOR_A_WHILE | 1.. => {}
        _ => return invalid("MemberEpoch is invalid."),
    }
    if let Some(name) = request.server_assignor.as_deref()
        && Assignor::by_name(name).is_none()
    {
        let text = format!("ServerAssignor {name} is not supported. Supported assignors: uniform, range.");
        return fail(ErrorCode::UNSUPPORTED_ASSIGNOR, text);
    }
    Ok(())
}

fn read(context: &Context, request: &ConsumerGroupHeartbeatRequest) -> Beat {
    let rebalance_ms = u64::try_from(request.rebalance_timeout_ms).ok();
    Beat {
        member_id: request.member_id.to_string(),
        epoch: request.member_epoch,
        instance_id: request.instance_id.as_ref().map(ToString::to_string),
        rack_id: request.rack_id.as_ref().map(ToString::to_string),
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: format!("/{}", context.host),
        rebalance_timeout: rebalance_ms.map(Duration::from_millis),
        topics: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(|name| name.to_string()).collect()),
        pattern: request.subscribed_topic_regex.as_ref().map(ToString::to_string),
        matching: BTreeSet::new(),
        assignor: request.server_assignor.as_deref().and_then(Assignor::by_name),
        owned: request.topic_partitions.as_ref().map(|owned| {
            let mut assignment = Assignment::new();
            for topic in owned {
                let partitions = assignment.entry(TopicId(topic.topic_id.into_bytes())).or_default();
                partitions.extend(&topic.partitions);
            }
            assignment
        }),
    }
}

/// The topics whose whole name matches, as far as the principal may see them.
fn matching(cluster: &Cluster, context: &Context, pattern: &str) -> Result<BTreeSet<String>, Failure> {
    let compiled = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_BYTES_MAX).build();
    let compiled = compiled.map_err(|error| Failure {
        code: ErrorCode::INVALID_REGULAR_EXPRESSION,
        text: format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {error}").into(),
    })?;
    let may_see = |name: &str| context.authorize(Operation::Describe, ResourceType::Topic, name).is_ok();
    let names = cluster.topics.iter().map(|topic| &*topic.name);
    Ok(names.filter(|name| compiled.is_match(name) && may_see(name)).map(str::to_owned).collect())
}

pub(super) fn describe(
    cluster: &mut Cluster,
    context: &Context,
    request: ConsumerGroupDescribeRequest,
) -> Answer {
    let groups = request.group_ids.iter().map(|id| {
        let described = describe_one(cluster, context, id).unwrap_or_else(|failure| {
            described::DescribedGroup::default()
                .with_error_code(failure.code.code())
                .with_error_message(Some(text(failure.text)))
        });
        let wanted = request.include_authorized_operations;
        let operations = context.allowed_operations(wanted, ResourceType::Group, id);
        described.with_group_id(id.clone()).with_authorized_operations(operations)
    });
    let groups = groups.collect();
    context.answer(&ConsumerGroupDescribeResponse::default().with_groups(groups))
}

fn describe_one(
    cluster: &Cluster,
    context: &Context,
    id: &GroupId,
) -> Result<described::DescribedGroup, Failure> {
    context.authorize(Operation::Describe, ResourceType::Group, id)?;
    cluster.check_coordinator(context, GROUP, id)?;
    let not_found =
        |what: &str| fail(ErrorCode::GROUP_ID_NOT_FOUND, format!("Group {} {what}.", id.as_str()));
    let group = match cluster.groups.get(id).map(|group| &group.members) {
        Some(Members::Consumer(group)) => group,
        Some(_) => return not_found("is not a consumer group"),
        None => return not_found("not found"),
    };
    let members = group.members().map(|(id, member)| describe_member(cluster, context, group, id, member));
    Ok(described::DescribedGroup::default()
        .with_group_state(text(group.state_name()))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(text(group.assignor().name()))
        .with_members(members.collect()))
}

fn describe_member(
    cluster: &Cluster,
    context: &Context,
    group: &ConsumerGroup,
    id: &str,
    member: &Member,
) -> described::Member {
    let mut told = described::Member::default()
        .with_member_id(text(id))
        .with_instance_id(member.instance_id.clone().map(text))
        .with_rack_id(member.rack_id.clone().map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(member.client_id.as_str()))
        .with_client_host(text(member.client_host.as_str()))
        .with_subscribed_topic_names(member.topics.iter().map(|name| topic_name(name)).collect())
        .with_subscribed_topic_regex(member.pattern.clone().map(text))
        .with_assignment(named(cluster, Some(&member.holds())))
        .with_target_assignment(named(cluster, group.target(id)));
    if context.version >= 1 {
        told.member_type = if member.is_classic() { CLASSIC_MEMBER } else { CONSUMER_MEMBER };
    }
    told
}

fn named(cluster: &Cluster, assignment: Option<&Assignment>) -> described::Assignment {
    let partitions = assignment.into_iter().flatten().filter_map(|(&topic, partitions)| {
        let name = cluster.topics.name_of(topic)?;
        Some(
            described::TopicPartitions::default()
                .with_topic_id(uuid_of(topic))
                .with_topic_name(topic_name(name))
                .with_partitions(partitions.iter().copied().collect()),
        )
    });
    described::Assignment::default().with_topic_partitions(partitions.collect())
}
