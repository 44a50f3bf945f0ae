//! Types whose `Serialize` and `Deserialize` differ: found when a value of them is packed, before it
//! is stored.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use tiered_codecs::{CodecFor, EncodeError, Json, MessagePack, Packing, Postcard};

use crate::support::{Inverted, KEY, Value, meta, pack_none, read, sealed, sealed_zstd, zstd};

const ANOTHER: &str = "it would come back as another value";
const NOT_BACK: &str = "it would not be read back";

/// It is packed and read.
#[track_caller]
fn comes_back<T: Value>(packing: &impl Packing, value: T) {
    let bytes = packing.pack(&meta(), KEY, Some(&value));
    let back = bytes.map(|bytes| read::<T>(packing, &bytes));
    assert_eq!(back, Ok(Ok(Some(value))), "{packing:?}");
}

/// It is not packed, and the reason says one of `words`.
#[track_caller]
fn refused<T: Value>(packing: &impl Packing, value: T, words: &[&str]) {
    let there = packing.pack(&meta(), KEY, Some(&value));
    let Err(EncodeError(reason)) = there else { panic!("{packing:?} packs {value:?}") };
    assert!(words.iter().any(|words| reason.contains(words)), "{packing:?}: {reason}");
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct NeverWritten {
    #[serde(default, skip_serializing)]
    never: u8,
    always: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct NeverRead {
    #[serde(skip_deserializing)]
    never: u8,
    always: u8,
}

#[test]
fn a_field_that_is_never_written_is_refused_where_fields_have_places() {
    let value = || (NeverWritten { never: 0, always: 7 }, vec![1_u8, 9]);
    refused(&Postcard, value(), &[ANOTHER, NOT_BACK]);
    refused(&zstd(), value(), &[ANOTHER, NOT_BACK]);
    refused(&sealed(), value(), &[ANOTHER, NOT_BACK]);
    // Elsewhere it reads as its default, as its type says.
    comes_back(&MessagePack, value());
    comes_back(&Json, value());
    comes_back(&sealed_zstd(), value());
}

#[test]
fn a_field_that_is_written_and_never_read_is_refused_where_fields_have_places() {
    refused(&Postcard, NeverRead { never: 7, always: 1 }, &[ANOTHER, NOT_BACK]);
    refused(&Postcard, vec![NeverRead { never: 7, always: 1 }; 3], &[ANOTHER, NOT_BACK]);
    refused(&zstd(), NeverRead { never: 7, always: 1 }, &[ANOTHER, NOT_BACK]);
}

#[test]
fn a_type_that_its_format_cannot_read_is_refused() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Anything {
        value: serde_json::Value,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Named { number: u8 },
    }
    refused(&Postcard, Anything { value: serde_json::json!([1]) }, &[NOT_BACK]);
    refused(&Postcard, Tagged::Named { number: 1 }, &[NOT_BACK]);
    comes_back(&MessagePack, Anything { value: serde_json::json!([1]) });
    comes_back(&Json, Tagged::Named { number: 1 });
}

/// What was seen to come back is not looked into again, and vouches for nothing else.
#[test]
fn an_honest_variant_does_not_vouch_for_another() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Mixed {
        Honest {
            number: u8,
        },
        NeverWritten {
            #[serde(default, skip_serializing)]
            never: u8,
            always: u8,
            list: Vec<u8>,
        },
        LeftOut(
            #[serde(default, skip_serializing_if = "Option::is_none")] Option<u8>,
            #[serde(default)] u8,
        ),
    }
    let never = || Mixed::NeverWritten { never: 0, always: 1, list: vec![1, 0] };
    let left_out = || Mixed::LeftOut(None, 1);
    for _ in 0..3 {
        comes_back(&Postcard, Mixed::Honest { number: 1 });
        comes_back(&Json, Mixed::Honest { number: 1 });
        comes_back(&Json, Mixed::LeftOut(Some(1), 2));
        comes_back(&MessagePack, Mixed::LeftOut(Some(1), 2));
        comes_back(&Postcard, Mixed::LeftOut(Some(1), 2));
        // Nor does one codec for another, nor a refusal for itself.
        refused(&Postcard, never(), &[ANOTHER, NOT_BACK]);
        refused(&Postcard, left_out(), &[ANOTHER, NOT_BACK]);
        refused(&MessagePack, left_out(), &[ANOTHER, NOT_BACK]);
        refused(&Json, left_out(), &[ANOTHER, NOT_BACK]);
        refused(&sealed_zstd(), left_out(), &[ANOTHER, NOT_BACK]);
        comes_back(&Json, never());
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Skips {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    perhaps: Option<u8>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    list: Vec<u8>,
    always: u8,
}

#[test]
fn a_named_field_that_is_left_out_comes_back_where_names_are_written() {
    for perhaps in [None, Some(1)] {
        for list in [vec![], vec![2]] {
            let value = Skips { perhaps, list, always: 3 };
            comes_back(&MessagePack, value.clone());
            comes_back(&Json, value.clone());
            comes_back(&sealed_zstd(), value);
        }
    }
}

#[test]
fn values_in_no_order_come_back() {
    // Written again they are in another order, and as long.
    let numbers: HashMap<u32, Skips> = (0..500)
        .map(|at| {
            (at * 77, Skips { perhaps: Some(1), list: vec![1; (at % 7 + 1) as usize], always: 1 })
        })
        .collect();
    let names: HashSet<String> = (0..500).map(|at| "n".repeat(at)).collect();
    fn all<T: Value + Clone>(value: &T) {
        comes_back(&Postcard, value.clone());
        comes_back(&MessagePack, value.clone());
        comes_back(&Json, value.clone());
    }
    all(&numbers);
    all(&(NeverWrittenNorRead::default(), names));
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct NeverWrittenNorRead {
    #[serde(skip)]
    never: BTreeMap<u8, u8>,
    always: u8,
}

#[test]
fn a_codec_from_elsewhere_is_taken_at_its_word() {
    comes_back(&Inverted(200), NeverWritten { never: 0, always: 1 });
}

#[test]
fn there_is_nothing_to_prove_of_none() {
    let none = pack_none::<NeverRead>(&Postcard);
    assert_eq!(read::<NeverRead>(&Postcard, &none), Ok(None));
}
