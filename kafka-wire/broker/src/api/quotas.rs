//! DescribeClientQuotas 0–1, AlterClientQuotas 0–1.
//!
//! All of them hold. A broker without threads of its own has no time to measure: for `request_percentage` each request
//! counts as one millisecond. A connection counts for `connection_creation_rate` with its first request; one too many
//! gets no answer and is closed.

use std::collections::BTreeMap;

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::alter_client_quotas_request::EntryData as Alteration;
use kafka_wire::protocol::messages::alter_client_quotas_response as altered;
use kafka_wire::protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_wire::protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_wire::protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
};

use super::{Answer, Context, text};
use crate::authorizer::Operation;
use crate::cluster::Cluster;
use crate::error::{Failure, code_of, fail};
use crate::quotas::{
    CLIENT_ID, CONNECTION_CREATION_RATE, CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, ENTITIES_MAX, Entity,
    IP, PRODUCER_BYTE_RATE, REQUEST_PERCENTAGE, USER,
};
use crate::setting::Setting;

/// How a filter's component matches: a name, the default, or anything that is specified.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

fn check(context: &Context, operation: Operation) -> Result<(), Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    Ok(context.authorize_cluster(operation)?)
}

/// Refuses a type of entity that quotas cannot be for, with the code that Kafka has for it here.
fn check_type(kind: &str, refusal: ErrorCode) -> Result<(), Failure> {
    if [USER, CLIENT_ID, IP].contains(&kind) {
        return Ok(());
    }
    fail(refusal, format!("Custom entity type '{kind}' not supported"))
}

pub(super) fn describe(
    cluster: &mut Cluster,
    context: &Context,
    request: DescribeClientQuotasRequest,
) -> Answer {
    let mut answer = DescribeClientQuotasResponse::default().with_error_message(None);
    let checked = check(context, Operation::DescribeConfigs).and_then(|()| check_filter(&request.components));
    if let Err(failure) = checked {
        answer.error_code = failure.code.code();
        answer.error_message = Some(text(failure.text));
        answer.entries = None;
        return context.answer(&answer);
    }
    let entries =
        cluster.quotas.iter().filter(|(entity, _)| matches(entity, &request)).map(|(entity, values)| {
            let parts = entity.iter().map(|(kind, name)| {
                EntityData::default()
                    .with_entity_type(text(&**kind))
                    .with_entity_name(name.as_deref().map(text))
            });
            let values = values
                .iter()
                .map(|(key, &value)| ValueData::default().with_key(text(&**key)).with_value(value));
            EntryData::default().with_entity(parts.collect()).with_values(values.collect())
        });
    answer.entries = Some(entries.collect());
    context.answer(&answer)
}

fn check_filter(components: &[ComponentData]) -> Result<(), Failure> {
    let mut seen = Vec::new();
    for component in components {
        let kind = component.entity_type.as_str();
        check_type(kind, ErrorCode::UNSUPPORTED_VERSION)?;
        if seen.contains(&kind) {
            return fail(ErrorCode::INVALID_REQUEST, format!("Entity type '{kind}' is named twice"));
        }
        seen.push(kind);
        let is_possible = match component.match_type {
            EXACT => component._match.is_some(),
            DEFAULT | SPECIFIED => component._match.is_none(),
            _ => false,
        };
        if !is_possible {
            return fail(
                ErrorCode::INVALID_REQUEST,
                format!("the filter of entity type '{kind}' is not possible"),
            );
        }
    }
    if seen.contains(&IP) && seen.len() > 1 {
        return fail(
            ErrorCode::INVALID_REQUEST,
            "Invalid entity filter component combination: ip stands alone",
        );
    }
    Ok(())
}

