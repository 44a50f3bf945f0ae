//! Several keys in one call: `cache.keys(ids).get_or_load(|missing| ..)`.
//!
//! Each key is a read or a write of its own, as a call about it alone would be: it has its own outcome,
//! flight, lease and error. What is done together is what costs a round trip: the look into L2, and the
//! load. Answers come in the order of the keys; a key may come twice, and is then read once.

use std::{
    collections::HashMap,
    fmt::{Debug, Display},
    future::Future,
    sync::Arc,
};

use tiered_codecs::CodecFor;

use crate::{
    Ack, Answer, CacheStrategy, Error, Key, Request,
    load::{BatchLoader, BatchLoading},
    many::{self, Many},
    stack::Walked,
    write,
    writers::{self, Written},
};

/// Each key once, and for each place of the caller's which of them it is.
struct Distinct {
    keys: Vec<Key>,
    /// The first place of each.
    first: Vec<usize>,
    places: Vec<usize>,
}

impl Distinct {
    fn of(keys: impl Iterator<Item = Key>) -> Self {
        let mut known = HashMap::new();
        let mut distinct = Self { keys: Vec::new(), first: Vec::new(), places: Vec::new() };
        for (place, key) in keys.enumerate() {
            let at = *known.entry(key.clone()).or_insert_with(|| {
                distinct.keys.push(key);
                distinct.first.push(place);
                distinct.keys.len() - 1
            });
            distinct.places.push(at);
        }
        distinct
    }

    /// The answers in the caller's order.
    fn spread<R: Clone, S>(&self, answers: &[R], of: impl Fn(R) -> S) -> Vec<S> {
        self.places
            .iter()
            .filter_map(|at| answers.get(*at))
            .map(|answer| of(answer.clone()))
            .collect()
    }
}

/// A loader of the caller's own keys. `first` has the place of each distinct one.
fn of_own_keys<'a, T, K, M, E, F, Fut>(
    keys: &'a [K],
    first: &'a [usize],
    mut loader: F,
) -> impl FnMut(Vec<usize>) -> BatchLoading<'a, T> + Send + 'a
where
    K: Clone + Into<Key> + Send + Sync,
    E: Display + Debug + Send + Sync + 'static,
    M: IntoIterator<Item = (K, T)>,
    F: FnMut(Vec<K>) -> Fut + Send + 'a,
    Fut: Future<Output = Result<M, E>> + Send + 'a,
{
    move |wanted| {
        let wanted = wanted.iter().filter_map(|at| keys.get(*first.get(*at)?)).cloned();
        let loading = loader(wanted.collect());
        Box::pin(async move {
            let found = loading.await.map_err(Error::loader)?;
            Ok(found.into_iter().map(|(key, value)| (key.into(), value)).collect())
        })
    }
}

