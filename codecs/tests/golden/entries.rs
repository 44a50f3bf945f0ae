//! Every golden entry is what the index says.

use std::{collections::BTreeSet, fs};

use tiered_codecs::{
    Also, CodecFor, Json, MessagePack, Packing, Postcard, SealKey, Sealed, Zstd,
    envelope::{self, HEADER_LEN},
};

use super::{
    index::{self, Golden, folder},
    order::Order,
};
use crate::support::{DICTIONARY, Inverted, sum};

/// The key of the sealed ones.
pub(crate) fn key() -> SealKey {
    SealKey::new(7, std::array::from_fn(|at| 0x80 + at as u8))
}

/// It reads all of them.
pub(crate) fn reader() -> impl Packing {
    let inner = Also::new(Zstd::new(Json).dictionary(DICTIONARY), Inverted(200));
    Sealed::new(inner, key()).accept_unsealed()
}

#[test]
fn every_golden_entry_is_read() {
    for golden in index::all() {
        let bytes = golden.bytes();
        let name = &golden.name;
        let opened = envelope::open(&bytes, &golden.key, bytes.len()).unwrap();
        let header = opened.header;
        let id = match golden.packing[0].as_str() {
            "postcard" => 1,
            "messagepack" => 2,
            "json" => 3,
            "foreign" => 200,
            other => panic!("{name}: no codec {other}"),
        };
        assert_eq!(header.codec.0, id, "{name}");
        assert_eq!(header.negative, golden.value.is_none(), "{name}");
        assert_eq!(header.compressed, golden.is("zstd"), "{name}");
        assert_eq!(header.sealed, golden.is("sealed"), "{name}");
        assert_eq!(header.meta, golden.meta, "{name}");
        assert_eq!(header.shape, CodecFor::<Order>::shape(&Postcard), "{name}");
        let dictionary = golden.is("dictionary").then(|| xxhash_rust::xxh3::xxh3_64(DICTIONARY));
        assert_eq!(opened.extensions.dictionary, dictionary, "{name}");
        let key_id = opened.extensions.seal.map(|seal| seal.key_id);
        assert_eq!(key_id, golden.is("sealed").then_some(7), "{name}");
        assert!(opened.vouched[1].ends_with(&golden.later), "{name}");
        if golden.later.is_empty() {
            assert_eq!(opened.extensions.tags, golden.tags, "{name}");
        }

        let reader = reader();
        let unpacked = CodecFor::<Order>::unpack(&reader, &bytes, &golden.key, 1 << 20).unwrap();
        assert_eq!(unpacked.header, header, "{name}");
        if let Some(value) = golden.value {
            assert_eq!(CodecFor::decode(&reader, &unpacked), Ok(value), "{name}");
        }
    }
}

#[test]
fn the_index_and_the_files_are_the_same() {
    let named: Vec<String> = index::all().into_iter().map(|golden| golden.name).collect();
    let set: BTreeSet<String> = named.iter().cloned().collect();
    assert_eq!(set.len(), named.len(), "a name is there twice");
    let there: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| !["index.txt", "dictionary.bin"].contains(&file.as_str()))
        .map(|file| file.strip_suffix(".bin").unwrap_or(&file).to_owned())
        .collect();
    assert_eq!(there, set, "found, and named");
}

