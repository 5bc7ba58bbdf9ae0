//! The engine: connections, routing and retries of dialling under any role. Layer 7.
//!
//! A role (producer, consumer, admin) is a machine that makes *calls*; the engine finds the broker,
//! dials it, negotiates versions, writes requests, matches answers and gives each call exactly one
//! answer. Both are values: whoever drives them brings bytes and time in and takes [`Output`]s out.
//!
//! Order of driving: after any `handle_*`, call [`Engine::poll_output`] until it gives `None`, then wait
//! until [`Engine::poll_timeout`] or the next input.

mod call;
mod core;
mod discovery;
mod pool;
mod telemetry;
mod throttle;
mod traffic;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

pub use self::core::Core;
use self::core::Purpose;
use self::telemetry::Telemetry;
pub use call::{Lane, Target};
pub(crate) use discovery::read_topic;

use crate::config::{ClientConfig, HostPort};
pub use crate::connection::Token;
use crate::error::{Error, Result};
use crate::metrics::{Groups, Sink, ThrottleTime};
use crate::protocol::request::Response;
pub use crate::reply::Reply;
use crate::security::Exchange;
pub use crate::time::Rng;

/// Names one connection, from the dial to its end; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A role: a machine on top of the [`Core`].
pub trait Role {
    /// What the application asks for.
    type Command;

    /// Where Java's client of this kind has the figures of its connections.
    const METRIC_GROUPS: Groups;

    /// Where Java's client of this kind has how long brokers asked to be left alone; Java's admin has it nowhere.
    const THROTTLE_TIME: Option<ThrottleTime> = None;

    /// The application asks.
    fn handle_command(&mut self, now: Instant, command: Self::Command, core: &mut Core);

    /// The one answer to a call of [`Core::call`].
    ///
    /// A connection that broke or was given up: `Network` or `Timeout`, with
    /// [`possibly_written`](Error::possibly_written) when the request had left and may change something.
    /// A call that could not be sent in its time: `Timeout` without it.
    fn handle_response(&mut self, now: Instant, token: Token, result: Result<Response>, core: &mut Core);

    /// Metadata changed, the connection state changed, or a deadline passed: look at everything.
    fn handle_progress(&mut self, now: Instant, core: &mut Core);

    /// When [`Role::handle_progress`] should be called at the latest. A time that has passed is due at
    /// once; after it was handled it must have moved on.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Whether the role has finished, so that the driver may end.
    fn is_closed(&self) -> bool;

    /// Gives its figures to `sink`.
    fn measure(&self, now: Instant, sink: &mut Sink<'_>);
}

/// What the driver must do.
#[derive(Debug)]
pub enum Output {
    /// Resolve and connect, and do the TLS handshake if the configuration says so; answer by
    /// [`Engine::handle_connected`], or [`Engine::handle_disconnected`] at the latest after `timeout`.
    Dial {
        /// Names the connection from now on.
        connection: ConnectionId,
        /// Where to.
        address: HostPort,
        /// For everything up to the end of the TLS handshake.
        timeout: Duration,
    },
    /// Write the chunks, in order, after what was given before.
    Transmit {
        /// To which connection.
        connection: ConnectionId,
        /// One request.
        chunks: Vec<Bytes>,
        /// When set: call [`Engine::handle_transmitted`] with it when the last byte has been taken by the
        /// operating system, because no answer will come.
        confirm: Option<Token>,
    },
    /// Get credentials (a token may have to be asked for); answer by [`Engine::handle_login`] at the latest after
    /// `timeout`. Comes only where the configuration has SASL: for each new connection, and when the broker wants to
    /// know again who this is.
    Login {
        /// Which connection.
        connection: ConnectionId,
        /// For getting them.
        timeout: Duration,
    },
    /// Close, without writing what is left; nothing more may come in from it.
    Close {
        /// Which connection.
        connection: ConnectionId,
    },
}

/// A role and the core under it.
#[derive(Debug)]
pub struct Engine<R> {
    core: Core,
    role: R,
}

impl<R: Role> Engine<R> {
    /// An engine that has not been driven yet; call [`Engine::handle_timeout`] first. `seed` determines
    /// its jitter and choices.
    pub fn new(now: Instant, config: &ClientConfig, seed: u64, role: R) -> Self {
        Self { core: Core::new(now, config, seed), role }
    }

