//! Maps whose keys are no texts.

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

use super::{Code, F32, F64, Kind, Unit, Wrap};

/// Keys that JSON writes as texts.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub struct Keys {
    text: BTreeMap<String, u8>,
    signed: BTreeMap<i64, u8>,
    huge: BTreeMap<u128, ()>,
    letter: BTreeMap<char, u8>,
    truth: BTreeMap<bool, u8>,
    kind: BTreeMap<Kind, Option<u8>>,
    wrapped: BTreeMap<Wrap<u64>, Vec<u8>>,
    float: BTreeMap<F64, bool>,
    single: BTreeMap<F32, bool>,
    code: BTreeMap<Code, BTreeMap<i8, ()>>,
}

/// Keys that JSON has no way to write, or only some of.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub struct OddKeys {
    maybe: BTreeMap<Option<u8>, u8>,
    nested: BTreeMap<Option<Option<bool>>, u8>,
    text: BTreeMap<Option<Wrap<String>>, u8>,
    nothing: BTreeMap<(), u8>,
    named: BTreeMap<Unit, u8>,
    tuple: BTreeMap<(u8, char), u8>,
    list: BTreeMap<Vec<u8>, u8>,
    set: BTreeSet<Option<()>>,
    result: BTreeMap<Result<u8, Kind>, u8>,
    map: BTreeMap<BTreeMap<u8, u8>, u8>,
}
