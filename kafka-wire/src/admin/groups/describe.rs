//! A group as its coordinator describes it: classic, consumer and share groups alike. `streams` has those of Kafka
//! Streams, whose members have tasks instead of partitions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{GroupState, GroupType};
use crate::admin::acls::{self, AclOperation};
use crate::admin::wire::{group_coordinator, outcome, text};
use crate::admin::{Operation, Outcome, Outcomes, Refusal, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::{ErrorCode, Result};
use crate::protocol::messages::consumer_group_describe_response as consumer;
use crate::protocol::messages::describe_groups_response as classic;
use crate::protocol::messages::share_group_describe_response as share;
use crate::protocol::messages::{
    ConsumerGroupDescribeRequest, DescribeGroupsRequest, GroupId, ShareGroupDescribeRequest, StrBytes,
};
use crate::protocol::request::{ByVersion, Plain, Request, Response};
use crate::protocol::subscription::{AssignmentData, SubscriptionData};
use crate::types::TopicPartition;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its id.
    pub group_id: String,
    /// By which protocol it is run.
    pub group_type: GroupType,
    /// How it stands.
    pub state: GroupState,
    /// What it is for: `consumer`, `connect`, `share`; empty for one that only commits offsets.
    pub protocol_type: String,
    /// The assignor: what the members of a classic group agreed on, or the coordinator's.
    pub assignor: String,
    /// How often it has changed; `None` for a classic group, whose description does not tell its generation.
    pub epoch: Option<i32>,
    /// Of which epoch the assignment is that the members are led to; `None` likewise.
    pub assignment_epoch: Option<i32>,
    /// Its members.
    pub members: Vec<GroupMember>,
    /// What this client may do with it; `None` unless
    /// [asked for](crate::Admin::with_authorized_operations).
    pub authorized_operations: Option<BTreeSet<AclOperation>>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// What the coordinator calls it.
    pub member_id: String,
    /// `group.instance.id`.
    pub group_instance_id: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// Where it connected from.
    pub host: String,
    /// `client.rack`.
    pub rack: Option<String>,
    /// How far it has followed the group; `None` in a classic group.
    pub epoch: Option<i32>,
    /// The topics that it is subscribed to.
    pub subscribed_topics: Vec<String>,
    /// The regular expression that it is subscribed to, where the coordinator matches it (KIP-848).
    pub subscribed_regex: Option<String>,
    /// What it has.
    pub assignment: BTreeSet<TopicPartition>,
    /// What it is to have; `None` where the protocol knows no such thing.
    pub target_assignment: Option<BTreeSet<TopicPartition>>,
}

/// Asks about groups, and with `true` about what this client may do with them.
type Ask = fn(&[(String, ())], bool) -> Box<dyn Request>;

/// Describes groups of one type. A coordinator says of a group of another type that there is none.
pub(crate) struct DescribeGroups<T> {
    /// Whether to say what this client may do with each.
    authorized_operations: bool,
    request: Ask,
    read: fn(Response) -> Result<Outcomes<String, T>>,
}

impl DescribeGroups<GroupDescription> {
    pub(crate) fn classic(authorized_operations: bool) -> Self {
        Self { authorized_operations, request: ask_classic, read: read_classic }
    }

    pub(crate) fn consumer(authorized_operations: bool) -> Self {
        Self { authorized_operations, request: ask_consumer, read: read_consumer }
    }

    pub(crate) fn share(authorized_operations: bool) -> Self {
        Self { authorized_operations, request: ask_share, read: read_share }
    }
}

impl<T> DescribeGroups<T> {
    pub(super) fn new(
        authorized_operations: bool,
        request: Ask,
        read: fn(Response) -> Result<Outcomes<String, T>>,
    ) -> Self {
        Self { authorized_operations, request, read }
    }
}

impl<T: Send + 'static> Operation for DescribeGroups<T> {
    type Key = String;
    type Item = ();
    type Output = T;
    const ATTEMPT: &'static str = "describe group";

    fn target(&self, key: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(group_coordinator(key))
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        (self.request)(items, self.authorized_operations)
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, T>> {
        (self.read)(response)
    }
}

fn ids(items: &[(String, ())]) -> Vec<GroupId> {
    items.iter().map(|(group, ())| GroupId(text(group))).collect()
}

fn ask_classic(items: &[(String, ())], authorized_operations: bool) -> Box<dyn Request> {
    let request = DescribeGroupsRequest::default().with_groups(ids(items));
    // Rights are told from version 3, and a group that is not there by an error from 6.
    Box::new(ByVersion::new(0..=6, move |version| {
        request.clone().with_include_authorized_operations(authorized_operations && version >= 3)
    }))
}

fn ask_consumer(items: &[(String, ())], authorized_operations: bool) -> Box<dyn Request> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(ids(items));
    Box::new(Plain::new(request.with_include_authorized_operations(authorized_operations)))
}

fn ask_share(items: &[(String, ())], authorized_operations: bool) -> Box<dyn Request> {
    let request = ShareGroupDescribeRequest::default().with_group_ids(ids(items));
    Box::new(Plain::new(request.with_include_authorized_operations(authorized_operations)))
}

fn read_classic(response: Response) -> Result<Outcomes<String, GroupDescription>> {
    let answer = response.decode::<DescribeGroupsRequest>()?;
    Ok(answer.groups.into_iter().map(read_classic_group).collect())
}

