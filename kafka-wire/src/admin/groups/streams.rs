//! Groups of Kafka Streams as their coordinator describes them (KIP-1071).

use std::collections::BTreeSet;

use super::GroupState;
use super::describe::DescribeGroups;
use crate::admin::acls::{self, AclOperation};
use crate::admin::{Outcomes, Refusal};
use crate::error::Result;
use crate::protocol::request::{Request, Response};
use crate::protocol::streams_group::{
    self, DescribedStreamsGroup, StreamsGroupDescribeRequest, StreamsGroupMember, Subtopology,
};
use crate::types::TopicPartition;

/// A group of Kafka Streams.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamsGroupDescription {
    /// Its id: the `application.id`.
    pub group_id: String,
    /// How it stands.
    pub state: GroupState,
    /// How often it has changed.
    pub epoch: i32,
    /// Of which epoch the assignment is that the members are led to.
    pub assignment_epoch: i32,
    /// Which topology its members are to run; `None` while none has told one.
    pub topology_epoch: Option<i32>,
    /// The parts of that topology.
    pub subtopologies: Vec<Subtopology>,
    /// Its members.
    pub members: Vec<StreamsGroupMember>,
    /// What this client may do with it; `None` unless
    /// [asked for](crate::Admin::with_authorized_operations).
    pub authorized_operations: Option<BTreeSet<AclOperation>>,
}

impl StreamsGroupDescription {
    /// The member that reads a partition: that has the active task of it.
    pub fn reader(&self, partition: &TopicPartition) -> Option<&StreamsGroupMember> {
        let subtopology = self.subtopologies.iter().find(|part| part.reads(&partition.topic))?;
        let is_task = |task: &streams_group::StreamsTask| {
            *task.subtopology == *subtopology.id && task.partition == partition.partition
        };
        self.members.iter().find(|member| member.assignment.active.iter().any(is_task))
    }
}

impl DescribeGroups<StreamsGroupDescription> {
    pub(crate) fn streams(authorized_operations: bool) -> Self {
        Self::new(authorized_operations, ask, read)
    }
}

fn ask(items: &[(String, ())], include_authorized_operations: bool) -> Box<dyn Request> {
    let group_ids = items.iter().map(|(group, ())| group.clone()).collect();
    Box::new(StreamsGroupDescribeRequest { group_ids, include_authorized_operations })
}

fn read(response: Response) -> Result<Outcomes<String, StreamsGroupDescription>> {
    let groups = streams_group::decode_description(&response)?;
    let outcomes = groups.into_iter().map(|group| match group.error {
        Some(code) => {
            let message = group.error_message.map(|text| text.to_string());
            (group.group_id, Err(Refusal { code, message }))
        }
        None => (group.group_id.clone(), Ok(describe(group))),
    });
    Ok(outcomes.collect())
}

fn describe(group: DescribedStreamsGroup) -> StreamsGroupDescription {
    let (topology_epoch, subtopologies) = group.topology.unzip();
    StreamsGroupDescription {
        group_id: group.group_id,
        state: GroupState::from_wire(&group.state),
        epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        topology_epoch,
        subtopologies: subtopologies.unwrap_or_default(),
        members: group.members,
        authorized_operations: acls::operations(group.authorized_operations),
    }
}
