//! CreateDelegationToken 1–3, RenewDelegationToken 1–2, ExpireDelegationToken 1–2, DescribeDelegationToken 1–3
//! (KIP-48, KIP-373). They need listeners with SASL, and connections that authenticated otherwise than by token.

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::describe_delegation_token_response::{
    DescribedDelegationToken, DescribedDelegationTokenRenewer,
};
use kafka_wire::protocol::messages::{
    CreateDelegationTokenRequest, CreateDelegationTokenResponse, DescribeDelegationTokenRequest,
    DescribeDelegationTokenResponse, ExpireDelegationTokenRequest, ExpireDelegationTokenResponse,
    RenewDelegationTokenRequest, RenewDelegationTokenResponse,
};

use super::{Answer, Context, text};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::Cluster;
use crate::setting::Setting;
use crate::tokens::{self, EXPIRY_MS, LIFETIME_MAX_MS, TOKENS_MAX, Token};

const USER: &str = "User";

/// Whether tokens may be asked for on this connection.
fn check(context: &Context) -> Result<(), ErrorCode> {
    if let Some(code) = context.injected_for_request() {
        return Err(code);
    }
    if context.may_ask_for_tokens { Ok(()) } else { Err(ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED) }
}

/// Type and name of a principal.
fn split(principal: &str) -> (&str, &str) {
    principal.split_once(':').unwrap_or((USER, principal))
}

pub(super) fn create(
    cluster: &mut Cluster,
    context: &Context,
    request: CreateDelegationTokenRequest,
) -> Answer {
    let result = create_one(cluster, context, &request);
    let mut answer = CreateDelegationTokenResponse::default();
    let requester = split(&context.principal);
    let owner = match &result {
        Ok(token) => split(&token.owner),
        Err(_) => requester,
    };
    answer.principal_type = text(owner.0);
    answer.principal_name = text(owner.1);
    if context.version >= 3 {
        answer.token_requester_principal_type = text(requester.0);
        answer.token_requester_principal_name = text(requester.1);
    }
    match &result {
        Ok(token) => {
            answer.issue_timestamp_ms = token.issued_unix_ms;
            answer.expiry_timestamp_ms = token.expires_unix_ms;
            answer.max_timestamp_ms = token.ends_unix_ms;
            answer.token_id = text(&*token.id);
            answer.hmac = Bytes::from(tokens::hmac(cluster.identity(), &token.id));
        }
        Err(code) => {
            answer.error_code = code.code();
            (answer.issue_timestamp_ms, answer.expiry_timestamp_ms, answer.max_timestamp_ms) = (-1, -1, -1);
        }
    }
    context.answer(&answer)
}

