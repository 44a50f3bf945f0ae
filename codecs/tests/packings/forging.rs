//! Forging: whoever can write to the server can make the checksum right. Nothing of a sealed entry
//! can be changed by them.

use std::ops::Range;

use tiered_codecs::{
    CodecFor, DecodeError, Json, Packing, SealKey, Sealed,
    envelope::{self, Meta, Refusal},
};

use super::{Order, order};
use crate::support::{
    KEY, Value, meta, pack, pack_none, read, seal_key, sealed, sealed_zstd, sum, zstd_sealed,
};

/// The reasons that may come before the seal is looked at.
const EARLIER: [Refusal; 5] =
    [Refusal::Foreign, Refusal::Format, Refusal::Flags, Refusal::Length, Refusal::Extension];

/// Why `packing` refuses `entry` under a right checksum.
#[track_caller]
fn refusal<T: Value>(packing: &impl Packing, entry: Vec<u8>, what: &str) -> Refusal {
    match read::<T>(packing, &sum(entry, KEY)) {
        Err(DecodeError::Refused(refusal)) => refusal,
        other => panic!("{what}: {other:?}"),
    }
}

/// The entry's payload.
fn payload(entry: &[u8]) -> Range<usize> {
    64..64 + envelope::open(entry, KEY, 1 << 20).unwrap().payload.len()
}

/// Has every bit of `bits` flipped, each on its own.
fn flips(entry: &[u8], bytes: Range<usize>) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (bytes.start * 8..bytes.end * 8).map(|bit| {
        let mut flipped = entry.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit, flipped)
    })
}

#[test]
fn no_bit_of_a_sealed_entry_can_be_flipped() {
    fn none<T: Value>(packing: &impl Packing, entry: &[u8]) {
        for (bit, flipped) in flips(entry, 8..entry.len()) {
            let refusal = refusal::<T>(packing, flipped, &format!("bit {bit}"));
            let known = refusal == Refusal::Sealed || EARLIER.contains(&refusal);
            assert!(known, "bit {bit}: {refusal:?}");
        }
    }
    none::<Order>(&sealed(), &pack(&sealed(), &order()));
    none::<Order>(&sealed_zstd(), &pack(&sealed_zstd(), &order()));
    none::<Order>(&zstd_sealed(), &pack(&zstd_sealed(), &order()));
    none::<Order>(&sealed(), &pack_none::<Order>(&sealed()));
    // Accepting what is not sealed accepts nothing that is sealed badly.
    let accepts = sealed().accept_unsealed();
    none::<Order>(&accepts, &pack(&sealed(), &order()));
    none::<()>(&sealed(), &pack(&sealed(), &()));
}

#[test]
fn each_field_of_the_header_is_sealed() {
    let entry = pack(&sealed(), &order());
    for (field, bytes) in [
        ("codec", 13..14),
        ("schema", 16..20),
        ("shape", 24..32),
        ("fresh", 32..37),
        ("stale", 37..42),
        ("stored", 42..48),
        ("incarnation", 48..56),
        ("source version", 56..64),
        ("payload and tag", payload(&entry)),
        ("key id and nonce", payload(&entry).end + 3..entry.len()),
    ] {
        for (bit, flipped) in flips(&entry, bytes) {
            let what = format!("{field}, bit {bit}");
            assert_eq!(refusal::<Order>(&sealed(), flipped, &what), Refusal::Sealed, "{what}");
        }
    }
}

#[test]
fn its_flags_are_sealed() {
    let flag = |entry: &[u8], bit: u8| {
        let mut flagged = entry.to_vec();
        flagged[14] ^= bit;
        flagged
    };
    let entry = pack(&sealed(), &order());
    let none = pack_none::<Order>(&sealed());
    let compressed = pack(&sealed_zstd(), &order());
    for (what, entry) in [
        ("a value made none", flag(&entry, 1)),
        ("none made a value", flag(&none, 1)),
        ("a value made compressed", flag(&entry, 2)),
        ("a compressed one made plain", flag(&compressed, 2)),
    ] {
        assert_eq!(refusal::<Order>(&sealed(), entry.clone(), what), Refusal::Sealed, "{what}");
        assert_eq!(refusal::<Order>(&sealed_zstd(), entry, what), Refusal::Sealed, "{what}");
    }
}

