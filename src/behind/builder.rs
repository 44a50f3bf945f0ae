//! Putting a write-behind together. `build()` checks everything and touches neither network nor runtime.

use std::{any::TypeId, fmt, time::Duration};

use tiered_codecs::{CodecFor, NoCodec};
use tiered_tiers::Journal;
use tokio::sync::Notify;

use super::{
    WriteBehind,
    book::Book,
    forms::Forms,
    loss::{Loss, OnLoss},
    rules::Rules,
    shared::{Counts, Shared, State},
    sink::{AnySink, WriteSink},
    turns::Turns,
};
use crate::{CacheEntity, Error, Key, Tiered, request::Options, stack::DecodeLog, sync::Mutex};

/// A write-behind being put together; made by [`Tiered::write_behind`].
#[must_use = "a builder does nothing until build() is called"]
pub struct WriteBehindBuilder<K, V, C> {
    cache: Tiered<C>,
    sink: Box<dyn AnySink<K, V>>,
    key_of: Box<dyn Fn(&K) -> Key + Send + Sync>,
    on_loss: Option<OnLoss<K, V>>,
    options: Options,
    rules: Rules,
    book: Option<Book<K, V, C>>,
}

impl<K, V, C> fmt::Debug for WriteBehindBuilder<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehindBuilder").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl<C: Clone> Tiered<C> {
    /// Begins a [`WriteBehind`]: values that are set through it are in this cache at once, and are written to `sink` in
    /// batches a moment later. `K` is what the sink knows a value by, and the value's key in the
    /// cache, unless [`keyed`](WriteBehindBuilder::keyed) makes one out of it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tiered::Error> {
    /// # struct Db; impl Db { async fn upsert(&self, _: Vec<(u64, Arc<String>)>) -> Result<(), std::io::Error> { Ok(()) } }
    /// # let db = Arc::new(Db);
    /// use std::{sync::Arc, time::Duration};
    /// use tiered::{Tiered, tiers::{Memory, Quick}};
    ///
    /// let cache = Tiered::new(Quick::new(10_000), Memory::new()).namespace("shop").build()?;
    /// let behind = cache
    ///     .write_behind(move |names: Vec<(u64, Arc<String>)>| {
    ///         let db = Arc::clone(&db);
    ///         async move { db.upsert(names).await }
    ///     })
    ///     .keyed(|id| format_args!("user:{id}").into())
    ///     .batch(100)
    ///     .every(Duration::from_millis(50))
    ///     .on_loss(|loss| eprintln!("{} values were not written: {:?}", loss.count, loss.reason))
    ///     .build()?;
    ///
    /// let _ = behind.set(1, "Ada".to_owned()).await?;
    /// assert_eq!(cache.get::<String>("user:1").await?.as_deref().map(String::as_str), Some("Ada"));
    /// assert!(behind.shutdown().await.is_whole());
    /// # Ok(()) }
    /// ```
    pub fn write_behind<K, V, S>(&self, sink: S) -> WriteBehindBuilder<K, V, C>
    where
        S: WriteSink<K, V>,
        K: Clone + Into<Key> + Send + Sync + 'static,
        V: Send + Sync + 'static,
        C: CodecFor<V>,
    {
        WriteBehindBuilder {
            cache: self.clone(),
            sink: Box::new(sink),
            key_of: Box::new(|id: &K| id.clone().into()),
            on_loss: None,
            book: None,
            options: Options::default(),
            rules: Rules {
                max_pending: 10_000,
                batch: 100,
                every: Duration::from_millis(50),
                retries: 16,
                backoff: (Duration::from_millis(100), Duration::from_secs(30)),
                write_timeout: Duration::from_secs(10),
                flush_within: Duration::from_secs(10),
            },
        }
    }
}

