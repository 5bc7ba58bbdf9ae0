use super::*;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use kafka_wire::security::{Exchange as Client, Step as ClientStep};

use crate::tokens::Token;

const NOW: i64 = 1_000_000;

struct Realm {
    options: SaslOptions,
    jwks: Jwks,
    users: Users,
    tokens: Tokens,
}

impl Realm {
    fn new() -> Self {
        let options = SaslOptions::default().with_user("alice", "secret").with_user("a,b=c", "x");
        let mut users = Users::default();
        users.start_with(&options.users, || b"salt".to_vec());
        let mut tokens = Tokens::default();
        tokens.put(Token {
            id: "t1".to_owned(),
            owner: "User:owner".to_owned(),
            requester: "User:owner".to_owned(),
            renewers: Vec::new(),
            issued_unix_ms: 0,
            expires_unix_ms: NOW + 1,
            ends_unix_ms: NOW + 1,
        });
        Self { options, jwks: Jwks::default(), users, tokens }
    }

    fn directory(&self) -> Directory<'_> {
        let Self { options, jwks, users, tokens } = self;
        Directory { options, jwks, users, tokens, identity: 7, now_unix_ms: NOW }
    }

    /// Lets our own client talk to it; how it ends for the server, and whether the client is content.
    fn talk(&self, mut client: Client) -> (Step, bool) {
        let mut server = Exchange::new(client.mechanism(), [7; 16]).unwrap();
        let mut message = client.first();
        loop {
            match server.step(self.directory(), &message) {
                Step::Challenge(answer) => match client.next(&answer) {
                    Ok(ClientStep::Send(next)) => message = next,
                    other => panic!("the client ends with {other:?}"),
                },
                Step::Done(answer, who) => {
                    let content = matches!(client.next(&answer), Ok(ClientStep::Done));
                    return (Step::Done(answer, who), content);
                }
                refused => return (refused, false),
            }
        }
    }

    fn principal(&self, client: Client) -> Option<String> {
        match self.talk(client) {
            (Step::Done(_, who), true) => Some(who.principal),
            _ => None,
        }
    }
}

fn scram(hash: ScramHash, name: &str, password: &str, is_token: bool) -> Client {
    Client::scram(hash, name, Secret::from(password), is_token, b"0123456789abcdef")
}

#[test]
fn names_and_passwords_are_believed_when_they_match() {
    let realm = Realm::new();
    for (name, password, principal) in
        [("alice", "secret", Some("User:alice")), ("alice", "Secret", None), ("bob", "secret", None)]
    {
        let principal = principal.map(str::to_owned);
        assert_eq!(realm.principal(Client::plain(name, &Secret::from(password))), principal);
        for hash in [ScramHash::Sha256, ScramHash::Sha512] {
            assert_eq!(realm.principal(scram(hash, name, password, false)), principal, "{hash:?}");
        }
    }
    assert_eq!(realm.principal(scram(ScramHash::Sha256, "a,b=c", "x", false)).unwrap(), "User:a,b=c");
    let other = b"bob\0alice\0secret";
    assert!(matches!(plain(realm.directory(), other), Step::Refused(_)), "who wants to be somebody else");
}

#[test]
fn a_token_stands_for_its_owner_until_it_expires() {
    let realm = Realm::new();
    let password = base64::prelude::BASE64_STANDARD.encode(crate::tokens::hmac(7, "t1"));
    let owner = Some("User:owner".to_owned());
    assert_eq!(realm.principal(scram(ScramHash::Sha512, "t1", &password, true)), owner);
    assert_eq!(realm.principal(scram(ScramHash::Sha512, "t1", &password, false)), None, "not a user");
    let mut later = realm.directory();
    later.now_unix_ms += 1;
    let mut server = Exchange::new(Mechanism::ScramSha512, [7; 16]).unwrap();
    let first = scram(ScramHash::Sha512, "t1", &password, true).first();
    assert!(matches!(server.step(later, &first), Step::Refused(_)));
}

fn jwt(header: &str, payload: &str, key: Option<&[u8]>) -> Secret {
    let signed = format!("{}.{}", BASE64_URL.encode(header), BASE64_URL.encode(payload));
    let signature = key.map_or_else(Vec::new, |key| ScramHash::Sha256.hmac(key, signed.as_bytes()).to_vec());
    Secret::from(format!("{signed}.{}", BASE64_URL.encode(signature)))
}

