//! Spellbook under test: the real program against real servers, which each test starts on free
//! ports and ends by itself. A server that is not installed is a failure that says how to install
//! it.
//!
//! | file | question |
//! |---|---|
//! | `lifecycle` | does a spell live and die as the README says, on both databases? |
//! | `input` | is every mistake of a client answered with a reason in JSON? |
//! | `lists` | is a list what the database has, however it was cached? |
//! | `order` | do changes hold whatever order they are answered in, and whoever goes away? |
//! | `redis` | does it serve, correctly and in time, whatever happens to Redis? |
//! | `places` | does it find Redis in a cluster, behind sentinels, over TLS? |
//! | `memcached` | does it do the same over memcached? |
//! | `database` | and what when the database is stopped, or frozen, or both are? |
//! | `process` | start, restart, two processes, settings, shutdown |
//! | `seen` | metrics, health and the log |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, helpers outside of test functions too"
)]
#![allow(clippy::disallowed_methods, reason = "each test has a runtime, which the macro makes")]

mod database;
mod input;
mod lifecycle;
mod lists;
mod memcached;
mod order;
mod places;
mod process;
mod redis;
mod seen;
mod support;
