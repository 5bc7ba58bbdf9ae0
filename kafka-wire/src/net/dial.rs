//! From a host name to a connected, and if need be encrypted, stream.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::{HostPort, HostResolver, Security, SocketBuffers};
use crate::error::{Error, ErrorKind, Result};

/// How long one address is tried before the next is tried too (RFC 8305, "happy eyeballs").
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Addresses of one name beyond these are not tried.
const ADDRESSES_MAX: usize = 16;

/// Opens streams as the configuration says.
#[derive(Clone)]
pub(super) struct Dialer {
    buffers: SocketBuffers,
    resolver: Option<HostResolver>,
    #[cfg(feature = "tls")]
    tls: Option<std::sync::Arc<super::tls::Tls>>,
}

impl Dialer {
    pub(super) fn new(security: &Security, buffers: SocketBuffers) -> Result<Self> {
        match &security.tls {
            None => Ok(Self {
                buffers,
                resolver: None,
                #[cfg(feature = "tls")]
                tls: None,
            }),
            #[cfg(feature = "tls")]
            Some(config) => {
                let tls = Some(std::sync::Arc::new(super::tls::Tls::new(config)?));
                Ok(Self { buffers, resolver: None, tls })
            }
            #[cfg(not(feature = "tls"))]
            Some(_) => Err(Error::new(
                ErrorKind::Unsupported,
                "security.protocol with SSL: this build is without the feature `tls`",
            )),
        }
    }

    /// Asks `resolver` for addresses, where there is one.
    pub(super) fn with_resolver(self, resolver: Option<HostResolver>) -> Self {
        Self { resolver, ..self }
    }

    /// What it means that a connection broke while it was to `attempted`.
    pub(super) fn explain(&self, attempted: &'static str, cause: io::Error) -> Error {
        #[cfg(feature = "tls")]
        if let Some(error) = self.tls.as_ref().and_then(|tls| tls.explain(&cause)) {
            return error;
        }
        Error::new(ErrorKind::Network, attempted).with_cause(cause)
    }

    /// Connects within `timeout`, TLS handshake included.
    pub(super) async fn dial(self, address: HostPort, timeout: Duration) -> Result<Stream> {
        let deadline = Instant::now() + timeout;
        let late = |what: &str| late(what, timeout);
        let resolve = async { timeout_at(deadline, self.resolve(&address)).await };
        let addresses = resolve.await.map_err(|_| late("resolving the name"))??;
        let connect = timeout_at(deadline, first_to_connect(addresses, self.buffers));
        let tcp = connect.await.map_err(|_| late("connecting"))?.map_err(|cause| {
            Error::new(ErrorKind::Network, "no connection")
                .with_cause(cause)
                .with_hint("check that a broker listens there, and its advertised.listeners")
        })?;
        tcp.set_nodelay(true)
            .map_err(|cause| Error::new(ErrorKind::Network, "set TCP_NODELAY").with_cause(cause))?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let handshake = timeout_at(deadline, tls.handshake(&address.host, tcp)).await;
            let stream = handshake.map_err(|_| {
                late("the TLS handshake").with_hint("check that the port speaks TLS (security.protocol)")
            })??;
            return Ok(Stream::Tls(Box::new(stream)));
        }
        Ok(Stream::Plain(tcp))
    }

    async fn resolve(&self, broker: &HostPort) -> Result<Vec<SocketAddr>> {
        let found = match (&self.resolver, broker.host.parse::<IpAddr>()) {
            (Some(resolver), _) => {
                let (resolver, broker) = (resolver.clone(), broker.clone());
                let asked = tokio::task::spawn_blocking(move || resolver.resolve(&broker)).await;
                asked.unwrap_or_else(|panic| Err(io::Error::other(panic)))
            }
            (None, Ok(ip)) => Ok(vec![SocketAddr::new(ip, broker.port)]),
            (None, Err(_)) => {
                lookup_host((broker.host.as_str(), broker.port)).await.map(|found| found.collect())
            }
        };
        let found = found.and_then(|mut addresses| {
            addresses.truncate(ADDRESSES_MAX);
            if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
        });
        found.map_err(|cause| {
            Error::new(ErrorKind::Network, format!("resolve host name {:?}", broker.host))
                .with_cause(cause)
                .with_hint("check bootstrap.servers, and the brokers' advertised.listeners")
        })
    }
}

