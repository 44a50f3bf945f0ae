//! The parts of containers, as they are read.

use serde::de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::Guard;
use crate::guard::ELEMENT;

impl<'m, I> Guard<'m, I> {
    /// Watches one element, or one field, that becomes a `T`, and pays for an element.
    #[inline]
    fn part<T, J, E: Error>(&self, inner: J) -> Result<Guard<'m, J>, E> {
        if !self.is_list {
            return Ok(self.over(inner));
        }
        let room = size_of::<T>();
        self.meter.pay(room.max(ELEMENT))?;
        Ok(Guard { inner, meter: self.meter, depth: self.depth, room, tuple: "", is_list: false })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Guard<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let seed = self.part::<S::Value, _, _>(seed)?;
        self.inner.next_element_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.meter.hint(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Guard<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let seed = self.part::<S::Value, _, _>(seed)?;
        self.inner.next_key_seed(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.part::<S::Value, _, _>(seed)?;
        self.inner.next_value_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.meter.hint(self.inner.size_hint())
    }
}

impl<'de, 'm, A: EnumAccess<'de>> EnumAccess<'de> for Guard<'m, A> {
    type Error = A::Error;
    type Variant = Guard<'m, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let Self { inner, meter, depth, room, tuple, is_list: _ } = self;
        let guard = Guard { inner: (), meter, depth, room, tuple, is_list: false };
        let (name, content) = inner.variant_seed(guard.over(seed))?;
        Ok((name, guard.over(content)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Guard<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.over(seed);
        self.inner.newtype_variant_seed(seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.meter.used.read_tuple(self.tuple, len);
        let visitor = self.over(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.over(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}
