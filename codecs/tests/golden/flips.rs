//! Damage of golden entries: every single bit flipped, every length cut. None is read.

use tiered_codecs::{CodecFor, Packing, envelope::Refusal};

use super::{
    entries::reader,
    index::{self, Golden},
    order::Order,
};
use crate::support::sum;

/// Why the bytes are refused as an entry of the golden one's key.
fn refusal(reader: &impl Packing, golden: &Golden, bytes: &[u8]) -> Option<Refusal> {
    CodecFor::<Order>::unpack(reader, bytes, &golden.key, 1 << 20).err()
}

/// Every way to flip one bit.
fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit, flipped)
    })
}

#[test]
fn no_flipped_bit_is_read() {
    let reader = reader();
    let mut count = 0;
    for golden in index::all() {
        for (bit, flipped) in flips(&golden.bytes()) {
            let there = refusal(&reader, &golden, &flipped);
            assert_eq!(there, Some(Refusal::Checksum), "{}, bit {bit}", golden.name);
            count += 1;
        }
    }
    println!("{count} flips");
}

#[test]
fn no_cut_is_read() {
    let reader = reader();
    for golden in index::all() {
        let bytes = golden.bytes();
        for len in 0..bytes.len() {
            let reason = if len < 64 { Refusal::Truncated } else { Refusal::Checksum };
            let there = refusal(&reader, &golden, &bytes[..len]);
            assert_eq!(there, Some(reason), "{}, {len} bytes", golden.name);
            // Nor what is left when the beginning is gone.
            assert!(refusal(&reader, &golden, &bytes[bytes.len() - len..]).is_some());
        }
    }
}

#[test]
fn no_other_keys_entry_is_read() {
    let reader = reader();
    let all = index::all();
    for golden in &all {
        for other in all.iter().filter(|other| other.key != golden.key) {
            let there = refusal(&reader, golden, &other.bytes());
            assert_eq!(there, Some(Refusal::Checksum), "{} as {}", other.name, golden.name);
        }
    }
}

#[test]
fn a_flipped_bit_under_a_right_checksum_is_no_panic_and_no_sealed_entry() {
    let reader = reader();
    for golden in index::all() {
        for (bit, flipped) in flips(&golden.bytes()).skip(64) {
            let bytes = sum(flipped, &golden.key);
            let unpacked = CodecFor::<Order>::unpack(&reader, &bytes, &golden.key, 1 << 20);
            match unpacked {
                Ok(_) if golden.is("sealed") => panic!("{}, bit {bit} was read", golden.name),
                Ok(unpacked) => drop(CodecFor::<Order>::decode(&reader, &unpacked)),
                Err(_) => {}
            }
        }
    }
}
