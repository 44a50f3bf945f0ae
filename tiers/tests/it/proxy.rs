//! A TCP proxy before a server: counts dials, can leave its connections open but dead, can cut one
//! just when a request comes by, and can hold requests back until long after their callers gave up.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
};

/// The proxy. Connections made before the last [`silence`](Self::silence) carry nothing any more.
pub(crate) struct Proxy {
    port: u16,
    dials: Arc<AtomicUsize>,
    era: watch::Sender<usize>,
    cut: Arc<AtomicBool>,
    held: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let dials = Arc::new(AtomicUsize::new(0));
        let (era, watched) = watch::channel(0);
        let counted = Arc::clone(&dials);
        let cut = Arc::new(AtomicBool::new(false));
        let (cut_requests, never) = (Arc::clone(&cut), Arc::new(AtomicBool::new(false)));
        let (held, requests_held) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let born = *watched.borrow();
                let (era, held) = (watched.clone(), requests_held.clone());
                let request = Way { era, born, held: Some(held), cut: Arc::clone(&cut_requests) };
                let reply = Way { era: watched.clone(), born, held: None, cut: Arc::clone(&never) };
                tokio::spawn(request.pump(from_client, to_server));
                tokio::spawn(reply.pump(from_server, to_client));
            }
        });
        Self { port: own_port, dials, era, cut, held, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }

    /// Keeps requests back, or lets those kept go on to the server, their callers gone or not.
    pub(crate) fn hold(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    /// The next request is thrown away, and its connection closed.
    pub(crate) fn cut_next_request(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// From now on the present connections swallow all bytes, without being closed.
    pub(crate) fn silence(&self) {
        self.era.send_modify(|era| *era += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One direction of a connection.
struct Way {
    era: watch::Receiver<usize>,
    born: usize,
    held: Option<watch::Receiver<bool>>,
    cut: Arc<AtomicBool>,
}

impl Way {
    async fn pump(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 65_536];
        while let Ok(read) = from.read(&mut buffer).await {
            if read == 0 || self.cut.swap(false, Ordering::SeqCst) {
                return;
            }
            if let Some(held) = &mut self.held {
                let _ = held.wait_for(|held| !held).await;
            }
            if *self.era.borrow() == self.born && to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
}
