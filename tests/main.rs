//! Scenarios: what the engine promises, seen from outside. A file per fear.
//!
//! | file | what is feared |
//! |---|---|
//! | `api` | it does not fit: not `Send`, not nameable, compiles what it must not |
//! | `reads` | a read ends in the wrong place, or is counted wrongly |
//! | `strategies` | a cell of the strategy table does not hold, with Redis alive, dead or frozen |
//! | `flights` | a stampede; a caller that goes away or a loader that panics takes others along |
//! | `batches` | many keys in one call: one of them fails, hangs or mixes up the others |
//! | `behind` | a value on its way to the database is lost unseen, overtaken, or hidden by the old one |
//! | `fence` | a value that comes back after it was invalidated |
//! | `prefixes` | an invalidation by prefix leaves some, takes too many, or a value comes back |
//! | `tags` | an invalidation of a tag misses an entry, or a load of before it is served |
//! | `pending` | an invalidation is lost while the server is away |
//! | `untold` | what the server has done is done again and again, for the bus is not there to tell of it |
//! | `disorder` | after many writes of every kind, while the server and the bus fail now and then, somebody is left with an old value |
//! | `restarts` | a server that comes back with old data, or is replaced by one that lacks the last writes |
//! | `runs` | what an earlier run of the server has left is believed, or what this one has is not |
//! | `lifetimes` | entries that live too long, too short, or all expire at once |
//! | `drift` | another version's, another type's or a damaged entry is believed |
//! | `codecs` | a codec cannot be changed over a warm cache; a hostile server is believed |
//! | `deployments` | two versions of one program fight over the cache |
//! | `writers` | while or after the source is written, somebody keeps what it was before; a writer that dies leaves it |
//! | `dying_writers` | the same, with processes that are killed and stopped |
//! | `write_through` | what is stored with the write is older than the source |
//! | `source_versions` | an older version of a value replaces a newer one |
//! | `outage` | a dead or hung server hangs or fails the application |
//! | `links` | a bad network gives a wrong value, a call that hangs, or a cache that stays down |
//! | `cancelled` | a call that is dropped midway leaves a change half done |
//! | `interrupted` | a `set` that is dropped midway over a real server leaves an old value, or somebody waiting |
//! | `chain` | two servers in a row: a copy in the near one outlives its original, or hides it |
//! | `keys` | a key is read back by another one, or is a command to the server |
//! | `entities` | hooks in the wrong order, a repository that cannot be spawned |
//! | `readme` | what the README shows does not compile or work |
//! | `hot_key` | many processes and one key: more than one load for an expiry |
//! | `leases` | processes load the same key, or wait for one that will never be done |
//! | `renewals` | a lease that cannot be renewed fails its load, or is asked for without end |
//! | `metrics` | a dashboard that shows something else than what happened |
//! | `versions` | one version's entry hides another of its own; a type that does not read what it writes |
//! | `slots` | what lies in one of a key's two slots hides or outlives what lies in the other |
//! | `symptoms` | a bug that was mended comes back |
//! | `generations` | the records of tags are lost, forged or out of reach, and an old entry is believed, or none is kept any more |
//! | `tag_races` | what was loaded or set before its tag was invalidated is served after it, whichever way it went |
//! | `bus` | a change in one process does not reach another's L1; the bus fails the application |
//! | `staleness` | L1 serves a value for longer than Δ after it was invalidated, whatever the bus does |
//! | `model` | anything that a plain map would not do |
//!
//! Beside them: `tests/allocations.rs` (a hit allocates nothing), `tests/ui/` (what must not
//! compile), `tests/shuttle/` (schedules of the flight, the fence and more) and `tests/models/`
//! (the coherence protocol, in every order of its steps).
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "tests own their runtimes, and fail by panicking"
)]

/// Each of a file's scenarios as two tests: on a runtime of one thread, and of several. One that is
/// not listed is dead code, which does not compile.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        mod one_thread {
            $(#[tokio::test] async fn $name() { super::$name().await })+
        }
        mod many_threads {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name().await })+
        }
    };
}

mod support;

mod api;
mod batches;
mod behind;
mod bus;
mod cancelled;
mod chain;
mod codecs;
mod deployments;
mod disorder;
mod drift;
mod dying_writers;
mod entities;
mod fence;
mod flights;
mod generations;
mod hot_key;
mod interrupted;
mod keys;
mod leases;
mod lifetimes;
mod links;
mod metrics;
mod model;
mod outage;
mod pending;
mod prefixes;
mod readme;
mod reads;
mod renewals;
mod restarts;
mod runs;
mod slots;
mod source_versions;
mod staleness;
mod strategies;
mod symptoms;
mod tag_races;
mod tags;
mod untold;
mod versions;
mod write_through;
mod writers;
