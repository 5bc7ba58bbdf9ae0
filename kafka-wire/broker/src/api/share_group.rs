//! ShareGroupHeartbeat 1, ShareGroupDescribe 1 (KIP-932).

use std::time::Duration;

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::share_group_describe_response as described;
use kafka_wire::protocol::messages::share_group_heartbeat_response as told;
use kafka_wire::protocol::messages::{
    ShareGroupDescribeRequest, ShareGroupDescribeResponse, ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
};

use super::{Answer, Context, text, topic_name, uuid_of};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::{Cluster, GROUP};
use crate::error::{Failure, fail};
use crate::groups::Members;
use crate::groups::assignor::Assignment;
use crate::groups::share::{Beat, LEAVE, Member};

pub(super) fn heartbeat(
    cluster: &mut Cluster,
    context: &Context,
    request: ShareGroupHeartbeatRequest,
) -> Answer {
    let answer = ShareGroupHeartbeatResponse::default();
    let answer = match beat(cluster, context, &request) {
        Ok((epoch, assignment)) => {
            let interval = cluster.heartbeat_interval(&request.group_id, "share.heartbeat.interval.ms");
            answer
                .with_member_id(Some(request.member_id))
                .with_member_epoch(epoch)
                .with_heartbeat_interval_ms(if epoch > 0 { interval.as_millis() as i32 } else { 0 })
                .with_assignment(assignment.map(|assignment| {
                    let partitions = assignment.into_iter().map(|(topic, partitions)| {
                        told::TopicPartitions::default()
                            .with_topic_id(uuid_of(topic))
                            .with_partitions(partitions.into_iter().collect())
                    });
                    told::Assignment::default().with_topic_partitions(partitions.collect())
                }))
        }
        Err(failure) => {
            answer.with_error_code(failure.code.code()).with_error_message(Some(text(failure.text)))
        }
    };
    context.answer(&answer)
}

fn beat(
    cluster: &mut Cluster,
    context: &Context,
    request: &ShareGroupHeartbeatRequest,
) -> Result<(i32, Option<Assignment>), Failure> {
    let group = request.group_id.as_str();
    context.authorize(Operation::Read, ResourceType::Group, group)?;
    let invalid = |text: &'static str| fail(ErrorCode::INVALID_REQUEST, text);
    if group.is_empty() || request.member_id.is_empty() {
        return invalid("GroupId and MemberId can't be empty.");
    }
    match request.member_epoch {
        0 if request.subscribed_topic_names.as_ref().is_none_or(Vec::is_empty) => {
            return invalid("SubscribedTopicNames must be set in first request.");
        }
        LEAVE.. => {}
        _ => return invalid("MemberEpoch is invalid."),
    }
    cluster.check_coordinator(context, GROUP, group)?;
    for topic in request.subscribed_topic_names.iter().flatten() {
        context.authorize(Operation::Describe, ResourceType::Topic, topic)?;
    }
    let beat = Beat {
        member_id: request.member_id.to_string(),
        epoch: request.member_epoch,
        rack_id: request.rack_id.as_ref().map(ToString::to_string),
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: format!("/{}", context.host),
        topics: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(|name| name.to_string()).collect()),
    };
    let session_timeout = cluster.session_timeout(group, "share.session.timeout.ms");
    let Cluster { groups, topics, .. } = cluster;
    groups.share(group, beat.epoch == 0)?.heartbeat(context.now.instant, &beat, session_timeout, topics)
}

impl Cluster {
    /// How often members are to be heard of: as the group's configuration says, or the options.
    pub(super) fn heartbeat_interval(&self, group: &str, name: &str) -> Duration {
        self.group_duration(group, name).unwrap_or(self.options.consumer_heartbeat_interval)
    }

    /// How long members may be silent: as the group's configuration says, or the options.
    pub(super) fn session_timeout(&self, group: &str, name: &str) -> Duration {
        self.group_duration(group, name).unwrap_or(self.options.consumer_session_timeout)
    }
}

pub(super) fn describe(
    cluster: &mut Cluster,
    context: &Context,
    request: ShareGroupDescribeRequest,
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
    context.answer(&ShareGroupDescribeResponse::default().with_groups(groups))
}

fn describe_one(
    cluster: &Cluster,
    context: &Context,
    id: &str,
) -> Result<described::DescribedGroup, Failure> {
    context.authorize(Operation::Describe, ResourceType::Group, id)?;
    cluster.check_coordinator(context, GROUP, id)?;
    let group = match cluster.groups.get(id).map(|group| &group.members) {
        Some(Members::Share(group)) => group,
        Some(_) => return fail(ErrorCode::GROUP_ID_NOT_FOUND, format!("Group {id} is not a share group.")),
        None => return fail(ErrorCode::GROUP_ID_NOT_FOUND, format!("Group {id} not found.")),
    };
    let members = group.members().map(|(id, member)| describe_member(cluster, id, member));
    Ok(described::DescribedGroup::default()
        .with_group_state(text(group.state_name()))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.epoch)
        .with_assignor_name(text("simple"))
        .with_members(members.collect()))
}

fn describe_member(cluster: &Cluster, id: &str, member: &Member) -> described::Member {
    let partitions = member.assigned.iter().filter_map(|(&topic, partitions)| {
        Some(
            described::TopicPartitions::default()
                .with_topic_id(uuid_of(topic))
                .with_topic_name(topic_name(cluster.topics.name_of(topic)?))
                .with_partitions(partitions.iter().copied().collect()),
        )
    });
    described::Member::default()
        .with_member_id(text(id))
        .with_rack_id(member.rack_id.clone().map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(member.client_id.as_str()))
        .with_client_host(text(member.client_host.as_str()))
        .with_subscribed_topic_names(member.topics.iter().map(|name| topic_name(name)).collect())
        .with_assignment(described::Assignment::default().with_topic_partitions(partitions.collect()))
}
