//! Groups of every kind: list, delete, remove members. `describe` and `offsets` have the rest.

pub(crate) mod describe;
pub(crate) mod offsets;
pub(crate) mod share_offsets;
pub(crate) mod streams;

use std::fmt;
use std::time::Duration;

use super::names::worded;
use super::wire::{all, broker, group_coordinator, one, outcome, refusal, text};
use super::{Key, Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::Result;
use crate::protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use crate::protocol::messages::{DeleteGroupsRequest, GroupId, ListGroupsRequest};
use crate::protocol::request::{ByVersion, Plain, Request, Response};
use crate::types::BrokerId;

worded! {
    /// By which protocol a group is run.
    GroupType, "a group type" {
        /// JoinGroup and SyncGroup: its members assign the partitions.
        Classic = "Classic",
        /// KIP-848: the coordinator assigns the partitions.
        Consumer = "Consumer",
        /// KIP-932: its members share partitions.
        Share = "Share",
        /// KIP-1071: Kafka Streams.
        Streams = "Streams",
    }
}

worded! {
    /// How a group stands.
    GroupState, "a group state" {
        /// Classic: members are joining.
        PreparingRebalance = "PreparingRebalance",
        /// Classic: the leader is assigning.
        CompletingRebalance = "CompletingRebalance",
        /// Every member has what it is to have.
        Stable = "Stable",
        /// There is none of this id, or it is about to go.
        Dead = "Dead",
        /// It has no members, but perhaps offsets.
        Empty = "Empty",
        /// The coordinator is assigning.
        Assigning = "Assigning",
        /// Members are taking over what was assigned.
        Reconciling = "Reconciling",
        /// Streams: topics of the topology are missing.
        NotReady = "NotReady",
    }
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// By which protocol it is run; `Classic` before Kafka 3.8, which does not say.
    pub group_type: GroupType,
    /// What it is for: `consumer`, `connect`; empty for one that only commits offsets.
    pub protocol_type: String,
    /// How it stands; `Unknown` before Kafka 2.6.
    pub state: GroupState,
}

/// Which groups are listed; an empty list stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFilter {
    /// In these states (from Kafka 2.6).
    pub states: Vec<GroupState>,
    /// Of these types (from Kafka 3.8).
    pub types: Vec<GroupType>,
    /// For this purpose, as in [`GroupListing::protocol_type`]; sorted out here.
    pub protocol_types: Vec<String>,
}

pub(crate) struct ListGroups {
    pub(crate) filter: GroupFilter,
}

impl Operation for ListGroups {
    /// Each broker lists the groups that it coordinates.
    type Key = BrokerId;
    type Item = ();
    type Output = Vec<GroupListing>;
    const ATTEMPT: &'static str = "list the groups of broker";

    fn target(&self, key: &BrokerId, _: &Cluster) -> Result<Target, Unknown> {
        Ok(broker(*key))
    }

    fn request(&self, _: &[(BrokerId, ())], _: Duration) -> Box<dyn Request> {
        let GroupFilter { states, types, protocol_types: _ } = &self.filter;
        let from = if !types.is_empty() {
            5
        } else if !states.is_empty() {
            4
        } else {
            0
        };
        let request = ListGroupsRequest::default()
            .with_states_filter(states.iter().map(|state| text(&state.to_string())).collect())
            .with_types_filter(types.iter().map(|kind| text(&kind.to_string())).collect());
        Box::new(Plain::in_versions(request, from..=5))
    }

    fn read(&self, items: &[(BrokerId, ())], response: Response) -> Result<Outcomes<BrokerId, Self::Output>> {
        let answer = response.decode::<ListGroupsRequest>()?;
        let wanted = &self.filter.protocol_types;
        let is_wanted = |protocol: &str| wanted.is_empty() || wanted.iter().any(|it| it == protocol);
        let groups = answer.groups.into_iter().filter(|group| is_wanted(&group.protocol_type));
        let groups = groups.map(|group| GroupListing {
            group_id: group.group_id.to_string(),
            group_type: match group.group_type.as_str() {
                "" => GroupType::Classic,
                // Brokers write it in lower case, or not.
                word => word.parse().unwrap_or(GroupType::Unknown),
            },
            protocol_type: group.protocol_type.to_string(),
            state: GroupState::from_wire(&group.group_state),
        });
        Ok(one(items, outcome(answer.error_code, None, groups.collect())))
    }
}

/// Deletes groups that have no members, with their offsets.
pub(crate) struct DeleteGroups;

impl Operation for DeleteGroups {
    type Key = String;
    type Item = ();
    type Output = ();
    const ATTEMPT: &'static str = "delete group";

    fn target(&self, key: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(group_coordinator(key))
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        let groups = items.iter().map(|(group, ())| GroupId(text(group))).collect();
        Box::new(Plain::new(DeleteGroupsRequest::default().with_groups_names(groups)))
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, ()>> {
        let answer = response.decode::<DeleteGroupsRequest>()?;
        let outcomes = answer.results.into_iter();
        Ok(outcomes.map(|group| (group.group_id.to_string(), outcome(group.error_code, None, ()))).collect())
    }
}

/// A member that is to be removed from its group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MemberToRemove {
    /// The static member with this `group.instance.id`.
    Instance(String),
    /// The member that the coordinator calls so.
    Member(String),
}

impl Key for MemberToRemove {}

impl fmt::Display for MemberToRemove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(id) => write!(f, "with instance id {id}"),
            Self::Member(id) => id.fmt(f),
        }
    }
}

/// Removes members of a group (KIP-345, KIP-571).
pub(crate) struct RemoveMembers {
    pub(crate) group_id: String,
    pub(crate) reason: String,
}

impl Operation for RemoveMembers {
    type Key = MemberToRemove;
    type Item = ();
    type Output = ();
    const ATTEMPT: &'static str = "remove the member";

    fn target(&self, _: &MemberToRemove, _: &Cluster) -> Result<Target, Unknown> {
        Ok(group_coordinator(&self.group_id))
    }

    fn request(&self, items: &[(MemberToRemove, ())], _: Duration) -> Box<dyn Request> {
        let members: Vec<MemberIdentity> = items
            .iter()
            .map(|(member, ())| match member {
                MemberToRemove::Instance(id) => {
                    MemberIdentity::default().with_group_instance_id(Some(text(id)))
                }
                MemberToRemove::Member(id) => MemberIdentity::default().with_member_id(text(id)),
            })
            .collect();
        let (group, reason) = (GroupId(text(&self.group_id)), text(&self.reason));
        // Several members at once from version 3, a reason from 5.
        Box::new(ByVersion::new(3..=5, move |version| {
            let reason = (version >= 5).then(|| reason.clone());
            let members = members.iter().map(|member| member.clone().with_reason(reason.clone()));
            LeaveGroupRequest::default().with_group_id(group.clone()).with_members(members.collect())
        }))
    }

    fn read(
        &self,
        items: &[(MemberToRemove, ())],
        response: Response,
    ) -> Result<Outcomes<MemberToRemove, ()>> {
        let answer = response.decode::<LeaveGroupRequest>()?;
        if let Some(refusal) = refusal(answer.error_code, None) {
            return Ok(all(items, &Err(refusal)));
        }
        let outcomes = answer.members.into_iter().map(|member| {
            let outcome = outcome(member.error_code, None, ());
            // A static member is named by its instance; the answer may add the member id.
            let key = match member.group_instance_id {
                Some(id) => MemberToRemove::Instance(id.to_string()),
                None => MemberToRemove::Member(member.member_id.to_string()),
            };
            (key, outcome)
        });
        Ok(outcomes.collect())
    }
}
