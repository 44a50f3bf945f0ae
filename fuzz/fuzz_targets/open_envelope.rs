//! Opening an envelope: any bytes are safe, and sealed ones are opened as what they are or not at
//! all.
//!
//! Run with `cargo fuzz run open_envelope`.

#![no_main]

use std::convert::Infallible;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tiered_codecs::{
    CodecId, Shape,
    envelope::{Header, Opened, open, seal},
};

/// Longer than anything the fuzzer makes.
const LIMIT: usize = 1 << 20;

/// What is opened, and what is done to it before.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    key: &'a [u8],
    other_key: &'a [u8],
    payload: &'a [u8],
    codec: u8,
    negative: bool,
    schema: u32,
    shape: u64,
    lifetimes: (u64, u64),
    versions: (u64, u64),
    flips: Vec<u16>,
    raw: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    if let Ok(opened) = open(input.raw, input.key, LIMIT) {
        assert!(input.raw.ends_with(opened.payload));
    }

    let header = Header {
        codec: CodecId(input.codec),
        negative: input.negative,
        schema: input.schema,
        shape: Shape::from_value(input.shape),
        fresh_ms: input.lifetimes.0,
        stale_ms: input.lifetimes.1,
        incarnation: input.versions.0,
        source_version: input.versions.1,
    };
    let payload = if input.negative { &[] } else { input.payload };
    let Ok(sealed) = seal(&header, input.key, |out| {
        out.extend_from_slice(payload);
        Ok::<_, Infallible>(())
    });
    let longest = (1 << 48) - 1;
    let header = Header {
        fresh_ms: header.fresh_ms.min(longest),
        stale_ms: header.stale_ms.min(longest),
        ..header
    };
    assert_eq!(open(&sealed, input.key, LIMIT), Ok(Opened { header, payload }));

    if input.other_key != input.key {
        assert!(open(&sealed, input.other_key, LIMIT).is_err());
    }

    let mut mutated = sealed.clone();
    for flip in &input.flips {
        let bit = usize::from(*flip) % (mutated.len() * 8);
        mutated[bit / 8] ^= 1 << (bit % 8);
    }
    if mutated != sealed {
        assert!(open(&mutated, input.key, LIMIT).is_err());
    }
});
