//! JSON by [serde_json](https://docs.rs/serde_json): the largest and slowest, and the one that people
//! and other programs can read.
//!
//! The guard bounds nesting, alike for all codecs. Floats are read back to the last bit: serde_json's
//! feature `float_roundtrip`, and an `f32` is written as the `f64` it equals, because serde reads it as
//! one inside flattened structs and untagged enums.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Deserializer, Serializer};

use crate::{Codec, CodecId, DecodeError, EncodeError, forms::Forms, guard};

/// The codec of the crate `serde_json`.
///
/// Refuses to encode what it could not read back: values nested deeper than 120 containers, NaN and
/// infinite floats, maps whose keys are no strings or numbers, and an option that holds nothing
/// (`Some(None)`, `Some(())`), which JSON writes as it writes `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

struct Rules;

impl guard::Rules for Rules {
    const BARE_OPTIONS: bool = true;
    const NIL_UNIT_STRUCTS: bool = true;
    const FINITE_FLOATS: bool = true;
    const POSITIONAL: bool = false;
    const WIDE_FLOATS: bool = true;
}

impl Codec for Json {
    fn id(&self) -> CodecId {
        CodecId::JSON
    }

    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.encode_forms(value, out, Forms::default()).map(drop)
    }

    fn encode_forms<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
        forms: Forms,
    ) -> Result<Forms, EncodeError> {
        guard::serialize::<Rules, _, _>(value, out, forms, |out, value| {
            value.serialize(&mut Serializer::new(out))
        })
    }

    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, DecodeError> {
        self.decode_forms(payload, Forms::default()).map(|(value, _)| value)
    }

    fn decode_forms<T: DeserializeOwned>(
        &self,
        payload: &[u8],
        forms: Forms,
    ) -> Result<(T, Forms), DecodeError> {
        let mut reader = Deserializer::from_slice(payload);
        // It counts brackets, of which an enum takes two; the guard counts levels.
        reader.disable_recursion_limit();
        let value = guard::deserialize(&mut reader, payload.len(), forms)?;
        reader.end().map(|()| value).map_err(|_| DecodeError::Trailing)
    }
}
