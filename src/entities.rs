//! Many entities at once: a batch of the entity layer, without feeders.

use std::{collections::HashMap, sync::Arc};

use tiered_codecs::CodecFor;

use crate::{CacheEntity, CacheStrategy, DataRepository, Error, Key, Repository, Tiered};

impl<C: Clone + Send + Sync + 'static> Tiered<C> {
    /// The entities of `ids`, in their order, `None` for those that do not exist. Those that the cache does
    /// not know are fetched together, by [`fetch_by_ids`](DataRepository::fetch_by_ids).
    ///
    /// The repository is borrowed, so it is asked in this future; see
    /// [`load`](crate::Request::load) of [several keys](Tiered::keys), of which this is a form.
    ///
    /// # Errors
    /// For each entity as [`Request::load`](crate::Request::load); the repository's error is that of all
    /// entities that it was asked for.
    pub async fn read_many<T, R>(
        &self,
        ids: &[T::Key],
        repository: &R,
        strategy: CacheStrategy,
    ) -> Vec<Result<Option<Arc<T>>, Error>>
    where
        T: CacheEntity,
        R: DataRepository<T> + ?Sized,
        C: CodecFor<T>,
    {
        let keys: Vec<Key> = ids.iter().map(Key::entity::<T>).collect();
        let ids: HashMap<&Key, &T::Key> = keys.iter().zip(ids).collect();
        let fetch = async |missing: Vec<Key>| {
            let missing: Vec<T::Key> =
                missing.iter().filter_map(|key| ids.get(key)).map(|id| (*id).clone()).collect();
            let found = repository.fetch_by_ids(&missing).await?;
            let keyed = |entity: T| (Key::entity::<T>(&entity.cache_key()), entity);
            Ok::<Vec<_>, R::Error>(found.into_iter().map(keyed).collect())
        };
        let request = self.keys(keys.iter().cloned()).of_entity::<T>().strategy(strategy);
        request.get_or_load(fetch).await
    }
}

impl<R, C: Clone + Send + Sync + 'static> Repository<R, C> {
    /// The entities of `ids`; see [`Tiered::read_many`].
    ///
    /// # Errors
    /// As [`Tiered::read_many`].
    pub async fn read_many<T>(
        &self,
        ids: &[T::Key],
        strategy: CacheStrategy,
    ) -> Vec<Result<Option<Arc<T>>, Error>>
    where
        T: CacheEntity,
        R: DataRepository<T>,
        C: CodecFor<T>,
    {
        let (cache, repository) = self.parts();
        cache.read_many(ids, repository, strategy).await
    }
}
