//! DescribeConfigs 1–4, IncrementalAlterConfigs 0–1.
//!
//! Topics have the configuration of [`crate::topic_config`]; nodes have a few values that tools ask for,
//! which cannot be altered.

use std::collections::BTreeMap;

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_wire::protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_wire::protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_wire::protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire::protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::{Answer, Context, text};
use crate::cluster::Cluster;
use crate::error::{Failure, code_of, fail};
use crate::topic_config::{self, Kind, Known, TopicConfig};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Where a value comes from, as `DescribeConfigs` tells it.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// One entry of a topic's configuration, with its value and where that comes from.
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
    resource: &DescribeConfigsResource,
    synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    let wanted = |name: &str| {
        let keys = resource.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
    };
    let name = resource.resource_name.as_str();
    let version = context.version;
    match resource.resource_type {
        TOPIC => {
            let topic = cluster.topics.get(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
            let entries = all(&topic.config).filter(|entry| wanted(entry.known.name));
            Ok(entries
                .map(|it| entry(version, it.known.name, it.value, it.known.kind, it.source, synonyms))
                .collect())
        }
        BROKER => Ok(broker_configs(cluster)
            .into_iter()
            .filter(|(name, _, _)| wanted(name))
            .map(|(name, value, kind)| {
                let described = entry(version, name, &value, kind, SOURCE_STATIC, synonyms);
                described.with_read_only(true)
            })
            .collect()),
        other => fail(ErrorCode::INVALID_REQUEST, format!("resource type {other} has no configuration here")),
    }
}

fn broker_configs(cluster: &Cluster) -> Vec<(&'static str, String, Kind)> {
    let options = &cluster.options;
    vec![
        ("auto.create.topics.enable", options.auto_create_topics.to_string(), Kind::Boolean),
        ("default.replication.factor", "1".to_owned(), Kind::Int),
        ("num.partitions", options.default_partitions.to_string(), Kind::Int),
        ("transaction.max.timeout.ms", options.transaction_max_timeout.as_millis().to_string(), Kind::Int),
    ]
}

fn entry(
    version: i16,
    name: &'static str,
    value: &str,
    kind: Kind,
    source: i8,
    synonyms: bool,
) -> DescribeConfigsResourceResult {
    let mut described = DescribeConfigsResourceResult::default()
        .with_name(text(name))
        .with_value(Some(text(value)))
        .with_config_source(source)
        .with_documentation(None);
    if version >= 3 {
        described.config_type = kind.to_wire();
    }
    if synonyms {
        let synonym = DescribeConfigsSynonym::default().with_name(text(name)).with_value(Some(text(value)));
        described.synonyms = vec![synonym.with_source(source)];
    }
    described
}

pub(super) fn incremental_alter(
    cluster: &mut Cluster,
    context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> Answer {
    let mut answer = IncrementalAlterConfigsResponse::default();
    for resource in request.resources {
        let result = alter(cluster, context, &resource, request.validate_only);
        let described = AlterConfigsResourceResponse::default()
            .with_error_code(code_of(&result))
            .with_error_message(result.err().map(|failure| text(failure.text)))
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        answer.responses.push(described);
    }
    context.answer(&answer)
}

fn alter(
    cluster: &mut Cluster,
    context: &Context,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    if resource.resource_type != TOPIC {
        return fail(ErrorCode::INVALID_REQUEST, "only the configuration of topics can be altered here");
    }
    let name = resource.resource_name.as_str();
    let topic = cluster.topics.get(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let mut config = topic.config.clone();
    for change in &resource.configs {
        apply(&mut config, change.config_operation, &change.name, change.value.as_deref())?;
    }
    if !validate_only {
        cluster.set_config(name, config.entries);
    }
    Ok(())
}

/// One change: 0 sets, 1 deletes, 2 appends to a list, 3 subtracts from one.
fn apply(config: &mut TopicConfig, operation: i8, name: &str, value: Option<&str>) -> Result<(), Failure> {
    let Some(known) = topic_config::find(name) else {
        return fail(ErrorCode::INVALID_CONFIG, format!("unknown topic config name: {name}"));
    };
    if operation == 1 {
        config.entries.remove(name);
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
    let current = config.value(name).split(',').filter(|item| !item.is_empty());
    let value = match operation {
        0 => value.to_owned(),
        2 => {
            let added = value.split(',').filter(|item| !current.clone().any(|known| known == *item));
            current.clone().chain(added).collect::<Vec<_>>().join(",")
        }
        3 => current.filter(|item| !value.split(',').any(|gone| gone == *item)).collect::<Vec<_>>().join(","),
        other => return fail(ErrorCode::INVALID_REQUEST, format!("unknown operation {other} on {name}")),
    };
    topic_config::check(name, &value)?;
    config.entries.insert(name.to_owned(), value);
    Ok(())
}

impl Cluster {
    fn set_config(&mut self, name: &str, entries: BTreeMap<String, String>) {
        let configs = entries.clone().into_iter().collect();
        if let Some(topic) = self.topics.get_mut(name) {
            topic.config.entries = entries;
            self.record(crate::journal::Entry::Configs { name: name.to_owned(), configs });
        }
    }
}
