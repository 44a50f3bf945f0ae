//! [`RedisServer`]: a `redis-server` process of one test.
//!
//! Its settings go into a file and not onto the command line, where a password that begins with
//! dashes would be an option.

use std::{fs, io, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::process::{Process, Program, on_a_free_port};

/// What a Redis of any kind is run by.
pub(super) const PROGRAM: Program = Program { name: "redis-server", package: "redis-server" };

/// A Redis server that belongs to the test: on a free loopback port, with its files in a temporary
/// directory. Dropping it ends exactly this process and removes the directory.
///
/// ```no_run
/// # async fn test() -> std::io::Result<()> {
/// use tiered_tiers::{Redis, testing::RedisServer};
///
/// let mut server = RedisServer::start().await?;
/// let l2 = Redis::new(&server.url()).map_err(std::io::Error::other)?;
/// server.kill()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    settings: Settings,
    process: Process,
}

/// A server about to be started.
#[derive(Debug, Default)]
pub struct RedisServerBuilder {
    settings: Settings,
}

/// Lines of the configuration file, and the password, which is one of them.
#[derive(Clone, Debug, Default)]
struct Settings {
    lines: Vec<(String, String)>,
    password: Option<String>,
    primary: Option<u16>,
}

impl RedisServerBuilder {
    /// Adds a line of `redis.conf`, as in `.config("maxmemory", "1mb")`.
    #[must_use]
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.settings.lines.push((name.into(), value.into()));
        self
    }

    /// Sets the password of the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.settings.password = Some(password.into());
        self.config("requirepass", password)
    }

    /// Makes it the replica of another server on the loopback address.
    pub(super) fn primary(mut self, port: u16) -> Self {
        self.settings.primary = Some(port);
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// When `redis-server` is missing (the message says how to install it) or does not come up.
    pub async fn start(self) -> io::Result<RedisServer> {
        on_a_free_port(async |port| {
            let (settings, process) = (self.settings.clone(), Process::new(PROGRAM)?);
            let mut server = RedisServer { port, settings, process };
            server.launch().await?;
            Ok(server)
        })
        .await
    }
}

impl RedisServer {
    /// Starts a server with nothing configured: no password, no persistence, no memory limit.
    ///
    /// # Errors
    /// As [`RedisServerBuilder::start`].
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// A server with settings of its own.
    #[must_use]
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// The server's URL, without credentials.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// The server's port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password it was started with.
    pub(super) fn password(&self) -> Option<&str> {
        self.settings.password.as_deref()
    }

    /// Ends the process at once, as a crash would (`SIGKILL`). Does nothing to one that has ended.
    ///
    /// # Errors
    /// When the system refuses the signal.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Stops the process without ending it (`SIGSTOP`): connections stay open, nothing is answered,
    /// and what clients send is executed after [`thaw`](Self::thaw).
    ///
    /// # Errors
    /// When the process has ended, or the system refuses the signal.
    pub fn freeze(&self) -> io::Result<()> {
        self.process.signal("STOP")
    }

    /// Lets a frozen process go on (`SIGCONT`).
    ///
    /// # Errors
    /// When the process has ended, or the system refuses the signal.
    pub fn thaw(&self) -> io::Result<()> {
        self.process.signal("CONT")
    }

    /// Kills the process, if it runs, and starts it again on the same port with the same settings;
    /// empty, unless persistence was configured.
    ///
    /// # Errors
    /// As [`RedisServerBuilder::start`].
    pub async fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.launch().await
    }

    /// Starts the process and waits until it serves; ends it again if it does not.
    async fn launch(&mut self) -> io::Result<()> {
        let directory = self.process.directory();
        let file = directory.join("redis.conf");
        fs::write(&file, self.settings.file(self.port, directory))?;
        let (port, password) = (self.port, self.settings.login().map(str::to_owned));
        let file = file.to_string_lossy().into_owned();
        let serves = async |number| serves(port, password.as_deref(), number).await;
        self.process.launch(&[file], serves).await
    }
}

impl Settings {
    /// The default user's password, however it was set.
    fn login(&self) -> Option<&str> {
        let last = self.lines.iter().rfind(|(name, _)| name == "requirepass");
        last.map(|(_, password)| password.as_str())
    }

    fn file(&self, port: u16, directory: &Path) -> String {
        let mut lines = vec![
            ("bind".to_owned(), "127.0.0.1".to_owned()),
            ("port".into(), port.to_string()),
            ("dir".into(), directory.to_string_lossy().into_owned()),
            ("daemonize".into(), "no".into()),
            ("appendonly".into(), "no".into()),
        ];
        if !self.lines.iter().any(|(name, _)| name == "save") {
            lines.push(("save".into(), String::new()));
        }
        lines.extend(self.lines.iter().cloned());
        let mut file: String =
            lines.iter().map(|(name, value)| format!("{name} {}\n", quoted(value))).collect();
        // Two values, which quoted would be one.
        if let Some(port) = self.primary {
            file += &format!("replicaof 127.0.0.1 {port}\n");
        }
        file
    }
}

/// A value as `redis.conf` reads it back, whatever it is made of.
fn quoted(value: &str) -> String {
    let bytes = value.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    });
    format!("\"{}\"", bytes.collect::<String>())
}

/// Whether the process of this number serves on the port: it answers a PING and tells its number, or asks for
/// a login that is not known here.
pub(super) async fn serves(port: u16, password: Option<&str>, number: u32) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    let mut piece = Vec::new();
    if let Some(password) = password {
        piece.extend(format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len()).bytes());
    }
    piece.extend(b"PING\r\nINFO server\r\n");
    if stream.write_all(&piece).await.is_err() {
        return false;
    }
    // Sentinels know no QUIT: as much as is needed is read, and no more.
    let its_own = format!("process_id:{number}\r\n");
    let (mut answer, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => answer.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
        let answer = String::from_utf8_lossy(&answer);
        if answer.starts_with("-NOAUTH") || (answer.contains("+PONG") && answer.contains(&its_own))
        {
            return true;
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test has its runtime")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_whose_port_is_taken_does_not_serve() {
        for password in [None, Some("-- \"p\r\nw\" ")] {
            let mut builder = RedisServer::builder();
            if let Some(password) = password {
                builder = builder.password(password);
            }
            let settings = builder.settings.clone();
            let first = builder.start().await.unwrap();
            let process = Process::new(PROGRAM).unwrap();
            let mut second = RedisServer { port: first.port, settings, process };
            assert!(second.launch().await.is_err(), "{password:?}");
        }
    }
}
