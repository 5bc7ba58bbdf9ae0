//! What an embedded broker is started with.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_wire::config::Secret;
use kafka_wire::security::Mechanism;

use crate::authorizer::AuthorizerOptions;

/// Which transaction protocol the cluster has finalized (feature `transaction.version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransactionVersion {
    /// Up to Kafka 3.9: partitions are added by request, the epoch stays.
    V0,
    /// As `V0` for clients; only the brokers' own records differ.
    V1,
    /// KIP-890: each transaction raises the producer's epoch, and producing adds the partition. Kafka 4's default.
    #[default]
    V2,
}

impl TransactionVersion {
    pub(crate) const fn level(self) -> i16 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// A topic to be there from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOptions {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Its configuration, by Kafka's names.
    pub configs: Vec<(String, String)>,
}

impl TopicOptions {
    /// A topic with default configuration.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self { name: name.into(), partitions, configs: Vec::new() }
    }

    /// Adds one configuration entry.
    #[must_use]
    pub fn with_config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }
}

/// TLS 1.2 and 1.3 on all listeners. Everything is in PEM form.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The broker's certificate, followed by those that signed it.
    pub certificates: String,
    /// Its key (PKCS #8).
    pub private_key: Secret,
    /// Who signs the certificates of clients (`ssl.client.auth=required`): with it every client has to show one,
    /// and is, unless it authenticates by SASL, the principal `User:` and its subject, such as `User:CN=alice`.
    /// Without it none is asked for.
    pub client_authorities: Option<String>,
}

impl TlsOptions {
    /// From files: the certificate with its chain, and its key.
    ///
    /// # Errors
    /// When a file cannot be read, with its name.
    pub fn from_files(certificates: &Path, private_key: &Path) -> io::Result<Self> {
        let private_key = Secret::from(read(private_key)?);
        Ok(Self { certificates: read(certificates)?, private_key, client_authorities: None })
    }

    /// Asks clients for a certificate that is signed by one in this file.
    ///
    /// # Errors
    /// As [`TlsOptions::from_files`].
    pub fn with_client_authorities(mut self, file: &Path) -> io::Result<Self> {
        self.client_authorities = Some(read(file)?);
        Ok(self)
    }
}

fn read(file: &Path) -> io::Result<String> {
    std::fs::read_to_string(file)
        .map_err(|error| io::Error::new(error.kind(), format!("read {}: {error}", file.display())))
}

/// How clients prove who they are (SASL). With it all clients have to.
///
/// Delegation tokens (KIP-48) can be had where there is SASL, and serve as passwords of SCRAM.
#[derive(Clone, Debug)]
pub struct SaslOptions {
    /// The mechanisms offered; all by default.
    pub mechanisms: Vec<Mechanism>,
    /// Users that are there from the start, with their passwords, for PLAIN and SCRAM. More SCRAM users can be
    /// added by `AlterUserScramCredentials`.
    pub users: Vec<(String, Secret)>,
    /// The key that tokens of OAUTHBEARER are signed with (a JWT with `alg` HS256 or HS512). Without it and
    /// [`oauth_jwks`](Self::oauth_jwks) only unsecured tokens are believed (`alg` none), as by Kafka's
    /// `OAuthBearerUnsecuredValidatorCallbackHandler`.
    pub oauth_key: Option<Secret>,
    /// The public keys of who issues tokens of OAUTHBEARER, as a JSON web key set: what is to be found at
    /// `sasl.oauthbearer.jwks.endpoint.url`. Tokens that one of them signed are believed (`alg` RS256, RS384, RS512, ES256
    /// or ES384), and have to say when they were issued (`iat`), as for Kafka's `BrokerJwtValidator`.
    pub oauth_jwks: Option<String>,
    /// Whom a token has to be for (`aud`; `sasl.oauthbearer.expected.audience`); anybody by default.
    pub oauth_audience: Option<String>,
    /// Who has to have issued a token (`iss`; `sasl.oauthbearer.expected.issuer`); anybody by default.
    pub oauth_issuer: Option<String>,
    /// After how long a client has to authenticate again on the same connection (`connections.max.reauth.ms`,
    /// KIP-368); never by default, except when its token expires.
    pub session_lifetime: Option<Duration>,
}

