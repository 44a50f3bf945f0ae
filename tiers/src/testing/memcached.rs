//! [`MemcachedServer`]: a `memcached` process of one test.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::process::{Process, Program, on_a_free_port};

const PROGRAM: Program = Program { name: "memcached", package: "memcached" };

/// A memcached server that belongs to the test, on a free loopback port. Dropping it ends exactly this
/// process.
///
/// ```no_run
/// # async fn test() -> std::io::Result<()> {
/// use tiered_tiers::{Memcached, testing::MemcachedServer};
///
/// let server = MemcachedServer::start().await?;
/// let l2 = Memcached::new(&server.address()).map_err(std::io::Error::other)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct MemcachedServer {
    port: u16,
    arguments: Vec<String>,
    process: Process,
}

impl MemcachedServer {
    /// Starts a server with nothing configured: 64 MiB, values up to 1 MiB.
    ///
    /// # Errors
    /// When `memcached` is missing (the message says how to install it) or does not come up.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a server with further command-line arguments, as in `["-m", "8"]`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(arguments: &[&str]) -> io::Result<Self> {
        on_a_free_port(async |port| {
            let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
            let mut server = Self { port, arguments, process: Process::new(PROGRAM)? };
            server.launch().await?;
            Ok(server)
        })
        .await
    }

    /// The server's address, `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The server's port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
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

    /// Kills the process, if it runs, and starts it again on the same port, empty.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.launch().await
    }

    /// Sends a line and gives the first line of the answer: for tests that look at the server itself.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn ask(&self, line: &str) -> io::Result<String> {
        ask(self.port, line).await
    }

    async fn launch(&mut self) -> io::Result<()> {
        let own = ["-l", "127.0.0.1", "-p", &self.port.to_string(), "-U", "0", "-t", "2"];
        // As root it wants to be told whom to run as.
        let own = own.iter().chain(&["-u", "root"]).map(|&argument| argument.to_owned());
        let arguments: Vec<String> = own.chain(self.arguments.iter().cloned()).collect();
        let port = self.port;
        let serves = async |number| {
            let first = ask(port, "stats").await;
            first.is_ok_and(|first| first == format!("STAT pid {number}"))
        };
        self.process.launch(&arguments, serves).await
    }
}

async fn ask(port: u16, line: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") {
        let byte = stream.read_u8().await?;
        answer.push(byte);
    }
    Ok(String::from_utf8_lossy(&answer).trim_end().to_owned())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test has its runtime")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_whose_port_is_taken_does_not_serve() {
        let first = MemcachedServer::start().await.unwrap();
        let process = Process::new(PROGRAM).unwrap();
        let mut second = MemcachedServer { port: first.port, arguments: Vec::new(), process };
        assert!(second.launch().await.is_err());
        assert!(ask(first.port, "version").await.is_ok());
    }
}
