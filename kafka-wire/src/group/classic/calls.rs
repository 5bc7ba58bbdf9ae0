//! The four calls of a classic member: what is asked, and what a refusal means.

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::CoordinatorKind;
use crate::engine::Target;
use crate::error::{Error, ErrorCode, ErrorKind};
use crate::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use crate::protocol::messages::leave_group_request::MemberIdentity as Leaving;
use crate::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use crate::protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, StrBytes, SyncGroupRequest,
};
use crate::protocol::request::{ByVersion, Plain, Request};

/// The protocol type of consumers, beside those of Connect and others that form groups.
pub(super) const PROTOCOL_TYPE: &str = "consumer";

/// Who asks.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) group: Arc<str>,
    pub(super) instance_id: Option<Arc<str>>,
    /// Given by the coordinator; empty before.
    pub(super) member_id: Arc<str>,
    /// −1 outside of the group.
    pub(super) generation: i32,
}

impl Caller {
    pub(super) fn coordinator(&self) -> Target {
        Target::Coordinator { kind: CoordinatorKind::Group, key: Arc::clone(&self.group) }
    }

    /// `protocols`: the strategies by name, each with the subscription's bytes.
    pub(super) fn join(
        &self,
        session_timeout_ms: i32,
        rebalance_timeout_ms: i32,
        protocols: Vec<(&'static str, Bytes)>,
        reason: &str,
    ) -> Box<dyn Request> {
        let protocols = protocols.into_iter().map(|(name, metadata)| {
            JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata)
        });
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_session_timeout_ms(session_timeout_ms)
            .with_rebalance_timeout_ms(rebalance_timeout_ms)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance())
            .with_protocol_type(text(PROTOCOL_TYPE))
            .with_protocols(protocols.collect());
        let reason = text(reason);
        Box::new(ByVersion::new(self.oldest(1, 5)..=9, move |version| {
            request.clone().with_reason((version >= 8).then(|| reason.clone()))
        }))
    }

    /// The leader sends everybody's assignment, the others none.
    pub(super) fn sync(
        &self,
        strategy: &'static str,
        assignments: Vec<(Arc<str>, Bytes)>,
    ) -> Box<dyn Request> {
        let assignments = assignments.into_iter().map(|(member, assignment)| {
            SyncGroupRequestAssignment::default().with_member_id(text(&member)).with_assignment(assignment)
        });
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance())
            .with_assignments(assignments.collect());
        Box::new(ByVersion::new(self.oldest(0, 3)..=5, move |version| {
            let named = |name| (version >= 5).then(|| text(name));
            request.clone().with_protocol_type(named(PROTOCOL_TYPE)).with_protocol_name(named(strategy))
        }))
    }

    pub(super) fn heartbeat(&self) -> Box<dyn Request> {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance());
        Box::new(Plain::in_versions(request, self.oldest(0, 3)..=4))
    }

    pub(super) fn leave(&self, reason: &str) -> Box<dyn Request> {
        let (group, member, instance) = (GroupId(text(&self.group)), text(&self.member_id), self.instance());
        let reason = text(reason);
        // From version 3 on several members can leave at once, named in another field.
        Box::new(ByVersion::new(self.oldest(0, 3)..=5, move |version| {
            let request = LeaveGroupRequest::default().with_group_id(group.clone());
            if version < 3 {
                return request.with_member_id(member.clone());
            }
            let leaving = Leaving::default()
                .with_member_id(member.clone())
                .with_group_instance_id(instance.clone())
                .with_reason((version >= 5).then(|| reason.clone()));
            request.with_members(vec![leaving])
        }))
    }

    fn instance(&self) -> Option<StrBytes> {
        self.instance_id.as_deref().map(text)
    }

    /// The first version that can say what is to be said.
    fn oldest(&self, dynamic: i16, with_instance: i16) -> i16 {
        if self.instance_id.is_some() { with_instance } else { dynamic }
    }
}

/// What a refusal, or no answer, means for the membership.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The same again, a little later.
    Retry,
    /// The coordinator is elsewhere, or cannot be reached.
    Moved,
    /// The group is rebalancing: join again.
    Rejoin,
    /// The coordinator has divided the group without this member: what it had is lost. It may keep its id.
    Lost { keep_member_id: bool },
    /// The member needs an id first (KIP-394); the answer has one.
    MemberIdRequired,
    /// For the application: rights, names and settings. It is tried again with the next poll, unless it is fatal.
    Failed(Error),
}

/// As Java's `AbstractCoordinator`, whose handlers agree where they overlap.
pub(super) fn judge(error: &Error, attempted: &'static str, caller: &Caller) -> Verdict {
    let Some(code) = error.code() else {
        return if error.is_retriable() { Verdict::Moved } else { Verdict::Failed(error.clone()) };
    };
    let about = || format!("{attempted} group '{}'", caller.group);
    match code {
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => Verdict::Moved,
        ErrorCode::REBALANCE_IN_PROGRESS => Verdict::Rejoin,
        ErrorCode::UNKNOWN_MEMBER_ID => Verdict::Lost { keep_member_id: false },
        ErrorCode::ILLEGAL_GENERATION => Verdict::Lost { keep_member_id: true },
        ErrorCode::MEMBER_ID_REQUIRED => Verdict::MemberIdRequired,
        ErrorCode::FENCED_INSTANCE_ID => {
            let instance = caller.instance_id.as_deref().unwrap_or_default();
            let text =
                format!("{}: another member with group.instance.id '{instance}' has taken over", about());
            Verdict::Failed(Error::new(ErrorKind::Fenced, text).with_cause(error.clone()))
        }
        _ if code.is_retriable() => Verdict::Retry,
        _ => {
            let error = Error::broker(code, about());
            Verdict::Failed(match hint(code) {
                Some(hint) => error.with_hint(hint),
                None => error,
            })
        }
    }
}

fn hint(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL => {
            "its members have no strategy in common with partition.assignment.strategy, or speak another \
             group.protocol"
        }
        ErrorCode::INVALID_SESSION_TIMEOUT => {
            "session.timeout.ms is outside of the brokers' group.min.session.timeout.ms and \
             group.max.session.timeout.ms"
        }
        ErrorCode::GROUP_MAX_SIZE_REACHED => "the brokers' group.max.size allows no more members",
        ErrorCode::GROUP_AUTHORIZATION_FAILED => "the principal needs READ on the group",
        _ => return None,
    })
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}
