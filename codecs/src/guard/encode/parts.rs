//! The parts of containers, as they are written.

use std::marker::PhantomData;

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
};

use super::{Rules, Watched};
use crate::guard::{ELEMENT, Meter};

/// A container that is being written.
pub(super) struct Parts<'m, P, R> {
    pub(super) inner: P,
    pub(super) meter: &'m Meter,
    /// Of its parts.
    pub(super) depth: u32,
    pub(super) rules: PhantomData<R>,
}

impl<'m, P, R> Parts<'m, P, R> {
    /// Watches an element of a list or a map, and pays for it; not for its size, which is not seen
    /// behind the references that serde hands over.
    #[inline]
    fn element<'v, T: ?Sized>(&self, value: &'v T) -> Watched<'v, T, R>
    where
        'm: 'v,
    {
        self.meter.pay(ELEMENT);
        self.field(value)
    }

    /// Watches a field.
    #[inline]
    fn field<'v, T: ?Sized>(&self, value: &'v T) -> Watched<'v, T, R>
    where
        'm: 'v,
    {
        Watched { value, meter: self.meter, depth: self.depth, in_some: false, rules: PhantomData }
    }

    /// A field was left out.
    fn skip<E: Error>(&self, name: &str) -> Result<(), E>
    where
        R: Rules,
    {
        if R::POSITIONAL {
            return Err(E::custom(self.meter.refuse(format_args!(
                "the field {name:?} is left out (skip_serializing_if), and this format has a place \
                 for every field"
            ))));
        }
        Ok(())
    }
}

/// A container of nameless parts.
macro_rules! nameless {
    ($($trait:ident::$method:ident as $part:ident)*) => {$(
        impl<P: $trait, R: Rules> $trait for Parts<'_, P, R> {
            type Ok = P::Ok;
            type Error = P::Error;
            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
                let value = self.$part(value);
                self.inner.$method(&value)
            }
            #[inline]
            fn end(self) -> Result<P::Ok, P::Error> {
                self.inner.end()
            }
        }
    )*};
}

nameless! {
    SerializeSeq::serialize_element as element
    SerializeTuple::serialize_element as field
    SerializeTupleStruct::serialize_field as field
    SerializeTupleVariant::serialize_field as field
}

/// A container of named fields.
macro_rules! named {
    ($($trait:ident)*) => {$(
        impl<P: $trait, R: Rules> $trait for Parts<'_, P, R> {
            type Ok = P::Ok;
            type Error = P::Error;
            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), P::Error> {
                let value = self.field(value);
                self.inner.serialize_field(name, &value)
            }
            fn skip_field(&mut self, name: &'static str) -> Result<(), P::Error> {
                self.skip(name)?;
                self.inner.skip_field(name)
            }
            #[inline]
            fn end(self) -> Result<P::Ok, P::Error> {
                self.inner.end()
            }
        }
    )*};
}

named! { SerializeStruct SerializeStructVariant }

impl<P: SerializeMap, R: Rules> SerializeMap for Parts<'_, P, R> {
    type Ok = P::Ok;
    type Error = P::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), P::Error> {
        let key = self.element(key);
        self.inner.serialize_key(&key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
        let value = self.element(value);
        self.inner.serialize_value(&value)
    }

    fn end(self) -> Result<P::Ok, P::Error> {
        self.inner.end()
    }
}
