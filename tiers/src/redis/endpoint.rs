//! Where the servers are, and the stream to one: TCP, TLS over that, or a unix socket.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use ::redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{handed_in::HandedIn, options::Options, sentinel::Sentinels};
use crate::TierError;

/// When the kernel begins to probe an idle peer, and how often.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));
/// So long may sent bytes stay unacknowledged before the kernel gives the connection up.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// A port of a host.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Where the servers are.
#[derive(Clone)]
pub(super) enum Endpoint {
    /// One, on a port of a host.
    Tcp(Address),
    /// One, on a socket of this machine, by its path.
    #[cfg(unix)]
    Unix(std::path::PathBuf),
    /// One, which these sentinels name.
    Sentinels(Arc<Sentinels>),
    /// Many: some nodes of a cluster.
    Cluster(Arc<[Address]>),
    /// Wherever the application's own connection leads.
    HandedIn(HandedIn),
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => path.fmt(f),
            Self::Sentinels(sentinels) => sentinels.fmt(f),
            Self::Cluster(nodes) => nodes.fmt(f),
            Self::HandedIn(connection) => connection.fmt(f),
        }
    }
}

/// Whatever carries the protocol.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Opens a stream to the server.
pub(super) async fn open(options: &Options) -> Result<Box<dyn Stream>, TierError> {
    match &options.endpoint {
        Endpoint::Tcp(Address { host, port }) => {
            let stream = connect(host, *port, options.connect_timeout).await;
            let stream = stream.map_err(|error| unreachable(&error))?;
            tune(&stream);
            #[cfg(feature = "redis-tls")]
            if let Some(tls) = &options.tls {
                return Ok(Box::new(tls.over(stream, host).await?));
            }
            Ok(Box::new(stream))
        }
        #[cfg(unix)]
        Endpoint::Unix(path) => {
            let stream = tokio::net::UnixStream::connect(path).await;
            Ok(Box::new(stream.map_err(|error| unreachable(&error))?))
        }
        Endpoint::Sentinels(_) | Endpoint::Cluster(_) | Endpoint::HandedIn(_) => {
            Err(TierError::Unreachable("no server by itself".into()))
        }
    }
}

/// Connects to the first address of the host that accepts, each given a fair part of the time.
async fn connect(host: &str, port: u16, patience: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let share = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Sets what the system allows; a socket without these options works too, only less promptly.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

/// A failed dial. The kind of error alone: a resolver's message may repeat what it was asked.
fn unreachable(error: &io::Error) -> TierError {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkUnreachable, NotFound, PermissionDenied, TimedOut,
    };
    match error.kind() {
        TimedOut => TierError::Timeout,
        kind @ (AddrNotAvailable | ConnectionAborted | ConnectionRefused | ConnectionReset
        | HostUnreachable | NetworkUnreachable | NotFound | PermissionDenied) => {
            TierError::Unreachable(kind.to_string())
        }
        _ => TierError::Unreachable("the host could not be resolved or reached".into()),
    }
}
