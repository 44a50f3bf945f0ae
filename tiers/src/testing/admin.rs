//! Looking into a server behind the tier's back.

use std::io;

use ::redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, RedisConnectionInfo, aio::MultiplexedConnection,
    cmd,
};
use tokio::net::TcpStream;

use super::RedisServer;

impl RedisServer {
    /// The keys of database 0 that would live for ever. The tier writes none.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn keys_without_expiry(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut connection = self.connection().await?;
        let (mut cursor, mut immortal) = (0_u64, Vec::new());
        loop {
            let scan = cmd("SCAN").arg(cursor).arg("COUNT").arg(500).to_owned();
            let (next, keys): (u64, Vec<Vec<u8>>) = ask(&mut connection, &scan).await?;
            for key in keys {
                let life: i64 = ask(&mut connection, cmd("PTTL").arg(&key)).await?;
                if life == -1 {
                    immortal.push(key);
                }
            }
            if next == 0 {
                return Ok(immortal);
            }
            cursor = next;
        }
    }

    /// A number from the server's `INFO`, such as `total_connections_received`.
    ///
    /// # Errors
    /// When the server cannot be asked, or does not say.
    pub async fn info(&self, field: &str) -> io::Result<u64> {
        let mut connection = self.connection().await?;
        let info: String = ask(&mut connection, cmd("INFO").arg("everything")).await?;
        info.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
            .ok_or_else(|| io::Error::other(format!("INFO holds no number {field}")))
    }

    /// Has the server execute a command: `["SAVE"]`, and it finds what it holds when it is started again.
    ///
    /// # Errors
    /// When the server cannot be asked, or refuses.
    pub async fn execute(&self, words: &[&str]) -> io::Result<()> {
        self.command::<::redis::Value>(words).await.map(drop)
    }

    /// Has a replica hear nothing more from its primary, nor from any other, until it is restarted: what is written
    /// from now on is lost when it is promoted.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn stop_following(&self) -> io::Result<()> {
        // A login that its primary refuses; replication is the only link that uses it.
        self.command::<()>(&["CONFIG", "SET", "masterauth", "nobody's"]).await?;
        self.command::<u64>(&["CLIENT", "KILL", "TYPE", "master"]).await.map(drop)
    }

    /// What the server answers to a command.
    pub(super) async fn command<T: FromRedisValue>(&self, words: &[&str]) -> io::Result<T> {
        let (first, rest) = words.split_first().ok_or_else(|| io::Error::other("no command"))?;
        ask(&mut self.connection().await?, cmd(first).arg(rest)).await
    }

    /// A connection to the server, logged in.
    pub(super) async fn connection(&self) -> io::Result<MultiplexedConnection> {
        let stream = TcpStream::connect(("127.0.0.1", self.port())).await?;
        let login = match self.password() {
            None => RedisConnectionInfo::default(),
            Some(password) => RedisConnectionInfo::default().set_password(password),
        };
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&login, stream, AsyncConnectionConfig::new())
                .await
                .map_err(io::Error::other)?;
        tokio::spawn(driver);
        Ok(connection)
    }
}

/// Asks over it.
pub(super) async fn ask<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> io::Result<T> {
    command.query_async(connection).await.map_err(io::Error::other)
}
