//! A real broker with a listener of each kind, shared by the tests of TLS and SASL.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kafka_wire::config::{ConsumerConfig, ProducerConfig, Properties};
use kafka_wire::{
    Admin, ClusterDescription, Consumer, Error, NewTopic, Position, Producer, Record, TopicPartition,
};
use serde_json::json;
use tidewater_tests::issuer::Issuer;
use tidewater_tests::process::free_ports;
use tidewater_tests::proxy::Proxy;
use tidewater_tests::real_kafka::{Cluster, Options, Version};

use crate::support::{create, entries, wait_until};

/// Whom tokens for the listener `ISSUED` must be for, and whom from.
pub const AUDIENCE: &str = "kafka-of-tests";
pub const ISSUER: &str = "https://issuer.example.com/";

/// How long a session of the listeners `RENEW` and `ISSUED` lasts.
pub const SESSION_MS: u64 = 2000;

pub fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/certificates").join(name)
}

/// A node with these listeners beside the plaintext one.
pub struct Secured {
    pub cluster: Cluster,
    /// TLS, with a certificate for localhost.
    pub tls_port: u16,
    /// TLS, with a certificate for another host.
    pub elsewhere_port: u16,
    /// TLS that wants a client certificate.
    pub mutual_port: u16,
    /// SASL in the clear.
    pub sasl_port: u16,
    /// SASL over TLS.
    pub sasl_tls_port: u16,
    /// SCRAM-SHA-512 in the clear, with sessions of [`SESSION_MS`], behind the proxy.
    pub renew_port: u16,
    pub renew_proxy: Proxy,
    /// OAUTHBEARER in the clear, with tokens that the [`issuer`](Self::issuer) has signed for [`AUDIENCE`].
    pub issued_port: u16,
    pub issuer: Issuer,
    _keys: tempfile::TempDir,
}

const LISTENERS: [(&str, &str); 7] = [
    ("TLS", "SSL"),
    ("ELSEWHERE", "SSL"),
    ("MUTUAL", "SSL"),
    ("SASL", "SASL_PLAINTEXT"),
    ("SASLTLS", "SASL_SSL"),
    ("RENEW", "SASL_PLAINTEXT"),
    ("ISSUED", "SASL_PLAINTEXT"),
];

impl Secured {
    /// The one of Kafka 4.3.
    pub fn shared() -> &'static Self {
        static NODE: OnceLock<Secured> = OnceLock::new();
        NODE.get_or_init(|| Self::start(Version::V4_3))
    }

    /// The one of Kafka 3.9.
    pub fn shared_3_9() -> &'static Self {
        static NODE: OnceLock<Secured> = OnceLock::new();
        NODE.get_or_init(|| Self::start(Version::V3_9))
    }

    fn start(version: Version) -> Self {
        let ports = free_ports(LISTENERS.len() + 1).expect("free ports");
        let (renew_port, behind_proxy) = (ports[LISTENERS.len()], ports[5]);
        let renew_proxy = Proxy::start([(renew_port, behind_proxy)]).expect("start the proxy");
        let keys = tempfile::tempdir().expect("a folder for the keys");
        let issuer = Issuer::new("the-key");
        let listeners = |port_of: &dyn Fn(usize) -> u16| {
            let named = LISTENERS.iter().enumerate();
            named.map(|(n, (name, _))| format!(",{name}://127.0.0.1:{}", port_of(n))).collect::<String>()
        };
        let advertised = |n| if n == 5 { renew_port } else { ports[n] };
        let protocols = LISTENERS.map(|(name, protocol)| format!(",{name}:{protocol}")).concat();
        let mut options = Options::new(version, 1)
            .property(
                "listeners",
                &format!(
                    "PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller_port}}{}",
                    listeners(&|n| ports[n])
                ),
            )
            .property(
                "advertised.listeners",
                &format!("PLAINTEXT://127.0.0.1:{{port}}{}", listeners(&advertised)),
            )
            .property(
                "listener.security.protocol.map",
                &format!("PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}"),
            )
            .property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
            .property("allow.everyone.if.no.acl.found", "true")
            .property("super.users", "User:ANONYMOUS")
            .property("connection.failed.authentication.delay.ms", "1")
            .property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
            .property("super.users", "User:ANONYMOUS")
            .property("allow.everyone.if.no.acl.found", "true")
            .property("delegation.token.secret.key", "a-key-for-tests")
            .property("listener.name.mutual.ssl.client.auth", "required")
            .property("listener.name.mutual.ssl.truststore.type", "PEM")
            .property(
                "listener.name.mutual.ssl.truststore.location",
                &certificate("authority.pem").to_string_lossy(),
            );
        for (listener, name) in
            [("tls", "good"), ("elsewhere", "elsewhere"), ("mutual", "good"), ("sasltls", "good")]
        {
            let path = key_store(keys.path(), name).to_string_lossy().into_owned();
            options = options
                .property(&format!("listener.name.{listener}.ssl.keystore.type"), "PEM")
                .property(&format!("listener.name.{listener}.ssl.keystore.location"), &path);
        }
        for listener in ["sasl", "sasltls"] {
            options = with_mechanisms(options, listener);
        }
        let modules = "org.apache.kafka.common.security";
        options = options
            .property("listener.name.renew.sasl.enabled.mechanisms", "SCRAM-SHA-512")
            .property(
                "listener.name.renew.scram-sha-512.sasl.jaas.config",
                &format!("{modules}.scram.ScramLoginModule required;"),
            )
            .property("listener.name.renew.scram-sha-512.connections.max.reauth.ms", &SESSION_MS.to_string());
        let cluster = Cluster::start(with_issuer(options, &issuer, keys.path()));
        // Kafka alters one credential of a user at a time.
        for credential in
            ["SCRAM-SHA-256=[password=alice-secret]", "SCRAM-SHA-512=[iterations=8192,password=alice-secret]"]
        {
            let entity = ["--entity-type", "users", "--entity-name", "alice"];
            let change = ["--alter", "--add-config", credential];
            cluster.tool("kafka.admin.ConfigCommand", &[&change[..], &entity].concat());
        }
        Self {
            cluster,
            tls_port: ports[0],
            elsewhere_port: ports[1],
            mutual_port: ports[2],
            sasl_port: ports[3],
            sasl_tls_port: ports[4],
            renew_port,
            renew_proxy,
            issued_port: ports[6],
            issuer,
            _keys: keys,
        }
    }
}

