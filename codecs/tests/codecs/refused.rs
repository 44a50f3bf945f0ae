//! Values that a format cannot express so that they come back: refused when they are encoded, with
//! a reason, by the formats that cannot, and by no other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tiered_codecs::{EncodeError, Json, MessagePack, Packing, Postcard};

use super::deep::KINDS;
use crate::support::{Value, decode, encode, sealed_zstd, zstd, zstd_sealed};

/// It is encoded, and decodes to itself.
#[track_caller]
fn comes_back<T: Value>(packing: &impl Packing, value: T) {
    let bytes = encode(packing, &value);
    assert_eq!(bytes.map(|bytes| decode(packing, &bytes)), Ok(Ok(value)), "{packing:?}");
}

/// It is not encoded, and the reason says `words`.
#[track_caller]
fn refuses<T: Value>(packing: &impl Packing, value: T, words: &str) {
    let there = encode(packing, &value);
    let Err(EncodeError(reason)) = there else { panic!("{packing:?} encodes {value:?}") };
    assert!(reason.contains(words), "{packing:?} of {value:?}: {reason}");
}

const HOLDS_NOTHING: &str = "an option that holds nothing would read as one that is none";
const NOT_FINITE: &str = "no infinite floats and no NaN";
const LEFT_OUT: &str = "is left out (skip_serializing_if)";
const TOO_DEEP: &str = "nested deeper than 120 levels";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype<T>(T);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Transparent<T> {
    inner: T,
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Variant<T> {
    Unit,
    Newtype(T),
    Struct { inner: T },
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged<T> {
    Some(T),
    Unit,
}

/// Options that hold nothing; JSON and MessagePack write those as they write none.
#[test]
fn an_option_that_holds_nothing_is_refused_where_it_would_read_as_none() {
    macro_rules! holds_nothing {
        ($($value:expr),* $(,)?) => {$(
            refuses(&Json, $value, HOLDS_NOTHING);
            refuses(&MessagePack, $value, HOLDS_NOTHING);
            comes_back(&Postcard, $value);
        )*};
    }
    holds_nothing! {
        Some(None::<u8>),
        Some(()),
        Some(Some(())),
        Some(Some(None::<u8>)),
        Some(Newtype(())),
        Some(Newtype(None::<u8>)),
        Some(Newtype(Newtype(None::<u8>))),
        Some(Newtype(Some(()))),
        Some(Transparent { inner: None::<u8> }),
        Some(Box::new(None::<u8>)),
        vec![Some(1), None].into_iter().map(Some).collect::<Vec<_>>(),
        (1, Some(())),
        BTreeMap::from([(1, Some(None::<u8>))]),
        Variant::Newtype(Some(None::<u8>)),
        Variant::Struct { inner: Some(()) },
        Newtype(Some(())),
    }
}

#[test]
fn a_unit_struct_in_an_option_is_refused_where_it_is_a_nil() {
    refuses(&Json, Some(Unit), HOLDS_NOTHING);
    refuses(&Json, Some(Newtype(Unit)), HOLDS_NOTHING);
    refuses(&Json, Some(std::marker::PhantomData::<u8>), HOLDS_NOTHING);
    comes_back(&MessagePack, Some(Unit));
    comes_back(&MessagePack, Some(Newtype(Unit)));
    comes_back(&Postcard, Some(Unit));
}

#[test]
fn what_only_looks_like_nothing_in_an_option_comes_back() {
    fn all(packing: &impl Packing) {
        comes_back(packing, None::<Option<u8>>);
        comes_back(packing, None::<()>);
        comes_back(packing, Some(Some(1)));
        comes_back(packing, Some(0));
        comes_back(packing, Some(false));
        comes_back(packing, Some(String::new()));
        comes_back(packing, Some("null".to_owned()));
        comes_back(packing, Some(Vec::<u8>::new()));
        comes_back(packing, Some(vec![()]));
        comes_back(packing, Some([None::<u8>; 2]));
        comes_back(packing, Some((None::<u8>,)));
        comes_back(packing, Some(BTreeMap::from([(1, None::<u8>)])));
        comes_back(packing, Some(Variant::<u8>::Unit));
        comes_back(packing, Some(Variant::Newtype(None::<u8>)));
        comes_back(packing, Some(Variant::Newtype(())));
        comes_back(packing, Some(Variant::Struct { inner: None::<u8> }));
        comes_back(packing, Some(Err::<u8, ()>(())));
        comes_back(packing, (None::<u8>, Newtype(()), ((), Unit), Newtype(None::<u8>)));
        comes_back(packing, vec![(), ()]);
    }
    all(&Postcard);
    all(&MessagePack);
    all(&Json);
    all(&zstd());
    all(&sealed_zstd());
    all(&zstd_sealed());
}

#[test]
fn an_untagged_unit_in_an_option_is_refused() {
    refuses(&Json, Some(Untagged::<u8>::Unit), HOLDS_NOTHING);
    refuses(&MessagePack, Some(Untagged::<u8>::Unit), HOLDS_NOTHING);
    comes_back(&Json, Some(Untagged::Some(1)));
    comes_back(&MessagePack, Some(Untagged::Some(1)));
    comes_back(&Json, Untagged::<u8>::Unit);
    refuses(&Json, Some(serde_json::Value::Null), HOLDS_NOTHING);
    refuses(&MessagePack, Some(serde_json::Value::Null), HOLDS_NOTHING);
}

#[test]
fn floats_that_are_no_numbers_are_refused_by_json_alone() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
        refuses(&Json, value, NOT_FINITE);
        refuses(&Json, vec![Some((1, value))], NOT_FINITE);
        for back in [bits_32(&Postcard, value), bits_32(&MessagePack, value)] {
            assert_eq!(back, value.to_bits());
        }
    }
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -f64::NAN] {
        refuses(&Json, value, NOT_FINITE);
        refuses(&Json, BTreeMap::from([(1, value)]), NOT_FINITE);
        for back in [bits_64(&Postcard, value), bits_64(&MessagePack, value)] {
            assert_eq!(back, value.to_bits());
        }
    }
}

