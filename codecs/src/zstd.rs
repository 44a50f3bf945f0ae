//! Compression around a codec: what [`Zstd`] is told; the stage itself is in `compression.rs`.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    CodecId, DecodeError, EncodeError, Packing,
    compression::{Compression, Dictionary},
    forms::Forms,
};

/// Writes as `C`, compressed by zstd. A cache that was compiled with the feature `zstd` reads
/// compressed entries whether it writes them or not.
///
/// ```
/// # #[cfg(feature = "postcard")] {
/// use tiered_codecs::{Postcard, Zstd};
/// let codec = Zstd::new(Postcard).level(6).threshold(1024);
/// # let _ = codec;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Zstd<C> {
    inner: C,
    compression: Compression,
}

impl<C: Packing> Zstd<C> {
    /// Compresses what `inner` writes, at zstd's default level, from 256 bytes on.
    pub fn new(inner: C) -> Self {
        Self { inner, compression: Compression::new() }
    }

    /// zstd's level: 1 is quick, 19 is small, negative ones are quicker still; 3 unless told. A
    /// writer's context takes more memory with each level: about 1 MiB at 3, about 80 MiB at 19.
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        self.compression.level = level;
        // It was prepared for the former level, if at all.
        self.compression.dictionary =
            self.compression.dictionary.map(|dictionary| Arc::new(dictionary.anew()));
        self
    }

    /// From how many bytes on payloads are compressed; 256 unless told. What does not shrink stays
    /// as it is, too.
    #[must_use]
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.compression.threshold = bytes;
        self
    }

    /// To how many bytes a payload may decompress, whatever it claims; 32 MiB unless told. Larger
    /// values are not written either.
    #[must_use]
    pub fn max_expanded(mut self, bytes: usize) -> Self {
        self.compression.max_expanded = bytes;
        self
    }

    /// Compresses with a trained dictionary, which pays for small values that resemble each other.
    /// The entry names it by a hash of its bytes; readers need the same bytes, by this method or by
    /// [`old_dictionary`](Self::old_dictionary).
    #[must_use]
    pub fn dictionary(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.compression.dictionary = Some(Arc::new(Dictionary::new(bytes.into())));
        self
    }

    /// Also reads what was compressed with another dictionary: one that is going, or one that is
    /// coming.
    #[must_use]
    pub fn old_dictionary(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.compression.old_dictionaries.push(Arc::new(Dictionary::new(bytes.into())));
        self
    }
}

impl<C: Packing> Packing for Zstd<C> {
    fn id(&self) -> CodecId {
        self.inner.id()
    }

    fn encode_forms<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
        forms: Forms,
    ) -> Result<Forms, EncodeError> {
        self.inner.encode_forms(value, out, forms)
    }

    fn decode<T: DeserializeOwned>(&self, id: CodecId, payload: &[u8]) -> Result<T, DecodeError> {
        self.inner.decode(id, payload)
    }

    fn decode_forms<T: DeserializeOwned>(
        &self,
        payload: &[u8],
        forms: Forms,
    ) -> Result<(T, Forms), DecodeError> {
        self.inner.decode_forms(payload, forms)
    }

    fn check(&self) -> Result<(), String> {
        self.compression.check()?;
        if self.inner.compression().is_some() {
            return Err("Zstd in Zstd: an entry is compressed once; give the other dictionary by \
                        old_dictionary"
                .into());
        }
        self.inner.check()
    }

    fn foreign(&self) -> Vec<CodecId> {
        self.inner.foreign()
    }

    fn compression(&self) -> Option<&Compression> {
        Some(&self.compression)
    }

    #[cfg(feature = "seal")]
    fn keys(&self) -> Option<&crate::sealing::Keys> {
        self.inner.keys()
    }
}
