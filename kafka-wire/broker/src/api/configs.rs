//! DescribeConfigs 1–4, AlterConfigs 0–2, IncrementalAlterConfigs 0–1, ListConfigResources 0–1.
//!
//! Topics, nodes, groups and client metrics have a configuration (see [`crate::config_table`]); loggers have
//! none. Beside what can be set, nodes describe a few values that they were started with.

use std::collections::BTreeMap;

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::alter_configs_response::AlterConfigsResourceResponse as Replaced;
use kafka_wire::protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_wire::protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_wire::protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire::protocol::messages::list_config_resources_response::ConfigResource;
use kafka_wire::protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListConfigResourcesRequest,
    ListConfigResourcesResponse,
};

use super::{Answer, Context, text};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::Cluster;
use crate::config_table::{Kind, Known, Table};
use crate::error::{Failure, code_of, fail};
use crate::journal::Entry as Fact;
use crate::setting::{ConfigOwner, Setting};
use crate::topic_config::{self, TopicConfig};

/// Where a value comes from, as `DescribeConfigs` tells it.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_BROKER: i8 = 2;
const SOURCE_ALL_BROKERS: i8 = 3;
const SOURCE_STATIC: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;
const SOURCE_CLIENT_METRICS: i8 = 7;
const SOURCE_GROUP: i8 = 8;

type Entries = BTreeMap<String, String>;

/// A resource that has a configuration.
#[derive(Clone, Debug)]
enum Resource {
    Topic(String),
    /// A node, or all of them.
    Broker(Option<i32>),
    ClientMetrics(String),
    Group(String),
}

impl Resource {
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    const CLIENT_METRICS: i8 = 16;
    const GROUP: i8 = 32;

    /// The resource that a request names, if it is there.
    fn find(cluster: &Cluster, resource_type: i8, name: &str) -> Result<Self, Failure> {
        match resource_type {
            Self::TOPIC if cluster.topics.get(name).is_none() => {
                crate::topics::check_name(name)?;
                Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into())
            }
            Self::TOPIC => Ok(Self::Topic(name.to_owned())),
            Self::BROKER if name.is_empty() => Ok(Self::Broker(None)),
            Self::BROKER => match name.parse().ok().filter(|id| cluster.nodes.contains_key(id)) {
                Some(id) => Ok(Self::Broker(Some(id))),
                None => fail(ErrorCode::INVALID_REQUEST, format!("there is no node '{name}'")),
            },
            Self::CLIENT_METRICS | Self::GROUP if name.is_empty() => {
                fail(ErrorCode::INVALID_REQUEST, "a group or client metrics resource needs a name")
            }
            Self::CLIENT_METRICS => Ok(Self::ClientMetrics(name.to_owned())),
            Self::GROUP => Ok(Self::Group(name.to_owned())),
            other => {
                fail(ErrorCode::INVALID_REQUEST, format!("resource type {other} has no configuration here"))
            }
        }
    }

    const fn table(&self) -> Table {
        match self {
            Self::Topic(_) => Table::TOPIC,
            Self::Broker(_) => Table::BROKER,
            Self::ClientMetrics(_) => Table::CLIENT_METRICS,
            Self::Group(_) => Table::GROUP,
        }
    }

    /// The source of what is set on it.
    const fn source(&self) -> i8 {
        match self {
            Self::Topic(_) => SOURCE_TOPIC,
            Self::Broker(Some(_)) => SOURCE_BROKER,
            Self::Broker(None) => SOURCE_ALL_BROKERS,
            Self::ClientMetrics(_) => SOURCE_CLIENT_METRICS,
            Self::Group(_) => SOURCE_GROUP,
        }
    }

    /// Whose settings are kept beside the topics.
    fn owner(&self) -> Option<ConfigOwner> {
        match self {
            Self::Topic(_) => None,
            Self::Broker(id) => Some(ConfigOwner::Broker(*id)),
            Self::ClientMetrics(name) => Some(ConfigOwner::ClientMetrics(name.clone())),
            Self::Group(id) => Some(ConfigOwner::Group(id.clone())),
        }
    }

    /// What is set on it.
    fn entries<'a>(&self, cluster: &'a Cluster) -> Option<&'a Entries> {
        match self {
            Self::Topic(name) => cluster.topics.get(name).map(|topic| &topic.config.entries),
            _ => cluster.configs.get(&self.owner()?),
        }
    }
}

fn authorize(context: &Context, change: bool, resource_type: i8, name: &str) -> Result<(), Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    let operation = if change { Operation::AlterConfigs } else { Operation::DescribeConfigs };
    match resource_type {
        Resource::TOPIC => context.authorize(operation, ResourceType::Topic, name)?,
        Resource::GROUP => context.authorize(operation, ResourceType::Group, name)?,
        _ => context.authorize_cluster(operation)?,
    }
    Ok(())
}

/// One entry of a configuration, with its value and where that comes from.
pub(super) struct Entry<'a> {
    pub(super) known: &'static Known,
    pub(super) value: &'a str,
    pub(super) source: i8,
}

