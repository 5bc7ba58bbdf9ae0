//! TLS with a real broker: it works, both sides prove who they are, and what goes wrong is said by name.

use std::path::Path;

use kafka_wire::config::{ProducerConfig, Properties};
use kafka_wire::{Admin, Error, ErrorKind, Producer, Record};
use tidewater_tests::real_kafka;

use crate::secured::{Secured, certificate, describe, key_store, properties, write_and_read};
use crate::support::run;

/// Runs a test on the node with secured listeners, where real Kafka can be run.
fn on_secured<F: Future<Output = ()>>(test: impl FnOnce(&'static Secured) -> F) {
    if real_kafka::available() {
        run(test(Secured::shared()));
    }
}

fn with_authority(port: u16, protocol: &str, authority: &str) -> Properties {
    let path = certificate(authority);
    properties(port, protocol, &[("ssl.truststore.location", &path.to_string_lossy())])
}

/// What an administrator and a producer are told.
async fn refusals(properties: &Properties) -> [Error; 2] {
    let admin = Admin::from_properties(properties).expect("an admin client");
    let config = ProducerConfig::from_properties(properties).expect("a configuration");
    let producer = Producer::new(config).expect("a producer");
    let (described, sent) =
        tokio::join!(admin.describe_cluster(), producer.send(Record::to("anything").value("v")));
    [described.expect_err("it cannot connect"), sent.expect_err("it cannot connect")]
}

/// Records go out and come back, by host name and by address, in both versions of TLS.
#[test]
fn records_are_written_and_read_over_tls() {
    on_secured(|node| async {
        let mut properties = properties(node.tls_port, "SSL", &[("ssl.enabled.protocols", "TLSv1.3")]);
        write_and_read(node, "over-tls-1.3", &properties).await;
        properties.set("bootstrap.servers", format!("127.0.0.1:{}", node.tls_port)).expect("set");
        properties.set("ssl.enabled.protocols", "TLSv1.2").expect("set");
        write_and_read(node, "over-tls-1.2", &properties).await;
    });
}

#[test]
fn a_broker_that_does_not_prove_who_it_is_is_refused_by_name() {
    on_secured(|node| async {
        for (port, authority, says) in [
            (node.tls_port, "stranger.pem", "signed by nobody in ssl.truststore.location"),
            (node.elsewhere_port, "authority.pem", "is for kafka.example.com, not for localhost"),
        ] {
            for error in refusals(&with_authority(port, "SSL", authority)).await {
                assert!(error.kind() == ErrorKind::Tls && error.to_string().contains(says), "{error:?}");
            }
        }
    });
}

#[test]
fn the_wrong_protocol_for_a_port_is_told_with_the_setting_to_change() {
    on_secured(|node| async {
        for error in refusals(&with_authority(node.tls_port, "PLAINTEXT", "authority.pem")).await {
            assert!(error.to_string().contains("security.protocol"), "{error:?}");
        }
        let plaintext = node.cluster.bootstrap().rsplit(':').next().and_then(|port| port.parse().ok());
        for error in refusals(&with_authority(plaintext.expect("a port"), "SSL", "authority.pem")).await {
            assert!(error.to_string().contains("security.protocol"), "{error:?}");
        }
    });
}

fn keyed(port: u16, store: &Path, more: &[(&str, &str)]) -> Properties {
    let store = store.to_string_lossy();
    let mut all = vec![("ssl.keystore.location", &*store)];
    all.extend_from_slice(more);
    properties(port, "SSL", &all)
}

/// PEM with a key in the clear, with an encrypted one, in the properties themselves, and PKCS#12.
#[test]
fn a_client_proves_who_it_is_from_any_kind_of_store() {
    on_secured(|node| async {
        let port = node.mutual_port;
        let folder = tempfile::tempdir().expect("a folder");
        let text = |name: &str| std::fs::read_to_string(certificate(name)).expect("a certificate");
        let encrypted = folder.path().join("encrypted.pem");
        std::fs::write(&encrypted, text("client.pem") + &text("client-encrypted.key"))
            .expect("write a store");
        let (chain, key) = (text("client.pem").replace('\n', " "), text("client.key").replace('\n', " "));
        let p12_roots = certificate("authority.p12");
        for properties in [
            keyed(port, &key_store(folder.path(), "client"), &[]),
            keyed(port, &encrypted, &[("ssl.keystore.type", "PEM"), ("ssl.key.password", "canary")]),
            keyed(
                port,
                &certificate("client.p12"),
                &[
                    ("ssl.keystore.password", "canary"),
                    ("ssl.truststore.type", "PKCS12"),
                    ("ssl.truststore.location", &p12_roots.to_string_lossy()),
                    ("ssl.truststore.password", "canary"),
                ],
            ),
            properties(
                port,
                "SSL",
                &[("ssl.keystore.certificate.chain", &chain), ("ssl.keystore.key", &key)],
            ),
        ] {
            assert_eq!(describe(&properties).await.expect("a certificate").brokers.len(), 1);
        }
        let tls_12 = [("ssl.keystore.password", "canary"), ("ssl.enabled.protocols", "TLSv1.2")];
        describe(&keyed(port, &certificate("client.p12"), &tls_12)).await.expect("a certificate");
    });
}

#[test]
fn a_missing_or_strange_client_certificate_is_told() {
    on_secured(|node| async {
        let folder = tempfile::tempdir().expect("a folder");
        let intruder = key_store(folder.path(), "intruder");
        for version in ["TLSv1.3", "TLSv1.2"] {
            let version = ("ssl.enabled.protocols", version);
            for error in refusals(&properties(node.mutual_port, "SSL", &[version])).await {
                let text = error.to_string();
                assert!(
                    error.kind() == ErrorKind::Tls && text.contains("set ssl.keystore.location"),
                    "{text}"
                );
            }
            for error in refusals(&keyed(node.mutual_port, &intruder, &[version])).await {
                let text = error.to_string();
                assert!(
                    error.kind() == ErrorKind::Tls && text.contains("check ssl.keystore.location"),
                    "{text}"
                );
            }
        }
    });
}

/// KIP-1288: a certificate is renewed by putting another file in its place.
#[test]
fn a_changed_key_store_is_used_by_the_next_connection() {
    on_secured(|node| async {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("store");
        std::fs::copy(key_store(folder.path(), "intruder"), &store).expect("copy");
        let admin = Admin::from_properties(&keyed(node.mutual_port, &store, &[])).expect("an admin client");
        admin.describe_cluster().await.expect_err("a stranger");
        std::fs::write(&store, "half a fi").expect("write");
        admin.describe_cluster().await.expect_err("the last certificate is used");
        std::fs::copy(key_store(folder.path(), "client"), &store).expect("copy");
        assert_eq!(admin.describe_cluster().await.expect("the new certificate").brokers.len(), 1);
    });
}
