//! What holds when a codec meets bytes from anywhere.
//!
//! The first byte chooses a type, the rest is the payload. Decoding neither panics nor takes more
//! memory than the fuzzer's limits. What decodes encodes again, or is refused with an error; and what
//! was encoded decodes to the equal value.

use tiered_codecs::{Codec, DecodeError};
use xxhash_rust::xxh3::xxh3_64;

use crate::awkward::{Awkward, with_type};

/// Decodes the bytes by `codec` into the type that they begin with.
pub fn decode<C: Codec>(codec: &C, data: &[u8]) {
    let Some((&which, payload)) = data.split_first() else { return };
    with_type!(which, T => decode_as::<C, T>(codec, payload));
}

/// Decodes `payload` into a `T`.
fn decode_as<C: Codec, T: Awkward>(codec: &C, payload: &[u8]) {
    if T::ONE_IN > 1 && !xxh3_64(payload).is_multiple_of(T::ONE_IN) {
        return;
    }
    let Ok(value) = read::<C, T>(codec, payload) else { return };
    let mut bytes = Vec::with_capacity(256);
    if Codec::encode(codec, &value, &mut bytes).is_err() {
        assert!(T::may_be_refused(codec.id()), "{codec:?} refused {value:?}");
        return;
    }
    match read::<C, T>(codec, &bytes) {
        Ok(again) => assert!(again == value, "{value:?} came back as {again:?} from {bytes:?}"),
        Err(error) => panic!("{value:?} was encoded, but does not decode: {error}: {bytes:?}"),
    }
}

fn read<C: Codec, T: Awkward>(codec: &C, payload: &[u8]) -> Result<T, DecodeError> {
    Codec::decode(codec, payload)
}
