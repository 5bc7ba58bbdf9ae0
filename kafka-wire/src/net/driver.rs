//! The loop that drives an engine: brings it bytes, time and commands, and does what it puts out.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, Bytes};
use tokio::time::Sleep;

use super::buffers::{Buffers, ReceiveBuffer};
use super::dial::{Dialer, Stream, late};
use super::login::Logins;
#[cfg(feature = "metrics")]
use super::publish::Publisher;
use super::signal::Signal;
use crate::config::ClientConfig;
use crate::engine::{ConnectionId, Engine, Output, Role, Token};
use crate::error::{Error, ErrorKind, Result};
use crate::security::Exchange;
use crate::time::TIME_MAX;

/// Where a driver gets commands from. It is asked after each [`Signal::notify`], and when its time has come.
pub(crate) trait Feed: Send {
    /// What the role understands.
    type Command;

    /// Gives what there is to `emit`, and says when to ask again without a signal.
    fn poll(&mut self, now: Instant, emit: &mut dyn FnMut(Self::Command)) -> Option<Instant>;
}

/// The thread that drives an engine. Dropping it ends the thread at once, whatever is under way; who wants
/// a graceful end asks the role for it first.
#[derive(Debug)]
pub(crate) struct DriverHandle {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for DriverHandle {
    fn drop(&mut self) {
        self.signal.stop();
        let Some(thread) = self.thread.take() else { return };
        // The last handle may be dropped by a callback on that very thread.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the client's I/O thread panicked");
        }
    }
}

/// Starts a thread that drives `role` over real sockets until the role is closed.
///
/// # Errors
/// `Config` or `Unsupported` when TLS cannot be set up, `Network` when the thread cannot be started.
pub(crate) fn spawn<R, F>(
    name: &str,
    config: &ClientConfig,
    role: R,
    feed: F,
    signal: Arc<Signal>,
) -> Result<DriverHandle>
where
    R: Role + Send + 'static,
    F: Feed<Command = R::Command> + 'static,
{
    let start = |cause: io::Error| Error::new(ErrorKind::Network, "start the I/O thread").with_cause(cause);
    let dialer = Dialer::new(&config.security, config.socket_buffers)?;
    let dialer = dialer.with_resolver(config.host_resolver.clone());
    let logins = Logins::new(&config.security)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(start)?;
    let mut engine = Engine::new(now(), config, seed(), role);
    engine.set_wall_clock(now(), unix_ns());
    let on_thread = Arc::clone(&signal);
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // As a task, not as the future of `block_on`: a wake-up of that one by the timer or a socket costs
            // a system call more.
            let driving = runtime.spawn(async move {
                let mut driver = Driver::new(engine, feed, dialer, logins, on_thread);
                poll_fn(|context| driver.poll(context)).await;
            });
            let ended = runtime.block_on(driving);
            // A name that is still being resolved must not hold up whoever joins this thread.
            runtime.shutdown_background();
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        })
        .map_err(start)?;
    Ok(DriverHandle { signal, thread: Some(thread) })
}

#[allow(clippy::disallowed_methods, reason = "the rim reads the clock for the machines")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// A seed for a machine: another one each time.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// When `timeout` is over.
pub(super) fn deadline(timeout: Duration) -> Instant {
    now() + timeout.min(TIME_MAX)
}

/// In nanoseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "the rim reads the clock for the machines")]
fn unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads of one connection before the others have their turn.
const READS_IN_A_ROW: usize = 16;
/// Chunks given to the operating system at once; Linux takes up to 1024.
const CHUNKS_PER_WRITE: usize = 64;

struct Driver<R: Role, F> {
    engine: Engine<R>,
    feed: F,
    dialer: Dialer,
    logins: Logins,
    signal: Arc<Signal>,
    connections: BTreeMap<ConnectionId, Connection>,
    buffers: Buffers,
    timer: Pin<Box<Sleep>>,
    #[cfg(feature = "metrics")]
    publisher: Publisher,
}

type Dial = Pin<Box<dyn Future<Output = Result<Stream>> + Send>>;
type Login = Pin<Box<dyn Future<Output = Result<Exchange>> + Send>>;

enum Connection {
    Dialling(Dial),
    Open(Open),
}

struct Open {
    stream: Stream,
    /// Gets credentials for it.
    login: Option<Login>,
    received: ReceiveBuffer,
    /// How many bytes the frame begun in `received` lacks.
    missing: usize,
    outgoing: VecDeque<Outgoing>,
    needs_flush: bool,
}

