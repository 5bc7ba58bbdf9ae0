//! What brokers and providers of tokens say while a client authenticates: each exchange ends in an error or in an
//! end, and SCRAM's end is none without a proof.

use std::time::Duration;

use kafka_wire::security::oauth::{Token, endpoint_refusal};
use kafka_wire::security::scram::ScramHash;
use kafka_wire::security::{Exchange, Secret, Step};

/// More rounds of SCRAM than this take the fuzzer's time and find nothing.
const ITERATIONS_MAX: u32 = 4200;
/// More messages than an exchange has.
const ROUNDS: usize = 4;

/// The first byte of `data` says which mechanism, the second how long the first message is, and so on.
pub fn run(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let password = || Secret::from("pencil");
    let mut exchange = match kind % 6 {
        0 => Exchange::plain("user", &password()),
        1 => Exchange::scram(ScramHash::Sha256, "user", password(), false, b"nonce"),
        2 => Exchange::scram(ScramHash::Sha512, "user", password(), true, b"nonce"),
        3 => Exchange::oauth_bearer(&password(), &[]),
        4 => return token(rest),
        _ => return endpoint(rest),
    };
    exchange.first();
    let is_scram = matches!(kind % 6, 1 | 2);
    let mut rest = rest;
    for _ in 0..ROUNDS {
        let Some((&length, after)) = rest.split_first() else { return };
        let (message, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        if iterations(message) > ITERATIONS_MAX {
            return;
        }
        match exchange.next(message) {
            Ok(Step::Send(answer)) => assert!(!answer.is_empty()),
            // To guess a signature is to break SHA-256.
            Ok(Step::Done) => return assert!(!is_scram),
            Err(error) => return assert!(!error.to_string().contains("pencil")),
        }
    }
}

fn iterations(message: &[u8]) -> u32 {
    let fields = message.split(|byte| *byte == b',').filter_map(|field| field.strip_prefix(b"i="));
    let numbers = fields.filter_map(|number| std::str::from_utf8(number).ok()?.parse().ok());
    numbers.max().unwrap_or(0)
}

fn token(text: &[u8]) {
    if let Ok(token) = Token::parse(text) {
        let again = Token::parse(token.text.expose()).expect("what was read is a token");
        assert_eq!(again, token);
    }
}

fn endpoint(answer: &[u8]) {
    let now = Duration::from_secs(1_700_000_000);
    if let Ok(token) = Token::from_endpoint(answer, now) {
        assert!(!token.text.expose().is_empty());
    }
    if let Some(told) = endpoint_refusal(answer) {
        assert!(told.chars().count() <= 200 && !told.contains(char::is_control));
    }
}
