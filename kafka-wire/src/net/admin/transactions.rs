//! Transactions and their producers.

use super::{Admin, Results, keys, pairs};
use crate::admin::cluster::only;
use crate::admin::transactions::{
    AbortTransactions, DescribeProducers, DescribeTransactions, FenceProducers, HangingTransaction,
    ListTransactions, ProducerState, TransactionDescription, TransactionFilter, TransactionListing,
};
use crate::error::Result;
use crate::types::{BrokerId, ProducerIdentity, TopicPartition};

impl Admin {
    /// The transactional ids of all brokers that `filter` lets through, by id (KIP-664).
    ///
    /// # Errors
    /// When a broker does not answer in time: a list that may lack some would mislead. `Unsupported` where a
    /// broker is too old for the filter.
    pub async fn list_transactions(&self, filter: TransactionFilter) -> Result<Vec<TransactionListing>> {
        let mut transactions = Vec::new();
        for (_, listed) in self.run(ListTransactions { filter }, self.brokers().await?).await? {
            transactions.extend(listed?);
        }
        transactions.sort();
        transactions.dedup();
        Ok(transactions)
    }

    /// Transactional ids, with their producers and what takes part in their transactions.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each id has its own, such as `TRANSACTIONAL_ID_NOT_FOUND`.
    pub async fn describe_transactions<T: Into<String>>(
        &self,
        transactional_ids: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, TransactionDescription>> {
        self.run(DescribeTransactions, transactional_ids.into_iter().map(|id| (id.into(), ())).collect())
            .await
    }

    /// The producers that the leaders of partitions know of: those that wrote lately.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each partition has its own.
    pub async fn describe_producers(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<Results<TopicPartition, Vec<ProducerState>>> {
        self.run(DescribeProducers { replica: None }, keys(partitions)).await
    }

    /// As [`Admin::describe_producers`], as one broker that has replicas knows them.
    ///
    /// # Errors
    /// As [`Admin::describe_producers`].
    pub async fn describe_producers_on(
        &self,
        broker: BrokerId,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<Results<TopicPartition, Vec<ProducerState>>> {
        self.run(DescribeProducers { replica: Some(broker) }, keys(partitions)).await
    }

    /// Aborts what a producer has open in a partition, behind the back of its coordinator: for a transaction that
    /// no coordinator knows any more, and that keeps readers of committed records from going on.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` and the like when the partition knows the producer otherwise; when the leader
    /// does not answer in time.
    pub async fn abort_transaction(
        &self,
        partition: TopicPartition,
        hanging: HangingTransaction,
    ) -> Result<()> {
        only(self.run(AbortTransactions, pairs([(partition, hanging)])).await?)
    }

    /// Takes transactional ids over, so that their producers are fenced and their open transactions aborted. The
    /// answer is the identity that was taken.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each id has its own.
    pub async fn fence_producers<T: Into<String>>(
        &self,
        transactional_ids: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, ProducerIdentity>> {
        self.run(FenceProducers, transactional_ids.into_iter().map(|id| (id.into(), ())).collect()).await
    }

    /// Ends the open transaction of a transactional id, prepared or not (KIP-939), by fencing its producer.
    ///
    /// # Errors
    /// When the coordinator does not answer in time, or refuses.
    pub async fn force_terminate_transaction(&self, transactional_id: impl Into<String>) -> Result<()> {
        only(self.run(FenceProducers, vec![(transactional_id.into(), ())]).await?).map(drop)
    }
}
