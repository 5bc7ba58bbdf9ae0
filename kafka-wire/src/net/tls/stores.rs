//! Certificates and keys out of files: PEM and PKCS#12, keys in the clear or encrypted.

use std::path::Path;

use p12_keystore::{Certificate, Pkcs12Archive};
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::pem;
use crate::config::{ClientIdentity, Secret, Store, TrustedRoots, warn_if_others_can_read};
use crate::error::{Error, ErrorKind, Result};

/// Larger files are none of certificates.
const FILE_MAX_BYTES: u64 = 16 << 20;

type Chain = Vec<CertificateDer<'static>>;
type Identity = (Chain, PrivateKeyDer<'static>);

/// The certificate authorities to believe.
pub(super) fn roots(roots: &TrustedRoots) -> Result<RootCertStore> {
    let (certificates, what) = match roots {
        TrustedRoots::System => return system_roots(),
        TrustedRoots::Pem(pem) => {
            let what = "ssl.truststore.certificates".to_owned();
            (pem_certificates(pem.as_bytes(), &what)?, what)
        }
        TrustedRoots::File(store) => {
            let what = format!("ssl.truststore.location={}", store.path.display());
            (store_certificates(store, &what)?, what)
        }
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let added = roots.add(certificate);
        added.map_err(|cause| broken(&what, format!("not a usable certificate: {cause}")))?;
    }
    if roots.is_empty() {
        let hint = "it must hold CERTIFICATE sections in PEM form, or be a PKCS#12 store with certificates";
        return Err(broken(&what, "no certificate in it").with_hint(hint));
    }
    Ok(roots)
}

/// The client's certificate with its chain, and its key.
pub(super) fn identity(identity: &ClientIdentity) -> Result<Identity> {
    match identity {
        ClientIdentity::Pem { chain, key, key_password } => {
            let certificates = pem_certificates(chain.as_bytes(), "ssl.keystore.certificate.chain")?;
            if certificates.is_empty() {
                return Err(broken("ssl.keystore.certificate.chain", "no certificate in it"));
            }
            Ok((certificates, pem_key(key.expose(), key_password.as_ref(), "ssl.keystore.key")?))
        }
        ClientIdentity::File { store, key_password } => {
            let what = format!("ssl.keystore.location={}", store.path.display());
            warn_if_others_can_read(&store.path);
            match read(&store.path, &what)? {
                Content::Pem(pem) => {
                    let certificates = pem_certificates(&pem, &what)?;
                    if certificates.is_empty() {
                        return Err(broken(&what, "no certificate in it"));
                    }
                    Ok((certificates, pem_key(&pem, key_password.as_ref(), &what)?))
                }
                Content::Pkcs12(der) => {
                    let archive = open(&der, store.password.as_ref(), &what, "ssl.keystore.password")?;
                    pkcs12_identity(archive, &what)
                }
            }
        }
    }
}

fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let error = Error::new(ErrorKind::Config, "this machine has no certificate authorities to trust")
            .with_hint("give a PEM file: ssl.truststore.location");
        return Err(match found.errors.into_iter().next() {
            Some(cause) => error.with_cause(cause),
            None => error,
        });
    }
    Ok(store)
}

fn store_certificates(store: &Store, what: &str) -> Result<Chain> {
    match read(&store.path, what)? {
        Content::Pem(pem) => pem_certificates(&pem, what),
        Content::Pkcs12(der) => {
            let archive = open(&der, store.password.as_ref(), what, "ssl.truststore.password")?;
            Ok(archive.certs.iter().map(|bag| certificate(&bag.cert)).collect())
        }
    }
}

enum Content {
    Pem(Zeroizing<Vec<u8>>),
    Pkcs12(Zeroizing<Vec<u8>>),
}

/// Reads a file; its first bytes say what it is, since names and `ssl.….type` often do not: what keytool has called
/// `.jks` since Java 9 is PKCS#12.
fn read(path: &Path, what: &str) -> Result<Content> {
    let failed = |cause| Error::new(ErrorKind::Config, format!("read {what}")).with_cause(cause);
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_MAX_BYTES {
        return Err(broken(what, format!("{length} bytes, allowed are {FILE_MAX_BYTES}")));
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(failed)?);
    match bytes.first_chunk::<4>() {
        Some([0xfe, 0xed, 0xfe, 0xed]) => Err(broken(what, "a JKS store, which only Java can read").with_hint(format!(
            "turn it into PKCS#12: keytool -importkeystore -srckeystore {} -destkeystore store.p12 -deststoretype PKCS12",
            path.display()
        ))),
        // An ASN.1 sequence.
        Some([0x30, ..]) => Ok(Content::Pkcs12(bytes)),
        _ => Ok(Content::Pem(bytes)),
    }
}

