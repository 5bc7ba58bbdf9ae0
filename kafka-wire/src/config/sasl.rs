use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::TlsConfig;
use super::jaas::LoginModule;
use super::parse::Reader;
use super::security::{Store, TrustedRoots};
use crate::error::{Error, ErrorKind, Result};
use crate::security::{Mechanism, ScramHash, Secret};
use crate::time::Backoff;

/// How the client proves who it is (`sasl.*`).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sasl {
    /// `PLAIN`: sends name and password as they are, so it wants TLS.
    Plain {
        /// The user.
        username: String,
        /// The user's password.
        password: Secret,
    },
    /// `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    Scram {
        /// Which of the two.
        hash: ScramHash,
        /// The user, or the id of a delegation token.
        username: String,
        /// The user's password, or the token's HMAC.
        password: Secret,
        /// Whether it is a delegation token (KIP-48; `tokenauth="true"`).
        is_delegation_token: bool,
    },
    /// `OAUTHBEARER`.
    OauthBearer {
        /// Where tokens come from.
        tokens: TokenSource,
        /// SASL extensions (KIP-342; `extension_NAME="value"`).
        extensions: Vec<(String, String)>,
    },
}

/// Where OAuth tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenSource {
    /// A file that something else keeps fresh (`sasl.oauthbearer.token.file`). It is read for every new connection.
    File(PathBuf),
    /// An OpenID provider's token endpoint, by the grant `client_credentials` (KIP-768).
    ClientCredentials(Box<ClientCredentials>),
    /// The application's own code, where something else than a file or an OpenID provider makes tokens.
    Provider(TokenProvider),
    /// Tokens without a signature for brokers that check none, as Java makes them of
    /// `unsecuredLoginStringClaim_sub`: for tests and development only.
    Unsecured {
        /// The claim `sub`: who the client says it is.
        subject: String,
        /// Until a token expires. Default 1 h.
        lifetime: Duration,
    },
}

/// Gives a token to whoever asks, as Java's `AuthenticateCallbackHandler` of a login does.
///
/// It is called for every new connection and whenever a session is renewed, on a thread where it may wait; a provider
/// that is slow or costs something keeps its tokens. It has `socket.connection.setup.timeout.ms` for it.
///
/// ```
/// use kafka_wire::config::{ClientConfig, Sasl, TokenProvider, TokenSource};
///
/// let mut config = ClientConfig::bootstrap("kafka.example.com:9093")?;
/// let tokens = TokenProvider::new(|| std::env::var("KAFKA_TOKEN"));
/// let (tokens, extensions) = (TokenSource::Provider(tokens), Vec::new());
/// config.security.sasl = Some(Sasl::OauthBearer { tokens, extensions });
/// # Ok::<(), kafka_wire::Error>(())
/// ```
#[derive(Clone)]
pub struct TokenProvider(Arc<Provide>);

type Provide = dyn Fn() -> Result<Secret> + Send + Sync;

impl TokenProvider {
    /// A provider that calls `provide`. What goes wrong in it fails the connection, and the calls that wait for it.
    pub fn new<E>(provide: impl Fn() -> Result<String, E> + Send + Sync + 'static) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        Self(Arc::new(move || {
            let failed = || Error::new(ErrorKind::Authentication, "get a token from the application");
            provide().map(Secret::from).map_err(|cause| failed().with_cause(cause))
        }))
    }

    #[cfg_attr(not(feature = "net"), allow(dead_code, reason = "the rim asks"))]
    pub(crate) fn provide(&self) -> Result<Secret> {
        (self.0)()
    }
}

impl fmt::Debug for TokenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenProvider")
    }
}

