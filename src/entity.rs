//! The entity layer, for services that like their data access in traits.
//!
//! A [`CacheEntity`] knows its key, a [`DataRepository`] fetches it, a [`CacheFeed`] says which one
//! is wanted and takes it. [`Tiered::execute`] brings the three together under a strategy.

use std::{
    borrow::Cow,
    fmt::{Debug, Display},
    future::Future,
    sync::Arc,
};

use tiered_codecs::{CodecFor, OldValue, Unpacked};
use tiered_tiers::Value;

use crate::{Ack, Answer, CacheStrategy, Error, Key, Outcome, Request, Tiered};

/// A value that is cached under its own key.
pub trait CacheEntity: Clone + Send + Sync + 'static {
    /// What identifies it.
    type Key: Display + Clone + Send + Sync + 'static;

    /// The version of its stored form. Raise it, by one, when a change of meaning leaves the fields as
    /// they are, or when there is an [`upgrade`](Self::upgrade); changed fields are noticed without it.
    /// Versions in a row share a cache without taking note of each other.
    const SCHEMA_VERSION: u32 = 0;

    /// Its key.
    fn cache_key(&self) -> Self::Key;

    /// What the keys of its kind begin with: `"user"` makes `user:1`.
    fn cache_prefix() -> &'static str;

    /// This entity, made from an entry of an older schema version, so that it need not be loaded.
    /// It keeps the entry's age. `None`, as unless implemented, loads it; so does an entity of another
    /// key. `old.read::<UserV1>()` gives the former value if the entry holds one.
    ///
    /// It is called at each read of L2 for as long as the older entry lives: what it makes is kept in L1
    /// alone. Looking for an older entry costs a schema version above 0 another read of L2 before it
    /// loads, whether it implements this or not.
    fn upgrade<D: OldValue>(version: u32, old: D) -> Option<Self> {
        let _ = (version, old);
        None
    }
}

/// [`CacheEntity::upgrade`], for a walk that knows the type only by its id.
fn upgrade<T, C>(codec: &C, key: &Key, unpacked: &Unpacked<'_>) -> Value
where
    T: CacheEntity,
    C: CodecFor<T>,
{
    let version = unpacked.header.meta.schema;
    T::upgrade(version, codec.old(unpacked))
        .filter(|entity| Key::entity::<T>(&entity.cache_key()) == *key)
        .map(|entity| Arc::new(entity) as _)
}

/// Where entities come from when the cache has none.
///
/// Implement the methods as `async fn`; their futures must be `Send`.
pub trait DataRepository<T: CacheEntity>: Send + Sync {
    /// What can go wrong. Callers get it back through [`Error::loader_error`].
    type Error: Display + Debug + Send + Sync + 'static;

    /// The entity, or `None` if there is none.
    fn fetch_by_id(
        &self,
        id: &T::Key,
    ) -> impl Future<Output = Result<Option<T>, Self::Error>> + Send;

    /// Those of the entities that exist, in any order. One by one unless implemented.
    fn fetch_by_ids(
        &self,
        ids: &[T::Key],
    ) -> impl Future<Output = Result<Vec<T>, Self::Error>> + Send {
        async move {
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                found.extend(self.fetch_by_id(id).await?);
            }
            Ok(found)
        }
    }
}

/// Who wants an entity. The calls come in this order, each at most once, but for the second round
/// that a cached entity which fails `validate` begins:
///
/// 1. [`entity_id`](Self::entity_id);
/// 2. the answer came from the cache: [`on_hit`](Self::on_hit);
///    else [`on_miss`](Self::on_miss), and [`on_loaded`](Self::on_loaded) if a load found one;
/// 3. [`validate`](Self::validate), if there is an entity;
/// 4. [`feed`](Self::feed).
///
/// After an error nothing more is called.
pub trait CacheFeed<T: CacheEntity>: Send {
    /// Which entity is wanted.
    fn entity_id(&mut self) -> T::Key;

