//! The only tokio module: sockets, TLS, a thread and the clock around a [`Cluster`].

mod tls;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, Bytes};
use kafka_wire::protocol::frame::FrameReader;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::cluster::{Cluster, ConnectionId, Now, Output, Peer};
use crate::faults::{Rule, RuleId};
use crate::options::Options;

/// How long a client may take for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Pieces of one vectored write.
const PIECES_MAX: usize = 64;

/// A running cluster of embedded brokers. Dropping it stops it; what is on disk stays.
///
/// Its methods may be called from any thread while clients are served.
#[derive(Debug)]
pub struct EmbeddedBroker {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The earliest deadline may have moved.
    rescheduled: Notify,
}

#[derive(Debug)]
struct State {
    cluster: Cluster,
    /// Where the nodes listen.
    addresses: Vec<SocketAddr>,
    /// To each node's task: where it is to listen from now on.
    moves: Vec<mpsc::UnboundedSender<std::net::TcpListener>>,
    outboxes: HashMap<ConnectionId, mpsc::UnboundedSender<Output>>,
}

impl State {
    /// Whether a node takes connections there; one may have been accepted just before it stopped or moved.
    fn listens(&self, node: i32, port: u16) -> bool {
        let address = usize::try_from(node).ok().and_then(|node| self.addresses.get(node));
        self.cluster.is_up(node) && address.is_some_and(|address| address.port() == port)
    }
}

impl EmbeddedBroker {
    /// Starts a cluster; when this returns, all its nodes accept connections.
    ///
    /// # Errors
    /// When an address cannot be listened on, the data folder cannot be used, or a topic is not possible.
    pub fn start(options: Options) -> io::Result<Self> {
        let listeners = bind(&options)?;
        let mut addresses = Vec::with_capacity(listeners.len());
        for listener in &listeners {
            addresses.push(listener.local_addr()?);
        }
        let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
        let mut cluster = Cluster::new(now(), options, RandomState::new().build_hasher().finish())?;
        for (node, address) in (0..).zip(&addresses) {
            cluster.set_address(node, advertised(address), address.port());
        }
        let (moves, moved) = listeners.iter().map(|_| mpsc::unbounded_channel()).unzip();
        let state = Mutex::new(State { cluster, addresses, moves, outboxes: HashMap::new() });
        let shared = Arc::new(Shared { state, rescheduled: Notify::new() });
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("tidewater-broker".to_owned()).spawn(move || {
            runtime.block_on(serve(served, listeners, moved, stopped, tls));
        })?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// Where the nodes listen, by node id.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.shared.lock().addresses.clone()
    }

    /// Lets a node come back at another address: its connections are closed, it listens on another free port, and
    /// the others tell clients so. Its address from now on.
    ///
    /// ```
    /// # use tidewater_broker::{EmbeddedBroker, Options};
    /// let broker = EmbeddedBroker::start(Options { nodes: 2, ..Options::default() })?;
    /// let before = broker.addresses()[1];
    /// assert_ne!(broker.move_node(1)?, before);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// When there is no such node, or no port can be had.
    pub fn move_node(&self, node: u16) -> io::Result<SocketAddr> {
        let mut state = self.shared.lock();
        let index = usize::from(node);
        let (Some(old), Some(moves)) = (state.addresses.get(index), state.moves.get(index).cloned()) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no node {node} to move")));
        };
        let listener = std::net::TcpListener::bind((old.ip(), 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        state.addresses[index] = address;
        state.cluster.set_address(i32::from(node), advertised(&address), address.port());
        drop(state);
        // A broker that is being stopped listens nowhere anyway.
        let _ = moves.send(listener);
        self.control(|cluster, _| cluster.disconnect_all(i32::from(node)));
        Ok(address)
    }

    /// The addresses as `bootstrap.servers` takes them.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        addresses.join(",")
    }

