//! TLS with a real broker: it works, and what goes wrong is said by name.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kafka_wire::config::{ConsumerConfig, ProducerConfig, Properties};
use kafka_wire::{Admin, Consumer, Error, ErrorKind, NewTopic, Position, Producer, Record, TopicPartition};
use tidewater_tests::process::free_ports;
use tidewater_tests::real_kafka::{self, Cluster, Options, Version};

use crate::support::{create, entries, run, wait_until};

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/certificates").join(name)
}

/// A node with three listeners: plaintext, TLS with a certificate for localhost, and TLS with one for another host.
struct Node {
    cluster: Cluster,
    tls_port: u16,
    elsewhere_port: u16,
    _keys: tempfile::TempDir,
}

impl Node {
    fn shared() -> &'static Self {
        static NODE: OnceLock<Node> = OnceLock::new();
        NODE.get_or_init(Self::start)
    }

    fn start() -> Self {
        let ports = free_ports(2).expect("free ports");
        let (tls_port, elsewhere_port) = (ports[0], ports[1]);
        let keys = tempfile::tempdir().expect("a folder for the keys");
        let keystore = |name: &str| {
            let text = ["key", "pem"].map(|kind| {
                std::fs::read_to_string(certificate(&format!("{name}.{kind}"))).expect("a certificate")
            });
            let path = keys.path().join(format!("{name}.pem"));
            std::fs::write(&path, text.concat()).expect("write a key store");
            path.to_string_lossy().into_owned()
        };
        let listeners = format!(
            "PLAINTEXT://127.0.0.1:{{port}},TLS://127.0.0.1:{tls_port},ELSEWHERE://127.0.0.1:{elsewhere_port}"
        );
        let options = Options::new(Version::V4_3, 1)
            .property("listeners", &format!("{listeners},CONTROLLER://127.0.0.1:{{controller_port}}"))
            .property("advertised.listeners", &listeners)
            .property(
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,ELSEWHERE:SSL",
            )
            .property("listener.name.tls.ssl.keystore.type", "PEM")
            .property("listener.name.tls.ssl.keystore.location", &keystore("good"))
            .property("listener.name.elsewhere.ssl.keystore.type", "PEM")
            .property("listener.name.elsewhere.ssl.keystore.location", &keystore("elsewhere"));
        Self { cluster: Cluster::start(options), tls_port, elsewhere_port, _keys: keys }
    }
}

fn properties(bootstrap: &str, protocol: &str, authority: &str) -> Properties {
    let mut properties = Properties::new();
    for (name, value) in [
        ("bootstrap.servers", bootstrap),
        ("security.protocol", protocol),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", &certificate(authority).to_string_lossy()),
        ("default.api.timeout.ms", "5000"),
        ("max.block.ms", "5000"),
    ] {
        properties.set(name, value).expect("a property");
    }
    properties
}

/// What an administrator and a producer are told.
async fn refusals(bootstrap: &str, protocol: &str, authority: &str) -> [Error; 2] {
    let properties = properties(bootstrap, protocol, authority);
    let admin = Admin::from_properties(&properties).expect("an admin client");
    let config = ProducerConfig::from_properties(&properties).expect("a configuration");
    let producer = Producer::new(config).expect("a producer");
    let (described, sent) =
        tokio::join!(admin.describe_cluster(), producer.send(Record::to("anything").value("v")));
    [described.expect_err("it cannot connect"), sent.expect_err("it cannot connect")]
}

/// Records go out and come back over TLS 1.3, by host name and by address.
#[test]
fn records_are_written_and_read_over_tls() {
    if !real_kafka::available() {
        return;
    }
    let node = Node::shared();
    run(async {
        create(&node.cluster, NewTopic::new("over-tls", 1)).await;
        let mut values = Vec::new();
        for host in ["localhost", "127.0.0.1"] {
            let properties = properties(&format!("{host}:{}", node.tls_port), "SSL", "authority.pem");
            let config = ProducerConfig::from_properties(&properties).expect("a configuration");
            let producer = Producer::new(config).expect("a producer");
            for number in 0..20 {
                let value = format!("{host} {number} {}", "x".repeat(1000 * number));
                producer.send(Record::to("over-tls").value(&value)).await.expect("send");
                values.push(value);
            }
            let config = ConsumerConfig::from_properties(&properties).expect("a configuration");
            let mut consumer = Consumer::new(config).expect("a consumer");
            consumer.assign([(TopicPartition::new("over-tls", 0), Position::Beginning)]).expect("assign");
            let mut read = Vec::new();
            wait_until("all is read", async || {
                let batch = consumer.poll(std::time::Duration::from_millis(500)).await.expect("poll");
                read.extend(entries(&batch).into_iter().map(|entry| entry.value));
                read.len() >= values.len()
            })
            .await;
            assert_eq!(read, values);
        }
    });
}

#[test]
fn a_broker_that_does_not_prove_who_it_is_is_refused_by_name() {
    if !real_kafka::available() {
        return;
    }
    let node = Node::shared();
    run(async {
        for (port, authority, says) in [
            (node.tls_port, "stranger.pem", "signed by nobody in ssl.truststore.location"),
            (node.elsewhere_port, "authority.pem", "is for kafka.example.com, not for localhost"),
        ] {
            for error in refusals(&format!("localhost:{port}"), "SSL", authority).await {
                assert!(error.kind() == ErrorKind::Tls && error.to_string().contains(says), "{error:?}");
            }
        }
    });
}

#[test]
fn the_wrong_protocol_for_a_port_is_told_with_the_setting_to_change() {
    if !real_kafka::available() {
        return;
    }
    let node = Node::shared();
    run(async {
        for error in refusals(&format!("localhost:{}", node.tls_port), "PLAINTEXT", "authority.pem").await {
            assert!(error.to_string().contains("security.protocol"), "{error:?}");
        }
        for error in refusals(&node.cluster.bootstrap(), "SSL", "authority.pem").await {
            assert!(error.to_string().contains("security.protocol"), "{error:?}");
        }
    });
}
