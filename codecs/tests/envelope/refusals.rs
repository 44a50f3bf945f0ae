//! Each reason, and which of two wins.

use proptest::prelude::*;
use tiered_codecs::{
    DecodeError,
    envelope::{Refusal, open},
};

use super::{COMPRESSED, KEY, NEGATIVE, SEALED, altered, entry, header, sum, with_tail};

/// Why `entry` is refused.
fn refusal(entry: &[u8]) -> Refusal {
    open(entry, KEY, 1024).unwrap_err()
}

/// A seal's extension that is as it must be.
fn seal() -> Vec<u8> {
    [&[2, 28, 0][..], &[9; 28]].concat()
}

#[test]
fn each_wrong_field_has_its_reason() {
    assert_eq!(refusal(&altered(8, b"TEAR")), Refusal::Foreign);
    for at in 8..12 {
        assert_eq!(refusal(&altered(at, b"X")), Refusal::Foreign, "byte {at}");
    }
    for format in (0..=u8::MAX).filter(|format| *format != 1) {
        assert_eq!(refusal(&altered(12, &[format])), Refusal::Format, "format {format}");
    }
    for bit in 3..16 {
        let flags = (1_u16 << bit).to_le_bytes();
        assert_eq!(refusal(&altered(14, &flags)), Refusal::Flags, "bit {bit}");
    }
    for len in [0_u32, 6, 8, u32::MAX] {
        assert_eq!(refusal(&altered(20, &len.to_le_bytes())), Refusal::Length, "length {len}");
    }
}

#[test]
fn flags_that_exclude_each_other_are_refused() {
    assert_eq!(refusal(&with_tail(NEGATIVE | COMPRESSED, b"", b"")), Refusal::Flags);
    assert_eq!(refusal(&with_tail(NEGATIVE | COMPRESSED | SEALED, b"", &seal())), Refusal::Flags);
    // All other sets of known flags are opened.
    for flags in [0, NEGATIVE, COMPRESSED] {
        assert!(open(&with_tail(flags, b"", b""), KEY, 1024).is_ok(), "flags {flags:#b}");
        assert!(open(&with_tail(flags | SEALED, b"", &seal()), KEY, 1024).is_ok());
    }
}

#[test]
fn an_unknown_flag_is_refused_beside_known_ones_too() {
    for known in [NEGATIVE, COMPRESSED, SEALED] {
        for bit in 3..16 {
            let entry = with_tail(known | 1 << bit, b"", &seal());
            assert_eq!(refusal(&entry), Refusal::Flags, "bit {bit} with {known:#b}");
        }
    }
}

#[test]
fn the_earlier_reason_wins() {
    // Each pair: an entry that is wrong in both ways is refused for the first.
    assert_eq!(open(&[0; 10], KEY, 1), Err(Refusal::Truncated)); // and too large
    assert_eq!(open(&[0; 63], KEY, 1024), Err(Refusal::Truncated)); // and no checksum
    assert_eq!(open(&[0; 100], KEY, 64), Err(Refusal::TooLarge)); // and no checksum
    assert_eq!(open(&[0; 100], KEY, 1024), Err(Refusal::Checksum)); // and no magic
    assert_eq!(refusal(&altered(8, b"TEAR\xff")), Refusal::Foreign); // and format
    assert_eq!(refusal(&altered(12, &[9, 1, 0xff, 0xff])), Refusal::Format); // and flags
    let flags_and_length = [&0x8000_u16.to_le_bytes()[..], &[7, 0, 0, 0, 8, 0, 0, 0]].concat();
    assert_eq!(refusal(&altered(14, &flags_and_length)), Refusal::Flags);
    // A length that does not add up, and a seal without its flag.
    let mut entry = with_tail(0, b"payload", &seal());
    entry[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(refusal(&sum(entry)), Refusal::Length);
    // A negative entry with a payload, and a seal without its flag.
    assert_eq!(refusal(&with_tail(NEGATIVE, b"x", &seal())), Refusal::Length);
    // Extensions that do not add up, and a seal without its flag.
    assert_eq!(refusal(&with_tail(0, b"", &[&seal()[..], &[9]].concat())), Refusal::Length);
}

#[test]
fn an_entry_of_a_later_format_is_told_from_damage() {
    let later = altered(12, &[2]);
    assert_eq!(refusal(&later), Refusal::Format);
    let mut damaged = later;
    damaged[40] ^= 1;
    assert_eq!(refusal(&damaged), Refusal::Checksum);
}

#[test]
fn reasons_have_names() {
    let names = [
        (Refusal::Truncated, "truncated"),
        (Refusal::TooLarge, "too_large"),
        (Refusal::Checksum, "checksum"),
        (Refusal::Foreign, "foreign"),
        (Refusal::Format, "format"),
        (Refusal::Flags, "flags"),
        (Refusal::Length, "length"),
        (Refusal::Extension, "extension"),
        (Refusal::Sealed, "sealed"),
        (Refusal::Codec, "codec"),
        (Refusal::Dictionary, "dictionary"),
        (Refusal::OlderSchema, "older_schema"),
        (Refusal::NewerSchema, "newer_schema"),
        (Refusal::Shape, "shape"),
    ];
    for (refusal, name) in names {
        assert_eq!(refusal.label(), name);
        assert_eq!(DecodeError::from(refusal).label(), name);
    }
    assert_eq!(DecodeError::Payload(String::new()).label(), "payload");
    assert_eq!(DecodeError::Trailing.label(), "trailing");
    assert_eq!(DecodeError::Compression(String::new()).label(), "compression");
    assert_eq!(DecodeError::TooLarge { limit: 1 }.label(), "too_large");
}

proptest! {
    #[test]
    fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(open(&bytes, KEY, 1024).is_err());
    }

    #[test]
    fn any_bytes_under_a_right_checksum_are_safe(
        mut bytes in proptest::collection::vec(any::<u8>(), 64..400),
        flags in 0_u16..8,
        len in 0_u32..400,
        ours: bool,
    ) {
        if ours {
            bytes[8..16].copy_from_slice(b"TIER\x01\x01\0\0");
            bytes[14..16].copy_from_slice(&flags.to_le_bytes());
            bytes[20..24].copy_from_slice(&len.to_le_bytes());
        }
        let bytes = sum(bytes);
        if let Ok(opened) = open(&bytes, KEY, 1024) {
            prop_assert_eq!(opened.payload, &bytes[64..64 + len as usize]);
        }
    }
}

#[test]
fn what_is_opened_is_what_was_stored() {
    let bytes = entry(&header(), b"payload");
    assert_eq!(open(&bytes, KEY, 1024).unwrap().payload.as_ptr(), bytes[64..].as_ptr());
}
