//! Consumed offsets that a transaction commits.

use crate::reply::Reply;
use crate::types::{CommittedOffset, TopicPartition};

/// The consumer group whose offsets a transaction commits, and the member that speaks for it (KIP-447).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `group.id`.
    pub group_id: String,
    /// The group's generation, or the member's epoch; −1 without membership.
    pub generation: i32,
    /// The member, empty without membership.
    pub member_id: String,
    /// `group.instance.id`, for a static member.
    pub group_instance_id: Option<String>,
}

impl GroupMetadata {
    /// A group without members: whoever holds the transactional id commits for it.
    pub fn without_member(group_id: impl Into<String>) -> Self {
        Self { group_id: group_id.into(), generation: -1, member_id: String::new(), group_instance_id: None }
    }
}

/// Offsets on their way to the group's coordinator.
#[derive(Debug)]
pub(super) struct PendingOffsets {
    pub(super) group: GroupMetadata,
    pub(super) offsets: Vec<(TopicPartition, CommittedOffset)>,
    /// Protocol 1: the transaction's coordinator knows of the group.
    pub(super) is_group_added: bool,
    pub(super) reply: Reply<()>,
}

impl PendingOffsets {
    pub(super) fn new(
        group: GroupMetadata,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        reply: Reply<()>,
    ) -> Self {
        Self { group, offsets, is_group_added: false, reply }
    }
}
