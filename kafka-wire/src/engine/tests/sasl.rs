//! Who the client is: said before anything else, and again when the broker wants to know again.

use super::*;
use crate::config::{Sasl, Secret};
use crate::protocol::messages::{SaslAuthenticateResponse, SaslHandshakeResponse};
use crate::security::Exchange;

impl Sim {
    /// An engine that has to say who it is.
    fn with_sasl() -> Self {
        let mut config = ClientConfig::bootstrap("h:9000").unwrap();
        let (username, password) = ("alice".to_owned(), Secret::from("canary"));
        config.security.sasl = Some(Sasl::Plain { username, password });
        Self::of(&config)
    }

    /// Brings the credentials that are asked for.
    #[track_caller]
    fn log_in(&mut self, connection: ConnectionId) -> Received {
        assert_eq!(std::mem::take(&mut self.logins), [connection]);
        let exchange = Exchange::plain("alice", &Secret::from("canary"));
        self.engine.handle_login(self.now, connection, Ok(exchange));
        self.drain();
        self.next_request(ApiKey::SaslHandshake)
    }

    /// Answers the handshake and the one message of PLAIN.
    #[track_caller]
    fn let_in(&mut self, handshake: &Received, lifetime_ms: i64) {
        self.answer(handshake, &SaslHandshakeResponse::default());
        let message = self.next_request(ApiKey::SaslAuthenticate);
        let answer = SaslAuthenticateResponse::default().with_session_lifetime_ms(lifetime_ms);
        self.answer(&message, &answer);
    }

    #[track_caller]
    fn serve_with_sasl(&mut self, lifetime_ms: i64) -> ConnectionId {
        let connection = self.next_dial(9000);
        self.connected(connection);
        let question = self.next_request(ApiKey::ApiVersions);
        self.answer(&question, &versions());
        let handshake = self.log_in(connection);
        self.let_in(&handshake, lifetime_ms);
        connection
    }
}

#[test]
fn nothing_else_is_sent_before_the_client_has_said_who_it_is() {
    let mut sim = Sim::with_sasl();
    let token = sim.call(Target::Any, heartbeat(), SECOND);
    let connection = sim.next_dial(9000);
    sim.connected(connection);
    let question = sim.next_request(ApiKey::ApiVersions);
    sim.answer(&question, &versions());
    assert!(sim.received.is_empty());
    let handshake = sim.log_in(connection);
    assert_eq!(handshake.request.version, 1);
    sim.answer(&handshake, &SaslHandshakeResponse::default());
    let message = sim.next_request(ApiKey::SaslAuthenticate);
    assert!(message.request.body.windows(13).any(|bytes| bytes == b"\0alice\0canary"));
    assert!(sim.received.is_empty());
    sim.answer(&message, &SaslAuthenticateResponse::default());
    let request = sim.next_request(ApiKey::Heartbeat);
    sim.answer(&request, &HeartbeatResponse::default());
    assert!(sim.next_answer(token).is_ok());
    assert!(sim.logins.is_empty(), "a session without an end is not renewed");
}

#[test]
fn a_refusal_fails_the_call_at_once_with_what_the_broker_says() {
    let mut sim = Sim::with_sasl();
    let token = sim.call(Target::Any, heartbeat(), 60 * SECOND);
    let connection = sim.next_dial(9000);
    sim.connected(connection);
    let question = sim.next_request(ApiKey::ApiVersions);
    sim.answer(&question, &versions());
    let handshake = sim.log_in(connection);
    sim.answer(&handshake, &SaslHandshakeResponse::default());
    let message = sim.next_request(ApiKey::SaslAuthenticate);
    let text = StrBytes::from_static_str("Authentication failed:\u{7} wrong");
    let answer = SaslAuthenticateResponse::default().with_error_code(58).with_error_message(Some(text));
    sim.answer(&message, &answer);
    let error = sim.next_answer(token).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert_eq!(
        error.to_string(),
        "authenticate to h:9000: authenticate by PLAIN: the broker says \"Authentication failed: wrong\"; check the \
         user's name and password, or token"
    );
    assert_eq!(sim.closed, [connection]);
}

