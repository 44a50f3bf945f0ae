//! Writes `seeds/`: small inputs that each take a target somewhere.
//!
//! Run with `cargo run --no-default-features --example seeds`. Old files are left where they are:
//! empty the folder first if they should go. What is made at random is made from fixed numbers, so that
//! the same files come out.

use std::{fs, io, path::Path};

use arbitrary::Unstructured;
use tiered_codecs::{Codec, Json, MessagePack, Postcard};
use tiered_fuzz::{
    TARGETS,
    awkward::{self, Awkward, TYPES},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many inputs are made at random for each target.
const MANY: u64 = 12;
/// How many values are made of each type for each codec.
const VALUES: u64 = 2;
/// Longer inputs are not checked in.
const LONGEST: usize = 4000;

fn main() -> io::Result<()> {
    for (target, _) in TARGETS {
        fs::create_dir_all(folder(target))?;
        for number in 0..MANY {
            // Short ones and long ones.
            let len = 8 << (number % 6);
            write(target, &format!("random_{number}"), &noise(number, len))?;
        }
    }
    for which in 0..TYPES {
        for number in 0..VALUES {
            encoded(&Postcard, "decode_postcard", which, number)?;
            encoded(&MessagePack, "decode_messagepack", which, number)?;
            encoded(&Json, "decode_json", which, number)?;
        }
        // Each type by one packing; the fuzzer finds the others.
        let chosen = [&[which, which][..], &noise(u64::from(which), 160)].concat();
        write("round_trip", &format!("type_{which}"), &chosen)?;
    }
    for number in 0..6 {
        let chosen = [&[255, number][..], &noise(u64::from(number), 24)].concat();
        write("round_trip", &format!("lopsided_{number}"), &chosen)?;
    }
    by_hand()
}

/// Seeds that say what they are.
fn by_hand() -> io::Result<()> {
    // Lists of units that announce more than anybody may have.
    write("decode_postcard", "many_units", b"\x05\xff\xff\xff\xff\x0f")?;
    write("decode_messagepack", "many_units", b"\x05\x86\xa4list\xdd\xff\xff\xff\xff\xc0")?;
    // Nesting without end.
    write("decode_postcard", "deep", &[&[10][..], &[1; 600]].concat())?;
    write("decode_messagepack", "deep", &[&[11][..], &[0x91; 600]].concat())?;
    write("decode_json", "deep", &[&[11][..], &[b'['; 600]].concat())?;
    // The one float of 32 bits whose text, read as one of 64, rounds to another.
    let float = br#"{"type":"Struct","x":7.038531e-26,"y":["a",null]}"#;
    write("decode_json", "double_rounding", &[&[13][..], float].concat())?;
    let free = br#"{"a":[null,true,-0,1e99,18446744073709551615,"\ud83d\ude00",{}]}"#;
    write("decode_json", "free_form", &[&[11][..], free].concat())?;
    for (name, frame) in [
        ("empty_frame", &b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00"[..]),
        ("raw_block", b"\x28\xb5\x2f\xfd\x20\x04\x21\x00\x00\x03abc"),
        ("run_block", b"\x28\xb5\x2f\xfd\x60\x00\x0e\x03\x78\x00\x00"),
        (
            "skippable",
            b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip\x28\xb5\x2f\xfd\x20\x01\x09\x00\x00\x00",
        ),
        (
            "two_frames",
            b"\x28\xb5\x2f\xfd\x20\x01\x09\x00\x00\x00\x28\xb5\x2f\xfd\x20\x01\x09\x00\x00\x00",
        ),
        ("huge_claim", b"\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x00\x00"),
        ("no_length", b"\x28\xb5\x2f\xfd\x00\x58\x19\x00\x00abc"),
    ] {
        // Lists take their lengths from the end; without one the list is empty and the rest a frame.
        write("decode_zstd", name, &[b"\x00\x00\x00\x00", frame].concat())?;
    }
    Ok(())
}

/// A value's bytes by one codec, behind the number of its type.
fn encoded<C: Codec>(codec: &C, target: &str, which: u8, number: u64) -> io::Result<()> {
    let mut bytes = vec![which];
    let is_encoded = awkward::each(which, Encoder { codec, bytes: &mut bytes, number });
    if is_encoded && bytes.len() < LONGEST {
        write(target, &format!("type_{which}_{number}"), &bytes)?;
    }
    Ok(())
}

/// Encodes a value of the type it is called with.
struct Encoder<'a, C> {
    codec: &'a C,
    bytes: &'a mut Vec<u8>,
    number: u64,
}

impl<C: Codec> awkward::Visit for Encoder<'_, C> {
    fn visit<T: Awkward>(self) -> bool {
        let noise = noise(self.number, 64 + 96 * usize::try_from(self.number).unwrap_or_default());
        let value = Unstructured::new(&noise).arbitrary::<T>();
        value.is_ok_and(|value| Codec::encode(self.codec, &value, self.bytes).is_ok())
    }
}

/// Bytes that look random and are the same every time; small numbers are frequent.
fn noise(number: u64, len: usize) -> Vec<u8> {
    let words = (0_u64..).map(|at| xxh3_64_with_seed(&at.to_le_bytes(), number));
    words
        .map(|word| {
            if word % 3 == 0 {
                0
            } else if word % 3 == 1 {
                (word >> 8) as u8 % 8
            } else {
                (word >> 8) as u8
            }
        })
        .take(len)
        .collect()
}

fn folder(target: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target)
}

fn write(target: &str, name: &str, data: &[u8]) -> io::Result<()> {
    fs::write(folder(target).join(name), data)
}
