//! Types that ask the format what comes next. Only formats that describe themselves carry them; the
//! others must say so rather than misread.
//!
//! What serde itself cannot read back in these places is left out: numbers of 128 bits, numbers as
//! keys of maps in JSON, and types that look different to people and to programs.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use serde::{Deserialize, Serialize};

use super::{F32, F64, Unit, Wrap};

/// Anything, as a value of free form.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Free {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A fraction.
    Float(F64),
    /// A text.
    Text(String),
    /// Many.
    List(Vec<Free>),
    /// Many, by name.
    Map(BTreeMap<String, Free>),
}

/// A struct with others in it that do not show.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub struct Flat {
    id: u8,
    #[serde(flatten)]
    inner: Inner,
    #[serde(flatten)]
    kind: FlatKind,
    maybe: Option<u8>,
    #[serde(flatten)]
    rest: BTreeMap<String, Free>,
}

/// A struct in a struct.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub struct Inner {
    a: u32,
    b: Option<String>,
    unit: Unit,
    wrapped: Option<Wrap<Option<u8>>>,
    single: F32,
}

/// An enum in a struct.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
enum FlatKind {
    Bare,
    Newtype(Option<u8>),
    Struct { x: i64, y: Vec<u8> },
}

impl<'a> Arbitrary<'a> for Flat {
    fn arbitrary(from: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let rest: BTreeMap<String, Free> = from.arbitrary()?;
        Ok(Self {
            id: from.arbitrary()?,
            inner: from.arbitrary()?,
            kind: from.arbitrary()?,
            maybe: from.arbitrary()?,
            // No field's name: two of one name are nothing that a format could help.
            rest: rest.into_iter().map(|(key, value)| (format!("+{key}"), value)).collect(),
        })
    }
}

/// An enum with its tag among the fields.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum Tagged {
    /// Nothing.
    Bare,
    /// Fields.
    Struct {
        /// One.
        x: F32,
        /// And others.
        y: Option<Vec<Option<char>>>,
    },
    /// Another struct's fields.
    Newtype(Inner),
    /// A map's.
    Map(BTreeMap<TagFree, F64>),
}

/// A name that is not the tag's.
#[derive(Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct TagFree(String);

impl<'a> Arbitrary<'a> for TagFree {
    fn arbitrary(from: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self(format!("+{}", from.arbitrary::<&str>()?)))
    }
}

/// An enum with its tag beside the content.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "t", content = "c")]
pub enum Adjacent {
    /// Nothing.
    Bare,
    /// A value that may be nothing.
    Newtype(Option<u8>),
    /// A value that is nothing.
    Nothing(()),
    /// A few.
    Tuple(u8, F32),
    /// Named ones.
    Struct {
        /// One.
        x: String,
        /// And another.
        y: Option<Unit>,
    },
}

/// An enum with no tag, whose variants differ in kind.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Untagged {
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
    /// Fields of some names.
    One {
        /// The first name.
        one: F32,
    },
    /// Fields of others.
    Two {
        /// The second name.
        two: Option<Tagless>,
    },
    /// A few.
    Tuple(u8, Option<u8>, char),
}

/// A struct with a newtype in it.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub struct Tagless {
    value: Wrap<i16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maybe: Option<bool>,
}
