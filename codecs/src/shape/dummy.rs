//! Made-up values, for what must come before a position that is reached only in order.
//!
//! An element of a tuple cannot be asked for by name: those before it have to be there, and types
//! that check what they are given (a UUID, a date, a non-zero number) take not just anything. So each
//! made-up leaf is a [`Choice`] from a small palette. When a type refuses, the tracer changes the last
//! choice made and tries again; a type refuses a leaf where it reads it, so the last is the culprit.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
    value::BorrowedStrDeserializer,
};

use super::{
    label::Names,
    probe::{Pass, Stop},
};

/// Numbers to try. One first: it is what most checked numbers accept.
const NUMBERS: [u8; 3] = [1, 0, 2];
/// Lengths of byte strings to try: a UUID's first, then addresses, hashes and keys.
const LENGTHS: [usize; 12] = [16, 0, 1, 4, 8, 12, 20, 24, 32, 33, 64, 3];
/// Texts to try: plain ones first, then what parsers of the common kinds accept.
const TEXTS: [&str; 24] = [
    "",
    "1",
    "a",
    "2000-01-01T00:00:00Z",
    "2000-01-01",
    "2000-01-01T00:00:00",
    "2000-01-01 00:00:00",
    "00:00:00",
    "00000000-0000-4000-8000-000000000001",
    "127.0.0.1",
    "::1",
    "127.0.0.1:80",
    "127.0.0.1/32",
    "http://localhost/",
    "localhost",
    "a@example.com",
    "1.0.0",
    "1s",
    "+00:00",
    "UTC",
    "en",
    "USD",
    "Mon",
    "January",
];

/// One choice among made-up values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// What is chosen.
    chosen: usize,
    /// From how many.
    options: usize,
    /// How many were chosen before and refused.
    refused: usize,
}

/// Changes the last choice that can be changed, of those from `floor` on, and drops what followed
/// it. `false` when all have been tried.
pub(super) fn advance(choices: &mut Vec<Choice>, floor: usize) -> bool {
    while choices.len() > floor {
        match choices.last_mut() {
            Some(last) if last.refused + 1 < last.options => {
                last.refused += 1;
                last.chosen = (last.chosen + 1) % last.options;
                return true;
            }
            _ => choices.pop(),
        };
    }
    false
}

/// A deserializer that makes a value up.
#[derive(Clone, Copy)]
pub(super) struct Dummy<'p> {
    pass: &'p Pass<'p>,
    depth: usize,
}

impl<'p> Dummy<'p> {
    /// A value on its own.
    pub(super) fn new(pass: &'p Pass<'p>) -> Self {
        Self { pass, depth: 0 }
    }

    /// Makes the next choice: the one that is planned, or else a new one that begins with what
    /// `first` says of the choices made so far.
    fn choose(
        self,
        options: usize,
        first: impl FnOnce(&[Choice]) -> Option<usize>,
    ) -> Result<usize, Stop> {
        self.pass.call()?;
        let made = self.pass.made.get();
        self.pass.made.set(made + 1);
        let mut choices = self.pass.choices.borrow_mut();
        match choices.get(made) {
            Some(planned) if planned.chosen < options => Ok(planned.chosen),
            None if options > 0 => {
                let chosen = first(&choices).unwrap_or(0);
                choices.push(Choice { chosen, options, refused: 0 });
                Ok(chosen)
            }
            _ => Err(Stop),
        }
    }

    /// One of so many ways to build a value, beginning with the first.
    fn way(self, options: usize) -> Result<usize, Stop> {
        self.choose(options, |_| None)
    }

    /// One of `palette`. What a value took last, its like will take: dates do not come alone.
    fn pick<T: Copy>(self, palette: &[T]) -> Result<T, Stop> {
        let options = palette.len();
        let like = |choice: &&Choice| choice.options == options;
        let chosen = self.choose(options, |made| made.iter().rev().find(like).map(|c| c.chosen))?;
        palette.get(chosen).copied().ok_or(Stop)
    }

    /// A part of this value, if values may nest so deeply.
    fn part(self) -> Result<Self, Stop> {
        self.pass.call()?;
        if self.depth >= self.pass.limit {
            return Err(Stop);
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    /// So many parts.
    fn parts(self, left: usize) -> Result<Parts<'p>, Stop> {
        Ok(Parts { left, part: self.part()? })
    }
}

/// Makes numbers up.
macro_rules! numbers {
    ($($method:ident: $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            visitor.$visit(self.pick(&NUMBERS)?.into())
        }
    )*};
}

/// Passes a call on to another that makes the same up.
macro_rules! same {
    ($($method:ident($($arg:ident: $type:ty),*) => $other:ident($($given:expr),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, Stop> {
            self.$other($($given,)* visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Dummy<'_> {
    type Error = Stop;

    numbers! {
        deserialize_i16: visit_i16
        deserialize_i32: visit_i32
        deserialize_i64: visit_i64
        deserialize_i128: visit_i128
        deserialize_u8: visit_u8
        deserialize_u16: visit_u16
        deserialize_u32: visit_u32
        deserialize_u64: visit_u64
        deserialize_u128: visit_u128
        deserialize_f32: visit_f32
        deserialize_f64: visit_f64
    }

    same! {
        deserialize_string() => deserialize_str();
        deserialize_byte_buf() => deserialize_bytes();
        deserialize_unit_struct(_name: &'static str) => deserialize_unit();
        deserialize_ignored_any() => deserialize_unit();
        deserialize_identifier() => deserialize_str();
        deserialize_any() => deserialize_str();
        deserialize_tuple_struct(_name: &'static str, len: usize) => deserialize_tuple(len);
        deserialize_struct(_name: &'static str, names: Names) => deserialize_tuple(names.len());
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_i8(self.pick(&[1, 0, 2])?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_bool(self.pick(&[false, true])?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_char(self.pick(&['a', '1'])?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_str(self.pick(&TEXTS)?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let zeros = vec![0; self.pick(&LENGTHS)?];
        visitor.visit_bytes(&zeros)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.pass.call()?;
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.way(2)? {
            0 => visitor.visit_none(),
            _ => visitor.visit_some(self.part()?),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self.part()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let len = self.way(2)?;
        visitor.visit_seq(self.parts(len)?)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let len = self.way(2)?;
        visitor.visit_map(self.parts(len)?)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_seq(self.parts(len)?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        names: Names,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let part = self.part()?;
        let name = names.get(self.way(names.len())?).ok_or(Stop)?;
        visitor.visit_enum(Variant { name, part })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The parts of a made-up container.
struct Parts<'p> {
    left: usize,
    part: Dummy<'p>,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        self.part.pass.call()?;
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(self.part).map(Some)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        seed.deserialize(self.part)
    }
}

/// A made-up enum of a chosen variant.
struct Variant<'p> {
    name: &'static str,
    part: Dummy<'p>,
}

impl<'de, 'p> EnumAccess<'de> for Variant<'p> {
    type Error = Stop;
    type Variant = Dummy<'p>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Dummy<'p>), Stop> {
        let name = seed.deserialize(BorrowedStrDeserializer::new(self.name))?;
        Ok((name, self.part))
    }
}

impl<'de> VariantAccess<'de> for Dummy<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Stop> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_seq(Parts { left: len, part: self })
    }

    fn struct_variant<V: Visitor<'de>>(self, names: Names, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_seq(Parts { left: names.len(), part: self })
    }
}
