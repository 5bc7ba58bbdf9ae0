use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use subtle::ConstantTimeEq as _;

use super::scram::{ITERATIONS_MAX, ITERATIONS_MIN, Key, ScramHash, escape_name};
use super::{Mechanism, Secret, oauth};
use crate::error::{Error, ErrorKind, Result};

/// One run of a mechanism on the client's side: [`Exchange::first`] once, then [`Exchange::next`] with each answer.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    state: State,
    /// What the token says of itself.
    claims: Option<String>,
}

/// What comes after an answer of the broker.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this.
    Send(Bytes),
    /// The broker has said all; SCRAM has checked by then that it knows the password, too.
    Done,
}

enum State {
    /// The only message of this client.
    Once(Secret),
    /// It has been sent; the broker has nothing to say to it.
    Sent,
    ScramFirst(Scram),
    /// The signature with which the broker must prove itself.
    ScramFinal(Key),
    Ended,
}

struct Scram {
    hash: ScramHash,
    nonce: String,
    /// `client-first-message-bare`.
    first: String,
    password: Secret,
}

impl Exchange {
    /// PLAIN.
    pub fn plain(username: &str, password: &Secret) -> Self {
        let message = [b"\0", username.as_bytes(), b"\0", password.expose()].concat();
        Self { mechanism: Mechanism::Plain, state: State::Once(Secret::from(message)), claims: None }
    }

    /// SCRAM. `nonce` is 16 random bytes or more, new each time; `is_token` says that name and password are id and
    /// HMAC of a delegation token (KIP-48).
    pub fn scram(hash: ScramHash, username: &str, password: Secret, is_token: bool, nonce: &[u8]) -> Self {
        // URL-safe base64 is printable and has no comma, as a nonce must.
        let nonce = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(nonce);
        Self::scram_with(hash, username, password, is_token, nonce)
    }

    fn scram_with(hash: ScramHash, username: &str, password: Secret, is_token: bool, nonce: String) -> Self {
        let mechanism = match hash {
            ScramHash::Sha256 => Mechanism::ScramSha256,
            ScramHash::Sha512 => Mechanism::ScramSha512,
        };
        let extension = if is_token { ",tokenauth=true" } else { "" };
        let first = format!("n={},r={nonce}{extension}", escape_name(username));
        let state = State::ScramFirst(Scram { hash, nonce, first, password });
        Self { mechanism, state, claims: None }
    }

    /// OAUTHBEARER.
    pub fn oauth_bearer(token: &Secret, extensions: &[(String, String)]) -> Self {
        let mut message = b"n,,\x01auth=Bearer ".to_vec();
        message.extend_from_slice(token.expose());
        for (name, value) in extensions {
            message.extend_from_slice(format!("\x01{name}={value}").as_bytes());
        }
        message.extend_from_slice(b"\x01\x01");
        let claims = oauth::describe(token.expose());
        Self { mechanism: Mechanism::OauthBearer, state: State::Once(Secret::from(message)), claims }
    }

    /// What to look at when the broker is not convinced.
    pub fn hint(&self) -> String {
        let hint = "check the user's name and password, or token";
        match &self.claims {
            Some(claims) => format!("{hint}; this one says: {claims}; brokers also check who signed it"),
            None => hint.to_owned(),
        }
    }

    /// Which mechanism runs.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The first message to the broker.
    pub fn first(&mut self) -> Bytes {
        match std::mem::replace(&mut self.state, State::Sent) {
            State::Once(message) => Bytes::copy_from_slice(message.expose()),
            State::ScramFirst(scram) => {
                let message = Bytes::from(format!("n,,{}", scram.first));
                self.state = State::ScramFirst(scram);
                message
            }
            State::Sent | State::ScramFinal(_) | State::Ended => Bytes::new(),
        }
    }

