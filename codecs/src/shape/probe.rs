//! One pass over a type: follow a path, note what is at its end, stop.
//!
//! [`Probe`] is the deserializer a pass is run with. At each position it does what the path's next
//! step says, whichever call is made; behind the last step it records the call and fails, which ends
//! the pass. Struct fields are asked for by name through `visit_map`, one and no other, so nothing
//! has to be made up for the rest of the struct.

use std::{
    any::TypeId,
    cell::{Cell, RefCell},
    fmt,
};

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
    value::{BorrowedStrDeserializer, U32Deserializer},
};

use super::{
    dummy::{Choice, Dummy},
    label::{Label, Leaf, Names},
};

/// How often a pass that was stopped may go on calling before it is unwound.
const PATIENCE: u32 = 100_000;

/// One choice on the way to a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into an option that is not empty.
    Present,
    /// Into a newtype, or a variant's only value.
    Inner,
    /// To the element of this index; those before it are made up.
    Element(usize),
    /// To the field of this name.
    Field(&'static str),
    /// To a map's key.
    Key,
    /// To a map's value; the key is made up.
    Value,
    /// To the content of an adjacently tagged enum, behind its tag.
    Content(Tag),
    /// To the end of an adjacently tagged enum that has nothing but a tag.
    NoContent(Tag),
    /// Into the variant of this name.
    Variant(&'static str),
    /// Into the variant of this index.
    VariantAt(u32),
}

/// An adjacently tagged enum's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// The field that holds the tag.
    pub(super) field: &'static str,
    /// The field that holds the content.
    pub(super) content: &'static str,
    /// What the tag says.
    pub(super) variant: &'static str,
}

impl Step {
    /// Whether the step counts elements.
    pub(super) fn is_element(self) -> bool {
        matches!(self, Self::Element(_))
    }

    /// Whether values must be made up to take the step.
    pub(super) fn makes_up(self) -> bool {
        matches!(self, Self::Element(1..) | Self::Value)
    }
}

/// What a pass found at the end of its path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// What is there.
    pub(super) label: Label,
    /// Who asked for it: see [`identity`].
    pub(super) asker: Option<TypeId>,
}

/// The type of `X` if its values are all alike: two askers of one such type ask for the same. The
/// type's name would not do: two types in one function's blocks share it.
pub(super) fn identity<X>() -> Option<TypeId> {
    (size_of::<X>() == 0).then(typeid::of::<X>)
}

/// One run of a type's `Deserialize`: where to, and what was met.
pub(super) struct Pass<'p> {
    /// The path.
    pub(super) steps: &'p [Step],
    /// How deeply made-up values may nest.
    pub(super) limit: usize,
    /// The choices made in made-up values, in their order.
    pub(super) choices: RefCell<Vec<Choice>>,
    /// How many of them were made in this pass.
    pub(super) made: Cell<usize>,
    /// What is at the end.
    pub(super) found: Cell<Option<Found>>,
    /// Who asked for each element of the sequence in which the path ends.
    pub(super) elements: RefCell<Vec<Option<TypeId>>>,
    /// How many calls are left.
    pub(super) calls: Cell<u32>,
    /// How many were made after that.
    pub(super) overdrawn: Cell<u32>,
}

impl Pass<'_> {
    /// Counts one call.
    pub(super) fn call(&self) -> Result<(), Stop> {
        if let Some(left) = self.calls.get().checked_sub(1) {
            self.calls.set(left);
            return Ok(());
        }
        let overdrawn = self.overdrawn.get() + 1;
        self.overdrawn.set(overdrawn);
        // Code that goes on whatever it is answered would never end; the tracer catches this.
        if cfg!(panic = "unwind") && overdrawn > PATIENCE {
            std::panic::resume_unwind(Box::new(Stop));
        }
        Err(Stop)
    }
}

/// Ends a pass.
#[derive(Debug)]
pub(super) struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the shape is being traced")
    }
}