fn matches(entity: &Entity, request: &DescribeClientQuotasRequest) -> bool {
    let fits = |component: &ComponentData| match (
        entity.get(component.entity_type.as_str()),
        component.match_type,
    ) {
        (None, _) => false,
        (Some(name), EXACT) => name.as_deref() == component._match.as_deref(),
        (Some(name), DEFAULT) => name.is_none(),
        (Some(_), _) => true,
    };
    request.components.iter().all(fits) && (!request.strict || entity.len() == request.components.len())
}

pub(super) fn alter(cluster: &mut Cluster, context: &Context, request: AlterClientQuotasRequest) -> Answer {
    let mut answer = AlterClientQuotasResponse::default();
    for entry in &request.entries {
        let result = alter_one(cluster, context, entry, request.validate_only);
        let parts = entry.entity.iter().map(|part| {
            altered::EntityData::default()
                .with_entity_type(part.entity_type.clone())
                .with_entity_name(part.entity_name.clone())
        });
        answer.entries.push(
            altered::EntryData::default()
                .with_error_code(code_of(&result))
                .with_error_message(result.err().map(|failure| text(failure.text)))
                .with_entity(parts.collect()),
        );
    }
    context.answer(&answer)
}

fn alter_one(
    cluster: &mut Cluster,
    context: &Context,
    entry: &Alteration,
    validate_only: bool,
) -> Result<(), Failure> {
    check(context, Operation::AlterConfigs)?;
    let entity = read_entity(entry)?;
    let mut values: BTreeMap<String, f64> = cluster.quotas.get(&entity).cloned().unwrap_or_default();
    for change in &entry.ops {
        let key = change.key.as_str();
        check_key(&entity, key)?;
        if change.remove {
            values.remove(key);
        } else {
            check_value(key, change.value)?;
            values.insert(key.to_owned(), change.value);
        }
    }
    if !validate_only {
        if cluster.quotas.get(&entity).is_none() && cluster.quotas.len() >= ENTITIES_MAX {
            return fail(ErrorCode::INVALID_REQUEST, format!("there are quotas for {ENTITIES_MAX} entities"));
        }
        cluster.set(Setting::Quotas { entity, values });
    }
    Ok(())
}

fn read_entity(entry: &Alteration) -> Result<Entity, Failure> {
    let mut entity = Entity::new();
    for part in &entry.entity {
        let kind = part.entity_type.as_str();
        check_type(kind, ErrorCode::INVALID_REQUEST)?;
        let name = part.entity_name.as_ref().map(|name| name.to_string());
        if name.as_deref() == Some("") {
            return fail(ErrorCode::INVALID_REQUEST, format!("Empty {kind} not supported"));
        }
        if entity.insert(kind.to_owned(), name).is_some() {
            return fail(ErrorCode::INVALID_REQUEST, format!("Entity type '{kind}' is named twice"));
        }
    }
    if entity.is_empty() || (entity.contains_key(IP) && entity.len() > 1) {
        return fail(ErrorCode::INVALID_REQUEST, "Invalid quota entity combination");
    }
    Ok(entity)
}

fn check_key(entity: &Entity, key: &str) -> Result<(), Failure> {
    let known: &[&str] = if entity.contains_key(IP) {
        &[CONNECTION_CREATION_RATE]
    } else {
        &[CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, PRODUCER_BYTE_RATE, REQUEST_PERCENTAGE]
    };
    if known.contains(&key) {
        Ok(())
    } else {
        fail(ErrorCode::INVALID_REQUEST, format!("Invalid configuration key {key}"))
    }
}

fn check_value(key: &str, value: f64) -> Result<(), Failure> {
    let is_whole = value.fract() == 0.0;
    let needs_whole = [CONSUMER_BYTE_RATE, PRODUCER_BYTE_RATE, CONNECTION_CREATION_RATE].contains(&key);
    if value.is_finite() && value > 0.0 && (is_whole || !needs_whole) {
        return Ok(());
    }
    fail(ErrorCode::INVALID_REQUEST, format!("Configuration {key} cannot be {value}"))
}
