//! Write-behind: the cache has a value at once, and the database a moment later, in batches.
//!
//! The story of a `set`: it waits for the [`turns`] of its key, takes a place in the [`queue`], puts the value
//! there, and then into the cache. One task, [`drain`], takes batches out and has the [`sink`] write them, [`batch`] by
//! batch; what fails comes again, and what fails for good is a [`loss`]. If there is a journal, [`book`] is told of
//! each value first, by way of the [`inbox`], in the [`forms`] in which it can be read back. Before a write and after it, [`landing`] keeps
//! the database's old value out of the cache. [`shared`] is what all of them share.
//!
//! Rejected: a queue of writes instead of keys. It would keep the order between keys, but a hot key would be written
//! as often as it is set, which is what write-behind is there to avoid. And several batches at
//! once: quicker, but a batch that hangs would be overtaken, and each failing one would hold connections.

mod batch;
mod book;
mod builder;
mod drain;
mod forms;
mod inbox;
mod landing;
mod loss;
mod queue;
mod rules;
mod shared;
mod sink;
mod stats;
mod turns;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tiered_codecs::CodecFor;
use tiered_tiers::Record;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout},
};

pub use self::{
    builder::WriteBehindBuilder,
    loss::{Loss, LossReason},
    sink::{Failed, SinkError, WriteSink},
    stats::{BehindStats, Flushed},
};
use self::{inbox::Entry, shared::Shared};
use crate::{Ack, DefaultCodec, Error, Key, Request, write};

/// How much longer than its deadline a shutdown may take, for what follows the last write.
const GRACE: Duration = Duration::from_secs(15);

/// Values on their way to the database, through the cache; made by
/// [`Tiered::write_behind`](crate::Tiered::write_behind). Cheap to clone: clones are the same queue.
///
/// What is promised, and what is not:
///
/// - Of the values set for a key only the last is written, and never one after a newer one. Between keys there is no
///   order.
/// - [`get`](Self::get) and [`get_or_load`](Self::get_or_load) of this handle never return what the database had
///   before a `set` that has returned, unless its value was given up: they look into the queue first.
/// - Reads of the cache itself return the value for as long as its entry lives. If the entry is lost before the write,
///   they may load the database's old value until then. After the write neither L1 of this process nor L2 holds
///   anything older; another process's L1 may, for its [`local_for`](crate::Builder::local_for).
/// - What is queued is in memory: without a [`journal`](WriteBehindBuilder::journal) a process that is killed loses it.
///
/// Its task runs on the tokio runtime of the first `set`, and on that of a later call if that one is gone. It ends with
/// [`shutdown`](Self::shutdown), or when the last handle is dropped: both write what is queued,
/// within [`flush_within`](WriteBehindBuilder::flush_within). A runtime that ends first takes the task along: so
/// await `shutdown` before.
pub struct WriteBehind<K, V, C = DefaultCodec> {
    shared: Arc<Shared<K, V, C>>,
    alive: Arc<Alive>,
}

impl<K, V, C> Clone for WriteBehind<K, V, C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), alive: Arc::clone(&self.alive) }
    }
}