/// All of a topic's configuration.
pub(super) fn all(config: &TopicConfig) -> impl Iterator<Item = Entry<'_>> {
    topic_config::KNOWN.iter().map(|known| {
        let source = if config.entries.contains_key(known.name) { SOURCE_TOPIC } else { SOURCE_DEFAULT };
        Entry { known, value: config.value(known.name), source }
    })
}

pub(super) fn describe(cluster: &mut Cluster, context: &Context, request: DescribeConfigsRequest) -> Answer {
    let mut answer = DescribeConfigsResponse::default();
    for resource in request.resources {
        let result = describe_one(cluster, context, &resource, request.include_synonyms);
        let described = DescribeConfigsResult::default()
            .with_error_code(code_of(&result))
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_error_message(None);
        answer.results.push(match result {
            Ok(configs) => described.with_configs(configs),
            Err(failure) => described.with_error_message(Some(text(failure.text))),
        });
    }
    context.answer(&answer)
}

fn describe_one(
    cluster: &Cluster,
    context: &Context,
    asked: &DescribeConfigsResource,
    synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Failure> {
    authorize(context, false, asked.resource_type, &asked.resource_name)?;
    let resource = Resource::find(cluster, asked.resource_type, &asked.resource_name)?;
    let wanted = |name: &str| {
        let keys = asked.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
    };
    let for_all = match resource {
        Resource::Broker(Some(_)) => Resource::Broker(None).entries(cluster),
        _ => None,
    };
    // Nearest first: set on the resource, set on all nodes, the default.
    let values = |known: &'static Known| {
        let own = resource.entries(cluster).and_then(|entries| entries.get(known.name));
        let common = for_all.and_then(|entries| entries.get(known.name));
        let mut values = Vec::new();
        values.extend(own.map(|value| (value.as_str(), resource.source())));
        values.extend(common.map(|value| (value.as_str(), SOURCE_ALL_BROKERS)));
        values.push((known.default, SOURCE_DEFAULT));
        values
    };
    let version = context.version;
    let known = resource.table().entries.iter().filter(|known| wanted(known.name));
    let mut described: Vec<_> = known
        .map(|known| (known, values(known)))
        // All nodes together have only what is set on them.
        .filter(|(_, values)| !matches!(resource, Resource::Broker(None)) || values.len() > 1)
        .map(|(known, values)| entry(version, known.name, known.kind, &values, synonyms))
        .collect();
    if let Resource::Broker(Some(id)) = resource {
        let fixed = started_with(cluster, id).into_iter().filter(|(name, _, _)| wanted(name));
        described.extend(fixed.map(|(name, value, kind)| {
            entry(version, name, kind, &[(&value, SOURCE_STATIC)], synonyms).with_read_only(true)
        }));
    }
    Ok(described)
}

/// What a node cannot change while it runs.
fn started_with(cluster: &Cluster, node: i32) -> Vec<(&'static str, String, Kind)> {
    let options = &cluster.options;
    let folder = options.data.as_ref().map_or_else(String::new, |folder| folder.display().to_string());
    let super_users = options.authorizer.as_ref().map_or_else(String::new, |it| it.super_users.join(";"));
    vec![
        ("auto.create.topics.enable", options.auto_create_topics.to_string(), Kind::Boolean),
        ("default.replication.factor", "1".to_owned(), Kind::Int),
        ("log.dirs", folder, Kind::Text),
        ("node.id", node.to_string(), Kind::Int),
        ("num.partitions", options.default_partitions.to_string(), Kind::Int),
        ("socket.request.max.bytes", options.request_bytes_max.to_string(), Kind::Int),
        ("super.users", super_users, Kind::Text),
        ("transaction.max.timeout.ms", options.transaction_max_timeout.as_millis().to_string(), Kind::Int),
    ]
}

fn entry(
    version: i16,
    name: &'static str,
    kind: Kind,
    values: &[(&str, i8)],
    synonyms: bool,
) -> DescribeConfigsResourceResult {
    let (value, source) = values[0];
    let mut described = DescribeConfigsResourceResult::default()
        .with_name(text(name))
        .with_value(Some(text(value)))
        .with_config_source(source)
        .with_documentation(None);
    if version >= 3 {
        described.config_type = kind.to_wire();
    }
    if synonyms {
        let synonym = |&(value, source): &(&str, i8)| {
            DescribeConfigsSynonym::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
                .with_source(source)
        };
        described.synonyms = values.iter().map(synonym).collect();
    }
    described
}

pub(super) fn incremental_alter(
    cluster: &mut Cluster,
    context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> Answer {
    let mut answer = IncrementalAlterConfigsResponse::default();
    for asked in request.resources {
        let (kind, name) = (asked.resource_type, asked.resource_name.as_str());
        let result = alter(cluster, context, (kind, name), request.validate_only, |table, mut entries| {
            for change in &asked.configs {
                apply(table, &mut entries, change.config_operation, &change.name, change.value.as_deref())?;
            }
            Ok(entries)
        });
        let described = AlterConfigsResourceResponse::default()
            .with_error_code(code_of(&result))
            .with_error_message(result.err().map(|failure| text(failure.text)))
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name);
        answer.responses.push(described);
    }
    context.answer(&answer)
}

