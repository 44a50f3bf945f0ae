//! Enums with variants of every kind, in each other.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

use super::Unit;

/// A variant of every kind.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub enum Variants {
    /// Nothing.
    Bare,
    /// A value.
    Newtype(u32),
    /// A value that may be nothing.
    Maybe(Option<u8>),
    /// A value that is nothing.
    Nothing(()),
    /// A value that is nothing, with a name.
    Named(Unit),
    /// A few.
    Tuple(u8, Kind),
    /// None of a few.
    NoTuple(),
    /// Named ones.
    Struct {
        /// One.
        one: u8,
        /// And another.
        other: Option<Option<u16>>,
    },
    /// None of them.
    NoStruct {},
    /// Itself.
    Nested(Box<Variants>),
    /// Itself, or nothing.
    Perhaps(Option<Box<Variants>>),
    /// Many.
    List(Vec<Variants>),
    /// Many, by name.
    Map(BTreeMap<String, Variants>),
    /// One of two.
    Result(Result<Box<Variants>, Kind>),
}

/// A variant and no more.
#[derive(Arbitrary, Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The first.
    First,
    /// The second, by another name.
    #[serde(rename = "2")]
    Second,
    /// The last.
    VeryLast,
}
