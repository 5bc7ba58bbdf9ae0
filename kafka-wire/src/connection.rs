//! One connection to a broker: version negotiation, authentication, the requests in flight, their answers. Layer 6.

mod authentication;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use authentication::{Authentication, Next};

use crate::config::ClientConfig;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::metrics::{Recent, millis};
use crate::protocol::api_versions::{self, ApiVersionsRequest, ApiVersionsResponse};
use crate::protocol::frame::{Split, split_frame};
use crate::protocol::header;
use crate::protocol::limits::Limits;
use crate::protocol::messages::ApiKey;
use crate::protocol::request::{Request, Response};
use crate::protocol::versions::VersionTable;
use crate::security::Exchange;

/// Names one call; the connection only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub(crate) u64);

/// A connection, from the dial to its end.
#[derive(Debug)]
pub(crate) struct Connection {
    client_id: Arc<str>,
    setup_timeout: Duration,
    /// Whether the broker wants to know who this is.
    authenticates: bool,
    state: State,
    /// When the broker wants to know it again; it closes the connection some time after (KIP-368).
    renew_at: Option<Instant>,
    /// How much of a session's lifetime passes before it is renewed, in permille.
    renewal_permille: u32,
    /// Whether any request of a role was answered.
    has_answered: bool,
    in_flight: VecDeque<InFlight>,
    /// Requests that no answer comes for, until their last byte is out (`acks=0`).
    unanswered: VecDeque<InFlight>,
    next_correlation_id: i32,
    last_used: Instant,
    traffic: Traffic,
}

#[derive(Debug)]
enum State {
    Dialling,
    /// Asked which versions the broker speaks.
    Negotiating,
    Authenticating {
        versions: VersionTable,
        stage: Stage,
        /// Whether it has been ready before.
        again: bool,
    },
    Ready(VersionTable),
}

#[derive(Debug)]
enum Stage {
    /// Whoever drives this is asked for credentials; until when.
    Login(Instant),
    Running(Authentication),
}

#[derive(Debug)]
struct InFlight {
    correlation_id: i32,
    /// Whose request it is; `None` for the connection's own.
    token: Option<Token>,
    api: ApiKey,
    version: i16,
    deadline: Instant,
    sent_at: Instant,
    /// From here to the answer.
    span: tracing::Span,
}

/// What a connection has carried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) requests: u64,
    pub(crate) responses: u64,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
    /// From a request to its answer, in milliseconds.
    pub(crate) latency: Recent,
}

impl Traffic {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.responses += other.responses;
        self.bytes_out += other.bytes_out;
        self.bytes_in += other.bytes_in;
        self.latency.merge(&other.latency);
    }
}

/// What incoming bytes led to.
#[derive(Debug)]
pub(crate) enum Event {
    /// Requests may be sent from now on.
    Ready,
    /// Credentials are needed: [`Connection::authenticate`].
    Login,
    /// The connection itself has something to write.
    Transmit(Vec<Bytes>),
    /// An answer.
    Response(Token, Response),
}

/// A request that was in flight when the connection ended.
#[derive(Debug)]
pub(crate) struct Abandoned {
    pub(crate) token: Token,
    pub(crate) api: ApiKey,
    pub(crate) deadline: Instant,
}

impl Connection {
    /// `renewal_permille`: after how much of a session's lifetime it is renewed, 850 to 950 as in Java, so that
    /// clients do not come back in step.
    pub(crate) fn new(
        now: Instant,
        config: &ClientConfig,
        client_id: Arc<str>,
        renewal_permille: u32,
    ) -> Self {
        Self {
            client_id,
            setup_timeout: config.connection_setup_timeout,
            authenticates: config.security.sasl.is_some(),
            state: State::Dialling,
            renew_at: None,
            renewal_permille,
            has_answered: false,
            in_flight: VecDeque::new(),
            unanswered: VecDeque::new(),
            next_correlation_id: 0,
            last_used: now,
            traffic: Traffic::default(),
        }
    }

    /// What it has carried.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The dial succeeded: asks which versions the broker speaks, in `version` of that question.
    pub(crate) fn start(&mut self, now: Instant, version: i16) -> Result<Vec<Bytes>> {
        self.state = State::Negotiating;
        self.write(now, None, &ApiVersionsRequest::default(), version, self.setup_timeout)
    }

    /// The version table, once negotiated.
    pub(crate) fn versions(&self) -> Option<&VersionTable> {
        match &self.state {
            State::Ready(versions) | State::Authenticating { versions, .. } => Some(versions),
            State::Dialling | State::Negotiating => None,
        }
    }

