//! The envelope: whole, of its key and of its reader, or refused for the right reason.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "envelope/damage.rs"]
mod damage;
#[path = "envelope/extensions.rs"]
mod extensions;
#[path = "envelope/fields.rs"]
mod fields;
#[path = "envelope/layout.rs"]
mod layout;
#[path = "envelope/refusals.rs"]
mod refusals;

use tiered_codecs::{
    CodecId, Shape,
    envelope::{Extensions, Header, Meta, SealNote, begin, finish},
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const KEY: &[u8] = b"shop:user:1";

/// Bits of the flags.
const NEGATIVE: u16 = 1;
const COMPRESSED: u16 = 2;
const SEALED: u16 = 4;

/// A header in which no two bytes are alike by chance.
fn header() -> Header {
    Header {
        codec: CodecId(1),
        negative: false,
        compressed: false,
        sealed: false,
        shape: Shape::from_value(0x0102_0304_0506_0708),
        meta: Meta {
            schema: 7,
            fresh_ms: 300_000,
            stale_ms: 3_600_000,
            stored_ms: 0x3132_3334_3536,
            incarnation: 0x1112_1314_1516_1718,
            source_version: 0x2122_2324_2526_2728,
        },
    }
}

/// A note of a seal in which no two bytes are alike.
fn seal_note() -> SealNote {
    SealNote { key_id: 0x4142_4344, nonce: std::array::from_fn(|at| 0x50 + at as u8) }
}

/// An entry of `payload`.
fn entry_of(header: &Header, extensions: &Extensions, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = begin(payload.len());
    bytes.extend_from_slice(payload);
    finish(&mut bytes, header, extensions, key);
    bytes
}

/// An entry of `payload` without extensions.
fn entry(header: &Header, payload: &[u8]) -> Vec<u8> {
    entry_of(header, &Extensions::default(), KEY, payload)
}

/// An entry of the payload `payload` with other bytes at `at`, under a checksum that is right again.
fn altered(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut entry = entry(&header(), b"payload");
    entry[at..at + bytes.len()].copy_from_slice(bytes);
    sum(entry)
}

/// An entry of `payload` with these flags and these bytes behind the payload, whatever they say.
fn with_tail(flags: u16, payload: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut entry = entry(&header(), payload);
    entry[14..16].copy_from_slice(&flags.to_le_bytes());
    entry.extend_from_slice(tail);
    sum(entry)
}

/// Puts the right checksum before an entry.
fn sum(mut entry: Vec<u8>) -> Vec<u8> {
    let sum = xxh3_64_with_seed(&entry[8..], xxh3_64(KEY));
    entry[..8].copy_from_slice(&sum.to_le_bytes());
    entry
}
