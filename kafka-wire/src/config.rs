//! What can be set, as plain typed values; and the Java property names it is read from. Layer 5.
//!
//! Defaults are those of Kafka 4.3's Java client unless a field says otherwise and why.

mod consumer;
mod group;
mod jaas;
mod names;
mod offset_reset;
mod parse;
mod producer;
mod properties;
mod resolver;
mod sasl;
mod security;
mod share;

use std::fmt;
use std::time::Duration;

pub use consumer::ConsumerConfig;
pub use group::{GroupConfig, GroupProtocol, Strategy};
pub use offset_reset::OffsetReset;
pub use producer::{PartitionerClass, ProducerConfig};
pub use properties::Properties;
#[cfg_attr(not(feature = "tls"), allow(unused_imports, reason = "key files are read for TLS"))]
pub(crate) use properties::warn_if_others_can_read;
pub use resolver::HostResolver;
pub use sasl::{ClientCredentials, Sasl, TokenProvider, TokenSource};
pub use security::{ClientIdentity, Security, Store, TlsConfig, TlsVersions, TrustedRoots};
pub use share::{AcknowledgementMode, AcquireMode, ShareConsumerConfig};

use crate::error::Result;
pub use crate::security::{Mechanism, ScramHash, Secret};
pub use crate::time::Backoff;
use crate::time::bound;
use parse::Reader;

/// A broker's address: a host name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name to resolve, or an IP address (IPv6 without brackets).
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What to do when no broker of the last metadata answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataRecovery {
    /// Ask the bootstrap servers again, whose names may have other addresses by now.
    Rebootstrap,
    /// Go on with the brokers that are known.
    None,
}

/// Sizes of a connection's buffers in the operating system; `None` leaves them to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketBuffers {
    /// `SO_SNDBUF`, in bytes.
    pub send_bytes: Option<u32>,
    /// `SO_RCVBUF`, in bytes.
    pub receive_bytes: Option<u32>,
}

/// What every client needs: where the cluster is, and how patient to be with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// `bootstrap.servers`: brokers to learn the others from. Required.
    pub bootstrap_servers: Vec<HostPort>,
    /// `client.id`: how brokers name this client in logs, metrics and quotas. Default `tidewater`: Java
    /// counts up instead, which names nobody.
    pub client_id: String,
    /// `client.rack`: where this client is, so that it may fetch from a replica close by (KIP-392).
    pub client_rack: Option<String>,
    /// Finds brokers' addresses; no property says so. Default: the system's resolver, all addresses of a name in turn.
    pub host_resolver: Option<HostResolver>,
    /// `security.protocol`, `ssl.*` and `sasl.*`. Default: plaintext.
    pub security: Security,
    /// `request.timeout.ms`: how long an answer may take before the connection is given up. Default 30 s.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: how long a call of the application may take in all. Default 60 s.
    pub default_api_timeout: Duration,
    /// `socket.connection.setup.timeout.ms`: how long resolving, connecting and the TLS handshake may take
    /// together; and again the first answer, which says what the broker speaks. Default 10 s.
    pub connection_setup_timeout: Duration,
    /// `socket.connection.setup.timeout.max.ms`: what that grows to, doubling with each failure in a row (KIP-601).
    /// Default 30 s.
    pub connection_setup_timeout_max: Duration,
    /// `reconnect.backoff.ms` and `reconnect.backoff.max.ms`: the pause before a broker is dialled again.
    /// Default 50 ms to 1 s.
    pub reconnect_backoff: Backoff,
    /// `retry.backoff.ms` and `retry.backoff.max.ms`: the pause before a failed request is repeated.
    /// Default 100 ms to 1 s.
    pub retry_backoff: Backoff,
    /// `connections.max.idle.ms`: a connection without traffic is closed after this. Default 9 min, just
    /// under the brokers' 10.
    pub connections_max_idle: Duration,
    /// `send.buffer.bytes` and `receive.buffer.bytes`: what the operating system buffers of a connection. Default: as
    /// much as it finds right (Java's -1), where Java's 128 and 64 KiB hold back distant brokers.
    pub socket_buffers: SocketBuffers,
    /// `metadata.max.age.ms`: how old metadata may be before it is asked for again. Default 5 min.
    pub metadata_max_age: Duration,
    /// `metadata.recovery.strategy`: what to do when no broker of the last metadata answers (KIP-899). Default
    /// `rebootstrap`.
    pub metadata_recovery: MetadataRecovery,
    /// `metadata.recovery.rebootstrap.trigger.ms`: after how long without metadata, while brokers are connected but do
    /// not answer, the client starts again from its bootstrap servers (KIP-1102). Default 5 min.
    pub rebootstrap_trigger: Duration,
    /// `enable.metrics.push`: whether brokers that ask for it are told this client's figures (KIP-714). Default `true`.
    pub enable_metrics_push: bool,
    /// `allow.auto.create.topics`: whether asking for a topic may create it, where the broker allows that.
    /// Default `false`, unlike Java: a mistyped name should be an error, not a topic.
    pub allow_auto_create_topics: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            bootstrap_servers: Vec::new(),
            client_id: "tidewater".to_owned(),
            client_rack: None,
            host_resolver: None,
            security: Security::default(),
            request_timeout: Duration::from_secs(30),
            default_api_timeout: Duration::from_secs(60),
            connection_setup_timeout: Duration::from_secs(10),
            connection_setup_timeout_max: Duration::from_secs(30),
            reconnect_backoff: Backoff { initial: Duration::from_millis(50), max: Duration::from_secs(1) },
            retry_backoff: Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) },
            connections_max_idle: Duration::from_secs(540),
            socket_buffers: SocketBuffers::default(),
            metadata_max_age: Duration::from_secs(300),
            metadata_recovery: MetadataRecovery::Rebootstrap,
            rebootstrap_trigger: Duration::from_secs(300),
            enable_metrics_push: true,
            allow_auto_create_topics: false,
        }
    }
}

