//! The folders that brokers keep partitions in.

use std::collections::BTreeMap;

use super::{Admin, Results, keys, pairs};
use crate::admin::log_dirs::{AlterReplicaLogDirs, DescribeLogDirs, LogDir, Replica};
use crate::error::Result;
use crate::types::{BrokerId, TopicPartition};

impl Admin {
    /// The folders of these brokers, with what is in them, by path.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each broker has its own.
    pub async fn describe_log_dirs(
        &self,
        brokers: impl IntoIterator<Item = BrokerId>,
    ) -> Result<Results<BrokerId, BTreeMap<String, LogDir>>> {
        self.run(DescribeLogDirs { partitions: None }, keys(brokers)).await
    }

    /// As [`Admin::describe_log_dirs`], with these partitions only.
    ///
    /// # Errors
    /// As [`Admin::describe_log_dirs`].
    pub async fn describe_log_dirs_of(
        &self,
        brokers: impl IntoIterator<Item = BrokerId>,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<Results<BrokerId, BTreeMap<String, LogDir>>> {
        let operation = DescribeLogDirs { partitions: Some(partitions.into_iter().collect()) };
        self.run(operation, keys(brokers)).await
    }

    /// Moves replicas into other folders of their brokers (KIP-113): each broker copies in the background, which
    /// [`Admin::describe_log_dirs`] shows by replicas with
    /// [`is_future`](crate::admin::LogDirReplica::is_future).
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each replica has its own, such as `LOG_DIR_NOT_FOUND`.
    pub async fn alter_replica_log_dirs(
        &self,
        moves: impl IntoIterator<Item = (Replica, String)>,
    ) -> Result<Results<Replica, ()>> {
        self.run(AlterReplicaLogDirs, pairs(moves)).await
    }
}
