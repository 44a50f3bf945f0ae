//! The service's parts, put together. This is where the cache is built.

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tiered::{
    Postcard, Repository, Tiered,
    tiers::{Memory, Quick, RedisBus, RemoteTier},
};

use crate::{change::Changes, store::Store};

/// Spells that this process keeps decoded.
const LOCAL_ENTRIES: u64 = 10_000;

/// What handlers get. Clones are the same.
#[derive(Clone)]
pub struct App {
    /// The cache.
    pub cache: Tiered,
    /// Reads of one spell: the cache, else the database.
    pub spells: Repository<Store>,
    /// Writes.
    pub changes: Changes,
    /// The database, for what is not cached.
    pub store: Store,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("cache", &self.cache)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// A cache server, and how its processes hear of each other.
#[derive(Debug)]
pub struct Shared {
    /// The server.
    pub tier: Arc<dyn RemoteTier>,
    /// What brings changes from one process to the L1 of the others; memcached has none.
    pub bus: Option<RedisBus>,
}

/// The cache over a server, or with nothing to install over the embedded tier. Dials nothing: a dead
/// server keeps nobody from starting.
///
/// # Errors
/// [`tiered::Error::Config`] for settings that cannot work.
pub fn cache(shared: Option<Shared>) -> Result<Tiered, tiered::Error> {
    let Shared { tier, bus } =
        shared.unwrap_or_else(|| Shared { tier: Arc::new(Memory::new()), bus: None });
    let builder = Tiered::new(Quick::new(LOCAL_ENTRIES), tier);
    let builder = match bus {
        Some(bus) => builder.bus(bus),
        None => builder,
    };
    builder.codec(Postcard).namespace("spellbook").fresh_for(Duration::from_secs(60)).build()
}

impl App {
    /// Brings cache and database together.
    #[must_use]
    pub fn new(cache: Tiered, store: Store, metrics: PrometheusHandle) -> Self {
        Self {
            spells: cache.repository(Arc::new(store.clone())),
            changes: Changes::new(store.clone(), cache.clone()),
            cache,
            store,
            metrics,
        }
    }

    /// Ends what runs behind requests, front to back: changes, the cache, the database.
    pub async fn shutdown(&self) {
        self.changes.finish().await;
        self.cache.shutdown().await;
        self.store.close().await;
    }
}
