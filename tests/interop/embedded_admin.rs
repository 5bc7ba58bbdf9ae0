//! Kafka's own Admin client on the embedded broker: it sees there what it sees on real Kafka; and it logs in over TLS
//! and SASL.

use std::path::{Path, PathBuf};

use tidewater_broker::{Acl, AuthorizerOptions, EmbeddedBroker, Operation, Options, SaslOptions, TlsOptions};
use tidewater_tests::java;
use tidewater_tests::real_kafka::{self, Cluster, Version};

fn administer(arguments: &[&str]) -> Vec<String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/Administration.java");
    let said = java::run(&real_kafka::jars(Version::V4_3), &program, arguments);
    // Kafka's client logs to the standard output; such lines begin with the date.
    let is_said = |line: &&str| !line.starts_with(|first: char| first.is_ascii_digit());
    said.lines().filter(is_said).map(str::to_owned).collect()
}

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/certificates").join(name)
}

#[test]
fn javas_admin_sees_what_it_sees_on_kafka() {
    if !real_kafka::available() {
        return;
    }
    let kafka = Cluster::shared(Version::V4_3);
    let embedded = EmbeddedBroker::start(Options::default()).expect("start");
    let expected = administer(&["operations", &kafka.bootstrap()]);
    let seen = administer(&["operations", &embedded.bootstrap()]);
    assert!(expected.len() > 60, "{expected:#?}");
    let other: Vec<(&String, &String)> =
        expected.iter().zip(&seen).filter(|(expected, seen)| expected != seen).collect();
    assert!(other.is_empty() && expected.len() == seen.len(), "Kafka's, then ours: {other:#?}");
}

/// A broker with TLS, users and rights: alice may write and read `open`, root may do everything.
fn guarded() -> EmbeddedBroker {
    let tls =
        TlsOptions::from_files(&certificate("good.pem"), &certificate("good.key")).expect("certificates");
    let sasl = SaslOptions::default().with_user("alice", "alice-secret").with_user("root", "root-secret");
    let authorizer =
        AuthorizerOptions { super_users: vec!["User:root".to_owned()], ..AuthorizerOptions::default() };
    let options =
        Options { tls: Some(tls), sasl: Some(sasl), authorizer: Some(authorizer), ..Options::default() };
    let broker = EmbeddedBroker::start(options.with_topic("open", 1).with_topic("closed", 1)).expect("start");
    broker.control(|cluster, _| {
        cluster.add_acl(Acl::allow("User:alice", Operation::Write).topic("open"));
        cluster.add_acl(Acl::allow("User:alice", Operation::Read).topic("open"));
    });
    broker
}

fn login(broker: &EmbeddedBroker, mechanism: &str, jaas: &str) -> Vec<String> {
    let authority = format!("ssl.truststore.location={}", certificate("authority.pem").display());
    let (mechanism, jaas) = (format!("sasl.mechanism={mechanism}"), format!("sasl.jaas.config={jaas}"));
    let bootstrap = broker.bootstrap();
    let mut arguments = vec!["login", &bootstrap, "security.protocol=SASL_SSL", "ssl.truststore.type=PEM"];
    arguments.extend([authority.as_str(), &mechanism, &jaas, "default.api.timeout.ms=15000"]);
    administer(&arguments)
}

fn jaas(module: &str, user: &str, password: &str) -> String {
    format!("org.apache.kafka.common.security.{module} required username=\"{user}\" password=\"{password}\";")
}

#[test]
fn java_logs_in_and_may_do_what_its_user_may() {
    if !real_kafka::available() {
        return;
    }
    let broker = guarded();
    let root = login(&broker, "PLAIN", &jaas("plain.PlainLoginModule", "root", "root-secret"));
    let all = ["topics: [closed, open]", "write: 0", "read: value", "create: null", "grant: null"];
    assert_eq!(root[..5], all, "{root:#?}");
    assert_eq!(root[5..], ["granted: 3", "revoke: 1", "token: User:root"], "{root:#?}");

    let alice = login(&broker, "SCRAM-SHA-512", &jaas("scram.ScramLoginModule", "alice", "alice-secret"));
    let refused = "ClusterAuthorizationException";
    assert_eq!(
        alice,
        [
            "topics: [open]".to_owned(),
            "write: 0".to_owned(),
            "read: value".to_owned(),
            "create: TopicAuthorizationException".to_owned(),
            format!("grant: {refused}"),
            format!("granted: {refused}"),
            format!("revoke: {refused}"),
            "token: User:alice".to_owned(),
        ]
    );
    let wrong = login(&broker, "SCRAM-SHA-256", &jaas("scram.ScramLoginModule", "alice", "wrong"));
    assert_eq!(wrong[0], "topics: SaslAuthenticationException");
}
