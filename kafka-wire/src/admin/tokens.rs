//! Delegation tokens (KIP-48): short-lived credentials that one user gives to others.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::cluster::Whole;
use super::wire::{one, outcome, text};
use super::{Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::messages::create_delegation_token_request::{
    CreatableRenewers, CreateDelegationTokenRequest,
};
use crate::protocol::messages::describe_delegation_token_request::{
    DescribeDelegationTokenOwner, DescribeDelegationTokenRequest,
};
use crate::protocol::messages::{ExpireDelegationTokenRequest, RenewDelegationTokenRequest, StrBytes};
use crate::protocol::request::{ByVersion, Plain, Request, Response};

/// A delegation token. Whoever has its HMAC can use it: it is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DelegationToken {
    /// Its id: the user name with which it is used.
    pub token_id: String,
    /// Its secret; in base64 the password with which it is used.
    pub hmac: Bytes,
    /// Whose it is, such as `User:alice`.
    pub owner: String,
    /// Who asked for it; empty before Kafka 3.3.
    pub requester: String,
    /// Who may renew it besides its owner; not told by its creation.
    pub renewers: Vec<String>,
    /// When it was created, in milliseconds since 1970.
    pub issued_ms: i64,
    /// Until when it is valid.
    pub expires_ms: i64,
    /// Until when it can be renewed.
    pub latest_ms: i64,
}

impl fmt::Debug for DelegationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token {} of {}, valid until {}", self.token_id, self.owner, self.expires_ms)
    }
}

/// A token to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewDelegationToken {
    /// Whose it shall be, such as `User:alice`; `None` for who asks (another one from Kafka 3.3).
    pub owner: Option<String>,
    /// Who may renew it besides its owner.
    pub renewers: Vec<String>,
    /// How long it can be renewed; `None` for the brokers' default (`delegation.token.max.lifetime.ms`).
    pub max_lifetime: Option<Duration>,
}

/// `User:alice` in its two parts.
fn split(principal: &str) -> Result<(StrBytes, StrBytes)> {
    let (kind, name) = principal.split_once(':').filter(|(kind, _)| !kind.is_empty()).ok_or_else(|| {
        let text = format!("read {principal:?} as a principal: expected a form such as User:alice");
        Error::new(ErrorKind::Usage, text)
    })?;
    Ok((text(kind), text(name)))
}

fn join(kind: &StrBytes, name: &StrBytes) -> String {
    if name.is_empty() { String::new() } else { format!("{}:{}", kind.as_str(), name.as_str()) }
}