/// Verbs for several keys. Each ends in one answer for each key, in their order.
impl<C, K> Request<'_, C, Vec<K>>
where
    C: Clone + Send + Sync + 'static,
    K: Clone + Into<Key> + Send + Sync,
{
    fn distinct(&self) -> Distinct {
        Distinct::of(self.about.iter().map(|key| key.clone().into()))
    }

    async fn walk<T>(
        &self,
        distinct: &Distinct,
        loader: Option<&mut BatchLoader<'_, T>>,
    ) -> Vec<Walked>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let (stack, codec) = self.cache.parts();
        let Self { options, upgrade, .. } = self;
        let many = Many { stack, codec, options, upgrade: *upgrade };
        many::walk(many, &distinct.keys, loader).await
    }

    /// What is cached of each, with what is known of it, the database never asked: the strategy
    /// `Fresh`, whatever was set.
    ///
    /// # Errors
    /// For each key as [`lookup`](Request::lookup) of one. A part of L2 that fails, one server of many, is
    /// the error of its keys alone.
    pub async fn lookup<T>(mut self) -> Vec<Result<Answer<T>, Error>>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        self.options.strategy = CacheStrategy::Fresh;
        let distinct = self.distinct();
        let walked = Box::pin(self.walk::<T>(&distinct, None)).await;
        distinct.spread(&walked, |walked| walked.map(|landed| landed.into_answer()))
    }

    /// The cached values; see [`lookup`](Self::lookup).
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub async fn get<T>(self) -> Vec<Result<Option<Arc<T>>, Error>>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        self.lookup().await.into_iter().map(|answer| Ok(answer?.value)).collect()
    }

    /// The values with what is known of them; those that the cache does not know are loaded together. The
    /// loader gets the keys it must find, as the caller gave them, each once, and returns what exists
    /// of them, in any order, as pairs; the rest do not exist. What else it returns is left.
    ///
    /// It is called once, unless another caller gives up a load that this one waited for, and not at all if
    /// nothing is missing. Keys that others load already are waited for. It may borrow: it runs in this future,
    /// and if this future is dropped, those who wait for its keys take over with their own loaders. As the loader of one key, it must not read its own keys from this cache.
    ///
    /// # Errors
    /// For each key as [`load`](Request::load) of one. A loader's error is that of all keys that it was
    /// called with.
    pub async fn load<T, M, E, F, Fut>(self, loader: F) -> Vec<Result<Answer<T>, Error>>
    where
        T: Send + Sync + 'static,
        M: IntoIterator<Item = (K, T)>,
        E: Display + Debug + Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut + Send,
        Fut: Future<Output = Result<M, E>> + Send,
        C: CodecFor<T>,
    {
        let distinct = self.distinct();
        let mut loader = of_own_keys(&self.about, &distinct.first, loader);
        let walked = Box::pin(self.walk::<T>(&distinct, Some(&mut loader))).await;
        distinct.spread(&walked, |walked| walked.map(|landed| landed.into_answer()))
    }

    /// The values, those that exist; those that the cache does not know are loaded together. See
    /// [`load`](Self::load).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tiered::Error> {
    /// # use std::{collections::HashMap, time::Duration};
    /// # struct Db; impl Db { async fn names(&self, ids: &[u64]) -> Result<HashMap<u64, String>, std::io::Error> {
    /// #     Ok(ids.iter().filter(|id| **id < 3).map(|id| (*id, format!("user {id}"))).collect()) } }
    /// # let db = Db;
    /// use tiered::{Tiered, tiers::{Memory, Quick}};
    ///
    /// let cache = Tiered::new(Quick::new(10_000), Memory::new()).namespace("names").build()?;
    /// let names = cache
    ///     .keys([1_u64, 2, 3])
    ///     .fresh_for(Duration::from_secs(60))
    ///     .get_or_load(async |missing: Vec<u64>| db.names(&missing).await)
    ///     .await;
    /// # let names: Vec<Option<std::sync::Arc<String>>> = names.into_iter().collect::<Result<_, _>>()?;
    /// # assert_eq!(names[1].as_deref().map(String::as_str), Some("user 2"));
    /// # assert!(names[2].is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn get_or_load<T, M, E, F, Fut>(self, loader: F) -> Vec<Result<Option<Arc<T>>, Error>>
    where
        T: Send + Sync + 'static,
        M: IntoIterator<Item = (K, T)>,
        E: Display + Debug + Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut + Send,
        Fut: Future<Output = Result<M, E>> + Send,
        C: CodecFor<T>,
    {
        self.load(loader).await.into_iter().map(|answer| Ok(answer?.value)).collect()
    }

    /// Stores a value for each key, in their order: as many values as keys. Of a key that comes twice the last
    /// value counts. See [`set`](Request::set) of one.
    ///
    /// # Errors
    /// For each key as [`set`](Request::set) of one; [`Error::Config`] for each, with nothing changed,
    /// if there are more values than keys or fewer.
    pub async fn set<T>(self, values: impl IntoIterator<Item = T>) -> Vec<Result<Ack, Error>>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let values: Vec<Arc<T>> = values.into_iter().map(Arc::new).collect();
        if values.len() != self.about.len() {
            let error = Error::config(format!(
                "{} keys were given {} values to set: give one for each",
                self.about.len(),
                values.len()
            ));
            return self.about.iter().map(|_| Err(error.clone())).collect();
        }
        let distinct = self.distinct();
        let mut last: Vec<Option<Arc<T>>> = distinct.keys.iter().map(|_| None).collect();
        for (at, value) in distinct.places.iter().zip(values) {
            if let Some(last) = last.get_mut(*at) {
                *last = Some(value);
            }
        }
        let entries = distinct.keys.iter().zip(last);
        let entries = entries.filter_map(|(key, value)| Some((key, value?))).collect();
        let (stack, codec) = self.cache.parts();
        let acks = Box::pin(write::set_many(stack, codec, &self.options, entries)).await;
        distinct.spread(&acks, |ack| ack)
    }

    /// Drops each from every tier. See [`Tiered::invalidate`](crate::Tiered::invalidate).
    ///
    /// # Errors
    /// For each key as [`Tiered::invalidate`](crate::Tiered::invalidate) of one.
    pub async fn invalidate(self) -> Vec<Result<Ack, Error>> {
        let distinct = self.distinct();
        let acks = write::invalidate_many(self.cache.parts().0, &distinct.keys).await;
        distinct.spread(&acks, |ack| ack)
    }

    /// Writes the source, and drops all of these keys before and after: several that one transaction changes.
    /// See [`Tiered::invalidate_after`](crate::Tiered::invalidate_after). [`Written::ack`] is `Done` if it is for each of them.
    ///
    /// # Errors
    /// As [`Tiered::invalidate_after`](crate::Tiered::invalidate_after); for one key that is not valid nothing is written.
    pub async fn invalidate_after<R, E, F, Fut>(self, write: F) -> Result<Written<R>, Error>
    where
        R: Send,
        E: Display + Debug + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        let distinct = self.distinct();
        writers::invalidate_after(self.cache.parts().0, &distinct.keys, write).await
    }
}