    /// Takes the entity, or `None` if there is none.
    fn feed(&mut self, entity: Option<T>);

    /// Looks at the entity before it is fed.
    ///
    /// A cached one that is refused is dropped from the cache and loaded anew, which is a second
    /// read (under [`CacheStrategy::Fresh`] the call ends as a miss). A loaded one that is refused is dropped too,
    /// and the call ends with [`Error::Repository`], the [`Invalid`] in it.
    ///
    /// # Errors
    /// [`Invalid`], with the reason.
    fn validate(&mut self, entity: &T) -> Result<(), Invalid> {
        let _ = entity;
        Ok(())
    }

    /// The cache had the answer.
    fn on_hit(&mut self, id: &T::Key) {
        let _ = id;
    }

    /// The cache did not have it.
    fn on_miss(&mut self, id: &T::Key) {
        let _ = id;
    }

    /// A load found it: this call's, or one that it shared.
    fn on_loaded(&mut self, entity: &T) {
        let _ = entity;
    }
}

/// Why [`CacheFeed::validate`] refused an entity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entity is invalid: {reason}")]
pub struct Invalid {
    reason: Cow<'static, str>,
}

impl Invalid {
    /// A refusal with its reason.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into() }
    }
}

impl<C, K> Request<'_, C, K> {
    /// About entities of this type.
    pub(crate) fn of_entity<T>(self) -> Self
    where
        T: CacheEntity,
        C: CodecFor<T>,
    {
        let request = self.schema(T::SCHEMA_VERSION);
        // The first version has none before it.
        if T::SCHEMA_VERSION > 0 { request.upgrade(upgrade::<T, C>) } else { request }
    }
}

impl<C: Clone + Send + Sync + 'static> Tiered<C> {
    /// Brings `feeder` the entity it asks for, out of the cache or the repository, as `strategy`
    /// tells. Returns how the read ended.
    ///
    /// The repository is borrowed, so it is asked in this future; see [`Self::repository`] for one
    /// that can refresh behind.
    ///
    /// # Errors
    /// As [`Request::load`]; [`Error::Repository`] with [`Invalid`] for an entity that was loaded
    /// and refused.
    pub async fn execute<T, F, R>(
        &self,
        feeder: &mut F,
        repository: &R,
        strategy: CacheStrategy,
    ) -> Result<Outcome, Error>
    where
        T: CacheEntity,
        F: CacheFeed<T> + ?Sized,
        R: DataRepository<T> + ?Sized,
        C: CodecFor<T>,
    {
        let id = feeder.entity_id();
        let answer = self.entity::<T>(&id, strategy).load(|_| repository.fetch_by_id(&id)).await?;
        if let Fed::Done(outcome) = self.feed(feeder, &id, answer, strategy).await? {
            return Ok(outcome);
        }
        let anew = self.entity::<T>(&id, CacheStrategy::Invalidate);
        let answer = anew.load(|_| repository.fetch_by_id(&id)).await?;
        self.feed_loaded(feeder, &id, answer).await
    }

    /// Registers a repository: it is owned, so stale entities are served at once while it is asked
    /// behind, and a caller that goes away does not end its load.
    pub fn repository<R>(&self, repository: Arc<R>) -> Repository<R, C> {
        Repository { cache: self.clone(), repository }
    }

    fn entity<T>(&self, id: &T::Key, strategy: CacheStrategy) -> Request<'_, C>
    where
        T: CacheEntity,
        C: CodecFor<T>,
    {
        self.key(Key::entity::<T>(id)).of_entity::<T>().strategy(strategy)
    }

    /// Feeds an answer that may have come from the cache.
    async fn feed<T, F>(
        &self,
        feeder: &mut F,
        id: &T::Key,
        answer: Answer<T>,
        strategy: CacheStrategy,
    ) -> Result<Fed, Error>
    where
        T: CacheEntity,
        F: CacheFeed<T> + ?Sized,
        C: CodecFor<T>,
    {
        if !answer.outcome.is_hit() {
            return self.feed_loaded(feeder, id, answer).await.map(Fed::Done);
        }
        feeder.on_hit(id);
        let refused = answer.value.as_ref().is_some_and(|entity| feeder.validate(entity).is_err());
        if !refused {
            feeder.feed(answer.value.map(Arc::unwrap_or_clone));
            return Ok(Fed::Done(answer.outcome));
        }
        if strategy != CacheStrategy::Fresh {
            return Ok(Fed::Refused);
        }
        let _ = self.invalidate(Key::entity::<T>(id)).await?;
        feeder.on_miss(id);
        feeder.feed(None);
        Ok(Fed::Done(Outcome::Miss))
    }

    /// Feeds an answer that the cache did not have.
    async fn feed_loaded<T, F>(
        &self,
        feeder: &mut F,
        id: &T::Key,
        answer: Answer<T>,
    ) -> Result<Outcome, Error>
    where
        T: CacheEntity,
        F: CacheFeed<T> + ?Sized,
        C: CodecFor<T>,
    {
        feeder.on_miss(id);
        if let Some(entity) = &answer.value {
            feeder.on_loaded(entity);
            if let Err(invalid) = feeder.validate(entity) {
                let _ = self.invalidate(Key::entity::<T>(id)).await?;
                return Err(Error::loader(invalid));
            }
        }
        feeder.feed(answer.value.map(Arc::unwrap_or_clone));
        Ok(answer.outcome)
    }
}

