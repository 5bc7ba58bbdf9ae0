//! Configurations of topics.

use std::time::Duration;

use super::topics::{outcome, text};
use super::{Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::{ErrorCode, Result};
use crate::protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use crate::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use crate::protocol::request::{Plain, Request, Response};

/// `ConfigResource.Type.TOPIC`.
const TOPIC: i8 = 2;
/// `ConfigSource.DYNAMIC_TOPIC_CONFIG`.
const SET_ON_TOPIC: i8 = 1;

/// One configuration of a topic.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// Its name, such as `retention.ms`.
    pub name: String,
    /// Its value; `None` where the broker does not tell it.
    pub value: Option<String>,
    /// Whether it was set on the topic itself, and does not come from the broker.
    pub is_set: bool,
    /// Whether it cannot be changed.
    pub is_read_only: bool,
    /// Whether its value is a secret.
    pub is_sensitive: bool,
}

impl std::fmt::Debug for ConfigEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value =
            if self.is_sensitive { "[hidden]" } else { self.value.as_deref().unwrap_or("[not told]") };
        write!(f, "{}={value}", self.name)
    }
}

/// A change of one configuration (KIP-339).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigChange {
    /// Sets it.
    Set {
        /// Which.
        name: String,
        /// To what.
        value: String,
    },
    /// Gives it the brokers' default back.
    Delete {
        /// Which.
        name: String,
    },
    /// Adds to a list.
    Append {
        /// Which.
        name: String,
        /// What.
        value: String,
    },
    /// Takes from a list.
    Subtract {
        /// Which.
        name: String,
        /// What.
        value: String,
    },
}

impl ConfigChange {
    fn to_wire(&self) -> AlterableConfig {
        let (name, operation, value) = match self {
            Self::Set { name, value } => (name, 0, Some(value)),
            Self::Delete { name } => (name, 1, None),
            Self::Append { name, value } => (name, 2, Some(value)),
            Self::Subtract { name, value } => (name, 3, Some(value)),
        };
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(value.map(|value| text(value)))
    }
}

pub(crate) struct DescribeConfigs;

impl Operation for DescribeConfigs {
    type Key = String;
    type Item = ();
    type Output = Vec<ConfigEntry>;
    const ATTEMPT: &'static str = "describe the configuration of topic";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        let resources = items.iter().map(|(topic, ())| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(topic))
                .with_configuration_keys(None)
        });
        Box::new(Plain::new(DescribeConfigsRequest::default().with_resources(resources.collect())))
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, Self::Output>> {
        let answer = response.decode::<DescribeConfigsRequest>()?;
        let outcomes = answer.results.into_iter().map(|topic| {
            let entries = topic.configs.into_iter().map(|config| ConfigEntry {
                name: config.name.to_string(),
                value: config.value.map(|value| value.to_string()),
                is_set: config.config_source == SET_ON_TOPIC,
                is_read_only: config.read_only,
                is_sensitive: config.is_sensitive,
            });
            let outcome = outcome(topic.error_code, topic.error_message, entries.collect());
            (topic.resource_name.to_string(), outcome)
        });
        Ok(outcomes.collect())
    }

    fn is_passing(code: ErrorCode) -> bool {
        code.is_retriable() && code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    }
}

pub(crate) struct AlterConfigs;

impl Operation for AlterConfigs {
    type Key = String;
    type Item = Vec<ConfigChange>;
    type Output = ();
    const ATTEMPT: &'static str = "change the configuration of topic";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(String, Vec<ConfigChange>)], _: Duration) -> Box<dyn Request> {
        let resources = items.iter().map(|(topic, changes)| {
            AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(topic))
                .with_configs(changes.iter().map(ConfigChange::to_wire).collect())
        });
        Box::new(Plain::new(IncrementalAlterConfigsRequest::default().with_resources(resources.collect())))
    }

    fn read(&self, _: &[(String, Vec<ConfigChange>)], response: Response) -> Result<Outcomes<String, ()>> {
        let answer = response.decode::<IncrementalAlterConfigsRequest>()?;
        let outcomes = answer.responses.into_iter();
        Ok(outcomes
            .map(|topic| {
                (topic.resource_name.to_string(), outcome(topic.error_code, topic.error_message, ()))
            })
            .collect())
    }

    fn is_passing(code: ErrorCode) -> bool {
        code.is_retriable() && code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    }
}
