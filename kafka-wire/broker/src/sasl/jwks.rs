//! JSON web key sets (RFC 7517): the public keys of who issues tokens, and signatures by them (RFC 7518).

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use rustls::SignatureScheme;
use serde::Deserialize;

use crate::processor;

/// An algorithm of signatures.
#[derive(Debug)]
struct Algorithm {
    /// As tokens name it.
    name: &'static str,
    scheme: SignatureScheme,
    /// The curve of its keys, and how long a coordinate is in bytes; none for RSA.
    curve: Option<(&'static str, usize)>,
}

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm { name: "RS256", scheme: SignatureScheme::RSA_PKCS1_SHA256, curve: None },
    Algorithm { name: "RS384", scheme: SignatureScheme::RSA_PKCS1_SHA384, curve: None },
    Algorithm { name: "RS512", scheme: SignatureScheme::RSA_PKCS1_SHA512, curve: None },
    Algorithm { name: "ES256", scheme: SignatureScheme::ECDSA_NISTP256_SHA256, curve: Some(("P-256", 32)) },
    Algorithm { name: "ES384", scheme: SignatureScheme::ECDSA_NISTP384_SHA384, curve: Some(("P-384", 48)) },
];

/// Public keys; none by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jwks {
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    /// Its curve; none for RSA.
    curve: Option<String>,
    /// As the algorithm's verifier takes it: an `RSAPublicKey` in DER, or an uncompressed point.
    public: Vec<u8>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<JsonKey>,
}

#[derive(Deserialize)]
struct JsonKey {
    kty: String,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwks {
    /// Reads a key set; keys of other kinds are left out.
    ///
    /// # Errors
    /// When it is no key set, has no key that can be used, or the processor cannot check signatures.
    pub(crate) fn parse(json: &str) -> io::Result<Self> {
        processor::check(
            "checking signatures of tokens",
            "sign with a key that both sides have (`oauth_key`)",
        )?;
        let bad =
            |text: String| io::Error::new(io::ErrorKind::InvalidInput, format!("read `oauth_jwks`: {text}"));
        let set: KeySet = serde_json::from_str(json).map_err(|error| bad(error.to_string()))?;
        let mut keys = Vec::new();
        for key in set.keys {
            let name = key.kid.clone().unwrap_or_default();
            match key.kty.as_str() {
                "RSA" | "EC" => {
                    keys.push(read(key).ok_or_else(|| bad(format!("key '{name}' is malformed")))?)
                }
                kind => tracing::debug!(kind, name, "a key of another kind is left out"),
            }
        }
        if keys.is_empty() {
            return Err(bad("it has no key of kind RSA or EC".to_owned()));
        }
        Ok(Self { keys })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether one of the keys, or the one of this name, made a signature by this algorithm.
    pub(super) fn verify(&self, algorithm: &str, key: Option<&str>, signed: &[u8], signature: &[u8]) -> bool {
        let Some(algorithm) = ALGORITHMS.iter().find(|known| known.name == algorithm) else { return false };
        let signature = match algorithm.curve {
            None => signature.to_vec(),
            // Tokens have both numbers as they are, everybody else in DER.
            Some((_, length)) if signature.len() == 2 * length => {
                let (r, s) = signature.split_at(length);
                sequence(&[integer(r), integer(s)].concat())
            }
            Some(_) => return false,
        };
        let curve = algorithm.curve.map(|(name, _)| name);
        let fits = |it: &&Key| it.curve.as_deref() == curve && (key.is_none() || it.id.as_deref() == key);
        self.keys.iter().filter(fits).any(|it| is_signed(algorithm.scheme, &it.public, signed, &signature))
    }
}

fn is_signed(scheme: SignatureScheme, public: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    let provider = rustls_graviola::default_provider();
    let found = provider.signature_verification_algorithms.mapping.iter().find(|(known, _)| *known == scheme);
    // The first is the one whose curve belongs to the hash.
    let verifier = found.and_then(|(_, verifiers)| verifiers.first());
    verifier.is_some_and(|verifier| verifier.verify_signature(public, signed, signature).is_ok())
}

fn read(key: JsonKey) -> Option<Key> {
    let number = |text: &Option<String>| BASE64_URL.decode(text.as_deref()?).ok().filter(|it| !it.is_empty());
    if key.kty == "RSA" {
        let public = sequence(&[integer(&number(&key.n)?), integer(&number(&key.e)?)].concat());
        return Some(Key { id: key.kid, curve: None, public });
    }
    let curves = ALGORITHMS.iter().filter_map(|algorithm| algorithm.curve);
    let (_, length) = curves.into_iter().find(|(name, _)| key.crv.as_deref() == Some(name))?;
    let (x, y) = (number(&key.x)?, number(&key.y)?);
    let uncompressed = 4;
    let public = [&[uncompressed][..], &x, &y].concat();
    (x.len() == length && y.len() == length).then_some(Key { id: key.kid, curve: key.crv, public })
}

/// A number without a sign, in DER.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    // Zero has a digit, too.
    let digits = &bytes[zeros.min(bytes.len().saturating_sub(1))..];
    let is_negative = digits.first().is_none_or(|byte| *byte >= 0x80);
    let zero: &[u8] = if is_negative { &[0] } else { &[] };
    tagged(0x02, &[zero, digits].concat())
}

fn sequence(content: &[u8]) -> Vec<u8> {
    tagged(0x30, content)
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits = &length[(content.len().leading_zeros() as usize / 8).min(length.len() - 1)..];
    let long: &[u8] = if content.len() < 0x80 { &[] } else { &[0x80 | digits.len() as u8] };
    [&[tag], long, digits, content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_der() {
        assert_eq!(integer(&[0, 0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(tagged(4, &[9; 0x7f])[..3], [4, 0x7f, 9]);
        assert_eq!(tagged(4, &[9; 0x80])[..4], [4, 0x81, 0x80, 9]);
        assert_eq!(tagged(4, &[9; 0x102])[..5], [4, 0x82, 1, 2, 9]);
    }

    #[test]
    fn a_key_set_has_keys_that_can_be_used() {
        for (json, says) in [
            ("nonsense", "read `oauth_jwks`: expected"),
            (r#"{"keys":[]}"#, "no key of kind RSA or EC"),
            (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}"#, "no key of kind RSA or EC"),
            (r#"{"keys":[{"kty":"RSA","kid":"a","n":"AQAB"}]}"#, "key 'a' is malformed"),
            (r#"{"keys":[{"kty":"EC","kid":"b","crv":"P-256","x":"AA","y":"AA"}]}"#, "key 'b' is malformed"),
        ] {
            let error = Jwks::parse(json).unwrap_err().to_string();
            assert!(error.contains(says), "{json}: {error}");
        }
    }
}
