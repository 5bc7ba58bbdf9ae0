//! Configurations: of topics, brokers, their loggers, client metrics and groups.

use std::fmt;
use std::time::Duration;

use super::cluster::Whole;
use super::names::numbered;
use super::wire::{broker, one, outcome, refusal, text};
use super::{Key, Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::Result;
use crate::protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use crate::protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use crate::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use crate::protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use crate::protocol::request::{ByVersion, Plain, Request, Response};
use crate::types::BrokerId;

numbered! {
    /// What has a configuration of its own.
    ConfigResourceKind, "a kind of configuration" {
        /// A topic, by name.
        Topic = 2 "TOPIC",
        /// A broker, by node id; with no name the default of all brokers.
        Broker = 4 "BROKER",
        /// The log levels of a broker, by node id.
        BrokerLogger = 8 "BROKER_LOGGER",
        /// A subscription to metrics of clients, by name (KIP-714, from Kafka 3.7).
        ClientMetrics = 16 "CLIENT_METRICS",
        /// A group, by id (KIP-848, from Kafka 4.0).
        Group = 32 "GROUP",
    }
}

numbered! {
    /// Where a configuration's value comes from.
    ConfigSource, "a source of configuration" {
        /// It was set on the topic.
        Topic = 1 "DYNAMIC_TOPIC_CONFIG",
        /// It was set on this broker while it ran.
        Broker = 2 "DYNAMIC_BROKER_CONFIG",
        /// It was set for all brokers while they ran.
        DefaultBroker = 3 "DYNAMIC_DEFAULT_BROKER_CONFIG",
        /// It stands in the broker's `server.properties`.
        StaticBroker = 4 "STATIC_BROKER_CONFIG",
        /// Nobody has set it.
        Default = 5 "DEFAULT_CONFIG",
        /// The log level was set while the broker ran.
        BrokerLogger = 6 "DYNAMIC_BROKER_LOGGER_CONFIG",
        /// It was set on the subscription to metrics.
        ClientMetrics = 7 "DYNAMIC_CLIENT_METRICS_CONFIG",
        /// It was set on the group.
        Group = 8 "DYNAMIC_GROUP_CONFIG",
    }
}

numbered! {
    /// The type of a configuration's value.
    ConfigType, "a type of configuration" {
        /// `true` or `false`.
        Boolean = 1 "BOOLEAN",
        /// Text.
        String = 2 "STRING",
        /// 32 bits.
        Int = 3 "INT",
        /// 16 bits.
        Short = 4 "SHORT",
        /// 64 bits.
        Long = 5 "LONG",
        /// A number with a fraction.
        Double = 6 "DOUBLE",
        /// Words with commas between them: `Append` and `Subtract` work on it.
        List = 7 "LIST",
        /// The name of a Java class.
        Class = 8 "CLASS",
        /// A secret.
        Password = 9 "PASSWORD",
    }
}

/// Something that has a configuration of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigResource {
    /// What it is.
    pub kind: ConfigResourceKind,
    /// Which; see [`ConfigResourceKind`].
    pub name: String,
}

impl ConfigResource {
    /// This thing of that kind.
    pub fn new(kind: ConfigResourceKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// A topic.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(ConfigResourceKind::Topic, name)
    }

    /// A broker.
    pub fn broker(id: BrokerId) -> Self {
        Self::new(ConfigResourceKind::Broker, id.to_string())
    }

    /// What holds for all brokers that have nothing of their own.
    pub fn all_brokers() -> Self {
        Self::new(ConfigResourceKind::Broker, "")
    }

    /// A group.
    pub fn group(id: impl Into<String>) -> Self {
        Self::new(ConfigResourceKind::Group, id)
    }

    /// The broker that alone can answer for it.
    fn owner(&self) -> Option<BrokerId> {
        match self.kind {
            ConfigResourceKind::Broker | ConfigResourceKind::BrokerLogger => {
                self.name.parse().ok().map(BrokerId)
            }
            _ => None,
        }
    }

    fn from_wire(kind: i8, name: &str) -> Self {
        Self::new(ConfigResourceKind::from_wire(kind), name)
    }
}