fn create_one(
    cluster: &mut Cluster,
    context: &Context,
    request: &CreateDelegationTokenRequest,
) -> Result<Token, ErrorCode> {
    check(context)?;
    let requester = context.principal.to_string();
    let owner = match (&request.owner_principal_type, &request.owner_principal_name) {
        (Some(kind), Some(name)) if context.version >= 3 && !name.is_empty() => {
            format!("{}:{}", kind.as_str(), name.as_str())
        }
        _ => requester.clone(),
    };
    if owner != requester {
        context.authorize(Operation::CreateTokens, ResourceType::User, &owner)?;
    }
    if request.renewers.iter().any(|renewer| renewer.principal_type.as_str() != USER) {
        return Err(ErrorCode::INVALID_PRINCIPAL_TYPE);
    }
    let now = context.now.unix_ms;
    let over: Vec<String> =
        cluster.tokens.iter().filter(|token| token.is_over(now)).map(|token| token.id.clone()).collect();
    over.into_iter().for_each(|id| cluster.set(Setting::TokenRemoved { id }));
    if cluster.tokens.len() >= TOKENS_MAX {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let lifetime = match request.max_lifetime_ms {
        ms if ms <= 0 => LIFETIME_MAX_MS,
        ms => ms.min(LIFETIME_MAX_MS),
    };
    let renewers =
        request.renewers.iter().map(|renewer| format!("{USER}:{}", renewer.principal_name.as_str()));
    let token = Token {
        id: cluster.unique_name(),
        owner,
        requester,
        renewers: renewers.collect(),
        issued_unix_ms: now,
        expires_unix_ms: now + lifetime.min(EXPIRY_MS),
        ends_unix_ms: now + lifetime,
    };
    cluster.set(Setting::Token(token.clone()));
    Ok(token)
}

/// The token with this HMAC, if the asking principal may change it.
fn find(cluster: &Cluster, context: &Context, hmac: &[u8]) -> Result<Token, ErrorCode> {
    check(context)?;
    let secret = cluster.identity();
    let token = cluster.tokens.iter().find(|token| tokens::hmac(secret, &token.id) == hmac);
    let token = token.ok_or(ErrorCode::DELEGATION_TOKEN_NOT_FOUND)?;
    if !token.may_be_renewed_by(&context.principal) {
        return Err(ErrorCode::DELEGATION_TOKEN_OWNER_MISMATCH);
    }
    Ok(token.clone())
}

pub(super) fn renew(
    cluster: &mut Cluster,
    context: &Context,
    request: RenewDelegationTokenRequest,
) -> Answer {
    let now = context.now.unix_ms;
    let renewed = find(cluster, context, &request.hmac).and_then(|token| {
        if token.is_over(now) {
            return Err(ErrorCode::DELEGATION_TOKEN_EXPIRED);
        }
        let period = if request.renew_period_ms < 0 { EXPIRY_MS } else { request.renew_period_ms };
        let expires_unix_ms = now.saturating_add(period).min(token.ends_unix_ms);
        cluster.set(Setting::Token(Token { expires_unix_ms, ..token }));
        Ok(expires_unix_ms)
    });
    let answer = RenewDelegationTokenResponse::default()
        .with_error_code(renewed.map_or_else(ErrorCode::code, |_| 0))
        .with_expiry_timestamp_ms(renewed.unwrap_or(-1));
    context.answer(&answer)
}

pub(super) fn expire(
    cluster: &mut Cluster,
    context: &Context,
    request: ExpireDelegationTokenRequest,
) -> Answer {
    let now = context.now.unix_ms;
    let expires = find(cluster, context, &request.hmac).and_then(|token| {
        if request.expiry_time_period_ms < 0 {
            cluster.set(Setting::TokenRemoved { id: token.id });
            return Ok(now);
        }
        if token.is_over(now) {
            return Err(ErrorCode::DELEGATION_TOKEN_EXPIRED);
        }
        let expires_unix_ms = now.saturating_add(request.expiry_time_period_ms).min(token.ends_unix_ms);
        cluster.set(Setting::Token(Token { expires_unix_ms, ..token }));
        Ok(expires_unix_ms)
    });
    let answer = ExpireDelegationTokenResponse::default()
        .with_error_code(expires.map_or_else(ErrorCode::code, |_| 0))
        .with_expiry_timestamp_ms(expires.unwrap_or(-1));
    context.answer(&answer)
}

pub(super) fn describe(
    cluster: &mut Cluster,
    context: &Context,
    request: DescribeDelegationTokenRequest,
) -> Answer {
    let mut answer = DescribeDelegationTokenResponse::default();
    if let Err(code) = check(context) {
        answer.error_code = code.code();
        return context.answer(&answer);
    }
    let owners = request.owners.map(|owners| {
        let name = |owner: &kafka_wire::protocol::messages::describe_delegation_token_request::DescribeDelegationTokenOwner| {
            format!("{}:{}", owner.principal_type.as_str(), owner.principal_name.as_str())
        };
        owners.iter().map(name).collect::<Vec<String>>()
    });
    let may_see = |token: &Token| {
        token.may_be_renewed_by(&context.principal)
            || token.requester == *context.principal
            || context.authorize(Operation::Describe, ResourceType::DelegationToken, &token.id).is_ok()
            || context.authorize(Operation::DescribeTokens, ResourceType::User, &token.owner).is_ok()
    };
    let described = cluster
        .tokens
        .iter()
        .filter(|token| !token.is_over(context.now.unix_ms) && may_see(token))
        .filter(|token| owners.as_ref().is_none_or(|owners| owners.contains(&token.owner)))
        .map(|token| describe_one(cluster, context, token));
    answer.tokens = described.collect();
    context.answer(&answer)
}

fn describe_one(cluster: &Cluster, context: &Context, token: &Token) -> DescribedDelegationToken {
    let renewers = token.renewers.iter().map(|renewer| {
        let (kind, name) = split(renewer);
        DescribedDelegationTokenRenewer::default()
            .with_principal_type(text(kind))
            .with_principal_name(text(name))
    });
    let (owner, requester) = (split(&token.owner), split(&token.requester));
    let mut described = DescribedDelegationToken::default()
        .with_principal_type(text(owner.0))
        .with_principal_name(text(owner.1))
        .with_issue_timestamp(token.issued_unix_ms)
        .with_expiry_timestamp(token.expires_unix_ms)
        .with_max_timestamp(token.ends_unix_ms)
        .with_token_id(text(&*token.id))
        .with_hmac(Bytes::from(tokens::hmac(cluster.identity(), &token.id)))
        .with_renewers(renewers.collect());
    if context.version >= 3 {
        described.token_requester_principal_type = text(requester.0);
        described.token_requester_principal_name = text(requester.1);
    }
    described
}