#[test]
fn its_extensions_are_sealed() {
    let entry = pack(&zstd_sealed(), &order());
    let end = payload(&entry).end;
    let (dictionary, seal) = entry[end..].split_at(11);
    assert_eq!((dictionary.len(), seal.len()), (11, 31));
    let with = |tail: &[&[u8]]| [&entry[..end], &tail.concat()].concat();
    for (what, tail) in [
        ("in another order", [seal, dictionary].concat()),
        ("without the dictionary", seal.to_vec()),
        ("with one more", [&[99, 0, 0][..], dictionary, seal].concat()),
        ("with one more at the end", [dictionary, seal, &[99, 1, 0, 0]].concat()),
        ("with one more between", [dictionary, &[99, 0, 0], seal].concat()),
    ] {
        let there = refusal::<Order>(&zstd_sealed(), with(&[&tail]), what);
        assert_eq!(there, Refusal::Sealed, "{what}");
    }
    assert_eq!(read(&zstd_sealed(), &sum(with(&[dictionary, seal]), KEY)), Ok(Some(order())));
}

#[test]
fn a_seal_cannot_be_taken_off() {
    let entry = pack(&sealed(), &order());
    let end = payload(&entry).end;
    // The flag and the note gone, with the tag and without.
    for payload_len in [end - 64, end - 64 - 16] {
        let mut bare = entry[..64 + payload_len].to_vec();
        bare[14] = 0;
        bare[20..24].copy_from_slice(&(payload_len as u32).to_le_bytes());
        assert_eq!(refusal::<Order>(&sealed(), bare, "bare"), Refusal::Sealed);
    }
}

#[test]
fn parts_of_two_sealed_entries_cannot_be_joined() {
    let one = pack(&sealed(), &order());
    let other = pack(&sealed(), &Order { id: order().id + 1, ..order() });
    assert_eq!(one.len(), other.len());
    let end = payload(&one).end;
    for at in [80, end - 16, end, end + 7, end + 20] {
        let joined = [&one[..at], &other[at..]].concat();
        assert_eq!(refusal::<Order>(&sealed(), joined, "joined"), Refusal::Sealed, "at {at}");
    }
    // The header of a later one, before the value of an earlier one.
    let later = Meta { stored_ms: meta().stored_ms + 1, ..meta() };
    let later = sealed().pack(&later, KEY, Some(&order())).unwrap();
    let joined = [&later[..64], &one[64..]].concat();
    assert_eq!(refusal::<Order>(&sealed(), joined, "joined"), Refusal::Sealed);
}

#[test]
fn an_entry_of_another_key_cannot_be_put_in_its_place() {
    let other = sealed().pack(&meta(), b"shop:user:2", Some(&order())).unwrap();
    assert_eq!(refusal::<Order>(&sealed(), other, "another key's"), Refusal::Sealed);
    let elsewhere = sealed().pack(&meta(), b"bank:user:1", Some(&order())).unwrap();
    assert_eq!(refusal::<Order>(&sealed(), elsewhere, "another namespace's"), Refusal::Sealed);
}

#[test]
fn a_key_that_only_reads_vouches_alike() {
    let rotated = Sealed::new(Json, SealKey::new(6, [6; 32])).old_key(seal_key());
    let entry = pack(&sealed(), &order());
    for (bit, flipped) in flips(&entry, payload(&entry)) {
        assert_eq!(refusal::<Order>(&rotated, flipped, "old key"), Refusal::Sealed, "bit {bit}");
    }
}