impl Key for ConfigResource {}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ConfigResourceKind::Broker if self.name.is_empty() => return f.write_str("all brokers"),
            ConfigResourceKind::Topic => "topic",
            ConfigResourceKind::Broker => "broker",
            ConfigResourceKind::BrokerLogger => "the loggers of broker",
            ConfigResourceKind::ClientMetrics => "client metrics",
            ConfigResourceKind::Group => "group",
            ConfigResourceKind::Unknown(_) => "resource",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// One configuration.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// Its name, such as `retention.ms`.
    pub name: String,
    /// Its value; `None` where the broker does not tell it.
    pub value: Option<String>,
    /// Whether it was set on the resource itself, and is no default of anything.
    pub is_set: bool,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed.
    pub is_read_only: bool,
    /// Whether its value is a secret.
    pub is_sensitive: bool,
    /// The type of its value; `Unknown(0)` before Kafka 2.6.
    pub value_type: ConfigType,
    /// All values that were given, the one that holds first, then what would hold without it.
    pub synonyms: Vec<ConfigSynonym>,
    /// What it is for, where that was asked for (from Kafka 2.6).
    pub documentation: Option<String>,
}

/// A value that a configuration has, or would have if those before it were deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigSynonym {
    /// Its name there: `log.retention.ms` of a broker is `retention.ms` of a topic.
    pub name: String,
    /// Its value; `None` where the broker does not tell it.
    pub value: Option<String>,
    /// Who gave it.
    pub source: ConfigSource,
}

impl ConfigEntry {
    pub(super) fn new(
        resource: &ConfigResource,
        name: String,
        value: Option<String>,
        source: ConfigSource,
        is_read_only: bool,
        is_sensitive: bool,
    ) -> Self {
        let own = match resource.kind {
            ConfigResourceKind::Topic => ConfigSource::Topic,
            ConfigResourceKind::Broker if resource.name.is_empty() => ConfigSource::DefaultBroker,
            ConfigResourceKind::Broker => ConfigSource::Broker,
            ConfigResourceKind::BrokerLogger => ConfigSource::BrokerLogger,
            ConfigResourceKind::ClientMetrics => ConfigSource::ClientMetrics,
            ConfigResourceKind::Group => ConfigSource::Group,
            ConfigResourceKind::Unknown(kind) => ConfigSource::Unknown(kind),
        };
        Self {
            name,
            value,
            is_set: source == own,
            source,
            is_read_only,
            is_sensitive,
            value_type: ConfigType::Unknown(0),
            synonyms: Vec::new(),
            documentation: None,
        }
    }

    fn read(resource: &ConfigResource, config: DescribeConfigsResourceResult) -> Self {
        let source = ConfigSource::from_wire(config.config_source);
        let owned = |value: crate::protocol::messages::StrBytes| value.to_string();
        let (name, value) = (config.name.to_string(), config.value.map(owned));
        let synonyms = config.synonyms.into_iter().map(|synonym| ConfigSynonym {
            name: synonym.name.to_string(),
            value: synonym.value.map(owned),
            source: ConfigSource::from_wire(synonym.source),
        });
        Self {
            value_type: ConfigType::from_wire(config.config_type),
            synonyms: synonyms.collect(),
            documentation: config.documentation.map(owned),
            ..Self::new(resource, name, value, source, config.read_only, config.is_sensitive)
        }
    }
}

impl fmt::Debug for ConfigEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// Gives it the default back.
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
    /// Sets `name` to `value`.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Set { name: name.into(), value: value.into() }
    }

    /// Gives `name` the default back.
    pub fn delete(name: impl Into<String>) -> Self {
        Self::Delete { name: name.into() }
    }

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

pub(crate) struct DescribeConfigs {
    /// Also what each is for.
    pub(crate) documentation: bool,
}

impl Operation for DescribeConfigs {
    type Key = ConfigResource;
    type Item = ();
    type Output = Vec<ConfigEntry>;
    const ATTEMPT: &'static str = "describe the configuration of";

    fn target(&self, key: &ConfigResource, _: &Cluster) -> Result<Target, Unknown> {
        Ok(key.owner().map_or(Target::Any, broker))
    }

