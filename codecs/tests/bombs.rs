//! Bombs: few bytes that would be much work, or much memory. Each is refused within milliseconds,
//! and with little memory above the limit it meets. A binary of its own, for its allocator counts.

#![cfg(all(
    feature = "postcard",
    feature = "messagepack",
    feature = "json",
    feature = "zstd",
    feature = "seal"
))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "bombs/announced.rs"]
mod announced;
#[path = "bombs/frames.rs"]
mod frames;
#[path = "bombs/nested.rs"]
mod nested;
mod support;

use std::time::{Duration, Instant};

use serde::{Serialize, de::DeserializeOwned};
use tiered_codecs::{CodecFor, DecodeError, Packing, envelope};

/// The memory that a refusal may take above the limit, in bytes.
const ABOVE: u64 = 1 << 20;

/// How long a refusal may take: unoptimized code is given more.
const SOON: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 10 });

/// How often each is tried at most, until it is quick enough: other programs run beside it.
const TRIES: usize = 20;

/// Runs `refuse`, which must be quick and take no more than `limit` bytes and a little.
#[track_caller]
fn bounded<R>(what: &str, limit: usize, mut refuse: impl FnMut() -> R) -> R {
    let mut quickest = Duration::MAX;
    let mut most = 0;
    let mut last = None;
    for _ in 0..TRIES {
        let start = Instant::now();
        let measured = allocation_counter::measure(|| last = Some(refuse()));
        quickest = quickest.min(start.elapsed());
        most = most.max(measured.bytes_max);
        if quickest < SOON {
            break;
        }
    }
    println!("{what}: {quickest:?}, {} KiB", most >> 10);
    assert!(quickest < SOON, "{what} took {quickest:?}");
    assert!(most <= limit as u64 + ABOVE, "{what} took {most} bytes, of {limit}");
    last.unwrap()
}

/// Decodes a payload, which must be refused. The limit is its own length.
#[track_caller]
fn payload<T: DeserializeOwned>(packing: &impl Packing, what: &str, bytes: &[u8]) {
    payload_within::<T>(packing, what, bytes, bytes.len());
}

/// Decodes a payload, which must be refused.
#[track_caller]
fn payload_within<T: DeserializeOwned>(
    packing: &impl Packing,
    what: &str,
    bytes: &[u8],
    limit: usize,
) {
    let what = format!("{what}, codec {} as {}", packing.id().0, std::any::type_name::<T>());
    let there = bounded(&what, limit, || {
        Packing::decode::<T>(packing, packing.id(), bytes).map(drop).unwrap_err()
    });
    assert!(matches!(there, DecodeError::Payload(_)), "{what}: {there}");
}

/// An entry of a `T` with this for its payload, compressed as it says.
fn compressed<T>(packing: &impl Packing, frame: &[u8]) -> Vec<u8>
where
    T: Serialize + DeserializeOwned + 'static,
{
    let header = envelope::Header {
        codec: packing.id(),
        negative: false,
        compressed: true,
        sealed: false,
        shape: CodecFor::<T>::shape(packing),
        meta: support::meta(),
    };
    let mut bytes = envelope::begin(frame.len());
    bytes.extend_from_slice(frame);
    envelope::finish(&mut bytes, &header, &envelope::Extensions::default(), support::KEY);
    bytes
}

/// Reads an entry, which must be refused.
#[track_caller]
fn entry<T: support::Value>(
    packing: &impl Packing,
    what: &str,
    limit: usize,
    bytes: &[u8],
) -> DecodeError {
    bounded(what, limit, || support::read::<T>(packing, bytes).map(drop).unwrap_err())
}