enum Fed {
    Done(Outcome),
    /// A cached entity was refused: load it anew.
    Refused,
}

/// A repository that is registered with a cache; made by [`Tiered::repository`].
#[derive(Debug)]
pub struct Repository<R, C = crate::DefaultCodec> {
    cache: Tiered<C>,
    repository: Arc<R>,
}

impl<R, C: Clone> Clone for Repository<R, C> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), repository: Arc::clone(&self.repository) }
    }
}

impl<R, C> Repository<R, C> {
    pub(crate) fn parts(&self) -> (&Tiered<C>, &R) {
        (&self.cache, &self.repository)
    }
}

impl<R: 'static, C: Clone + Send + Sync + 'static> Repository<R, C> {
    /// The entity `id` with what is known of it, as `strategy` tells.
    ///
    /// # Errors
    /// As [`Request::load_detached`].
    pub async fn read<T>(&self, id: &T::Key, strategy: CacheStrategy) -> Result<Answer<T>, Error>
    where
        T: CacheEntity,
        R: DataRepository<T>,
        C: CodecFor<T>,
    {
        let (repository, wanted) = (Arc::clone(&self.repository), id.clone());
        let request = self.cache.entity::<T>(id, strategy);
        request.load_detached(move |_| async move { repository.fetch_by_id(&wanted).await }).await
    }

    /// Drops an entity from every tier; see [`Tiered::invalidate`]. Call it when the change is
    /// committed.
    ///
    /// # Errors
    /// As [`Tiered::invalidate`].
    pub async fn invalidate<T>(&self, id: &T::Key) -> Result<Ack, Error>
    where
        T: CacheEntity,
        R: DataRepository<T>,
    {
        self.cache.invalidate(Key::entity::<T>(id)).await
    }

    /// As [`Tiered::execute`], with the registered repository.
    ///
    /// # Errors
    /// As [`Tiered::execute`].
    pub async fn execute<T, F>(
        &self,
        feeder: &mut F,
        strategy: CacheStrategy,
    ) -> Result<Outcome, Error>
    where
        T: CacheEntity,
        F: CacheFeed<T> + ?Sized,
        R: DataRepository<T>,
        C: CodecFor<T>,
    {
        let id = feeder.entity_id();
        let answer = self.read(&id, strategy).await?;
        if let Fed::Done(outcome) = self.cache.feed(feeder, &id, answer, strategy).await? {
            return Ok(outcome);
        }
        let answer = self.read(&id, CacheStrategy::Invalidate).await?;
        self.cache.feed_loaded(feeder, &id, answer).await
    }
}