fn open(der: &[u8], password: Option<&Secret>, what: &str, property: &str) -> Result<Pkcs12Archive> {
    let password = password.map_or(&b""[..], Secret::expose);
    let password = std::str::from_utf8(password).map_err(|_| broken(what, "its password is not UTF-8"))?;
    Pkcs12Archive::from_pkcs12(der, password).map_err(|cause| {
        broken(what, format!("not a PKCS#12 store that this password opens: {cause}"))
            .with_hint(format!("check {property}"))
    })
}

/// The first key, its certificate, and the certificates that this one needs.
fn pkcs12_identity(archive: Pkcs12Archive, what: &str) -> Result<Identity> {
    let Some(key) = archive.keys.first() else {
        return Err(broken(what, "no private key in it"));
    };
    let of_key = |id: &Option<Vec<u8>>| match (id, &key.local_key_id) {
        (Some(id), Some(of_key)) => *id == of_key.0,
        _ => false,
    };
    let own = archive.certs.iter().position(|bag| of_key(&bag.local_key_id));
    let own = own.or_else(|| (archive.certs.len() == 1).then_some(0));
    let Some(own) = own else {
        return Err(broken(what, "no certificate for the private key in it"));
    };
    let mut chain = vec![&archive.certs[own].cert];
    while let Some(next) = archive.certs.iter().map(|bag| &bag.cert).find(|cert| {
        let last = chain[chain.len() - 1];
        cert.subject() == last.issuer() && !chain.contains(cert)
    }) {
        chain.push(next);
    }
    let key = PrivateKeyDer::Pkcs8(key.key.as_der().to_vec().into());
    Ok((chain.into_iter().map(certificate).collect(), key))
}

fn certificate(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from(certificate.as_der().to_vec())
}

fn pem_certificates(text: &[u8], what: &str) -> Result<Chain> {
    let sections = pem::sections(text).map_err(|cause| broken(what, cause))?;
    let certificates = sections.into_iter().filter(|section| section.kind == "CERTIFICATE");
    Ok(certificates.map(|section| CertificateDer::from(section.der.to_vec())).collect())
}

fn pem_key(text: &[u8], password: Option<&Secret>, what: &str) -> Result<PrivateKeyDer<'static>> {
    let sections = pem::sections(text).map_err(|cause| broken(what, cause))?;
    let key = sections.into_iter().find(|section| section.kind.ends_with("PRIVATE KEY"));
    let Some(key) = key else {
        return Err(broken(what, "no private key in it")
            .with_hint("it must hold a PRIVATE KEY or ENCRYPTED PRIVATE KEY section in PEM form"));
    };
    let der = key.der.to_vec();
    match key.kind {
        "PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs8(der.into())),
        "RSA PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs1(der.into())),
        "EC PRIVATE KEY" => Ok(PrivateKeyDer::Sec1(der.into())),
        "ENCRYPTED PRIVATE KEY" => decrypted(&key.der, password, what),
        other => Err(broken(what, format!("{other} is not a kind of key that is known"))
            .with_hint("openssl pkcs8 -topk8 turns keys into one that is")),
    }
}

fn decrypted(der: &[u8], password: Option<&Secret>, what: &str) -> Result<PrivateKeyDer<'static>> {
    let Some(password) = password else {
        return Err(broken(what, "its private key is encrypted").with_hint("set ssl.key.password"));
    };
    let failed = |cause: String| {
        broken(what, format!("decrypt its private key: {cause}")).with_hint("check ssl.key.password")
    };
    let key = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|cause| failed(cause.to_string()))?;
    let key = key.decrypt(password.expose()).map_err(|cause| failed(cause.to_string()))?;
    Ok(PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into()))
}

fn broken(what: &str, cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("{what}: {cause}"))
}
