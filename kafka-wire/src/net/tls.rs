//! TLS by rustls, with graviola's cryptography: no C. The host name is always checked.

mod explain;
mod pem;
mod stores;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, SupportedCipherSuite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::{ClientIdentity, TlsConfig, TlsVersions, TrustedRoots};
use crate::error::{Error, ErrorKind, Result};

pub(super) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Does handshakes.
pub(super) struct Tls {
    config: TlsConfig,
    roots: &'static str,
    current: Mutex<Current>,
}

/// What the files said when they were last read.
struct Current {
    connector: TlsConnector,
    files: Vec<Stamp>,
}

/// When a file was changed, and how long it was then.
#[derive(PartialEq, Eq)]
struct Stamp(PathBuf, Option<(SystemTime, u64)>);

impl Tls {
    pub(super) fn new(config: &TlsConfig) -> Result<Self> {
        check_processor()?;
        let roots = match &config.roots {
            TrustedRoots::System => "the operating system's certificate authorities",
            TrustedRoots::File(_) => "ssl.truststore.location",
            TrustedRoots::Pem(_) => "ssl.truststore.certificates",
        };
        let current = Mutex::new(load(config)?);
        Ok(Self { config: config.clone(), roots, current })
    }

    /// Encrypts a connection to `host`.
    pub(super) async fn handshake(&self, host: &str, tcp: TcpStream) -> Result<TlsStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Error::new(
                ErrorKind::Config,
                format!("TLS: {host:?} is not a host name that a certificate can have"),
            )
        })?;
        let connecting = self.connector().connect(name, tcp);
        connecting.await.map_err(|error| explain::handshake(error, host, self.roots, self.has_identity()))
    }

    /// What a connection that breaks after the handshake means, where TLS has to do with it: a broker judges a client's
    /// certificate only then.
    pub(super) fn explain(&self, error: &std::io::Error) -> Option<Error> {
        explain::alert_in(error, self.has_identity())
    }

    fn has_identity(&self) -> bool {
        self.config.identity.is_some()
    }

    /// The connector of the files as they are now (KIP-1288). Files that cannot be used (they may be half written) leave
    /// the last that could in place.
    fn connector(&self) -> TlsConnector {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let files = stamps(&self.config);
        if files != current.files {
            match load(&self.config) {
                Ok(new) => {
                    tracing::info!("the files of certificates and keys have changed and are read anew");
                    *current = new;
                }
                Err(error) => {
                    tracing::warn!(%error, "changed files of certificates and keys cannot be used");
                    current.files = files;
                }
            }
        }
        current.connector.clone()
    }
}

fn load(config: &TlsConfig) -> Result<Current> {
    // Before reading: what changes in between is seen next time.
    let files = stamps(config);
    let mut provider = rustls_graviola::default_provider();
    if let Some(names) = &config.cipher_suites {
        choose_suites(&mut provider.cipher_suites, names)?;
    }
    let provider = Arc::new(provider);
    let versions: &[_] = match config.versions {
        TlsVersions::Both => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersions::Tls13 => &[&rustls::version::TLS13],
        TlsVersions::Tls12 => &[&rustls::version::TLS12],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|cause| Error::new(ErrorKind::Tls, "set up TLS").with_cause(cause))?
        .with_root_certificates(stores::roots(&config.roots)?);
    let client = match &config.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = stores::identity(identity)?;
            builder.with_client_auth_cert(chain, key).map_err(|cause| {
                Error::new(ErrorKind::Config, "use the client's certificate and key")
                    .with_cause(cause)
                    .with_hint("certificates are X.509 v3, keys RSA of 2048 bits or more, or ECDSA with P-256 or P-384")
            })?
        }
    };
    Ok(Current { connector: TlsConnector::from(Arc::new(client)), files })
}

/// Leaves those suites that are named.
fn choose_suites(suites: &mut Vec<SupportedCipherSuite>, names: &[String]) -> Result<()> {
    // rustls writes TLS13_AES_…, the standard TLS_AES_….
    let name = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
    let known: Vec<String> = suites.iter().map(name).collect();
    suites.retain(|suite| names.contains(&name(suite)));
    for unknown in names.iter().filter(|name| !known.contains(name)) {
        tracing::warn!(name = unknown, "ssl.cipher.suites has a suite that this client has not");
    }
    if suites.is_empty() {
        let text = format!("property ssl.cipher.suites={}: no suite that this client has", names.join(","));
        return Err(Error::new(ErrorKind::Config, text).with_hint(format!("allowed: {}", known.join(", "))));
    }
    Ok(())
}

fn stamps(config: &TlsConfig) -> Vec<Stamp> {
    let roots = match &config.roots {
        TrustedRoots::File(store) => Some(&store.path),
        TrustedRoots::System | TrustedRoots::Pem(_) => None,
    };
    let identity = match &config.identity {
        Some(ClientIdentity::File { store, .. }) => Some(&store.path),
        Some(ClientIdentity::Pem { .. }) | None => None,
    };
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok();
        Stamp(path.clone(), metadata.and_then(|m| Some((m.modified().ok()?, m.len()))))
    };
    roots.into_iter().chain(identity).map(stamp).collect()
}

/// graviola needs processor features that it asserts; a clear error is better than a panic.
fn check_processor() -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("aes", std::is_x86_feature_detected!("aes")),
        ("pclmulqdq", std::is_x86_feature_detected!("pclmulqdq")),
        ("bmi1", std::is_x86_feature_detected!("bmi1")),
        ("bmi2", std::is_x86_feature_detected!("bmi2")),
        ("adx", std::is_x86_feature_detected!("adx")),
        ("avx2", std::is_x86_feature_detected!("avx2")),
    ];
    #[cfg(target_arch = "aarch64")]
    let features = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("aes", std::arch::is_aarch64_feature_detected!("aes")),
        ("pmull", std::arch::is_aarch64_feature_detected!("pmull")),
        ("sha2", std::arch::is_aarch64_feature_detected!("sha2")),
    ];
    let missing: Vec<&str> = features.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("TLS needs processor features that this machine lacks: {}", missing.join(", "));
    Err(Error::new(ErrorKind::Unsupported, text).with_hint("use a processor of 2015 or later, or PLAINTEXT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_suites_that_are_named_are_offered() {
        let choose = |names: &[&str]| {
            let mut suites = rustls_graviola::default_provider().cipher_suites;
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            choose_suites(&mut suites, &names)
                .map(|()| suites.iter().map(|suite| format!("{:?}", suite.suite())).collect::<Vec<_>>())
        };
        let both = ["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_NOT_HERE"];
        let mut chosen = choose(&both).unwrap();
        chosen.sort();
        assert_eq!(chosen, ["TLS13_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]);
        let error = choose(&["TLS_NOT_HERE"]).unwrap_err().to_string();
        assert!(error.contains("=TLS_NOT_HERE") && error.contains("TLS_AES_256_GCM_SHA384"), "{error}");
    }
}
