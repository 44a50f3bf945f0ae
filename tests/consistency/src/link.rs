//! [`Link`]: the way of a worker to the database.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use tokio::net::UnixStream;

use crate::wire::{self, Request};

/// Connections to the database; one that was given up midway is not used again.
#[derive(Debug)]
pub(crate) struct Link {
    socket: PathBuf,
    idle: Mutex<Vec<UnixStream>>,
}

/// The database failed: a load's error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatabaseFailed;

impl fmt::Display for DatabaseFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database failed")
    }
}

impl std::error::Error for DatabaseFailed {}

impl Link {
    pub(crate) fn to(socket: PathBuf) -> Self {
        Self { socket, idle: Mutex::default() }
    }

    pub(crate) async fn load(&self, key: u32, counted: bool) -> Result<u64, DatabaseFailed> {
        self.ask(Request::Load { key, counted }).await.ok().flatten().ok_or(DatabaseFailed)
    }

    pub(crate) async fn commit(&self, key: u32) -> Result<u64, DatabaseFailed> {
        self.ask(Request::Commit { key }).await.ok().flatten().ok_or(DatabaseFailed)
    }

    /// Writes down that the invalidation of a version returned at this time.
    pub(crate) async fn acked(&self, key: u32, version: u64, at: u64) {
        // Lost, it is one that nobody is held to.
        let _ = self.ask(Request::Acked { key, version, at }).await;
    }

    async fn ask(&self, request: Request) -> io::Result<wire::Reply> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => UnixStream::connect(&self.socket).await?,
        };
        wire::send(&mut stream, request).await?;
        let reply = wire::answered(&mut stream).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        Ok(reply)
    }
}
