//! FindCoordinator 0–6, for groups (key type 0) and transactional ids (1). Share groups are not served.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::find_coordinator_response::Coordinator;
use kafka_wire::protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};

use super::{Answer, Context, text};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::Cluster;
use crate::error::{Failure, fail};

/// From here on a request asks for several keys.
const BATCHED_FROM: i16 = 4;

pub(super) fn find(cluster: &mut Cluster, context: &Context, request: FindCoordinatorRequest) -> Answer {
    let mut answer = FindCoordinatorResponse::default().with_error_message(None);
    if context.version >= BATCHED_FROM {
        for key in request.coordinator_keys {
            let coordinator = Coordinator::default().with_key(key.clone()).with_error_message(None);
            answer.coordinators.push(match locate(cluster, context, request.key_type, &key) {
                Ok((id, host, port)) => {
                    coordinator.with_node_id(BrokerId(id)).with_host(text(host)).with_port(port)
                }
                Err(failure) => coordinator
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(failure.code.code())
                    .with_error_message(Some(text(failure.text))),
            });
        }
        return context.answer(&answer);
    }
    let answer = match locate(cluster, context, request.key_type, &request.key) {
        Ok((id, host, port)) => answer.with_node_id(BrokerId(id)).with_host(text(host)).with_port(port),
        Err(failure) => {
            let answer = answer.with_node_id(BrokerId(-1)).with_port(-1).with_error_code(failure.code.code());
            if context.version >= 1 { answer.with_error_message(Some(text(failure.text))) } else { answer }
        }
    };
    context.answer(&answer)
}

fn locate(
    cluster: &Cluster,
    context: &Context,
    key_type: i8,
    key: &str,
) -> Result<(i32, String, i32), Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    if !matches!(key_type, 0 | 1) {
        return fail(
            ErrorCode::INVALID_REQUEST,
            format!("coordinators of key type {key_type} are not served"),
        );
    }
    let kind = if key_type == 1 { ResourceType::TransactionalId } else { ResourceType::Group };
    context.authorize(Operation::Describe, kind, key)?;
    let id = cluster.coordinator(key_type, key);
    match cluster.nodes.get(&id).filter(|node| node.is_up) {
        Some(node) => Ok((id, node.host.clone(), i32::from(node.port))),
        None => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE.into()),
    }
}
