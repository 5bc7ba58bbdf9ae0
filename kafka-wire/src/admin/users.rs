//! Users with a SCRAM password (KIP-554).

use std::fmt;
use std::time::Duration;

use super::cluster::Whole;
use super::names::numbered;
use super::wire::{one, outcome, refusal, text};
use super::{Key, Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::messages::alter_user_scram_credentials_request::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion, ScramCredentialUpsertion,
};
use crate::protocol::messages::describe_user_scram_credentials_request::{
    DescribeUserScramCredentialsRequest, UserName,
};
use crate::protocol::request::{Plain, Request, Response};
use crate::security::Secret;
use crate::security::scram::{ITERATIONS_MAX, ITERATIONS_MIN, ScramHash};

numbered! {
    /// A SCRAM mechanism.
    ScramMechanism, "a SCRAM mechanism" {
        /// `SCRAM-SHA-256`.
        Sha256 = 1 "SCRAM-SHA-256",
        /// `SCRAM-SHA-512`.
        Sha512 = 2 "SCRAM-SHA-512",
    }
}

impl ScramMechanism {
    fn hash(self) -> Result<ScramHash> {
        match self {
            Self::Sha256 => Ok(ScramHash::Sha256),
            Self::Sha512 => Ok(ScramHash::Sha512),
            Self::Unknown(_) => {
                Err(Error::new(ErrorKind::Usage, format!("set a password for {self}: no such mechanism")))
            }
        }
    }
}

/// A password that a user has, as far as brokers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScramCredentialInfo {
    /// For which mechanism.
    pub mechanism: ScramMechanism,
    /// How often it was hashed.
    pub iterations: u32,
}

/// A change of a user's passwords.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ScramChange {
    /// Sets the password. Only its salted hash is sent.
    Upsert {
        /// Whose.
        user: String,
        /// For which mechanism.
        mechanism: ScramMechanism,
        /// How often it is hashed, 4096 to 16384 by the brokers' bounds.
        iterations: u32,
        /// The password.
        password: Secret,
    },
    /// Deletes the password.
    Delete {
        /// Whose.
        user: String,
        /// For which mechanism.
        mechanism: ScramMechanism,
    },
}

/// A change with all that goes over the wire.
#[derive(Clone)]
pub(crate) enum ReadyChange {
    Upsert(ScramCredentialUpsertion),
    Delete(ScramCredentialDeletion),
}

impl ScramChange {
    /// Hashes the password with `salt`, which must be random.
    ///
    /// # Errors
    /// `Usage`, when the iterations are out of range.
    pub(crate) fn prepare(self, salt: [u8; 16]) -> Result<(UserMechanism, ReadyChange)> {
        let (user, mechanism, change) = match self {
            Self::Delete { user, mechanism } => {
                let deletion = ScramCredentialDeletion::default()
                    .with_name(text(&user))
                    .with_mechanism(mechanism.to_wire());
                (user, mechanism, ReadyChange::Delete(deletion))
            }
            Self::Upsert { user, mechanism, iterations, password } => {
                let hash = mechanism.hash()?;
                if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
                    let text = format!(
                        "hash the password of user {user} {iterations} times: {ITERATIONS_MIN} to {ITERATIONS_MAX} \
                         are allowed"
                    );
                    return Err(Error::new(ErrorKind::Usage, text));
                }
                let salted = hash.salted_password(password.expose(), &salt, iterations);
                let upsertion = ScramCredentialUpsertion::default()
                    .with_name(text(&user))
                    .with_mechanism(mechanism.to_wire())
                    .with_iterations(i32::try_from(iterations).unwrap_or(i32::MAX))
                    .with_salt(salt.to_vec().into())
                    .with_salted_password(salted.to_vec().into());
                (user, mechanism, ReadyChange::Upsert(upsertion))
            }
        };
        Ok((UserMechanism { user, mechanism }, change))
    }
}

/// Whose password, for which mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserMechanism {
    pub(crate) user: String,
    mechanism: ScramMechanism,
}

impl Key for UserMechanism {}

impl fmt::Display for UserMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.user, self.mechanism)
    }
}

/// Which users have which passwords.
pub(crate) struct DescribeScramCredentials {
    /// Of these users; of all with `None`.
    pub(crate) users: Option<Vec<String>>,
}

impl Operation for DescribeScramCredentials {
    type Key = Whole;
    type Item = ();
    type Output = Vec<(String, Result<Vec<ScramCredentialInfo>>)>;
    const ATTEMPT: &'static str = "list the SCRAM users of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        let name = |user: &String| UserName::default().with_name(text(user));
        let users = self.users.as_ref().map(|users| users.iter().map(name).collect());
        Box::new(Plain::new(DescribeUserScramCredentialsRequest::default().with_users(users)))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = response.decode::<DescribeUserScramCredentialsRequest>()?;
        let users = answer.results.into_iter().map(|result| {
            let user = result.user.to_string();
            let known = result.credential_infos.into_iter().map(|info| ScramCredentialInfo {
                mechanism: ScramMechanism::from_wire(info.mechanism),
                iterations: u32::try_from(info.iterations).unwrap_or_default(),
            });
            let described = match ErrorCode::check(result.error_code) {
                Ok(()) => Ok(known.collect()),
                Err(code) => Err(Error::broker(code, format!("describe SCRAM user {user}"))),
            };
            (user, described)
        });
        let users = users.collect();
        Ok(one(items, refusal(answer.error_code, answer.error_message).map_or(Ok(users), Err)))
    }
}

/// Sets and deletes passwords.
pub(crate) struct AlterScramCredentials;

impl Operation for AlterScramCredentials {
    type Key = UserMechanism;
    type Item = ReadyChange;
    type Output = ();
    const ATTEMPT: &'static str = "change the password of user";

    fn target(&self, _: &UserMechanism, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(UserMechanism, ReadyChange)], _: Duration) -> Box<dyn Request> {
        let (mut deletions, mut upsertions) = (Vec::new(), Vec::new());
        for (_, change) in items {
            match change {
                ReadyChange::Delete(deletion) => deletions.push(deletion.clone()),
                ReadyChange::Upsert(upsertion) => upsertions.push(upsertion.clone()),
            }
        }
        let request = AlterUserScramCredentialsRequest::default();
        Box::new(Plain::new(request.with_deletions(deletions).with_upsertions(upsertions)))
    }

    fn read(
        &self,
        items: &[(UserMechanism, ReadyChange)],
        response: Response,
    ) -> Result<Outcomes<UserMechanism, ()>> {
        let answer = response.decode::<AlterUserScramCredentialsRequest>()?;
        let mut outcomes = Vec::with_capacity(items.len());
        for result in answer.results {
            // One answer for all changes of a user.
            let outcome = outcome(result.error_code, result.error_message, ());
            let of_user = items.iter().filter(|(key, _)| key.user == result.user.as_str());
            outcomes.extend(of_user.map(|(key, _)| (key.clone(), outcome.clone())));
        }
        Ok(outcomes)
    }
}
