//! A guarded broker: the client logs in by each mechanism, and is told what it may not do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_wire::config::{ConsumerConfig, OffsetReset, Properties};
use kafka_wire::{Admin, Consumer, ErrorCode, ErrorKind, NewTopic, Producer, Record};
use tidewater_broker::{Acl, AuthorizerOptions, EmbeddedBroker, Operation, Options, SaslOptions, TlsOptions};

use crate::{block_on, broker};

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/certificates").join(name)
}

fn tls() -> TlsOptions {
    TlsOptions::from_files(&certificate("good.pem"), &certificate("good.key")).expect("certificates")
}

fn guarded(super_user: &str) -> AuthorizerOptions {
    AuthorizerOptions { super_users: vec![super_user.to_owned()], ..AuthorizerOptions::default() }
}

fn properties(broker: &EmbeddedBroker, more: &[(&str, &str)]) -> Properties {
    let mut properties = Properties::new();
    let authority = certificate("authority.pem");
    for (name, value) in [
        ("bootstrap.servers", &*broker.bootstrap()),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", &authority.to_string_lossy()),
    ] {
        properties.set(name, value).unwrap();
    }
    for (name, value) in more {
        properties.set(*name, *value).unwrap();
    }
    properties
}

fn login(broker: &EmbeddedBroker, mechanism: &str, user: &str, password: &str) -> Properties {
    let module = if mechanism == "PLAIN" { "plain.PlainLoginModule" } else { "scram.ScramLoginModule" };
    let jaas = format!(
        "org.apache.kafka.common.security.{module} required username=\"{user}\" password=\"{password}\";"
    );
    let more = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", mechanism),
        ("sasl.jaas.config", jaas.as_str()),
    ];
    properties(broker, &more)
}

#[test]
fn every_mechanism_logs_in_and_a_wrong_password_does_not() {
    let sasl = SaslOptions::default().with_user("alice", "secret");
    let broker = broker(Options { tls: Some(tls()), sasl: Some(sasl), ..Options::default() });
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let admin = Admin::from_properties(&login(&broker, mechanism, "alice", "secret")).unwrap();
        assert_eq!(block_on(admin.describe_cluster()).unwrap().brokers.len(), 1, "{mechanism}");
        let admin = Admin::from_properties(&login(&broker, mechanism, "alice", "wrong")).unwrap();
        let error = block_on(admin.describe_cluster()).unwrap_err();
        assert!(error.kind() == ErrorKind::Authentication && error.is_fatal(), "{mechanism}: {error}");
    }
}

