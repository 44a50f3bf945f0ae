//! Compression: when there is a gain, within its bounds, and never believed.

use std::io::Write;

use tiered_codecs::{
    CodecFor, DecodeError, EncodeError, Json, Packing, Postcard, Zstd,
    envelope::{self, Extensions, Header, Meta},
};
use zstd::stream::write::Encoder;

use super::{Order, order};
use crate::support::{
    DICTIONARY, KEY, encode, meta, pack, read, sealed, zstd, zstd_with_dictionary,
};

/// How the entry is stored: whether it is compressed, and how long its payload is.
fn stored(packing: &impl Packing, value: &String) -> (bool, usize) {
    let entry = pack(packing, value);
    assert_eq!(read(packing, &entry).as_ref(), Ok(&Some(value.clone())));
    let opened = envelope::open(&entry, KEY, 1 << 26).unwrap();
    (opened.header.compressed, opened.payload.len())
}

#[test]
fn what_is_long_enough_is_compressed() {
    let text = |len: usize| "x".repeat(len - 2); // two quotes
    let codec = Zstd::new(Json);
    assert_eq!(stored(&codec, &text(255)), (false, 255));
    assert!(stored(&codec, &text(256)).0);
    assert!(stored(&codec, &text(100_000)).1 < 100);
    let codec = codec.threshold(1000);
    assert_eq!(stored(&codec, &text(999)), (false, 999));
    assert!(stored(&codec, &text(1000)).0);
}

#[test]
fn what_does_not_shrink_stays_as_it_is() {
    let mut random = fastrand::Rng::with_seed(7);
    let noise: String = (0..2000).map(|_| random.char('\u{10000}'..)).collect();
    let bytes: Vec<u8> = (0..2000).map(|_| random.u8(..)).collect();
    assert_eq!(stored(&zstd(), &String::new()), (false, 1));
    assert_eq!(stored(&zstd(), &"short".to_owned()), (false, 6));
    let _ = stored(&zstd(), &noise);
    let entry = pack(&zstd_with_dictionary(), &bytes);
    let opened = envelope::open(&entry, KEY, 1 << 20).unwrap();
    assert!(!opened.header.compressed);
    // Then it names no dictionary either.
    assert_eq!(opened.extensions, Extensions::default());
    assert_eq!(read(&Postcard, &entry), Ok(Some(bytes)));
}

#[test]
fn levels_and_dictionaries_make_a_difference() {
    let len = |packing: &dyn Fn() -> Vec<u8>| packing().len();
    let level = |level| len(&|| pack(&Zstd::new(Json).threshold(0).level(level), &order()));
    assert!(level(19) < level(-50), "{} and {}", level(19), level(-50));
    let without = len(&|| pack(&Zstd::new(Json).threshold(0), &order()));
    let with = Zstd::new(Json).threshold(0).dictionary(DICTIONARY);
    assert!(len(&|| pack(&with, &order())) + 50 < without);
    // The level counts with a dictionary too, whichever is told first.
    let big = vec![order(); 40]
        .into_iter()
        .enumerate()
        .map(|(id, it)| Order { id: id as u64 * 977, ..it });
    let big: Vec<Order> = big.collect();
    let told_before = with.clone().level(-50);
    let told_after = Zstd::new(Json).threshold(0).level(-50).dictionary(DICTIONARY);
    let quick = len(&|| pack(&told_before, &big));
    assert_eq!(quick, len(&|| pack(&told_after, &big)));
    assert!(len(&|| pack(&with, &big)) < quick);
    // Also if it was prepared for another level.
    assert_eq!(quick, len(&|| pack(&with.clone().level(-50), &big)));
}

#[test]
fn what_would_not_be_expanded_is_not_written() {
    let codec = Zstd::new(Json).max_expanded(10_000);
    let text = |len: usize| "x".repeat(len - 2);
    assert_eq!(read(&codec, &pack(&codec, &text(10_000))), Ok(Some(text(10_000))));
    let EncodeError(reason) = codec.pack(&meta(), KEY, Some(&text(10_001))).unwrap_err();
    assert!(reason.contains("10001 bytes") && reason.contains("max_expanded is 10000"), "{reason}");
}

#[test]
fn the_bound_is_the_readers() {
    let entry = pack(&Zstd::new(Json), &"x".repeat(9_998));
    assert!(read::<String>(&Zstd::new(Json).max_expanded(10_000), &entry).is_ok());
    let there = read::<String>(&Zstd::new(Json).max_expanded(9_999), &entry);
    assert_eq!(there, Err(DecodeError::TooLarge { limit: 9_999 }));
    // A reader that compresses nothing has one as well.
    let large = "x".repeat((32 << 20) - 2);
    let entry = pack(&Zstd::new(Json).max_expanded(1 << 30), &large);
    assert!(read::<String>(&Json, &entry).is_ok());
    let larger = pack(&Zstd::new(Json).max_expanded(1 << 30), &(large + "x"));
    assert_eq!(read::<String>(&Json, &larger), Err(DecodeError::TooLarge { limit: 32 << 20 }));
    assert_eq!(read::<String>(&zstd(), &larger), Err(DecodeError::TooLarge { limit: 32 << 20 }));
}

