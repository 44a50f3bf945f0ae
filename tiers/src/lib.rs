//! Where entries of the tiered cache live.
//!
//! Three contracts and their implementations. A [`LocalTier`] (L1) holds live values in this process,
//! synchronously; a [`RemoteTier`] (L2) holds opaque bytes behind an `await`; a [`Bus`] carries
//! invalidations to the L1 of other processes. None knows the
//! engine or the codecs: a tier stores, forgets and fences, and never judges freshness.
//!
//! | tier | contract | feature |
//! |---|---|---|
//! | [`Moka`] | local | `moka` |
//! | [`DashMap`] | local | `dashmap` |
//! | [`Quick`] | local | `quick` |
//! | [`Memory`] | remote, embedded: no server | always |
//! | [`Redis`] | remote | `redis` |
//! | [`Memcached`] | remote | `memcached` |
//! | [`Chain`] | remote, two of them as one: `near.then(far)` | always |
//! | [`LocalBus`] | bus, in this process | always |
//! | [`RedisBus`] | bus, on Redis Streams | `redis` |
//!
//! A new tier is one file here that implements one of the contracts.
//!
//! Beside them a [`Journal`] keeps what a write-behind has not written yet: `RedisJournal` (feature `redis`).

#[cfg(any(feature = "dashmap", feature = "moka", feature = "quick"))]
mod bound;
mod bus;
mod chain;
mod clock;
#[cfg(feature = "dashmap")]
mod dashmap;
mod error;
mod journal;
mod local;
mod local_bus;
#[cfg(feature = "memcached")]
mod memcached;
mod memory;
#[cfg(feature = "moka")]
mod moka;
pub mod protocol;
#[cfg(feature = "quick")]
mod quick;
#[cfg(feature = "redis")]
mod redis;
mod remote;
#[cfg(any(feature = "memcached", feature = "redis"))]
mod runtimes;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "dashmap")]
pub use self::dashmap::DashMap;
#[cfg(feature = "memcached")]
pub use self::memcached::Memcached;
#[cfg(feature = "moka")]
pub use self::moka::Moka;
#[cfg(feature = "quick")]
pub use self::quick::Quick;
#[cfg(feature = "redis")]
pub use self::redis::{Redis, RedisBus, RedisJournal};
pub use self::{
    bus::{Bus, BusPolled, LogName},
    chain::Chain,
    clock::Clock,
    error::{ConfigError, TierError},
    journal::{Journal, JournalError, Logged, Record},
    local::{LocalEntry, LocalMeta, LocalTier, Value},
    local_bus::LocalBus,
    memory::Memory,
    protocol::HoldEnd,
    remote::{Abilities, Claim, Fill, Found, Incarnation, Lease, LeaseToken, Progress, RemoteTier},
};