impl<K, V, C> fmt::Debug for WriteBehind<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl<K, V, C> WriteBehind<K, V, C>
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    C: CodecFor<V>,
{
    fn new(shared: Shared<K, V, C>) -> Self {
        let shared = Arc::new(shared);
        let last = Arc::clone(&shared);
        let alive = Arc::new(Alive(Box::new(move || orphan(&last))));
        Self { shared, alive }
    }

    /// Stores a value in the cache, as [`Tiered::set`](crate::Tiered::set) does, and queues it for the database. Both
    /// are done when this returns, and the journal has it, if there is one. Several calls for one key take effect in the
    /// order in which they were made.
    ///
    /// Dropping the future midway leaves the value queued or not; if it is, it is written, and the cache has it by then.
    ///
    /// # Errors
    /// With nothing changed: [`Error::Overloaded`] if as many keys as
    /// [`max_pending`](WriteBehindBuilder::max_pending) are queued and this is none of them, if the journal is full, or
    /// if other calls for this key take seconds; [`Error::Backend`] if the journal gives no answer, or another process owns
    /// it; [`Error::Serialization`] and [`Error::InvalidKey`] as [`Tiered::set`](crate::Tiered::set);
    /// [`Error::Config`] after a shutdown and outside a tokio runtime. A cache server that gives no answer is no error but
    /// [`Ack::Pending`].
    ///
    /// Of a journal that gave no answer nobody knows whether it has the value. If no other `set` succeeds before the
    /// process dies, the next one may find it there, and write it.
    pub async fn set(&self, id: K, value: V) -> Result<Ack, Error> {
        let shared = &self.shared;
        if Handle::try_current().is_err() {
            return Err(Error::config(
                "a write-behind was used outside a tokio runtime: call it from an async context of tokio",
            ));
        }
        shared.check_open()?;
        book::open(shared).await?;
        let (key, value) = ((shared.key_of)(&id), Arc::new(value));
        let _turn = shared.turn(&key).await?;
        let (stack, codec) = shared.cache.parts();
        let draft = write::prepare(stack, codec, &shared.options, &key, Arc::clone(&value)).await?;
        let room = shared.room(&key)?;
        match &shared.book {
            None => room.push(key.clone(), id, value, None)?,
            Some(book) => {
                let record = Record {
                    key: draft.wire().to_vec().into(),
                    id: (book.forms.pack_id)(codec, &id, draft.wire())
                        .map_err(Error::Serialization)?,
                    value: draft.pack(codec)?,
                };
                let (answer, answered) = oneshot::channel();
                let entry = Entry { room, key: key.clone(), id, value, record, answer };
                inbox::append(shared, entry, answered).await?;
            }
        }
        drain::start(shared);
        // Under the turn, so that the cache gets the values in the order in which they are queued.
        write::store(draft, None).await
    }

    /// Opens the journal, and queues what a predecessor has left in it; says of how many keys. Without a journal it
    /// does nothing. The first `set` does it too, but fails where this one waits: for a predecessor that was killed is
    /// believed to be alive for a while. So call it when the service starts.
    ///
    /// Dropping the future midway leaves the journal as it was.
    ///
    /// # Errors
    /// [`Error::Backend`] if the journal gives no answer, or if another process owns it still after the time for which it may be
    /// believed to be alive; [`Error::Config`] after a shutdown.
    pub async fn recover(&self) -> Result<usize, Error> {
        self.shared.check_open()?;
        let found = book::open_in_time(&self.shared).await?;
        drain::start(&self.shared);
        Ok(found)
    }

    /// The value: the one that waits to be written, or else what the cache has. The database is never asked.
    ///
    /// # Errors
    /// As [`Tiered::get`](crate::Tiered::get).
    pub async fn get(&self, id: &K) -> Result<Option<Arc<V>>, Error>
    where
        C: Clone,
    {
        let key = (self.shared.key_of)(id);
        match self.queued(&key) {
            Some(value) => Ok(Some(value)),
            None => self.request(key).get().await,
        }
    }

    /// The value: the one that waits to be written, or else what the cache has, or else what `loader` loads.
    ///
    /// # Errors
    /// As [`Tiered::get_or_load`](crate::Tiered::get_or_load).
    pub async fn get_or_load<E, F, Fut>(&self, id: &K, loader: F) -> Result<Arc<V>, Error>
    where
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<V, E>> + Send,
        C: Clone,
    {
        let key = (self.shared.key_of)(id);
        match self.queued(&key) {
            Some(value) => Ok(value),
            None => self.request(key).get_or_load(loader).await,
        }
    }

    /// As [`get_or_load`](Self::get_or_load), for a value that may not exist.
    ///
    /// # Errors
    /// As [`Tiered::get_or_load_opt`](crate::Tiered::get_or_load_opt).
    pub async fn get_or_load_opt<E, F, Fut>(
        &self,
        id: &K,
        loader: F,
    ) -> Result<Option<Arc<V>>, Error>
    where
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<V>, E>> + Send,
        C: Clone,
    {
        let key = (self.shared.key_of)(id);
        match self.queued(&key) {
            Some(value) => Ok(Some(value)),
            None => self.request(key).get_or_load_opt(loader).await,
        }
    }

    fn queued(&self, key: &Key) -> Option<Arc<V>> {
        self.shared.state.lock().queue.newest(key).cloned()
    }

    fn request(&self, key: Key) -> Request<'_, C> {
        let mut request = Request::new(&self.shared.cache, key);
        request.options = self.shared.options.clone();
        request
    }

    /// Waits until every value that was set before is written or lost, and tells which; at most
    /// [`flush_within`](WriteBehindBuilder::flush_within). What waits for another try is tried at once.
    ///
    /// Dropping the future midway ends the wait, and nothing else.
    pub async fn flush(&self) -> Flushed {
        let shared = &*self.shared;
        let (count, lost) = {
            let mut state = shared.state.lock();
            state.hurrying += 1;
            state.queue.hurry(Instant::now());
            (state.queue.count(), shared.lost())
        };
        let _hurry = Hurry(shared);
        let is_done = || {
            let state = shared.state.lock();
            state.is_over || state.queue.not_done(count) == 0
        };
        // An elapsed time shows in what is left. Outside a runtime nobody can wait.
        if !is_done() && Handle::try_current().is_ok() {
            let _ = timeout(shared.rules.flush_within, self.until(is_done)).await;
        }
        Flushed { lost: shared.lost() - lost, left: shared.state.lock().queue.not_done(count) }
    }

    /// Takes no more values, writes what is queued, and ends the task. What is not written within
    /// [`flush_within`](WriteBehindBuilder::flush_within) is lost, and reported as that.
    ///
    /// Dropping the future midway does not stop it. A second call waits for the first.
    pub async fn shutdown(&self) -> Flushed {
        let shared = &*self.shared;
        let lost = shared.lost();
        shared.close();
        if Handle::try_current().is_err() {
            // Nobody can write here.
            drain::end(shared);
        }
        let within = shared.rules.flush_within + GRACE;
        let is_over = || shared.state.lock().is_over;
        if !is_over() && timeout(within, self.until(is_over)).await.is_err() {
            // Its runtime stands still.
            drain::end(shared);
        }
        Flushed { lost: shared.lost() - lost, left: 0 }
    }

    /// Waits until something is so, and keeps the task running.
    async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if is_so() {
                return;
            }
            drain::start(&self.shared);
            self.shared.wake.notify_one();
            changed.await;
        }
    }

    /// What was counted since it was built.
    #[must_use]
    pub fn stats(&self) -> BehindStats {
        self.shared.stats()
    }
}

/// A call that waits for a flush.
struct Hurry<'a, K: Clone, V, C>(&'a Shared<K, V, C>);

impl<K: Clone, V, C> Drop for Hurry<'_, K, V, C> {
    fn drop(&mut self) {
        self.0.state.lock().hurrying -= 1;
    }
}

/// Dropped with the last handle: what is queued is written then, if there is a runtime to do it on.
struct Alive(Box<dyn Fn() + Send + Sync>);

impl Drop for Alive {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The last handle is gone.
fn orphan<K, V, C>(shared: &Arc<Shared<K, V, C>>)
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    C: CodecFor<V>,
{
    let is_over = {
        let mut state = shared.state.lock();
        state.is_orphaned = true;
        state.is_idle() && !state.is_running
    };
    shared.close();
    if is_over || !drain::start(shared) {
        drain::end(shared);
    }
}
