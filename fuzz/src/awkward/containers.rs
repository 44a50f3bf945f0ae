//! Lists of nothing, texts and bytes, fields that are left out.

use std::collections::HashSet;

use arbitrary::{Arbitrary, Unstructured};
use serde::{Deserialize, Serialize};

use super::Unit;

/// Lists whose elements take no bytes in some formats: their counts cost nothing to claim.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub struct Units {
    list: Vec<()>,
    named: Vec<Unit>,
    set: HashSet<()>,
    array: [(); 32],
    lists: Vec<Vec<()>>,
    tuples: Vec<((), Unit, [(); 3])>,
}

impl<'a> Arbitrary<'a> for Units {
    fn arbitrary(from: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        // About as many as a reader believes, but seldom: they take long.
        let many = match from.arbitrary()? {
            u16::MAX if from.arbitrary::<u16>()? == 0x5a5a => {
                65_400 + usize::from(from.arbitrary::<u8>()?)
            }
            few => usize::from(few % 99),
        };
        Ok(Self {
            list: vec![(); many],
            named: from.arbitrary()?,
            set: from.arbitrary()?,
            array: [(); 32],
            lists: from.arbitrary()?,
            tuples: from.arbitrary()?,
        })
    }
}

/// Texts and bytes.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub struct Texts {
    text: String,
    boxed: Box<str>,
    letters: Vec<char>,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    numbers: Vec<u8>,
    texts: Vec<String>,
    fixed: [u8; 8],
}

/// Fields that are left out when they are empty.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub struct Skips {
    first: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maybe: Option<u8>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    list: Vec<Option<u8>>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    variant: Vec<SkipsInVariant>,
}

/// And those of variants.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
enum SkipsInVariant {
    Has {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        maybe: Option<u8>,
        last: u8,
    },
}