    fn request(&self, items: &[(ConfigResource, ())], _: Duration) -> Box<dyn Request> {
        let resources = items.iter().map(|(resource, ())| {
            DescribeConfigsResource::default()
                .with_resource_type(resource.kind.to_wire())
                .with_resource_name(text(&resource.name))
                .with_configuration_keys(None)
        });
        let (resources, documentation) = (resources.collect::<Vec<_>>(), self.documentation);
        Box::new(ByVersion::new(1..=4, move |version| {
            DescribeConfigsRequest::default()
                .with_resources(resources.clone())
                .with_include_synonyms(true)
                .with_include_documentation(documentation && version >= 3)
        }))
    }

    fn read(
        &self,
        _: &[(ConfigResource, ())],
        response: Response,
    ) -> Result<Outcomes<ConfigResource, Self::Output>> {
        let answer = response.decode::<DescribeConfigsRequest>()?;
        let outcomes = answer.results.into_iter().map(|described| {
            let resource = ConfigResource::from_wire(described.resource_type, &described.resource_name);
            let entries = described.configs.into_iter().map(|config| ConfigEntry::read(&resource, config));
            let outcome = outcome(described.error_code, described.error_message, entries.collect());
            (resource, outcome)
        });
        Ok(outcomes.collect())
    }
}

pub(crate) struct AlterConfigs {
    /// Only asks whether it would be done.
    pub(crate) validate_only: bool,
}

impl Operation for AlterConfigs {
    type Key = ConfigResource;
    type Item = Vec<ConfigChange>;
    type Output = ();
    const ATTEMPT: &'static str = "change the configuration of";

    fn target(&self, key: &ConfigResource, _: &Cluster) -> Result<Target, Unknown> {
        Ok(key.owner().map_or(Target::Controller, broker))
    }

    fn request(&self, items: &[(ConfigResource, Vec<ConfigChange>)], _: Duration) -> Box<dyn Request> {
        let resources = items.iter().map(|(resource, changes)| {
            AlterConfigsResource::default()
                .with_resource_type(resource.kind.to_wire())
                .with_resource_name(text(&resource.name))
                .with_configs(changes.iter().map(ConfigChange::to_wire).collect())
        });
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(resources.collect())
            .with_validate_only(self.validate_only);
        Box::new(Plain::new(request))
    }

    fn read(
        &self,
        _: &[(ConfigResource, Vec<ConfigChange>)],
        response: Response,
    ) -> Result<Outcomes<ConfigResource, ()>> {
        let answer = response.decode::<IncrementalAlterConfigsRequest>()?;
        let outcomes = answer.responses.into_iter().map(|altered| {
            let resource = ConfigResource::from_wire(altered.resource_type, &altered.resource_name);
            (resource, outcome(altered.error_code, altered.error_message, ()))
        });
        Ok(outcomes.collect())
    }
}

/// The things that have a configuration of their own (KIP-1142).
pub(crate) struct ListConfigResources {
    /// Of these kinds; empty for all.
    pub(crate) kinds: Vec<ConfigResourceKind>,
}

impl Operation for ListConfigResources {
    type Key = Whole;
    type Item = ();
    type Output = Vec<ConfigResource>;
    const ATTEMPT: &'static str = "list what has a configuration in";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        let kinds = self.kinds.iter().map(|kind| kind.to_wire()).collect();
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds);
        // Version 0 (Kafka 3.7 to 4.0) knows client metrics only.
        let from = if self.kinds == [ConfigResourceKind::ClientMetrics] { 0 } else { 1 };
        Box::new(ByVersion::new(from..=1, move |version| match version {
            0 => ListConfigResourcesRequest::default(),
            _ => request.clone(),
        }))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let version = response.version;
        let answer = response.decode::<ListConfigResourcesRequest>()?;
        let resources = answer.config_resources.into_iter().map(|resource| match version {
            0 => ConfigResource::new(ConfigResourceKind::ClientMetrics, resource.resource_name.as_str()),
            _ => ConfigResource::from_wire(resource.resource_type, &resource.resource_name),
        });
        let resources = resources.collect();
        Ok(one(items, refusal(answer.error_code, None).map_or(Ok(resources), Err)))
    }
}
