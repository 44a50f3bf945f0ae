//! One call and its options: `cache.key("user:1").fresh_for(..).get_or_load(..)`.

mod context;
mod options;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tiered_codecs::{CodecFor, Unpacked};
use tiered_tiers::Value;

use crate::{
    Ack, Answer, CacheStrategy, Error, Key, Tiered,
    load::{self, Wanted},
    stack::Landed,
    tags::Tag,
    walk::{self, Walk},
    write,
    writers::{self, Written},
};

pub use self::context::LoadContext;
pub(crate) use self::{
    context::Told,
    options::{Lifetimes, Options},
};

/// A call being put together, about one key, made by [`Tiered::key`], or about several, made by
/// [`Tiered::keys`]. Nothing happens until one of the verbs (`get`, `get_or_load`, `set`, …) is awaited.
///
/// Calls that join a load under way get its entry: the options of the caller that leads decide.
/// A cache with an L2 or a load timeout needs a tokio runtime with timers, as `#[tokio::main]` makes
/// it.
#[must_use = "a request does nothing until one of its verbs is awaited"]
pub struct Request<'a, C, K = Key> {
    pub(crate) cache: &'a Tiered<C>,
    /// What it is about: a key, or several.
    pub(crate) about: K,
    pub(crate) options: Options,
    pub(crate) upgrade: Option<Upgrade<C>>,
}

