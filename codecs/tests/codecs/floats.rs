//! Floats come back to the last bit, JSON's too, which go through decimal digits.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tiered_codecs::{DecodeError, Packing};

use crate::support::{decode, encode, every_codec};

every_codec! {
    every_kind_of_f32_comes_back
    every_kind_of_f64_comes_back
    any_finite_f32_comes_back
    any_finite_f64_comes_back
    floats_that_are_read_through_a_buffer_come_back
}

/// Through a flattened struct and an untagged enum serde buffers what it read, before it knows the
/// width.
#[derive(Debug, Serialize, Deserialize)]
struct Outer {
    #[serde(flatten)]
    inner: Inner,
    either: Either,
}

#[derive(Debug, Serialize, Deserialize)]
struct Inner {
    narrow: f32,
    wide: f64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Narrow { narrow: f32 },
}

#[track_caller]
fn narrow_back(packing: &impl Packing, value: f32) {
    let back: f32 = decode(packing, &encode(packing, &value).unwrap()).unwrap();
    assert_eq!(back.to_bits(), value.to_bits(), "{value:e}");
}

#[track_caller]
fn wide_back(packing: &impl Packing, value: f64) {
    let back: f64 = decode(packing, &encode(packing, &value).unwrap()).unwrap();
    assert_eq!(back.to_bits(), value.to_bits(), "{value:e}");
}

/// Bit patterns around which rounding goes wrong if it does.
fn every_kind_of_f32_comes_back(packing: &impl Packing) {
    for exponent in 0..255_u32 {
        for mantissa in [0, 1, 2, 0x40_0000, 0x55_5555, 0x7f_fffe, 0x7f_ffff] {
            let bits = exponent << 23 | mantissa;
            narrow_back(packing, f32::from_bits(bits));
            narrow_back(packing, f32::from_bits(bits | 1 << 31));
        }
    }
    narrow_back(packing, 7.038_531e-26);
}

fn every_kind_of_f64_comes_back(packing: &impl Packing) {
    for exponent in 0..2047_u64 {
        for mantissa in [0, 1, 1 << 51, 0x5_5555_5555_5555, (1 << 52) - 1] {
            let bits = exponent << 52 | mantissa;
            wide_back(packing, f64::from_bits(bits));
            wide_back(packing, f64::from_bits(bits | 1 << 63));
        }
    }
}

fn any_finite_f32_comes_back(packing: &impl Packing) {
    proptest!(ProptestConfig::with_cases(20_000), |(bits: u32)| {
        let value = f32::from_bits(bits);
        prop_assume!(value.is_finite());
        narrow_back(packing, value);
    });
}

fn any_finite_f64_comes_back(packing: &impl Packing) {
    proptest!(ProptestConfig::with_cases(20_000), |(bits: u64)| {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        wide_back(packing, value);
    });
}

fn floats_that_are_read_through_a_buffer_come_back(packing: &impl Packing) {
    let back = |narrow: f32, wide: f64| {
        let value = Outer { inner: Inner { narrow, wide }, either: Either::Narrow { narrow } };
        // Postcard refuses what has no known length.
        let Ok(bytes) = encode(packing, &value) else { return Ok(None) };
        let Outer { inner, either: Either::Narrow { narrow } } = decode(packing, &bytes)?;
        Ok::<_, DecodeError>(Some((inner.narrow.to_bits(), inner.wide.to_bits(), narrow.to_bits())))
    };
    // The decimal digits of this one, read as an f64 first, are another f32.
    let told: f32 = 7.038_531e-26;
    let bits = Some((told.to_bits(), 0.1_f64.to_bits(), told.to_bits()));
    assert!([Ok(None), Ok(bits)].contains(&back(told, 0.1)), "{:?}", back(told, 0.1));
    proptest!(ProptestConfig::with_cases(5_000), |(narrow: u32, wide: u64)| {
        let (narrow, wide) = (f32::from_bits(narrow), f64::from_bits(wide));
        prop_assume!(narrow.is_finite() && wide.is_finite());
        let bits = Some((narrow.to_bits(), wide.to_bits(), narrow.to_bits()));
        prop_assert!([Ok(None), Ok(bits)].contains(&back(narrow, wide)));
    });
}