    /// Whether the broker is being told, for the first time or again, who this is.
    pub(crate) fn is_authenticating(&self) -> bool {
        matches!(self.state, State::Authenticating { .. })
    }

    /// Whether requests were sent without SASL, and none was ever answered: a listener with SASL does that.
    pub(crate) fn is_unheard(&self) -> bool {
        self.is_ready() && !self.authenticates && !self.has_answered && !self.in_flight.is_empty()
    }

    /// Whether the session must be renewed before anything else is sent; then credentials are needed.
    pub(crate) fn renew(&mut self, now: Instant) -> bool {
        if self.renew_at.is_none_or(|at| at > now) {
            return false;
        }
        match std::mem::replace(&mut self.state, State::Dialling) {
            State::Ready(versions) => {
                let stage = Stage::Login(now + self.setup_timeout);
                self.state = State::Authenticating { versions, stage, again: true };
                self.renew_at = None;
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    /// Credentials have come: begins to prove with them who this is.
    ///
    /// # Errors
    /// `Unsupported`, when the broker has no SASL as of Kafka 1.0.
    pub(crate) fn authenticate(&mut self, now: Instant, exchange: Exchange) -> Result<Vec<Bytes>> {
        let State::Authenticating { stage, .. } = &mut self.state else { return Ok(Vec::new()) };
        let authentication = Authentication::new(exchange);
        let request = authentication.handshake();
        *stage = Stage::Running(authentication);
        self.ask(now, &request)
    }

    /// Sends a request of its own.
    fn ask(&mut self, now: Instant, request: &dyn Request) -> Result<Vec<Bytes>> {
        let versions = self.versions();
        let version = versions.map_or(Ok(0), |versions| versions.pick(request.api(), request.versions()))?;
        // When a session is renewed, the answers to what was asked before come first.
        let before = self.outstanding().map(|request| request.deadline.saturating_duration_since(now)).max();
        self.write(now, None, request, version, before.unwrap_or_default() + self.setup_timeout)
    }

    /// Whether the broker has not answered anything yet.
    pub(crate) fn is_negotiating(&self) -> bool {
        matches!(self.state, State::Negotiating)
    }

    /// Whether requests may be sent.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// How many answers are outstanding.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len() + self.unanswered.len()
    }

    /// Encodes a request in the newest version that both sides know.
    ///
    /// # Errors
    /// `Unsupported` when there is none, or what encoding reports; the connection stays usable.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        token: Token,
        request: &dyn Request,
        timeout: Duration,
    ) -> Result<Vec<Bytes>> {
        let State::Ready(versions) = &self.state else {
            return Err(Error::new(ErrorKind::Network, "send on a connection that is not ready"));
        };
        let version = versions.pick(request.api(), request.versions())?;
        self.write(now, Some(token), request, version, timeout)
    }

    fn write(
        &mut self,
        now: Instant,
        token: Option<Token>,
        request: &dyn Request,
        version: i16,
        timeout: Duration,
    ) -> Result<Vec<Bytes>> {
        let api = request.api();
        let correlation_id = self.next_correlation_id;
        let frame = header::encode_request(request, version, correlation_id, Some(&self.client_id))?;
        self.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        self.last_used = now;
        let bytes: usize = frame.iter().map(Bytes::len).sum();
        self.traffic.requests += 1;
        self.traffic.bytes_out += bytes as u64;
        let span = tracing::debug_span!("request", ?api, version, correlation_id, bytes);
        let sent =
            InFlight { correlation_id, token, api, version, deadline: now + timeout, sent_at: now, span };
        if request.expects_response() {
            self.in_flight.push_back(sent);
        } else {
            self.unanswered.push_back(sent);
        }
        Ok(frame)
    }

    /// The last byte of a request without an answer is out: an empty answer stands in for it.
    pub(crate) fn transmitted(&mut self, token: Token) -> Option<Response> {
        let index = self.unanswered.iter().position(|request| request.token == Some(token))?;
        let request = self.unanswered.remove(index)?;
        Some(Response { api: request.api, version: request.version, body: Bytes::new() })
    }

    /// Takes the whole frames out of `buffer`; the answer is how many bytes the begun one lacks.
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not answers to what was asked; the connection must be closed.
    pub(crate) fn handle_bytes(
        &mut self,
        now: Instant,
        buffer: &mut BytesMut,
        events: &mut Vec<Event>,
    ) -> Result<usize> {
        let limit = match self.state {
            State::Ready(_) | State::Authenticating { again: true, .. } => Limits::DEFAULT.frame_max_bytes,
            State::Authenticating { .. } => Limits::DEFAULT.frame_before_authentication_max_bytes,
            State::Dialling | State::Negotiating => Limits::DEFAULT.first_api_versions_max_bytes,
        };
        loop {
            match split_frame(buffer, limit)? {
                Split::Frame(frame) => {
                    self.last_used = now;
                    events.push(self.handle_frame(now, &frame)?);
                }
                Split::Missing(bytes) => return Ok(bytes),
            }
        }
    }

    fn handle_frame(&mut self, now: Instant, frame: &Bytes) -> Result<Event> {
        let Some(request) = self.in_flight.front() else {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("read an answer of {} bytes, and no request is in flight", frame.len()),
            ));
        };
        let response = header::read_response(frame, request.api, request.version, request.correlation_id)?;
        self.traffic.responses += 1;
        self.traffic.bytes_in += frame.len() as u64 + 4;
        self.traffic.latency.record(now, millis(now.saturating_duration_since(request.sent_at)));
        request.span.in_scope(|| tracing::trace!(bytes = frame.len(), "answered"));
        let token = request.token;
        self.in_flight.pop_front();
        match token {
            Some(token) => {
                self.has_answered = true;
                Ok(Event::Response(token, response))
            }
            None if self.is_authenticating() => self.authenticated(now, response),
            None => self.negotiated(now, &response),
        }
    }

    fn authenticated(&mut self, now: Instant, response: Response) -> Result<Event> {
        let State::Authenticating { stage: Stage::Running(authentication), .. } = &mut self.state else {
            return Err(Error::new(ErrorKind::Protocol, "read an answer to a request that was not sent"));
        };
        let lifetime = match authentication.handle_response(response)? {
            Next::Ask(request) => return self.ask(now, &*request).map(Event::Transmit),
            Next::Done(lifetime) => lifetime,
        };
        self.renew_at =
            lifetime.and_then(|lifetime| now.checked_add(lifetime / 1000 * self.renewal_permille));
        if let State::Authenticating { versions, .. } = std::mem::replace(&mut self.state, State::Dialling) {
            self.state = State::Ready(versions);
        }
        Ok(Event::Ready)
    }

    /// The broker's answer to which versions it speaks (KIP-35). A broker that does not know the version
    /// of the question answers in version 0 with what it knows (KIP-511).
    fn negotiated(&mut self, now: Instant, response: &Response) -> Result<Event> {
        let answer = ApiVersionsResponse::decode(response)?;
        if answer.error == Some(ErrorCode::UNSUPPORTED_VERSION) {
            let version = answer.fallback(response.version)?;
            return self.start(now, version).map(Event::Transmit);
        }
        let versions = VersionTable::new(answer)?;
        if self.authenticates {
            let stage = Stage::Login(now + self.setup_timeout);
            self.state = State::Authenticating { versions, stage, again: false };
            return Ok(Event::Login);
        }
        self.state = State::Ready(versions);
        Ok(Event::Ready)
    }

    /// The broker will answer what is outstanding so much later.
    pub(crate) fn put_off(&mut self, pause: Duration) {
        for request in self.in_flight.iter_mut().chain(&mut self.unanswered) {
            request.deadline = request.deadline.checked_add(pause).unwrap_or(request.deadline);
        }
    }

    /// When an answer is overdue, or an idle connection should go.
    pub(crate) fn deadline(&self, max_idle: Duration) -> Option<Instant> {
        let login = match &self.state {
            State::Authenticating { stage: Stage::Login(deadline), .. } => Some(*deadline),
            _ => None,
        };
        match self.outstanding().map(|request| request.deadline).chain(login).min() {
            None if self.is_ready() => Some(self.last_used + max_idle),
            deadline => deadline,
        }
    }

    fn outstanding(&self) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter().chain(&self.unanswered)
    }

    /// Ends the connection: the requests whose answers will not come.
    pub(crate) fn abandon(self) -> impl Iterator<Item = Abandoned> {
        self.in_flight.into_iter().chain(self.unanswered).filter_map(|request| {
            Some(Abandoned { token: request.token?, api: request.api, deadline: request.deadline })
        })
    }

    /// In which version to ask next time which versions the broker speaks.
    pub(crate) fn question_version(&self) -> Option<i16> {
        let newest = *self.versions()?.range(ApiKey::ApiVersions)?.end();
        Some(newest.min(api_versions::NEWEST))
    }
}
