//! What drops entries: by key, around a write, by prefix, by tag, all of them.

use std::{fmt, future::Future};

use super::Tiered;
use crate::{
    Ack, Cleared, Error, Key, Written,
    l2::L2,
    prefix,
    tags::{self, Tag},
    write, writers,
};

/// Dropping what is cached.
impl<C> Tiered<C> {
    /// Drops a key from every tier. Final when it says [`Ack::Done`]: nothing loaded before is
    /// stored after it; loads under way are not waited for, and later callers do not join them.
    ///
    /// Works on a cache that is switched off, too. Dropping the future midway leaves the key
    /// invalidated, and pending.
    ///
    /// # Errors
    /// [`Error::InvalidKey`]; [`Error::Config`] outside a tokio runtime. A cache server that gives
    /// no answer is no error but [`Ack::Pending`].
    pub async fn invalidate(&self, key: impl Into<Key>) -> Result<Ack, Error> {
        write::invalidate(&self.stack, &key.into()).await
    }

    /// Runs a write of the source, a database's transaction, and drops `key` from every tier before it and after
    /// it. Meanwhile the key is *held*: what anybody loads is stored nowhere. So nobody keeps the old value: not even if this
    /// process dies between its commit and the second drop.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tiered::Error> {
    /// # use tiered::{Ack, Tiered, tiers::{Memory, Quick}};
    /// # struct Db; impl Db { async fn rename(&self, _: u64, _: &str) -> Result<u64, std::io::Error> { Ok(1) } }
    /// # let db = Db;
    /// # let cache = Tiered::new(Quick::new(10_000), Memory::new()).build()?;
    /// let written = cache.invalidate_after("user:1", || db.rename(1, "Ada")).await?;
    /// assert_eq!((written.value, written.ack), (1, Ack::Done));
    /// # Ok(()) }
    /// ```
    ///
    /// The write runs in this future, once, and may borrow. It must end after its commit, and **the commit must land while
    /// the hold stands**: [`hold_for`](crate::Builder::hold_for), 10 s unless told, is renewed while the write runs, up to
    /// twelve times as long. Several writers may hold a key at once. Works on a cache that is switched off, too.
    ///
    /// Takes two round trips beyond the write's own, four with a bus. The cache server is no hard dependency: where it
    /// gives no answer the write goes on all the same, after one budget, and another after it; the key is
    /// queued before the write begins, so this process does not read it there meanwhile. What others read there until
    /// the server drops it is the old value.
    ///
    /// Dropping the future midway leaves the key invalidated, and uncached for as long as a hold stands: nobody knows whether
    /// the commit lands yet.
    ///
    /// # Errors
    /// [`Error::Write`] if the write failed, and [`Error::loader_error`] gives its own error back. The key was dropped
    /// before and after all the same: a write that fails may have been done. Or if it panicked: then the key is left as by
    /// a future that is dropped. [`Error::InvalidKey`], and [`Error::Config`] outside a tokio runtime: then nothing was written.
    /// A cache server that gives no answer is no error but [`Ack::Pending`].
    pub async fn invalidate_after<R, E, F, Fut>(
        &self,
        key: impl Into<Key>,
        write: F,
    ) -> Result<Written<R>, Error>
    where
        R: Send,
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        let key = key.into();
        writers::invalidate_after(&self.stack, std::slice::from_ref(&key), write).await
    }

    /// Drops every key that begins with `prefix` from every tier: values, leases, and loads under way, which
    /// are then not stored. Says how many entries those were. Final when it says [`Ack::Done`].
    ///
    /// A key begins with it if it does so on the server. The prefix is no pattern: `*` means itself. [`Key::entities`] and [`Key::lists`] are the
    /// prefixes of what the entity layer and lists are kept under. An empty one is the whole namespace.
    ///
    /// It walks over all keys of the server, in bounded steps; it is for changes that concern many
    /// keys and come seldom. On a server with a million keys it takes seconds. Dropping the future midway leaves the
    /// prefix pending.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tiered::Error> {
    /// # use tiered::{Ack, Key, Tiered, tiers::{Memory, Quick}};
    /// # let cache = Tiered::new(Quick::new(10_000), Memory::new()).build()?;
    /// let page = Key::list("posts").param("page", 2);
    /// let _ = cache.set(page, vec![1, 2, 3]).await?;
    /// let cleared = cache.invalidate_prefix(Key::lists("posts")).await?;
    /// assert_eq!((cleared.l2, cleared.ack), (1, Ack::Done));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] for a tier that does not know its keys (memcached), with nothing changed, and outside
    /// a tokio runtime; [`Error::InvalidKey`]. A cache server that gives no answer is no error but
    /// [`Ack::Pending`], with the count of what has gone.
    pub async fn invalidate_prefix(&self, prefix: impl Into<Key>) -> Result<Cleared, Error> {
        prefix::invalidate(&self.stack, &prefix.into(), &|_| {}).await
    }

    /// The same, and tells `progress` after each step how many entries have gone from L2 so far.
    ///
    /// # Errors
    /// As [`invalidate_prefix`](Self::invalidate_prefix).
    pub async fn invalidate_prefix_with(
        &self,
        prefix: impl Into<Key>,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<Cleared, Error> {
        prefix::invalidate(&self.stack, &prefix.into(), &progress).await
    }

    /// Drops every entry that depends on `tag`, in every process, in one step however many there are: those that were
    /// stored or loaded with [`Request::tags`](crate::Request::tags) or
    /// [`LoadContext::tags`](crate::LoadContext::tags). Final when it says [`Ack::Done`]: nothing loaded before is
    /// served from then on; by other processes' L1 for as long as their
    /// [`max_staleness`](crate::Builder::max_staleness) or, without a bus, [`local_for`](crate::Builder::local_for).
    ///
    /// The entries stay where they are until they expire, and count as misses. Dropping the future midway leaves the tag
    /// pending.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tiered::Error> {
    /// # use tiered::{Ack, Tiered, tiers::{Memory, Quick}};
    /// # let cache = Tiered::new(Quick::new(10_000), Memory::new()).build()?;
    /// let _ = cache.key("user:1").tags(["team:7"]).set("Ada".to_owned()).await?;
    /// assert_eq!(cache.invalidate_tag("team:7").await?, Ack::Done);
    /// assert_eq!(cache.get::<String>("user:1").await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] for a tag that is empty or longer than 255 bytes, and outside a tokio runtime. A cache server
    /// that gives no answer is no error but [`Ack::Pending`].
    pub async fn invalidate_tag(&self, tag: impl AsRef<str>) -> Result<Ack, Error> {
        tags::invalidate(&self.stack, &Tag::new(tag.as_ref())?).await
    }

    /// Drops everything of this namespace. With a [bus](crate::Builder::bus) that is one step: all entries depend on the
    /// namespace as on a tag. Without one it is [`invalidate_prefix`](Self::invalidate_prefix) of all keys.
    ///
    /// # Errors
    /// As [`invalidate_tag`](Self::invalidate_tag) or [`invalidate_prefix`](Self::invalidate_prefix).
    pub async fn clear(&self) -> Result<Ack, Error> {
        if self.stack.bus.is_some() {
            return tags::invalidate(&self.stack, &Tag::namespace()).await;
        }
        Ok(self.invalidate_prefix(Key::bytes(b"")).await?.ack)
    }

    /// Whether [`invalidate_prefix`](Self::invalidate_prefix) works with this cache's tiers.
    #[must_use]
    pub fn can_invalidate_prefix(&self) -> bool {
        self.stack.l2.as_ref().is_none_or(L2::clears)
    }
}
