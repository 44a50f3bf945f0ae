//! Randomized schedules over the shipped `flight.rs`, `fence.rs`, `bus/view.rs` and `tags/table.rs`.
//!
//! The build script copies the files out of the cache's own `src`, takes off their module head,
//! and each copy is included in a module here. They say `use crate::sync::…`, which is `sync` in
//! this crate: shuttle's locks. So what is tested is what ships, to the letter, and nothing in the
//! cache has to be public or conditional for it. A feature of the cache that swaps its locks would
//! do as well, but would put test code in the crate that everybody builds.
//!
//! From the same text the build script makes *mutants*, each with one fault. The scenarios are
//! generic over the copy they run on: all must hold for the shipped one, and for each mutant one
//! must fail, or it would not test what it says.
//!
//! # Running
//!
//! `cargo test --release -p tiered-shuttle` tries 10,000 schedules of each scenario, other ones each
//! time; `TIERED_SHUTTLE_SCHEDULES` sets another number. A lost wakeup shows as `deadlock!` with the
//! tasks that sleep for ever.
//!
//! # Running a failure again
//!
//! A failure prints its seed and its schedule. Either brings it back, with the test's name:
//!
//! ```text
//! SHUTTLE_RANDOM_SEED=<seed> cargo test --release -p tiered-shuttle --test shipped <name>
//! TIERED_SHUTTLE_REPLAY=<schedule> cargo test --release -p tiered-shuttle --test shipped <name>
//! ```
//!
//! The seed works for schedules of [`Search::Random`], the schedule works for all.

pub mod fence;
pub mod flight;
mod hunt;
mod sync;
pub mod table;
pub mod view;

pub use hunt::{Catch, Scenario, Search, Subject, THREAD, hunt, schedules};