fn with_mechanisms(options: Options, listener: &str) -> Options {
    let modules = "org.apache.kafka.common.security";
    let prefix = format!("listener.name.{listener}");
    options
        .property(
            &format!("{prefix}.sasl.enabled.mechanisms"),
            "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        )
        .property(
            &format!("{prefix}.plain.sasl.jaas.config"),
            &format!("{modules}.plain.PlainLoginModule required user_alice=\"alice-secret\";"),
        )
        .property(
            &format!("{prefix}.scram-sha-256.sasl.jaas.config"),
            &format!("{modules}.scram.ScramLoginModule required;"),
        )
        .property(
            &format!("{prefix}.scram-sha-512.sasl.jaas.config"),
            &format!("{modules}.scram.ScramLoginModule required;"),
        )
        // Its default validator checks tokens without a signature: claims and dates.
        .property(
            &format!("{prefix}.oauthbearer.sasl.jaas.config"),
            &format!("{modules}.oauthbearer.OAuthBearerLoginModule required;"),
        )
}

/// Kafka's own validator: signature, dates, issuer and audience.
fn with_issuer(options: Options, issuer: &Issuer, folder: &Path) -> Options {
    let package = "org.apache.kafka.common.security.oauthbearer";
    let prefix = "listener.name.issued";
    let path = folder.join("jwks.json");
    std::fs::write(&path, json!({ "keys": [issuer.public_key()] }).to_string()).expect("write the key");
    let url = format!("file://{}", path.display());
    options
        .property(&format!("{prefix}.sasl.enabled.mechanisms"), "OAUTHBEARER")
        .property(
            &format!("{prefix}.oauthbearer.sasl.jaas.config"),
            &format!("{package}.OAuthBearerLoginModule required;"),
        )
        .property(
            &format!("{prefix}.oauthbearer.sasl.server.callback.handler.class"),
            &format!("{package}.OAuthBearerValidatorCallbackHandler"),
        )
        .property(&format!("{prefix}.oauthbearer.connections.max.reauth.ms"), &SESSION_MS.to_string())
        .property(&format!("{prefix}.sasl.oauthbearer.jwks.endpoint.url"), &url)
        .property(&format!("{prefix}.sasl.oauthbearer.expected.audience"), AUDIENCE)
        .property(&format!("{prefix}.sasl.oauthbearer.expected.issuer"), ISSUER)
        .system_property("org.apache.kafka.sasl.oauthbearer.allowed.urls", &url)
}

/// A PEM file with the key and the certificate `name`.
pub fn key_store(folder: &Path, name: &str) -> PathBuf {
    let text = ["key", "pem"]
        .map(|kind| std::fs::read_to_string(certificate(&format!("{name}.{kind}"))).expect("a certificate"));
    let path = folder.join(format!("{name}-with-key.pem"));
    std::fs::write(&path, text.concat()).expect("write a key store");
    path
}

/// The properties of a client with little patience.
pub fn properties(port: u16, protocol: &str, more: &[(&str, &str)]) -> Properties {
    let mut properties = Properties::new();
    let bootstrap = format!("localhost:{port}");
    for (name, value) in [
        ("bootstrap.servers", bootstrap.as_str()),
        ("security.protocol", protocol),
        ("default.api.timeout.ms", "5000"),
        ("max.block.ms", "5000"),
    ]
    .iter()
    .chain(more)
    {
        properties.set(*name, *value).expect("a property");
    }
    if protocol.ends_with("SSL") && properties.value("ssl.truststore.location").is_none() {
        properties
            .set("ssl.truststore.location", certificate("authority.pem").to_string_lossy())
            .expect("set");
    }
    properties
}

/// Asks who the brokers are.
pub async fn describe(properties: &Properties) -> Result<ClusterDescription, Error> {
    Admin::from_properties(properties)?.describe_cluster().await
}

/// Writes and reads a few records.
pub async fn write_and_read(node: &Secured, topic: &str, properties: &Properties) {
    create(&node.cluster, NewTopic::new(topic, 1)).await;
    let config = ProducerConfig::from_properties(properties).expect("a configuration");
    let producer = Producer::new(config).expect("a producer");
    let values: Vec<String> = (0..20).map(|n| format!("{n} {}", "x".repeat(1000 * n))).collect();
    for value in &values {
        producer.send(Record::to(topic).value(value)).await.expect("send");
    }
    let config = ConsumerConfig::from_properties(properties).expect("a configuration");
    let mut consumer = Consumer::new(config).expect("a consumer");
    consumer.assign([(TopicPartition::new(topic, 0), Position::Beginning)]).expect("assign");
    let mut read = Vec::new();
    wait_until("all is read", async || {
        let batch = consumer.poll(std::time::Duration::from_millis(500)).await.expect("poll");
        read.extend(entries(&batch).into_iter().map(|entry| entry.value));
        read.len() >= values.len()
    })
    .await;
    assert_eq!(read, values);
}