fn read_classic_group(group: classic::DescribedGroup) -> (String, Outcome<GroupDescription>) {
    let group_id = group.group_id.to_string();
    let state = GroupState::from_wire(&group.group_state);
    if state == GroupState::Dead && group.error_code == 0 {
        // How a group that does not exist was described before Kafka 4.0.
        return (group_id, Err(Refusal { code: ErrorCode::GROUP_ID_NOT_FOUND, message: None }));
    }
    let is_consumer = matches!(group.protocol_type.as_str(), "" | "consumer");
    let members = group.members.into_iter().map(|member| read_classic_member(member, is_consumer));
    let description = GroupDescription {
        group_id: group_id.clone(),
        group_type: GroupType::Classic,
        state,
        protocol_type: group.protocol_type.to_string(),
        assignor: group.protocol_data.to_string(),
        epoch: None,
        assignment_epoch: None,
        members: members.collect(),
        authorized_operations: acls::operations(group.authorized_operations),
    };
    (group_id, outcome(group.error_code, group.error_message, description))
}

fn read_classic_member(member: classic::DescribedGroupMember, is_consumer: bool) -> GroupMember {
    let mut described = GroupMember {
        member_id: member.member_id.to_string(),
        group_instance_id: member.group_instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        rack: None,
        epoch: None,
        subscribed_topics: Vec::new(),
        subscribed_regex: None,
        assignment: BTreeSet::new(),
        target_assignment: None,
    };
    // Other kinds of classic groups (Connect) put their own bytes there, and so may a member of this one: what
    // cannot be read is not told.
    if is_consumer {
        if let Ok(assignment) = AssignmentData::decode(&member.member_assignment) {
            described.assignment = assignment.partitions.into_iter().collect();
        }
        if let Ok(subscription) = SubscriptionData::decode(&member.member_metadata) {
            described.subscribed_topics = subscription.topics.iter().map(|topic| (**topic).into()).collect();
            described.rack = subscription.rack.map(|rack| (*rack).into());
        }
    }
    described
}

/// The groups of an answer about consumer groups (KIP-848) or share groups (KIP-932), which say the same of a group,
/// and not quite of its members.
macro_rules! groups_of {
    ($answer:expr, $group_type:expr, $protocol_type:literal, $read_member:path) => {{
        let outcomes = $answer.groups.into_iter().map(|group| {
            let group_id = group.group_id.to_string();
            let description = GroupDescription {
                group_id: group_id.clone(),
                group_type: $group_type,
                state: GroupState::from_wire(&group.group_state),
                protocol_type: $protocol_type.to_owned(),
                assignor: group.assignor_name.to_string(),
                epoch: Some(group.group_epoch),
                assignment_epoch: Some(group.assignment_epoch),
                members: group.members.into_iter().map($read_member).collect(),
                authorized_operations: acls::operations(group.authorized_operations),
            };
            (group_id, outcome(group.error_code, group.error_message, description))
        });
        Ok(outcomes.collect())
    }};
}

fn read_consumer(response: Response) -> Result<Outcomes<String, GroupDescription>> {
    let answer = response.decode::<ConsumerGroupDescribeRequest>()?;
    groups_of!(answer, GroupType::Consumer, "consumer", read_consumer_member)
}

fn read_share(response: Response) -> Result<Outcomes<String, GroupDescription>> {
    let answer = response.decode::<ShareGroupDescribeRequest>()?;
    groups_of!(answer, GroupType::Share, "share", read_share_member)
}

fn read_consumer_member(member: consumer::Member) -> GroupMember {
    let partitions = |assignment: consumer::Assignment| {
        let topics = assignment.topic_partitions.into_iter();
        topics.flat_map(|topic| partitions(&topic.topic_name, topic.partitions)).collect()
    };
    GroupMember {
        member_id: member.member_id.to_string(),
        group_instance_id: member.instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        rack: member.rack_id.map(|rack| rack.to_string()),
        epoch: Some(member.member_epoch),
        subscribed_topics: member.subscribed_topic_names.iter().map(|topic| topic.to_string()).collect(),
        subscribed_regex: member
            .subscribed_topic_regex
            .filter(|regex| !regex.is_empty())
            .map(|r| r.to_string()),
        assignment: partitions(member.assignment),
        target_assignment: Some(partitions(member.target_assignment)),
    }
}

fn read_share_member(member: share::Member) -> GroupMember {
    let topics = member.assignment.topic_partitions.into_iter();
    GroupMember {
        member_id: member.member_id.to_string(),
        group_instance_id: None,
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        rack: member.rack_id.map(|rack| rack.to_string()),
        epoch: Some(member.member_epoch),
        subscribed_topics: member.subscribed_topic_names.iter().map(|topic| topic.to_string()).collect(),
        subscribed_regex: None,
        assignment: topics.flat_map(|topic| partitions(&topic.topic_name, topic.partitions)).collect(),
        target_assignment: None,
    }
}

fn partitions(topic: &StrBytes, numbers: Vec<i32>) -> impl Iterator<Item = TopicPartition> + use<> {
    let topic: Arc<str> = Arc::from(topic.as_str());
    numbers.into_iter().map(move |number| TopicPartition::new(Arc::clone(&topic), number))
}
