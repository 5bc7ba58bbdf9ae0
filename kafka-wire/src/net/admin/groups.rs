//! Groups and their offsets.

use std::collections::BTreeMap;

use super::{Admin, Results, keys, pairs};
use crate::admin::cluster::only;
use crate::admin::groups::describe::{DescribeGroups, GroupDescription};
use crate::admin::groups::offsets::{AlterCommittedOffsets, DeleteCommittedOffsets, ListCommittedOffsets};
use crate::admin::groups::share_offsets::{
    AlterShareGroupOffsets, DeleteShareGroupOffsets, ListShareGroupOffsets, ShareGroupOffset,
};
use crate::admin::groups::streams::StreamsGroupDescription;
use crate::admin::groups::{
    DeleteGroups, GroupFilter, GroupListing, ListGroups, MemberToRemove, RemoveMembers,
};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::types::{CommittedOffset, TopicPartition};

impl Admin {
    /// The groups of all brokers, of every kind, by id.
    ///
    /// # Errors
    /// When a broker does not answer in time: a list that may lack some would mislead.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        self.list_groups_by(GroupFilter::default()).await
    }

    /// The groups of all brokers that `filter` lets through, by id.
    ///
    /// # Errors
    /// As [`Admin::list_groups`]; `Unsupported` where a broker is too old for the filter.
    pub async fn list_groups_by(&self, filter: GroupFilter) -> Result<Vec<GroupListing>> {
        let mut groups = Vec::new();
        for (_, listed) in self.run(ListGroups { filter }, self.brokers().await?).await? {
            groups.extend(listed?);
        }
        groups.sort();
        groups.dedup();
        Ok(groups)
    }

    /// Groups by id, whether they are run by the classic, the consumer (KIP-848) or the share protocol (KIP-932).
    /// [`Admin::describe_streams_groups`] has those of Kafka Streams.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each group has its own, such as `GROUP_ID_NOT_FOUND`.
    pub async fn describe_groups<T: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, GroupDescription>> {
        let rights = self.authorized_operations;
        let groups = groups.into_iter().map(|id| (id.into(), ())).collect();
        let (mut found, rest) = self.describe_some(DescribeGroups::consumer(rights), groups).await?;
        let (classic, rest) = self.describe_some(DescribeGroups::classic(rights), names_of(&rest)).await?;
        found.extend(classic);
        // A coordinator says of a group of another kind that there is none. If no kind is left, that is so.
        let (share, _) = self.describe_some(DescribeGroups::share(rights), names_of(&rest)).await?;
        let absent = rest.into_iter().filter(|(id, _)| share.iter().all(|(other, _)| other != id));
        found.extend(absent.map(|(id, error)| (id, Err(error))));
        found.extend(share);
        Ok(found)
    }

    /// Those of the groups that are of the operation's kind, and the others with what was said of them.
    async fn describe_some(
        &self,
        operation: DescribeGroups<GroupDescription>,
        groups: Vec<(String, ())>,
    ) -> Result<(Results<String, GroupDescription>, Vec<(String, Error)>)> {
        let (mut found, mut others) = (Vec::new(), Vec::new());
        if groups.is_empty() {
            return Ok((found, others));
        }
        // Brokers may have the call, and not the coordinator for it (Kafka 3.9).
        let is_of_another_kind = |error: &Error| {
            let code = error.code();
            error.kind() == ErrorKind::Unsupported
                || code == Some(ErrorCode::GROUP_ID_NOT_FOUND)
                || code == Some(ErrorCode::UNSUPPORTED_VERSION)
        };
        for (id, described) in self.run(operation, groups).await? {
            match described {
                Err(error) if is_of_another_kind(&error) => others.push((id, error)),
                described => found.push((id, described)),
            }
        }
        Ok((found, others))
    }

    /// Groups of Kafka Streams by id (KIP-1071, from Kafka 4.1): topology, members and their tasks.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each group has its own, such as `GROUP_ID_NOT_FOUND`, which is also said
    /// of groups of another kind: applications that run by the classic protocol are described by
    /// [`Admin::describe_groups`].
    pub async fn describe_streams_groups<T: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, StreamsGroupDescription>> {
        let operation = DescribeGroups::streams(self.authorized_operations);
        self.run(operation, groups.into_iter().map(|id| (id.into(), ())).collect()).await
    }

    /// Deletes groups without members, of any kind, with their offsets.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each group has its own, such as `NON_EMPTY_GROUP`.
    pub async fn delete_groups<T: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, ()>> {
        self.run(DeleteGroups, groups.into_iter().map(|group| (group.into(), ())).collect()).await
    }

    /// Removes members from a group of the classic or consumer protocol: a static one that will not come back, or
    /// one that hangs. `reason` goes into the coordinator's log.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each member has its own, such as `UNKNOWN_MEMBER_ID`.
    pub async fn remove_group_members(
        &self,
        group_id: impl Into<String>,
        members: impl IntoIterator<Item = MemberToRemove>,
        reason: impl Into<String>,
    ) -> Result<Results<MemberToRemove, ()>> {
        let operation = RemoveMembers { group_id: group_id.into(), reason: reason.into() };
        self.run(operation, keys(members)).await
    }

    /// Removes all members from a group, as [`Admin::remove_group_members`] does those that are named.
    ///
    /// # Errors
    /// When the group cannot be described; each member has its own.
    pub async fn remove_all_group_members(
        &self,
        group_id: impl Into<String>,
        reason: impl Into<String>,
    ) -> Result<Results<MemberToRemove, ()>> {
        let group_id = group_id.into();
        let members = only(self.describe_groups([&group_id]).await?)?.members.into_iter();
        let members = members.map(|member| match member.group_instance_id {
            Some(id) => MemberToRemove::Instance(id),
            None => MemberToRemove::Member(member.member_id),
        });
        self.remove_group_members(group_id, members, reason).await
    }

    /// The offsets that a group has committed; none for a group that there is not. Offsets of a
    /// transaction that is being committed are waited for.
    ///
    /// # Errors
    /// When the coordinator does not answer in time, or refuses.
    pub async fn list_committed_offsets(
        &self,
        group_id: impl Into<String>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
        let operation = ListCommittedOffsets { require_stable: true };
        only(self.run(operation, vec![(group_id.into(), ())]).await?)
    }

    /// As [`Admin::list_committed_offsets`], without waiting: an offset of a transaction that is being committed is not
    /// told, but the one before it. For a look at a group, not for going on from there.
    ///
    /// # Errors
    /// As [`Admin::list_committed_offsets`].
    pub async fn list_settled_offsets(
        &self,
        group_id: impl Into<String>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
        let operation = ListCommittedOffsets { require_stable: false };
        only(self.run(operation, vec![(group_id.into(), ())]).await?)
    }

    /// The offsets that several groups have committed.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each group has its own.
    pub async fn list_committed_offsets_of<T: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, BTreeMap<TopicPartition, CommittedOffset>>> {
        let operation = ListCommittedOffsets { require_stable: true };
        self.run(operation, groups.into_iter().map(|group| (group.into(), ())).collect()).await
    }

    /// Sets offsets of a group that has no members; a group that is not there comes into being by it.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each partition has its own, such as `UNKNOWN_MEMBER_ID` when the
    /// group has members.
    pub async fn alter_committed_offsets(
        &self,
        group_id: impl Into<String>,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) -> Result<Results<TopicPartition, ()>> {
        self.run(AlterCommittedOffsets { group_id: group_id.into() }, pairs(offsets)).await
    }

    /// Deletes offsets of a group, of topics that it is not subscribed to (KIP-496).
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each partition has its own, such as `GROUP_SUBSCRIBED_TO_TOPIC`.
    pub async fn delete_committed_offsets(
        &self,
        group_id: impl Into<String>,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<Results<TopicPartition, ()>> {
        self.run(DeleteCommittedOffsets { group_id: group_id.into() }, keys(partitions)).await
    }

    /// Where share groups begin to read their partitions (KIP-932, from Kafka 4.1).
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each group has its own.
    pub async fn list_share_group_offsets<T: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, BTreeMap<TopicPartition, ShareGroupOffset>>> {
        self.run(ListShareGroupOffsets, groups.into_iter().map(|group| (group.into(), ())).collect()).await
    }

    /// Sets where a share group without members begins to read partitions.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each partition has its own, such as `NON_EMPTY_GROUP`.
    pub async fn alter_share_group_offsets(
        &self,
        group_id: impl Into<String>,
        offsets: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<Results<TopicPartition, ()>> {
        self.run(AlterShareGroupOffsets { group_id: group_id.into() }, pairs(offsets)).await
    }

    /// Makes a share group without members forget topics.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own, such as `NON_EMPTY_GROUP`.
    pub async fn delete_share_group_offsets<T: Into<String>>(
        &self,
        group_id: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, ()>> {
        let operation = DeleteShareGroupOffsets { group_id: group_id.into() };
        self.run(operation, topics.into_iter().map(|topic| (topic.into(), ())).collect()).await
    }
}

fn names_of(groups: &[(String, Error)]) -> Vec<(String, ())> {
    groups.iter().map(|(id, _)| (id.clone(), ())).collect()
}
