//! Users and how they prove who they are: passwords (PLAIN) and SCRAM keys.

use std::collections::BTreeMap;

use kafka_wire::security::scram::{Key, ScramCredential};
use kafka_wire::security::{ScramHash, Secret};
use serde::{Deserialize, Serialize};

/// SCRAM credentials kept at most.
pub(crate) const CREDENTIALS_MAX: usize = 100_000;
/// Iterations that a credential may have, as Kafka's `ScramMechanism`; its default is the least.
pub(crate) const ITERATIONS: std::ops::RangeInclusive<i32> = 4_096..=16_384;

/// A user, and one of the mechanisms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ScramKey {
    pub(crate) user: String,
    /// Kafka's number: 1 for SHA-256, 2 for SHA-512.
    pub(crate) mechanism: i8,
}

/// What a broker keeps of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredCredential {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: i32,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl std::fmt::Debug for StoredCredential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StoredCredential")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl StoredCredential {
    /// From a password.
    pub(crate) fn new(hash: ScramHash, password: &[u8], salt: Vec<u8>) -> Self {
        let iterations = *ITERATIONS.start();
        Self::keep(&ScramCredential::new(hash, password, salt, iterations as u32), iterations)
    }

    /// From what `AlterUserScramCredentials` carries; `iterations` are within [`ITERATIONS`].
    pub(crate) fn from_salted(
        hash: ScramHash,
        salted_password: &[u8],
        salt: Vec<u8>,
        iterations: i32,
    ) -> Self {
        Self::keep(&ScramCredential::from_salted(hash, salted_password, salt, iterations as u32), iterations)
    }

    fn keep(credential: &ScramCredential, iterations: i32) -> Self {
        Self {
            salt: credential.salt.clone(),
            iterations,
            stored_key: credential.stored_key.to_vec(),
            server_key: credential.server_key.to_vec(),
        }
    }

    pub(crate) fn to_credential(&self) -> ScramCredential {
        ScramCredential {
            salt: self.salt.clone(),
            iterations: u32::try_from(self.iterations).unwrap_or(0),
            stored_key: Key::new(self.stored_key.clone()),
            server_key: Key::new(self.server_key.clone()),
        }
    }
}

/// The hash that a mechanism's number stands for.
pub(crate) fn hash_of(mechanism: i8) -> Option<ScramHash> {
    match mechanism {
        1 => Some(ScramHash::Sha256),
        2 => Some(ScramHash::Sha512),
        _ => None,
    }
}

/// All users of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Users {
    scram: BTreeMap<ScramKey, StoredCredential>,
}

impl Users {
    pub(crate) fn set(&mut self, key: ScramKey, credential: Option<StoredCredential>) {
        match credential {
            Some(credential) => self.scram.insert(key, credential),
            None => self.scram.remove(&key),
        };
    }

    pub(crate) fn scram(&self, key: &ScramKey) -> Option<&StoredCredential> {
        self.scram.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ScramKey, &StoredCredential)> {
        self.scram.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.scram.len()
    }

    /// The SCRAM credentials of the users that a cluster is started with.
    pub(crate) fn start_with(&mut self, users: &[(String, Secret)], mut salt: impl FnMut() -> Vec<u8>) {
        for (user, password) in users {
            for mechanism in [1, 2] {
                if let Some(hash) = hash_of(mechanism) {
                    let credential = StoredCredential::new(hash, password.expose(), salt());
                    self.scram.insert(ScramKey { user: user.clone(), mechanism }, credential);
                }
            }
        }
    }
}
