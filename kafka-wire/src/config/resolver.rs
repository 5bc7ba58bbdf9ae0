//! Where brokers are reached, when the application knows better than the system.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::HostPort;

/// Finds the addresses of a broker in place of the system's resolver, as a `HostResolver` does inside Java's client.
///
/// For brokers whose advertised names lead nowhere from here: behind a tunnel, a forwarded port, or a service registry.
/// It is asked before every dial, for IP addresses too, on a thread where it may wait; it has
/// `socket.connection.setup.timeout.ms` for it. The addresses are tried in their order. A certificate is still checked
/// against the name that was asked for.
///
/// ```
/// use std::net::ToSocketAddrs as _;
/// use kafka_wire::config::{ClientConfig, HostResolver};
///
/// let mut config = ClientConfig::bootstrap("kafka-0.internal:9092")?;
/// // Every broker's port is forwarded to this machine.
/// config.host_resolver = Some(HostResolver::new(|broker| {
///     Ok(("localhost", broker.port).to_socket_addrs()?.collect())
/// }));
/// # Ok::<(), kafka_wire::Error>(())
/// ```
#[derive(Clone)]
pub struct HostResolver(Arc<Resolve>);

type Resolve = dyn Fn(&HostPort) -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl HostResolver {
    /// A resolver that calls `resolve`. What goes wrong in it fails the dial, which is tried again as any other; so
    /// does an answer without addresses.
    pub fn new(resolve: impl Fn(&HostPort) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(resolve))
    }

    #[cfg_attr(not(feature = "net"), allow(dead_code, reason = "the rim asks"))]
    pub(crate) fn resolve(&self, broker: &HostPort) -> io::Result<Vec<SocketAddr>> {
        (self.0)(broker)
    }
}

impl fmt::Debug for HostResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostResolver")
    }
}

/// Equal is what is the same.
impl PartialEq for HostResolver {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for HostResolver {}