fn bits_32(packing: &impl Packing, value: f32) -> u32 {
    decode::<f32>(packing, &encode(packing, &value).unwrap()).unwrap().to_bits()
}

fn bits_64(packing: &impl Packing, value: f64) -> u64 {
    decode::<f64>(packing, &encode(packing, &value).unwrap()).unwrap().to_bits()
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Skips {
    first: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    second: Option<u8>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    third: Vec<u8>,
    last: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum SkipsInside {
    Struct {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<u8>,
        last: u8,
    },
}

#[test]
fn a_field_that_is_left_out_is_refused_where_fields_have_places() {
    let none = Skips { first: 1, last: 2, ..Skips::default() };
    let all = Skips { second: Some(3), third: vec![4], ..none.clone() };
    let inside = |first| SkipsInside::Struct { first, last: 1 };
    refuses(&Postcard, none.clone(), &format!("the field \"second\" {LEFT_OUT}"));
    refuses(&Postcard, vec![(1, Some(none.clone()))], LEFT_OUT);
    refuses(&Postcard, Skips { third: vec![], ..all.clone() }, "the field \"third\"");
    refuses(&Postcard, inside(None), &format!("the field \"first\" {LEFT_OUT}"));
    refuses(&zstd(), none.clone(), LEFT_OUT);
    comes_back(&Postcard, all.clone());
    comes_back(&Postcard, inside(Some(1)));
    for value in [none, all] {
        comes_back(&MessagePack, value.clone());
        comes_back(&Json, value);
    }
    comes_back(&MessagePack, inside(None));
    comes_back(&Json, inside(None));
}

#[test]
fn a_field_that_is_never_written_nor_read_is_none() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Skipped {
        first: u8,
        #[serde(skip)]
        never: u8,
        last: u8,
    }
    fn all(packing: &impl Packing) {
        comes_back(packing, Skipped { first: 1, never: 0, last: 2 });
    }
    all(&Postcard);
    all(&MessagePack);
    all(&Json);
}

#[test]
fn a_value_that_is_too_deep_is_refused_and_the_depth_is_named() {
    fn all(packing: &impl Packing) {
        for kind in &KINDS {
            refuses(packing, kind.nest(121), TOO_DEEP);
            comes_back(packing, kind.nest(60));
        }
    }
    all(&Postcard);
    all(&MessagePack);
    all(&Json);
}

#[test]
fn a_map_with_keys_that_are_no_texts_is_refused_by_json_alone() {
    refuses(&Json, BTreeMap::from([((1, 2), 3)]), "key must be a string");
    refuses(&Json, BTreeMap::from([(None::<u8>, 3)]), "key must be a string");
    refuses(&Json, BTreeMap::from([((), 3)]), "key must be a string");
    refuses(&Json, BTreeMap::from([(vec![1], 3)]), "key must be a string");
    fn others(packing: &impl Packing) {
        comes_back(packing, BTreeMap::from([((1, 2), 3)]));
        comes_back(packing, BTreeMap::from([(None::<u8>, 3), (Some(1), 2)]));
        comes_back(packing, BTreeMap::from([((), 3)]));
    }
    others(&Postcard);
    others(&MessagePack);
}

#[test]
fn a_map_with_keys_that_read_as_texts_comes_back() {
    fn all(packing: &impl Packing) {
        comes_back(packing, BTreeMap::from([(i128::MIN, 1), (i128::MAX, 2)]));
        comes_back(packing, BTreeMap::from([(true, 1), (false, 2)]));
        comes_back(packing, BTreeMap::from([('"', 1), ('\u{0}', 2)]));
        comes_back(packing, BTreeMap::from([(Some("null".to_owned()), 1)]));
        comes_back(packing, BTreeMap::from([("null".to_owned(), 1), (String::new(), 2)]));
    }
    all(&Postcard);
    all(&MessagePack);
    all(&Json);
}

#[test]
fn a_map_whose_length_is_not_known_before_is_refused_by_postcard_alone() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        first: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }
    let flat = || Flat { first: 1, rest: BTreeMap::from([("key".into(), 1)]) };
    refuses(&Postcard, flat(), "length");
    comes_back(&MessagePack, flat());
    comes_back(&Json, flat());
}

#[test]
fn a_refusal_is_not_remembered() {
    // The next value is encoded as if nothing had been.
    let codec = zstd();
    refuses(&codec, vec![Skips::default()], LEFT_OUT);
    comes_back(&codec, Skips { second: Some(1), third: vec![2], ..Skips::default() });
}