#[test]
fn credentials_that_cannot_be_got_or_do_not_come_end_the_connection() {
    let mut sim = Sim::with_sasl();
    let token = sim.call(Target::Any, heartbeat(), 60 * SECOND);
    let connection = sim.next_dial(9000);
    sim.connected(connection);
    let question = sim.next_request(ApiKey::ApiVersions);
    sim.answer(&question, &versions());
    sim.pass(11 * SECOND);
    assert_eq!(sim.closed, [connection]);
    let connection = sim.next_dial(9000);
    sim.connected(connection);
    let question = sim.next_request(ApiKey::ApiVersions);
    sim.answer(&question, &versions());
    let error = Error::new(ErrorKind::Authentication, "no token");
    sim.engine.handle_login(sim.now, connection, Err(error));
    sim.drain();
    let error = sim.next_answer(token).unwrap_err();
    assert_eq!(error.to_string(), "authenticate to h:9000: no token");
}

#[test]
fn before_that_a_broker_may_not_ask_for_much_memory() {
    let mut sim = Sim::with_sasl();
    sim.call(Target::Any, heartbeat(), SECOND);
    let connection = sim.next_dial(9000);
    sim.connected(connection);
    let question = sim.next_request(ApiKey::ApiVersions);
    sim.answer(&question, &versions());
    sim.log_in(connection);
    sim.bytes(connection, &[0, 1, 0, 1]);
    assert_eq!(sim.closed, [connection]);
    let error = sim.engine.core().connect_error().unwrap();
    assert!(error.kind() == ErrorKind::Protocol && error.to_string().contains("65536"), "{error}");
}

/// KIP-368.
#[test]
fn a_session_is_renewed_in_time_behind_what_is_in_flight_and_before_what_comes() {
    let mut sim = Sim::with_sasl();
    sim.call(Target::Any, heartbeat(), 60 * SECOND);
    let connection = sim.serve_with_sasl(10_000);
    let first = sim.next_request(ApiKey::Heartbeat);
    sim.pass(Duration::from_millis(8490));
    sim.call(Target::Any, heartbeat(), 60 * SECOND);
    let second = sim.next_request(ApiKey::Heartbeat);
    assert!(sim.logins.is_empty(), "not before 85 % of the lifetime");
    sim.pass(Duration::from_millis(1020));
    assert!(sim.logins.is_empty(), "an idle connection is left alone");
    sim.call(Target::Any, heartbeat(), 60 * SECOND);
    let handshake = sim.log_in(connection);
    assert!(sim.received.is_empty(), "the call waits for the renewal");
    for earlier in [first, second] {
        sim.answer(&earlier, &HeartbeatResponse::default());
        assert!(sim.engine.role.answers.pop_front().unwrap().1.is_ok());
    }
    sim.let_in(&handshake, 10_000);
    let third = sim.next_request(ApiKey::Heartbeat);
    assert_eq!(third.connection, connection);
    sim.answer(&third, &HeartbeatResponse::default());
    assert!(sim.engine.role.answers.pop_front().unwrap().1.is_ok());
    assert!(sim.closed.is_empty() && sim.dialled.is_empty());
    sim.pass(10 * SECOND);
    sim.call(Target::Any, heartbeat(), 60 * SECOND);
    sim.log_in(connection);
}

#[test]
fn a_user_who_has_been_locked_out_learns_it_when_the_session_is_renewed() {
    let mut sim = Sim::with_sasl();
    sim.call(Target::Any, heartbeat(), 60 * SECOND);
    let connection = sim.serve_with_sasl(10_000);
    let request = sim.next_request(ApiKey::Heartbeat);
    sim.answer(&request, &HeartbeatResponse::default());
    assert!(sim.engine.role.answers.pop_front().unwrap().1.is_ok());
    sim.pass(10 * SECOND);
    let token = sim.call(Target::Any, heartbeat(), 60 * SECOND);
    let handshake = sim.log_in(connection);
    sim.answer(&handshake, &SaslHandshakeResponse::default());
    let message = sim.next_request(ApiKey::SaslAuthenticate);
    sim.answer(&message, &SaslAuthenticateResponse::default().with_error_code(58));
    assert_eq!(sim.next_answer(token).unwrap_err().kind(), ErrorKind::Authentication);
}