/// All entries of a resource are replaced by the request's.
pub(super) fn replace(cluster: &mut Cluster, context: &Context, request: AlterConfigsRequest) -> Answer {
    let mut answer = AlterConfigsResponse::default();
    for asked in request.resources {
        let (kind, name) = (asked.resource_type, asked.resource_name.as_str());
        let result = alter(cluster, context, (kind, name), request.validate_only, |table, _| {
            let mut entries = Entries::new();
            for entry in &asked.configs {
                apply(table, &mut entries, 0, &entry.name, entry.value.as_deref())?;
            }
            Ok(entries)
        });
        let described = Replaced::default()
            .with_error_code(code_of(&result))
            .with_error_message(result.err().map(|failure| text(failure.text)))
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name);
        answer.responses.push(described);
    }
    context.answer(&answer)
}

/// Changes what is set on a resource: all of it, or nothing when `change` refuses a part.
fn alter(
    cluster: &mut Cluster,
    context: &Context,
    (resource_type, name): (i8, &str),
    validate_only: bool,
    change: impl FnOnce(Table, Entries) -> Result<Entries, Failure>,
) -> Result<(), Failure> {
    authorize(context, true, resource_type, name)?;
    let resource = Resource::find(cluster, resource_type, name)?;
    let entries = resource.entries(cluster).cloned().unwrap_or_default();
    let entries = change(resource.table(), entries)?;
    if validate_only {
        return Ok(());
    }
    match resource.owner() {
        Some(owner) => cluster.set(Setting::Configs { owner, entries }),
        None => cluster.set_config(name, entries),
    }
    Ok(())
}

/// One change: 0 sets, 1 deletes, 2 appends to a list, 3 subtracts from one.
fn apply(
    table: Table,
    entries: &mut Entries,
    operation: i8,
    name: &str,
    value: Option<&str>,
) -> Result<(), Failure> {
    let known = table.expect(name)?;
    if operation == 1 {
        entries.remove(name);
        return Ok(());
    }
    let Some(value) = value else {
        return fail(ErrorCode::INVALID_CONFIG, format!("null value for {name}"));
    };
    if matches!(operation, 2 | 3) && known.kind != Kind::List {
        return fail(
            ErrorCode::INVALID_CONFIG,
            format!("{name} is not a list: it can only be set or deleted"),
        );
    }
    let current = entries.get(name).map_or(known.default, String::as_str);
    let current = current.split(',').filter(|item| !item.is_empty());
    let value = match operation {
        0 => value.to_owned(),
        2 => {
            let added = value.split(',').filter(|item| !current.clone().any(|known| known == *item));
            current.clone().chain(added).collect::<Vec<_>>().join(",")
        }
        3 => current.filter(|item| !value.split(',').any(|gone| gone == *item)).collect::<Vec<_>>().join(","),
        other => return fail(ErrorCode::INVALID_REQUEST, format!("unknown operation {other} on {name}")),
    };
    table.check(name, &value)?;
    entries.insert(name.to_owned(), value);
    Ok(())
}

pub(super) fn list(cluster: &mut Cluster, context: &Context, request: ListConfigResourcesRequest) -> Answer {
    let mut answer = ListConfigResourcesResponse::default();
    let refused = context
        .injected_for_request()
        .or_else(|| context.authorize_cluster(Operation::DescribeConfigs).err());
    if let Some(code) = refused {
        answer.error_code = code.code();
        return context.answer(&answer);
    }
    // Version 0 knows only client metrics.
    let wanted = |kind: i8| match context.version {
        0 => kind == Resource::CLIENT_METRICS,
        _ => request.resource_types.is_empty() || request.resource_types.contains(&kind),
    };
    let mut add = |kind: i8, name: String| {
        if wanted(kind) {
            answer
                .config_resources
                .push(ConfigResource::default().with_resource_name(text(name)).with_resource_type(kind));
        }
    };
    cluster.topics.iter().for_each(|topic| add(Resource::TOPIC, topic.name.to_string()));
    cluster.nodes.keys().for_each(|id| add(Resource::BROKER, id.to_string()));
    for owner in cluster.configs.keys() {
        match owner {
            ConfigOwner::Broker(_) => {}
            ConfigOwner::ClientMetrics(name) => add(Resource::CLIENT_METRICS, name.clone()),
            ConfigOwner::Group(id) => add(Resource::GROUP, id.clone()),
        }
    }
    context.answer(&answer)
}

impl Cluster {
    fn set_config(&mut self, name: &str, entries: Entries) {
        let configs = entries.clone().into_iter().collect();
        if let Some(topic) = self.topics.get_mut(name) {
            topic.config.entries = entries;
            self.record(Fact::Configs { name: name.to_owned(), configs });
        }
    }
}
