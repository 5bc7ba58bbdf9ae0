//! OAUTHBEARER against Kafka's own validator, which checks signature, dates, issuer and audience.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_wire::config::{ProducerConfig, Properties};
use kafka_wire::{NewTopic, Producer, Record};
use serde_json::{Value, json};
use tidewater_tests::issuer::Issuer;
use tidewater_tests::real_kafka;

use crate::sasl::{provider, refusal, with_provider};
use crate::secured::{AUDIENCE, ISSUER, Secured, properties, write_and_read};
use crate::support::{create, run};

/// On Kafka 4.3 and 3.9.
fn on_both<F: Future<Output = ()>>(test: impl Fn(&'static Secured) -> F) {
    if real_kafka::available() {
        run(test(Secured::shared()));
        run(test(Secured::shared_3_9()));
    }
}

#[allow(clippy::disallowed_methods, reason = "tokens have dates")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// What the validator wants, but for what `change` changes.
fn claims(change: &Value) -> Value {
    let mut claims = json!({
        "sub": "alice", "iss": ISSUER, "aud": AUDIENCE, "scope": "kafka", "iat": now(), "exp": now() + 3600,
    });
    for (name, value) in change.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    claims
}

fn with_file(port: u16, folder: &Path, token: &str) -> Properties {
    let path = folder.join("token");
    std::fs::write(&path, token).expect("write the token");
    let path = path.to_string_lossy().into_owned();
    let more = [
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.token.file", path.as_str()),
        ("sasl.allow.cleartext", "true"),
    ];
    properties(port, "SASL_PLAINTEXT", &more)
}

#[test]
fn signed_tokens_are_accepted_from_a_file_and_from_a_provider() {
    on_both(|node| async {
        let folder = tempfile::tempdir().expect("a folder");
        let token = node.issuer.token(&claims(&json!({})));
        let from_file = with_file(node.issued_port, folder.path(), &token);
        write_and_read(node, "by-signed-file", &from_file).await;
        let answer = format!("200 {}", json!({ "access_token": token, "expires_in": 3600 }));
        let provider = provider(&[&answer]).await;
        let mut from_provider = with_provider(node.issued_port, "SASL_PLAINTEXT", provider, "canary");
        from_provider.set("sasl.allow.cleartext", "true").expect("set");
        write_and_read(node, "by-signed-provider", &from_provider).await;
    });
}

/// Kafka's validator only says that a token is invalid: what the token says for itself is what a person can compare
/// with the broker's settings.
#[test]
fn tokens_that_the_broker_refuses_are_told_with_what_they_say() {
    on_both(|node| async {
        let folder = tempfile::tempdir().expect("a folder");
        let stranger = Issuer::new("the-key");
        let unknown = Issuer::new("another-key");
        for (issuer, change, says) in [
            (&stranger, json!({}), AUDIENCE),
            (&unknown, json!({}), ISSUER),
            (&node.issuer, json!({ "aud": "another cluster" }), "audience \"another cluster\""),
            (&node.issuer, json!({ "aud": ["a", "b"] }), "audience \"a\", \"b\""),
            (&node.issuer, json!({ "iss": "https://elsewhere" }), "issuer \"https://elsewhere\""),
        ] {
            let token = issuer.token(&claims(&change));
            let text = refusal(&with_file(node.issued_port, folder.path(), &token)).await;
            assert!(text.contains("authenticate by OAUTHBEARER: the broker says"), "{text}");
            assert!(text.contains("invalid_token") && text.contains(says), "{text}");
            assert!(!text.contains(&token[token.len() - 40..]), "{text}");
        }
        let expired = node.issuer.token(&claims(&json!({ "iat": now() - 7200, "exp": now() - 3600 })));
        let text = refusal(&with_file(node.issued_port, folder.path(), &expired)).await;
        assert!(text.contains("the token in it has expired"), "{text}");
    });
}

/// Sessions end (KIP-368): each new one is opened with the token that the file has by then.
#[test]
fn a_file_with_a_newer_token_is_read_when_a_session_ends() {
    on_both(|node| async {
        let name = "renewed-by-file";
        let folder = tempfile::tempdir().expect("a folder");
        let token = || node.issuer.token(&claims(&json!({})));
        let settings = with_file(node.issued_port, folder.path(), &token());
        create(&node.cluster, NewTopic::new(name, 1)).await;
        let config = ProducerConfig::from_properties(&settings).expect("a configuration");
        let producer = Producer::new(config).expect("a producer");
        producer.send(Record::to(name).value("first")).await.expect("send");
        // Whatever is in the file is used at the end of the session, and not before.
        std::fs::write(folder.path().join("token"), Issuer::new("the-key").token(&claims(&json!({}))))
            .expect("write");
        let error = loop {
            match producer.send(Record::to(name).value("under way")).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), kafka_wire::ErrorKind::Authentication, "{error}");
        with_file(node.issued_port, folder.path(), &token());
        crate::support::wait_until("the right token is used", async || {
            producer.send(Record::to(name).value("last")).await.is_ok()
        })
        .await;
    });
}
