//! What every codec must do, whatever values and bytes it is given; run by each codec, and by each
//! packing around it.

#![cfg(all(
    feature = "postcard",
    feature = "messagepack",
    feature = "json",
    feature = "zstd",
    feature = "seal"
))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "codecs/awkward.rs"]
mod awkward;
#[path = "codecs/conformance.rs"]
mod conformance;
#[path = "codecs/deep.rs"]
mod deep;
#[path = "codecs/depth.rs"]
mod depth;
#[path = "codecs/floats.rs"]
mod floats;
#[path = "codecs/parts.rs"]
mod parts;
#[path = "codecs/proof.rs"]
mod proof;
#[path = "codecs/refused.rs"]
mod refused;
#[path = "codecs/round_trips.rs"]
mod round_trips;
#[path = "codecs/stack.rs"]
mod stack;
mod support;
#[path = "codecs/symptoms.rs"]
mod symptoms;
