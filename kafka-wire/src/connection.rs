//! One connection to a broker: version negotiation, the requests in flight, their answers. Layer 6.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::config::ClientConfig;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::api_versions::{self, ApiVersionsRequest, ApiVersionsResponse};
use crate::protocol::frame::{Split, split_frame};
use crate::protocol::header;
use crate::protocol::limits::Limits;
use crate::protocol::messages::ApiKey;
use crate::protocol::request::{Request, Response};
use crate::protocol::versions::VersionTable;

/// Names one call; the connection only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub(crate) u64);

/// A connection, from the dial to its end.
#[derive(Debug)]
pub(crate) struct Connection {
    client_id: Arc<str>,
    setup_timeout: Duration,
    state: State,
    in_flight: VecDeque<InFlight>,
    /// Requests that no answer comes for, until their last byte is out (`acks=0`).
    unanswered: VecDeque<InFlight>,
    next_correlation_id: i32,
    last_used: Instant,
}

#[derive(Debug)]
enum State {
    Dialling,
    /// Asked which versions the broker speaks.
    Negotiating,
    Ready(VersionTable),
}

#[derive(Debug)]
struct InFlight {
    correlation_id: i32,
    /// Whose request it is; `None` for the connection's own.
    token: Option<Token>,
    api: ApiKey,
    version: i16,
    deadline: Instant,
}

/// What incoming bytes led to.
#[derive(Debug)]
pub(crate) enum Event {
    /// Requests may be sent from now on.
    Ready,
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
    pub(crate) fn new(now: Instant, config: &ClientConfig, client_id: Arc<str>) -> Self {
        Self {
            client_id,
            setup_timeout: config.connection_setup_timeout,
            state: State::Dialling,
            in_flight: VecDeque::new(),
            unanswered: VecDeque::new(),
            next_correlation_id: 0,
            last_used: now,
        }
    }

    /// The dial succeeded: asks which versions the broker speaks, in `version` of that question.
    pub(crate) fn start(&mut self, now: Instant, version: i16) -> Result<Vec<Bytes>> {
        self.state = State::Negotiating;
        self.write(now, None, &ApiVersionsRequest::default(), version, self.setup_timeout)
    }

    /// The version table, once negotiated.
    pub(crate) fn versions(&self) -> Option<&VersionTable> {
        match &self.state {
            State::Ready(versions) => Some(versions),
            State::Dialling | State::Negotiating => None,
        }
    }

    /// Whether the broker has not answered anything yet.
    pub(crate) fn is_negotiating(&self) -> bool {
        matches!(self.state, State::Negotiating)
    }

    /// Whether requests may be sent.
    pub(crate) fn is_ready(&self) -> bool {
        self.versions().is_some()
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
        let Some(versions) = self.versions() else {
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
        let sent = InFlight { correlation_id, token, api, version, deadline: now + timeout };
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
            State::Ready(_) => Limits::DEFAULT.frame_max_bytes,
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
        let token = request.token;
        self.in_flight.pop_front();
        match token {
            Some(token) => Ok(Event::Response(token, response)),
            None => self.negotiated(now, &response),
        }
    }

    /// The broker's answer to which versions it speaks (KIP-35). A broker that does not know the version
    /// of the question answers in version 0 with what it knows (KIP-511).
    fn negotiated(&mut self, now: Instant, response: &Response) -> Result<Event> {
        let answer = ApiVersionsResponse::decode(response)?;
        if answer.error == Some(ErrorCode::UNSUPPORTED_VERSION) {
            let version = answer.fallback(response.version)?;
            return self.start(now, version).map(Event::Transmit);
        }
        self.state = State::Ready(VersionTable::new(answer)?);
        Ok(Event::Ready)
    }

    /// When an answer is overdue, or an idle connection should go.
    pub(crate) fn deadline(&self, max_idle: Duration) -> Option<Instant> {
        match self.outstanding().map(|request| request.deadline).min() {
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
