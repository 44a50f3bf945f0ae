//! The handle: what an application holds and calls.

mod invalidating;

use std::{
    fmt,
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use tiered_codecs::CodecFor;
use tokio::task::JoinSet;

use crate::{
    Ack, BusHealth, DefaultCodec, Error, Health, Key, Request, Stats, TierHealth, probe, read,
    stack::Stack,
};

/// A cache for every type of an application. Cheap to clone: clones are the same cache.
///
/// `C` is the codec; [`Postcard`](crate::Postcard) unless told.
///
/// Values are dropped wherever the cache replaces or evicts them, sometimes under its locks: the
/// `Drop` of a value must neither call the cache nor panic.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tiered::Error> {
/// use tiered::{Tiered, tiers::{Memory, Quick}};
///
/// let cache = Tiered::new(Quick::new(10_000), Memory::new()).namespace("shop").build()?;
/// let name = cache.get_or_load("user:1", || async { Ok::<_, std::io::Error>("Ada".to_owned()) });
/// assert_eq!(*name.await?, "Ada");
/// assert_eq!(cache.get::<String>("user:1").await?.as_deref().map(String::as_str), Some("Ada"));
/// # Ok(()) }
/// ```
pub struct Tiered<C = DefaultCodec> {
    stack: Arc<Stack>,
    codec: C,
}

impl<C: Clone> Clone for Tiered<C> {
    fn clone(&self) -> Self {
        Self { stack: Arc::clone(&self.stack), codec: self.codec.clone() }
    }
}

impl<C> fmt::Debug for Tiered<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiered")
            .field("name", &self.stack.name)
            .field("l1", &self.stack.l1)
            .field("l2", &self.stack.l2)
            .field("flights", &self.stack.flights.len())
            .field("pending", &self.stack.pending.len())
            .finish_non_exhaustive()
    }
}

/// Making requests and looking after the cache.
impl<C> Tiered<C> {
    pub(crate) fn from_parts(stack: Stack, codec: C) -> Self {
        Self { stack: Arc::new(stack), codec }
    }

    pub(crate) fn parts(&self) -> (&Arc<Stack>, &C) {
        (&self.stack, &self.codec)
    }

    /// A call with options: `cache.key("user:1").fresh_for(..).get_or_load(..)`.
    pub fn key(&self, key: impl Into<Key>) -> Request<'_, C> {
        Request::new(self, key.into())
    }

    /// A call about several keys, with options: `cache.keys([1, 2]).fresh_for(..).get_or_load(..)`.
    pub fn keys<K: Clone + Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Request<'_, C, Vec<K>> {
        Request::new(self, keys.into_iter().collect())
    }

    /// Whether a value (not an absence) is cached under `key` and fresh, of whatever type. Counts
    /// as no read.
    ///
    /// # Errors
    /// [`Error::Backend`] if L1 had nothing and L2 gave no answer; [`Error::InvalidKey`];
    /// [`Error::Config`] outside a tokio runtime.
    pub async fn contains(&self, key: impl Into<Key>) -> Result<bool, Error>
    where
        C: CodecFor<()>,
    {
        probe::contains(&self.stack, &self.codec, &key.into()).await
    }

    /// A round trip to L2, within the budget; at once without one.
    ///
    /// # Errors
    /// [`Error::Backend`] if it gives no answer.
    pub async fn ping(&self) -> Result<(), Error> {
        probe::ping(&self.stack).await
    }

    /// The state of every tier, within the budget.
    pub async fn health(&self) -> Health {
        let start = Instant::now();
        let l1 = self.stack.l1.as_deref().map(|tier| TierHealth {
            name: tier.name(),
            down: None,
            entries: Some(tier.entries()),
            latency: start.elapsed(),
        });
        let l2 = probe::l2_health(&self.stack).await;
        let now = self.stack.clock.now();
        let bus = self.stack.bus.as_ref().map(|bus| BusHealth {
            name: bus.name(),
            listening: bus.is_listening(),
            proven: bus.view.proven_as_of().map(|as_of| now.saturating_duration_since(as_of)),
            max_staleness: bus.max_staleness(),
        });
        Health { l1, l2, bus, pending: self.stack.pending.len(), enabled: self.is_enabled() }
    }

    /// What the cache counted since it was built.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stack.meter.stats()
    }

    /// Switches the cache on or off while it runs. Off, reads load, a `set` stores nothing and only
    /// drops what is cached, and invalidations still go out. What else was cached stays, and is
    /// served again when it is on.
    pub fn set_enabled(&self, enabled: bool) {
        self.stack.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Whether the cache is switched on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.stack.is_enabled()
    }

    /// Ends what runs in the background: detached loads, refreshes, pending invalidations. Gives
    /// them as long as the budget of a read, then drops them; a loader that blocks its thread is
    /// waited for. The cache stays usable. Detached loads also outlive the last handle, until they
    /// end.
    pub async fn shutdown(&self) {
        // Outside a runtime nobody can wait: what is left is dropped.
        if tokio::runtime::Handle::try_current().is_err() {
            drop(std::mem::take(&mut *self.stack.tasks.lock()));
            return;
        }
        let grace = self.stack.budget().left();
        if let Some(bus) = &self.stack.bus {
            bus.shutdown(grace).await;
        }
        // Loads that are dropped give their leases up, in tasks of their own.
        for _ in 0..2 {
            let mut tasks = std::mem::take(&mut *self.stack.tasks.lock());
            // An elapsed grace is what the abort below is for.
            let _ = tokio::time::timeout(grace, drain(&mut tasks)).await;
            tasks.shutdown().await;
        }
    }
}

