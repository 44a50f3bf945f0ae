//! Opening an envelope: any bytes are safe, and finished ones are opened as what they are or not at all.

use arbitrary::{Arbitrary, Unstructured};
use tiered_codecs::{
    CodecId, Shape,
    envelope::{
        Extensions, Header, MAX_TAGS_LEN, Meta, Opened, Refusal, SealNote, begin, finish, open,
    },
};

/// Longer than anything the fuzzer makes.
const LIMIT: usize = 1 << 20;
/// The longest lifetime that fits.
const MAX_MS: u64 = (1 << 40) - 1;
/// The last moment that fits.
const MAX_STORED_MS: u64 = (1 << 48) - 1;

/// What is opened, and what is done to it before.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    key: &'a [u8],
    other_key: &'a [u8],
    payload: &'a [u8],
    header: (u8, bool, bool, bool, u64),
    meta: (u32, u64, u64, u64, u64, u64),
    dictionary: Option<u64>,
    seal: Option<(u32, [u8; 24])>,
    flips: Vec<u16>,
    limit: u16,
    mends: bool,
    tags: &'a [u8],
    raw: &'a [u8],
}

/// One run.
pub fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let (header, extensions) = described(&input);
    let mut bytes = begin(input.payload.len());
    bytes.extend_from_slice(input.payload);
    finish(&mut bytes, &header, &extensions, input.key);
    match refusal(&header, &extensions, input.payload) {
        Some(refusal) => assert_eq!(open(&bytes, input.key, LIMIT), Err(refusal)),
        None => opens(&bytes, &header, &extensions, &input),
    }
    let limit = usize::from(input.limit);
    if bytes.len() > limit {
        assert_eq!(open(&bytes, input.key, limit), Err(Refusal::TooLarge));
    }
    if input.other_key != input.key {
        assert_eq!(open(&bytes, input.other_key, LIMIT), Err(Refusal::Checksum));
    }
    flipped(&bytes, &input);
    anything(&input);
}

/// What the input says of an envelope.
fn described<'a>(input: &Input<'a>) -> (Header, Extensions<'a>) {
    let (codec, negative, compressed, sealed, shape) = input.header;
    let (schema, fresh_ms, stale_ms, stored_ms, incarnation, source_version) = input.meta;
    let meta = Meta { schema, fresh_ms, stale_ms, stored_ms, incarnation, source_version };
    let shape = Shape::from_value(shape);
    let header = Header { codec: CodecId(codec), negative, compressed, sealed, shape, meta };
    let seal = input.seal.map(|(key_id, nonce)| SealNote { key_id, nonce });
    let tags = input.tags.get(..MAX_TAGS_LEN).unwrap_or(input.tags);
    (header, Extensions { dictionary: input.dictionary, seal, tags })
}

/// Why such an envelope must not open.
fn refusal(header: &Header, extensions: &Extensions<'_>, payload: &[u8]) -> Option<Refusal> {
    if header.negative && header.compressed {
        return Some(Refusal::Flags);
    }
    if header.negative && !header.sealed && !payload.is_empty() {
        return Some(Refusal::Length);
    }
    let is_noted = extensions.seal.is_some();
    let has_needless = extensions.dictionary.is_some() && !header.compressed;
    (is_noted != header.sealed || has_needless).then_some(Refusal::Extension)
}

/// It opens as what it is, as far as that fits.
fn opens(bytes: &[u8], header: &Header, extensions: &Extensions<'_>, input: &Input<'_>) {
    let meta = Meta {
        fresh_ms: header.meta.fresh_ms.min(MAX_MS),
        stale_ms: header.meta.stale_ms.min(MAX_MS),
        stored_ms: header.meta.stored_ms.min(MAX_STORED_MS),
        ..header.meta
    };
    let tail = bytes.get(64 + input.payload.len()..).unwrap_or_default();
    let expected = Opened {
        header: Header { meta, ..*header },
        extensions: *extensions,
        payload: input.payload,
        vouched: [&bytes[8..64], tail],
    };
    assert_eq!(open(bytes, input.key, LIMIT), Ok(expected));
}

/// No flipped bit goes unseen; with the checksum made right, any bits are safe.
fn flipped(bytes: &[u8], input: &Input<'_>) {
    let mut flipped = bytes.to_vec();
    for flip in &input.flips {
        let bit = usize::from(*flip) % (flipped.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    if flipped != bytes {
        assert_eq!(open(&flipped, input.key, LIMIT), Err(Refusal::Checksum));
    }
    crate::checksum::mend(&mut flipped, input.key);
    whole(&flipped, input.key);
}

/// Bytes from anywhere.
fn anything(input: &Input<'_>) {
    if !input.mends {
        return whole(input.raw, input.key);
    }
    let mut raw = input.raw.to_vec();
    crate::checksum::mend(&mut raw, input.key);
    whole(&raw, input.key);
}

/// What opens is consistent: its parts are the bytes' own, and written anew it opens as the same.
fn whole(bytes: &[u8], key: &[u8]) {
    let Ok(opened) = open(bytes, key, LIMIT) else { return };
    let len = opened.payload.len();
    assert_eq!(bytes.get(64..64 + len), Some(opened.payload));
    assert_eq!(opened.vouched, [&bytes[8..64], &bytes[64 + len..]]);
    let mut again = begin(len);
    again.extend_from_slice(opened.payload);
    finish(&mut again, &opened.header, &opened.extensions, key);
    match open(&again, key, LIMIT) {
        Ok(same) => {
            assert_eq!(same.header, opened.header);
            assert_eq!(same.extensions, opened.extensions);
            assert_eq!(same.payload, opened.payload);
        }
        Err(refusal) => panic!("{opened:?}, written anew, is refused: {refusal}"),
    }
}
