//! What would not come back.
//!
//! Formats have gaps that serde does not report: JSON and MessagePack write `Some(None)` as they
//! write `None`, JSON writes NaN as null, and postcard has no trace of a field that
//! `skip_serializing_if` left out, so that the next field is read in its place. A cache that stored
//! such a value would serve another one. [`Guard`] stands between a value and the format's
//! serializer and refuses it, and so it does with what the decoder's bounds would refuse later.
//! Rejected: decoding what was just encoded, which doubles the work and proves nothing, for most
//! types cannot be compared.

mod parts;

use std::{fmt::Display, marker::PhantomData};

use serde::ser::{Error, Serialize, Serializer};

use self::parts::Parts;
use super::{MAX_ENCODED_DEPTH, Meter, allowance};
use crate::{EncodeError, forms::Forms};

/// What a format cannot express.
pub(crate) trait Rules {
    /// An option is written as its content: one that holds a nil reads as `None`.
    const BARE_OPTIONS: bool;
    /// A unit struct is written as a nil.
    const NIL_UNIT_STRUCTS: bool;
    /// Floats are finite.
    const FINITE_FLOATS: bool;
    /// Every field has its place.
    const POSITIONAL: bool;
    /// Floats may be read with another width than they were written with.
    const WIDE_FLOATS: bool;
}

/// Encodes `value` by `write`, which runs it on a serializer that appends to `out`. Tells `forms`
/// what it wrote.
pub(crate) fn serialize<R, T, E>(
    value: &T,
    out: &mut Vec<u8>,
    forms: Forms,
    write: impl FnOnce(&mut Vec<u8>, Watched<'_, T, R>) -> Result<(), E>,
) -> Result<Forms, EncodeError>
where
    R: Rules,
    T: Serialize + ?Sized,
    E: Display,
{
    let before = out.len();
    let meter = Meter::new(forms);
    let watched = Watched { value, meter: &meter, depth: 0, in_some: false, rules: PhantomData };
    write(out, watched).map_err(|error| EncodeError(meter.explain(error)))?;
    let len = out.len().saturating_sub(before);
    if meter.memory.get() > allowance(len) {
        return Err(EncodeError(format!(
            "{len} bytes for so many elements are more than a reader would believe"
        )));
    }
    Ok(meter.forms.into_inner())
}

/// A value that serializes under watch.
pub(crate) struct Watched<'m, T: ?Sized, R> {
    value: &'m T,
    meter: &'m Meter,
    /// How many containers are around it.
    depth: u32,
    /// It is what an option holds.
    in_some: bool,
    rules: PhantomData<R>,
}

impl<T: Serialize + ?Sized, R: Rules> Serialize for Watched<'_, T, R> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        let Self { value, meter, depth, in_some, rules } = *self;
        value.serialize(Guard { inner, meter, depth, in_some, rules })
    }
}

/// A format's serializer, watched.
struct Guard<'m, S, R> {
    inner: S,
    meter: &'m Meter,
    depth: u32,
    in_some: bool,
    rules: PhantomData<R>,
}

impl<'m, S: Serializer, R: Rules> Guard<'m, S, R> {
    #[cold]
    fn too_deep(&self) -> S::Error {
        S::Error::custom(self.meter.too_deep(MAX_ENCODED_DEPTH))
    }

    /// Enters a container; gives the depth of what is in it.
    #[inline]
    fn enter(&self) -> Result<u32, S::Error> {
        if self.meter.is_too_deep(self.depth + 1, MAX_ENCODED_DEPTH) {
            return Err(self.too_deep());
        }
        Ok(self.depth + 1)
    }

    /// Enters a struct of so many fields.
    #[inline]
    fn enter_struct(&self, name: &'static str, fields: usize) -> Result<u32, S::Error> {
        self.meter.write_form("", name, 0, fields);
        self.enter()
    }

    /// Enters a variant of so many fields.
    #[inline]
    fn enter_variant(
        &self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        fields: usize,
    ) -> Result<u32, S::Error> {
        self.meter.write_form(name, variant, index, fields);
        self.enter()
    }

    /// A float is about to be written.
    #[inline]
    fn finite(&self, is_finite: bool) -> Result<(), S::Error> {
        if R::FINITE_FLOATS && !is_finite {
            let words = self.meter.refuse("the format has no infinite floats and no NaN");
            return Err(S::Error::custom(words));
        }
        Ok(())
    }

