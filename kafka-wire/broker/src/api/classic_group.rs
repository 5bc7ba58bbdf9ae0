//! JoinGroup 0–9, SyncGroup 0–5, Heartbeat 0–4, LeaveGroup 0–5: membership of classic groups.
//!
//! Among protocols with the same number of votes Kafka takes any; this broker takes the first by name.
//! Members are not written to disk: after a restart they join again.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_wire::protocol::messages::leave_group_request::MemberIdentity;
use kafka_wire::protocol::messages::leave_group_response::MemberResponse;
use kafka_wire::protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};

use super::{Answer, Context, text};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::{Cluster, GROUP};
use crate::error::{Failure, code_of};
use crate::groups::Reply;
use crate::groups::classic::{Identity, Joined, Joining, Synced, Syncing};

/// From here on a client without a member id is given one and asks again (KIP-394).
const KNOWN_ID_FROM: i16 = 4;
/// From here on a static leader can be told not to assign (KIP-814).
const SKIPS_ASSIGNMENT_FROM: i16 = 9;
/// From here on several members leave at once.
const LEAVES_BATCHED_FROM: i16 = 3;

/// Whether this node coordinates the group and the principal may be a member of it.
fn check(cluster: &Cluster, context: &Context, group: &str) -> Result<(), Failure> {
    context.authorize(Operation::Read, ResourceType::Group, group)?;
    if group.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID.into());
    }
    cluster.check_coordinator(context, GROUP, group)
}

pub(super) fn join(cluster: &mut Cluster, context: &Context, request: JoinGroupRequest) -> Answer {
    let group = request.group_id.to_string();
    let member_id = request.member_id.to_string();
    let result = check(cluster, context, &group)
        .and_then(|()| check_session_timeout(cluster, request.session_timeout_ms))
        .map_err(|failure| failure.code)
        .and_then(|()| {
            let joining = joining(cluster, context, request);
            let Cluster { groups, topics, .. } = cluster;
            groups.join(context.now.instant, &group, joining, topics)
        });
    match result {
        Ok(()) => Answer::Await,
        Err(code) => joined(context, Joined::refused(code, &member_id)),
    }
}

fn check_session_timeout(cluster: &Cluster, ms: i32) -> Result<(), Failure> {
    let (least, most) = (cluster.options.session_timeout_min, cluster.options.session_timeout_max);
    if (least..=most).contains(&millis(ms)) { Ok(()) } else { Err(ErrorCode::INVALID_SESSION_TIMEOUT.into()) }
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn joining(cluster: &mut Cluster, context: &Context, request: JoinGroupRequest) -> Joining {
    let client_id = context.client_id.as_deref().unwrap_or_default().to_owned();
    let instance_id = request.group_instance_id.map(|id| id.to_string());
    let named = instance_id.as_deref().unwrap_or(&client_id);
    // Version 0 knows one timeout for both.
    let rebalance_ms =
        if context.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    Joining {
        connection: context.connection,
        member_id: request.member_id.to_string(),
        fresh_id: cluster.next_member_id(named),
        needs_known_id: context.version >= KNOWN_ID_FROM,
        can_skip_assignment: context.version >= SKIPS_ASSIGNMENT_FROM,
        instance_id,
        client_id,
        client_host: format!("/{}", context.host),
        session_timeout: millis(request.session_timeout_ms),
        // A group whose members give it no time at all would go round without end.
        rebalance_timeout: millis(rebalance_ms).max(Duration::from_millis(1)),
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            // The metadata may be kept for long: it must not keep the whole request's buffer.
            .map(|protocol| (protocol.name.to_string(), Bytes::copy_from_slice(&protocol.metadata)))
            .collect(),
    }
}

/// What a request that waited is told.
pub(crate) fn replied(context: &Context, reply: Reply) -> Answer {
    match reply {
        Reply::Joined(told) => joined(context, told),
        Reply::Synced(told) => synced(context, told),
    }
}

fn joined(context: &Context, told: Joined) -> Answer {
    let members = told.members.into_iter().map(|(id, instance, metadata)| {
        // Instance ids are known from version 5 on.
        let instance = instance.filter(|_| context.version >= 5);
        JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance.map(text))
            .with_metadata(metadata)
    });
    let mut answer = JoinGroupResponse::default()
        .with_error_code(told.error.map_or(0, ErrorCode::code))
        .with_generation_id(told.generation)
        .with_leader(text(told.leader))
        .with_member_id(text(told.member_id))
        .with_members(members.collect());
    if context.version >= 7 {
        answer.protocol_type = told.protocol_type.map(text);
        answer.protocol_name = told.protocol.map(text);
    } else {
        answer.protocol_name = Some(text(told.protocol.unwrap_or_default()));
    }
    if context.version >= SKIPS_ASSIGNMENT_FROM {
        answer.skip_assignment = told.skip_assignment;
    }
    context.answer(&answer)
}

pub(super) fn sync(cluster: &mut Cluster, context: &Context, request: SyncGroupRequest) -> Answer {
    let group = request.group_id.as_str();
    let assignments = request
        .assignments
        .iter()
        .map(|it| (it.member_id.to_string(), Bytes::copy_from_slice(&it.assignment)))
        .collect();
    let who = Identity {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let protocol = (request.protocol_type.as_deref(), request.protocol_name.as_deref());
    let result = check(cluster, context, group).map_err(|failure| failure.code).and_then(|()| {
        let Cluster { groups, topics, .. } = cluster;
        let syncing = Syncing { connection: context.connection, who, protocol, assignments };
        groups.sync(context.now.instant, group, syncing, topics)
    });
    match result {
        Ok(()) => Answer::Await,
        Err(code) => synced(context, Synced { error: Some(code), ..Synced::default() }),
    }
}

fn synced(context: &Context, told: Synced) -> Answer {
    let mut answer = SyncGroupResponse::default()
        .with_error_code(told.error.map_or(0, ErrorCode::code))
        .with_assignment(told.assignment);
    if context.version >= 5 {
        answer.protocol_type = told.protocol_type.map(text);
        answer.protocol_name = told.protocol.map(text);
    }
    context.answer(&answer)
}

pub(super) fn heartbeat(cluster: &mut Cluster, context: &Context, request: HeartbeatRequest) -> Answer {
    let who = Identity {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let group = request.group_id.as_str();
    let result = check(cluster, context, group)
        .and_then(|()| Ok(cluster.groups.heartbeat(context.now.instant, group, who)?));
    context.answer(&HeartbeatResponse::default().with_error_code(code_of(&result)))
}

pub(super) fn leave(cluster: &mut Cluster, context: &Context, request: LeaveGroupRequest) -> Answer {
    let group = request.group_id.as_str();
    if let Err(failure) = check(cluster, context, group) {
        return context.answer(&LeaveGroupResponse::default().with_error_code(failure.code.code()));
    }
    let leaving = if context.version >= LEAVES_BATCHED_FROM {
        request.members
    } else {
        vec![MemberIdentity::default().with_member_id(request.member_id)]
    };
    let now = context.now.instant;
    let members = leaving.into_iter().map(|member| {
        let instance = member.group_instance_id.as_deref();
        let result = cluster.groups.leave(now, group, &member.member_id, instance);
        let code = result.err().map_or(0, ErrorCode::code);
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code)
    });
    let members: Vec<MemberResponse> = members.collect();
    let mut answer = LeaveGroupResponse::default();
    if context.version >= LEAVES_BATCHED_FROM {
        answer.members = members;
    } else {
        answer.error_code = members.first().map_or(0, |member| member.error_code);
    }
    context.answer(&answer)
}
