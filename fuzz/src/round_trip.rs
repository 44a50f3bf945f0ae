//! Values through every packing: they come back equal, or are refused before anything is stored.
//!
//! The first byte chooses the type, the second the packing, the rest makes the value.

use arbitrary::Unstructured;
use tiered_codecs::{CodecFor, Packing, Shape, envelope::Refusal};

use crate::{
    awkward::{Awkward, Lopsided, with_type},
    packings::{KEY, META, with_packing},
};

/// From this number on, the type is [`Lopsided`].
const FIRST_LOPSIDED: u8 = 240;

/// One run.
pub fn run(data: &[u8]) {
    let &[which, packing, ref rest @ ..] = data else { return };
    // Codecs alone carry lopsided types wrongly, and packings refuse them: so they are tried here only.
    if which >= FIRST_LOPSIDED {
        return make::<Lopsided>(packing, rest);
    }
    with_type!(which, T => make::<T>(packing, rest));
}

/// Makes a value and carries it.
fn make<T: Awkward>(packing: u8, rest: &[u8]) {
    let Ok(value) = Unstructured::new(rest).arbitrary::<T>() else { return };
    with_packing!(packing, packing => carry(packing, &value));
}

/// Packs a value and unpacks it.
fn carry<T: Awkward, P: Packing>(packing: &P, value: &T) {
    let id = Packing::id(packing);
    let bytes = match CodecFor::<T>::pack(packing, &META, KEY, Some(value)) {
        Ok(bytes) => bytes,
        Err(error) => {
            assert!(T::may_be_refused(id), "{packing:?} refused {value:?}: {error}");
            return;
        }
    };
    let unpacked = match CodecFor::<T>::unpack(packing, &bytes, KEY, bytes.len()) {
        Ok(unpacked) => unpacked,
        Err(refusal) => panic!("{value:?}, just packed, was refused: {refusal}"),
    };
    assert_eq!(unpacked.header.meta, META);
    assert_eq!(unpacked.header.codec, id);
    assert_eq!(unpacked.header.accept(META.schema, Shape::of::<T>()), Ok(()));
    assert_eq!(unpacked.header.accept(0, Shape::of::<T>()), Err(Refusal::NewerSchema));
    match CodecFor::<T>::decode(packing, &unpacked) {
        Ok(read) => assert!(read == *value, "{value:?} came back as {read:?} from {bytes:?}"),
        Err(error) => {
            assert!(
                !T::must_be_read(id),
                "{packing:?} wrote {value:?} and cannot read it: {error}"
            );
        }
    }
}
