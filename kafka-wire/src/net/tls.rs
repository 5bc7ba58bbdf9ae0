//! TLS by rustls, with graviola's cryptography: no C. The host name is always checked.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::{TlsConfig, TrustedRoots};
use crate::error::{Error, ErrorKind, Result};

pub(super) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Does handshakes.
pub(super) struct Tls {
    connector: TlsConnector,
    roots: &'static str,
}

impl Tls {
    pub(super) fn new(config: &TlsConfig) -> Result<Self> {
        check_processor()?;
        let (store, roots) = match &config.roots {
            TrustedRoots::System => (system_roots()?, "the operating system's certificate authorities"),
            TrustedRoots::File(path) => {
                let what = format!("ssl.truststore.location={}", path.display());
                let pem = std::fs::read(path).map_err(|cause| {
                    Error::new(ErrorKind::Config, format!("read {what}")).with_cause(cause)
                })?;
                (pem_roots(&pem, &what)?, "ssl.truststore.location")
            }
            TrustedRoots::Pem(pem) => {
                (pem_roots(pem.as_bytes(), "ssl.truststore.certificates")?, "ssl.truststore.certificates")
            }
        };
        let provider = Arc::new(rustls_graviola::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|cause| Error::new(ErrorKind::Tls, "set up TLS 1.3 and 1.2").with_cause(cause))?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), roots })
    }

    pub(super) async fn handshake(&self, host: &str, tcp: TcpStream) -> Result<TlsStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Error::new(
                ErrorKind::Config,
                format!("TLS: {host:?} is not a host name that a certificate can have"),
            )
        })?;
        self.connector.connect(name, tcp).await.map_err(|error| explain(error, host, self.roots))
    }
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

fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let error = Error::new(ErrorKind::Config, "this machine has no certificate authorities to trust")
            .with_hint("give a PEM file: ssl.truststore.type=PEM and ssl.truststore.location");
        return Err(match found.errors.into_iter().next() {
            Some(cause) => error.with_cause(cause),
            None => error,
        });
    }
    Ok(store)
}

fn pem_roots(pem: &[u8], what: &str) -> Result<RootCertStore> {
    let broken = |cause: String| {
        Error::new(ErrorKind::Config, format!("{what}: {cause}"))
            .with_hint("it must hold CERTIFICATE sections in PEM form")
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|cause| broken(format!("not PEM: {cause}")))?;
        store.add(certificate).map_err(|cause| broken(format!("not a usable certificate: {cause}")))?;
    }
    if store.is_empty() { Err(broken("no certificate in it".to_owned())) } else { Ok(store) }
}

/// Says in people's words why a handshake failed.
fn explain(error: io::Error, host: &str, roots: &str) -> Error {
    let tls = |text: String, hint: &'static str| Error::new(ErrorKind::Tls, text).with_hint(hint);
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(reason)) => explain_certificate(reason, host, roots),
        Some(rustls::Error::InvalidMessage(_)) => tls(
            format!("{host} does not speak TLS on this port"),
            "set security.protocol=PLAINTEXT, or use the port of its TLS listener",
        ),
        Some(rustls::Error::AlertReceived(alert)) => tls(
            format!("{host} refused the TLS handshake: {alert:?}"),
            "the broker may ask for a client certificate, or share no TLS version with this client",
        ),
        Some(other) => Error::new(ErrorKind::Tls, "TLS handshake").with_cause(other.clone()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            // Retriable: a broker that is just stopping looks the same.
            Error::new(ErrorKind::Network, format!("{host} closed the connection during the TLS handshake"))
                .with_hint("if it stays so, the port may be plaintext: check security.protocol")
        }
        None => Error::new(ErrorKind::Network, "TLS handshake").with_cause(error),
    }
}

fn explain_certificate(reason: &CertificateError, host: &str, roots: &str) -> Error {
    let error = |text: String| Error::new(ErrorKind::Tls, text);
    match reason {
        CertificateError::UnknownIssuer => {
            error(format!("the certificate of {host} is signed by nobody in {roots}"))
                .with_hint("put the certificate authority that signed it there")
        }
        CertificateError::NotValidForName => error(format!("the certificate of {host} is for another host"))
            .with_hint("connect by a name that it is for, or give the broker a certificate for this one"),
        CertificateError::NotValidForNameContext { presented, .. } => {
            error(format!("the certificate of {host} is for {}, not for {host}", names(presented)))
                .with_hint("connect by a name that it is for, or give the broker a certificate for this one")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            error(format!("the certificate of {host} has expired: {reason}"))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            error(format!("the certificate of {host} is not valid yet: {reason}"))
                .with_hint("check this machine's clock")
        }
        other => error(format!("the certificate of {host} is not acceptable: {other}")),
    }
}

/// rustls writes `DnsName("a.b")`; people want `a.b`.
fn names(presented: &[String]) -> String {
    let plain = presented.iter().map(|name| match (name.find('"'), name.rfind('"')) {
        (Some(start), Some(end)) if start < end => &name[start + 1..end],
        _ => name,
    });
    let plain: Vec<&str> = plain.collect();
    if plain.is_empty() { "no host".to_owned() } else { plain.join(", ") }
}
