use std::fmt;
use std::path::PathBuf;

use super::parse::Reader;
use crate::error::{Error, ErrorKind, Result};

/// How connections are protected (`security.protocol`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// `PLAINTEXT`: not at all. Kafka's default.
    #[default]
    Plaintext,
    /// `SSL`: TLS 1.3 or 1.2.
    Tls(TlsConfig),
}

/// How a broker proves who it is. Its certificate must name the host that is dialled; this cannot be
/// switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Whose certificates are believed.
    pub roots: TrustedRoots,
}

/// Certificate authorities.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustedRoots {
    /// Those of the operating system.
    #[default]
    System,
    /// Those in a PEM file (`ssl.truststore.location` with `ssl.truststore.type=PEM`).
    File(PathBuf),
    /// Those in this PEM text (`ssl.truststore.certificates`).
    Pem(String),
}

impl fmt::Debug for TrustedRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Pem(text) => write!(f, "Pem({} bytes)", text.len()),
        }
    }
}

impl Security {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Self> {
        let tls = match reader.text("security.protocol") {
            None => false,
            Some(protocol) => match protocol.to_ascii_uppercase().as_str() {
                "PLAINTEXT" => false,
                "SSL" => true,
                "SASL_PLAINTEXT" | "SASL_SSL" => {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        format!("security.protocol={protocol}: SASL is not supported by this version"),
                    )
                    .with_hint("use PLAINTEXT or SSL"));
                }
                _ => return Err(reader.invalid("security.protocol", "PLAINTEXT or SSL")),
            },
        };
        // Checked without TLS too: the mistake should show before the day that TLS is switched on.
        let roots = trusted_roots(reader)?;
        if let Some(name) = reader.text("ssl.endpoint.identification.algorithm")
            && !name.eq_ignore_ascii_case("https")
        {
            return Err(reader.invalid(
                "ssl.endpoint.identification.algorithm",
                "https: the host name in a broker's certificate is always checked",
            ));
        }
        Ok(if tls { Self::Tls(TlsConfig { roots }) } else { Self::Plaintext })
    }
}

fn trusted_roots(reader: &Reader<'_>) -> Result<TrustedRoots> {
    let location = reader.text("ssl.truststore.location");
    let certificates = reader.text("ssl.truststore.certificates");
    let is_pem = match reader.text("ssl.truststore.type") {
        None => false,
        Some(kind) if kind.eq_ignore_ascii_case("PEM") => true,
        Some(_) => {
            return Err(reader.invalid(
                "ssl.truststore.type",
                "PEM; a JKS or PKCS12 store is turned into PEM by `keytool -list -rfc -keystore FILE`",
            ));
        }
    };
    match (location, certificates) {
        (None, None) => Ok(TrustedRoots::System),
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::Config,
            "both ssl.truststore.location and ssl.truststore.certificates are set; keep one",
        )),
        (None, Some(text)) => Ok(TrustedRoots::Pem(text.to_owned())),
        (Some(path), None) if is_pem => Ok(TrustedRoots::File(PathBuf::from(path))),
        (Some(path), None) => Err(Error::new(
            ErrorKind::Config,
            format!(
                "ssl.truststore.location={path} without ssl.truststore.type is a JKS store by Java's default"
            ),
        )
        .with_hint("give a PEM file and set ssl.truststore.type=PEM")),
    }
}