/// Equal is what is the same.
impl PartialEq for TokenProvider {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TokenProvider {}

/// How to get tokens from an OpenID provider.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCredentials {
    /// `sasl.oauthbearer.token.endpoint.url`: where, by `https` only.
    pub endpoint: String,
    /// `sasl.oauthbearer.client.credentials.client.id`, or `clientId` of the login module.
    pub client_id: String,
    /// `sasl.oauthbearer.client.credentials.client.secret`, or `clientSecret`.
    pub client_secret: Secret,
    /// `sasl.oauthbearer.scope`, or `scope`: what the token is to be good for.
    pub scope: Option<String>,
    /// `sasl.oauthbearer.header.urlencode`: whether id and secret are URL-encoded before they are put into the
    /// `Authorization` header, as RFC 6749 wants and few providers do. Default `false`.
    pub urlencode: bool,
    /// How the provider proves who it is: `ssl.truststore.…` of the login module, not of the client, as in Java.
    pub tls: TlsConfig,
    /// `sasl.login.connect.timeout.ms`. Default 10 s, where Java waits as long as the operating system does.
    pub connect_timeout: Duration,
    /// `sasl.login.read.timeout.ms`. Default 10 s.
    pub read_timeout: Duration,
    /// `sasl.login.retry.backoff.ms` and `.max.ms`: the pause before the provider is asked again. Default 100 ms to
    /// 10 s.
    pub retry_backoff: Backoff,
    /// `sasl.login.refresh.window.factor`: after which part of its lifetime a token is replaced. Default 0.8.
    pub refresh_permille: u32,
}

impl Sasl {
    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Self::Plain { .. } => Mechanism::Plain,
            Self::Scram { hash: ScramHash::Sha256, .. } => Mechanism::ScramSha256,
            Self::Scram { hash: ScramHash::Sha512, .. } => Mechanism::ScramSha512,
            Self::OauthBearer { .. } => Mechanism::OauthBearer,
        }
    }

    pub(super) fn read(reader: &Reader<'_>, encrypted: bool) -> Result<Self> {
        let module = reader.text("sasl.jaas.config").map(LoginModule::parse).transpose()?;
        let mechanism = mechanism(reader, module.as_ref())?;
        check_module(mechanism, module.as_ref())?;
        check_handlers(reader)?;
        // SCRAM never sends the password, and a bearer token is as good as one.
        let clear = matches!(mechanism, Mechanism::Plain | Mechanism::OauthBearer) && !encrypted;
        if clear && !reader.boolean("sasl.allow.cleartext", false)? {
            let text = format!(
                "security.protocol=SASL_PLAINTEXT with sasl.mechanism={} sends the {} unencrypted",
                mechanism.name(),
                if mechanism == Mechanism::Plain { "password" } else { "token" },
            );
            return Err(Error::new(ErrorKind::Config, text).with_hint(
                "use SASL_SSL, or SCRAM-SHA-512; where nobody can listen, sasl.allow.cleartext=true permits it",
            ));
        }
        if mechanism == Mechanism::OauthBearer {
            return oauth_bearer(reader, module.as_ref());
        }
        let (username, password) = user(reader, module.as_ref())?;
        let scram = |hash| Self::Scram {
            hash,
            username: username.clone(),
            password: password.clone(),
            is_delegation_token: module.as_ref().and_then(|m| m.option("tokenauth")) == Some("true"),
        };
        Ok(match mechanism {
            Mechanism::ScramSha256 => scram(ScramHash::Sha256),
            Mechanism::ScramSha512 => scram(ScramHash::Sha512),
            Mechanism::Plain | Mechanism::OauthBearer => Self::Plain { username, password },
        })
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct(self.mechanism().name());
        match self {
            Self::Plain { username, .. } | Self::Scram { username, .. } => shown.field("username", username),
            Self::OauthBearer { tokens, .. } => shown.field("tokens", tokens),
        };
        shown.finish_non_exhaustive()
    }
}

const MODULES: [(&str, &[Mechanism]); 3] = [
    ("PlainLoginModule", &[Mechanism::Plain]),
    ("ScramLoginModule", &[Mechanism::ScramSha256, Mechanism::ScramSha512]),
    ("OAuthBearerLoginModule", &[Mechanism::OauthBearer]),
];

