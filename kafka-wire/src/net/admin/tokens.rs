//! Delegation tokens.

use std::time::Duration;

use bytes::Bytes;

use super::Admin;
use crate::admin::tokens::{
    CreateToken, DelegationToken, DescribeTokens, ExpireToken, NewDelegationToken, RenewToken,
};
use crate::error::Result;

impl Admin {
    /// Creates a delegation token (KIP-48).
    ///
    /// # Errors
    /// `DELEGATION_TOKEN_AUTH_DISABLED` where the brokers have no `delegation.token.secret.key`,
    /// `DELEGATION_TOKEN_REQUEST_NOT_ALLOWED` where this client is not authenticated or by a token; `Usage` for
    /// a principal that is none.
    pub async fn create_delegation_token(&self, token: NewDelegationToken) -> Result<DelegationToken> {
        self.ask(CreateToken::new(&token)?).await
    }

    /// Makes a token valid for `period` from now, or for the brokers' default with `None`
    /// (`delegation.token.expiry.time.ms`); the answer is until when, in milliseconds since 1970.
    ///
    /// # Errors
    /// As [`Admin::create_delegation_token`], or `DELEGATION_TOKEN_NOT_FOUND` and the like.
    pub async fn renew_delegation_token(
        &self,
        hmac: impl Into<Bytes>,
        period: Option<Duration>,
    ) -> Result<i64> {
        self.ask(RenewToken { hmac: hmac.into(), period }).await
    }

    /// Makes a token invalid after `period`, or at once with `None`; the answer is when, in milliseconds since
    /// 1970.
    ///
    /// # Errors
    /// As [`Admin::renew_delegation_token`].
    pub async fn expire_delegation_token(
        &self,
        hmac: impl Into<Bytes>,
        period: Option<Duration>,
    ) -> Result<i64> {
        self.ask(ExpireToken { hmac: hmac.into(), period }).await
    }

    /// The tokens of these owners (such as `User:alice`) that this client may see; of all owners with `None`.
    ///
    /// # Errors
    /// As [`Admin::create_delegation_token`].
    pub async fn describe_delegation_tokens(
        &self,
        owners: Option<Vec<String>>,
    ) -> Result<Vec<DelegationToken>> {
        self.ask(DescribeTokens::new(owners.as_deref())?).await
    }
}
