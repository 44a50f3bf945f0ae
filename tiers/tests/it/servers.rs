//! Real servers of either kind, so that one test serves both; and a scripted one, for answers that no real
//! server gives.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use tiered_tiers::{
    Memcached, Redis, RemoteTier,
    testing::{MemcachedServer, RedisServer},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Memcached,
}

/// Each of a file's tests as two: before a Redis and before a memcached.
macro_rules! each_server {
    ($($name:ident),+ $(,)?) => {
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::servers::Kind::Redis).await })+
        }
        mod memcached {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::servers::Kind::Memcached).await })+
        }
    };
}
pub(crate) use each_server;

#[derive(Debug)]
pub(crate) enum Server {
    Redis(RedisServer),
    Memcached(MemcachedServer),
}

impl Kind {
    pub(crate) async fn start(self) -> Server {
        match self {
            Self::Redis => Server::Redis(RedisServer::start().await.unwrap()),
            Self::Memcached => Server::Memcached(MemcachedServer::start().await.unwrap()),
        }
    }

    /// A tier on whatever listens at `port`, with that patience.
    pub(crate) fn tier(self, port: u16, patience: Duration) -> Arc<dyn RemoteTier> {
        match self {
            Self::Redis => {
                let tier = Redis::new(&format!("redis://127.0.0.1:{port}/")).unwrap();
                Arc::new(tier.response_timeout(patience))
            }
            Self::Memcached => {
                let tier = Memcached::new(&format!("127.0.0.1:{port}")).unwrap();
                Arc::new(tier.response_timeout(patience))
            }
        }
    }
}

impl Server {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Redis(_) => Kind::Redis,
            Self::Memcached(_) => Kind::Memcached,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Redis(server) => server.port(),
            Self::Memcached(server) => server.port(),
        }
    }

    /// A tier of usual patience.
    pub(crate) fn tier(&self) -> Arc<dyn RemoteTier> {
        self.kind().tier(self.port(), Duration::from_millis(250))
    }

    pub(crate) fn freeze(&self) -> io::Result<()> {
        match self {
            Self::Redis(server) => server.freeze(),
            Self::Memcached(server) => server.freeze(),
        }
    }

    pub(crate) fn thaw(&self) -> io::Result<()> {
        match self {
            Self::Redis(server) => server.thaw(),
            Self::Memcached(server) => server.thaw(),
        }
    }
}

/// Something that speaks Redis's protocol and answers what it is told to.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Scripted {
    /// Answers each command, as its words in upper case, with these bytes; `PING` is answered by itself.
    pub(crate) async fn start(
        answer: impl Fn(&str, u16) -> String + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(converse(client, port, answer.clone()));
            }
        });
        Self { port, task }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut client: TcpStream, port: u16, answer: impl Fn(&str, u16) -> String) {
    let (read, mut write) = client.split();
    let mut read = BufReader::new(read);
    while let Some(words) = command(&mut read).await {
        let said = words.join(" ").to_uppercase();
        let answer = if said == "PING" { "+PONG\r\n".into() } else { answer(&said, port) };
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn number(read: &mut (impl AsyncBufRead + Unpin)) -> Option<usize> {
    let mut line = String::new();
    read.read_line(&mut line).await.ok()?;
    line.trim().get(1..)?.parse().ok()
}

async fn command(read: &mut (impl AsyncBufRead + Unpin)) -> Option<Vec<String>> {
    let count = number(read).await?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; number(read).await? + 2];
        read.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Some(words)
}
/// One of a memcached's statistics.
pub(crate) async fn stat(server: &MemcachedServer, name: &str) -> u64 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"stats\r\nquit\r\n").await.unwrap();
    let mut stats = String::new();
    stream.read_to_string(&mut stats).await.unwrap();
    let prefix = format!("STAT {name} ");
    let line = stats.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap();
    line.trim().parse().unwrap()
}

/// The other half of the test below, in a process of its own.
#[tokio::test]
async fn a_test_that_aborts_with_a_server() {
    if std::env::var_os("TIERED_ABORTS").is_some() {
        let (one, two) =
            (RedisServer::start().await.unwrap(), MemcachedServer::start().await.unwrap());
        println!("PORTS {} {} ", one.port(), two.port());
        std::process::abort();
    }
}

/// It drops nothing, and its servers end all the same.
#[tokio::test]
async fn a_test_that_aborts_leaves_no_server_behind() {
    let aborted = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers::a_test_that_aborts_with_a_server", "--nocapture"])
        .env("TIERED_ABORTS", "1")
        .output()
        .unwrap();
    assert!(!aborted.status.success());
    let told = String::from_utf8_lossy(&aborted.stdout);
    let (_, ports) = told.split_once("PORTS ").unwrap();
    for port in ports.split(' ').take(2) {
        let port: u16 = port.parse().unwrap();
        let start = std::time::Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            assert!(start.elapsed() < Duration::from_secs(20), "the server at {port} lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
