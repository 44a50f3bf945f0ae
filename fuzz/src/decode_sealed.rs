//! Sealed entries in the hands of somebody who can write to the cache server, but has no secret: what
//! was packed opens, and nothing else does, whatever is made of it.

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use tiered_codecs::{
    CodecFor, CodecId, Packing, Postcard, SealKey, Sealed, Shape, Zstd,
    envelope::{Header, Refusal, SealNote, begin, finish, open},
};

use crate::{
    checksum::mend,
    edits::{Edit, edit},
    packings::{KEY, META, OLD_SECRET, SECRET},
};

/// Longer than any entry.
const LONGEST: usize = 1 << 20;

/// What seals.
static SEALED: LazyLock<Sealed<Zstd<Postcard>>> = LazyLock::new(|| {
    Sealed::new(Zstd::new(Postcard).level(1).threshold(32), SealKey::new(1, SECRET))
        .old_key(SealKey::new(2, OLD_SECRET))
});
/// The same, during a move to sealing.
static MOVING: LazyLock<Sealed<Zstd<Postcard>>> =
    LazyLock::new(|| SEALED.clone().accept_unsealed());
/// Of another secret by the same number.
static STRANGER: LazyLock<Sealed<Postcard>> =
    LazyLock::new(|| Sealed::new(Postcard, SealKey::new(1, OLD_SECRET)));
/// What was packed: two texts, one compressed and one not, one by the old secret, and no value.
static ENTRIES: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    let old = Sealed::new(Postcard, SealKey::new(2, OLD_SECRET));
    [
        pack(&*SEALED, Some("a short text")),
        pack(&*SEALED, Some(&"a long text, again and again. ".repeat(6))),
        pack(&old, Some("a text sealed before")),
        pack(&*SEALED, None),
    ]
});
/// What was packed and not sealed.
static UNSEALED: LazyLock<[Vec<u8>; 2]> =
    LazyLock::new(|| [pack(&Postcard, Some("an open text")), pack(&Postcard, None)]);

/// What is made of an entry.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    entry: u8,
    other: u8,
    edits: Vec<Edit>,
    fields: Option<Fields>,
    key: &'a [u8],
    raw: &'a [u8],
}

/// An entry's fields, those that are replaced.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Fields {
    codec: Option<u8>,
    negative: Option<bool>,
    compressed: Option<bool>,
    unsealed: bool,
    shape: Option<u64>,
    schema: Option<u32>,
    times: Option<(u64, u64, u64)>,
    versions: Option<(u64, u64)>,
    dictionary: Option<u64>,
    key_id: Option<u32>,
    nonce: Option<(u8, u8)>,
}

/// One run.
pub fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let number = usize::from(input.entry) % (ENTRIES.len() + UNSEALED.len());
    match number.checked_sub(ENTRIES.len()) {
        None => sealed(&input, &ENTRIES[number]),
        Some(number) => unsealed(&UNSEALED[number]),
    }
    let mut raw = input.raw.to_vec();
    mend(&mut raw, KEY);
    refused(&raw, KEY, "made up");
}

/// What is made of a sealed entry is refused, if it is not one that was packed.
fn sealed(input: &Input<'_>, entry: &[u8]) {
    let mut bytes = entry.to_vec();
    if let Some(fields) = input.fields {
        fields.replace(&mut bytes);
    }
    edit(&mut bytes, &input.edits, &ENTRIES[usize::from(input.other) % ENTRIES.len()]);
    mend(&mut bytes, KEY);
    if ENTRIES.contains(&bytes) {
        assert_eq!(unpack(&*SEALED, &bytes, KEY), Ok(()));
        assert_eq!(unpack(&*MOVING, &bytes, KEY), Ok(()));
        assert!(bytes == ENTRIES[2] || unpack(&*STRANGER, &bytes, KEY) == Err(Refusal::Sealed));
        assert_eq!(unpack(&Postcard, &bytes, KEY), Err(Refusal::Sealed));
    } else {
        refused(&bytes, KEY, "changed");
    }
    if input.key != KEY {
        let mut moved = entry.to_vec();
        mend(&mut moved, input.key);
        refused(&moved, input.key, "moved to another key");
    }
}

/// What is not sealed is refused, unless a service is moving to sealing.
fn unsealed(entry: &[u8]) {
    assert_eq!(unpack(&*SEALED, entry, KEY), Err(Refusal::Sealed));
    assert_eq!(unpack(&*MOVING, entry, KEY), Ok(()));
    assert_eq!(unpack(&Postcard, entry, KEY), Ok(()));
}

impl Fields {
    /// Writes the entry anew, around the payload that was encrypted.
    fn replace(self, bytes: &mut Vec<u8>) {
        let Ok(opened) = open(bytes, KEY, LONGEST) else { return };
        let (mut header, mut extensions) = (opened.header, opened.extensions);
        header.codec = self.codec.map_or(header.codec, CodecId);
        header.negative = self.negative.unwrap_or(header.negative);
        header.compressed = self.compressed.unwrap_or(header.compressed);
        header.shape = self.shape.map_or(header.shape, Shape::from_value);
        self.describe(&mut header);
        extensions.dictionary = self.dictionary.or(extensions.dictionary);
        if let Some(note) = &mut extensions.seal {
            self.note(note);
        }
        if self.unsealed {
            header.sealed = false;
            extensions.seal = None;
        }
        let mut again = begin(opened.payload.len());
        again.extend_from_slice(opened.payload);
        finish(&mut again, &header, &extensions, KEY);
        *bytes = again;
    }

    fn describe(self, header: &mut Header) {
        header.meta.schema = self.schema.unwrap_or(header.meta.schema);
        if let Some((fresh_ms, stale_ms, stored_ms)) = self.times {
            header.meta.fresh_ms = fresh_ms;
            header.meta.stale_ms = stale_ms;
            header.meta.stored_ms = stored_ms;
        }
        if let Some((incarnation, source_version)) = self.versions {
            header.meta.incarnation = incarnation;
            header.meta.source_version = source_version;
        }
    }

    fn note(self, note: &mut SealNote) {
        note.key_id = self.key_id.unwrap_or(note.key_id);
        if let Some((at, bits)) = self.nonce {
            let len = note.nonce.len();
            note.nonce[usize::from(at) % len] ^= bits;
        }
    }
}

/// It opens neither for who seals, nor as sealed for who moves to sealing.
fn refused(bytes: &[u8], key: &[u8], what: &str) {
    assert!(unpack(&*SEALED, bytes, key).is_err(), "it opened, although {what}: {bytes:?}");
    let is_sealed = open(bytes, key, LONGEST).is_ok_and(|opened| opened.header.sealed);
    if is_sealed {
        assert!(unpack(&*MOVING, bytes, key).is_err(), "it opened, although {what}: {bytes:?}");
    }
}

fn unpack<P: Packing>(packing: &P, bytes: &[u8], key: &[u8]) -> Result<(), Refusal> {
    CodecFor::<String>::unpack(packing, bytes, key, LONGEST).map(drop)
}

fn pack<P: Packing>(packing: &P, text: Option<&str>) -> Vec<u8> {
    let text = text.map(str::to_owned);
    match CodecFor::pack(packing, &META, KEY, text.as_ref()) {
        Ok(bytes) => bytes,
        Err(error) => panic!("{text:?} was refused: {error}"),
    }
}