enum Outgoing {
    Chunk(Bytes),
    /// Everything before this has been written.
    Confirm(Token),
}

impl<R: Role, F: Feed<Command = R::Command>> Driver<R, F> {
    fn new(engine: Engine<R>, feed: F, dialer: Dialer, logins: Logins, signal: Arc<Signal>) -> Self {
        #[cfg(feature = "metrics")]
        let publisher = Publisher::new(&engine.core().config().client_id);
        Self {
            engine,
            feed,
            dialer,
            logins,
            signal,
            connections: BTreeMap::new(),
            buffers: Buffers::default(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            #[cfg(feature = "metrics")]
            publisher,
        }
    }

    /// Does all there is to do; ready when the role is closed or the driver was told to stop.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            self.signal.awake(context);
            if self.signal.is_stopped() {
                if self.engine.role().is_closed() {
                    // Its last figures may still be here.
                    self.poll_connections(context);
                }
                return Poll::Ready(());
            }
            let next_feed = self.feed_engine();
            let busy = self.poll_connections(context);
            if self.engine.is_closed() && self.is_written() {
                return Poll::Ready(());
            }
            let deadline = [self.engine.poll_timeout(), next_feed].into_iter().flatten().min();
            if !busy && !self.is_due(context, deadline) && self.signal.sleep() {
                return Poll::Pending;
            }
        }
    }

    fn feed_engine(&mut self) -> Option<Instant> {
        let now = now();
        if self.engine.poll_timeout().is_none_or(|due| due <= now) {
            self.engine.handle_timeout(now);
        }
        let engine = &mut self.engine;
        let next = self.feed.poll(now, &mut |command| engine.handle_command(now, command));
        self.obey();
        [next, self.publish(now)].into_iter().flatten().min()
    }

    /// Publishes the client's figures when it is time; when to do so next.
    #[cfg(feature = "metrics")]
    fn publish(&mut self, now: Instant) -> Option<Instant> {
        if self.publisher.next().is_some_and(|next| next <= now) {
            self.publisher.publish(now, |sink| self.engine.measure(now, sink));
        }
        self.publisher.next()
    }

    #[cfg(not(feature = "metrics"))]
    fn publish(&self, _now: Instant) -> Option<Instant> {
        None
    }

    /// Sets the timer; whether its time has come already.
    fn is_due(&mut self, context: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else { return false };
        let deadline = tokio::time::Instant::from_std(deadline);
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(context).is_ready()
    }

    /// Does what the engine puts out.
    fn obey(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Dial { connection, address, timeout } => {
                    let dial = Box::pin(self.dialer.clone().dial(address, timeout));
                    self.connections.insert(connection, Connection::Dialling(dial));
                }
                Output::Transmit { connection, chunks, confirm } => {
                    #[cfg(feature = "metrics")]
                    self.publisher.touch(now);
                    if let Some(Connection::Open(open)) = self.connections.get_mut(&connection) {
                        open.outgoing.extend(chunks.into_iter().map(Outgoing::Chunk));
                        open.outgoing.extend(confirm.map(Outgoing::Confirm));
                    }
                }
                Output::Login { connection, timeout } => {
                    if let Some(Connection::Open(open)) = self.connections.get_mut(&connection) {
                        let exchange = self.logins.clone().exchange();
                        open.login = Some(Box::pin(async move {
                            let in_time = tokio::time::timeout(timeout, exchange).await;
                            in_time.unwrap_or_else(|_| Err(late("getting credentials", timeout)))
                        }));
                    }
                }
                Output::Close { connection } => {
                    self.connections.remove(&connection);
                }
            }
        }
    }

    fn is_written(&self) -> bool {
        self.connections.values().all(|connection| match connection {
            Connection::Dialling(_) => true,
            Connection::Open(open) => open.outgoing.is_empty() && !open.needs_flush,
        })
    }

    /// Moves every connection on; whether there may be more to do at once.
    fn poll_connections(&mut self, context: &mut Context<'_>) -> bool {
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        let mut busy = false;
        for id in ids {
            busy |= match self.connections.get_mut(&id) {
                Some(Connection::Dialling(_)) => self.poll_dial(context, id),
                Some(Connection::Open(_)) => {
                    self.poll_login(context, id) | self.write(context, id) | self.read(context, id)
                }
                None => false,
            };
        }
        busy
    }

    fn poll_dial(&mut self, context: &mut Context<'_>, id: ConnectionId) -> bool {
        let Some(Connection::Dialling(dial)) = self.connections.get_mut(&id) else { return false };
        let Poll::Ready(result) = dial.as_mut().poll(context) else { return false };
        match result {
            Ok(stream) => {
                self.connections.insert(id, Connection::Open(Open::new(stream)));
                self.engine.handle_connected(now(), id);
                self.obey();
            }
            Err(error) => self.disconnected(id, error),
        }
        true
    }

    fn poll_login(&mut self, context: &mut Context<'_>, id: ConnectionId) -> bool {
        let Some(Connection::Open(open)) = self.connections.get_mut(&id) else { return false };
        let Some(login) = &mut open.login else { return false };
        let Poll::Ready(result) = login.as_mut().poll(context) else { return false };
        open.login = None;
        self.engine.handle_login(now(), id, result);
        self.obey();
        true
    }

    fn write(&mut self, context: &mut Context<'_>, id: ConnectionId) -> bool {
        let Some(Connection::Open(open)) = self.connections.get_mut(&id) else { return false };
        let mut written = Vec::new();
        let result = open.poll_write(context, &mut written);
        // What is put out now may be for a connection that has had its turn.
        let busy = !written.is_empty();
        if busy {
            let now = now();
            for token in written {
                self.engine.handle_transmitted(now, id, token);
            }
            self.obey();
        }
        if let Poll::Ready(Err(cause)) = result {
            let error = self.dialer.explain("write", cause);
            self.disconnected(id, error);
            return true;
        }
        busy
    }

    fn read(&mut self, context: &mut Context<'_>, id: ConnectionId) -> bool {
        for turn in 0..READS_IN_A_ROW {
            let Some(Connection::Open(open)) = self.connections.get_mut(&id) else { return true };
            self.buffers.make_room(&mut open.received, open.missing);
            match open.stream.poll_read(context, &mut open.received.bytes) {
                Poll::Pending => return turn > 0,
                Poll::Ready(Ok(0)) => {
                    let error = Error::new(ErrorKind::Network, "the broker closed the connection");
                    self.disconnected(id, error);
                }
                Poll::Ready(Ok(_)) => {
                    #[cfg(feature = "metrics")]
                    self.publisher.touch(now);
                    open.missing = self.engine.handle_bytes(now(), id, &mut open.received.bytes);
                    self.obey();
                }
                Poll::Ready(Err(cause)) => {
                    let error = self.dialer.explain("read", cause);
                    self.disconnected(id, error);
                }
            }
        }
        true
    }

    fn disconnected(&mut self, id: ConnectionId, error: Error) {
        #[cfg(feature = "metrics")]
        self.publisher.touch(now);
        self.connections.remove(&id);
        self.engine.handle_disconnected(now(), id, error);
        self.obey();
    }
}