#[test]
fn golden_entries_cover_all_there_is() {
    let all = index::all();
    let some = |what: &str, is: &dyn Fn(&Golden) -> bool| {
        assert!(all.iter().any(is), "no golden entry is {what}");
    };
    for codec in ["postcard", "messagepack", "json"] {
        some(codec, &|it| it.packing == [codec]);
        some("compressed", &|it| it.packing == [codec, "zstd"]);
        some("compressed with a dictionary", &|it| it.packing == [codec, "zstd", "dictionary"]);
        some("sealed", &|it| it.packing == [codec, "sealed"] && it.value.is_some());
        some("all of it", &|it| it.packing == [codec, "zstd", "dictionary", "sealed"]);
        some("negative", &|it| it.packing == [codec] && it.value.is_none());
    }
    some("foreign", &|it| it.is("foreign"));
    some("negative and sealed", &|it| it.is("sealed") && it.value.is_none());
    some("a later writer's", &|it| !it.later.is_empty());
    some("of tags", &|it| it.packing == ["postcard"] && !it.tags.is_empty());
    some("of tags and sealed", &|it| it.is("sealed") && !it.tags.is_empty());
    some("negative, and of tags", &|it| it.value.is_none() && !it.tags.is_empty());
    some("of an empty key", &|it| it.key.is_empty());
    some("of a key of bytes", &|it| std::str::from_utf8(&it.key).is_err());
    some("without any meta", &|it| it.meta == envelope::Meta::default());
    let full = envelope::Meta {
        schema: u32::MAX,
        fresh_ms: (1 << 40) - 1,
        stale_ms: (1 << 40) - 1,
        stored_ms: (1 << 48) - 1,
        incarnation: u64::MAX,
        source_version: u64::MAX,
    };
    some("of the largest meta", &|it| it.meta == full && !it.is("sealed"));
    some("sealed, of the largest meta", &|it| it.meta == full && it.is("sealed"));
}

#[test]
fn what_is_written_today_is_what_was_written_then() {
    // Nonces are random and zstd may compress better one day; the rest is the same to the byte.
    for golden in index::all().iter().filter(|it| !it.is("zstd") && !it.is("sealed")) {
        assert_eq!(write(golden), golden.bytes(), "{}", golden.name);
    }
    for golden in index::all().iter().filter(|it| it.is("sealed") && !it.is("zstd")) {
        assert_eq!(write(golden).len(), golden.bytes().len(), "{}", golden.name);
        assert_eq!(write(golden)[8..HEADER_LEN], golden.bytes()[8..HEADER_LEN], "{}", golden.name);
    }
}

/// Writes those that are missing. The format is final: what is there is never written again.
#[test]
#[ignore = "by hand, after a new entry was put into the index"]
fn write_the_missing_ones() {
    for golden in index::all() {
        if !golden.path().exists() {
            println!("writing {}", golden.name);
            fs::write(golden.path(), write(&golden)).unwrap();
        }
    }
}

/// The entry, as it is written today.
fn write(golden: &Golden) -> Vec<u8> {
    match golden.packing[0].as_str() {
        "postcard" => compressed(golden, Postcard),
        "messagepack" => compressed(golden, MessagePack),
        "json" => compressed(golden, Json),
        "foreign" => compressed(golden, Inverted(200)),
        other => panic!("no codec {other}"),
    }
}

fn compressed(golden: &Golden, codec: impl Packing) -> Vec<u8> {
    let zstd = || Zstd::new(codec.clone()).threshold(0).level(19);
    match (golden.is("zstd"), golden.is("dictionary")) {
        (false, false) => sealed(golden, codec),
        (true, false) => sealed(golden, zstd()),
        (true, true) => sealed(golden, zstd().dictionary(DICTIONARY)),
        (false, true) => panic!("{}: a dictionary, and not compressed", golden.name),
    }
}

fn sealed(golden: &Golden, packing: impl Packing) -> Vec<u8> {
    match golden.is("sealed") {
        false => packed(golden, packing),
        true => packed(golden, Sealed::new(packing, key())),
    }
}

fn packed(golden: &Golden, packing: impl Packing) -> Vec<u8> {
    let Golden { meta, tags, key, value, .. } = golden;
    let mut bytes = CodecFor::pack_tagged(&packing, meta, tags, key, value.as_ref()).unwrap();
    if golden.later.is_empty() {
        return bytes;
    }
    assert!(!golden.is("sealed"), "{}: a seal would not vouch for it", golden.name);
    bytes.extend_from_slice(&golden.later);
    sum(bytes, &golden.key)
}