impl<K, V, C> WriteBehindBuilder<K, V, C>
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    C: CodecFor<V>,
{
    /// How a key of the cache is made out of a key of the sink. Different ones must get different ones.
    pub fn keyed(mut self, key_of: impl Fn(&K) -> Key + Send + Sync + 'static) -> Self {
        self.key_of = Box::new(key_of);
        self
    }

    /// The values are entities: they are kept as the entity layer keeps them, under [`Key::entity`] and their schema
    /// version.
    pub fn entities(self) -> Self
    where
        V: CacheEntity<Key = K>,
    {
        self.schema(V::SCHEMA_VERSION).keyed(Key::entity::<V>)
    }

    /// The schema version of the values; see [`Request::schema`](crate::Request::schema).
    pub fn schema(mut self, version: u32) -> Self {
        self.options.schema = version;
        self
    }

    /// How long the entries are fresh in the cache, before jitter; as long as the cache's, unless told.
    pub fn fresh_for(mut self, time: Duration) -> Self {
        self.options.fresh_for = Some(time);
        self
    }

    /// How many keys may wait; 10,000 unless told. A `set` of one more is refused with [`Error::Overloaded`]: a
    /// database that has fallen behind does not catch up because its callers wait.
    pub fn max_pending(mut self, keys: usize) -> Self {
        self.rules.max_pending = keys;
        self
    }

    /// The most values that are written at once; 100 unless told.
    pub fn batch(mut self, values: usize) -> Self {
        self.rules.batch = values;
        self
    }

    /// How long a value waits for others to be written with, and for newer ones of its key; 50 ms unless told.
    pub fn every(mut self, time: Duration) -> Self {
        self.rules.every = time;
        self
    }

    /// How often a value is written again after it failed; 16 times unless told, which with the default
    /// [`backoff`](Self::backoff) is some minutes. Each time in a smaller batch, and the last time alone, so that a value
    /// that the database refuses takes no other along.
    pub fn retries(mut self, times: u32) -> Self {
        self.rules.retries = times;
        self
    }

    /// How long it waits before that: the first time, doubled each time, and at most; shortened by up to a half at random.
    /// 100 ms and 30 s unless told.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.rules.backoff = (first, longest);
        self
    }

    /// How long a write of the sink may take before it is dropped and counts as failed; 10 s unless told. Whether the
    /// database has executed it nobody knows then.
    pub fn write_timeout(mut self, time: Duration) -> Self {
        self.rules.write_timeout = time;
        self
    }

    /// How long [`flush`](WriteBehind::flush), [`shutdown`](WriteBehind::shutdown) and the end of the last handle may
    /// take to write what is queued; 10 s unless told.
    pub fn flush_within(mut self, time: Duration) -> Self {
        self.rules.flush_within = time;
        self
    }

    /// Is told of every value that was not written, once, with the reason. It is called by the task that writes, which
    /// waits for it: hand what takes long to somebody else. Losses are counted and logged whether this is given or not.
    pub fn on_loss(mut self, listener: impl Fn(Loss<K, V>) + Send + Sync + 'static) -> Self {
        self.on_loss = Some(Box::new(listener));
        self
    }

    /// Keeps each value in a journal until the database has it, so that a process that is killed loses none: the next one
    /// with this journal finds it, and writes it before newer ones of its key. Without an answer from the journal a
    /// `set` fails, and changes nothing.
    ///
    /// A value may be written twice then: once by the process that was killed, and once more by its successor, over what
    /// somebody else has written since. The keys of the sink are kept too, and need serde as the values do.
    pub fn journal(mut self, journal: impl Journal) -> Self
    where
        C: CodecFor<K>,
    {
        self.book = Some(Book::new(Box::new(journal), Forms::new()));
        self
    }

    /// The write-behind. Its task is started by the first `set`.
    ///
    /// # Errors
    /// [`Error::Config`] for a configuration that cannot work; the message names the value and the way out.
    pub fn build(self) -> Result<WriteBehind<K, V, C>, Error> {
        self.options.check()?;
        self.rules.check()?;
        if let Some(book) = &self.book {
            book.journal.check()?;
            if TypeId::of::<C>() == TypeId::of::<NoCodec>() {
                return Err(Error::config(
                    "a journal needs a codec, and this cache has none: call .codec(Postcard) on its builder, say",
                ));
            }
        }
        let Self { cache, sink, key_of, on_loss, options, rules, book } = self;
        Ok(WriteBehind::new(Shared {
            cache,
            options,
            sink,
            key_of,
            on_loss,
            rules,
            book,
            state: Mutex::new(State::new()),
            turns: Turns::default(),
            wake: Notify::new(),
            written: Notify::new(),
            changed: Notify::new(),
            counts: Counts::default(),
            log: DecodeLog::default(),
        }))
    }
}
