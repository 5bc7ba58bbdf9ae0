//! Topics: create, delete, grow, list, describe.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::Whole;
use super::{Operation, Outcome, Outcomes, Refusal, Unknown};
use crate::cluster::{Cluster, Topic};
use crate::engine::{Target, read_topic};
use crate::error::{ErrorCode, Result};
use crate::protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use crate::protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use crate::protocol::messages::{DeleteTopicsRequest, StrBytes, TopicName};
use crate::protocol::metadata::{MetadataRequest, MetadataResponse};
use crate::protocol::request::{Plain, Request, Response};

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; −1 for the brokers' default (`num.partitions`, from Kafka 2.4).
    pub partitions: i32,
    /// How many replicas of each; −1 for the brokers' default (`default.replication.factor`).
    pub replication_factor: i16,
    /// Its configuration, where it differs from the brokers' defaults.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with so many partitions, and the brokers' default for everything else.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self { name: name.into(), partitions, replication_factor: -1, configs: BTreeMap::new() }
    }

    /// With so many replicas of each partition.
    #[must_use]
    pub fn replication_factor(mut self, replication_factor: i16) -> Self {
        self.replication_factor = replication_factor;
        self
    }

    /// With a configuration such as `cleanup.policy=compact`.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// What a broker says about one thing: a code, and perhaps why.
pub(super) fn outcome<T>(code: i16, message: Option<StrBytes>, output: T) -> Outcome<T> {
    match ErrorCode::from_wire(code) {
        None => Ok(output),
        Some(code) => Err(Refusal { code, message: message.map(|text| text.to_string()) }),
    }
}

pub(super) fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

pub(crate) struct CreateTopics;

impl Operation for CreateTopics {
    type Key = String;
    type Item = NewTopic;
    type Output = ();
    const ATTEMPT: &'static str = "create topic";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(String, NewTopic)], timeout: Duration) -> Box<dyn Request> {
        let topics = items.iter().map(|(_, topic)| {
            let configs = topic.configs.iter().map(|(name, value)| {
                CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
            });
            CreatableTopic::default()
                .with_name(topic_name(&topic.name))
                .with_num_partitions(topic.partitions)
                .with_replication_factor(topic.replication_factor)
                .with_configs(configs.collect())
        });
        let request = CreateTopicsRequest::default().with_topics(topics.collect());
        Box::new(Plain::new(request.with_timeout_ms(millis(timeout))))
    }

    fn read(&self, _: &[(String, NewTopic)], response: Response) -> Result<Outcomes<String, ()>> {
        let answer = response.decode::<CreateTopicsRequest>()?;
        let outcomes = answer.topics.into_iter();
        Ok(outcomes
            .map(|topic| (topic.name.to_string(), outcome(topic.error_code, topic.error_message, ())))
            .collect())
    }
}

pub(crate) struct DeleteTopics;

impl Operation for DeleteTopics {
    type Key = String;
    type Item = ();
    type Output = ();
    const ATTEMPT: &'static str = "delete topic";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(String, ())], timeout: Duration) -> Box<dyn Request> {
        let names = items.iter().map(|(name, ())| topic_name(name)).collect();
        let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(millis(timeout));
        // From version 6 topics may be named by id too, in another field.
        Box::new(Plain::in_versions(request, 1..=5))
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, ()>> {
        let answer = response.decode::<DeleteTopicsRequest>()?;
        let name = |name: Option<TopicName>| name.map(|name| name.to_string()).unwrap_or_default();
        let outcomes = answer.responses.into_iter();
        Ok(outcomes
            .map(|topic| (name(topic.name), outcome(topic.error_code, topic.error_message, ())))
            .collect())
    }

    fn is_passing(code: ErrorCode) -> bool {
        code.is_retriable() && code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    }
}

pub(crate) struct CreatePartitions;

impl Operation for CreatePartitions {
    type Key = String;
    /// How many there shall be in all.
    type Item = i32;
    type Output = ();
    const ATTEMPT: &'static str = "add partitions to topic";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(String, i32)], timeout: Duration) -> Box<dyn Request> {
        let topics = items.iter().map(|(name, count)| {
            CreatePartitionsTopic::default()
                .with_name(topic_name(name))
                .with_count(*count)
                .with_assignments(None)
        });
        let request = CreatePartitionsRequest::default().with_topics(topics.collect());
        Box::new(Plain::new(request.with_timeout_ms(millis(timeout))))
    }

    fn read(&self, _: &[(String, i32)], response: Response) -> Result<Outcomes<String, ()>> {
        let answer = response.decode::<CreatePartitionsRequest>()?;
        let outcomes = answer.results.into_iter();
        Ok(outcomes
            .map(|topic| (topic.name.to_string(), outcome(topic.error_code, topic.error_message, ())))
            .collect())
    }

    fn is_passing(code: ErrorCode) -> bool {
        code.is_retriable() && code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
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

    fn read(&self, _: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = MetadataResponse::decode(&response)?;
        if let Some(code) = answer.error {
            return Ok(vec![(Whole, Err(Refusal { code, message: None }))]);
        }
        let topics = answer.topics.into_iter().filter_map(|topic| {
            let name = topic.name.to_string();
            // A topic in trouble is told by a description of it, not by the list.
            Some((name, read_topic(topic).ok()?))
        });
        Ok(vec![(Whole, Ok(topics.collect()))])
    }
}

/// Topics by name, with their partitions.
pub(crate) struct DescribeTopics;

impl Operation for DescribeTopics {
    type Key = String;
    type Item = ();
    type Output = Topic;
    const ATTEMPT: &'static str = "describe topic";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        let topics = items.iter().map(|(name, ())| Arc::from(name.as_str())).collect();
        Box::new(MetadataRequest { topics: Some(topics), allow_auto_topic_creation: false })
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, Topic>> {
        let answer = MetadataResponse::decode(&response)?;
        let refusal = |code| Refusal { code, message: None };
        Ok(answer.topics.into_iter().map(|t| (t.name.to_string(), read_topic(t).map_err(refusal))).collect())
    }

    fn is_passing(code: ErrorCode) -> bool {
        code.is_retriable() && code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    }
}
