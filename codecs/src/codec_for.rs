//! What the engine asks of a cache's packing: "this carries that type".
//!
//! It stands between the engine and [`Packing`] so that a cache without an L2 ([`NoCodec`]) takes types
//! that know nothing of serde.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    DecodeError, EncodeError, OldValue, Packing, Shape, Unpacked,
    envelope::{Meta, Refusal},
    old::{Nothing, Old},
    packing,
};

/// "This carries `T`": implemented for every [`Packing`] and every serde type, and for [`NoCodec`]
/// and every type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry `{T}`",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, or use a cache without an L2 (`Tiered::local`)"
)]
pub trait CodecFor<T: 'static>: Clone + Debug + Send + Sync + 'static {
    /// As [`Packing::check`].
    ///
    /// # Errors
    /// As [`Packing::check`].
    fn check(&self) -> Result<(), String>;

    /// The fingerprint of `T`.
    fn shape(&self) -> Shape;

    /// The bytes of an entry; of a negative one, without a value.
    ///
    /// # Errors
    /// As [`Codec::encode`](crate::Codec::encode).
    fn pack(&self, meta: &Meta, key: &[u8], value: Option<&T>) -> Result<Vec<u8>, EncodeError> {
        self.pack_tagged(meta, &[], key, value)
    }

    /// The same, of an entry that depends on `tags`.
    ///
    /// # Errors
    /// As [`pack`](Self::pack), and for tags that are too long.
    fn pack_tagged(
        &self,
        meta: &Meta,
        tags: &[u8],
        key: &[u8],
        value: Option<&T>,
    ) -> Result<Vec<u8>, EncodeError>;

    /// Opens an entry of at most `limit` bytes, and authenticates it if this packing seals. What it
    /// holds is not looked at; [`Header::accept`](crate::envelope::Header::accept) says whether it
    /// is what the reader wants.
    ///
    /// # Errors
    /// As [`envelope::open`](crate::envelope::open); then [`Refusal::Sealed`].
    fn unpack<'a>(
        &self,
        bytes: &'a [u8],
        key: &[u8],
        limit: usize,
    ) -> Result<Unpacked<'a>, Refusal>;

    /// Decodes an unpacked entry's value, whichever codec wrote it.
    ///
    /// # Errors
    /// [`DecodeError`], for any bytes that are no value.
    fn decode(&self, unpacked: &Unpacked<'_>) -> Result<T, DecodeError>;

    /// An entry that was refused, for an upgrade to look into.
    fn old<'a>(&'a self, unpacked: &'a Unpacked<'a>) -> impl OldValue + 'a;
}

impl<T, P> CodecFor<T> for P
where
    P: Packing,
    T: Serialize + DeserializeOwned + 'static,
{
    fn check(&self) -> Result<(), String> {
        Packing::check(self)
    }

    fn shape(&self) -> Shape {
        Shape::of::<T>()
    }

    fn pack_tagged(
        &self,
        meta: &Meta,
        tags: &[u8],
        key: &[u8],
        value: Option<&T>,
    ) -> Result<Vec<u8>, EncodeError> {
        packing::pack(self, meta, Shape::of::<T>(), tags, key, value)
    }

    fn unpack<'a>(
        &self,
        bytes: &'a [u8],
        key: &[u8],
        limit: usize,
    ) -> Result<Unpacked<'a>, Refusal> {
        packing::unpack(self, bytes, key, limit)
    }

    fn decode(&self, unpacked: &Unpacked<'_>) -> Result<T, DecodeError> {
        packing::decode(self, unpacked)
    }

    fn old<'a>(&'a self, unpacked: &'a Unpacked<'a>) -> impl OldValue + 'a {
        Old::new(self, unpacked)
    }
}

/// The codec of a cache that has no L2: it carries every type because it encodes none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCodec;

impl<T: 'static> CodecFor<T> for NoCodec {
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn shape(&self) -> Shape {
        Shape::untraced()
    }

    fn pack_tagged(
        &self,
        _: &Meta,
        _: &[u8],
        _: &[u8],
        _: Option<&T>,
    ) -> Result<Vec<u8>, EncodeError> {
        Err(EncodeError("this cache has no codec".into()))
    }

    fn unpack<'a>(&self, _: &'a [u8], _: &[u8], _: usize) -> Result<Unpacked<'a>, Refusal> {
        Err(Refusal::Codec)
    }

    fn decode(&self, _: &Unpacked<'_>) -> Result<T, DecodeError> {
        Err(Refusal::Codec.into())
    }

    fn old<'a>(&'a self, _: &'a Unpacked<'a>) -> impl OldValue + 'a {
        Nothing
    }
}
