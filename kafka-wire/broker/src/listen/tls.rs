//! TLS on the listeners, by rustls with graviola's cryptography, and who a client is by its certificate.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::principal_of;
use crate::options::TlsOptions;
use crate::processor;

/// Makes what accepts TLS connections.
pub(super) fn acceptor(options: &TlsOptions) -> io::Result<TlsAcceptor> {
    processor::check("TLS", "listen without TLS")?;
    let bad = |what: &str, cause: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("the broker's TLS {what}: {cause}"))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(options.certificates.as_bytes()).collect();
    let chain = chain.map_err(|cause| bad("certificate", &cause))?;
    let key = PrivateKeyDer::from_pem_slice(options.private_key.expose())
        .map_err(|cause| bad("private key", &cause))?;
    let provider = Arc::new(rustls_graviola::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|cause| bad("versions", &cause))?;
    let builder = match &options.client_authorities {
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
                let authority = authority.map_err(|cause| bad("client authorities", &cause))?;
                roots.add(authority).map_err(|cause| bad("client authorities", &cause))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|cause| bad("client authorities", &cause))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(chain, key).map_err(|cause| bad("certificate", &cause))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Who is at the other end, if it showed a certificate.
pub(super) fn principal(stream: &TlsStream<TcpStream>) -> Option<String> {
    let (_, session) = stream.get_ref();
    principal_of(session.peer_certificates()?.first()?)
}