    /// Does something to the cluster, between two requests: faults, moves, stops (see [`Cluster`]).
    ///
    /// ```
    /// # use tidewater_broker::{EmbeddedBroker, Options};
    /// let broker = EmbeddedBroker::start(Options { nodes: 3, ..Options::default() }.with_topic("orders", 3))?;
    /// broker.control(|cluster, now| cluster.move_leader(now, "orders", 0, 2));
    /// broker.control(|cluster, now| cluster.stop_node(now, 1));
    /// broker.control(|cluster, now| cluster.truncate(now, "orders", 0, 0))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn control<T>(&self, command: impl FnOnce(&mut Cluster, Now) -> T) -> T {
        self.shared.with(|cluster| command(cluster, now()))
    }

    /// Puts a fault rule in force.
    pub fn add_rule(&self, rule: Rule) -> RuleId {
        self.control(|cluster, _| cluster.add_rule(rule))
    }

    /// Takes a fault rule out of force.
    pub fn remove_rule(&self, rule: RuleId) {
        self.control(|cluster, _| cluster.remove_rule(rule));
    }

    /// Stops serving and waits until all connections are closed, as dropping does.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the broker's thread panicked");
        }
    }
}

impl Shared {
    /// Changes the cluster and hands its output to the connections.
    fn with<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let mut state = self.lock();
        let before = state.cluster.poll_timeout();
        let result = change(&mut state.cluster);
        while let Some(output) = state.cluster.poll_output() {
            let (Output::Send { connection, .. }
            | Output::Continue { connection }
            | Output::Close { connection }) = output;
            if let Some(outbox) = state.outboxes.get(&connection) {
                // A connection that is gone needs no answer.
                let _ = outbox.send(output);
            }
        }
        if state.cluster.poll_timeout() != before {
            self.rescheduled.notify_one();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a caller's `control` closure must not take the broker with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(clippy::disallowed_methods, reason = "the rim is where clocks are read")]
fn now() -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Now { instant: Instant::now(), unix_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX) }
}