/// Makes a value, or none, out of an older version's entry. The value is of the type that the call is about.
pub(crate) type Upgrade<C> = fn(&C, &Key, &Unpacked<'_>) -> Value;

impl<C, K> fmt::Debug for Request<'_, C, K> {
    /// Keys may name people: none is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Options.
impl<'a, C, K> Request<'a, C, K> {
    pub(crate) fn new(cache: &'a Tiered<C>, about: K) -> Self {
        Self { cache, about, options: Options::default(), upgrade: None }
    }

    /// How an older version's entry becomes a value.
    pub(crate) fn upgrade(mut self, upgrade: Upgrade<C>) -> Self {
        self.upgrade = Some(upgrade);
        self
    }

    /// How long the entry is fresh, before jitter.
    pub fn fresh_for(mut self, time: Duration) -> Self {
        self.options.fresh_for = Some(time);
        self
    }

    /// How long after its freshness the entry may stand in for a failing load.
    pub fn stale_for(mut self, time: Duration) -> Self {
        self.options.stale_for = Some(time);
        self
    }

    /// How long the answer "there is none" is kept.
    pub fn negative_for(mut self, time: Duration) -> Self {
        self.options.negative_for = Some(time);
        self
    }

    /// Which way to walk; [`CacheStrategy::Refresh`] unless told.
    pub fn strategy(mut self, strategy: CacheStrategy) -> Self {
        self.options.strategy = strategy;
        self
    }

    /// The schema version of the value's type: raise it by one when the type's meaning changes. Versions
    /// in a row have an entry each; of those that do meet, a newer one replaces an older one, never the
    /// other way round.
    pub fn schema(mut self, version: u32) -> Self {
        self.options.schema = version;
        self
    }

    /// The version of the value in the source: a row's version, a change's sequence number, anything that grows with
    /// each change; 0 is a version that is not known. It is stored with the value. A `set` that says its version stores
    /// nothing if a value of a newer one is there, in L1 or L2, and answers [`Ack::Superseded`]; one of the same version is
    /// stored. A `set` that does not say it wins over whatever is there.
    ///
    /// What is not there is not compared with: after an invalidation or an expiry any version is stored.
    pub fn source_version(mut self, version: u64) -> Self {
        self.options.source_version = version;
        self
    }

    /// Neither reads nor fills L1. A `set` still drops what L1 has.
    pub fn skip_l1(mut self) -> Self {
        self.options.skip_l1 = true;
        self
    }

    /// Neither reads nor fills L2. A `set` still drops what L2 has.
    pub fn skip_l2(mut self) -> Self {
        self.options.skip_l2 = true;
        self
    }

    /// What the entry depends on: `.tags(["team:7"])`. [`Tiered::invalidate_tag`] drops all entries of a tag. Their
    /// generations are read before the load, in one round trip more (none, while a bus proves them); an L2 hit of a tagged
    /// entry compares them likewise. At most 64, of 1 to 255 bytes each.
    pub fn tags<S: AsRef<str>>(mut self, tags: impl IntoIterator<Item = S>) -> Self {
        for tag in tags {
            match Tag::new(tag.as_ref()) {
                Ok(tag) => self.options.tags.push(tag),
                Err(error) => self.options.bad_tag = Some(error),
            }
        }
        self
    }

    /// What the entry weighs in an L1 that is bounded by weight; the length of its encoded form
    /// unless told, or the size of its type in a cache without an L2.
    pub fn weight(mut self, weight: u64) -> Self {
        self.options.weight = Some(weight);
        self
    }
}

/// Verbs.
impl<C: Clone + Send + Sync + 'static> Request<'_, C> {
    /// Looks into L1. The walk past it is boxed by its callers, so that the future of a hit stays
    /// small: it is moved about more than it is polled.
    fn begin<T: 'static>(&self, wanted: Wanted) -> Result<Option<Landed>, Error> {
        walk::begin::<T>(self.cache.parts().0, &self.about, &self.options, wanted)
    }

    fn walk<T: 'static>(self, wanted: Wanted) -> Walk<C> {
        let (stack, codec) = self.cache.parts();
        Walk::new::<T>(stack, codec, self.about, self.options, self.upgrade, wanted)
    }

    /// The cached value with what is known of it, the database never asked: the strategy `Fresh`,
    /// whatever was set.
    ///
    /// # Errors
    /// [`Error::Backend`] if L1 had nothing and L2 gave no answer; [`Error::InvalidKey`],
    /// [`Error::Config`] for a call that cannot work.
    pub async fn lookup<T>(mut self) -> Result<Answer<T>, Error>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        self.options.strategy = CacheStrategy::Fresh;
        let landed = match self.begin::<T>(Wanted::Any)? {
            Some(landed) => landed,
            None => Box::pin(self.walk::<T>(Wanted::Any).look::<T>()).await?,
        };
        Ok(landed.into_answer())
    }

    /// The cached value; see [`lookup`](Self::lookup).
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub async fn get<T>(self) -> Result<Option<Arc<T>>, Error>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        Ok(self.lookup().await?.value)
    }

    /// The value, loaded if the cache has none, with what is known of it: the general form. The
    /// loader gets a [`LoadContext`] in which it can set the entry's lifetime, and says `None` for
    /// what does not exist.
    ///
    /// The loader may borrow: it runs in this future. If this future is dropped midway, a waiter
    /// takes over with its own loader. A loader must not read its own key from this cache: it would
    /// wait for itself. A future that is neither polled nor dropped keeps its waiters waiting.
    ///
    /// # Errors
    /// [`Error::Repository`] if the loader failed or panicked, [`Error::Timeout`] if it took too
    /// long, and in neither case a stale value is left; [`Error::Backend`] under the strategy
    /// `Fresh`; [`Error::InvalidKey`] and [`Error::Config`] for a call that cannot work.
    pub async fn load<T, E, F, Fut>(self, loader: F) -> Result<Answer<T>, Error>
    where
        T: Send + Sync + 'static,
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnOnce(LoadContext) -> Fut + Send,
        Fut: Future<Output = Result<Option<T>, E>> + Send,
        C: CodecFor<T>,
    {
        let landed = match self.begin::<T>(Wanted::Any)? {
            Some(landed) => landed,
            None => {
                let walk = self.walk::<T>(Wanted::Any);
                Box::pin(walk.borrowed(load::boxed(loader))).await?
            }
        };
        Ok(landed.into_answer())
    }

    /// The value, loaded if the cache has none. See [`load`](Self::load).
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn get_or_load_opt<T, E, F, Fut>(self, loader: F) -> Result<Option<Arc<T>>, Error>
    where
        T: Send + Sync + 'static,
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<T>, E>> + Send,
        C: CodecFor<T>,
    {
        Ok(self.load(|_| loader()).await?.value)
    }

    /// The value, loaded if the cache has none; a value that exists: a remembered absence loads.
    /// See [`load`](Self::load).
    ///
    /// # Errors
    /// As [`load`](Self::load); [`Error::Config`] if the strategy is `Fresh` and the cache has
    /// nothing, for then there is no value to return.
    pub async fn get_or_load<T, E, F, Fut>(self, loader: F) -> Result<Arc<T>, Error>
    where
        T: Send + Sync + 'static,
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
        C: CodecFor<T>,
    {
        present(match self.begin::<T>(Wanted::Value)? {
            Some(landed) => landed,
            None => {
                let walk = self.walk::<T>(Wanted::Value);
                let loader = load::boxed(|_| async { loader().await.map(Some) });
                Box::pin(walk.borrowed(loader)).await?
            }
        })
    }

    /// As [`load`](Self::load), with a loader that borrows nothing. It runs in a task: dropping
    /// this future does not end it, its value is always stored and shared, and a stale value is
    /// served at once while it runs behind.
    ///
    /// # Errors
    /// As [`load`](Self::load); [`Error::Config`] outside a tokio runtime.
    pub async fn load_detached<T, E, F, Fut>(self, loader: F) -> Result<Answer<T>, Error>
    where
        T: Send + Sync + 'static,
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, E>> + Send + 'static,
        C: CodecFor<T>,
    {
        let landed = match self.begin::<T>(Wanted::Any)? {
            Some(landed) => landed,
            None => {
                let walk = self.walk::<T>(Wanted::Any);
                Box::pin(walk.detached(load::boxed(loader))).await?
            }
        };
        Ok(landed.into_answer())
    }

    /// As [`get_or_load`](Self::get_or_load), with a loader that borrows nothing; see
    /// [`load_detached`](Self::load_detached).
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load); [`Error::Config`] outside a tokio runtime.
    pub async fn detached<T, E, F, Fut>(self, loader: F) -> Result<Arc<T>, Error>
    where
        T: Send + Sync + 'static,
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        C: CodecFor<T>,
    {
        present(match self.begin::<T>(Wanted::Value)? {
            Some(landed) => landed,
            None => {
                let walk = self.walk::<T>(Wanted::Value);
                let loader = load::boxed(|_| async { loader().await.map(Some) });
                Box::pin(walk.detached(loader)).await?
            }
        })
    }

    /// Stores a value in every tier. It wins over every load that began before it. Of two writes of
    /// one key that overlap in one process nobody knows which the server executed last: the key is
    /// then left without a value.
    ///
    /// Takes three round trips to Redis, two of them for the fence's sake, and a fourth where writes overlap. Dropping the
    /// future midway leaves the key invalidated.
    ///
    /// # Errors
    /// [`Error::Serialization`] for a value that cannot be encoded or is larger than the cache's
    /// `max_entry_bytes`, with nothing changed; [`Error::InvalidKey`] and [`Error::Config`] for a
    /// call that cannot work. A cache server that gives no answer is no error but
    /// [`Ack::Pending`].
    pub async fn set<T>(self, value: T) -> Result<Ack, Error>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let (stack, codec) = self.cache.parts();
        write::set(stack, codec, &self.about, &self.options, Arc::new(value)).await
    }

    /// Writes a value to the source, and then stores it in every tier, under a hold as
    /// [`Tiered::invalidate_after`] has it. The write gets the value in an `Arc`.
    ///
    /// The value is stored only if it is known to be the source's last: no other writer held the key at the same time,
    /// nobody invalidated or set it in this process or was heard to do so, and the write was over within a third of
    /// [`hold_for`](crate::Builder::hold_for). Else the key is left without a value, and the next read loads it. So what is
    /// stored is never older than the source, if all who write it do so by this verb or by `invalidate_after`. A source
    /// that changes what it is given (a new id, a timestamp) is to be written with `invalidate_after`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tiered::Error> {
    /// # use tiered::{Ack, Tiered, tiers::{Memory, Quick}};
    /// # struct Db; impl Db { async fn save(&self, _: &str) -> Result<u64, std::io::Error> { Ok(1) } }
    /// # let db = Db;
    /// # let cache = Tiered::new(Quick::new(10_000), Memory::new()).build()?;
    /// let name = "Ada".to_owned();
    /// let written = cache
    ///     .key("user:1")
    ///     .write_through(name, |name| async move { db.save(&name).await })
    ///     .await?;
    /// assert_eq!((written.value, written.ack), (1, Ack::Done));
    /// # Ok(()) }
    /// ```
    ///
    /// Dropping the future midway leaves the key invalidated.
    ///
    /// # Errors
    /// [`Error::Write`] if the write failed or panicked, and the key is invalidated then, as `invalidate_after` does;
    /// [`Error::Serialization`] for a value that cannot be encoded or is larger than the cache's
    /// `max_entry_bytes`, [`Error::InvalidKey`] and [`Error::Config`] for a call that cannot work, all three before
    /// anything is written or changed.
    pub async fn write_through<T, R, E, F, Fut>(
        self,
        value: T,
        write: F,
    ) -> Result<Written<R>, Error>
    where
        T: Send + Sync + 'static,
        R: Send,
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnOnce(Arc<T>) -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
        C: CodecFor<T>,
    {
        let (stack, codec) = self.cache.parts();
        let (key, options) = (&self.about, &self.options);
        writers::through::write_through(stack, codec, key, options, value, write).await
    }
}

fn present<T: Send + Sync + 'static>(landed: Landed) -> Result<Arc<T>, Error> {
    landed.into_value().ok_or_else(|| {
        Error::config(
            "get_or_load under the strategy Fresh found nothing, and Fresh never loads: use get \
             or get_or_load_opt, which can say None",
        )
    })
}
