//! From a value to an entry's bytes and back, through every stage.
//!
//! ```text
//! value -> codec -> compression -> encryption -> envelope
//! ```
//!
//! The stages and their order are fixed; a cache's [`Packing`] says which of them it writes with. What
//! it reads is told by the envelope: a codec's id and two flags. So a service can change its codec, or
//! switch compression on, over a warm cache. Rejected: wrappers that each encode and decode as they
//! please, one inside the other. A reader would then have to be wrapped as the writer was, and
//! compressing what was encrypted would compile.

use std::{
    borrow::Cow,
    fmt::{self, Debug},
    sync::atomic::Ordering,
};

use serde::{Serialize, de::DeserializeOwned};

#[cfg(feature = "zstd")]
use crate::compression::{self, Compression};
#[cfg(feature = "seal")]
use crate::sealing::Keys;
use crate::{
    Codec, CodecId, DecodeError, EncodeError, Shape, builtin,
    envelope::{self, Extensions, Header, Meta, Refusal},
    forms::{self, Forms},
    known::Known,
};

/// The least that is reserved for a payload, so that a small one never reallocates.
const FIRST_GUESS: usize = 192;
/// The most that is reserved for a payload because the last one of its type was as long.
const LAST_GUESS: usize = 1 << 20;
/// What a seal adds behind it.
const AFTER: usize = if cfg!(feature = "seal") { 48 } else { 0 };

/// What a cache writes its values with, and what it can read besides: a [`Codec`], alone or in
/// `Zstd`, `Sealed` and [`Also`](crate::Also).
///
/// Every codec is one. It is not meant to be implemented elsewhere: implement [`Codec`].
pub trait Packing: Clone + Debug + Send + Sync + 'static {
    /// The id of the codec that it writes with.
    fn id(&self) -> CodecId;

    /// Appends `value` to `out`, by that codec.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.encode_forms(value, out, Forms::default()).map(drop)
    }

    #[doc(hidden)]
    fn encode_forms<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
        forms: Forms,
    ) -> Result<Forms, EncodeError>;

    /// Decodes what the codec `id` wrote.
    ///
    /// # Errors
    /// As [`Codec::decode`]; [`Refusal::Codec`] for a codec that is not known here.
    fn decode<T: DeserializeOwned>(&self, id: CodecId, payload: &[u8]) -> Result<T, DecodeError>;

    #[doc(hidden)]
    fn decode_forms<T: DeserializeOwned>(
        &self,
        payload: &[u8],
        forms: Forms,
    ) -> Result<(T, Forms), DecodeError>;

    /// Refuses what cannot work, two codecs of one id among it.
    ///
    /// # Errors
    /// A sentence that names the value and the way out.
    fn check(&self) -> Result<(), String>;

    /// The codecs from elsewhere that it reads.
    #[doc(hidden)]
    fn foreign(&self) -> Vec<CodecId>;

    /// How it compresses.
    #[cfg(feature = "zstd")]
    #[doc(hidden)]
    fn compression(&self) -> Option<&Compression> {
        None
    }

    /// What it encrypts with.
    #[cfg(feature = "seal")]
    #[doc(hidden)]
    fn keys(&self) -> Option<&Keys> {
        None
    }
}

impl<C: Codec> Packing for C {
    fn id(&self) -> CodecId {
        Codec::id(self)
    }

    fn encode_forms<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
        forms: Forms,
    ) -> Result<Forms, EncodeError> {
        Codec::encode_forms(self, value, out, forms)
    }

    fn decode<T: DeserializeOwned>(&self, id: CodecId, payload: &[u8]) -> Result<T, DecodeError> {
        if id == Codec::id(self) {
            Codec::decode(self, payload)
        } else {
            builtin::decode(id, payload)
        }
    }

    fn decode_forms<T: DeserializeOwned>(
        &self,
        payload: &[u8],
        forms: Forms,
    ) -> Result<(T, Forms), DecodeError> {
        Codec::decode_forms(self, payload, forms)
    }

    fn check(&self) -> Result<(), String> {
        let id = Codec::id(self);
        if id.is_foreign() || builtin::has::<C>() {
            return Ok(());
        }
        Err(format!(
            "the codec {self:?} has the id {}, and those below {} are reserved for tiered's own: \
             give it one from {} to 255",
            id.0,
            CodecId::FIRST_FOREIGN.0,
            CodecId::FIRST_FOREIGN.0,
        ))
    }

    fn foreign(&self) -> Vec<CodecId> {
        let id = Codec::id(self);
        if id.is_foreign() { vec![id] } else { Vec::new() }
    }
}

