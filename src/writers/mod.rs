//! Writing the source: the cache is told before and after, and nobody stores in between.
//!
//! 1. *Before*: the entry is dropped everywhere, and the key is *held*: on the server, where no lease is granted
//!    while a hold stands, and in this process, where nothing is put into L1.
//! 2. *The write*, and the hold is renewed meanwhile.
//! 3. *After*: the entry is dropped again, the others are told, and the hold ends, in this order and on the server in one
//!    step.
//!
//! A writer that dies after its commit leaves nothing: what was stored before was dropped in step 1, and what was
//! loaded since was not stored. Its hold runs out by the server's clock. All of this rests on one assumption: *the commit
//! lands while the hold stands*.
//!
//! Rejected: deleting twice. The second delete is the one that a dead writer does not do, and between the two anybody
//! may load the old value and keep it.

mod local;
pub(crate) mod through;
mod turns;
pub(crate) mod versioned;
mod writing;

pub(crate) use self::{
    local::LocalHolds,
    turns::Turns,
    writing::{Writing, invalidate_after},
};
use crate::Ack;

/// What came of a write of the source: what it returned, and what the cache made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written<R> {
    /// What the write returned.
    pub value: R,
    /// Whether the cache's part of it is final; of several keys, whether it is for all of them.
    pub ack: Ack,
}