#[test]
fn a_token_is_believed_from_who_may_issue_it_and_no_other() {
    let vectors = include_str!("../../kafka-wire/broker/src/sasl/jwt/vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
    let sasl = SaslOptions {
        oauth_jwks: Some(vectors["keys"].to_string()),
        oauth_audience: Some("kafka".to_owned()),
        ..SaslOptions::default()
    };
    let broker = broker(Options { tls: Some(tls()), sasl: Some(sasl), ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let describe = |name: &str| {
        std::fs::write(&file, vectors["tokens"][name].as_str().unwrap()).unwrap();
        let more = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.token.file", file.to_str().unwrap()),
        ];
        let admin = Admin::from_properties(&properties(&broker, &more)).unwrap();
        block_on(admin.describe_cluster())
    };
    for name in ["rs256", "es256"] {
        assert_eq!(describe(name).unwrap().brokers.len(), 1, "{name}");
    }
    for name in ["another_key", "another_audience", "expired", "not_yet"] {
        let error = describe(name).unwrap_err();
        assert!(error.kind() == ErrorKind::Authentication && error.is_fatal(), "{name}: {error}");
    }
    let error = describe("another_key").unwrap_err().to_string();
    assert!(error.contains("invalid_token"), "{error}");
}

#[test]
fn what_a_user_may_not_do_is_refused_by_name() {
    let sasl = SaslOptions::default().with_user("alice", "secret");
    let authorizer = Some(guarded("User:root"));
    let broker = broker(
        Options { tls: Some(tls()), sasl: Some(sasl), authorizer, ..Options::default() }
            .with_topic("open", 1),
    );
    broker.control(|cluster, _| cluster.add_acl(Acl::allow("User:alice", Operation::Write).topic("open")));
    let properties = login(&broker, "SCRAM-SHA-256", "alice", "secret");
    let producer = Producer::from_properties(&properties).unwrap();
    block_on(producer.send(Record::to("open").value("a"))).unwrap();
    let error = block_on(producer.send(Record::to("closed").value("a"))).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED), "{error}");
    let admin = Admin::from_properties(&properties).unwrap();
    let created = block_on(admin.create_topics([NewTopic::new("mine", 1)])).unwrap().remove(0).1;
    assert_eq!(created.unwrap_err().code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
}

/// By name, each time it is asked, and no longer when the right is there again.
#[test]
fn a_consumer_that_may_not_read_any_more_goes_on_when_it_may() {
    let sasl = SaslOptions::default().with_user("alice", "secret");
    let authorizer = Some(guarded("User:root"));
    let options = Options {
        tls: Some(tls()),
        sasl: Some(sasl.with_user("root", "secret")),
        authorizer,
        ..Options::default()
    };
    let broker = broker(options.with_topic("read", 1));
    let rights = [
        Acl::allow("User:alice", Operation::Read).topic("read"),
        Acl::allow("User:alice", Operation::Read).group("readers"),
    ];
    let set = |right: &Acl, is_given: bool| {
        broker.control(|cluster, _| {
            if is_given { cluster.add_acl(right.clone()) } else { cluster.remove_acl(right.clone()) }
        });
    };
    rights.iter().for_each(|right| set(right, true));
    let producer = Producer::from_properties(&login(&broker, "PLAIN", "root", "secret")).unwrap();
    let mut config = ConsumerConfig::from_properties(&login(&broker, "PLAIN", "alice", "secret")).unwrap();
    config.group_id = Some("readers".to_owned());
    config.auto_offset_reset = OffsetReset::Earliest;
    config.group.heartbeat_interval = Duration::from_millis(50);
    let mut consumer = Consumer::new(config).unwrap();
    consumer.subscribe(["read"]).unwrap();
    let mut read = Vec::new();
    let mut read_one = |consumer: &mut Consumer, may_refuse: bool| {
        block_on(producer.send(Record::to("read").value("value"))).unwrap();
        let count = read.len() + 1;
        while read.len() < count {
            match consumer.poll_blocking(Duration::from_secs(1)) {
                Ok(batch) => read.extend(batch.iter().map(|record| record.offset)),
                Err(error) => {
                    assert!(may_refuse && error.to_string().contains("AUTHORIZATION_FAILED"), "{error}")
                }
            }
        }
        block_on(consumer.commit()).unwrap();
    };
    read_one(&mut consumer, false);
    let codes = [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::GROUP_AUTHORIZATION_FAILED];
    for (right, code) in rights.iter().zip(codes) {
        set(right, false);
        for _ in 0..2 {
            let error = loop {
                if let Err(error) = consumer.poll_blocking(Duration::from_secs(1)) {
                    break error;
                }
            };
            assert_eq!(error.code(), Some(code), "{error}");
        }
        set(right, true);
        read_one(&mut consumer, true);
    }
    assert_eq!(read, [0, 1, 2]);
}

#[test]
fn a_certificate_is_a_name_too() {
    let tls = tls().with_client_authorities(&certificate("authority.pem")).expect("certificates");
    let authorizer = Some(guarded("User:CN=good"));
    let broker = broker(Options { tls: Some(tls), authorizer, ..Options::default() });
    let read = |name: &str| std::fs::read_to_string(certificate(name)).unwrap();
    let (chain, key) = (read("good.pem"), read("good.key"));
    let mine = [
        ("security.protocol", "SSL"),
        ("ssl.keystore.type", "PEM"),
        ("ssl.keystore.certificate.chain", chain.as_str()),
        ("ssl.keystore.key", key.as_str()),
    ];
    let admin = Admin::from_properties(&properties(&broker, &mine)).unwrap();
    let created = block_on(admin.create_topics([NewTopic::new("mine", 1)])).unwrap().remove(0).1;
    assert!(created.is_ok(), "{created:?}");
    let nobody =
        [("security.protocol", "SSL"), ("default.api.timeout.ms", "5000"), ("request.timeout.ms", "2000")];
    let admin = Admin::from_properties(&properties(&broker, &nobody)).unwrap();
    assert!(block_on(admin.describe_cluster()).is_err());
}
