//! What a tier must do, as tests that any tier can run: ours do, and so can yours.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "that is how a test fails"
)]

mod batches;
mod bus;
mod bus_waits;
mod holds;
mod local;
mod remote;

pub use self::{bus::bus_conforms, local::local_tier_conforms, remote::remote_tier_conforms};
