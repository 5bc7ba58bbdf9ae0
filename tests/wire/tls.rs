//! TLS: whom the client believes, and what it says when it does not.
//!
//! A TLS server in front of the embedded broker, with the certificates of `certificates/make.sh`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_wire::config::Properties;
use kafka_wire::{Admin, ClusterDescription, Error, ErrorKind};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidewater_broker::{EmbeddedBroker, Options};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::{block_on, broker};

pub(super) fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/certificates").join(name)
}

/// A TLS listener that passes everything on to a broker.
pub(super) struct TlsFront {
    pub(super) address: SocketAddr,
    _runtime: Runtime,
}

impl TlsFront {
    pub(super) fn start(broker: &EmbeddedBroker, name: &str) -> Self {
        let chain = CertificateDer::pem_file_iter(certificate(&format!("{name}.pem"))).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(certificate(&format!("{name}.key"))).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let upstream = broker.addresses()[0];
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that refuses the certificate goes away during the handshake.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut upstream = TcpStream::connect(upstream).await.unwrap();
                drop(copy_bidirectional(&mut stream, &mut upstream).await);
            }
        });
        Self { address, _runtime: runtime }
    }
}

fn describe(bootstrap: &str, protocol: &str, authority: &str) -> Result<ClusterDescription, Error> {
    let mut properties = Properties::new();
    for (name, value) in [
        ("bootstrap.servers", bootstrap),
        ("security.protocol", protocol),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", &certificate(authority).to_string_lossy()),
        ("default.api.timeout.ms", "2000"),
    ] {
        properties.set(name, value).unwrap();
    }
    block_on(Admin::from_properties(&properties)?.describe_cluster())
}

#[test]
fn a_certificate_from_the_named_authority_for_the_dialled_host_is_believed() {
    let broker = broker(Options::default());
    let front = TlsFront::start(&broker, "good");
    for host in ["localhost", "127.0.0.1"] {
        let bootstrap = format!("{host}:{}", front.address.port());
        assert_eq!(describe(&bootstrap, "SSL", "authority.pem").unwrap().brokers.len(), 1, "{host}");
    }
}

#[test]
fn any_other_certificate_is_refused_and_the_reason_named() {
    let broker = broker(Options::default());
    for (name, authority, says) in [
        ("good", "stranger.pem", "signed by nobody in ssl.truststore.location"),
        ("elsewhere", "authority.pem", "is for kafka.example.com, not for localhost"),
        ("expired", "authority.pem", "has expired"),
        ("future", "authority.pem", "is not valid yet"),
    ] {
        let front = TlsFront::start(&broker, name);
        let error = describe(&format!("localhost:{}", front.address.port()), "SSL", authority).unwrap_err();
        assert!(error.kind() == ErrorKind::Tls && error.to_string().contains(says), "{error}");
        assert!(error.is_fatal() && !error.is_retriable());
    }
}

#[test]
fn tls_and_plaintext_are_told_apart_by_their_first_bytes() {
    let broker = broker(Options::default());
    let front = TlsFront::start(&broker, "good");
    let plaintext_to_tls = describe(&front.address.to_string(), "PLAINTEXT", "authority.pem").unwrap_err();
    assert!(plaintext_to_tls.to_string().contains("security.protocol"), "{plaintext_to_tls}");
    let tls_to_plaintext = describe(&broker.bootstrap(), "SSL", "authority.pem").unwrap_err();
    assert!(tls_to_plaintext.to_string().contains("security.protocol"), "{tls_to_plaintext}");
}

#[test]
fn a_truststore_that_cannot_be_used_is_named_at_once() {
    let missing = describe("localhost:9092", "SSL", "no-such-file.pem").unwrap_err();
    assert!(
        missing.kind() == ErrorKind::Config && missing.to_string().contains("no-such-file.pem"),
        "{missing}"
    );
    let key = describe("localhost:9092", "SSL", "good.key").unwrap_err();
    assert!(key.kind() == ErrorKind::Config && key.to_string().contains("no certificate in it"), "{key}");
}

/// What stores and passwords lead to, before anything is dialled.
#[test]
fn a_store_that_cannot_be_opened_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    };
    let read = |name: &str| std::fs::read(certificate(name)).unwrap();
    let jks = file("store.jks", &[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2]);
    let encrypted = file("encrypted.pem", &[read("client.pem"), read("client-encrypted.key")].concat());
    let without_key = certificate("client.pem").to_string_lossy().into_owned();
    let client = certificate("client.p12").to_string_lossy().into_owned();
    let roots = certificate("authority.p12").to_string_lossy().into_owned();
    let broken = file("broken.pem", b"-----BEGIN CERTIFICATE-----\nAQI\n-----END CERTIFICATE-----\n");
    let (keys, trust) = ("ssl.keystore", "ssl.truststore");
    for (store, path, password, says) in [
        (trust, &jks, None, "keytool -importkeystore"),
        (trust, &roots, None, "check ssl.truststore.password"),
        (trust, &roots, Some("wrong"), "check ssl.truststore.password"),
        (trust, &broken, None, "a CERTIFICATE section is not base64"),
        (keys, &client, Some("wrong"), "check ssl.keystore.password"),
        (keys, &roots, Some("canary"), "no private key in it"),
        (keys, &without_key, None, "no private key in it"),
        (keys, &encrypted, None, "its private key is encrypted; set ssl.key.password"),
        (keys, &encrypted, Some("wrong"), "check ssl.key.password"),
    ] {
        let mut properties = Properties::new();
        properties.set("bootstrap.servers", "localhost:9092").unwrap();
        properties.set("security.protocol", "SSL").unwrap();
        properties.set(format!("{store}.location"), path).unwrap();
        if let Some(password) = password {
            properties.set(format!("{store}.password"), password).unwrap();
            properties.set("ssl.key.password", password).unwrap();
        }
        let error = Admin::from_properties(&properties).map(drop).unwrap_err();
        let text = error.to_string();
        assert!(error.kind() == ErrorKind::Config && text.contains(says), "{text}");
        assert!(text.contains(&format!("{store}.location={path}")), "{text}");
    }
}
