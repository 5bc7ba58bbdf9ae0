//! SASL as clients see it: what is served before, during and after it, and delegation tokens.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::{Exchange as Call, *};
use kafka_wire::security::{Exchange, ScramHash, Step};
use tidewater_broker::{Acl, AuthorizerOptions, Mechanism, Operation, Options, SaslOptions, Secret};

use crate::harness::*;

fn options() -> Options {
    let sasl = SaslOptions::default().with_user("alice", "secret").with_user("bob", "secret");
    Options { sasl: Some(sasl), ..Options::default() }
}

fn plain(user: &str, password: &str) -> Exchange {
    Exchange::plain(user, &Secret::from(password))
}

fn decoded<M: Call>(outcome: Outcome) -> M::Response {
    match outcome {
        Outcome::Answered(response) => response.decode::<M>().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Authenticates on the connection of the last request; the last answer.
fn authenticate(it: &mut Harness, mut client: Exchange) -> SaslAuthenticateResponse {
    let handshake = SaslHandshakeRequest::default().with_mechanism(text(client.mechanism().name()));
    let answer = decoded::<SaslHandshakeRequest>(it.send_again(1, handshake));
    assert_eq!(answer.error_code, 0);
    let mut message = client.first();
    loop {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(message);
        let answer = decoded::<SaslAuthenticateRequest>(it.send_again(2, request));
        if answer.error_code != 0 {
            return answer;
        }
        match client.next(&answer.auth_bytes).unwrap() {
            Step::Send(next) => message = next,
            Step::Done => return answer,
        }
    }
}

fn connect(it: &mut Harness) {
    it.send(0, 3, ApiVersionsRequest::default());
}

fn metadata(it: &mut Harness) -> Outcome {
    it.send_again(12, MetadataRequest::default().with_topics(None))
}

#[test]
fn only_who_is_known_is_served() {
    let mut it = Harness::new(options());
    assert!(matches!(it.send(0, 3, ApiVersionsRequest::default()), Outcome::Answered(_)));
    assert!(matches!(metadata(&mut it), Outcome::Closed));
    for client in [
        plain("alice", "secret"),
        Exchange::scram(ScramHash::Sha256, "bob", Secret::from("secret"), false, b"0123456789abcdef"),
        Exchange::scram(ScramHash::Sha512, "bob", Secret::from("secret"), false, b"0123456789abcdef"),
    ] {
        connect(&mut it);
        assert_eq!(authenticate(&mut it, client).error_code, 0);
        assert!(matches!(metadata(&mut it), Outcome::Answered(_)));
    }
    connect(&mut it);
    let refused = authenticate(&mut it, plain("alice", "wrong"));
    assert_eq!(refused.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED.code());
    assert!(refused.error_message.unwrap().contains("Invalid username or password"));
    assert!(matches!(metadata(&mut it), Outcome::Closed));
}

#[test]
fn a_mechanism_that_is_not_offered_is_refused_with_those_that_are() {
    let mut it = Harness::new(Options {
        sasl: Some(SaslOptions { mechanisms: vec![Mechanism::ScramSha512], ..SaslOptions::default() }),
        ..Options::default()
    });
    connect(&mut it);
    let handshake = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
    let answer = decoded::<SaslHandshakeRequest>(it.send_again(1, handshake.clone()));
    assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_SASL_MECHANISM.code());
    assert_eq!(answer.mechanisms, [text("SCRAM-SHA-512")]);
    let mut open = Harness::new(Options::default());
    assert_eq!(open.call(1, handshake).error_code, ErrorCode::ILLEGAL_SASL_STATE.code());
}

#[test]
fn a_session_ends_unless_it_is_renewed_by_the_same_user() {
    let mut options = options();
    let lifetime = Duration::from_secs(10);
    options.sasl.as_mut().unwrap().session_lifetime = Some(lifetime);
    let mut it = Harness::new(options);
    connect(&mut it);
    assert_eq!(authenticate(&mut it, plain("alice", "secret")).session_lifetime_ms, 10_000);
    it.advance(lifetime / 2);
    assert_eq!(authenticate(&mut it, plain("alice", "secret")).error_code, 0);
    it.advance(lifetime - Duration::from_secs(1));
    assert!(matches!(metadata(&mut it), Outcome::Answered(_)), "renewed");
    it.advance(Duration::from_secs(1));
    assert!(matches!(metadata(&mut it), Outcome::Closed));

    connect(&mut it);
    authenticate(&mut it, plain("alice", "secret"));
    let other = authenticate(&mut it, plain("bob", "secret"));
    assert!(other.error_message.unwrap().contains("Cannot change principals"));
    assert!(matches!(metadata(&mut it), Outcome::Closed));
}

#[test]
fn who_is_known_is_who_the_lists_speak_of() {
    let mut it = Harness::new(Options { authorizer: Some(AuthorizerOptions::default()), ..options() });
    it.cluster.add_acl(Acl::allow("User:alice", Operation::Describe).topic(TOPIC));
    for (user, topics) in [("alice", 1), ("bob", 0)] {
        connect(&mut it);
        authenticate(&mut it, plain(user, "secret"));
        let answer = decoded::<MetadataRequest>(metadata(&mut it));
        assert_eq!(answer.topics.len(), topics, "{user}");
    }
}

fn create_token(it: &mut Harness) -> CreateDelegationTokenResponse {
    let request = CreateDelegationTokenRequest::default()
        .with_owner_principal_type(None)
        .with_owner_principal_name(None)
        .with_max_lifetime_ms(-1);
    decoded::<CreateDelegationTokenRequest>(it.send_again(3, request))
}

#[test]
fn a_delegation_token_lends_its_owners_name_until_it_is_expired() {
    use base64::Engine as _;
    let mut it = Harness::new(options());
    connect(&mut it);
    authenticate(&mut it, plain("alice", "secret"));
    let token = create_token(&mut it);
    assert_eq!((token.error_code, token.principal_name.as_str()), (0, "alice"));
    let login = || {
        let password = Secret::from(base64::prelude::BASE64_STANDARD.encode(&token.hmac));
        Exchange::scram(ScramHash::Sha256, &token.token_id, password, true, b"0123456789abcdef")
    };
    connect(&mut it);
    assert_eq!(authenticate(&mut it, login()).error_code, 0);
    let refused = create_token(&mut it).error_code;
    assert_eq!(refused, ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED.code(), "no token by token");

    connect(&mut it);
    authenticate(&mut it, plain("bob", "secret"));
    let expire = |it: &mut Harness, hmac: &Bytes, after_ms| {
        let request = ExpireDelegationTokenRequest::default().with_hmac(hmac.clone());
        let request = request.with_expiry_time_period_ms(after_ms);
        decoded::<ExpireDelegationTokenRequest>(it.send_again(2, request)).error_code
    };
    assert_eq!(expire(&mut it, &token.hmac, -1), ErrorCode::DELEGATION_TOKEN_OWNER_MISMATCH.code());
    let strange = Bytes::from_static(b"?");
    assert_eq!(expire(&mut it, &strange, -1), ErrorCode::DELEGATION_TOKEN_NOT_FOUND.code());
    let describe = DescribeDelegationTokenRequest::default().with_owners(None);
    let seen = decoded::<DescribeDelegationTokenRequest>(it.send_again(3, describe.clone())).tokens.len();

    connect(&mut it);
    authenticate(&mut it, plain("alice", "secret"));
    let mine = decoded::<DescribeDelegationTokenRequest>(it.send_again(3, describe)).tokens;
    // Without an authorizer bob may see it, too.
    assert_eq!((seen, mine.len(), mine[0].hmac == token.hmac), (1, 1, true));
    let renew = RenewDelegationTokenRequest::default().with_hmac(token.hmac.clone()).with_renew_period_ms(1);
    let renewed = decoded::<RenewDelegationTokenRequest>(it.send_again(2, renew));
    assert_eq!(renewed.expiry_timestamp_ms, it.now.unix_ms + 1);
    it.advance(Duration::from_millis(1));
    connect(&mut it);
    let over = authenticate(&mut it, login()).error_code;
    assert_eq!(over, ErrorCode::SASL_AUTHENTICATION_FAILED.code());
}

#[test]
fn without_sasl_there_are_no_tokens() {
    let mut it = Harness::new(Options::default());
    connect(&mut it);
    assert_eq!(create_token(&mut it).error_code, ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED.code());
}
