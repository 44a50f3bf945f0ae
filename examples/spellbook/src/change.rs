//! Writes: commit, then invalidate, in a task that no client can stop halfway.
//!
//! A handler is dropped when its client goes away. Between the commit and the invalidation that
//! would leave the old spell in the cache, so both run in a task of their own. The same task
//! outlives a client's patience: when a frozen database carries a change out seconds after its
//! client was told "no answer", the cache is told then.
//!
//! The cache is never written to, only invalidated: two changes may answer in another order than
//! they were committed in, and the last to answer would store the older spell.

use std::{future::Future, time::Duration};

use tiered::{Ack, Key, Tiered};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::{
    list::List,
    spell::Spell,
    store::{READ_WITHIN, Store, StoreError},
};

/// How long a client waits for a change: the database, and the budget of the cache.
const ANSWER_WITHIN: Duration = READ_WITHIN.saturating_add(Duration::from_millis(500));

/// The writing half of the service. Clones are the same.
#[derive(Clone, Debug)]
pub struct Changes {
    store: Store,
    cache: Tiered,
    tasks: TaskTracker,
}

impl Changes {
    /// Writes to `store`, invalidations to `cache`.
    #[must_use]
    pub fn new(store: Store, cache: Tiered) -> Self {
        Self { store, cache, tasks: TaskTracker::new() }
    }

    /// Writes a spell down. Its id may be cached as absent, by somebody who asked for it early.
    ///
    /// If the connection breaks between the commit and its answer, nobody here learns the id; then
    /// the cache may take it for absent as long as it remembers absences, thirty seconds.
    ///
    /// # Errors
    /// [`StoreError`] when the database gives no answer in time.
    pub async fn create(&self, name: String, damage: i64) -> Result<Spell, StoreError> {
        let Self { store, cache, .. } = self.clone();
        self.run(async move {
            let created = store.create(&name, damage).await;
            match &created {
                Ok(spell) => forget(&cache, spell.id).await,
                // It may be in the lists all the same.
                Err(_) => forget_lists(&cache).await,
            }
            created
        })
        .await
    }

    /// Changes a spell's damage; `None` if there is none of this id.
    ///
    /// # Errors
    /// [`StoreError`] when the database gives no answer in time.
    pub async fn update(&self, id: i64, damage: i64) -> Result<Option<Spell>, StoreError> {
        let Self { store, cache, .. } = self.clone();
        self.run(async move {
            let changed = store.update(id, damage).await;
            // After an error too: nobody knows what became of the change.
            forget(&cache, id).await;
            changed
        })
        .await
    }

    /// Removes a spell; `false` if there was none of this id.
    ///
    /// # Errors
    /// [`StoreError`] when the database gives no answer in time.
    pub async fn delete(&self, id: i64) -> Result<bool, StoreError> {
        let Self { store, cache, .. } = self.clone();
        self.run(async move {
            let removed = store.delete(id).await;
            forget(&cache, id).await;
            removed
        })
        .await
    }

    /// Waits for the changes under way, for a while.
    pub async fn finish(&self) {
        self.tasks.close();
        if timeout(ANSWER_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("leaving changes behind that the database has not answered");
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        match timeout(ANSWER_WITHIN, self.tasks.spawn(change)).await {
            Ok(Ok(changed)) => changed,
            // The task panicked, or the runtime is ending.
            Ok(Err(_)) => Err(StoreError::Failed(sqlx::Error::WorkerCrashed)),
            Err(_) => Err(StoreError::Late(ANSWER_WITHIN)),
        }
    }
}

/// Drops the spell and every list, for it may stand in any of them.
async fn forget(cache: &Tiered, id: i64) {
    let spell = async { tell(cache.invalidate(Key::entity::<Spell>(&id)).await) };
    tokio::join!(spell, forget_lists(cache));
}

async fn forget_lists(cache: &Tiered) {
    if cache.can_invalidate_prefix() {
        tell(cache.invalidate_prefix(List::keys()).await.map(|cleared| cleared.ack));
    }
}

fn tell(ack: Result<Ack, tiered::Error>) {
    match ack {
        Ok(Ack::Done | Ack::Superseded) => {}
        // This process holds to it at once; the others as soon as Redis answers again.
        Ok(Ack::Pending) => tracing::info!("an invalidation waits for the cache server"),
        Err(error) => tracing::error!(%error, "an invalidation failed"),
    }
}
