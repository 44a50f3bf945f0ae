//! Options of what may itself be nothing, which formats like to flatten into one nothing.

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

/// Nothing, with a name.
#[derive(Arbitrary, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Unit;

/// A newtype.
#[derive(Arbitrary, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Wrap<T>(pub T);

/// A newtype that serde does not show.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Clear<T> {
    inner: T,
}

/// Options of everything that can be nothing.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub struct Options {
    plain: Option<u8>,
    nested: Option<Option<u8>>,
    unit: Option<()>,
    named_unit: Option<Unit>,
    deep: Option<Option<Option<()>>>,
    boxed: Option<Box<Option<bool>>>,
    list: Option<Vec<Option<Option<i8>>>>,
    in_result: Result<Option<()>, Option<Unit>>,
    tuple: Option<(Option<()>, Option<u8>)>,
    array: Option<[Option<Unit>; 2]>,
    empty_text: Option<String>,
}

/// Newtypes around options, and options around those.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub struct Newtypes {
    twice: Wrap<Wrap<Option<u8>>>,
    hidden: Option<Wrap<Option<u8>>>,
    unit: Option<Wrap<()>>,
    named_unit: Option<Wrap<Unit>>,
    clear: Option<Clear<Option<u8>>>,
    around: Clear<Option<Clear<Option<Wrap<u8>>>>>,
    list: Vec<Option<Wrap<Option<u16>>>>,
    tuple: Wrap<(u8, Wrap<(char,)>)>,
}
