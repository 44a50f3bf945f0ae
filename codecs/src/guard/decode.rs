//! What hostile bytes may cost.
//!
//! [`Guard`] stands between a type and the format's deserializer. It bounds nesting, so that hostile
//! bytes cannot overflow the stack (which would end the process), and it bounds the number of parts
//! by the input's length, so that five bytes cannot announce two thousand million values that take no
//! bytes. Rejected: looking through the payload before decoding it, which only a self-describing
//! format allows; and growing the stack, which needs assembly and lets a bomb have the memory instead.

mod access;

use std::cell::Cell;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess,
    Visitor,
};

use super::{MAX_DEPTH, allowance};
use crate::{DecodeError, forms::Forms};

/// Decodes a `T` from `format`, whose input has `len` bytes. Tells `forms` which tuples it read.
pub(crate) fn deserialize<'de, T, D>(
    format: D,
    len: usize,
    forms: Forms,
) -> Result<(T, Forms), DecodeError>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let meter = super::Meter::new(forms);
    let meter = Meter { used: &meter, allowance: allowance(len), hints: Cell::new(len) };
    let guard = Guard {
        inner: format,
        meter: &meter,
        depth: 0,
        room: size_of::<T>(),
        tuple: "",
        is_list: false,
    };
    let value =
        T::deserialize(guard).map_err(|error| DecodeError::Payload(meter.used.explain(error)))?;
    Ok((value, meter.used.forms.take()))
}

/// What one decoding may still use.
struct Meter<'m> {
    used: &'m super::Meter,
    allowance: usize,
    /// How many elements may still be announced: an honest one takes a byte, unless it is a unit.
    hints: Cell<usize>,
}

impl Meter<'_> {
    /// Pays for so many bytes of memory.
    #[inline]
    fn pay<E: Error>(&self, memory: usize) -> Result<(), E> {
        self.used.pay(memory);
        if self.used.memory.get() > self.allowance { Err(self.too_large()) } else { Ok(()) }
    }

    #[cold]
    fn too_large<E: Error>(&self) -> E {
        let words = format_args!("it would take more than {} bytes of memory", self.allowance);
        E::custom(self.used.refuse(words))
    }

    #[cold]
    fn too_deep<E: Error>(&self) -> E {
        E::custom(self.used.too_deep(MAX_DEPTH))
    }

    /// A size hint that no reader can be harmed by. All containers draw from one stock, for nested
    /// ones are reserved at the same time.
    #[inline]
    fn hint(&self, claimed: Option<usize>) -> Option<usize> {
        let hint = claimed?.min(self.hints.get());
        self.hints.set(self.hints.get() - hint);
        Some(hint)
    }
}

/// A part of the format's machinery, watched: its deserializer, an access, a visitor or a seed.
struct Guard<'m, I> {
    inner: I,
    meter: &'m Meter<'m>,
    /// How many containers are around it.
    depth: u32,
    /// The memory that is paid for already, in bytes: of the value, or of what it is a part of.
    room: usize,
    /// The name of the enum, if its variant is to be read.
    tuple: &'static str,
    /// Whether the parts are elements of a list or a map, which lie outside it.
    is_list: bool,
}

impl<'m, I> Guard<'m, I> {
    /// Watches another part with the same meter.
    fn over<J>(&self, inner: J) -> Guard<'m, J> {
        let Self { meter, depth, room, tuple, is_list, .. } = *self;
        Guard { inner, meter, depth, room, tuple, is_list }
    }
}

/// Passes calls for values without parts straight on.
macro_rules! leaves {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        }
    )*};
}

/// Passes calls for containers on, one level deeper and with the visitor watched.
macro_rules! containers {
    ($($method:ident($($arg:ident: $type:ty),*) $is_list:literal)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.enter(visitor, $is_list)?;
            self.inner.$method($($arg,)* visitor)
        }
    )*};
}

impl<'m, D> Guard<'m, D> {
    /// Enters a container. If it is larger than its owner has room for, it lies elsewhere.
    #[inline]
    fn enter<'de, V: Visitor<'de>, E: Error>(
        &self,
        visitor: V,
        is_list: bool,
    ) -> Result<Guard<'m, V>, E> {
        let (depth, room) = (self.depth + 1, size_of::<V::Value>());
        if self.meter.used.is_too_deep(depth, MAX_DEPTH) {
            return Err(self.meter.too_deep());
        }
        if room > self.room {
            self.meter.pay(room)?;
        }
        Ok(Guard { inner: visitor, meter: self.meter, depth, room, tuple: "", is_list })
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guard<'_, D> {
    type Error = D::Error;

    leaves! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
    }

    // A self-describing format may find a container where a string or a unit was asked for, and a
    // visitor may take it.
    containers! {
        deserialize_any() true
        deserialize_identifier() true
        deserialize_str() true
        deserialize_string() true
        deserialize_bytes() true
        deserialize_byte_buf() true
        deserialize_unit() true
        deserialize_unit_struct(name: &'static str) false
        deserialize_option() false
        deserialize_seq() true
        deserialize_map() true
        deserialize_newtype_struct(name: &'static str) false
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) false
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        // A format may skip what is ignored in a way of its own, with memory of its own.
        self.deserialize_any(visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        // Elements without bytes are no memory, but they are work.
        self.meter.pay(len)?;
        let visitor = self.enter(visitor, false)?;
        self.inner.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.meter.used.read_tuple(name, len);
        let visitor = self.enter(visitor, false)?;
        self.inner.deserialize_tuple_struct(name, len, visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Guard { tuple: name, ..self.enter(visitor, false)? };
        self.inner.deserialize_enum(name, variants, visitor)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Guard<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, format: D) -> Result<S::Value, D::Error> {
        let format = self.over(format);
        self.inner.deserialize(format)
    }
}

/// Passes visits of plain values on.
macro_rules! visits {
    ($($method:ident: $type:ty)*) => {$(
        #[inline]
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Guard<'_, V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.expecting(out)
    }

    visits! {
        visit_bool: bool
        visit_i8: i8
        visit_i16: i16
        visit_i32: i32
        visit_i64: i64
        visit_i128: i128
        visit_u8: u8
        visit_u16: u16
        visit_u32: u32
        visit_u64: u64
        visit_u128: u128
        visit_f32: f32
        visit_f64: f64
        visit_char: char
        visit_str: &str
        visit_borrowed_str: &'de str
        visit_string: String
        visit_bytes: &[u8]
        visit_borrowed_bytes: &'de [u8]
        visit_byte_buf: Vec<u8>
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, format: D) -> Result<V::Value, D::Error> {
        let format = self.over(format);
        self.inner.visit_some(format)
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, format: D) -> Result<V::Value, D::Error> {
        let format = self.over(format);
        self.inner.visit_newtype_struct(format)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = self.over(access);
        self.inner.visit_seq(access)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = self.over(access);
        self.inner.visit_map(access)
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = self.over(access);
        self.inner.visit_enum(access)
    }
}