impl ClientConfig {
    /// The defaults with these bootstrap servers: `host:port`, several separated by commas.
    ///
    /// # Errors
    /// `Config`, when it is not such a list.
    pub fn bootstrap(servers: &str) -> Result<Self> {
        Ok(Self { bootstrap_servers: parse::host_ports(servers)?, ..Self::default() })
    }

    /// Reads the properties that concern every client.
    ///
    /// # Errors
    /// `Config`, naming the property, its value and what is allowed.
    pub fn from_properties(properties: &Properties) -> Result<Self> {
        Self::read(&Reader::new(properties))
    }

    /// With times that a clock can tell: what is longer is as good as for ever.
    #[cfg_attr(
        not(feature = "net"),
        allow(dead_code, reason = "the handles bound what applications give them")
    )]
    pub(crate) fn with_finite_times(mut self) -> Self {
        bound([
            &mut self.request_timeout,
            &mut self.default_api_timeout,
            &mut self.connection_setup_timeout,
            &mut self.connection_setup_timeout_max,
            &mut self.reconnect_backoff.initial,
            &mut self.reconnect_backoff.max,
            &mut self.retry_backoff.initial,
            &mut self.retry_backoff.max,
            &mut self.connections_max_idle,
            &mut self.metadata_max_age,
            &mut self.rebootstrap_trigger,
        ]);
        self
    }

    fn read(reader: &Reader<'_>) -> Result<Self> {
        let default = Self::default();
        // The other choice asks the resolver for names of addresses, which only Kerberos needs.
        reader.choice("client.dns.lookup", (), &[("use_all_dns_ips", ())])?;
        Ok(Self {
            bootstrap_servers: reader.bootstrap_servers()?,
            client_id: reader.text("client.id").unwrap_or(&default.client_id).to_owned(),
            client_rack: reader.text("client.rack").filter(|rack| !rack.is_empty()).map(str::to_owned),
            host_resolver: default.host_resolver,
            security: Security::read(reader)?,
            request_timeout: reader.millis("request.timeout.ms", default.request_timeout, 1)?,
            default_api_timeout: reader.millis("default.api.timeout.ms", default.default_api_timeout, 1)?,
            connection_setup_timeout: reader.millis(
                "socket.connection.setup.timeout.ms",
                default.connection_setup_timeout,
                1,
            )?,
            connection_setup_timeout_max: reader.millis(
                "socket.connection.setup.timeout.max.ms",
                default.connection_setup_timeout_max,
                1,
            )?,
            reconnect_backoff: reader.backoff("reconnect.backoff", default.reconnect_backoff)?,
            retry_backoff: reader.backoff("retry.backoff", default.retry_backoff)?,
            connections_max_idle: reader.millis(
                "connections.max.idle.ms",
                default.connections_max_idle,
                1000,
            )?,
            socket_buffers: SocketBuffers {
                send_bytes: socket_buffer(reader, "send.buffer.bytes")?,
                receive_bytes: socket_buffer(reader, "receive.buffer.bytes")?,
            },
            metadata_max_age: reader.millis("metadata.max.age.ms", default.metadata_max_age, 100)?,
            metadata_recovery: reader.choice(
                "metadata.recovery.strategy",
                default.metadata_recovery,
                &[("rebootstrap", MetadataRecovery::Rebootstrap), ("none", MetadataRecovery::None)],
            )?,
            rebootstrap_trigger: reader.millis(
                "metadata.recovery.rebootstrap.trigger.ms",
                default.rebootstrap_trigger,
                0,
            )?,
            enable_metrics_push: reader.boolean("enable.metrics.push", default.enable_metrics_push)?,
            allow_auto_create_topics: reader
                .boolean("allow.auto.create.topics", default.allow_auto_create_topics)?,
        })
    }
}

/// Java's -1 is the operating system's own size.
fn socket_buffer(reader: &Reader<'_>, name: &str) -> Result<Option<u32>> {
    let size = reader.number(name, -1, -1..=1 << 30)?;
    Ok(u32::try_from(size).ok().filter(|size| *size > 0))
}
