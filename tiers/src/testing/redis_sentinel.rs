//! [`RedisSentinel`]: a primary, its replicas and three sentinels, as processes of one test.

use std::{fs, io};

use futures_util::future::{join_all, try_join_all};

use super::{
    RedisServer,
    process::{Process, eventually, on_a_free_port},
    redis::{PROGRAM, serves},
    redis_cluster::says,
};

/// How many servers there are, the primary among them.
const SERVERS: usize = 3;
/// How many sentinels there are; two must agree.
const SENTINELS: usize = 3;

/// A primary with two replicas, and three sentinels that watch it as `mymaster`. They fail over on their own
/// after about a second. Dropping it ends all of it.
///
/// ```no_run
/// # async fn test() -> std::io::Result<()> {
/// use tiered_tiers::{Redis, testing::RedisSentinel};
///
/// let mut group = RedisSentinel::start().await?;
/// let l2 = Redis::new(&group.url()).map_err(std::io::Error::other)?;
/// let primary = group.primary().await?;
/// group.kill(primary)?;
/// group.promoted(primary).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    port: u16,
    password: Option<String>,
    process: Process,
}

impl RedisSentinel {
    /// Starts all of it, without passwords.
    ///
    /// # Errors
    /// When `redis-server` is missing (the message says how to install it) or does not come up.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(None, None).await
    }

    /// Starts all of it, with a password for the servers and one for the sentinels.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(servers: Option<&str>, sentinels: Option<&str>) -> io::Result<Self> {
        let primary = server(None, servers).await?;
        let port = primary.port();
        let replicas = try_join_all((1..SERVERS).map(|_| server(Some(port), servers))).await?;
        let mut all = vec![primary];
        all.extend(replicas);
        for replica in all.iter().skip(1) {
            let follows =
                async || says(replica, "INFO", "replication", "master_link_status", "up").await;
            eventually("a replica's following", follows).await?;
        }
        let started = (0..SENTINELS).map(|_| sentinel(port, servers, sentinels));
        let group = Self { sentinels: try_join_all(started).await?, servers: all };
        for sentinel in &group.sentinels {
            let knows = async || {
                let known = sentinel.knows().await;
                known.is_some_and(|(others, replicas)| {
                    others + 1 == SENTINELS && replicas + 1 == SERVERS
                })
            };
            eventually("a meeting of all sentinels", knows).await?;
        }
        Ok(group)
    }

    /// The URL of the primary, without credentials, by all sentinels.
    #[must_use]
    pub fn url(&self) -> String {
        let ports = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port));
        format!("redis+sentinel://{}/mymaster", ports.collect::<Vec<_>>().join(","))
    }

    /// The sentinels' ports on the loopback address.
    #[must_use]
    pub fn sentinel_ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(|sentinel| sentinel.port).collect()
    }

    /// A server, to look into it or to freeze it.
    ///
    /// # Panics
    /// When there is none of this number.
    #[must_use]
    pub fn server(&self, server: usize) -> &RedisServer {
        #[allow(clippy::expect_used, reason = "that is how a test fails")]
        self.servers.get(server).expect("there are three servers")
    }

    /// Which server a majority of the sentinels calls the primary.
    ///
    /// # Errors
    /// When they do not agree.
    pub async fn primary(&self) -> io::Result<usize> {
        let named = join_all(self.sentinels.iter().map(Sentinel::names)).await;
        for (index, server) in self.servers.iter().enumerate() {
            let votes = named.iter().filter(|port| **port == Some(server.port())).count();
            if votes > SENTINELS / 2 {
                return Ok(index);
            }
        }
        Err(io::Error::other("the sentinels do not agree"))
    }

    /// Ends a server's process, as a crash would.
    ///
    /// # Errors
    /// When the system refuses the signal.
    pub fn kill(&mut self, server: usize) -> io::Result<()> {
        self.servers.get_mut(server).map_or(Ok(()), RedisServer::kill)
    }

    /// Ends a sentinel's process, as a crash would.
    ///
    /// # Errors
    /// When the system refuses the signal.
    pub fn kill_sentinel(&mut self, sentinel: usize) -> io::Result<()> {
        self.sentinels.get_mut(sentinel).map_or(Ok(()), |sentinel| sentinel.process.kill())
    }

    /// Starts a server again that was killed; the sentinels make a replica of it if it was replaced.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart(&mut self, server: usize) -> io::Result<()> {
        match self.servers.get_mut(server) {
            Some(server) => server.restart().await,
            None => Ok(()),
        }
    }

    /// Has the sentinels replace the primary although it is well.
    ///
    /// # Errors
    /// When they refuse.
    pub async fn fail_over(&self) -> io::Result<()> {
        // Of one, and of the next only if it refuses: two would do it twice.
        for sentinel in &self.sentinels {
            if sentinel.ask("FAILOVER").await.is_some() {
                return Ok(());
            }
        }
        Err(io::Error::other("the sentinels refuse"))
    }

    /// Waits until another server is the primary, says so itself, and the sentinels agree; returns which that is.
    ///
    /// # Errors
    /// When that does not happen in twenty seconds.
    pub async fn promoted(&self, instead_of: usize) -> io::Result<usize> {
        let replaced = async || match self.primary().await {
            Ok(primary) if primary != instead_of => {
                says(self.server(primary), "INFO", "replication", "role", "master").await
            }
            _ => false,
        };
        eventually("a promotion", replaced).await?;
        self.primary().await
    }
}