#[test]
fn web_tokens_are_believed_unsecured_or_with_the_key_that_is_set() {
    let mut realm = Realm::new();
    let (none, hs256) = (r#"{"alg":"none"}"#, r#"{"alg":"HS256","typ":"JWT"}"#);
    let (live, over) = (r#"{"sub":"carol","exp":1001}"#, r#"{"sub":"carol","exp":1000}"#);
    let ask = |realm: &Realm, token: &Secret| realm.principal(Client::oauth_bearer(token, &[]));
    let carol = Some("User:carol".to_owned());
    assert_eq!(ask(&realm, &jwt(none, live, None)), carol);
    assert_eq!(ask(&realm, &jwt(none, over, None)), None);
    assert_eq!(ask(&realm, &jwt(hs256, live, Some(b"key"))), None);
    assert_eq!(ask(&realm, &Secret::from("no token at all")), None);
    realm.options.oauth_key = Some(Secret::from("key"));
    assert_eq!(ask(&realm, &jwt(hs256, live, Some(b"key"))), carol);
    assert_eq!(ask(&realm, &jwt(hs256, live, Some(b"another key"))), None);
    assert_eq!(ask(&realm, &jwt(none, live, None)), None, "unsecured");
}

/// Keys and tokens that another program made: valid from second 900 on, issued by `https://issuer.test` for `kafka`.
#[test]
fn web_tokens_are_believed_when_one_of_the_known_keys_signed_them() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("jwt/vectors.json")).unwrap();
    let mut realm = Realm::new();
    let believed = |realm: &Realm| -> Vec<&str> {
        let tokens = vectors["tokens"].as_object().unwrap().iter();
        let is_believed = |token: &str| {
            realm.principal(Client::oauth_bearer(&Secret::from(token), &[])).as_deref() == Some("User:carol")
        };
        tokens
            .filter(|(_, token)| is_believed(token.as_str().unwrap()))
            .map(|(name, _)| name.as_str())
            .collect()
    };
    assert_eq!(believed(&realm), [""; 0], "no key is known");
    realm.jwks = Jwks::parse(&vectors["keys"].to_string()).unwrap();
    let good = ["es256", "es384", "rs256", "rs512", "several_audiences"];
    let with = |more: &[&'static str]| {
        let mut all = [&good[..], more].concat();
        all.sort_unstable();
        all
    };
    assert_eq!(believed(&realm), with(&["another_audience", "another_issuer", "no_audience"]));
    realm.options.oauth_audience = Some("kafka".to_owned());
    assert_eq!(believed(&realm), with(&["another_issuer"]));
    realm.options.oauth_issuer = Some("https://issuer.test".to_owned());
    assert_eq!(believed(&realm), with(&[]));

    let token = vectors["tokens"]["es256"].as_str().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let forged = BASE64_URL
        .encode(r#"{"sub":"carol","iss":"https://issuer.test","aud":"kafka","iat":900,"exp":9999999999}"#);
    let none = BASE64_URL.encode(r#"{"alg":"none"}"#);
    for token in [
        format!("{header}.{forged}.{signature}"),
        format!("{none}.{forged}."),
        format!("{signed}."),
        format!("{signed}.{}", &signature[..40]),
        format!("{signed}.{}", BASE64_URL.encode([0; 64])),
    ] {
        assert_eq!(realm.principal(Client::oauth_bearer(&Secret::from(&*token), &[])), None, "{token}");
    }
}

#[test]
fn nothing_that_a_client_says_is_too_odd() {
    let realm = Realm::new();
    for mechanism in Mechanism::ALL {
        for message in
            [&b""[..], b"\0", b"\0\0", b"n,,", b"n,,n=,r=", b"n,,n=alice,r=x,p=", &[0xff; 64], b"n,\x01\x01"]
        {
            let mut server = Exchange::new(mechanism, [0; 16]).unwrap();
            for _ in 0..3 {
                assert!(!matches!(server.step(realm.directory(), message), Step::Done(..)));
            }
        }
    }
}
