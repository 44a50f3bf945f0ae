//! Types that change under a warm cache: what one version wrote, another reads only if it has the same
//! shape.
//!
//! The first byte chooses the writer's version, the second the reader's, the third the packing; the rest
//! makes the value.

use std::sync::LazyLock;

use arbitrary::Unstructured;
use tiered_codecs::{CodecFor, OldValue, Packing, Shape, Unpacked, envelope::Refusal};

use crate::{
    packings::{KEY, META, with_packing},
    versions::{First, VERSIONS, Version, with_version},
};

/// Longer than any entry.
const LONGEST: usize = 1 << 20;

/// The shape of each version, and the number that versions of one shape share.
static SHAPES: LazyLock<Vec<(Shape, u8)>> = LazyLock::new(|| {
    (0..VERSIONS).map(|which| with_version!(which, V => (Shape::of::<V>(), V::SHAPE))).collect()
});

/// One run.
pub fn run(data: &[u8]) {
    let &[writer, reader, packing, ref rest @ ..] = data else { return };
    let mut from = Unstructured::new(rest);
    with_version!(writer, V => {
        let Ok(value) = from.arbitrary::<V>() else { return };
        with_packing!(packing, packing => drift(packing, &value, reader));
    });
}

/// Writes by one version and reads by all.
fn drift<W: Version, P: Packing>(packing: &P, value: &W, reader: u8) {
    let bytes = match CodecFor::<W>::pack(packing, &META, KEY, Some(value)) {
        Ok(bytes) => bytes,
        Err(error) => panic!("{packing:?} refused {value:?}: {error}"),
    };
    let unpacked = match CodecFor::<W>::unpack(packing, &bytes, KEY, LONGEST) {
        Ok(unpacked) => unpacked,
        Err(refusal) => panic!("{value:?}, just packed, was refused: {refusal}"),
    };
    assert_eq!(Shape::of::<W>(), unpacked.header.shape);
    for (shape, number) in &*SHAPES {
        let expected = if *number == W::SHAPE { Ok(()) } else { Err(Refusal::Shape) };
        assert!(shape.is_complete());
        assert_eq!(unpacked.header.accept(META.schema, *shape), expected);
        assert_eq!(unpacked.header.accept(0, *shape), Err(Refusal::NewerSchema));
        assert_eq!(unpacked.header.accept(2, *shape), Err(Refusal::OlderSchema));
    }
    with_version!(reader, R => reads::<R, W, P>(packing, &unpacked, value));
}

/// An upgrade reads an entry as its own type and as no other.
fn reads<R: Version, W: Version, P: Packing>(packing: &P, unpacked: &Unpacked<'_>, value: &W) {
    let old = CodecFor::<First>::old(packing, unpacked);
    let read = old.read::<R>();
    assert_eq!(read.is_some(), R::SHAPE == W::SHAPE, "{value:?} was read as {read:?}");
    if let Some(read) = read {
        assert_eq!(json(&read), json(value));
    }
    assert_eq!(old.read::<W>().as_ref(), Some(value));
}

/// A value's text: two types of one shape have the same.
fn json<T: Version>(value: &T) -> Vec<u8> {
    let mut text = Vec::new();
    let encoded = tiered_codecs::Codec::encode(&tiered_codecs::Json, value, &mut text);
    assert_eq!(encoded, Ok(()));
    text
}