async fn drain(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

/// Reading and writing values. Each is a short form of a [`Request`]'s verb.
impl<C: Clone + Send + Sync + 'static> Tiered<C> {
    /// The cached value; the database is never asked. See [`Request::get`].
    ///
    /// # Errors
    /// As [`Request::lookup`].
    pub async fn get<T>(&self, key: impl Into<Key>) -> Result<Option<Arc<T>>, Error>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let key = key.into();
        if let Some(value) = read::hit(&self.stack, &key) {
            return Ok(Some(value));
        }
        Box::pin(self.key(key).get()).await
    }

    /// The value, loaded if the cache has none. See [`Request::get_or_load`].
    ///
    /// # Errors
    /// As [`Request::get_or_load`].
    pub async fn get_or_load<T, E, F, Fut>(
        &self,
        key: impl Into<Key>,
        loader: F,
    ) -> Result<Arc<T>, Error>
    where
        T: Send + Sync + 'static,
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
        C: CodecFor<T>,
    {
        let key = key.into();
        if let Some(value) = read::hit(&self.stack, &key) {
            return Ok(value);
        }
        Box::pin(self.key(key).get_or_load(loader)).await
    }

    /// The value, if it exists, loaded if the cache does not know. See
    /// [`Request::get_or_load_opt`].
    ///
    /// # Errors
    /// As [`Request::load`].
    pub async fn get_or_load_opt<T, E, F, Fut>(
        &self,
        key: impl Into<Key>,
        loader: F,
    ) -> Result<Option<Arc<T>>, Error>
    where
        T: Send + Sync + 'static,
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<T>, E>> + Send,
        C: CodecFor<T>,
    {
        let key = key.into();
        if let Some(value) = read::hit(&self.stack, &key) {
            return Ok(Some(value));
        }
        Box::pin(self.key(key).get_or_load_opt(loader)).await
    }

    /// Stores a value in every tier. See [`Request::set`].
    ///
    /// # Errors
    /// As [`Request::set`].
    pub async fn set<T>(&self, key: impl Into<Key>, value: T) -> Result<Ack, Error>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        self.key(key).set(value).await
    }

    /// The cached values, in the order of their keys; the database is never asked. See
    /// [`get`](Request::get) of [several](Self::keys).
    ///
    /// # Errors
    /// For each key as [`Request::lookup`].
    pub async fn get_many<T, K>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Vec<Result<Option<Arc<T>>, Error>>
    where
        T: Send + Sync + 'static,
        K: Clone + Into<Key> + Send + Sync,
        C: CodecFor<T>,
    {
        self.keys(keys).get().await
    }

    /// The values, in the order of their keys; those that the cache does not know are loaded together. See
    /// [`get_or_load`](Request::get_or_load) of [several](Self::keys).
    ///
    /// # Errors
    /// For each key as [`Request::load`].
    pub async fn get_or_load_many<T, K, M, E, F, Fut>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: F,
    ) -> Vec<Result<Option<Arc<T>>, Error>>
    where
        T: Send + Sync + 'static,
        K: Clone + Into<Key> + Send + Sync,
        M: IntoIterator<Item = (K, T)>,
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut + Send,
        Fut: Future<Output = Result<M, E>> + Send,
        C: CodecFor<T>,
    {
        self.keys(keys).get_or_load(loader).await
    }

    /// Stores values in every tier; one answer for each, in their order. Of a key that comes twice the last
    /// value counts.
    ///
    /// # Errors
    /// For each key as [`Request::set`].
    pub async fn set_many<T, K>(
        &self,
        entries: impl IntoIterator<Item = (K, T)>,
    ) -> Vec<Result<Ack, Error>>
    where
        T: Send + Sync + 'static,
        K: Clone + Into<Key> + Send + Sync,
        C: CodecFor<T>,
    {
        let (keys, values): (Vec<K>, Vec<T>) = entries.into_iter().unzip();
        self.keys(keys).set(values).await
    }

    /// Drops keys from every tier; one answer for each, in their order. See
    /// [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    /// For each key as [`invalidate`](Self::invalidate).
    pub async fn invalidate_many<K>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Vec<Result<Ack, Error>>
    where
        K: Clone + Into<Key> + Send + Sync,
    {
        self.keys(keys).invalidate().await
    }
}