    /// The broker's answer, and what follows from it.
    ///
    /// # Errors
    /// `Authentication`, when the broker says or does something that it must not.
    pub fn next(&mut self, server: &[u8]) -> Result<Step> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Sent if server.is_empty() => Ok(Step::Done),
            // RFC 7628: the broker says why it refuses the token, and fails when this has been acknowledged.
            State::Sent if self.mechanism == Mechanism::OauthBearer => {
                Ok(Step::Send(Bytes::from_static(b"\x01")))
            }
            State::ScramFirst(scram) => self.scram_final(&scram, server),
            State::ScramFinal(signature) => {
                self.check_signature(&signature, server)?;
                Ok(Step::Done)
            }
            State::Once(_) | State::Sent | State::Ended => {
                Err(self.refuse("the broker goes on where there is nothing left to say"))
            }
        }
    }

    /// From `server-first-message` to `client-final-message`.
    fn scram_final(&mut self, scram: &Scram, server: &[u8]) -> Result<Step> {
        let text = self.text(server)?;
        let fields: Vec<&str> = text.split(',').collect();
        let [nonce, salt, iterations, ..] = fields[..] else {
            return Err(self.refuse("the broker's first message is not nonce, salt and iterations"));
        };
        let (Some(nonce), Some(salt), Some(iterations)) =
            (nonce.strip_prefix("r="), salt.strip_prefix("s="), iterations.strip_prefix("i="))
        else {
            return Err(self.refuse("the broker's first message is not nonce, salt and iterations"));
        };
        // A nonce that is not ours and more would be of another exchange (CVE-2024-56128).
        if !nonce.starts_with(&scram.nonce) || nonce.len() == scram.nonce.len() {
            return Err(self.refuse("the broker's nonce does not go on from this client's"));
        }
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty());
        let salt = salt.ok_or_else(|| self.refuse("the broker's salt is not base64"))?;
        let iterations = iterations.parse().ok().filter(|i| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(i));
        let iterations = iterations.ok_or_else(|| {
            self.refuse(format!(
                "the broker's number of iterations is not one of {ITERATIONS_MIN} to {ITERATIONS_MAX}"
            ))
        })?;
        let without_proof = format!("c=biws,r={nonce}");
        let auth_message = format!("{},{text},{without_proof}", scram.first);
        let hash = scram.hash;
        let salted = hash.salted_password(scram.password.expose(), &salt, iterations);
        let proof = hash.client_proof(&hash.client_key(&salted), auth_message.as_bytes());
        let signature = hash.hmac(&hash.server_key(&salted), auth_message.as_bytes());
        self.state = State::ScramFinal(signature);
        Ok(Step::Send(Bytes::from(format!("{without_proof},p={}", BASE64.encode(&*proof)))))
    }

    fn check_signature(&self, expected: &Key, server: &[u8]) -> Result<()> {
        let text = self.text(server)?;
        let first = text.split(',').next().unwrap_or_default();
        if let Some(reason) = first.strip_prefix("e=") {
            return Err(self.refuse(format!("the broker answers {:?}", shorten(reason))));
        }
        let signature = first.strip_prefix("v=").and_then(|value| BASE64.decode(value).ok());
        match signature {
            Some(signature) if bool::from(signature.ct_eq(expected)) => Ok(()),
            _ => Err(self
                .refuse("the broker does not prove that it knows the password")
                .with_hint("somebody else may have answered: check the address, and use SASL_SSL")),
        }
    }

    fn text<'a>(&self, server: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(server).map_err(|_| self.refuse("the broker's message is not UTF-8"))
    }

    fn refuse(&self, why: impl Into<String>) -> Error {
        Error::new(
            ErrorKind::Authentication,
            format!("authenticate by {}: {}", self.mechanism.name(), why.into()),
        )
    }
}

