//! Who has and leads partitions.

use std::collections::BTreeMap;

use super::{Admin, Results, keys, pairs};
use crate::admin::partitions::{
    AlterReassignments, ElectAllLeaders, ElectLeaders, ElectionType, ListReassignments, Reassignment,
};
use crate::error::Result;
use crate::types::{BrokerId, TopicPartition};

impl Admin {
    /// Begins to move partitions to these brokers, the preferred leader first, or takes a move that is under way
    /// back with `None` (KIP-455). [`Admin::list_partition_reassignments`] tells when it is done.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each partition has its own, such as `INVALID_REPLICA_ASSIGNMENT` or
    /// `NO_REASSIGNMENT_IN_PROGRESS`.
    pub async fn alter_partition_reassignments(
        &self,
        moves: impl IntoIterator<Item = (TopicPartition, Option<Vec<BrokerId>>)>,
    ) -> Result<Results<TopicPartition, ()>> {
        self.run(AlterReassignments { allow_replication_factor_change: true }, pairs(moves)).await
    }

    /// As [`Admin::alter_partition_reassignments`], and no partition gets more or fewer replicas by it (KIP-860, from
    /// Kafka 4.1).
    ///
    /// # Errors
    /// As [`Admin::alter_partition_reassignments`], `INVALID_REPLICATION_FACTOR`.
    pub async fn alter_partition_reassignments_of_equal_size(
        &self,
        moves: impl IntoIterator<Item = (TopicPartition, Option<Vec<BrokerId>>)>,
    ) -> Result<Results<TopicPartition, ()>> {
        self.run(AlterReassignments { allow_replication_factor_change: false }, pairs(moves)).await
    }

    /// The reassignments that are under way.
    ///
    /// # Errors
    /// When the controller does not answer in time.
    pub async fn list_partition_reassignments(&self) -> Result<BTreeMap<TopicPartition, Reassignment>> {
        self.ask(ListReassignments { partitions: None }).await
    }

    /// Which of these partitions are being reassigned.
    ///
    /// # Errors
    /// When the controller does not answer in time.
    pub async fn list_partition_reassignments_of(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, Reassignment>> {
        self.ask(ListReassignments { partitions: Some(partitions.into_iter().collect()) }).await
    }

    /// Elects leaders of these partitions (KIP-460).
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each partition has its own, such as `ELECTION_NOT_NEEDED`.
    pub async fn elect_leaders(
        &self,
        election: ElectionType,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<Results<TopicPartition, ()>> {
        self.run(ElectLeaders { election }, keys(partitions)).await
    }

    /// Elects leaders of all partitions that need it; the others are not in the answer.
    ///
    /// # Errors
    /// When the controller does not answer in time; each partition has its own.
    pub async fn elect_all_leaders(&self, election: ElectionType) -> Result<Results<TopicPartition, ()>> {
        self.ask(ElectAllLeaders { election }).await
    }
}
