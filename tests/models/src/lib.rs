//! Models of the coherence protocol: every order of its steps, with crashes, restarts and lost messages.
//!
//! The server's and the follower's states are the shipped [`protocol`](tiered_tiers::protocol): what is checked
//! decides in production too. What a loader, a writer or a reader does between its messages is written down here, a
//! file per model. The search is exhaustive within its bounds, and breadth first where a fault is looked for, so that
//! what it shows is short.
//!
//! | model | what must hold |
//! |---|---|
//! | [`fill`] | nothing loaded before an acknowledged delete is believed after it |
//! | [`tags`] | nothing loaded before an acknowledged invalidation of its tag is believed after it |
//! | [`holds`] | what is believed is what the source has, whoever writes it meanwhile |
//! | [`bus`] | L1 serves nothing that was invalidated, and acknowledged, longer ago than Δ |
//!
//! A model that cannot fail proves nothing. So each says what it must have come across (a load that was overtaken,
//! an old value that came back), and each is run on *mutants*: the shipped text with one fault, made by the build
//! script, and actors with one fault. Each must be found.
//!
//! # How small a model is
//!
//! Clients of a kind are alike: a state keeps them sorted, so that two states that differ in who is who are one.
//! A token is random: a new one is the smallest number that nobody knows any more. A message that is lost, delayed or
//! executed while its answer is lost is one thing: its sender gives up, and it may be executed at any later time.
//! Crashing is giving up between two messages.
//!
//! # Running
//!
//! `cargo test -p tiered-models` searches small bounds and hunts all mutants. `scripts/models` searches larger ones, and
//! writes what it has seen into `docs/consistency.md`.
//!
//! Rejected: stateright's actors and their network. They have no clock, and every message would be two steps where
//! nobody can tell the difference from one.

mod answers;
pub mod bus;
pub mod fill;
mod follower;
pub mod holds;
mod hunt;
mod record;
mod tagging;
pub mod tags;

pub use hunt::{Catch, Figures, Mutant, exhaust};

/// As the copies name what is not in their file.
use tiered_tiers::{Claim, Incarnation};

/// A random token.
type Token = u8;
/// A moment.
type Tick = u8;
