//! Groups: list, describe, and the offsets that they have committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::topics::{outcome, text};
use super::{Operation, Outcomes, Refusal, Unknown};
use crate::cluster::{Cluster, CoordinatorKind};
use crate::engine::{Lane, Target};
use crate::error::{ErrorCode, Result};
use crate::protocol::messages::{DescribeGroupsRequest, GroupId, ListGroupsRequest, OffsetFetchRequest};
use crate::protocol::request::{ByVersion, Plain, Request, Response};
use crate::types::{BrokerId, CommittedOffset, LeaderEpoch, TopicPartition};

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// What it is for: `consumer`, `connect`; empty for one that only commits offsets.
    pub protocol_type: String,
    /// `Stable`, `Empty` and so on; empty before Kafka 2.6.
    pub state: String,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its id.
    pub group_id: String,
    /// `Stable`, `Empty`, `Dead` (there is none of this id) and so on.
    pub state: String,
    /// What it is for: `consumer`, `connect`; empty for one that only commits offsets.
    pub protocol_type: String,
    /// The assignor that it agreed on.
    pub protocol: String,
    /// Its members.
    pub members: Vec<GroupMember>,
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
}

pub(crate) struct ListGroups;

impl Operation for ListGroups {
    /// Each broker lists the groups that it coordinates.
    type Key = BrokerId;
    type Item = ();
    type Output = Vec<GroupListing>;
    const ATTEMPT: &'static str = "list the groups of broker";

    fn target(&self, key: &BrokerId, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Broker { id: *key, lane: Lane::Control })
    }

    fn request(&self, _: &[(BrokerId, ())], _: Duration) -> Box<dyn Request> {
        Box::new(Plain::new(ListGroupsRequest::default()))
    }

    fn read(&self, items: &[(BrokerId, ())], response: Response) -> Result<Outcomes<BrokerId, Self::Output>> {
        let answer = response.decode::<ListGroupsRequest>()?;
        let groups = answer.groups.into_iter().map(|group| GroupListing {
            group_id: group.group_id.to_string(),
            protocol_type: group.protocol_type.to_string(),
            state: group.group_state.to_string(),
        });
        let outcome = outcome(answer.error_code, None, groups.collect());
        Ok(items.iter().map(|(broker, ())| *broker).zip([outcome]).collect())
    }
}

fn coordinator(group_id: &str) -> Target {
    Target::Coordinator { kind: CoordinatorKind::Group, key: Arc::from(group_id) }
}

pub(crate) struct DescribeGroups;

impl Operation for DescribeGroups {
    type Key = String;
    type Item = ();
    type Output = GroupDescription;
    const ATTEMPT: &'static str = "describe group";

    fn target(&self, key: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(coordinator(key))
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        let groups = items.iter().map(|(group, ())| GroupId(text(group))).collect();
        Box::new(Plain::new(DescribeGroupsRequest::default().with_groups(groups)))
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, Self::Output>> {
        let answer = response.decode::<DescribeGroupsRequest>()?;
        let outcomes = answer.groups.into_iter().map(|group| {
            let members = group.members.into_iter().map(|member| GroupMember {
                member_id: member.member_id.to_string(),
                group_instance_id: member.group_instance_id.map(|id| id.to_string()),
                client_id: member.client_id.to_string(),
                host: member.client_host.to_string(),
            });
            let group_id = group.group_id.to_string();
            let description = GroupDescription {
                group_id: group_id.clone(),
                state: group.group_state.to_string(),
                protocol_type: group.protocol_type.to_string(),
                protocol: group.protocol_data.to_string(),
                members: members.collect(),
            };
            (group_id, outcome(group.error_code, group.error_message, description))
        });
        Ok(outcomes.collect())
    }
}

/// The offsets that groups have committed, of all partitions.
pub(crate) struct ListCommittedOffsets;

impl Operation for ListCommittedOffsets {
    type Key = String;
    type Item = ();
    type Output = BTreeMap<TopicPartition, CommittedOffset>;
    const ATTEMPT: &'static str = "read the committed offsets of group";

    fn target(&self, key: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(coordinator(key))
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        // One group has a coordinator of its own as target: there is exactly one item.
        let group = items.first().map(|(group, ())| text(group)).unwrap_or_default();
        // From version 8 several groups are asked about, in another field.
        Box::new(ByVersion::new(2..=7, move |version| {
            OffsetFetchRequest::default()
                .with_group_id(GroupId(group.clone()))
                .with_topics(None)
                // Offsets of a transaction that is being committed are waited for (KIP-447).
                .with_require_stable(version >= 7)
        }))
    }

    fn read(&self, items: &[(String, ())], response: Response) -> Result<Outcomes<String, Self::Output>> {
        let answer = response.decode::<OffsetFetchRequest>()?;
        let mut refusal = ErrorCode::from_wire(answer.error_code);
        let mut offsets = BTreeMap::new();
        for topic in answer.topics {
            let name: Arc<str> = Arc::from(topic.name.as_str());
            for partition in topic.partitions {
                refusal = refusal.or_else(|| ErrorCode::from_wire(partition.error_code));
                if partition.committed_offset < 0 {
                    continue;
                }
                let committed = CommittedOffset {
                    offset: partition.committed_offset,
                    leader_epoch: LeaderEpoch::from_wire(partition.committed_leader_epoch),
                    metadata: partition.metadata.map(|text| text.to_string()).unwrap_or_default(),
                };
                offsets.insert(TopicPartition::new(Arc::clone(&name), partition.partition_index), committed);
            }
        }
        let outcome = refusal.map_or(Ok(offsets), |code| Err(Refusal { code, message: None }));
        Ok(items.iter().map(|(group, ())| group.clone()).zip([outcome]).collect())
    }
}
