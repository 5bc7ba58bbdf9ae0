use std::fmt;
use std::path::PathBuf;

use super::Properties;
use super::parse::Reader;
use super::sasl::Sasl;
use crate::error::{Error, ErrorKind, Result};
use crate::security::Secret;

/// How connections are protected (`security.protocol`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// TLS 1.3 or 1.2; `None` sends everything in the clear. Default: without, as in Kafka.
    pub tls: Option<TlsConfig>,
    /// How the client proves who it is; `None` where listeners ask for nothing, or for a certificate. Default:
    /// without.
    pub sasl: Option<Sasl>,
}

/// How a broker proves who it is, and, where it wants to know, the client.
///
/// The broker's certificate must name the host that is dialled; this cannot be switched off. Files are read again
/// when they have changed, with the next connection (KIP-1288).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Whose certificates are believed.
    pub roots: TrustedRoots,
    /// The client's own certificate and key. Default: none.
    pub identity: Option<ClientIdentity>,
    /// Which versions are spoken (`ssl.enabled.protocols`). Default: both.
    pub versions: TlsVersions,
    /// Only these suites are offered (`ssl.cipher.suites`), by their names in the standards, which are Java's; names of
    /// suites that rustls has not are passed over. Default: all that rustls has.
    pub cipher_suites: Option<Vec<String>>,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersions {
    /// 1.3, or 1.2 where the broker has no better.
    #[default]
    Both,
    /// 1.3 only.
    Tls13,
    /// 1.2 only.
    Tls12,
}

/// A file with certificates or keys: PEM, or PKCS#12. Which it is shows in its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Where it is.
    pub path: PathBuf,
    /// Its password; PEM files have none.
    pub password: Option<Secret>,
}

/// Certificate authorities.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustedRoots {
    /// Those of the operating system.
    #[default]
    System,
    /// Those in a file (`ssl.truststore.location`, `ssl.truststore.password`).
    File(Store),
    /// Those in this PEM text (`ssl.truststore.certificates`).
    Pem(String),
}

/// A client's certificate, with its chain, and its private key.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientIdentity {
    /// In a file (`ssl.keystore.location`, `ssl.keystore.password`).
    File {
        /// The file: PEM with both, or PKCS#12.
        store: Store,
        /// The password of an encrypted key in PEM (`ssl.key.password`).
        key_password: Option<Secret>,
    },
    /// PEM texts (`ssl.keystore.certificate.chain`, `ssl.keystore.key`).
    Pem {
        /// The client's certificate first.
        chain: String,
        /// PKCS#8.
        key: Secret,
        /// The password of an encrypted key (`ssl.key.password`).
        key_password: Option<Secret>,
    },
}

impl fmt::Debug for TrustedRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::File(store) => f.debug_tuple("File").field(&store.path).finish(),
            Self::Pem(text) => write!(f, "Pem({} bytes)", text.len()),
        }
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { store, .. } => f.debug_tuple("File").field(&store.path).finish(),
            Self::Pem { chain, .. } => write!(f, "Pem({} bytes)", chain.len()),
        }
    }
}

impl Security {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Self> {
        let (tls, sasl) = reader.choice(
            "security.protocol",
            (false, false),
            &[
                ("PLAINTEXT", (false, false)),
                ("SSL", (true, false)),
                ("SASL_PLAINTEXT", (false, true)),
                ("SASL_SSL", (true, true)),
            ],
        )?;
        // Checked without TLS too: the mistake should show before the day that TLS is switched on.
        let config = TlsConfig::read(reader)?;
        Ok(Self {
            tls: tls.then_some(config),
            sasl: if sasl { Some(Sasl::read(reader, tls)?) } else { None },
        })
    }
}

