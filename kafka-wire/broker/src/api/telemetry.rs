//! GetTelemetrySubscriptions 0 and PushTelemetry 0 (KIP-714), where [`Options::telemetry`](crate::Options) says so.
//!
//! As in Kafka, clients are asked for what is set on resources of the type `client-metrics`. What comes is kept; it may
//! come as often as it likes, and uncompressed only. Selectors by `client_source_port` match nobody.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::protocol::messages::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, PushTelemetryRequest,
    PushTelemetryResponse,
};
use kafka_wire::{ErrorCode, TopicId, Uuid};
use regex::Regex;

use super::{Answer, Context, text, uuid_of};
use crate::cluster::{Cluster, PushedMetrics};
use crate::config_table::Table;
use crate::setting::ConfigOwner;

/// `telemetry.max.bytes`.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// How often clients are asked that are to tell nothing.
const INTERVAL_MS: i32 = 300_000;
/// The prefix by which all figures are wanted.
const ALL: &str = "*";

/// What one client is to tell.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// Prefixes of names.
    metrics: BTreeSet<String>,
    interval_ms: i32,
}

impl Wanted {
    /// Another one whenever something else is wanted.
    fn id(&self) -> i32 {
        let names: Vec<&str> = self.metrics.iter().map(String::as_str).collect();
        crc32c::crc32c(format!("{} {}", self.interval_ms, names.join(",")).as_bytes()) as i32
    }

    fn of(cluster: &Cluster, context: &Context, instance: Uuid) -> Self {
        let mut wanted = Self { metrics: BTreeSet::new(), interval_ms: i32::MAX };
        let (software, version) = cluster.software_of(context.connection);
        let instance = instance.to_string();
        let client = BTreeMap::from([
            ("client_id", context.client_id.as_deref().unwrap_or_default()),
            ("client_instance_id", &instance),
            ("client_software_name", software),
            ("client_software_version", version),
            ("client_source_address", &context.host),
        ]);
        for (owner, entries) in &cluster.configs {
            let ConfigOwner::ClientMetrics(_) = owner else { continue };
            let entry = |name: &str| match entries.get(name) {
                Some(value) => value.as_str(),
                None => Table::CLIENT_METRICS.find(name).map_or("", |known| known.default),
            };
            let mut selectors = list(entry("match"));
            if !selectors.all(|selector| is_match(selector, &client)) {
                continue;
            }
            wanted.metrics.extend(list(entry("metrics")).map(str::to_owned));
            wanted.interval_ms = wanted.interval_ms.min(entry("interval.ms").parse().unwrap_or(INTERVAL_MS));
        }
        if wanted.metrics.contains(ALL) {
            // As clients are told it.
            wanted.metrics = BTreeSet::from([String::new()]);
        }
        if wanted.metrics.is_empty() {
            wanted.interval_ms = INTERVAL_MS;
        }
        wanted
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Whether a selector such as `client_id=orders-.*` is of this client.
fn is_match(selector: &str, client: &BTreeMap<&str, &str>) -> bool {
    let Some((name, pattern)) = selector.split_once('=') else { return false };
    let pattern = Regex::new(&format!("^(?:{})$", pattern.trim()));
    client.get(name.trim()).is_some_and(|value| pattern.is_ok_and(|pattern| pattern.is_match(value)))
}

pub(super) fn subscriptions(
    cluster: &mut Cluster,
    context: &Context,
    request: GetTelemetrySubscriptionsRequest,
) -> Answer {
    let instance = match Uuid(request.client_instance_id.into_bytes()) {
        id if id.is_zero() => Uuid(cluster.unique_bytes()),
        id => id,
    };
    let wanted = Wanted::of(cluster, context, instance);
    let code = context.injected_for_request().map_or(0, ErrorCode::code);
    let answer = GetTelemetrySubscriptionsResponse::default()
        .with_error_code(code)
        .with_client_instance_id(uuid_of(TopicId(instance.0)))
        .with_subscription_id(wanted.id())
        .with_push_interval_ms(wanted.interval_ms)
        .with_telemetry_max_bytes(PAYLOAD_BYTES_MAX as i32)
        .with_delta_temporality(true)
        .with_requested_metrics(wanted.metrics.into_iter().map(text).collect());
    context.answer(&answer)
}

pub(super) fn push(cluster: &mut Cluster, context: &Context, request: PushTelemetryRequest) -> Answer {
    let code = check(cluster, context, &request).err().map_or(0, ErrorCode::code);
    if code == 0 {
        cluster.keep_metrics(PushedMetrics {
            client_id: context.client_id.clone().unwrap_or_default(),
            client_instance_id: Uuid(request.client_instance_id.into_bytes()),
            is_last: request.terminating,
            payload: request.metrics,
        });
    }
    context.answer(&PushTelemetryResponse::default().with_error_code(code))
}

fn check(cluster: &Cluster, context: &Context, request: &PushTelemetryRequest) -> Result<(), ErrorCode> {
    if let Some(code) = context.injected_for_request() {
        return Err(code);
    }
    let instance = Uuid(request.client_instance_id.into_bytes());
    let has_ended = |pushed: &PushedMetrics| pushed.is_last && pushed.client_instance_id == instance;
    if instance.is_zero() || cluster.metrics().any(has_ended) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    if request.subscription_id != Wanted::of(cluster, context, instance).id() {
        return Err(ErrorCode::UNKNOWN_SUBSCRIPTION_ID);
    }
    if request.compression_type != 0 {
        return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    }
    if request.metrics.len() > PAYLOAD_BYTES_MAX {
        return Err(ErrorCode::TELEMETRY_TOO_LARGE);
    }
    Ok(())
}