    /// The application asks something of the role.
    pub fn handle_command(&mut self, now: Instant, command: R::Command) {
        self.role.handle_command(now, command, &mut self.core);
        self.settle(now);
    }

    /// A dial succeeded, TLS included.
    pub fn handle_connected(&mut self, now: Instant, connection: ConnectionId) {
        self.core.handle_connected(now, connection);
        self.settle(now);
    }

    /// Credentials were got, or could not be.
    pub fn handle_login(&mut self, now: Instant, connection: ConnectionId, credentials: Result<Exchange>) {
        self.core.handle_login(now, connection, credentials);
        self.settle(now);
    }

    /// Bytes came in. Whole frames are split off `buffer` without copying, a begun one stays in it; the
    /// answer is how many bytes the begun one lacks (at least 1).
    pub fn handle_bytes(&mut self, now: Instant, connection: ConnectionId, buffer: &mut BytesMut) -> usize {
        let missing = self.core.handle_bytes(now, connection, buffer);
        self.settle(now);
        missing
    }

    /// A request with `confirm` has been written in full.
    pub fn handle_transmitted(&mut self, now: Instant, connection: ConnectionId, token: Token) {
        self.core.handle_transmitted(now, connection, token);
        self.settle(now);
    }

    /// A dial failed, or a connection ended: by the peer, or by an error.
    pub fn handle_disconnected(&mut self, now: Instant, connection: ConnectionId, error: Error) {
        self.core.handle_disconnected(now, connection, error);
        self.settle(now);
    }

    /// Time has passed; call it when [`Engine::poll_timeout`] says so. Earlier does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.core.handle_timeout(now);
        self.role.handle_progress(now, &mut self.core);
        self.settle(now);
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.poll_output()
    }

    /// When [`Engine::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.core.poll_timeout(), self.role.poll_timeout()].into_iter().flatten().min()
    }

    /// Gives all figures, the role's and those of its connections, to `sink`.
    pub fn measure(&self, now: Instant, sink: &mut Sink<'_>) {
        self.role.measure(now, sink);
        self.core.measure::<R>(now, sink);
    }

    /// Whether the role has finished.
    pub fn is_closed(&self) -> bool {
        self.role.is_closed() && self.core.telemetry.as_ref().is_none_or(Telemetry::has_ended)
    }

    /// Says what time it is at `now`, in nanoseconds since 1970: for the figures that brokers ask for.
    pub fn set_wall_clock(&mut self, now: Instant, unix_ns: u64) {
        self.core.wall_clock = Some((now, unix_ns));
    }

    /// The role.
    pub fn role(&self) -> &R {
        &self.role
    }

    /// What the engine knows of the cluster, and how it stands.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Lets core and role react to each other until neither has anything left to do now.
    fn settle(&mut self, now: Instant) {
        loop {
            self.core.advance(now);
            if let Some((token, result)) = self.core.next_answer() {
                self.role.handle_response(now, token, result, &mut self.core);
            } else if self.core.take_progress() {
                self.role.handle_progress(now, &mut self.core);
            } else if !self.tell_figures(now) {
                return;
            }
        }
    }

    /// Tells a broker this client's figures when it is time, and once more at the end; whether it did.
    fn tell_figures(&mut self, now: Instant) -> bool {
        let is_last = self.role.is_closed();
        let Some(mut telemetry) = self.core.telemetry.take() else { return false };
        let is_due = if is_last { telemetry.end(now) } else { telemetry.wants_figures(now) };
        let request = if is_due {
            let wall_clock = self.core.wall_clock;
            let time_ns =
                wall_clock.map_or(0, |(then, ns)| ns + now.saturating_duration_since(then).as_nanos() as u64);
            let rack = self.core.config.client_rack.clone();
            let resource: Vec<(&str, &str)> =
                rack.as_deref().map(|rack| ("client_rack", rack)).into_iter().collect();
            telemetry.push(now, time_ns, &resource, is_last, |sink| self.measure(now, sink))
        } else {
            None
        };
        self.core.telemetry = Some(telemetry);
        let Some(request) = request else { return false };
        let timeout = self.core.config.request_timeout;
        self.core.call_for(now, Purpose::Telemetry, Target::Any, request, timeout);
        true
    }
}

#[cfg(test)]
mod tests;
