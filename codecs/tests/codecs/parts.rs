//! Bytes that announce more than they hold, and what an honest value may hold.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tiered_codecs::{DecodeError, EncodeError, MessagePack, Packing, Postcard};

use crate::support::{Value, decode, encode, every_codec};

every_codec! {
    what_is_encoded_is_not_too_much_to_be_decoded
    values_that_grow_a_thousandfold_are_refused_when_they_are_read
    a_long_list_is_no_attack
    a_list_of_sparse_values_is_no_attack
}

/// Decodes `bytes`, which must be refused, and quickly.
#[track_caller]
fn refused<T: DeserializeOwned>(packing: &impl Packing, bytes: &[u8]) {
    let start = Instant::now();
    let there = decode::<T>(packing, bytes).err();
    let name = std::any::type_name::<T>();
    assert!(matches!(there, Some(DecodeError::Payload(_))), "{name}: {there:?}");
    assert!(start.elapsed() < Duration::from_secs(1), "{name} took {:?}", start.elapsed());
}

/// Postcard's bytes for a length.
fn length(len: u64) -> Vec<u8> {
    encode(&Postcard, &len).unwrap()
}

#[test]
fn a_few_bytes_do_not_announce_work_without_end() {
    for announced in [1 << 20, 1 << 31, u64::from(u32::MAX), u64::MAX] {
        let bytes = length(announced);
        refused::<Vec<()>>(&Postcard, &bytes);
        refused::<Vec<[(); 32]>>(&Postcard, &bytes);
        refused::<Vec<((), ((), ()))>>(&Postcard, &bytes);
        refused::<HashSet<()>>(&Postcard, &bytes);
        refused::<HashMap<(), ()>>(&Postcard, &bytes);
        refused::<Vec<Nothing>>(&Postcard, &bytes);
        refused::<Vec<Vec<()>>>(&Postcard, &[&[1][..], &bytes].concat());
        refused::<Vec<u64>>(&Postcard, &bytes);
        refused::<Vec<String>>(&Postcard, &bytes);
        refused::<String>(&Postcard, &bytes);
        refused::<HashMap<u64, String>>(&Postcard, &bytes);
    }
    for announcement in
        [&b"\xdd\xff\xff\xff\xff"[..], b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
    {
        refused::<Vec<()>>(&MessagePack, announcement);
        refused::<Vec<Nothing>>(&MessagePack, announcement);
        refused::<Vec<u64>>(&MessagePack, announcement);
        refused::<HashMap<String, u8>>(&MessagePack, announcement);
        refused::<String>(&MessagePack, announcement);
        refused::<serde_json::Value>(&MessagePack, announcement);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nothing {}

#[test]
fn a_list_of_lists_of_nothing_is_bounded_as_a_whole() {
    // Each inner list alone would do.
    let bytes = [length(1000), length(60_000).repeat(1000)].concat();
    refused::<Vec<Vec<()>>>(&Postcard, &bytes);
}

#[test]
fn what_takes_no_bytes_is_not_encoded_without_end() {
    let refused = encode(&Postcard, &vec![(); 1_000_000]);
    let EncodeError(reason) = refused.unwrap_err();
    assert!(reason.contains("more than a reader would believe"), "{reason}");
    assert!(encode(&Postcard, &vec![Nothing {}; 1_000_000]).is_err());
    assert!(encode(&Postcard, &vec![[(); 32]; 100_000]).is_err());
    // A format that writes something for nothing has no such limit.
    let nothing = vec![(); 1_000_000];
    let bytes = encode(&MessagePack, &nothing).unwrap();
    assert_eq!(decode(&MessagePack, &bytes), Ok(nothing));
}

/// An element of 24 bytes in one byte: 80 MiB in all, where 65 MiB are granted however it is written.
#[test]
fn a_very_long_list_has_the_room_that_its_bytes_earn() {
    let names = vec![String::new(); 3_500_000];
    let bytes = encode(&Postcard, &names).unwrap();
    assert!(decode::<Vec<String>>(&Postcard, &bytes).is_ok_and(|read| read == names));
}

#[test]
fn an_honest_list_of_nothing_comes_back() {
    for len in [0, 1, 1000, 10_000] {
        let nothing = vec![(); len];
        let bytes = encode(&Postcard, &nothing).unwrap();
        assert_eq!(decode(&Postcard, &bytes), Ok(nothing));
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "that is what it is for")]
enum Large {
    Small,
    Large([u64; 32]),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sparse {
    addresses: [Option<Address>; 10],
    notes: [Option<String>; 10],
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Address {
    street: String,
    city: String,
    country: String,
    code: [u64; 6],
}

/// Whether a list of so many is encoded; it must then decode.
fn passes<T: Value + Clone>(packing: &impl Packing, one: &T, len: usize) -> bool {
    let value = vec![one.clone(); len];
    let Ok(bytes) = encode(packing, &value) else { return false };
    let back = decode::<Vec<T>>(packing, &bytes);
    let name = std::any::type_name::<T>();
    assert!(back.as_ref() == Ok(&value), "{len} of {name}: {:?}", back.err());
    true
}
/// Lists longer and longer, and near the length that is too long: what the encoder lets pass, the
/// decoder does.
fn agree<T: Value + Clone>(packing: &impl Packing, one: T, most: usize) {
    let mut len = 16;
    while len <= most && passes(packing, &one, len) {
        len *= 2;
    }
    // It was refused, or is the most that is tried.
    let (mut passed, mut refused) = (len / 2, len);
    for _ in 0..if len > most { 0 } else { 8 } {
        let between = passed.midpoint(refused);
        match passes(packing, &one, between) {
            true => passed = between,
            false => refused = between,
        }
    }
}

/// Of values that are large in memory and small in bytes.
fn what_is_encoded_is_not_too_much_to_be_decoded(packing: &impl Packing) {
    agree(packing, (), 1 << 17);
    agree(packing, Nothing {}, 1 << 17);
    agree(packing, [(); 32], 1 << 14);
    agree(packing, 0_u8, 1 << 15);
    agree(packing, String::new(), 1 << 16);
    agree(packing, Vec::<Vec<u8>>::new(), 1 << 16);
    agree(packing, None::<u8>, 1 << 16);
    agree(packing, None::<[u64; 32]>, 1 << 16);
    agree(packing, Some(0_u128), 1 << 15);
    agree(packing, Large::Small, 1 << 15);
    agree(packing, Large::Large([0; 32]), 1 << 10);
    agree(packing, Sparse::default(), 1 << 12);
    agree(packing, (None::<Address>, (None::<Address>, Large::Small)), 1 << 14);
    agree(packing, BTreeSet::from([()]), 1 << 16);
    agree(packing, Box::new(None::<Box<Large>>), 1 << 16);
    agree(packing, Some(Box::new(Large::Small)), 1 << 15);
    agree(packing, HashMap::from([(0_u8, Large::Small)]), 1 << 13);
}

/// Serde hands elements over behind references, so the encoder does not see what they take.
fn values_that_grow_a_thousandfold_are_refused_when_they_are_read(packing: &impl Packing) {
    type Wide = Option<[[u64; 32]; 8]>;
    agree(packing, Wide::None, 256);
    let bytes = encode(packing, &vec![Wide::None; 1 << 16]).unwrap();
    let there = decode::<Vec<Wide>>(packing, &bytes);
    assert!(matches!(there, Err(DecodeError::Payload(_))));
    // In boxes they take no less.
    let there = decode::<Vec<Box<Wide>>>(packing, &bytes);
    assert!(matches!(there, Err(DecodeError::Payload(_))));
}

fn a_long_list_is_no_attack(packing: &impl Packing) {
    let long: Vec<u32> = (0..200_000).collect();
    let bytes = encode(packing, &long).unwrap();
    assert!(decode(packing, &bytes) == Ok(long));
}

/// A few megabytes, of a byte for each element.
#[test]
fn a_very_long_list_of_small_elements_is_no_attack() {
    fn comes_back<T: Value>(packing: &impl Packing, list: &T) {
        let bytes = encode(packing, list).unwrap();
        let back = decode::<T>(packing, &bytes);
        let name = std::any::type_name::<T>();
        assert!(back.as_ref() == Ok(list), "{} bytes of {name}: {:?}", bytes.len(), back.err());
    }
    let numbers = vec![0_u64; 3_000_000];
    comes_back(&Postcard, &numbers);
    comes_back(&MessagePack, &numbers);
    comes_back(&Postcard, &vec![String::new(); 2_000_000]);
}

/// Events with ten optional addresses, of which none has any.
fn a_list_of_sparse_values_is_no_attack(packing: &impl Packing) {
    let sparse = vec![Sparse::default(); 3_000];
    let bytes = encode(packing, &sparse).unwrap();
    let back = decode::<Vec<Sparse>>(packing, &bytes);
    assert!(back.as_ref() == Ok(&sparse), "{} bytes: {:?}", bytes.len(), back.err());
}