impl Default for SaslOptions {
    fn default() -> Self {
        let mechanisms = Mechanism::ALL.to_vec();
        Self {
            mechanisms,
            users: Vec::new(),
            oauth_key: None,
            oauth_jwks: None,
            oauth_audience: None,
            oauth_issuer: None,
            session_lifetime: None,
        }
    }
}

impl SaslOptions {
    /// Adds a user.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>, password: &str) -> Self {
        self.users.push((name.into(), Secret::from(password)));
        self
    }
}

/// What a cluster of embedded brokers is started with. The defaults are Kafka's where it has one.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nodes, with ids from 0 on; 1 by default. They share one log.
    pub nodes: u16,
    /// Where to listen: node n takes the port plus n, and port 0 takes any free one for each node.
    /// `127.0.0.1:0` by default.
    pub listen: String,
    /// Where data is kept, to survive the process; in memory by default.
    pub data: Option<PathBuf>,
    /// Whether what is acknowledged also survives a power loss (fsync before each answer). Off by default,
    /// as in Kafka, which relies on replication: without it data survives the process, not the machine.
    pub fsync: bool,
    /// Topics to create at the start where they are not there yet.
    pub topics: Vec<TopicOptions>,
    /// Whether a request for an unknown topic creates it (`auto.create.topics.enable`); true by default.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator did not say (`num.partitions`); 1 by default.
    pub default_partitions: i32,
    /// Whether the listeners speak TLS; plaintext by default.
    pub tls: Option<TlsOptions>,
    /// How clients prove who they are; not at all by default.
    pub sasl: Option<SaslOptions>,
    /// Who may do what; everybody everything by default, as in Kafka.
    pub authorizer: Option<AuthorizerOptions>,
    /// The transaction protocol offered; version 2 by default.
    pub transaction_version: TransactionVersion,
    /// How long the end of a transaction is prepared before its markers are written; 0 by default. Until then
    /// its coordinator answers `CONCURRENT_TRANSACTIONS`, as a busy cluster does.
    pub marker_delay: Duration,
    /// The longest transaction timeout a producer may ask for (`transaction.max.timeout.ms`); 15 minutes.
    pub transaction_max_timeout: Duration,
    /// How long the first members of an empty group wait for others (`group.initial.rebalance.delay.ms`); 0 by
    /// default, where Kafka's is 3 s: tests wait for nobody.
    pub initial_rebalance_delay: Duration,
    /// The shortest session timeout that a member may ask for (`group.min.session.timeout.ms`); 6 s.
    pub session_timeout_min: Duration,
    /// The longest session timeout that a member may ask for (`group.max.session.timeout.ms`); 30 minutes.
    pub session_timeout_max: Duration,
    /// How long a member of a consumer group (KIP-848) may be silent (`group.consumer.session.timeout.ms`); 45 s.
    pub consumer_session_timeout: Duration,
    /// How often members of a consumer group are to be heard of (`group.consumer.heartbeat.interval.ms`); 5 s as
    /// in Kafka. A rebalance takes a few heartbeats: tests that wait for one set it lower.
    pub consumer_heartbeat_interval: Duration,
    /// Whether clients are asked for their figures (KIP-714), which [`Cluster::pushed_metrics`] gives then; false by
    /// default, as in Kafka without a receiver.
    ///
    /// [`Cluster::pushed_metrics`]: crate::Cluster::pushed_metrics
    pub telemetry: bool,
    /// The largest request in bytes (`socket.request.max.bytes`); 100 MiB.
    pub request_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 1,
            listen: "127.0.0.1:0".to_owned(),
            data: None,
            fsync: false,
            topics: Vec::new(),
            auto_create_topics: true,
            default_partitions: 1,
            tls: None,
            sasl: None,
            authorizer: None,
            transaction_version: TransactionVersion::V2,
            marker_delay: Duration::ZERO,
            transaction_max_timeout: Duration::from_secs(15 * 60),
            initial_rebalance_delay: Duration::ZERO,
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            telemetry: false,
            request_bytes_max: 100 * 1024 * 1024,
        }
    }
}

impl Options {
    /// Adds a topic to create at the start.
    #[must_use]
    pub fn with_topic(mut self, name: impl Into<String>, partitions: i32) -> Self {
        self.topics.push(TopicOptions::new(name, partitions));
        self
    }
}
