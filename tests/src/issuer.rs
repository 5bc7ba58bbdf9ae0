//! An issuer of signed OAuth tokens (JWT, RS256), whose key `openssl` makes.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

/// A key, and its name.
#[derive(Debug)]
pub struct Issuer {
    folder: tempfile::TempDir,
    key_id: &'static str,
}

impl Issuer {
    /// Makes a key.
    ///
    /// # Panics
    /// When `openssl` is not there.
    pub fn new(key_id: &'static str) -> Self {
        let issuer = Self { folder: tempfile::tempdir().expect("a folder for the key"), key_id };
        let path = issuer.key().to_string_lossy().into_owned();
        openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &path], b"");
        issuer
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// The public key as a JWK (RFC 7517).
    ///
    /// # Panics
    /// When `openssl` fails.
    pub fn public_key(&self) -> Value {
        let path = self.key().to_string_lossy().into_owned();
        let told = openssl(&["rsa", "-in", &path, "-noout", "-modulus"], b"");
        let told = String::from_utf8(told).expect("text");
        let digits = told.trim().strip_prefix("Modulus=").expect("a modulus");
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("hex");
        let modulus: Vec<u8> = digits.as_bytes().chunks(2).map(byte).collect();
        let exponent = BASE64.encode([1, 0, 1]);
        json!({
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.key_id,
            "n": BASE64.encode(modulus), "e": exponent,
        })
    }

    /// A token with these claims, signed.
    ///
    /// # Panics
    /// When `openssl` fails.
    pub fn token(&self, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": self.key_id });
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let path = self.key().to_string_lossy().into_owned();
        let signature = openssl(&["dgst", "-sha256", "-sign", &path], signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("run openssl");
    child.stdin.take().expect("its input").write_all(input).expect("write to openssl");
    let output = child.wait_with_output().expect("wait for openssl");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
