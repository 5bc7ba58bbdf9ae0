//! Topics: create, grow, delete. `describe` has the rest.

pub(crate) mod describe;

use std::collections::BTreeMap;
use std::time::Duration;

use super::configs::{ConfigEntry, ConfigResource, ConfigSource};
use super::wire::{broker_ids, millis, outcome, text, topic_name};
use super::{Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::Result;
use crate::protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use crate::protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use crate::protocol::messages::create_topics_response::CreatableTopicResult;
use crate::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use crate::protocol::request::{ByVersion, Plain, Request, Response};
use crate::types::{BrokerId, TopicId};

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; −1 for the brokers' default (`num.partitions`, from Kafka 2.4). Not used where
    /// `assignments` says it.
    pub partitions: i32,
    /// How many replicas of each; −1 for the brokers' default (`default.replication.factor`). Not used where
    /// `assignments` says it.
    pub replication_factor: i16,
    /// Who has the replicas of each partition, the preferred leader first; empty for the brokers' choice.
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    /// Its configuration, where it differs from the brokers' defaults.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with so many partitions, and the brokers' default for everything else.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self {
            name: name.into(),
            partitions,
            replication_factor: -1,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
        }
    }

    /// With so many replicas of each partition.
    #[must_use]
    pub fn replication_factor(mut self, replication_factor: i16) -> Self {
        self.replication_factor = replication_factor;
        self
    }

    /// With a partition whose replicas are on these brokers; either all partitions are given so, or none.
    #[must_use]
    pub fn assignment(mut self, partition: i32, brokers: impl Into<Vec<BrokerId>>) -> Self {
        self.assignments.insert(partition, brokers.into());
        self
    }

    /// With a configuration such as `cleanup.policy=compact`.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    fn to_wire(&self) -> CreatableTopic {
        let configs = self.configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        });
        let assignments = self.assignments.iter().map(|(partition, brokers)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(*partition)
                .with_broker_ids(broker_ids(brokers))
        });
        // Either the numbers or the assignments: the broker refuses both.
        let is_assigned = !self.assignments.is_empty();
        CreatableTopic::default()
            .with_name(topic_name(&self.name))
            .with_num_partitions(if is_assigned { -1 } else { self.partitions })
            .with_replication_factor(if is_assigned { -1 } else { self.replication_factor })
            .with_assignments(assignments.collect())
            .with_configs(configs.collect())
    }
}

/// A topic that was created, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// Its id; [`TopicId::NONE`] before Kafka 2.8, and where nothing was created.
    pub id: TopicId,
    /// How many partitions; `None` where this client may not describe the topic's configuration.
    pub partitions: Option<i32>,
    /// How many replicas of each; `None` likewise.
    pub replication_factor: Option<i16>,
    /// Its configuration, defaults included; empty where this client may not see it.
    pub configs: Vec<ConfigEntry>,
}

impl CreatedTopic {
    fn read(answer: CreatableTopicResult) -> Self {
        let resource = ConfigResource::topic(answer.name.to_string());
        let entry = |config: crate::protocol::messages::create_topics_response::CreatableTopicConfigs| {
            ConfigEntry::new(
                &resource,
                config.name.to_string(),
                config.value.map(|value| value.to_string()),
                ConfigSource::from_wire(config.config_source),
                config.read_only,
                config.is_sensitive,
            )
        };
        Self {
            id: TopicId(answer.topic_id.into_bytes()),
            partitions: Some(answer.num_partitions).filter(|count| *count >= 0),
            replication_factor: Some(answer.replication_factor).filter(|count| *count >= 0),
            configs: answer.configs.unwrap_or_default().into_iter().map(entry).collect(),
        }
    }
}

pub(crate) struct CreateTopics {
    /// Only asks whether it would be done.
    pub(crate) validate_only: bool,
}

