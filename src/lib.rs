//! A tiered cache for services: values live decoded in this process (L1), as checked bytes on a
//! cache server (L2), and come from the database when neither has them. Nothing that goes wrong in
//! a cache goes wrong for the caller.
//!
//! ```
//! # #[derive(Clone, serde::Serialize, serde::Deserialize)] struct User { name: String }
//! # struct Db; impl Db { async fn user(&self, _: u64) -> Result<User, std::io::Error> { Ok(User { name: "Ada".into() }) } }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tiered::Error> {
//! # let db = Db;
//! use std::time::Duration;
//! use tiered::{Postcard, Tiered, tiers::{Memory, Quick}};
//!
//! let cache = Tiered::new(Quick::new(100_000), Memory::new()) // or Redis::new("redis://127.0.0.1/")?
//!     .codec(Postcard)
//!     .namespace("shop")
//!     .fresh_for(Duration::from_secs(300))
//!     .stale_for(Duration::from_secs(3_600))
//!     .build()?;
//!
//! let user = cache.get_or_load("user:1", || async { db.user(1).await }).await?; // Arc<User>
//! # assert_eq!(user.name, "Ada");
//! # Ok(()) }
//! ```
//!
//! # The map
//!
//! | to | see |
//! |---|---|
//! | put a cache together | [`Tiered::new`], [`Tiered::local`], [`Tiered::remote`], [`Builder`] |
//! | choose tiers, or write one | [`tiers`] |
//! | choose a codec, or write one | [`codecs`] |
//! | read, write, invalidate | [`Tiered`] |
//! | do so with options | [`Tiered::key`], [`Request`] |
//! | do so with many keys at once | [`Tiered::keys`], [`Tiered::get_or_load_many`] |
//! | write the database and the cache together | [`Tiered::invalidate_after`], [`Request::write_through`], [`Request::source_version`] |
//! | choose a strategy | [`CacheStrategy`] |
//! | cache entities out of repositories | [`CacheEntity`], [`DataRepository`], [`CacheFeed`], [`Tiered::execute`] |
//! | name a list, a version, a prefix | [`Key`], [`Key::list`], [`Tiered::invalidate_prefix`] |
//! | know how a read ended | [`Outcome`], [`Answer`] |
//! | choose what a restart of the server leaves | [`Builder::restarts`], [`Restarts`] |
//! | write to the database a moment later, in batches | [`Tiered::write_behind`], [`WriteBehind`] |
//! | see how it fares | [`Tiered::stats`], [`Tiered::health`] |
//!
//! In the source, a read goes `request` → `walk` (who leads, who waits) → `fill` (the steps) →
//! `session` (L2 in one walk) → `read` (what the tiers have); one of many keys goes `batch` → `many`, which takes the
//! same steps for all of them; a write goes `request` → `write`. Decisions are pure and stand in
//! `strategy`, `freshness` and `restarts`; mechanisms are `flight`, `fence`, `versions`, `pending` and `l2`.

mod batch;
mod behind;
mod builder;
mod bus;
mod cache;
mod entities;
mod entity;
mod entry;
mod error;
mod fence;
mod fill;
mod flight;
mod freshness;
mod health;
mod key;
mod l2;
mod load;
mod many;
mod meter;
mod outcome;
mod pending;
mod prefix;
mod probe;
mod read;
mod replay;
mod request;
mod restarts;
mod session;
mod stack;
mod stats;
mod strategy;
mod sync;
mod tags;
pub mod ttl;
mod versions;
mod walk;
mod write;
mod writers;

pub use tiered_codecs as codecs;
#[cfg(feature = "json")]
pub use tiered_codecs::Json;
#[cfg(feature = "messagepack")]
pub use tiered_codecs::MessagePack;
pub use tiered_codecs::OldValue;
#[cfg(feature = "postcard")]
pub use tiered_codecs::Postcard;
#[cfg(feature = "zstd")]
pub use tiered_codecs::Zstd;
#[cfg(feature = "seal")]
pub use tiered_codecs::{SealKey, Sealed};
pub use tiered_tiers as tiers;

pub use self::{
    behind::{
        BehindStats, Failed, Flushed, Loss, LossReason, SinkError, WriteBehind, WriteBehindBuilder,
        WriteSink,
    },
    builder::Builder,
    cache::Tiered,
    entity::{CacheEntity, CacheFeed, DataRepository, Invalid, Repository},
    error::{Error, LoadAborted, LoadError, LoaderPanicked},
    health::{BusHealth, Health, TierHealth},
    key::{Key, ListKey, MAX_KEY_LEN},
    outcome::{Ack, Answer, Cleared, Outcome},
    request::{LoadContext, Request},
    restarts::Restarts,
    stats::Stats,
    strategy::CacheStrategy,
    ttl::Jitter,
    writers::Written,
};

/// The codec of caches that name none.
#[cfg(feature = "postcard")]
pub type DefaultCodec = Postcard;
/// The codec of caches that name none: without the feature `postcard` a cache with an L2 must name
/// one.
#[cfg(not(feature = "postcard"))]
pub type DefaultCodec = codecs::NoCodec;
