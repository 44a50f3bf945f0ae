//! Entries that were written once, and are read by every version to come: `tests/golden` at the
//! root of the repository, with an index that says what each of them is.

#![cfg(all(
    feature = "postcard",
    feature = "messagepack",
    feature = "json",
    feature = "zstd",
    feature = "seal"
))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "golden/entries.rs"]
mod entries;
#[path = "golden/flips.rs"]
mod flips;
#[path = "golden/index.rs"]
mod index;
#[path = "golden/mutations.rs"]
mod mutations;
#[path = "golden/order.rs"]
mod order;
mod support;
