//! A value in its former form, which a newer version of its type may be made from.

use serde::de::DeserializeOwned;

use crate::{Packing, Shape, Unpacked, packing};

/// An older entry's value, before its type is known.
pub trait OldValue {
    /// The value, if it is an `O`: if the entry was written from a type of `O`'s shape, and its
    /// bytes decode. So several former types can be tried in turn; those of one shape, and those
    /// whose shape is not seen whole, are told apart by the schema version only.
    fn read<O: DeserializeOwned + 'static>(&self) -> Option<O>;
}

/// An older entry, opened.
pub(crate) struct Old<'a, P> {
    packing: &'a P,
    unpacked: &'a Unpacked<'a>,
}

impl<'a, P> Old<'a, P> {
    pub(crate) fn new(packing: &'a P, unpacked: &'a Unpacked<'a>) -> Self {
        Self { packing, unpacked }
    }
}

impl<P: Packing> OldValue for Old<'_, P> {
    fn read<O: DeserializeOwned + 'static>(&self) -> Option<O> {
        if self.unpacked.header.negative || self.unpacked.header.shape != Shape::of::<O>() {
            return None;
        }
        packing::decode(self.packing, self.unpacked).ok()
    }
}

/// No value at all, of a cache that stores none.
pub(crate) struct Nothing;

impl OldValue for Nothing {
    fn read<O: DeserializeOwned + 'static>(&self) -> Option<O> {
        None
    }
}