impl Operation for CreateTopics {
    type Key = String;
    type Item = NewTopic;
    type Output = CreatedTopic;
    const ATTEMPT: &'static str = "create topic";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(String, NewTopic)], timeout: Duration) -> Box<dyn Request> {
        let topics = items.iter().map(|(_, topic)| topic.to_wire());
        let request = CreateTopicsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(millis(timeout))
            .with_validate_only(self.validate_only);
        Box::new(Plain::new(request))
    }

    fn read(&self, _: &[(String, NewTopic)], response: Response) -> Result<Outcomes<String, CreatedTopic>> {
        let answer = response.decode::<CreateTopicsRequest>()?;
        let outcomes = answer.topics.into_iter().map(|mut topic| {
            let (name, code, message) =
                (topic.name.to_string(), topic.error_code, topic.error_message.take());
            (name, outcome(code, message, CreatedTopic::read(topic)))
        });
        Ok(outcomes.collect())
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
        let names: Vec<String> = items.iter().map(|(name, ())| name.clone()).collect();
        // From version 6 topics may be named by id too, in another field.
        Box::new(ByVersion::new(1..=6, move |version| {
            let request = DeleteTopicsRequest::default().with_timeout_ms(millis(timeout));
            let names = names.iter().map(|name| topic_name(name));
            if version < 6 {
                request.with_topic_names(names.collect())
            } else {
                let topics = names.map(|name| DeleteTopicState::default().with_name(Some(name)));
                request.with_topics(topics.collect())
            }
        }))
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, ()>> {
        let answer = response.decode::<DeleteTopicsRequest>()?;
        let outcomes = answer.responses.into_iter().map(|topic| {
            let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
            (name, outcome(topic.error_code, topic.error_message, ()))
        });
        Ok(outcomes.collect())
    }
}

/// Deletes topics by id (KIP-516).
pub(crate) struct DeleteTopicIds;

impl Operation for DeleteTopicIds {
    type Key = TopicId;
    type Item = ();
    type Output = ();
    const ATTEMPT: &'static str = "delete the topic with id";

    fn target(&self, _: &TopicId, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(TopicId, ())], timeout: Duration) -> Box<dyn Request> {
        let topics = items.iter().map(|(id, ())| {
            DeleteTopicState::default().with_name(None).with_topic_id(uuid::Uuid::from_bytes(id.0))
        });
        let request = DeleteTopicsRequest::default().with_topics(topics.collect());
        Box::new(Plain::in_versions(request.with_timeout_ms(millis(timeout)), 6..=6))
    }

    fn read(&self, _: &[(TopicId, ())], response: Response) -> Result<Outcomes<TopicId, ()>> {
        let answer = response.decode::<DeleteTopicsRequest>()?;
        let outcomes = answer.responses.into_iter().map(|topic| {
            (TopicId(topic.topic_id.into_bytes()), outcome(topic.error_code, topic.error_message, ()))
        });
        Ok(outcomes.collect())
    }
}

/// To how many partitions a topic is to grow.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewPartitions {
    /// How many there shall be in all.
    pub total: i32,
    /// For each partition that is added, in order: who has its replicas, the preferred leader first. Empty for
    /// the brokers' choice.
    pub assignments: Vec<Vec<BrokerId>>,
}

impl NewPartitions {
    /// So many in all; the brokers choose where the new ones are.
    pub fn up_to(total: i32) -> Self {
        Self { total, assignments: Vec::new() }
    }

    /// The next of the partitions that are added has its replicas on these brokers.
    #[must_use]
    pub fn assignment(mut self, brokers: impl Into<Vec<BrokerId>>) -> Self {
        self.assignments.push(brokers.into());
        self
    }
}

impl From<i32> for NewPartitions {
    fn from(total: i32) -> Self {
        Self::up_to(total)
    }
}

pub(crate) struct CreatePartitions {
    /// Only asks whether it would be done.
    pub(crate) validate_only: bool,
}

impl Operation for CreatePartitions {
    type Key = String;
    type Item = NewPartitions;
    type Output = ();
    const ATTEMPT: &'static str = "add partitions to topic";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(String, NewPartitions)], timeout: Duration) -> Box<dyn Request> {
        let topics = items.iter().map(|(name, new)| {
            let assignments = new
                .assignments
                .iter()
                .map(|brokers| CreatePartitionsAssignment::default().with_broker_ids(broker_ids(brokers)));
            let assignments = (!new.assignments.is_empty()).then(|| assignments.collect());
            CreatePartitionsTopic::default()
                .with_name(topic_name(name))
                .with_count(new.total)
                .with_assignments(assignments)
        });
        let request = CreatePartitionsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(millis(timeout))
            .with_validate_only(self.validate_only);
        Box::new(Plain::new(request))
    }

    fn read(&self, _: &[(String, NewPartitions)], response: Response) -> Result<Outcomes<String, ()>> {
        let answer = response.decode::<CreatePartitionsRequest>()?;
        let outcomes = answer.results.into_iter();
        Ok(outcomes
            .map(|topic| (topic.name.to_string(), outcome(topic.error_code, topic.error_message, ())))
            .collect())
    }
}
