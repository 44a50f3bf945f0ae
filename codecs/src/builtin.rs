//! This crate's own codecs, by their ids: what every cache can read besides its own.

use std::any::TypeId;

use serde::de::DeserializeOwned;

use crate::{Codec, CodecId, DecodeError, envelope::Refusal};

/// Decodes what the codec `id` wrote.
#[cfg_attr(
    not(any(feature = "postcard", feature = "messagepack", feature = "json")),
    allow(unused_variables)
)]
pub(crate) fn decode<T: DeserializeOwned>(id: CodecId, payload: &[u8]) -> Result<T, DecodeError> {
    match id {
        #[cfg(feature = "postcard")]
        CodecId::POSTCARD => Codec::decode(&crate::Postcard, payload),
        #[cfg(feature = "messagepack")]
        CodecId::MESSAGE_PACK => Codec::decode(&crate::MessagePack, payload),
        #[cfg(feature = "json")]
        CodecId::JSON => Codec::decode(&crate::Json, payload),
        _ => Err(Refusal::Codec.into()),
    }
}

/// Whether `C` is one of them.
pub(crate) fn has<C: Codec>() -> bool {
    [
        #[cfg(feature = "postcard")]
        TypeId::of::<crate::Postcard>(),
        #[cfg(feature = "messagepack")]
        TypeId::of::<crate::MessagePack>(),
        #[cfg(feature = "json")]
        TypeId::of::<crate::Json>(),
    ]
    .contains(&TypeId::of::<C>())
}
