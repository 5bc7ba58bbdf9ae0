//! The arithmetic of SCRAM (RFC 5802) with SHA-256 (RFC 7677) and SHA-512, for both sides.
//!
//! Passwords are taken as the UTF-8 that they are: Kafka's `ScramFormatter.normalize` does no SASLprep, and what it
//! stores would not match otherwise.

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Fewer rounds than this would make stored keys cheap to guess; Kafka refuses them too.
pub const ITERATIONS_MIN: u32 = 4096;
/// More rounds than this would let a hostile broker keep a client busy. Kafka's tools allow 16,384.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// Which hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScramHash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// Bytes that are wiped when they are dropped.
pub type Key = Zeroizing<Vec<u8>>;

impl ScramHash {
    /// Bytes of a key.
    pub fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// `Hi`: what the password becomes, the same on both sides. Costs `iterations` rounds.
    pub fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Key {
        let mut salted = Zeroizing::new(vec![0; self.length()]);
        match self {
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut salted),
        }
        salted
    }

    /// `ClientKey`, of the salted password.
    pub fn client_key(self, salted_password: &[u8]) -> Key {
        self.hmac(salted_password, b"Client Key")
    }

    /// `ServerKey`, of the salted password: what a broker stores to prove itself.
    pub fn server_key(self, salted_password: &[u8]) -> Key {
        self.hmac(salted_password, b"Server Key")
    }

    /// `StoredKey`, of the client key: what a broker stores to check a client.
    pub fn stored_key(self, client_key: &[u8]) -> Key {
        Zeroizing::new(match self {
            Self::Sha256 => Sha256::digest(client_key).to_vec(),
            Self::Sha512 => Sha512::digest(client_key).to_vec(),
        })
    }

    /// `HMAC(key, message)`: the server signature, of the server key and the auth message.
    pub fn hmac(self, key: &[u8], message: &[u8]) -> Key {
        fn run<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Key {
            match <M as KeyInit>::new_from_slice(key) {
                Ok(mac) => Zeroizing::new(mac.chain_update(message).finalize().into_bytes().to_vec()),
                // HMAC takes keys of any length.
                Err(_) => Key::default(),
            }
        }
        match self {
            Self::Sha256 => run::<Hmac<Sha256>>(key, message),
            Self::Sha512 => run::<Hmac<Sha512>>(key, message),
        }
    }

    /// `ClientProof`: the client key, hidden by a signature that only who knows the stored key can make.
    pub fn client_proof(self, client_key: &[u8], auth_message: &[u8]) -> Key {
        let signature = self.hmac(&self.stored_key(client_key), auth_message);
        exclusive_or(client_key, &signature)
    }
}

/// What a broker keeps of a user, instead of the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// Random bytes of this user.
    pub salt: Vec<u8>,
    /// Rounds of [`ScramHash::salted_password`].
    pub iterations: u32,
    /// See [`ScramHash::stored_key`].
    pub stored_key: Key,
    /// See [`ScramHash::server_key`].
    pub server_key: Key,
}

impl ScramCredential {
    /// The credential of a password.
    pub fn new(hash: ScramHash, password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        Self::from_salted(hash, &hash.salted_password(password, &salt, iterations), salt, iterations)
    }

    /// The credential of a password that was salted elsewhere, as AlterUserScramCredentials carries it (KIP-554).
    pub fn from_salted(hash: ScramHash, salted_password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        Self {
            salt,
            iterations,
            stored_key: hash.stored_key(&hash.client_key(salted_password)),
            server_key: hash.server_key(salted_password),
        }
    }

    /// Whether a client's proof shows that it knows the password; in constant time.
    pub fn accepts(&self, hash: ScramHash, auth_message: &[u8], proof: &[u8]) -> bool {
        let signature = hash.hmac(&self.stored_key, auth_message);
        if proof.len() != signature.len() {
            return false;
        }
        hash.stored_key(&exclusive_or(proof, &signature)).ct_eq(&self.stored_key).into()
    }

    /// What the broker answers to prove that it knows the user, too.
    pub fn server_signature(&self, hash: ScramHash, auth_message: &[u8]) -> Key {
        hash.hmac(&self.server_key, auth_message)
    }
}

impl std::fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramCredential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// A user name as SCRAM writes it: `=` and `,` are escaped.
pub fn escape_name(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// The user name that was escaped; `None` where an `=` is neither `=2C` nor `=3D`.
pub fn unescape_name(escaped: &str) -> Option<String> {
    let mut parts = escaped.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        name.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    Some(name)
}

fn exclusive_or(a: &[u8], b: &[u8]) -> Key {
    Zeroizing::new(a.iter().zip(b).map(|(a, b)| a ^ b).collect())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD as BASE64;

    use super::*;

    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// The exchange of RFC 7677, and the same with SHA-512 as Python's hashlib computes it.
    fn check(hash: ScramHash, proof: &str, signature: &str) {
        let auth_message = format!(
            "n=user,r=rOprNGfwEbeRWgbNEkqO,{SERVER_FIRST},c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        );
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = hash.salted_password(b"pencil", &salt, 4096);
        let ours = hash.client_proof(&hash.client_key(&salted), auth_message.as_bytes());
        assert_eq!(BASE64.encode(&*ours), proof);
        let credential = ScramCredential::new(hash, b"pencil", salt.clone(), 4096);
        assert!(credential.accepts(hash, auth_message.as_bytes(), &ours));
        assert_eq!(BASE64.encode(&*credential.server_signature(hash, auth_message.as_bytes())), signature);
        let other = ScramCredential::new(hash, b"pencil2", salt, 4096);
        assert!(!other.accepts(hash, auth_message.as_bytes(), &ours));
        assert!(!credential.accepts(hash, auth_message.as_bytes(), &ours[1..]));
        assert!(!credential.accepts(hash, b"n=user", &ours));
    }

    #[test]
    fn the_vector_of_rfc_7677() {
        check(
            ScramHash::Sha256,
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        );
    }

    #[test]
    fn the_same_with_sha_512() {
        check(
            ScramHash::Sha512,
            "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
            "ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==",
        );
    }

    /// The names of Kafka's `ScramFormatterTest`.
    #[test]
    fn names_are_escaped_and_read_back() {
        for name in
            ["user1", "123", "1,2", "user=A", "user==B", "user,1", "user 1", ",", "=", ",=", "==", "ü"]
        {
            let escaped = escape_name(name);
            assert!(!escaped.contains(','), "{escaped}");
            assert_eq!(unescape_name(&escaped).as_deref(), Some(name));
        }
        for broken in ["=", "a=2", "a=2D", "=2c", "a=ü"] {
            assert_eq!(unescape_name(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_credential_is_not_shown() {
        let credential = ScramCredential::new(ScramHash::Sha256, b"p", vec![7; 4], 4096);
        assert_eq!(format!("{credential:?}"), "ScramCredential { iterations: 4096, .. }");
    }
}