impl std::error::Error for Stop {}

impl Error for Stop {
    fn custom<M: fmt::Display>(_: M) -> Self {
        Self
    }
}

/// The deserializer that follows a pass's path.
#[derive(Clone, Copy)]
pub(super) struct Probe<'p> {
    pass: &'p Pass<'p>,
    at: usize,
}

impl<'p> Probe<'p> {
    /// A probe at the path's beginning.
    pub(super) fn new(pass: &'p Pass<'p>) -> Self {
        Self { pass, at: 0 }
    }

    /// The probe behind the current step.
    fn next(self) -> Self {
        Self { at: self.at + 1, ..self }
    }

    /// The current step; at the path's end `None`, and the label is recorded.
    fn step(self, label: Label, asker: Option<TypeId>) -> Result<Option<Step>, Stop> {
        self.pass.call()?;
        let step = self.pass.steps.get(self.at).copied();
        if step.is_none() && self.pass.found.get().is_none() {
            self.pass.found.set(Some(Found { label, asker }));
        }
        Ok(step)
    }

    /// Takes the current step, whatever call led here.
    fn take<'de, V: Visitor<'de>>(self, label: Label, visitor: V) -> Result<V::Value, Stop> {
        let entry = |key| Entry { tag: None, key: Some(key), probe: self };
        match self.step(label, identity::<V>())? {
            None => Err(Stop),
            Some(Step::Present) => visitor.visit_some(self.next()),
            Some(Step::Inner) => visitor.visit_newtype_struct(self.next()),
            Some(Step::Element(target)) => {
                visitor.visit_seq(Elements { before: Some(target), probe: self })
            }
            Some(Step::Field(name)) => visitor.visit_map(entry(Key::Named(name))),
            Some(Step::Key) => visitor.visit_map(entry(Key::Probed)),
            Some(Step::Value) => visitor.visit_map(entry(Key::MadeUp)),
            Some(Step::Content(tag)) => {
                let key = Some(Key::Named(tag.content));
                visitor.visit_map(Entry { tag: Some(tag), key, probe: self })
            }
            Some(Step::NoContent(tag)) => {
                visitor.visit_map(Entry { tag: Some(tag), key: None, probe: self })?;
                // The enum was satisfied with its tag.
                self.next().step(Label::Leaf(Leaf::UnitVariant), None)?;
                Err(Stop)
            }
            Some(Step::Variant(_) | Step::VariantAt(_)) => visitor.visit_enum(self),
        }
    }
}

