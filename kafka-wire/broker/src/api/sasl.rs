//! SaslHandshake 1, SaslAuthenticate 0–2 (KIP-43, KIP-152, KIP-368).

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_wire::security::Mechanism;

use super::{Answer, Context, text};
use crate::cluster::Cluster;

pub(super) fn handshake(cluster: &mut Cluster, context: &Context, request: SaslHandshakeRequest) -> Answer {
    let offered = cluster.options.sasl.as_ref().map_or_else(Vec::new, |sasl| sasl.mechanisms.clone());
    let wanted = Mechanism::from_name(&request.mechanism).filter(|wanted| offered.contains(wanted));
    let begun = match (context.injected_for_request(), wanted) {
        (Some(code), _) => Err(code),
        (None, _) if offered.is_empty() => Err(ErrorCode::ILLEGAL_SASL_STATE),
        (None, None) => Err(ErrorCode::UNSUPPORTED_SASL_MECHANISM),
        (None, Some(mechanism)) => cluster.begin_authentication(context, mechanism),
    };
    let answer = SaslHandshakeResponse::default()
        .with_mechanisms(offered.iter().map(|mechanism| text(mechanism.name())).collect())
        .with_error_code(begun.err().map_or(0, ErrorCode::code));
    context.answer(&answer)
}

pub(super) fn authenticate(
    cluster: &mut Cluster,
    context: &Context,
    request: SaslAuthenticateRequest,
) -> Answer {
    let mut answer = SaslAuthenticateResponse::default().with_error_message(None);
    let outcome = match context.injected_for_request() {
        Some(code) => Err((code, code.message().to_owned())),
        None => cluster.authenticate(context, &request.auth_bytes),
    };
    match outcome {
        Ok((bytes, lifetime)) => {
            answer.auth_bytes = bytes;
            if context.version >= 1 {
                answer.session_lifetime_ms =
                    lifetime.map_or(0, |it| i64::try_from(it.as_millis()).unwrap_or(0));
            }
            context.answer(&answer)
        }
        Err((code, why)) => {
            cluster.close_after_answer(context);
            context.answer(&answer.with_error_code(code.code()).with_error_message(Some(text(why))))
        }
    }
}
