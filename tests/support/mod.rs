//! What the scenarios share: a remote tier that can be broken, and caches over it.

mod log;
mod net;
mod switchable;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tiered::{
    Builder, Jitter, Postcard, Tiered,
    tiers::{Clock, Memory, Moka},
};

pub use self::log::Log;
pub use self::net::{Net, has_heard, in_l1, listens, proven, reproven};
pub use self::switchable::{State, Switchable};

pub const SECOND: Duration = Duration::from_secs(1);

/// A cache with everything that a scenario moves by hand.
pub struct Rig {
    pub cache: Tiered,
    pub l2: Switchable,
    pub memory: Memory,
    pub clock: Clock,
}

/// A cache over moka and a switchable embedded L2, on a clock that stands still, without jitter.
pub fn rig() -> Rig {
    rig_with(|builder| builder)
}

pub fn rig_with(configure: impl FnOnce(Builder<Postcard>) -> Builder<Postcard>) -> Rig {
    let clock = Clock::manual();
    let memory = Memory::new().clock(clock.clone());
    let l2 = Switchable::new(memory.clone());
    let cache = node(&l2, &clock, configure);
    Rig { cache, l2, memory, clock }
}

/// Another process, so to say: a cache of its own over the same L2.
pub fn node(
    l2: &Switchable,
    clock: &Clock,
    configure: impl FnOnce(Builder<Postcard>) -> Builder<Postcard>,
) -> Tiered {
    let builder = Tiered::new(Moka::new(10_000), l2.clone())
        .clock(clock.clone())
        .jitter(Jitter::none())
        .fresh_for(60 * SECOND);
    configure(builder).build().unwrap()
}

/// A database of one number that counts how often it was asked.
#[derive(Clone, Debug, Default)]
pub struct Source {
    value: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Source {
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn put(&self, value: usize) {
        self.value.store(value, Ordering::SeqCst);
    }

    pub async fn load(&self) -> Result<usize, std::io::Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.value.load(Ordering::SeqCst))
    }
}

/// The error of a database that is down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database is down")]
pub struct DbDown;

/// Loads from a database that is down.
pub async fn db_down<T>() -> Result<T, DbDown> {
    Err(DbDown)
}

/// Waits, by yielding, until `condition` holds; panics after a generous while.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "never happened: {what}");
        // A real wait: other tasks of real runtimes and servers must get on.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
