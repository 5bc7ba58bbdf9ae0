//! Topics as they are: list, and describe by name or id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::cluster::Whole;
use crate::admin::wire::{brokers, one, outcome, topic_name};
use crate::admin::{Operation, Outcome, Outcomes, Refusal, Unknown};
use crate::cluster::{Cluster, Partition, Topic};
use crate::engine::{Target, read_topic};
use crate::error::{ErrorCode, Result};
use crate::protocol::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use crate::protocol::messages::describe_topic_partitions_response::{
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::protocol::messages::metadata_request::{self, MetadataRequestTopic};
use crate::protocol::metadata::{MetadataRequest, MetadataResponse};
use crate::protocol::request::{Plain, Request, Response};
use crate::types::{BrokerId, LeaderEpoch, TopicId};

/// How many partitions one answer describes at most: Java's default, and the broker's
/// (`max.request.partition.size.limit`).
const PARTITIONS_PER_ANSWER: i32 = 2000;

/// A topic, with more than clients need of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its identity. [`TopicId::NONE`] before Kafka 2.8.
    pub id: TopicId,
    /// Whether it is one of Kafka's own (`__consumer_offsets` and the like).
    pub is_internal: bool,
    /// Its partitions, in order: number `i` at index `i`.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition, with more than clients need of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Who leads it; `None` during an election.
    pub leader: Option<BrokerId>,
    /// Which leadership this is; `None` where the broker does not say.
    pub leader_epoch: Option<LeaderEpoch>,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub in_sync_replicas: Vec<BrokerId>,
    /// Those that are down; empty where the broker is asked by Metadata (before Kafka 4.0).
    pub offline_replicas: Vec<BrokerId>,
    /// Those out of sync that may lead without loss (KIP-966); `None` where the cluster does not keep them.
    pub eligible_leaders: Option<Vec<BrokerId>>,
    /// The last that were eligible before none was left (KIP-966); `None` likewise.
    pub last_known_eligible_leaders: Option<Vec<BrokerId>>,
}

impl From<Partition> for PartitionDescription {
    fn from(partition: Partition) -> Self {
        Self {
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas,
            in_sync_replicas: partition.in_sync_replicas,
            ..Self::default()
        }
    }
}

impl TopicDescription {
    fn new(name: String, topic: Topic) -> Self {
        let partitions = topic.partitions.into_iter().map(Into::into).collect();
        Self { name, id: topic.id, is_internal: topic.is_internal, partitions }
    }
}

/// All topics, with their partitions.
pub(crate) struct ListTopics;

impl Operation for ListTopics {
    type Key = Whole;
    type Item = ();
    type Output = BTreeMap<String, Topic>;
    const ATTEMPT: &'static str = "list the topics of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        Box::new(MetadataRequest { topics: None, allow_auto_topic_creation: false })
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = MetadataResponse::decode(&response)?;
        if let Some(code) = answer.error {
            return Ok(one(items, Err(Refusal { code, message: None })));
        }
        let topics = answer.topics.into_iter().filter_map(|topic| {
            let name = topic.name.to_string();
            // A topic in trouble is told by a description of it, not by the list.
            Some((name, read_topic(topic).ok()?))
        });
        Ok(one(items, Ok(topics.collect())))
    }
}

/// Topics by name, by Metadata: what every broker can tell.
pub(crate) struct DescribeTopics;

impl Operation for DescribeTopics {
    type Key = String;
    type Item = ();
    type Output = TopicDescription;
    const ATTEMPT: &'static str = "describe topic";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        let topics = items.iter().map(|(name, ())| Arc::from(name.as_str())).collect();
        Box::new(MetadataRequest { topics: Some(topics), allow_auto_topic_creation: false })
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, TopicDescription>> {
        let answer = MetadataResponse::decode(&response)?;
        let refused = |code| Refusal { code, message: None };
        let outcomes = answer.topics.into_iter().map(|topic| {
            let name = topic.name.to_string();
            let read = read_topic(topic).map_err(refused);
            (name.clone(), read.map(|topic| TopicDescription::new(name, topic)))
        });
        Ok(outcomes.collect())
    }
}

/// Topics by id, by Metadata (from Kafka 3.1).
pub(crate) struct DescribeTopicIds;

impl Operation for DescribeTopicIds {
    type Key = TopicId;
    type Item = ();
    type Output = TopicDescription;
    const ATTEMPT: &'static str = "describe the topic with id";

    fn target(&self, _: &TopicId, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, items: &[(TopicId, ())], _: Duration) -> Box<dyn Request> {
        let topics = items.iter().map(|(id, ())| {
            MetadataRequestTopic::default().with_name(None).with_topic_id(uuid::Uuid::from_bytes(id.0))
        });
        let request = metadata_request::MetadataRequest::default()
            .with_topics(Some(topics.collect()))
            .with_allow_auto_topic_creation(false);
        Box::new(Plain::in_versions(request, 12..=13))
    }