impl Open {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            login: None,
            received: ReceiveBuffer::default(),
            missing: 4,
            outgoing: VecDeque::new(),
            needs_flush: false,
        }
    }

    /// Writes as much as goes; `written` gets the requests that are out in full and want to be confirmed.
    fn poll_write(&mut self, context: &mut Context<'_>, written: &mut Vec<Token>) -> Poll<io::Result<()>> {
        loop {
            while let Some(Outgoing::Confirm(token)) = self.outgoing.front() {
                written.push(*token);
                self.outgoing.pop_front();
            }
            if self.outgoing.is_empty() {
                break;
            }
            let chunks = self.outgoing.iter().filter_map(|outgoing| match outgoing {
                Outgoing::Chunk(bytes) => Some(IoSlice::new(bytes)),
                Outgoing::Confirm(_) => None,
            });
            let chunks: Vec<IoSlice<'_>> = chunks.take(CHUNKS_PER_WRITE).collect();
            let count = ready!(self.stream.poll_write(context, &chunks))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            self.advance(count, written);
        }
        if self.needs_flush {
            ready!(self.stream.poll_flush(context))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes `count` written bytes off the queue.
    fn advance(&mut self, mut count: usize, written: &mut Vec<Token>) {
        while let Some(outgoing) = self.outgoing.front_mut() {
            match outgoing {
                Outgoing::Chunk(bytes) if bytes.len() > count => {
                    bytes.advance(count);
                    return;
                }
                Outgoing::Chunk(bytes) => count -= bytes.len(),
                Outgoing::Confirm(token) => written.push(*token),
            }
            self.outgoing.pop_front();
        }
    }
}