fn milliseconds(duration: Option<Duration>) -> i64 {
    duration.map_or(-1, |duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

pub(crate) struct CreateToken {
    request: CreateDelegationTokenRequest,
}

impl CreateToken {
    /// # Errors
    /// `Usage`, when a principal is none.
    pub(crate) fn new(token: &NewDelegationToken) -> Result<Self> {
        let mut request =
            CreateDelegationTokenRequest::default().with_max_lifetime_ms(milliseconds(token.max_lifetime));
        for renewer in &token.renewers {
            let (kind, name) = split(renewer)?;
            let renewer = CreatableRenewers::default().with_principal_type(kind).with_principal_name(name);
            request.renewers.push(renewer);
        }
        request.owner_principal_type = None;
        request.owner_principal_name = None;
        if let Some(owner) = &token.owner {
            let (kind, name) = split(owner)?;
            request.owner_principal_type = Some(kind);
            request.owner_principal_name = Some(name);
        }
        Ok(Self { request })
    }
}

impl Operation for CreateToken {
    type Key = Whole;
    type Item = ();
    type Output = DelegationToken;
    const ATTEMPT: &'static str = "create a delegation token of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        let from = if self.request.owner_principal_name.is_some() { 3 } else { 1 };
        let request = self.request.clone();
        Box::new(ByVersion::new(from..=3, move |version| {
            // Before version 3 there is no owner: empty for the encoder, where null is a value.
            let (kind, name) = if version < 3 {
                (Some(StrBytes::default()), Some(StrBytes::default()))
            } else {
                (request.owner_principal_type.clone(), request.owner_principal_name.clone())
            };
            request.clone().with_owner_principal_type(kind).with_owner_principal_name(name)
        }))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, DelegationToken>> {
        let answer = response.decode::<CreateDelegationTokenRequest>()?;
        let token = DelegationToken {
            token_id: answer.token_id.to_string(),
            hmac: answer.hmac,
            owner: join(&answer.principal_type, &answer.principal_name),
            requester: join(&answer.token_requester_principal_type, &answer.token_requester_principal_name),
            renewers: Vec::new(),
            issued_ms: answer.issue_timestamp_ms,
            expires_ms: answer.expiry_timestamp_ms,
            latest_ms: answer.max_timestamp_ms,
        };
        Ok(one(items, outcome(answer.error_code, None, token)))
    }
}

/// Makes a token valid for longer; the answer is until when.
pub(crate) struct RenewToken {
    pub(crate) hmac: Bytes,
    pub(crate) period: Option<Duration>,
}

impl Operation for RenewToken {
    type Key = Whole;
    type Item = ();
    type Output = i64;
    const ATTEMPT: &'static str = "renew a delegation token of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        let request = RenewDelegationTokenRequest::default().with_hmac(self.hmac.clone());
        Box::new(Plain::new(request.with_renew_period_ms(milliseconds(self.period))))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, i64>> {
        let answer = response.decode::<RenewDelegationTokenRequest>()?;
        Ok(one(items, outcome(answer.error_code, None, answer.expiry_timestamp_ms)))
    }
}

/// Ends a token, at once or later; the answer is when.
pub(crate) struct ExpireToken {
    pub(crate) hmac: Bytes,
    /// `None` for at once.
    pub(crate) period: Option<Duration>,
}

impl Operation for ExpireToken {
    type Key = Whole;
    type Item = ();
    type Output = i64;
    const ATTEMPT: &'static str = "expire a delegation token of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        let request = ExpireDelegationTokenRequest::default().with_hmac(self.hmac.clone());
        Box::new(Plain::new(request.with_expiry_time_period_ms(milliseconds(self.period))))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, i64>> {
        let answer = response.decode::<ExpireDelegationTokenRequest>()?;
        Ok(one(items, outcome(answer.error_code, None, answer.expiry_timestamp_ms)))
    }
}

/// The tokens that this client may see.
pub(crate) struct DescribeTokens {
    owners: Option<Vec<DescribeDelegationTokenOwner>>,
}

impl DescribeTokens {
    /// Of these owners; of all with `None`.
    ///
    /// # Errors
    /// `Usage`, when a principal is none.
    pub(crate) fn new(owners: Option<&[String]>) -> Result<Self> {
        let read = |owner: &String| {
            let (kind, name) = split(owner)?;
            Ok(DescribeDelegationTokenOwner::default().with_principal_type(kind).with_principal_name(name))
        };
        let owners = owners.map(|owners| owners.iter().map(read).collect::<Result<_>>()).transpose()?;
        Ok(Self { owners })
    }
}

impl Operation for DescribeTokens {
    type Key = Whole;
    type Item = ();
    type Output = Vec<DelegationToken>;
    const ATTEMPT: &'static str = "describe the delegation tokens of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        Box::new(Plain::new(DescribeDelegationTokenRequest::default().with_owners(self.owners.clone())))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = response.decode::<DescribeDelegationTokenRequest>()?;
        let tokens = answer.tokens.into_iter().map(|token| DelegationToken {
            token_id: token.token_id.to_string(),
            hmac: token.hmac,
            owner: join(&token.principal_type, &token.principal_name),
            requester: join(&token.token_requester_principal_type, &token.token_requester_principal_name),
            renewers: token.renewers.iter().map(|r| join(&r.principal_type, &r.principal_name)).collect(),
            issued_ms: token.issue_timestamp,
            expires_ms: token.expiry_timestamp,
            latest_ms: token.max_timestamp,
        });
        Ok(one(items, outcome(answer.error_code, None, tokens.collect())))
    }
}
