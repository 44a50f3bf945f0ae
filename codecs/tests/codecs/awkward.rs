//! A recursive type with one of every kind, any value of it, and what of a value a format cannot
//! express.

use std::collections::BTreeMap;

use proptest::{collection, option, prelude::*};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tiered_codecs::CodecId;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Awkward {
    Unit,
    Integers(i8, i16, i32, i64, i128),
    Naturals { one: u8, two: u16, four: u32, eight: u64, sixteen: u128 },
    Floats(Narrow, Wide),
    Texts(String, char, bool, ByteBuf),
    Marker(Marker),
    Options(Option<Option<Option<u8>>>),
    OptionalUnit(Option<()>),
    OptionalMarker(Option<Marker>),
    OptionalNewtype(Option<Newtype<Option<u8>>>),
    Optional(Option<Box<Awkward>>),
    Newtype(Newtype<Box<Awkward>>),
    List(Vec<Awkward>),
    Pair(Box<(Awkward, [Awkward; 2])>),
    ByText(BTreeMap<String, Awkward>),
    ByNumber(BTreeMap<i128, Awkward>),
    ByLetter(BTreeMap<Newtype<char>, Awkward>),
    ByPair(BTreeMap<(u8, bool), Awkward>),
    Record(Box<Record>),
    Struct { before: Box<Awkward>, after: Option<Result<Box<Awkward>, String>> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marker;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Newtype<T>(T);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(rename = "the inner")]
    inner: Awkward,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    perhaps: Vec<Awkward>,
    last: (),
}

/// A float that is equal by its bits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Narrow(f32);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Wide(f64);

impl PartialEq for Narrow {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl PartialEq for Wide {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

/// What a format may be unable to express.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    NilInOption,
    MarkerInOption,
    NotFinite,
    LeftOut,
    KeyThatIsNoText,
}

impl Awkward {
    /// Whether the codec cannot express it.
    pub(crate) fn is_beyond(&self, codec: CodecId) -> bool {
        let mut flaws = Vec::new();
        self.flaws(&mut flaws);
        flaws.into_iter().any(|flaw| match codec {
            CodecId::POSTCARD => flaw == Flaw::LeftOut,
            CodecId::MESSAGE_PACK => flaw == Flaw::NilInOption,
            _ => flaw != Flaw::LeftOut,
        })
    }

    fn flaws(&self, found: &mut Vec<Flaw>) {
        let mut all = |values: &mut dyn Iterator<Item = &Awkward>| {
            values.for_each(|value| value.flaws(found));
        };
        match self {
            Self::Unit
            | Self::Integers(..)
            | Self::Naturals { .. }
            | Self::Texts(..)
            | Self::Marker(_) => {}
            Self::Floats(narrow, wide) => {
                if !narrow.0.is_finite() || !wide.0.is_finite() {
                    found.push(Flaw::NotFinite);
                }
            }
            Self::Options(options) => {
                if matches!(options, Some(None | Some(None))) {
                    found.push(Flaw::NilInOption);
                }
            }
            Self::OptionalUnit(unit) => found.extend(unit.map(|()| Flaw::NilInOption)),
            Self::OptionalMarker(marker) => {
                found.extend(marker.as_ref().map(|_| Flaw::MarkerInOption));
            }
            Self::OptionalNewtype(newtype) => {
                if matches!(newtype, Some(Newtype(None))) {
                    found.push(Flaw::NilInOption);
                }
            }
            Self::Optional(inner) => all(&mut inner.iter().map(AsRef::as_ref)),
            Self::Newtype(Newtype(inner)) => inner.flaws(found),
            Self::List(list) => all(&mut list.iter()),
            Self::Pair(pair) => all(&mut std::iter::once(&pair.0).chain(&pair.1)),
            Self::ByText(map) => all(&mut map.values()),
            Self::ByNumber(map) => all(&mut map.values()),
            Self::ByLetter(map) => all(&mut map.values()),
            Self::ByPair(map) => {
                all(&mut map.values());
                if !map.is_empty() {
                    found.push(Flaw::KeyThatIsNoText);
                }
            }
            Self::Record(record) => {
                all(&mut std::iter::once(&record.inner).chain(&record.perhaps));
                if record.perhaps.is_empty() {
                    found.push(Flaw::LeftOut);
                }
            }
            Self::Struct { before, after } => {
                before.flaws(found);
                if let Some(Ok(after)) = after {
                    after.flaws(found);
                }
            }
        }
    }
}

fn leaf() -> impl Strategy<Value = Awkward> {
    let bytes = collection::vec(any::<u8>(), 0..40).prop_map(ByteBuf::from);
    prop_oneof![
        Just(Awkward::Unit),
        Just(Awkward::Marker(Marker)),
        any::<(i8, i16, i32, i64, i128)>()
            .prop_map(|(a, b, c, d, e)| Awkward::Integers(a, b, c, d, e)),
        any::<(u8, u16, u32, u64, u128)>().prop_map(|(one, two, four, eight, sixteen)| {
            Awkward::Naturals { one, two, four, eight, sixteen }
        }),
        // Any bits: infinite ones and no numbers among them.
        any::<(u32, u64)>().prop_map(|(narrow, wide)| {
            Awkward::Floats(Narrow(f32::from_bits(narrow)), Wide(f64::from_bits(wide)))
        }),
        prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0)]
            .prop_map(|wide| Awkward::Floats(Narrow(1.0), Wide(wide))),
        (any::<String>(), any::<char>(), any::<bool>(), bytes)
            .prop_map(|(text, letter, truth, bytes)| Awkward::Texts(text, letter, truth, bytes)),
        any::<Option<Option<Option<u8>>>>().prop_map(Awkward::Options),
        any::<Option<()>>().prop_map(Awkward::OptionalUnit),
        any::<bool>().prop_map(|there| Awkward::OptionalMarker(there.then_some(Marker))),
        any::<Option<Option<u8>>>().prop_map(|it| Awkward::OptionalNewtype(it.map(Newtype))),
    ]
}

/// Any awkward value, a few levels deep.
pub(crate) fn awkward() -> impl Strategy<Value = Awkward> {
    leaf().prop_recursive(6, 48, 5, |inner| {
        let boxed = inner.clone().prop_map(Box::new).boxed();
        prop_oneof![
            option::of(boxed.clone()).prop_map(Awkward::Optional),
            boxed.clone().prop_map(|inner| Awkward::Newtype(Newtype(inner))),
            collection::vec(inner.clone(), 0..5).prop_map(Awkward::List),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| Awkward::Pair(Box::new((a, [b, c])))),
            collection::btree_map(any::<String>(), inner.clone(), 0..4).prop_map(Awkward::ByText),
            collection::btree_map(any::<i128>(), inner.clone(), 0..4).prop_map(Awkward::ByNumber),
            collection::btree_map(any::<char>().prop_map(Newtype), inner.clone(), 0..4)
                .prop_map(Awkward::ByLetter),
            collection::btree_map(any::<(u8, bool)>(), inner.clone(), 0..3)
                .prop_map(Awkward::ByPair),
            (inner.clone(), collection::vec(inner, 0..3)).prop_map(|(inner, perhaps)| {
                Awkward::Record(Box::new(Record { inner, perhaps, last: () }))
            }),
            (
                boxed.clone(),
                option::of(prop_oneof![boxed.prop_map(Ok), any::<String>().prop_map(Err),])
            )
                .prop_map(|(before, after)| Awkward::Struct { before, after }),
        ]
    })
}