/// Answers each call with [`Probe::take`].
macro_rules! takes {
    ($($method:ident($($arg:ident: $type:ty),*) => $label:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, Stop> {
            self.take($label, visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    takes! {
        deserialize_bool() => Label::Leaf(Leaf::Bool);
        deserialize_i8() => Label::Leaf(Leaf::I8);
        deserialize_i16() => Label::Leaf(Leaf::I16);
        deserialize_i32() => Label::Leaf(Leaf::I32);
        deserialize_i64() => Label::Leaf(Leaf::I64);
        deserialize_i128() => Label::Leaf(Leaf::I128);
        deserialize_u8() => Label::Leaf(Leaf::U8);
        deserialize_u16() => Label::Leaf(Leaf::U16);
        deserialize_u32() => Label::Leaf(Leaf::U32);
        deserialize_u64() => Label::Leaf(Leaf::U64);
        deserialize_u128() => Label::Leaf(Leaf::U128);
        deserialize_f32() => Label::Leaf(Leaf::F32);
        deserialize_f64() => Label::Leaf(Leaf::F64);
        deserialize_char() => Label::Leaf(Leaf::Char);
        deserialize_str() => Label::Leaf(Leaf::Text);
        deserialize_string() => Label::Leaf(Leaf::Text);
        deserialize_bytes() => Label::Leaf(Leaf::Bytes);
        deserialize_byte_buf() => Label::Leaf(Leaf::Bytes);
        deserialize_unit() => Label::Leaf(Leaf::Unit);
        deserialize_unit_struct(_name: &'static str) => Label::Leaf(Leaf::UnitStruct);
        deserialize_any() => Label::Leaf(Leaf::Opaque);
        deserialize_identifier() => Label::Leaf(Leaf::Opaque);
        deserialize_ignored_any() => Label::Leaf(Leaf::Opaque);
        deserialize_option() => Label::Option;
        deserialize_seq() => Label::Seq;
        deserialize_map() => Label::Map;
        deserialize_newtype_struct(_name: &'static str) => Label::Newtype;
        deserialize_tuple(len: usize) => Label::Tuple(len);
        deserialize_tuple_struct(_name: &'static str, len: usize) => Label::TupleStruct(len);
        deserialize_struct(_name: &'static str, names: Names) => Label::Struct(names);
        deserialize_enum(_name: &'static str, names: Names) => Label::Enum(names);
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A sequence that ends with the probed element; those before are made up.
struct Elements<'p> {
    /// How many are; `None` behind the probed one.
    before: Option<usize>,
    probe: Probe<'p>,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        let pass = self.probe.pass;
        pass.call()?;
        let Some(before) = self.before else { return Ok(None) };
        if self.probe.at + 1 == pass.steps.len() {
            pass.elements.borrow_mut().push(identity::<S>());
        }
        self.before = before.checked_sub(1);
        match self.before {
            Some(_) => seed.deserialize(Dummy::new(pass)).map(Some),
            None => seed.deserialize(self.probe.next()).map(Some),
        }
    }
}

/// How a map's key is answered.
#[derive(Clone, Copy)]
enum Key {
    /// It is what the pass looks for.
    Probed,
    /// Any key will do.
    MadeUp,
    /// It is a field's name.
    Named(&'static str),
}

/// A map of one entry, of which the key or the value is probed; a tag may stand before it.
struct Entry<'p> {
    tag: Option<Tag>,
    key: Option<Key>,
    probe: Probe<'p>,
}

impl<'de> MapAccess<'de> for Entry<'_> {
    type Error = Stop;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        self.probe.pass.call()?;
        if let Some(tag) = self.tag {
            return seed.deserialize(BorrowedStrDeserializer::new(tag.field)).map(Some);
        }
        match self.key.take() {
            None => Ok(None),
            Some(Key::Probed) => seed.deserialize(self.probe.next()).map(Some),
            Some(Key::MadeUp) => seed.deserialize(Dummy::new(self.probe.pass)).map(Some),
            Some(Key::Named(name)) => {
                seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
            }
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        if let Some(tag) = self.tag.take() {
            return seed.deserialize(BorrowedStrDeserializer::new(tag.variant));
        }
        // Before the key, and again after the value, there is none.
        if self.key.is_some() || self.probe.pass.found.get().is_some() {
            self.probe.pass.call()?;
            return Err(Stop);
        }
        seed.deserialize(self.probe.next())
    }
}

impl<'de, 'p> EnumAccess<'de> for Probe<'p> {
    type Error = Stop;
    type Variant = Probe<'p>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Stop> {
        let name = match self.pass.steps.get(self.at) {
            Some(Step::Variant(name)) => seed.deserialize(BorrowedStrDeserializer::new(name))?,
            Some(Step::VariantAt(index)) => seed.deserialize(U32Deserializer::new(*index))?,
            _ => return Err(Stop),
        };
        Ok((name, self.next()))
    }
}

impl<'de> VariantAccess<'de> for Probe<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.step(Label::Leaf(Leaf::UnitVariant), None)?;
        Err(Stop)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Stop> {
        match self.step(Label::NewtypeVariant, None)? {
            Some(_) => seed.deserialize(self.next()),
            None => Err(Stop),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.take(Label::TupleVariant(len), visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, names: Names, visitor: V) -> Result<V::Value, Stop> {
        self.take(Label::StructVariant(names), visitor)
    }
}
