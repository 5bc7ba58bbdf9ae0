//! Who has and leads partitions: reassignments (KIP-455) and elections (KIP-460).

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::Whole;
use super::names::numbered;
use super::wire::{
    all, broker_ids, brokers, by_topic, flatten, millis, numbers_by_topic, one, outcome, refusal, topic_name,
};
use super::{Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::{Error, ErrorCode, Result};
use crate::protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use crate::protocol::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use crate::protocol::messages::list_partition_reassignments_request::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use crate::protocol::request::{Plain, Request, Response};
use crate::types::{BrokerId, TopicPartition};

/// A reassignment under way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reassignment {
    /// All that have the partition now.
    pub replicas: Vec<BrokerId>,
    /// Those of them that are new and catching up.
    pub adding: Vec<BrokerId>,
    /// Those of them that will let go.
    pub removing: Vec<BrokerId>,
}

/// Moves replicas, or with `None` takes a move back.
pub(crate) struct AlterReassignments {
    /// Whether a partition may have more or fewer replicas than before.
    pub(crate) allow_replication_factor_change: bool,
}

impl Operation for AlterReassignments {
    type Key = TopicPartition;
    type Item = Option<Vec<BrokerId>>;
    type Output = ();
    const ATTEMPT: &'static str = "reassign replicas";

    fn target(&self, _: &TopicPartition, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(TopicPartition, Self::Item)], timeout: Duration) -> Box<dyn Request> {
        let topics = by_topic(items).into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, replicas)| {
                ReassignablePartition::default()
                    .with_partition_index(partition)
                    .with_replicas(replicas.as_deref().map(broker_ids))
            });
            ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect())
        });
        let allow = self.allow_replication_factor_change;
        let request = AlterPartitionReassignmentsRequest::default()
            .with_topics(topics.collect())
            .with_allow_replication_factor_change(allow)
            .with_timeout_ms(millis(timeout));
        // Version 1 (KIP-860) can forbid it.
        Box::new(Plain::in_versions(request, if allow { 0 } else { 1 }..=1))
    }

    fn read(
        &self,
        items: &[(TopicPartition, Self::Item)],
        response: Response,
    ) -> Result<Outcomes<TopicPartition, ()>> {
        let answer = response.decode::<AlterPartitionReassignmentsRequest>()?;
        if let Some(refusal) = refusal(answer.error_code, answer.error_message) {
            return Ok(all(items, &Err(refusal)));
        }
        let topics = answer.responses.into_iter().map(|topic| (topic.name, topic.partitions));
        Ok(flatten(topics, |partition| {
            (partition.partition_index, outcome(partition.error_code, partition.error_message, ()))
        }))
    }
}

/// The reassignments under way.
pub(crate) struct ListReassignments {
    /// Of these partitions; of all with `None`.
    pub(crate) partitions: Option<Vec<TopicPartition>>,
}

impl Operation for ListReassignments {
    type Key = Whole;
    type Item = ();
    type Output = BTreeMap<TopicPartition, Reassignment>;
    const ATTEMPT: &'static str = "list the reassignments of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, _: &[(Whole, ())], timeout: Duration) -> Box<dyn Request> {
        let topics = self.partitions.as_ref().map(|partitions| {
            let topics = numbers_by_topic(partitions).into_iter().map(|(topic, numbers)| {
                ListPartitionReassignmentsTopics::default()
                    .with_name(topic_name(topic))
                    .with_partition_indexes(numbers)
            });
            topics.collect()
        });
        let request = ListPartitionReassignmentsRequest::default().with_topics(topics);
        Box::new(Plain::new(request.with_timeout_ms(millis(timeout))))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = response.decode::<ListPartitionReassignmentsRequest>()?;
        let topics = answer.topics.into_iter().map(|topic| (topic.name, topic.partitions));
        let under_way = flatten(topics, |partition| {
            let reassignment = Reassignment {
                replicas: brokers(partition.replicas),
                adding: brokers(partition.adding_replicas),
                removing: brokers(partition.removing_replicas),
            };
            (partition.partition_index, reassignment)
        });
        Ok(one(items, outcome(answer.error_code, answer.error_message, under_way.into_iter().collect())))
    }
}

numbered! {
    /// Who may be elected.
    ElectionType, "a type of election" {
        /// The first replica, if it is in sync.
        Preferred = 0 "PREFERRED",
        /// Any replica if none in sync is up: what the others had is lost.
        Unclean = 1 "UNCLEAN",
    }
}

fn election(election: ElectionType, timeout: Duration) -> ElectLeadersRequest {
    // From version 1 it is said which election.
    ElectLeadersRequest::default().with_election_type(election.to_wire()).with_timeout_ms(millis(timeout))
}

/// Elects leaders of these partitions.
pub(crate) struct ElectLeaders {
    pub(crate) election: ElectionType,
}

impl Operation for ElectLeaders {
    type Key = TopicPartition;
    type Item = ();
    type Output = ();
    const ATTEMPT: &'static str = "elect a leader";

    fn target(&self, _: &TopicPartition, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(TopicPartition, ())], timeout: Duration) -> Box<dyn Request> {
        let topics =
            numbers_by_topic(items.iter().map(|(key, ())| key)).into_iter().map(|(topic, numbers)| {
                TopicPartitions::default().with_topic(topic_name(topic)).with_partitions(numbers)
            });
        let request = election(self.election, timeout).with_topic_partitions(Some(topics.collect()));
        Box::new(Plain::in_versions(request, 1..=2))
    }

    fn read(
        &self,
        items: &[(TopicPartition, ())],
        response: Response,
    ) -> Result<Outcomes<TopicPartition, ()>> {
        let answer = response.decode::<ElectLeadersRequest>()?;
        if let Some(refusal) = refusal(answer.error_code, None) {
            return Ok(all(items, &Err(refusal)));
        }
        let topics = answer.replica_election_results.into_iter();
        Ok(flatten(topics.map(|topic| (topic.topic, topic.partition_result)), |partition| {
            (partition.partition_id, outcome(partition.error_code, partition.error_message, ()))
        }))
    }
}

/// Elects leaders of all partitions that need it.
pub(crate) struct ElectAllLeaders {
    pub(crate) election: ElectionType,
}

impl Operation for ElectAllLeaders {
    type Key = Whole;
    type Item = ();
    type Output = Vec<(TopicPartition, Result<()>)>;
    const ATTEMPT: &'static str = "elect leaders of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, _: &[(Whole, ())], timeout: Duration) -> Box<dyn Request> {
        let request = election(self.election, timeout).with_topic_partitions(None);
        Box::new(Plain::in_versions(request, 1..=2))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = response.decode::<ElectLeadersRequest>()?;
        let topics = answer.replica_election_results.into_iter();
        let elected = flatten(topics.map(|topic| (topic.topic, topic.partition_result)), |partition| {
            (partition.partition_id, ErrorCode::check(partition.error_code))
        });
        let described = elected.into_iter().map(|(partition, result)| {
            let failed = |code| Error::broker(code, "elect a leader").with_partition(partition.clone());
            let result = result.map_err(failed);
            (partition, result)
        });
        let described = described.collect();
        Ok(one(items, refusal(answer.error_code, None).map_or(Ok(described), Err)))
    }
}
