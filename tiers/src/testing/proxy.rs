//! [`Proxy`]: a bad network between a tier and its server.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use futures_util::future::select;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// What a [`Proxy`] does to what passes through it. Pieces are what one read brings: most often one
/// request, or one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkFault {
    /// Each piece waits, for up to so long.
    Delay(Duration),
    /// So many bytes a second get through, in each direction.
    Throttle(usize),
    /// One piece in four resets its connection.
    Reset,
    /// Nothing gets through, and nobody is told. A connection that swallowed something stays dead when
    /// the link is healed; new ones are accepted.
    BlackHole,
    /// One reply in four is cut short, and its connection closed.
    Truncate,
    /// One reply in eight comes again before the next, so that each later one answers the request before
    /// its own.
    ShiftReplies,
    /// In one reply in four a bit is flipped.
    FlipBits,
    /// Requests are kept back, whether their callers give up or not, and go on when the link is healed.
    HoldRequests,
}

/// A TCP proxy before a server on the loopback address. Dropping it closes its connections. What it does is drawn from a seed: print
/// [`seed`](Self::seed) when a test fails, and give it to [`seeded`](Self::seeded) to see it again.
///
/// ```no_run
/// # async fn test() -> std::io::Result<()> {
/// use tiered_tiers::{Redis, testing::{LinkFault, Proxy, RedisServer}};
///
/// let server = RedisServer::start().await?;
/// let proxy = Proxy::before(server.port()).await?;
/// let l2 = Redis::new(&format!("redis://{}/", proxy.address())).map_err(std::io::Error::other)?;
/// proxy.inject(LinkFault::FlipBits);
/// proxy.heal();
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    seed: u64,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    /// The port of the server behind it.
    server: AtomicU16,
    fault: watch::Sender<Option<LinkFault>>,
    dials: AtomicUsize,
    cut: AtomicBool,
}

impl Proxy {
    /// A proxy before the server at `port`, with a random seed.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(port: u16) -> io::Result<Self> {
        Self::seeded(port, fastrand::u64(..)).await
    }

    /// A proxy before the server at `port` that draws from `seed`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn seeded(server: u16, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State {
            server: AtomicU16::new(server),
            fault: watch::channel(None).0,
            dials: AtomicUsize::new(0),
            cut: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            let mut random = Rng::with_seed(seed);
            // They end with the proxy, whatever they hold.
            let mut carrying = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                shared.dials.fetch_add(1, Ordering::SeqCst);
                let (state, random) = (Arc::clone(&shared), random.fork());
                while carrying.try_join_next().is_some() {}
                carrying.spawn(async move {
                    // A server that is down closes the connection, as it would without a proxy.
                    let port = state.server.load(Ordering::SeqCst);
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                        carry(client, server, &state, random).await;
                    }
                });
            }
        });
        Ok(Self { port, seed, state, accepting })
    }

    /// What it draws from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Its port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on new connections lead to the server at `port`, as with an address that moves.
    pub fn lead_to(&self, port: u16) {
        self.state.server.store(port, Ordering::SeqCst);
    }

    /// Connections it has accepted so far.
    #[must_use]
    pub fn dials(&self) -> usize {
        self.state.dials.load(Ordering::SeqCst)
    }

    /// From now on this happens, on all connections, until another fault or [`heal`](Self::heal).
    pub fn inject(&self, fault: LinkFault) {
        self.state.fault.send_replace(Some(fault));
    }

    /// From now on nothing happens.
    pub fn heal(&self) {
        self.state.fault.send_replace(None);
    }

    /// The next request is thrown away, and its connection closed.
    pub fn cut_next_request(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries pieces both ways until one of them ends; then both are closed.
async fn carry(client: TcpStream, server: TcpStream, state: &State, mut random: Rng) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let dead = AtomicBool::new(false);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let way = |random, replies| Way { state, dead: &dead, random, replies, again: None };
    let requests = way(random.fork(), false).pump(from_client, to_server);
    let replies = way(random.fork(), true).pump(from_server, to_client);
    select(pin!(requests), pin!(replies)).await;
}

/// One direction of a connection.
struct Way<'a> {
    state: &'a State,
    /// Something was swallowed on this connection.
    dead: &'a AtomicBool,
    random: Rng,
    replies: bool,
    /// A reply that comes again before the next.
    again: Option<Vec<u8>>,
}

impl Way<'_> {
    async fn pump(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let Some(piece) = buffer.get_mut(..read) else { return };
            if !self.replies && self.state.cut.swap(false, Ordering::SeqCst) {
                return;
            }
            if self.pass(piece, &mut to).await.is_err() {
                return;
            }
        }
    }

    /// Passes a piece on, or what the fault leaves of it; an error closes the connection.
    async fn pass(&mut self, piece: &mut [u8], to: &mut OwnedWriteHalf) -> io::Result<()> {
        let fault = *self.state.fault.borrow();
        match fault {
            _ if self.dead.load(Ordering::SeqCst) => return Ok(()),
            Some(LinkFault::Delay(longest)) => {
                sleep(longest.mul_f64(self.random.f64())).await;
            }
            Some(LinkFault::Throttle(rate)) => {
                let step = (rate / 50).max(1);
                for part in piece.chunks(step) {
                    to.write_all(part).await?;
                    sleep(Duration::from_millis(20)).await;
                }
                return Ok(());
            }
            Some(LinkFault::Reset) if self.random.u8(..) < 64 => {
                // What is still on its way is thrown away, and the peer told so.
                #[allow(deprecated, reason = "nothing is left to linger for, so it cannot block")]
                to.as_ref().set_linger(Some(Duration::ZERO))?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Some(LinkFault::BlackHole) => {
                self.dead.store(true, Ordering::SeqCst);
                return Ok(());
            }
            Some(LinkFault::Truncate) if self.replies && self.random.u8(..) < 64 => {
                let kept = self.random.usize(..piece.len());
                to.write_all(piece.get(..kept).unwrap_or_default()).await?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Some(LinkFault::ShiftReplies) if self.replies => {
                if let Some(before) = self.again.take() {
                    to.write_all(&before).await?;
                }
                if self.random.u8(..) < 32 {
                    self.again = Some(piece.to_vec());
                }
            }
            Some(LinkFault::FlipBits) if self.replies && self.random.u8(..) < 64 => {
                let (at, bit) = (self.random.usize(..piece.len()), self.random.u8(..8));
                if let Some(byte) = piece.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Some(LinkFault::HoldRequests) if !self.replies => {
                let mut watched = self.state.fault.subscribe();
                let held = |fault: &Option<LinkFault>| *fault == Some(LinkFault::HoldRequests);
                let _ = watched.wait_for(|fault| !held(fault)).await;
            }
            _ => {}
        }
        to.write_all(piece).await
    }
}