    /// A nil is about to be written.
    fn nil(&self) -> Result<(), S::Error> {
        if R::BARE_OPTIONS && self.in_some {
            return Err(S::Error::custom(
                self.meter.refuse("an option that holds nothing would read as one that is none"),
            ));
        }
        Ok(())
    }
}

/// Passes plain values straight on.
macro_rules! leaves {
    ($($method:ident: $type:ty)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

impl<'m, S: Serializer, R: Rules> Serializer for Guard<'m, S, R> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'m, S::SerializeSeq, R>;
    type SerializeTuple = Parts<'m, S::SerializeTuple, R>;
    type SerializeTupleStruct = Parts<'m, S::SerializeTupleStruct, R>;
    type SerializeTupleVariant = Parts<'m, S::SerializeTupleVariant, R>;
    type SerializeMap = Parts<'m, S::SerializeMap, R>;
    type SerializeStruct = Parts<'m, S::SerializeStruct, R>;
    type SerializeStructVariant = Parts<'m, S::SerializeStructVariant, R>;

    leaves! {
        serialize_bool: bool
        serialize_i8: i8
        serialize_i16: i16
        serialize_i32: i32
        serialize_i64: i64
        serialize_i128: i128
        serialize_u8: u8
        serialize_u16: u16
        serialize_u32: u32
        serialize_u64: u64
        serialize_u128: u128
        serialize_char: char
        serialize_str: &str
        serialize_bytes: &[u8]
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.finite(value.is_finite())?;
        if R::WIDE_FLOATS {
            self.inner.serialize_f64(value.into())
        } else {
            self.inner.serialize_f32(value)
        }
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.finite(value.is_finite())?;
        self.inner.serialize_f64(value)
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        let depth = self.enter_struct(name, len)?;
        let inner = self.inner.serialize_struct(name, len)?;
        Ok(Parts { inner, meter: self.meter, depth, rules: PhantomData })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let depth = self.enter_variant(name, index, variant, len)?;
        let inner = self.inner.serialize_struct_variant(name, index, variant, len)?;
        Ok(Parts { inner, meter: self.meter, depth, rules: PhantomData })
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let depth = self.enter()?;
        if self.meter.write_form("", name, 0, len) {
            self.meter.forms.borrow_mut().add_tuple(name, len);
        }
        let inner = self.inner.serialize_tuple_struct(name, len)?;
        Ok(Parts { inner, meter: self.meter, depth, rules: PhantomData })
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let depth = self.enter()?;
        if self.meter.write_form(name, variant, index, len) {
            self.meter.forms.borrow_mut().add_tuple(name, len);
        }
        let inner = self.inner.serialize_tuple_variant(name, index, variant, len)?;
        Ok(Parts { inner, meter: self.meter, depth, rules: PhantomData })
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        let depth = self.enter()?;
        // Elements without bytes are no memory, but they are work.
        self.meter.pay(len);
        let inner = self.inner.serialize_tuple(len)?;
        Ok(Parts { inner, meter: self.meter, depth, rules: PhantomData })
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let depth = self.enter()?;
        let inner = self.inner.serialize_seq(len)?;
        Ok(Parts { inner, meter: self.meter, depth, rules: PhantomData })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let depth = self.enter()?;
        let inner = self.inner.serialize_map(len)?;
        Ok(Parts { inner, meter: self.meter, depth, rules: PhantomData })
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.nil()?;
        self.inner.serialize_none()
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.nil()?;
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        if R::NIL_UNIT_STRUCTS {
            self.nil()?;
        }
        self.inner.serialize_unit_struct(name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.meter.write_form(name, variant, index, 0);
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let depth = self.enter()?;
        let value = Watched { value, meter: self.meter, depth, in_some: true, rules: self.rules };
        self.inner.serialize_some(&value)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let depth = self.enter()?;
        // The formats write a newtype as its content, so an option around it sees through it.
        let value =
            Watched { value, meter: self.meter, depth, in_some: self.in_some, rules: self.rules };
        self.inner.serialize_newtype_struct(name, &value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let depth = self.enter_variant(name, index, variant, 1)?;
        let value = Watched { value, meter: self.meter, depth, in_some: false, rules: self.rules };
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}
