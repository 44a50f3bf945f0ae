//! Types whose two halves differ: what `Serialize` writes is not what `Deserialize` reads. A format
//! without names reads one field, or one variant, in another's place; a packing must refuse the value.

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

/// A variant for every way to differ, and honest ones around them.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub enum Lopsided {
    /// Before any that differs.
    Honest(u8),
    /// A field is read and not written.
    Unwritten {
        /// The field.
        #[serde(default, skip_serializing)]
        #[arbitrary(default)]
        field: u8,
        /// What may be read in its place.
        list: Vec<u8>,
    },
    /// A field is written and not read.
    Unread {
        /// The field.
        #[serde(skip_deserializing)]
        #[arbitrary(default)]
        field: u8,
        /// What may be read from it.
        list: Vec<u8>,
    },
    /// A field without a name is left out at times.
    Tuple(
        #[serde(default, skip_serializing_if = "Option::is_none")] Option<u8>,
        #[serde(default)] Option<u8>,
    ),
    /// Two of them, one behind the other.
    Pair(Box<(Lopsided, Lopsided)>),
    /// Neither written nor read, but counted by the writer.
    #[serde(skip)]
    #[arbitrary(skip)]
    Never,
    /// Behind it.
    Bare,
    /// Alike.
    Other,
    /// Behind it, with a value.
    Value(u8),
    /// Alike.
    OtherValue(u8),
}