/// Something of the set-up of a connection did not end in time.
pub(super) fn late(what: &str, timeout: Duration) -> Error {
    let text = format!("{what} took longer than {} ms", timeout.as_millis());
    Error::new(ErrorKind::Timeout, text).with_hint("socket.connection.setup.timeout.ms allows more")
}

/// Tries the addresses in turn, the next when one has failed or takes long, and keeps the first success.
async fn first_to_connect(addresses: Vec<SocketAddr>, buffers: SocketBuffers) -> io::Result<TcpStream> {
    type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;
    let mut next = addresses.into_iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut patience = Box::pin(sleep(Duration::ZERO));
    poll_fn(move |context| {
        loop {
            let mut index = 0;
            while index < attempts.len() {
                match attempts[index].as_mut().poll(context) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        failure = error;
                        drop(attempts.swap_remove(index));
                    }
                    Poll::Pending => index += 1,
                }
            }
            let start_next = attempts.is_empty() || patience.as_mut().poll(context).is_ready();
            if !start_next {
                return Poll::Pending;
            }
            match next.next() {
                Some(address) => {
                    attempts.push(Box::pin(connect(address, buffers)));
                    patience.as_mut().reset(Instant::now() + NEXT_ADDRESS);
                }
                None if attempts.is_empty() => {
                    return Poll::Ready(Err(std::mem::replace(&mut failure, io::ErrorKind::Other.into())));
                }
                None => return Poll::Pending,
            }
        }
    })
    .await
}

async fn connect(address: SocketAddr, buffers: SocketBuffers) -> io::Result<TcpStream> {
    // Sizes are set before it connects: how large the window may grow is agreed on then.
    socket(address.is_ipv4(), buffers)?.connect(address).await
}

fn socket(is_ipv4: bool, buffers: SocketBuffers) -> io::Result<TcpSocket> {
    let socket = if is_ipv4 { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bytes) = buffers.send_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = buffers.receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(socket)
}

/// A stream to a broker.
pub(super) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<super::tls::TlsStream>),
}

impl Stream {
    /// Reads what there is, up to the capacity of `buffer`; 0 is the end.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        // `read_buf` keeps no state between polls, so that a new future each time loses nothing.
        match self {
            Self::Plain(stream) => std::pin::pin!(stream.read_buf(buffer)).poll(context),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => std::pin::pin!(stream.read_buf(buffer)).poll(context),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        chunks: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, chunks),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, chunks),
        }
    }

    /// Hands what is encrypted already to the operating system.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const NO_SIZES: SocketBuffers = SocketBuffers { send_bytes: None, receive_bytes: None };

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    /// A name may have addresses that refuse before the one that works.
    #[test]
    fn the_next_address_is_tried_when_one_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let works = listener.local_addr().unwrap();
        let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stream = run(first_to_connect(vec![refuses, refuses, works], NO_SIZES)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), works);
        let error = run(first_to_connect(vec![refuses], NO_SIZES)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// Linux doubles what is asked for, for its own needs.
    #[test]
    fn buffers_are_of_the_size_that_is_asked_for() {
        let sizes = |buffers: SocketBuffers| {
            let socket = socket(true, buffers).unwrap();
            (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap())
        };
        let (send, receive) = sizes(SocketBuffers { send_bytes: Some(20_000), receive_bytes: Some(10_000) });
        assert!((20_000..=40_000).contains(&send), "{send}");
        assert!((10_000..=20_000).contains(&receive), "{receive}");
        assert!(sizes(NO_SIZES).1 > 20_000);
    }
}
