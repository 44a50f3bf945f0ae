//! The bodies of the fuzz targets.
//!
//! A target is a function of bytes that panics when something does not hold. It is apart from the
//! program that feeds it, so that the same body runs under libFuzzer (`fuzz_targets/`) and, over the
//! files that are checked in, as an ordinary test on stable Rust (`tests/replay.rs`). Rejected:
//! property tests of the same properties. They try thousands of inputs made by recipe; a fuzzer tries
//! millions, and follows the code that they reach.
//!
//! What the targets stand on: [`awkward`] types, [`packings`] of every kind, [`edits`] of bytes, and a
//! [`checksum`] made right again.

pub mod awkward;
pub mod checksum;
pub mod decode_json;
pub mod decode_messagepack;
pub mod decode_postcard;
pub mod decode_sealed;
pub mod decode_zstd;
pub mod decoding;
pub mod drift;
pub mod edits;
pub mod mutate;
pub mod open_envelope;
pub mod packings;
pub mod round_trip;
pub mod versions;

/// A target's name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 9] = [
    ("decode_json", decode_json::run),
    ("decode_messagepack", decode_messagepack::run),
    ("decode_postcard", decode_postcard::run),
    ("decode_sealed", decode_sealed::run),
    ("decode_zstd", decode_zstd::run),
    ("drift", drift::run),
    ("mutate", mutate::run),
    ("open_envelope", open_envelope::run),
    ("round_trip", round_trip::run),
];