/// An entry of a value that encodes by `packing`, or of none.
pub(crate) fn pack<P, T>(
    packing: &P,
    meta: &Meta,
    shape: Shape,
    tags: &[u8],
    key: &[u8],
    value: Option<&T>,
) -> Result<Vec<u8>, EncodeError>
where
    P: Packing,
    T: Serialize + DeserializeOwned + 'static,
{
    if tags.len() > envelope::MAX_TAGS_LEN {
        return Err(EncodeError(format!(
            "its tags take {} bytes, and 65,535 is the most",
            tags.len()
        )));
    }
    let mut header = Header {
        codec: packing.id(),
        negative: value.is_none(),
        compressed: false,
        sealed: false,
        shape,
        meta: *meta,
    };
    let mut extensions = Extensions { tags, ..Extensions::default() };
    #[cfg_attr(not(feature = "seal"), allow(unused_mut))]
    let mut bytes = match value {
        None => envelope::begin(0),
        Some(value) => write(packing, value, &mut header, &mut extensions)?,
    };
    if bytes.len() < envelope::HEADER_LEN {
        return Err(EncodeError("the codec shortened the buffer it was to append to".into()));
    }
    #[cfg(feature = "seal")]
    if let Some(keys) = packing.keys() {
        keys.seal(&mut bytes, &mut header, &mut extensions, key)?;
    }
    envelope::finish(&mut bytes, &header, &extensions, key);
    Ok(bytes)
}

/// The first two stages: the beginning of an envelope, with the payload.
#[cfg_attr(not(feature = "zstd"), allow(unused_variables))]
fn write<P, T>(
    packing: &P,
    value: &T,
    header: &mut Header,
    extensions: &mut Extensions<'_>,
) -> Result<Vec<u8>, EncodeError>
where
    P: Packing,
    T: Serialize + DeserializeOwned + 'static,
{
    let known = Known::of::<T>();
    #[cfg(feature = "zstd")]
    if let Some(compression) = packing.compression() {
        let (bytes, is_compressed) =
            compression.begin(|raw| forms::encode(packing, known, value, raw))?;
        header.compressed = is_compressed;
        extensions.dictionary = compression.dictionary().filter(|_| is_compressed);
        return Ok(bytes);
    }
    let usual_len = known.usual_len.load(Ordering::Relaxed);
    let mut bytes = envelope::begin(usual_len.clamp(FIRST_GUESS, LAST_GUESS) + AFTER);
    forms::encode(packing, known, value, &mut bytes)?;
    let payload = bytes.get(envelope::HEADER_LEN..).unwrap_or_default();
    if payload.len() > usual_len || payload.len() < usual_len / 2 {
        known.usual_len.store(payload.len(), Ordering::Relaxed);
    }
    if bytes.capacity() / 2 > bytes.len() + FIRST_GUESS {
        // Entries are kept, and this one is not what was guessed.
        bytes.shrink_to(bytes.len() + AFTER);
    }
    Ok(bytes)
}

/// An entry that was opened and, if it was sealed, authenticated and decrypted.
#[derive(Clone)]
pub struct Unpacked<'a> {
    /// What it says of its value.
    pub header: Header,
    /// The dictionary it was compressed with.
    dictionary: Option<u64>,
    /// What it depends on, as the engine wrote it.
    pub tags: &'a [u8],
    /// What the codec wrote, perhaps compressed.
    payload: Cow<'a, [u8]>,
}

impl Debug for Unpacked<'_> {
    /// The payload is not shown: it may have been secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Unpacked").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Opens an entry, through the outer two stages.
pub(crate) fn unpack<'a, P: Packing>(
    packing: &P,
    bytes: &'a [u8],
    key: &[u8],
    limit: usize,
) -> Result<Unpacked<'a>, Refusal> {
    let opened = envelope::open(bytes, key, limit)?;
    let Extensions { dictionary, tags, .. } = opened.extensions;
    #[cfg(feature = "seal")]
    if let Some(keys) = packing.keys() {
        let payload = keys.unseal(&opened, key)?;
        return Ok(Unpacked { header: opened.header, dictionary, tags, payload });
    }
    let _ = packing;
    if opened.header.sealed {
        return Err(Refusal::Sealed);
    }
    Ok(Unpacked { header: opened.header, dictionary, tags, payload: Cow::Borrowed(opened.payload) })
}

/// Decodes an unpacked entry's value, through the inner two stages.
pub(crate) fn decode<P, T>(packing: &P, unpacked: &Unpacked<'_>) -> Result<T, DecodeError>
where
    P: Packing,
    T: DeserializeOwned,
{
    let Unpacked { header, dictionary, payload, .. } = unpacked;
    if !header.compressed {
        return packing.decode(header.codec, payload);
    }
    #[cfg(feature = "zstd")]
    return compression::expanded(packing.compression(), *dictionary, payload, |raw| {
        packing.decode(header.codec, raw)
    });
    #[cfg(not(feature = "zstd"))]
    {
        let _ = dictionary;
        Err(Refusal::Codec.into())
    }
}
