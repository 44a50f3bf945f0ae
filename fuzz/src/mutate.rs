//! Entries that were changed on their way: none is taken for another value.

use arbitrary::{Arbitrary, Unstructured};
use serde::{Deserialize, Serialize};
use tiered_codecs::{CodecFor, Packing, Shape, envelope::open};

use crate::{
    checksum::mend,
    edits::{Edit, edit},
    packings::{KEY, META, with_packing},
};

/// Longer than any entry.
const LONGEST: usize = 1 << 20;

/// What is changed, and how.
#[derive(Arbitrary, Debug)]
struct Input {
    packing: u8,
    /// Somebody makes the checksum right again.
    mends: bool,
    edits: Vec<Edit>,
    value: Cart,
    other: Cart,
}

/// An ordinary value.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
struct Cart {
    user: u64,
    note: Option<String>,
    lines: Vec<Line>,
}

/// And its parts.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
enum Line {
    Gift,
    Item { product: u32, count: u8 },
    Text(String),
}

/// One run.
pub fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    with_packing!(input.packing, packing => change(packing, &input));
}

/// Packs, changes and unpacks.
fn change<P: Packing>(packing: &P, input: &Input) {
    let bytes = pack(packing, &input.value);
    assert_eq!(read(packing, &bytes).as_ref(), Some(&input.value));
    let splices = input.edits.iter().any(|edit| matches!(edit, Edit::Splice(_)));
    let other = splices.then(|| pack(packing, &input.other));
    let mut changed = bytes.clone();
    edit(&mut changed, &input.edits, other.as_deref().unwrap_or_default());
    if input.mends {
        mend(&mut changed, KEY);
    }
    let read = read(packing, &changed);
    if changed == bytes {
        assert_eq!(read.as_ref(), Some(&input.value));
    } else if other.is_some_and(|other| other == changed) {
        assert_eq!(read.as_ref(), Some(&input.other));
    } else if !input.mends || is_sealed(&bytes) {
        assert!(read.is_none(), "{read:?} was read from a changed entry: {changed:?}");
    }
}

/// An entry.
fn pack<P: Packing>(packing: &P, value: &Cart) -> Vec<u8> {
    match CodecFor::pack(packing, &META, KEY, Some(value)) {
        Ok(bytes) => bytes,
        Err(error) => panic!("{packing:?} refused {value:?}: {error}"),
    }
}

/// As a cache reads: unpack, accept, decode.
fn read<P: Packing>(packing: &P, bytes: &[u8]) -> Option<Cart> {
    let unpacked = CodecFor::<Cart>::unpack(packing, bytes, KEY, LONGEST).ok()?;
    unpacked.header.accept(META.schema, Shape::of::<Cart>()).ok()?;
    CodecFor::decode(packing, &unpacked).ok()
}

/// Whether an entry is sealed.
fn is_sealed(bytes: &[u8]) -> bool {
    open(bytes, KEY, LONGEST).is_ok_and(|opened| opened.header.sealed)
}
