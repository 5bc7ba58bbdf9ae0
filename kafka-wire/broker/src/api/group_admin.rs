//! ListGroups 0–5, DescribeGroups 0–6, DeleteGroups 0–2, OffsetDelete 0.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_wire::protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_wire::protocol::messages::list_groups_response::ListedGroup;
use kafka_wire::protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_wire::protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse, OffsetDeleteRequest, OffsetDeleteResponse, StrBytes,
};

use super::{Answer, Context, text};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::{Cluster, GROUP};
use crate::error::{Failure, code_of, fail};
use crate::groups::classic::State;
use crate::groups::{Members, consumer_protocol};

/// The state of a group that is not there.
const DEAD: &str = "Dead";

pub(super) fn list(cluster: &mut Cluster, context: &Context, request: ListGroupsRequest) -> Answer {
    if let Some(code) = context.injected_for_request() {
        return context.answer(&ListGroupsResponse::default().with_error_code(code.code()));
    }
    let sees_all = context.authorize_cluster(Operation::Describe).is_ok();
    let fits = |filters: &[StrBytes], value: &str| {
        filters.is_empty() || filters.iter().any(|it| it.eq_ignore_ascii_case(value))
    };
    let groups = cluster.groups.iter().filter(|(id, group)| {
        cluster.coordinator(GROUP, id) == context.node
            && (sees_all || context.authorize(Operation::Describe, ResourceType::Group, id).is_ok())
            && fits(&request.states_filter, group.members.state_name())
            && fits(&request.types_filter, group.members.type_name())
    });
    let groups = groups.map(|(id, group)| {
        let mut listed = ListedGroup::default()
            .with_group_id(GroupId(text(id)))
            .with_protocol_type(text(group.members.protocol_type()));
        if context.version >= 4 {
            listed.group_state = text(group.members.state_name());
        }
        if context.version >= 5 {
            listed.group_type = text(group.members.type_name());
        }
        listed
    });
    let groups = groups.collect();
    context.answer(&ListGroupsResponse::default().with_groups(groups))
}

pub(super) fn describe(cluster: &mut Cluster, context: &Context, request: DescribeGroupsRequest) -> Answer {
    let wants_operations = request.include_authorized_operations && context.version >= 3;
    let groups = request.groups.into_iter().map(|id| {
        let described = match describe_one(cluster, context, &id) {
            Ok(described) => described,
            Err(failure) => {
                let described = DescribedGroup::default().with_error_code(failure.code.code());
                if context.version >= 6 {
                    described.with_error_message(Some(text(failure.text)))
                } else {
                    described
                }
            }
        };
        let operations = context.allowed_operations(wants_operations, ResourceType::Group, &id);
        described.with_group_id(id).with_authorized_operations(operations)
    });
    let groups = groups.collect();
    context.answer(&DescribeGroupsResponse::default().with_groups(groups))
}

fn describe_one(cluster: &Cluster, context: &Context, id: &str) -> Result<DescribedGroup, Failure> {
    context.authorize(Operation::Describe, ResourceType::Group, id)?;
    cluster.check_coordinator(context, GROUP, id)?;
    // A group of another kind is none to this API.
    let Some(Members::Classic(classic)) = cluster.groups.get(id).map(|group| &group.members) else {
        let mut dead = DescribedGroup::default().with_group_state(text(DEAD));
        if context.version >= 6 {
            dead.error_code = ErrorCode::GROUP_ID_NOT_FOUND.code();
            dead.error_message = Some(text(format!("Group {id} not found.")));
        }
        return Ok(dead);
    };
    // Before everybody has agreed there is no protocol whose metadata could be told.
    let is_stable = classic.state() == State::Stable;
    let protocol = classic.protocol.as_deref().filter(|_| is_stable);
    let members = classic.members().map(|(id, member)| {
        let instance_id = member.instance_id.clone().filter(|_| context.version >= 4);
        let described = DescribedGroupMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance_id.map(text))
            .with_client_id(text(member.client_id.as_str()))
            .with_client_host(text(member.client_host.as_str()))
            .with_member_assignment(member.assignment.clone());
        if is_stable { described.with_member_metadata(member.metadata(protocol)) } else { described }
    });
    Ok(DescribedGroup::default()
        .with_group_state(text(classic.state().name()))
        .with_protocol_type(text(classic.protocol_type.clone().unwrap_or_default()))
        .with_protocol_data(text(protocol.unwrap_or_default()))
        .with_members(members.collect()))
}

