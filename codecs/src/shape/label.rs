//! What one position of a type is: the `deserialize_*` call made there, without the type's name.

use super::probe::Step;

/// Names of fields or variants, in order.
pub(super) type Names = &'static [&'static str];

/// The kind of one position, with the lengths and names that belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Label {
    /// A value without parts: a number, text, bytes, a unit.
    Leaf(Leaf),
    Option,
    Seq,
    Map,
    Tuple(usize),
    TupleStruct(usize),
    Newtype,
    Struct(Names),
    Enum(Names),
    NewtypeVariant,
    TupleVariant(usize),
    StructVariant(Names),
}

/// The kinds without parts. The numbers are hashed: they never change, and none is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Leaf {
    Bool = 1,
    I8 = 2,
    I16 = 3,
    I32 = 4,
    I64 = 5,
    I128 = 6,
    U8 = 7,
    U16 = 8,
    U32 = 9,
    U64 = 10,
    U128 = 11,
    F32 = 12,
    F64 = 13,
    Char = 14,
    Text = 15,
    Bytes = 16,
    Unit = 17,
    UnitStruct = 18,
    UnitVariant = 19,
    /// Only the format knows what is here.
    Opaque = 20,
    /// No pass got here.
    Unreached = 21,
}

impl Label {
    /// How many parts the position has.
    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Leaf(_) => 0,
            Self::Option | Self::Seq | Self::Newtype | Self::NewtypeVariant => 1,
            Self::Map => 2,
            Self::Tuple(len) | Self::TupleStruct(len) | Self::TupleVariant(len) => *len,
            Self::Struct(names) | Self::StructVariant(names) | Self::Enum(names) => names.len(),
        }
    }

    /// The ways to the part `index`, the best first.
    pub(super) fn ways(&self, index: usize) -> [Option<Step>; 2] {
        let name = |names: Names| names.get(index).copied().unwrap_or_default();
        match self {
            Self::Leaf(_) => [None, None],
            Self::Option => [Some(Step::Present), None],
            Self::Newtype => [Some(Step::Inner), Some(Step::Element(0))],
            Self::NewtypeVariant => [Some(Step::Inner), None],
            Self::Map if index == 0 => [Some(Step::Key), None],
            Self::Map => [Some(Step::Value), None],
            Self::Seq | Self::Tuple(_) | Self::TupleStruct(_) | Self::TupleVariant(_) => {
                [Some(Step::Element(index)), None]
            }
            // Some visitors written by hand take their fields in order only.
            Self::Struct(names) | Self::StructVariant(names) => {
                [Some(Step::Field(name(names))), Some(Step::Element(index))]
            }
            // And some know their variants by number only.
            Self::Enum(names) => {
                [Some(Step::Variant(name(names))), u32::try_from(index).ok().map(Step::VariantAt)]
            }
        }
    }

    /// Appends the label so that no two labels, nor sequences of them, look alike.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Leaf(leaf) => out.push(*leaf as u8),
            Self::Option => out.push(32),
            Self::Seq => out.push(33),
            Self::Map => out.push(34),
            Self::Tuple(len) => write_len(35, *len, out),
            Self::TupleStruct(len) => write_len(36, *len, out),
            Self::Newtype => out.push(37),
            Self::Struct(names) => write_names(38, names, out),
            Self::Enum(names) => write_names(39, names, out),
            Self::NewtypeVariant => out.push(40),
            Self::TupleVariant(len) => write_len(41, *len, out),
            Self::StructVariant(names) => write_names(42, names, out),
        }
    }
}

/// Appends a tag and a length.
fn write_len(tag: u8, len: usize, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&(len as u64).to_le_bytes());
}

/// Appends a tag and names, each behind its length.
fn write_names(tag: u8, names: Names, out: &mut Vec<u8>) {
    write_len(tag, names.len(), out);
    for name in names {
        out.extend_from_slice(&(name.len() as u64).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
    }
}
