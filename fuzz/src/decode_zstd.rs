//! Decompressing: any bytes behind a right checksum are safe and bounded, and what was compressed comes
//! back.
//!
//! zstd itself is C and not instrumented, so the fuzzer does not see its ways: frames with their
//! header's fields changed stand in for that.

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use serde::{Serialize, de::DeserializeOwned};
use tiered_codecs::{
    CodecFor, CodecId, DecodeError, Packing, Postcard, Shape, Zstd,
    envelope::{Extensions, Header, begin, finish, open},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    edits::{Edit, edit},
    packings::{KEY, META, RAW_DICTIONARY, TRAINED_DICTIONARY},
};

/// To how many bytes a payload may expand here.
const LIMIT: usize = 4096;
/// Longer than any entry.
const LONGEST: usize = 1 << 20;

/// The packings: without a dictionary, with one of plain bytes, with a trained one.
static PACKINGS: LazyLock<[Zstd<Postcard>; 3]> = LazyLock::new(|| {
    let plain = Zstd::new(Postcard).level(1).threshold(1).max_expanded(LIMIT);
    let raw = plain.clone().dictionary(RAW_DICTIONARY);
    let trained = plain.clone().dictionary(TRAINED_DICTIONARY).old_dictionary(RAW_DICTIONARY);
    [plain, raw, trained]
});
/// How an entry names its dictionary.
static IDS: LazyLock<[Option<u64>; 4]> = LazyLock::new(|| {
    [None, Some(xxh3_64(RAW_DICTIONARY)), Some(xxh3_64(TRAINED_DICTIONARY)), Some(1)]
});

/// What is decompressed.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    packing: u8,
    dictionary: u8,
    edits: Vec<Edit>,
    /// Compressed and changed if there is any, or else the frame.
    value: Vec<u16>,
    frame: &'a [u8],
}

/// One run.
pub fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let packing = &PACKINGS[usize::from(input.packing) % PACKINGS.len()];
    if input.value.is_empty() {
        let id = IDS[usize::from(input.dictionary) % IDS.len()];
        expands(packing, id, input.frame);
    } else {
        comes_back(packing, &input);
    }
}

/// A frame from anywhere expands to a value within the bound, or not at all.
fn expands(packing: &Zstd<Postcard>, dictionary: Option<u64>, frame: &[u8]) {
    let header = Header {
        codec: CodecId::POSTCARD,
        negative: false,
        compressed: true,
        sealed: false,
        shape: Shape::untraced(),
        meta: META,
    };
    let extensions = Extensions { dictionary, ..Extensions::default() };
    let mut bytes = begin(frame.len());
    bytes.extend_from_slice(frame);
    finish(&mut bytes, &header, &extensions, KEY);
    let value = read::<Vec<u8>, _>(packing, &bytes);
    if let Ok(value) = &value {
        assert!(value.len() <= LIMIT, "{} bytes", value.len());
    }
    if matches!(value, Err(DecodeError::TooLarge { .. })) {
        return;
    }
    // A reader that does not compress decompresses nevertheless, but knows no dictionary.
    let bare = read::<Vec<u8>, _>(&Postcard, &bytes);
    match dictionary {
        None => assert_eq!(bare, value),
        Some(_) => assert!(bare.is_err()),
    }
}

/// A value that was compressed comes back; a changed frame is safe.
fn comes_back(packing: &Zstd<Postcard>, input: &Input<'_>) {
    // Repeated, so that there is something to compress; and perhaps more than may be.
    let times = usize::from(input.dictionary) % 16 + 1;
    let value = input.value.repeat(times);
    let bytes = match CodecFor::<Vec<u16>>::pack(packing, &META, KEY, Some(&value)) {
        Ok(bytes) => bytes,
        Err(error) => return assert!(value.len() > LIMIT / 3, "{error}"),
    };
    assert_eq!(read(packing, &bytes), Ok(value));
    let Ok(opened) = open(&bytes, KEY, LONGEST) else { return };
    if !opened.header.compressed || input.edits.is_empty() {
        return;
    }
    let mut frame = opened.payload.to_vec();
    edit(&mut frame, &input.edits, input.frame);
    expands(packing, opened.extensions.dictionary, &frame);
}

/// Unpacks and decodes.
fn read<T, P>(packing: &P, bytes: &[u8]) -> Result<T, DecodeError>
where
    T: Serialize + DeserializeOwned + 'static,
    P: Packing,
{
    let unpacked = CodecFor::<T>::unpack(packing, bytes, KEY, LONGEST)?;
    CodecFor::decode(packing, &unpacked)
}
