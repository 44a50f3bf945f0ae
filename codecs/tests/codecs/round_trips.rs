//! Any value comes back equal, or is refused when it is encoded: and it is refused only if the
//! format cannot express it.

use std::collections::BTreeMap;

use proptest::{collection, option, prelude::*};
use serde::{Deserialize, Serialize};
use tiered_codecs::{CodecFor, Json, MessagePack, Packing};

use super::awkward::{Awkward, awkward};
use crate::support::{KEY, every_packing, meta, read, sealed_zstd};

every_packing! { any_value_comes_back_or_is_refused }

fn any_value_comes_back_or_is_refused(packing: &impl Packing) {
    proptest!(|(value in awkward())| {
        match packing.pack(&meta(), KEY, Some(&value)) {
            Ok(bytes) => {
                prop_assert!(!value.is_beyond(packing.id()));
                prop_assert_eq!(read::<Awkward>(packing, &bytes), Ok(Some(value)));
            }
            Err(refusal) => prop_assert!(value.is_beyond(packing.id()), "{}", refusal),
        }
    });
}

/// Types that ask the format what comes next: those of formats that describe themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Unit,
    Struct {
        text: String,
        letter: char,
        #[serde(flatten)]
        numbers: Numbers,
        list: Vec<Tagged>,
        perhaps: Option<Box<Tagged>>,
        beside: Adjacent,
    },
    Newtype(Numbers),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Numbers {
    small: i8,
    natural: u64,
    integer: i64,
    narrow: f32,
    wide: f64,
    #[serde(flatten)]
    rest: BTreeMap<String, Loose>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "content")]
enum Adjacent {
    Unit,
    Newtype(Option<u8>),
    Tuple(u8, Loose),
    Struct { loose: Loose, place: Place },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place(i16, i16);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Loose {
    Null,
    Truth(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Loose>),
    Map(BTreeMap<String, Loose>),
}

fn loose() -> impl Strategy<Value = Loose> {
    prop_oneof![
        Just(Loose::Null),
        any::<bool>().prop_map(Loose::Truth),
        any::<i64>().prop_map(Loose::Integer),
        any::<f64>().prop_map(Loose::Float),
        any::<String>().prop_map(Loose::Text),
    ]
    .prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Loose::List),
            collection::btree_map(any::<String>(), inner, 0..4).prop_map(Loose::Map),
        ]
    })
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let rest = collection::btree_map("other [a-z]{1,5}", loose(), 0..3);
    (any::<(i8, u64, i64, f32, f64)>(), rest).prop_map(
        |((small, natural, integer, narrow, wide), rest)| Numbers {
            small,
            natural,
            integer,
            narrow,
            wide,
            rest,
        },
    )
}

fn adjacent() -> impl Strategy<Value = Adjacent> {
    prop_oneof![
        Just(Adjacent::Unit),
        any::<Option<u8>>().prop_map(Adjacent::Newtype),
        (any::<u8>(), loose()).prop_map(|(number, loose)| Adjacent::Tuple(number, loose)),
        (loose(), any::<(i16, i16)>())
            .prop_map(|(loose, (x, y))| Adjacent::Struct { loose, place: Place(x, y) }),
    ]
}

fn tagged() -> impl Strategy<Value = Tagged> {
    prop_oneof![Just(Tagged::Unit), numbers().prop_map(Tagged::Newtype)].prop_recursive(
        4,
        16,
        4,
        |inner| {
            (
                any::<(String, char)>(),
                numbers(),
                collection::vec(inner.clone(), 0..3),
                option::of(inner.prop_map(Box::new)),
                adjacent(),
            )
                .prop_map(|((text, letter), numbers, list, perhaps, beside)| {
                    Tagged::Struct { text, letter, numbers, list, perhaps, beside }
                })
        },
    )
}

#[test]
fn what_asks_the_format_comes_back_from_those_that_describe_themselves() {
    fn back(packing: &impl Packing, value: &Tagged) -> Result<Option<Tagged>, String> {
        let bytes = packing.pack(&meta(), KEY, Some(value)).map_err(|error| error.to_string())?;
        read(packing, &bytes).map_err(|error| error.to_string())
    }
    proptest!(|(value in tagged())| {
        for back in [back(&MessagePack, &value), back(&Json, &value), back(&sealed_zstd(), &value)] {
            prop_assert_eq!(back, Ok(Some(value.clone())));
        }
    });
}