/// As much of a peer's text as an error should repeat.
fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Once(_) => "Once",
            Self::Sent => "Sent",
            Self::ScramFirst(_) => "ScramFirst",
            Self::ScramFinal(_) => "ScramFinal",
            Self::Ended => "Ended",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn scram() -> Exchange {
        let mut exchange =
            Exchange::scram_with(ScramHash::Sha256, "user", Secret::from("pencil"), false, NONCE.to_owned());
        assert_eq!(&exchange.first()[..], b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        exchange
    }

    fn send(text: &str) -> Step {
        Step::Send(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn scram_speaks_as_in_rfc_7677() {
        let mut exchange = scram();
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(exchange.next(SERVER_FIRST.as_bytes()).unwrap(), send(last));
        assert_eq!(exchange.next(SERVER_FINAL.as_bytes()).unwrap(), Step::Done);
        assert!(exchange.next(SERVER_FINAL.as_bytes()).is_err());
    }

    fn refusal_of_first(server: &str) -> String {
        let error = scram().next(server.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication);
        error.to_string()
    }

    #[test]
    fn a_nonce_that_does_not_go_on_from_ours_is_refused() {
        for nonce in [NONCE, "", "rOprNGfwEbeRWgbNEkqP%hvYDpWUa2RaTCAfuxFIlj", "x"] {
            let says = refusal_of_first(&format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
            assert!(says.contains("nonce"), "{says}");
        }
    }

    #[test]
    fn too_few_and_too_many_iterations_are_refused() {
        for iterations in ["4095", "0", "-1", "1000001", "4294967296", "many", ""] {
            let says = refusal_of_first(&format!("r={NONCE}more,s=W22ZaJ0SNY7soEsUEjb6gQ==,i={iterations}"));
            assert!(says.contains("4096 to 1000000"), "{says}");
        }
    }

    #[test]
    fn a_first_message_of_another_form_is_refused() {
        for server in ["", "r=", "e=other-error", "s=AA==,r=x,i=4096", "m=ext,r=x,s=AA==,i=4096"] {
            refusal_of_first(server);
        }
        assert!(refusal_of_first(&format!("r={NONCE}more,s=?,i=4096")).contains("salt"));
        assert!(refusal_of_first(&format!("r={NONCE}more,s=,i=4096")).contains("salt"));
        assert!(scram().next(b"r=\xff").is_err());
    }

    fn refusal_of_final(server: &str) -> String {
        let mut exchange = scram();
        exchange.next(SERVER_FIRST.as_bytes()).unwrap();
        exchange.next(server.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_broker_that_does_not_know_the_password_is_refused() {
        for server in ["", "v=", "v=?", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8=", "v=6rriTRBi23U="] {
            let says = refusal_of_final(server);
            assert!(says.contains("does not prove that it knows the password"), "{says}");
        }
    }

    #[test]
    fn an_error_of_the_broker_is_told() {
        let says = refusal_of_final("e=invalid-proof");
        assert_eq!(says, "authenticate by SCRAM-SHA-256: the broker answers \"invalid-proof\"");
    }

    #[test]
    fn a_delegation_token_says_so() {
        let password = Secret::from("hmac");
        let mut exchange = Exchange::scram(ScramHash::Sha512, "a=b,c", password, true, &[0; 18]);
        assert_eq!(&exchange.first()[..], b"n,,n=a=3Db=2Cc,r=AAAAAAAAAAAAAAAAAAAAAAAA,tokenauth=true");
        assert_eq!(exchange.mechanism().name(), "SCRAM-SHA-512");
    }

    #[test]
    fn plain_sends_name_and_password_once() {
        let mut exchange = Exchange::plain("alice", &Secret::from("pa ss"));
        assert_eq!(&exchange.first()[..], b"\0alice\0pa ss");
        assert_eq!(exchange.next(b"").unwrap(), Step::Done);
        assert!(exchange.next(b"").is_err());
        let mut exchange = Exchange::plain("alice", &Secret::from("password"));
        exchange.first();
        assert!(exchange.next(b"more?").is_err());
    }

    #[test]
    fn a_refused_token_is_acknowledged_so_that_the_broker_says_more() {
        let extensions = [("logicalCluster".to_owned(), "lkc-1".to_owned())];
        let mut exchange = Exchange::oauth_bearer(&Secret::from("a.b.c"), &extensions);
        assert_eq!(&exchange.first()[..], b"n,,\x01auth=Bearer a.b.c\x01logicalCluster=lkc-1\x01\x01");
        assert_eq!(exchange.next(br#"{"status":"invalid_token"}"#).unwrap(), send("\u{1}"));
        assert!(exchange.next(b"").is_err());
    }

    proptest! {
        /// Whatever a broker sends: a message, an end or an error, and an end of SCRAM only with the right signature.
        #[test]
        fn hostile_messages_end_in_an_error(messages in prop::collection::vec(".{0,80}|[rsie]=[!-+.-~]{0,30}(,[rsiev]=[!-+.-~]{0,30}){0,4}", 1..4)) {
            let exchanges = [
                Exchange::scram_with(ScramHash::Sha256, "u", Secret::from("p"), false, "r".to_owned()),
                Exchange::plain("u", &Secret::from("p")),
                Exchange::oauth_bearer(&Secret::from("t"), &[]),
            ];
            for mut exchange in exchanges {
                exchange.first();
                for message in &messages {
                    let is_scram = exchange.mechanism() == Mechanism::ScramSha256;
                    match exchange.next(message.as_bytes()) {
                        Ok(Step::Send(_)) => {}
                        Ok(Step::Done) => {
                            prop_assert!(!is_scram);
                            break;
                        }
                        Err(error) => {
                            prop_assert_eq!(error.kind(), ErrorKind::Authentication);
                            break;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let exchanges = [
            Exchange::plain("u", &Secret::from("canary")),
            Exchange::oauth_bearer(&Secret::from("canary"), &[]),
            Exchange::scram(ScramHash::Sha256, "u", Secret::from("canary"), false, &[1; 16]),
        ];
        for exchange in exchanges {
            assert!(!format!("{exchange:?}").contains("canary"));
        }
    }
}
