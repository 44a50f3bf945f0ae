//! [MessagePack](https://msgpack.org) by [rmp-serde](https://docs.rs/rmp-serde): compact, and
//! self-describing, so it carries what postcard cannot: flattened structs, untagged enums, free-form
//! values. Structs are written as maps, with the names of their fields.
//!
//! rmp-serde bounds nesting, but not through enums' newtype variants; the guard bounds all of it.

use rmp_serde::{Deserializer, Serializer, decode::Error};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Codec, CodecId, DecodeError, EncodeError, forms::Forms, guard};

/// The codec of the crate `rmp-serde`, with named fields.
///
/// Refuses to encode what it could not read back: values nested deeper than 120 containers, and an
/// option that holds nothing (`Some(None)`, `Some(())`), which MessagePack writes as it writes
/// `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagePack;

struct Rules;

impl guard::Rules for Rules {
    const BARE_OPTIONS: bool = true;
    const NIL_UNIT_STRUCTS: bool = false;
    const FINITE_FLOATS: bool = false;
    const POSITIONAL: bool = false;
    const WIDE_FLOATS: bool = false;
}

impl Codec for MessagePack {
    fn id(&self) -> CodecId {
        CodecId::MESSAGE_PACK
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
            let mut writer = Serializer::new(out).with_struct_map();
            value.serialize(&mut writer)
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
        let mut reader = Deserializer::from_read_ref(payload);
        let value = guard::deserialize(&mut reader, payload.len(), forms)?;
        // The reader does not tell its place: only at the end is there no further marker.
        match u8::deserialize(&mut reader) {
            Err(Error::InvalidMarkerRead(_)) => Ok(value),
            _ => Err(DecodeError::Trailing),
        }
    }
}