impl TlsConfig {
    /// Reads `ssl.*` with `prefix` before each name: for servers that are not brokers.
    ///
    /// # Errors
    /// `Config`, as for a broker's.
    #[allow(dead_code, reason = "for the schema registry's client")]
    pub(crate) fn with_prefix(properties: &Properties, prefix: &'static str) -> Result<Self> {
        Self::read(&Reader::with_prefix(properties, prefix))
    }

    fn read(reader: &Reader<'_>) -> Result<Self> {
        if let Some(name) = reader.text("ssl.endpoint.identification.algorithm")
            && !name.eq_ignore_ascii_case("https")
        {
            return Err(reader.invalid(
                "ssl.endpoint.identification.algorithm",
                "https: the host name in a broker's certificate is always checked",
            ));
        }
        Ok(Self {
            roots: trusted_roots(reader)?,
            identity: identity(reader)?,
            versions: versions(reader)?,
            cipher_suites: cipher_suites(reader),
        })
    }
}

fn trusted_roots(reader: &Reader<'_>) -> Result<TrustedRoots> {
    check_store_type(reader, "ssl.truststore.type")?;
    let password = reader.text("ssl.truststore.password").map(Secret::from);
    match (reader.text("ssl.truststore.location"), reader.text("ssl.truststore.certificates")) {
        (None, None) => Ok(TrustedRoots::System),
        (Some(_), Some(_)) => Err(both("ssl.truststore.location", "ssl.truststore.certificates")),
        (None, Some(text)) => Ok(TrustedRoots::Pem(text.to_owned())),
        (Some(path), None) => Ok(TrustedRoots::File(Store { path: path.into(), password })),
    }
}

fn identity(reader: &Reader<'_>) -> Result<Option<ClientIdentity>> {
    check_store_type(reader, "ssl.keystore.type")?;
    let key_password = reader.text("ssl.key.password").map(Secret::from);
    let (chain, key) = (reader.text("ssl.keystore.certificate.chain"), reader.text("ssl.keystore.key"));
    if let Some(path) = reader.text("ssl.keystore.location") {
        if chain.is_some() || key.is_some() {
            return Err(both("ssl.keystore.location", "ssl.keystore.certificate.chain or ssl.keystore.key"));
        }
        let password = reader.text("ssl.keystore.password").map(Secret::from);
        let store = Store { path: path.into(), password };
        return Ok(Some(ClientIdentity::File { store, key_password }));
    }
    match (chain, key) {
        (None, None) => Ok(None),
        (Some(chain), Some(key)) => {
            Ok(Some(ClientIdentity::Pem { chain: chain.to_owned(), key: Secret::from(key), key_password }))
        }
        _ => {
            let text = "one of ssl.keystore.certificate.chain and ssl.keystore.key is set without the other";
            Err(Error::new(ErrorKind::Config, text))
        }
    }
}

/// Files say by their first bytes what they are, so the type is checked and not used.
fn check_store_type(reader: &Reader<'_>, name: &str) -> Result<()> {
    reader.choice(name, (), &[("PEM", ()), ("PKCS12", ()), ("JKS", ())])
}

fn versions(reader: &Reader<'_>) -> Result<TlsVersions> {
    let Some(text) = reader.text("ssl.enabled.protocols") else { return Ok(TlsVersions::Both) };
    let has = |version: &str| text.split(',').any(|item| item.trim() == version);
    match (has("TLSv1.3"), has("TLSv1.2")) {
        (true, true) => Ok(TlsVersions::Both),
        (true, false) => Ok(TlsVersions::Tls13),
        (false, true) => Ok(TlsVersions::Tls12),
        (false, false) => Err(reader.invalid("ssl.enabled.protocols", "TLSv1.3, TLSv1.2 or both")),
    }
}

fn cipher_suites(reader: &Reader<'_>) -> Option<Vec<String>> {
    let names = reader.text("ssl.cipher.suites")?.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    (!names.is_empty()).then_some(names)
}

fn both(one: &str, other: &str) -> Error {
    Error::new(ErrorKind::Config, format!("both {one} and {other} are set; keep one"))
}
