//! Damage, wherever it is, is seen before anything else is believed.

use tiered_codecs::envelope::{Extensions, HEADER_LEN, Header, Refusal, open};

use super::{KEY, entry, entry_of, header, seal_note};

/// A plain entry, and one with all there is.
fn entries() -> [Vec<u8>; 2] {
    let payload = b"a payload of some length";
    let full = Header { compressed: true, sealed: true, ..header() };
    let extensions =
        Extensions { dictionary: Some(5), seal: Some(seal_note()), ..Extensions::default() };
    [entry(&header(), payload), entry_of(&full, &extensions, KEY, payload)]
}

#[test]
fn a_flipped_bit_is_damage_wherever_it_is() {
    for entry in entries() {
        for bit in 0..entry.len() * 8 {
            let mut damaged = entry.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&damaged, KEY, 1024), Err(Refusal::Checksum), "bit {bit}");
        }
    }
}

#[test]
fn a_cut_entry_is_refused_wherever_it_is_cut() {
    for entry in entries() {
        for len in 0..entry.len() {
            let refusal = if len < HEADER_LEN { Refusal::Truncated } else { Refusal::Checksum };
            assert_eq!(open(&entry[..len], KEY, 1024), Err(refusal), "{len} bytes");
        }
        let longer = [&entry[..], b"\0"].concat();
        assert_eq!(open(&longer, KEY, 1024), Err(Refusal::Checksum));
    }
}

#[test]
fn another_keys_value_is_refused() {
    let entry = entry(&header(), b"payload");
    for key in [&b"shop:user:2"[..], b"shop:user:", b"shop:user:1\0", b"shoq:user:1", b""] {
        assert_eq!(open(&entry, key, 1024), Err(Refusal::Checksum));
    }
}

#[test]
fn the_limit_counts_the_whole_entry() {
    for entry in entries() {
        assert!(open(&entry, KEY, entry.len()).is_ok());
        assert_eq!(open(&entry, KEY, entry.len() - 1), Err(Refusal::TooLarge));
    }
}
