//! Types that change under a warm cache: what one version wrote, another reads only if it has the same
//! shape.
//!
//! The first byte chooses the writer's version, the second the reader's, the third the packing; the rest
//! makes the value.

use std::sync::LazyLock;

use arbitrary::Unstructured;
use tiered_codecs::{
    Codec, CodecFor, Json, OldValue, Packing, Postcard, Shape, Unpacked, envelope::Refusal,
};

use crate::{
    packings::{KEY, META, SEALED},
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
        // The shape is the envelope's, whatever the packing: two stand for all.
        match packing % 2 {
            0 => drift(&Postcard, &value, reader),
            _ => drift(&*SEALED, &value, reader),
        }
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
    assert_eq!(CodecFor::<W>::decode(packing, &unpacked).as_ref(), Ok(value));
    let mut text = Vec::new();
    encode(value, &mut text);
    with_version!(reader, R => reads::<R, P>(packing, &unpacked, W::SHAPE, &text));
}

/// An upgrade reads an entry as its own type and as no other. Two types of one shape have the same text.
fn reads<R: Version, P: Packing>(packing: &P, unpacked: &Unpacked<'_>, shape: u8, written: &[u8]) {
    let old = CodecFor::<First>::old(packing, unpacked);
    let Some(read) = old.read::<R>() else { return assert_ne!(shape, R::SHAPE) };
    assert_eq!(shape, R::SHAPE, "it was read as {read:?}");
    let mut text = Vec::new();
    encode(&read, &mut text);
    assert_eq!(text, written);
}

/// A value's text.
fn encode<T: Version>(value: &T, text: &mut Vec<u8>) {
    assert_eq!(Codec::encode(&Json, value, text), Ok(()));
}