fn mechanism(reader: &Reader<'_>, module: Option<&LoginModule>) -> Result<Mechanism> {
    let names = Mechanism::ALL.map(Mechanism::name).join(", ");
    match reader.text("sasl.mechanism") {
        Some("GSSAPI") => Err(no_kerberos()),
        Some(name) => Mechanism::from_name(&name.to_ascii_uppercase())
            .ok_or_else(|| reader.invalid("sasl.mechanism", names)),
        // Java would take GSSAPI; the login module says better what is meant.
        None => match module.map(LoginModule::name) {
            Some("PlainLoginModule") => Ok(Mechanism::Plain),
            Some("OAuthBearerLoginModule") => Ok(Mechanism::OauthBearer),
            Some("Krb5LoginModule") => Err(no_kerberos()),
            _ => Err(Error::new(ErrorKind::Config, "security.protocol with SASL needs sasl.mechanism")
                .with_hint(format!("allowed: {names}"))),
        },
    }
}

fn no_kerberos() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "sasl.mechanism=GSSAPI (Kerberos) is not supported: it would need C libraries",
    )
    .with_hint("ask for a listener with SCRAM-SHA-512, OAUTHBEARER or client certificates (SSL)")
}

fn check_module(mechanism: Mechanism, module: Option<&LoginModule>) -> Result<()> {
    let Some(module) = module else { return Ok(()) };
    let error = |text: String| Err(Error::new(ErrorKind::Config, text));
    match MODULES.iter().find(|(name, _)| *name == module.name()) {
        Some((_, mechanisms)) if mechanisms.contains(&mechanism) => Ok(()),
        Some((name, _)) => error(format!(
            "sasl.jaas.config has {name}, which does not go with sasl.mechanism={}",
            mechanism.name()
        )),
        None => error(format!(
            "sasl.jaas.config names {:?}; allowed: {}",
            module.name(),
            MODULES.map(|(name, _)| name).join(", ")
        )),
    }
}

/// Java's own classes mean what is done here anyway; others cannot be loaded.
fn check_handlers(reader: &Reader<'_>) -> Result<()> {
    for name in
        ["sasl.client.callback.handler.class", "sasl.login.callback.handler.class", "sasl.login.class"]
    {
        let Some(class) = reader.text(name) else { continue };
        if !class.starts_with("org.apache.kafka.common.security.") {
            let text = format!("property {name}={class}: classes cannot be loaded");
            return Err(Error::new(ErrorKind::Unsupported, text)
                .with_hint("tokens that something else gets can be read from sasl.oauthbearer.token.file"));
        }
    }
    Ok(())
}

fn user(reader: &Reader<'_>, module: Option<&LoginModule>) -> Result<(String, Secret)> {
    let value = |option: &str, property: &str| {
        let found = module.and_then(|module| module.option(option)).or_else(|| reader.text(property));
        found.filter(|value| !value.is_empty()).ok_or_else(|| {
            let text = format!("SASL needs a {option}: sasl.jaas.config has none, and {property} is not set");
            Error::new(ErrorKind::Config, text)
        })
    };
    Ok((value("username", "sasl.username")?.to_owned(), Secret::from(value("password", "sasl.password")?)))
}

fn oauth_bearer(reader: &Reader<'_>, module: Option<&LoginModule>) -> Result<Sasl> {
    let extensions = module.into_iter().flat_map(|module| module.options_with("extension_"));
    let mut owned = Vec::new();
    for (name, value) in extensions {
        let printable = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if name == "auth" || !name.bytes().all(|b| b.is_ascii_alphabetic()) || !printable(value) {
            let text = format!("sasl.jaas.config: extension_{name} is not letters with a printable value");
            return Err(Error::new(ErrorKind::Config, text));
        }
        owned.push((name.to_owned(), value.to_owned()));
    }
    Ok(Sasl::OauthBearer { tokens: token_source(reader, module)?, extensions: owned })
}

