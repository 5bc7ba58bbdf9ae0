use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::config::{Properties, TlsConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::security::Secret;

/// How to reach a schema registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaRegistryConfig {
    /// `schema.registry.url`: its addresses, each tried when the one before does not answer. A path is kept:
    /// Apicurio's begins with `/apis/ccompat/v7`.
    pub urls: Vec<String>,
    /// Who asks; nobody in particular by default.
    pub authorization: Option<Authorization>,
    /// For `https` addresses: which certificates to trust, and which to show. The system's by default.
    pub tls: TlsConfig,
    /// For a connection to one address, TLS handshake included; 10 s by default, as for brokers.
    pub connect_timeout: Duration,
    /// For the answer to one call; 30 s by default, as `request.timeout.ms` for brokers.
    pub request_timeout: Duration,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// `basic.auth.user.info`: name and password.
    Basic(String, Secret),
    /// `bearer.auth.token`.
    Bearer(Secret),
}

impl SchemaRegistryConfig {
    /// The registry at this address, with what is usual otherwise.
    pub fn new(url: impl Into<String>) -> Self {
        let url = url.into().trim_end_matches('/').to_owned();
        Self {
            urls: vec![url],
            authorization: None,
            tls: TlsConfig::default(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
        }
    }

    /// A registry by the names of Confluent's serializers: `schema.registry.url` (several with commas),
    /// `basic.auth.credentials.source=USER_INFO` with `basic.auth.user.info=NAME:PASSWORD` (also under
    /// `schema.registry.`), or `bearer.auth.credentials.source=STATIC_TOKEN` with `bearer.auth.token`; and
    /// `schema.registry.ssl.*` as `ssl.*` of clients.
    ///
    /// # Errors
    /// `Config` without an address, or for a value that is none.
    pub fn from_properties(properties: &Properties) -> Result<Self> {
        let config = |text: &'static str| Error::new(ErrorKind::Config, text);
        let urls = properties.value("schema.registry.url").unwrap_or_default();
        let urls: Vec<String> = urls
            .split(',')
            .map(|url| url.trim().trim_end_matches('/').to_owned())
            .filter(|url| !url.is_empty())
            .collect();
        if urls.is_empty() {
            return Err(config("schema.registry.url is not set"));
        }
        Ok(Self {
            urls,
            authorization: authorization(properties)?,
            tls: TlsConfig::with_prefix(properties, "schema.registry.")?,
            ..Self::new("")
        })
    }
}

fn authorization(properties: &Properties) -> Result<Option<Authorization>> {
    let prefixed =
        |name: &str| properties.value(&format!("schema.registry.{name}")).or_else(|| properties.value(name));
    let source = |name: &str, only: &str| match prefixed(name) {
        None => Ok(()),
        Some(value) if value.eq_ignore_ascii_case(only) => Ok(()),
        Some(value) => {
            let error = Error::new(ErrorKind::Config, format!("property {name}={value}"));
            Err(error.with_hint(format!("allowed: {only}")))
        }
    };
    source("basic.auth.credentials.source", "USER_INFO")?;
    source("bearer.auth.credentials.source", "STATIC_TOKEN")?;
    if let Some(user_info) = prefixed("basic.auth.user.info") {
        let Some((name, password)) = user_info.split_once(':') else {
            let error = Error::new(ErrorKind::Config, "property basic.auth.user.info=[hidden]");
            return Err(error.with_hint("allowed: NAME:PASSWORD"));
        };
        return Ok(Some(Authorization::Basic(name.to_owned(), Secret::from(password))));
    }
    Ok(prefixed("bearer.auth.token").map(|token| Authorization::Bearer(Secret::from(token))))
}

impl Authorization {
    pub(super) fn header(&self) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Self::Basic(name, password) => {
                let plain = Zeroizing::new([name.as_bytes(), b":", password.expose()].concat());
                format!("Basic {}", STANDARD.encode(&*plain))
            }
            Self::Bearer(token) => format!("Bearer {}", String::from_utf8_lossy(token.expose())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(entries: &[(&str, &str)]) -> Properties {
        let mut properties = Properties::new();
        for (name, value) in entries {
            properties.set(*name, *value).unwrap();
        }
        properties
    }

    #[test]
    fn a_registry_is_described_by_confluents_names() {
        let config = SchemaRegistryConfig::from_properties(&properties(&[
            ("schema.registry.url", "http://one:8081/, https://two:8081/apis/ccompat/v7"),
            ("basic.auth.credentials.source", "USER_INFO"),
            ("basic.auth.user.info", "Aladdin:open sesame"),
        ]))
        .unwrap();
        assert_eq!(config.urls, ["http://one:8081", "https://two:8081/apis/ccompat/v7"]);
        // The example of RFC 7617.
        let header = config.authorization.as_ref().unwrap().header();
        assert_eq!(*header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{config:?}").contains("sesame"));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_secret() {
        for (entries, word) in [
            (&[][..], "schema.registry.url"),
            (&[("schema.registry.url", "http://one"), ("basic.auth.user.info", "sesame")], "NAME:PASSWORD"),
            (&[("schema.registry.url", "http://one"), ("basic.auth.credentials.source", "URL")], "USER_INFO"),
        ] {
            let error = SchemaRegistryConfig::from_properties(&properties(entries)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(word) && !text.contains("sesame"), "{text}");
        }
    }
}
