//! Topics as they are: list, and describe by name or id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::admin::acls::{self, AclOperation};
use crate::admin::cluster::Whole;
use crate::admin::wire::{brokers, one, outcome, topic_name};
use crate::admin::{Operation, Outcome, Outcomes, Refusal, Unknown};
use crate::cluster::{Cluster, Topic};
use crate::engine::{Target, read_topic};
use crate::error::{ErrorCode, Result};
use crate::protocol::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use crate::protocol::messages::describe_topic_partitions_response::{
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::protocol::messages::metadata_request::{
    MetadataRequest as MetadataTopicsRequest, MetadataRequestTopic,
};
use crate::protocol::metadata::{MetadataRequest, MetadataResponse};
use crate::protocol::request::{ByVersion, Plain, Request, Response};
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
    /// What this client may do with it (from Kafka 2.3); `None` unless
    /// [asked for](crate::Admin::with_authorized_operations), though brokers from Kafka 4.0 tell it unasked.
    pub authorized_operations: Option<BTreeSet<AclOperation>>,
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
    /// Those that are down.
    pub offline_replicas: Vec<BrokerId>,
    /// Those out of sync that may lead without loss (KIP-966); `None` where the cluster does not keep them.
    pub eligible_leaders: Option<Vec<BrokerId>>,
    /// The last that were eligible before none was left (KIP-966); `None` likewise.
    pub last_known_eligible_leaders: Option<Vec<BrokerId>>,
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

/// Topics by Metadata, what every broker can tell: by name, or by id from Kafka 3.1.
pub(crate) struct DescribeTopics {
    /// Whether to say what this client may do with each.
    pub(crate) authorized_operations: bool,
}

impl DescribeTopics {
    fn request(&self, topics: Vec<MetadataRequestTopic>, from: i16) -> Box<dyn Request> {
        let authorized_operations = self.authorized_operations;
        let request =
            MetadataTopicsRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false);
        // Before version 8 they are not asked about.
        Box::new(ByVersion::new(from..=13, move |version| {
            request.clone().with_include_topic_authorized_operations(authorized_operations && version >= 8)
        }))
    }
}

fn read_topics(response: Response) -> Result<Vec<(i16, TopicDescription)>> {
    let answer = response.decode::<MetadataTopicsRequest>()?;
    let topics = answer.topics.into_iter().map(|topic| {
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
        let description = TopicDescription {
            name: topic.name.map(|name| name.to_string()).unwrap_or_default(),
            id: TopicId(topic.topic_id.into_bytes()),
            is_internal: topic.is_internal,
            partitions: in_order(partitions.collect()),
            authorized_operations: acls::operations(topic.topic_authorized_operations),
        };
        (topic.error_code, description)
    });
    Ok(topics.collect())
}

impl Operation for DescribeTopics {
    type Key = String;
    type Item = ();
    type Output = TopicDescription;
    const ATTEMPT: &'static str = "describe topic";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        let topics =
            items.iter().map(|(name, ())| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
        // Before version 4 a topic would be created by asking about it.
        self.request(topics.collect(), 4)
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, TopicDescription>> {
        let topics = read_topics(response)?.into_iter();
        Ok(topics.map(|(code, topic)| (topic.name.clone(), outcome(code, None, topic))).collect())
    }
}

/// The same by id.
pub(crate) struct DescribeTopicIds(pub(crate) DescribeTopics);

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
        self.0.request(topics.collect(), 12)
    }

    fn read(&self, _: &[(TopicId, ())], response: Response) -> Result<Outcomes<TopicId, TopicDescription>> {
        let topics = read_topics(response)?.into_iter();
        Ok(topics.map(|(code, topic)| (topic.id, outcome(code, None, topic))).collect())
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
        authorized_operations: acls::operations(topic.topic_authorized_operations),
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
