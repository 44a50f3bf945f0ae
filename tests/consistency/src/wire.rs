//! What workers and the database say to each other: records of one length.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A question to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Read a key for the cache. Not all loads are counted: some are asked for whatever is cached.
    Load { key: u32, counted: bool },
    /// Write a new version.
    Commit { key: u32 },
    /// The invalidation of this version returned at this time, and was final.
    Acked { key: u32, version: u64, at: u64 },
}

/// Its answer: a version, or that it fails just now.
pub(crate) type Reply = Option<u64>;

const REQUEST: usize = 24;

pub(crate) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    request: Request,
) -> std::io::Result<()> {
    let (kind, key, version, at) = match request {
        Request::Load { key, counted } => (u32::from(counted), key, 0, 0),
        Request::Commit { key } => (2, key, 0, 0),
        Request::Acked { key, version, at } => (3, key, version, at),
    };
    let mut bytes = Vec::with_capacity(REQUEST);
    bytes.extend(kind.to_le_bytes());
    bytes.extend(key.to_le_bytes());
    bytes.extend(version.to_le_bytes());
    bytes.extend(at.to_le_bytes());
    to.write_all(&bytes).await
}

/// `None` at the end of the connection, and for what is no request.
pub(crate) async fn receive(from: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let kind = from.read_u32_le().await.ok()?;
    let key = from.read_u32_le().await.ok()?;
    let version = from.read_u64_le().await.ok()?;
    let at = from.read_u64_le().await.ok()?;
    match kind {
        0 | 1 => Some(Request::Load { key, counted: kind == 1 }),
        2 => Some(Request::Commit { key }),
        3 => Some(Request::Acked { key, version, at }),
        _ => None,
    }
}

/// No version is zero: that is a failure.
pub(crate) async fn answer(
    to: &mut (impl AsyncWrite + Unpin),
    reply: Reply,
) -> std::io::Result<()> {
    to.write_all(&reply.unwrap_or_default().to_le_bytes()).await
}

pub(crate) async fn answered(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Reply> {
    let version = from.read_u64_le().await?;
    Ok(Some(version).filter(|version| *version > 0))
}