fn token_source(reader: &Reader<'_>, module: Option<&LoginModule>) -> Result<TokenSource> {
    let retriever = reader.text("sasl.oauthbearer.jwt.retriever.class").unwrap_or_default();
    let retriever = retriever.rsplit('.').next().unwrap_or_default();
    if !["", "DefaultJwtRetriever", "ClientCredentialsJwtRetriever", "FileJwtRetriever"].contains(&retriever)
    {
        let text = format!("sasl.oauthbearer.jwt.retriever.class={retriever} is not supported");
        return Err(Error::new(ErrorKind::Unsupported, text)
            .with_hint("allowed: ClientCredentialsJwtRetriever, FileJwtRetriever"));
    }
    let url = reader.text("sasl.oauthbearer.token.endpoint.url");
    if let Some(path) = reader.text("sasl.oauthbearer.token.file") {
        return Ok(TokenSource::File(path.into()));
    }
    if let Some(url) = url {
        return match url.strip_prefix("file://") {
            // Only where it is said twice that a file is meant (CVE-2025-27817).
            Some(path) if retriever == "FileJwtRetriever" => Ok(TokenSource::File(path.into())),
            Some(_) => Err(reader.invalid(
                "sasl.oauthbearer.token.endpoint.url",
                "an https:// URL; for a file use sasl.oauthbearer.token.file",
            )),
            None => client_credentials(reader, module, url),
        };
    }
    let subject = module.and_then(|module| module.option("unsecuredLoginStringClaim_sub"));
    let subject = subject.ok_or_else(|| {
        Error::new(ErrorKind::Config, "sasl.mechanism=OAUTHBEARER without a place to get tokens from")
            .with_hint("set sasl.oauthbearer.token.endpoint.url or sasl.oauthbearer.token.file")
    })?;
    let lifetime = module.and_then(|module| module.option("unsecuredLoginLifetimeSeconds"));
    let lifetime = lifetime.map_or(Ok(3600), |text| {
        text.parse().ok().filter(|seconds| (1..=1_000_000_000).contains(seconds)).ok_or_else(|| {
            let text = "sasl.jaas.config: unsecuredLoginLifetimeSeconds is not a number of seconds from 1";
            Error::new(ErrorKind::Config, text)
        })
    })?;
    Ok(TokenSource::Unsecured { subject: subject.to_owned(), lifetime: Duration::from_secs(lifetime) })
}

fn client_credentials(reader: &Reader<'_>, module: Option<&LoginModule>, url: &str) -> Result<TokenSource> {
    if !url.starts_with("https://") {
        return Err(reader.invalid("sasl.oauthbearer.token.endpoint.url", "an https:// URL"));
    }
    let value = |property: &str, option: &str| {
        reader.text(property).or_else(|| module.and_then(|module| module.option(option)))
    };
    let required = |property: &str, option: &str| {
        value(property, option).filter(|value| !value.is_empty()).ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("sasl.oauthbearer.token.endpoint.url needs {property}"))
                .with_hint(format!("or {option} in sasl.jaas.config"))
        })
    };
    let prefix = "sasl.oauthbearer.client.credentials.client";
    let roots = match module.and_then(|module| module.option("ssl.truststore.location")) {
        Some(path) => TrustedRoots::File(Store {
            path: path.into(),
            password: module.and_then(|module| module.option("ssl.truststore.password")).map(Secret::from),
        }),
        None => TrustedRoots::System,
    };
    let seconds = Duration::from_secs;
    let factor = reader.number("sasl.login.refresh.window.factor", 0.8f64, 0.5..=1.0)?;
    let backoff = Backoff { initial: Duration::from_millis(100), max: seconds(10) };
    Ok(TokenSource::ClientCredentials(Box::new(ClientCredentials {
        endpoint: url.to_owned(),
        client_id: required(&format!("{prefix}.id"), "clientId")?.to_owned(),
        client_secret: Secret::from(required(&format!("{prefix}.secret"), "clientSecret")?),
        scope: value("sasl.oauthbearer.scope", "scope").filter(|scope| !scope.is_empty()).map(str::to_owned),
        urlencode: reader.boolean("sasl.oauthbearer.header.urlencode", false)?,
        tls: TlsConfig { roots, ..TlsConfig::default() },
        connect_timeout: reader.millis("sasl.login.connect.timeout.ms", seconds(10), 1)?,
        read_timeout: reader.millis("sasl.login.read.timeout.ms", seconds(10), 1)?,
        retry_backoff: reader.backoff("sasl.login.retry.backoff", backoff)?,
        refresh_permille: (factor * 1000.0) as u32,
    })))
}

#[cfg(test)]
mod tests;