pub(super) fn delete(cluster: &mut Cluster, context: &Context, request: DeleteGroupsRequest) -> Answer {
    let results = request.groups_names.into_iter().map(|id| {
        let result = delete_one(cluster, context, &id);
        DeletableGroupResult::default().with_group_id(id).with_error_code(code_of(&result))
    });
    let results = results.collect();
    context.answer(&DeleteGroupsResponse::default().with_results(results))
}

fn delete_one(cluster: &mut Cluster, context: &Context, id: &str) -> Result<(), Failure> {
    context.authorize(Operation::Delete, ResourceType::Group, id)?;
    cluster.check_coordinator(context, GROUP, id)?;
    match cluster.groups.get(id) {
        None => Err(ErrorCode::GROUP_ID_NOT_FOUND.into()),
        Some(group) if !group.members.is_empty() => Err(ErrorCode::NON_EMPTY_GROUP.into()),
        Some(_) => {
            cluster.delete_group(id);
            Ok(())
        }
    }
}

pub(super) fn delete_offsets(
    cluster: &mut Cluster,
    context: &Context,
    request: OffsetDeleteRequest,
) -> Answer {
    let id = request.group_id.as_str();
    let mut answer = OffsetDeleteResponse::default();
    let subscribed = match check_deletable(cluster, context, id) {
        Ok(subscribed) => subscribed,
        Err(failure) => return context.answer(&answer.with_error_code(failure.code.code())),
    };
    for topic in request.topics {
        let refused = context.authorize(Operation::Read, ResourceType::Topic, &topic.name).err();
        let is_read = subscribed.iter().any(|name| *name == topic.name.as_str());
        let in_use = is_read.then_some(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let is_there = cluster.topics.partition(&topic.name, index).is_some();
            let missing = (!is_there).then_some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            let code = refused.or(missing).or(in_use);
            if code.is_none() {
                cluster.delete_offset(id, &topic.name, index);
            }
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code.map_or(0, ErrorCode::code))
        });
        let partitions = partitions.collect();
        answer
            .topics
            .push(OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    context.answer(&answer)
}

/// The topics that members are subscribed to, whose offsets stay.
fn check_deletable(cluster: &Cluster, context: &Context, id: &str) -> Result<Vec<String>, Failure> {
    context.authorize(Operation::Delete, ResourceType::Group, id)?;
    cluster.check_coordinator(context, GROUP, id)?;
    let Some(group) = cluster.groups.get(id) else {
        return fail(ErrorCode::GROUP_ID_NOT_FOUND, format!("group {id} not found"));
    };
    if group.members.is_empty() {
        return Ok(Vec::new());
    }
    let classic = match &group.members {
        Members::Classic(classic) if classic.has_consumers() => classic,
        Members::Classic(_) => return Err(ErrorCode::NON_EMPTY_GROUP.into()),
        Members::Consumer(group) => {
            return Ok(group.members().flat_map(|(_, member)| member.subscribed().cloned()).collect());
        }
        // It has offsets of another kind.
        Members::Share(_) => return Err(ErrorCode::GROUP_ID_NOT_FOUND.into()),
    };
    let protocol = classic.protocol.as_deref();
    let topics =
        classic.members().flat_map(|(_, member)| consumer_protocol::topics(&member.metadata(protocol)));
    Ok(topics.collect())
}
