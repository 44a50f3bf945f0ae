//! Nesting: bounded on both sides, and nothing is written that is too deep to be read.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize, de::IgnoredAny};
use tiered_codecs::{DecodeError, Json, MessagePack, Packing};

use super::deep::{Deep, KINDS};
use crate::support::{decode, encode, every_packing, pack, read};

/// The guard's limits: what is read, and what is written.
const DECODED: usize = 128;
const ENCODED: usize = 120;

every_packing! {
    hostile_nesting_of_every_kind_is_refused
    what_is_encoded_is_not_too_deep_to_be_decoded
    a_value_at_the_limit_is_packed_and_read
    recursive_types_of_every_kind_are_bounded
    the_depth_is_that_of_the_value_not_of_its_length
}

#[track_caller]
fn refused<T>(there: Result<T, DecodeError>, what: &str) {
    assert!(matches!(there, Err(DecodeError::Payload(_))), "{what}: {:?}", there.err());
}

fn hostile_nesting_of_every_kind_is_refused(packing: &impl Packing) {
    for kind in &KINDS {
        let bytes = kind.unclosed(packing, 1 << 20);
        refused(decode::<Deep>(packing, &bytes), kind.name);
    }
}

fn what_is_encoded_is_not_too_deep_to_be_decoded(packing: &impl Packing) {
    for kind in &KINDS {
        for wraps in 0..=ENCODED + 1 {
            let levels = wraps * kind.levels;
            let value = kind.nest(wraps);
            match encode(packing, &value) {
                Ok(bytes) => {
                    assert!(levels <= ENCODED, "{} {levels} deep", kind.name);
                    let back = decode(packing, &bytes);
                    assert_eq!(back.as_ref(), Ok(&value), "{} {levels} deep", kind.name);
                }
                Err(_) => assert!(levels > ENCODED, "{} {levels} deep", kind.name),
            }
        }
    }
}

fn a_value_at_the_limit_is_packed_and_read(packing: &impl Packing) {
    let kind = &KINDS[0];
    let value = kind.nest(ENCODED);
    assert_eq!(read(packing, &pack(packing, &value)), Ok(Some(value)));
    assert!(encode(packing, &kind.nest(ENCODED + 1)).is_err());
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct List {
    next: Option<Box<List>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tree(Vec<Tree>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Named {
    children: BTreeMap<String, Named>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain(u8, Option<Box<Chain>>);

/// Each level of these takes two of the guard's.
fn recursive_types_of_every_kind_are_bounded(packing: &impl Packing) {
    fn bounded<T>(packing: &impl Packing, leaf: fn() -> T, wrap: fn(T) -> T)
    where
        T: crate::support::Value,
    {
        let nest = |wraps| (0..wraps).fold(leaf(), |inner, _| wrap(inner));
        let at_limit = nest(ENCODED / 2 - 1);
        let back = encode(packing, &at_limit).map(|bytes| decode::<T>(packing, &bytes));
        assert_eq!(back, Ok(Ok(at_limit)));
        assert!(encode(packing, &nest(ENCODED / 2 + 1)).is_err());
        // Beyond what is written, hostile bytes may go a little further, and no more.
        let [one, two] = [10, 11].map(|wraps| encode(packing, &nest(wraps)).unwrap());
        let prefix = two.len() - one.len();
        let hostile = two[..prefix].repeat((1 << 20) / prefix);
        refused(decode::<T>(packing, &hostile), std::any::type_name::<T>());
    }
    bounded(packing, List::default, |inner| List { next: Some(Box::new(inner)) });
    bounded(packing, || Tree(Vec::new()), |inner| Tree(vec![inner]));
    bounded(
        packing,
        || Named { children: BTreeMap::new() },
        |inner| Named { children: BTreeMap::from([(String::new(), inner)]) },
    );
    bounded(packing, || Chain(1, None), |inner| Chain(1, Some(Box::new(inner))));
}

fn the_depth_is_that_of_the_value_not_of_its_length(packing: &impl Packing) {
    // Levels are left again: on success, and on every kind of container.
    let wide: Vec<Deep> = (0..1000).map(|at| KINDS[at % KINDS.len()].nest(3)).collect();
    let bytes = encode(packing, &wide).unwrap();
    assert_eq!(decode(packing, &bytes), Ok(wide));
}

/// `count` arrays of one element each, around what follows.
fn arrays(packing: &impl Packing, count: usize) -> Vec<u8> {
    match packing.id() {
        tiered_codecs::CodecId::JSON => b"[".repeat(count),
        _ => vec![0x91; count],
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Nested(Vec<Untagged>),
    Text(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Nested { inner: Vec<Tagged> },
}

#[derive(Debug, Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    rest: HashMap<String, serde_json::Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Known {}

/// Formats that describe themselves are read deeply by types that ask them what comes next.
#[test]
fn what_asks_the_format_is_bounded_too() {
    fn bounded(packing: &impl Packing) {
        for count in [DECODED, DECODED + 1, 1000, 1 << 20] {
            let bytes = arrays(packing, count);
            refused(decode::<serde_json::Value>(packing, &bytes), "a free-form value");
            refused(decode::<Untagged>(packing, &bytes), "an untagged enum");
            refused(decode::<Vec<IgnoredAny>>(packing, &bytes), "what is ignored");
            refused(decode::<Tree>(packing, &bytes), "a newtype");
        }
    }
    bounded(&MessagePack);
    bounded(&Json);
}

#[test]
fn what_asks_the_format_is_bounded_behind_a_name_too() {
    for (packing_json, nested) in [(true, 1 << 20), (false, 1 << 20)] {
        if packing_json {
            let bytes = [&b"{\"inner\":"[..], &b"[".repeat(nested)].concat();
            refused(decode::<Tagged>(&Json, &bytes), "an internally tagged enum");
            refused(decode::<Flat>(&Json, &bytes), "a flattened map");
            refused(decode::<Known>(&Json, &bytes), "an unknown field");
        } else {
            let bytes = [&b"\x81\xa5inner"[..], &vec![0x91; nested]].concat();
            refused(decode::<Tagged>(&MessagePack, &bytes), "an internally tagged enum");
            refused(decode::<Flat>(&MessagePack, &bytes), "a flattened map");
            refused(decode::<Known>(&MessagePack, &bytes), "an unknown field");
        }
    }
}

#[test]
fn a_free_form_value_comes_back_from_the_limit() {
    fn comes_back(packing: &impl Packing) {
        let nest = |levels| (0..levels).fold(serde_json::json!(1), |it, _| serde_json::json!([it]));
        let value = nest(ENCODED);
        let bytes = encode(packing, &value).unwrap();
        assert_eq!(decode(packing, &bytes), Ok(value));
        assert!(encode(packing, &nest(ENCODED + 1)).is_err());
    }
    comes_back(&MessagePack);
    comes_back(&Json);
}