async fn server(primary: Option<u16>, password: Option<&str>) -> io::Result<RedisServer> {
    let mut builder = RedisServer::builder().config("repl-diskless-sync-delay", "0");
    if let Some(password) = password {
        builder = builder.password(password).config("masterauth", password);
    }
    if let Some(port) = primary {
        builder = builder.primary(port);
    }
    builder.start().await
}

async fn sentinel(
    primary: u16,
    servers: Option<&str>,
    password: Option<&str>,
) -> io::Result<Sentinel> {
    on_a_free_port(async |port| {
        let mut process = Process::new(PROGRAM)?;
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {port}"),
            format!("dir {}", process.directory().display()),
            format!("sentinel monitor mymaster 127.0.0.1 {primary} {}", SENTINELS / 2 + 1),
            "sentinel down-after-milliseconds mymaster 800".into(),
            "sentinel failover-timeout mymaster 3000".into(),
        ];
        lines.extend(servers.map(|password| format!("sentinel auth-pass mymaster {password}")));
        lines.extend(password.map(|password| format!("requirepass {password}")));
        lines.extend(password.map(|password| format!("sentinel sentinel-pass {password}")));
        let file = process.directory().join("sentinel.conf");
        fs::write(&file, lines.join("\n"))?;
        let arguments = [file.to_string_lossy().into_owned(), "--sentinel".into()];
        process.launch(&arguments, async |number| serves(port, password, number).await).await?;
        Ok(Sentinel { port, password: password.map(Into::into), process })
    })
    .await
}

impl Sentinel {
    /// What it answers to a question about the primary.
    async fn ask(&self, question: &str) -> Option<::redis::Value> {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let mut login = ::redis::RedisConnectionInfo::default();
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        let config = ::redis::AsyncConnectionConfig::new();
        let made = ::redis::aio::MultiplexedConnection::new_with_config(&login, stream, config);
        let (mut connection, driver) = made.await.ok()?;
        let driver = tokio::spawn(driver);
        let command = ::redis::cmd("SENTINEL").arg(question).arg("mymaster").to_owned();
        let answer = command.query_async(&mut connection).await.ok();
        driver.abort();
        answer
    }

    /// The port of the server it calls the primary.
    async fn names(&self) -> Option<u16> {
        let answer = self.ask("GET-MASTER-ADDR-BY-NAME").await?;
        let (_host, port): (String, u16) = ::redis::from_redis_value(answer).ok()?;
        Some(port)
    }

    /// How many other sentinels and how many replicas it knows.
    async fn knows(&self) -> Option<(usize, usize)> {
        let answer = self.ask("MASTER").await?;
        let fields: Vec<String> = ::redis::from_redis_value(answer).ok()?;
        let number = |name: &str| {
            let at = fields.iter().position(|field| field == name)?;
            fields.get(at + 1)?.parse().ok()
        };
        Some((number("num-other-sentinels")?, number("num-slaves")?))
    }
}