/// An entry of the order with this for its compressed payload.
fn entry_of(payload: &[u8]) -> Vec<u8> {
    let header = Header {
        codec: Packing::id(&Postcard),
        negative: false,
        compressed: true,
        sealed: false,
        shape: CodecFor::<Order>::shape(&Postcard),
        meta: Meta { ..meta() },
    };
    let mut bytes = envelope::begin(payload.len());
    bytes.extend_from_slice(payload);
    envelope::finish(&mut bytes, &header, &Extensions::default(), KEY);
    bytes
}

/// An order of more than 256 bytes.
fn long() -> Order {
    Order { customer: "frances ".repeat(50), ..order() }
}

/// The order, compressed by `tell`ing the encoder.
fn frame(tell: impl FnOnce(&mut Encoder<'_, Vec<u8>>)) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), 3).unwrap();
    tell(&mut encoder);
    encoder.write_all(&encode(&Postcard, &long()).unwrap()).unwrap();
    encoder.finish().unwrap()
}

#[track_caller]
fn refused(payload: &[u8], words: &str) {
    let there = read::<Order>(&Postcard, &entry_of(payload)).unwrap_err();
    assert_eq!(there.label(), "compression", "{there}");
    assert!(there.to_string().contains(words), "{there}");
}

#[test]
fn a_frame_that_says_its_length_is_read_whoever_wrote_it() {
    let len = encode(&Postcard, &long()).unwrap().len() as u64;
    let told = frame(|encoder| encoder.set_pledged_src_size(Some(len)).unwrap());
    assert_eq!(read(&Postcard, &entry_of(&told)), Ok(Some(long())));
    let checked = frame(|encoder| {
        encoder.set_pledged_src_size(Some(len)).unwrap();
        encoder.include_checksum(true).unwrap();
    });
    assert_eq!(read(&Postcard, &entry_of(&checked)), Ok(Some(long())));
}

#[test]
fn a_frame_without_its_length_is_refused() {
    refused(&frame(|_| ()), "without its length");
}

#[test]
fn what_is_no_frame_is_refused() {
    refused(b"", "no zstd frame");
    refused(b"\x28\xb5\x2f", "no zstd frame");
    refused(&encode(&Postcard, &long()).unwrap(), "no zstd frame");
}

#[test]
fn a_frame_that_lies_about_its_length_is_refused() {
    let len = encode(&Postcard, &long()).unwrap().len();
    let told = frame(|encoder| encoder.set_pledged_src_size(Some(len as u64)).unwrap());
    // The length is of one byte behind the descriptor, 256 less than it is, or of two.
    let place = told.windows(2).position(|pair| pair == (len as u16 - 256).to_le_bytes()).unwrap();
    for lie in [0_u16, 1, len as u16 - 257, len as u16 - 255, 9_000] {
        let mut lying = told.clone();
        lying[place..place + 2].copy_from_slice(&lie.to_le_bytes());
        let there = read::<Order>(&Postcard, &entry_of(&lying)).unwrap_err();
        assert_eq!(there.label(), "compression", "{lie}: {there}");
    }
}

#[test]
fn bytes_behind_a_frame_are_refused() {
    let len = encode(&Postcard, &long()).unwrap().len() as u64;
    let told = frame(|encoder| encoder.set_pledged_src_size(Some(len)).unwrap());
    assert!(read::<Order>(&Postcard, &entry_of(&[&told[..], b"x"].concat())).is_err());
    assert!(read::<Order>(&Postcard, &entry_of(&told.repeat(2))).is_err());
}

#[test]
fn a_refused_frame_does_not_harm_the_next() {
    let entry = pack(&zstd(), &order());
    let with_dictionary = pack(&zstd_with_dictionary(), &order());
    for _ in 0..40 {
        let mut broken = encode(&Postcard, &order()).unwrap();
        broken.splice(..0, *b"\x28\xb5\x2f\xfd\x20\x80");
        assert!(read::<Order>(&Postcard, &entry_of(&broken)).is_err());
        assert_eq!(read(&Postcard, &entry), Ok(Some(order())));
        assert_eq!(read(&zstd_with_dictionary(), &with_dictionary), Ok(Some(order())));
        assert_eq!(pack(&zstd(), &order()), entry);
    }
}

#[test]
fn an_entry_takes_little_more_memory_than_it_is_long() {
    // Whatever came before it: entries are kept.
    let lens = [100_000, 10, 1000, 0, 50_000, 50, 5, 300_000, 1];
    fn little(packing: &impl Packing, lens: &[usize]) {
        for len in lens {
            let entry = pack(packing, &"x".repeat(*len));
            let (len, takes) = (entry.len(), entry.capacity());
            assert!(takes <= 2 * len + 1024, "{takes} for {len}");
        }
    }
    little(&Postcard, &lens);
    little(&Json, &lens);
    little(&zstd(), &lens);
    little(&sealed(), &lens);
}

#[test]
fn many_threads_compress_at_once() {
    let codec = zstd_with_dictionary();
    std::thread::scope(|scope| {
        for id in 0..32 {
            let codec = &codec;
            scope.spawn(move || {
                for turn in 0..20 {
                    let order = Order { id: id * 1000 + turn, ..order() };
                    assert_eq!(read(codec, &pack(codec, &order)), Ok(Some(order)));
                }
            });
        }
    });
}
