//! Delegation tokens (KIP-48) on real Kafka, by an authenticated client.

use std::time::Duration;

use kafka_wire::admin::NewDelegationToken;
use kafka_wire::config::ClientConfig;
use kafka_wire::{Admin, ErrorCode};
use tidewater_tests::real_kafka;

use crate::secured::{Secured, properties};
use crate::support::{run, wait_until};

fn alice(node: &Secured) -> Admin {
    let jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"alice\" \
                password=\"alice-secret\";";
    let more =
        [("sasl.mechanism", "SCRAM-SHA-256"), ("sasl.jaas.config", jaas), ("sasl.allow.cleartext", "true")];
    let properties = properties(node.sasl_port, "SASL_PLAINTEXT", &more);
    Admin::new(ClientConfig::from_properties(&properties).expect("settings")).expect("an admin client")
}

#[test]
fn tokens_are_created_described_renewed_and_ended() {
    if !real_kafka::available() {
        return;
    }
    let node = Secured::shared();
    run(async {
        let admin = alice(node);
        let new = NewDelegationToken {
            renewers: vec!["User:bob".to_owned()],
            max_lifetime: Some(Duration::from_secs(3600)),
            ..NewDelegationToken::default()
        };
        let token = admin.create_delegation_token(new).await.expect("created");
        assert_eq!((token.owner.as_str(), token.requester.as_str()), ("User:alice", "User:alice"));
        assert_eq!(token.latest_ms - token.issued_ms, 3_600_000);
        assert!(!format!("{token:?}").contains("hmac") && !token.hmac.is_empty());

        let known = async || {
            let described = admin.describe_delegation_tokens(Some(vec!["User:alice".to_owned()])).await;
            described.expect("described").into_iter().find(|other| other.token_id == token.token_id)
        };
        wait_until("the token is known", async || known().await.is_some()).await;
        let described = known().await.expect("the token");
        assert_eq!((&described.hmac, &described.renewers[..]), (&token.hmac, &["User:bob".to_owned()][..]));
        let others = admin.describe_delegation_tokens(Some(vec!["User:nobody".to_owned()])).await;
        assert!(others.expect("described").is_empty());

        let period = Some(Duration::from_secs(60));
        let until = admin.renew_delegation_token(token.hmac.clone(), period).await.expect("renewed");
        assert!(until <= token.latest_ms && until > token.issued_ms, "{until}: {token:?}");
        let unknown = admin.renew_delegation_token(vec![1, 2, 3], period).await.expect_err("no such token");
        assert_eq!(unknown.code(), Some(ErrorCode::DELEGATION_TOKEN_NOT_FOUND));
        admin.expire_delegation_token(token.hmac.clone(), None).await.expect("ended");
        wait_until("the token is gone", async || known().await.is_none()).await;
    });
}