    fn read(&self, _: &[(TopicId, ())], response: Response) -> Result<Outcomes<TopicId, TopicDescription>> {
        let answer = response.decode::<metadata_request::MetadataRequest>()?;
        let outcomes = answer.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let described = PartitionDescription {
                    leader: leader(partition.leader_id),
                    leader_epoch: LeaderEpoch::from_wire(partition.leader_epoch),
                    replicas: brokers(partition.replica_nodes),
                    in_sync_replicas: brokers(partition.isr_nodes),
                    offline_replicas: brokers(partition.offline_replicas),
                    ..PartitionDescription::default()
                };
                (partition.partition_index, described)
            });
            let id = TopicId(topic.topic_id.into_bytes());
            let description = TopicDescription {
                name: topic.name.map(|name| name.to_string()).unwrap_or_default(),
                id,
                is_internal: topic.is_internal,
                partitions: in_order(partitions.collect()),
            };
            (id, outcome(topic.error_code, None, description))
        });
        Ok(outcomes.collect())
    }
}

fn leader(id: crate::protocol::messages::BrokerId) -> Option<BrokerId> {
    (id.0 >= 0).then_some(BrokerId(id.0))
}

fn in_order(mut partitions: Vec<(i32, PartitionDescription)>) -> Vec<PartitionDescription> {
    partitions.sort_by_key(|(number, _)| *number);
    partitions.into_iter().map(|(_, partition)| partition).collect()
}

/// Where an answer that describes partitions ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    topic: String,
    partition: i32,
}

/// Some of the partitions of topics, in the order of the topics' names.
pub(crate) struct Page {
    /// A topic of which an earlier page had partitions goes on here.
    pub(crate) topics: Vec<(String, Outcome<TopicDescription>)>,
    /// Where the next page begins.
    pub(crate) next: Option<Place>,
}

/// Topics by name, page by page (KIP-966).
pub(crate) struct DescribeTopicPartitions {
    pub(crate) topics: Vec<String>,
}

impl Operation for DescribeTopicPartitions {
    type Key = Whole;
    type Item = Option<Place>;
    type Output = Page;
    const ATTEMPT: &'static str = "describe topics of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, items: &[(Whole, Option<Place>)], _: Duration) -> Box<dyn Request> {
        let place = items.iter().find_map(|(_, place)| place.as_ref());
        let topics = self.topics.iter().map(|name| TopicRequest::default().with_name(topic_name(name)));
        let cursor = place.map(|place| {
            Cursor::default().with_topic_name(topic_name(&place.topic)).with_partition_index(place.partition)
        });
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(topics.collect())
            .with_response_partition_limit(PARTITIONS_PER_ANSWER)
            .with_cursor(cursor);
        Box::new(Plain::new(request))
    }

    fn read(
        &self,
        items: &[(Whole, Option<Place>)],
        response: Response,
    ) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = response.decode::<DescribeTopicPartitionsRequest>()?;
        let next = answer
            .next_cursor
            .map(|cursor| Place { topic: cursor.topic_name.to_string(), partition: cursor.partition_index });
        let topics = answer.topics.into_iter().map(read_description).collect();
        Ok(one(items, Ok(Page { topics, next })))
    }
}

fn read_description(topic: DescribeTopicPartitionsResponseTopic) -> (String, Outcome<TopicDescription>) {
    let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
    let partition = |partition: DescribeTopicPartitionsResponsePartition| {
        let described = PartitionDescription {
            leader: leader(partition.leader_id),
            leader_epoch: LeaderEpoch::from_wire(partition.leader_epoch),
            replicas: brokers(partition.replica_nodes),
            in_sync_replicas: brokers(partition.isr_nodes),
            offline_replicas: brokers(partition.offline_replicas),
            eligible_leaders: partition.eligible_leader_replicas.map(brokers),
            last_known_eligible_leaders: partition.last_known_elr.map(brokers),
        };
        (partition.partition_index, described)
    };
    let description = TopicDescription {
        name: name.clone(),
        id: TopicId(topic.topic_id.into_bytes()),
        is_internal: topic.is_internal,
        partitions: in_order(topic.partitions.into_iter().map(partition).collect()),
    };
    (name, outcome(topic.error_code, None, description))
}

/// Puts a page behind those before it. Whether it brought anything: a broker that repeats itself must not keep
/// this client for ever.
pub(crate) fn append(
    described: &mut BTreeMap<String, Outcome<TopicDescription>>,
    page: Vec<(String, Outcome<TopicDescription>)>,
) -> bool {
    let mut is_more = false;
    for (name, outcome) in page {
        match (described.get_mut(&name), outcome) {
            (None, outcome) => {
                described.insert(name, outcome);
                is_more = true;
            }
            (Some(Ok(topic)), Ok(more)) => {
                is_more |= !more.partitions.is_empty();
                topic.partitions.extend(more.partitions);
            }
            (Some(known), Err(refusal)) => *known = Err(refusal),
            (Some(Err(_)), Ok(_)) => {}
        }
    }
    is_more
}

/// What is said of a topic that an answer passes over.
pub(crate) fn not_mentioned() -> Refusal {
    Refusal { code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message: None }
}