fn bind(options: &Options) -> io::Result<Vec<std::net::TcpListener>> {
    let refused = |error: io::Error| {
        let text = format!("listen on {}: {error}; choose another address with `listen`", options.listen);
        io::Error::new(error.kind(), text)
    };
    let first = options.listen.to_socket_addrs().map_err(refused)?.next();
    let first = first.ok_or_else(|| refused(io::ErrorKind::AddrNotAvailable.into()))?;
    (0..options.nodes.max(1))
        .map(|node| {
            let mut address = first;
            if address.port() != 0 {
                address.set_port(address.port().saturating_add(node));
            }
            let listener = std::net::TcpListener::bind(address).map_err(refused)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
        .collect()
}

/// What clients are told to connect to: a wildcard address is no address.
fn advertised(address: &SocketAddr) -> String {
    if address.ip().is_unspecified() { "localhost".to_owned() } else { address.ip().to_string() }
}

async fn serve(
    shared: Arc<Shared>,
    listeners: Vec<std::net::TcpListener>,
    moved: Vec<mpsc::UnboundedReceiver<std::net::TcpListener>>,
    mut stopped: watch::Receiver<bool>,
    tls: Option<TlsAcceptor>,
) {
    let mut tasks = JoinSet::new();
    for (node, (listener, moved)) in (0..).zip(listeners.into_iter().zip(moved)) {
        tasks.spawn(accept(Arc::clone(&shared), node, listener, moved, tls.clone()));
    }
    tasks.spawn(keep_time(shared));
    // An error means that the handle is gone, which says the same.
    let _ = stopped.wait_for(|stop| *stop).await;
    tasks.shutdown().await;
}

async fn keep_time(shared: Arc<Shared>) {
    loop {
        let deadline = shared.lock().cluster.poll_timeout();
        let rescheduled = shared.rescheduled.notified();
        match deadline {
            Some(deadline) => {
                tokio::select! {
                    () = tokio::time::sleep_until(deadline.into()) => {
                        shared.with(|cluster| cluster.handle_timeout(now()));
                    }
                    () = rescheduled => {}
                }
            }
            None => rescheduled.await,
        }
    }
}

async fn accept(
    shared: Arc<Shared>,
    node: i32,
    listener: std::net::TcpListener,
    mut moved: mpsc::UnboundedReceiver<std::net::TcpListener>,
    tls: Option<TlsAcceptor>,
) {
    let mut listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, node, "cannot listen"),
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if shared.lock().cluster.is_up(node) => {
                    connections.spawn(greet(Arc::clone(&shared), node, stream, peer, tls.clone()));
                }
                Ok(_) => {}
                Err(error) => {
                    // Out of file descriptors, for one: others have to close first.
                    tracing::warn!(%error, node, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(fresh) = moved.recv() => match TcpListener::from_std(fresh) {
                Ok(fresh) => listener = fresh,
                Err(error) => return tracing::error!(%error, node, "cannot listen at the new address"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Shakes hands, where there is TLS, and then talks.
async fn greet(
    shared: Arc<Shared>,
    node: i32,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
) {
    let _ = stream.set_nodelay(true);
    let host = peer.ip().to_string();
    let Ok(at) = stream.local_addr() else { return };
    let Some(tls) = tls else {
        return converse(shared, Peer { host, principal: None }, (node, at), stream).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let principal = tls::principal(&stream);
            converse(shared, Peer { host, principal }, (node, at), stream).await;
        }
        Ok(Err(error)) => tracing::info!(%error, node, %peer, "a TLS handshake failed"),
        Err(_) => tracing::info!(node, %peer, "a TLS handshake took too long"),
    }
}

/// One connection to a node, at the address where it was accepted: a request at a time, as Kafka does it.
async fn converse<S>(shared: Arc<Shared>, peer: Peer, (node, at): (i32, SocketAddr), mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (outbox, mut answers) = mpsc::unbounded_channel();
    let (connection, mut request_bytes_max) = {
        let mut state = shared.lock();
        if !state.listens(node, at.port()) {
            return;
        }
        let connection = state.cluster.handle_connected_from(node, peer);
        state.outboxes.insert(connection, outbox);
        (connection, state.cluster.request_bytes_max(connection))
    };
    let guard = Guard { shared: &shared, connection };
    let mut reader = FrameReader::new(request_bytes_max);
    while let Some(frame) = next_frame(&mut stream, &mut reader, &mut answers).await {
        let allowed = shared.with(|cluster| {
            cluster.handle_request(now(), connection, frame);
            cluster.request_bytes_max(connection)
        });
        if allowed != request_bytes_max {
            request_bytes_max = allowed;
            reader.set_max_bytes(allowed);
        }
        match answers.recv().await {
            Some(Output::Send { frame, .. }) => {
                if write_all(&mut stream, frame).await.is_err() {
                    break;
                }
            }
            Some(Output::Continue { .. }) => {}
            Some(Output::Close { .. }) | None => break,
        }
    }
    drop(guard);
}

/// Takes the connection off the books, also when its task is cancelled.
struct Guard<'a> {
    shared: &'a Shared,
    connection: ConnectionId,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.outboxes.remove(&self.connection);
        state.cluster.handle_disconnected(self.connection);
    }
}

/// The next request; `None` when the connection is over.
async fn next_frame(
    stream: &mut (impl AsyncRead + Unpin),
    reader: &mut FrameReader,
    answers: &mut mpsc::UnboundedReceiver<Output>,
) -> Option<Bytes> {
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => return Some(frame),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection is closed");
                return None;
            }
        }
        tokio::select! {
            read = stream.read_buf(reader.read_buffer()) => match read {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            },
            // Between requests nothing is sent: the cluster wants the connection closed.
            _ = answers.recv() => return None,
        }
    }
}

async fn write_all(stream: &mut (impl AsyncWrite + Unpin), mut pieces: Vec<Bytes>) -> io::Result<()> {
    let mut first = 0;
    while first < pieces.len() {
        let slices: Vec<io::IoSlice<'_>> =
            pieces[first..].iter().take(PIECES_MAX).map(|piece| io::IoSlice::new(piece)).collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(piece) = pieces.get_mut(first) {
            let taken = written.min(piece.len());
            piece.advance(taken);
            written -= taken;
            if !piece.is_empty() {
                break;
            }
            first += 1;
        }
    }
    Ok(())
}
