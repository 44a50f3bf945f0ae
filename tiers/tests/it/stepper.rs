//! [`Stepper`]: a line to a memcached that lets commands through one by one, so that others can come between
//! two of one pipeline.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
    task::JoinSet,
};

use crate::wait;

/// So many pass without being counted.
const MANY: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Stepper {
    port: u16,
    shared: Arc<Shared>,
    /// Ends with it.
    _lines: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    permits: Semaphore,
    answers: AtomicUsize,
    open: AtomicUsize,
}

impl Stepper {
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let permits = Semaphore::new(MANY);
        let shared =
            Arc::new(Shared { permits, answers: AtomicUsize::new(0), open: AtomicUsize::new(0) });
        let (mut lines, state) = (JoinSet::new(), Arc::clone(&shared));
        lines.spawn(async move {
            let mut carrying = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let state = Arc::clone(&state);
                state.open.fetch_add(1, Ordering::SeqCst);
                carrying.spawn(async move {
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::select! {
                        () = state.commands(from_client, to_server) => {}
                        () = state.answers(from_server, to_client) => {}
                    }
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, shared, _lines: lines }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// So many commands pass, and no more.
    pub(crate) fn hold_after(&self, commands: usize) {
        self.shared.permits.forget_permits(usize::MAX);
        self.shared.answers.store(0, Ordering::SeqCst);
        self.shared.permits.add_permits(commands);
    }

    /// All pass again.
    pub(crate) fn let_go(&self) {
        self.shared.permits.add_permits(MANY);
    }

    /// Waits until those that were to pass have passed and are answered.
    pub(crate) async fn is_holding(&self) {
        let shared = &self.shared;
        let until = async || {
            shared.permits.available_permits() == 0 && shared.answers.load(Ordering::SeqCst) > 0
        };
        eventually("the first commands are answered", until).await;
    }

    /// Waits until its connections are closed.
    pub(crate) async fn is_left(&self) {
        let until = async || self.shared.open.load(Ordering::SeqCst) == 0;
        eventually("the connections are closed", until).await;
    }
}

async fn eventually(what: &str, until: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !until().await {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}, not");
        wait(1).await;
    }
}

impl Shared {
    async fn commands(&self, from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut from = BufReader::new(from);
        loop {
            let mut command = Vec::new();
            if !matches!(from.read_until(b'\n', &mut command).await, Ok(1..)) {
                return;
            }
            let words = String::from_utf8_lossy(&command).into_owned();
            if let Some(rest) = words.strip_prefix("ms ") {
                let length: usize = rest.split(' ').nth(1).unwrap().trim().parse().unwrap();
                let from_here = command.len();
                command.resize(from_here + length + 2, 0);
                if from.read_exact(&mut command[from_here..]).await.is_err() {
                    return;
                }
            }
            self.permits.acquire().await.unwrap().forget();
            if to.write_all(&command).await.is_err() {
                return;
            }
        }
    }

    async fn answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = [0; 4_096];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            self.answers.fetch_add(1, Ordering::SeqCst);
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
}
