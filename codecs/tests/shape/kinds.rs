//! Types of every kind that services keep: what is traced whole, and what is known not to be.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::CString,
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, Wrapping},
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc, Weekday};
use serde::Deserialize;
use uuid::Uuid;

use super::{partial, whole};

#[test]
fn library_types_are_traced_whole() {
    whole::<Uuid>();
    whole::<DateTime<Utc>>();
    whole::<NaiveDate>();
    whole::<NaiveTime>();
    whole::<NaiveDateTime>();
    whole::<NonZeroU32>();
    whole::<Wrapping<u8>>();
    whole::<Duration>();
    whole::<SystemTime>();
    whole::<IpAddr>();
    whole::<Ipv4Addr>();
    whole::<SocketAddr>();
    whole::<PathBuf>();
    whole::<CString>();
    whole::<Range<u32>>();
    whole::<Result<u8, String>>();
    whole::<PhantomData<u8>>();
    whole::<HashMap<String, BTreeMap<u8, BTreeSet<char>>>>();
    whole::<serde_bytes::ByteArray<16>>();
    assert_ne!(whole::<Duration>(), whole::<SystemTime>());
    assert_ne!(whole::<Range<u32>>(), whole::<Range<u64>>());
}

#[test]
fn pointers_are_what_they_point_to() {
    assert_eq!(whole::<Cow<'static, str>>(), whole::<String>());
    assert_eq!(whole::<Box<u32>>(), whole::<u32>());
    assert_eq!(whole::<Arc<[u8]>>(), whole::<Vec<u8>>());
    assert_eq!(whole::<Arc<Uuid>>(), whole::<Uuid>());
    assert_eq!(whole::<NonZeroU32>(), whole::<u32>());
}

#[test]
fn options_nest() {
    assert_ne!(whole::<Option<u8>>(), whole::<Option<Option<u8>>>());
    assert_ne!(whole::<Option<Option<u8>>>(), whole::<Option<Option<i8>>>());
}

#[derive(Deserialize)]
struct UnitStruct;
#[derive(Deserialize)]
struct Empty {}
#[derive(Deserialize)]
enum Never {}

#[test]
fn units_are_traced_whole() {
    assert_ne!(whole::<()>(), whole::<UnitStruct>());
    assert_ne!(whole::<()>(), whole::<Empty>());
    assert_ne!(whole::<Empty>(), whole::<Never>());
}

#[test]
fn long_tuples_and_arrays_are_traced_whole() {
    assert_ne!(whole::<[u8; 32]>(), whole::<[i8; 32]>());
    assert_ne!(whole::<[u8; 32]>(), whole::<[u8; 31]>());
    type Twelve<Last> = (
        Uuid,
        DateTime<Utc>,
        NonZeroU32,
        String,
        Option<u8>,
        Vec<NaiveDate>,
        IpAddr,
        char,
        bool,
        f64,
        HashMap<Uuid, NaiveTime>,
        Last,
    );
    assert_ne!(whole::<Twelve<u8>>(), whole::<Twelve<i8>>());
    // Of one type but for one in the middle.
    type Eight<Middle> = (u8, u8, u8, u8, Middle, u8, u8, u8);
    assert_ne!(whole::<Eight<u8>>(), whole::<Eight<i8>>());
    assert_eq!(whole::<Eight<u8>>(), whole::<[u8; 8]>());
}

/// A tuple behind values that are checked, nested and several at once.
#[derive(Deserialize)]
#[allow(dead_code)]
struct Checked {
    id: Uuid,
    at: DateTime<Utc>,
    count: NonZeroU32,
    on: Result<NaiveDate, IpAddr>,
}

/// A value that accepts one date only, and not the plainest.
#[derive(Deserialize)]
#[serde(try_from = "(u8, String)")]
struct Picky;

impl TryFrom<(u8, String)> for Picky {
    type Error = &'static str;

    fn try_from((number, text): (u8, String)) -> Result<Self, Self::Error> {
        (number == 2 && text == "1.0.0").then_some(Self).ok_or("no")
    }
}

#[test]
fn values_before_a_position_are_made_up() {
    assert_ne!(whole::<(Checked, u8)>(), whole::<(Checked, i8)>());
    assert_ne!(whole::<([Weekday; 32], u8)>(), whole::<([Weekday; 32], i8)>());
    assert_ne!(whole::<(Picky, u8)>(), whole::<(Picky, i8)>());
    assert_ne!(whole::<(Picky, (Picky, u8))>(), whole::<(Picky, (Picky, i8))>());
    assert_ne!(whole::<HashMap<String, u8>>(), whole::<HashMap<Cow<'static, str>, i8>>());
}

/// Accepts nothing of the palette.
#[derive(Deserialize)]
#[serde(try_from = "u64")]
struct Unknowable;

impl TryFrom<u64> for Unknowable {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        (number == 123_456_789).then_some(Self).ok_or("no")
    }
}

#[test]
fn what_follows_a_value_that_cannot_be_made_up_is_not_seen() {
    assert_eq!(partial::<(u8, Unknowable, u8)>(), partial::<(u8, Unknowable, i8)>());
    assert_ne!(partial::<(u8, Unknowable, u8)>(), partial::<(i8, Unknowable, u8)>());
    // Behind it in a struct is another matter.
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Around<T> {
        first: Unknowable,
        second: T,
    }
    assert_ne!(whole::<Around<u8>>(), whole::<Around<i8>>());
}

macro_rules! hundred {
    ($name:ident $last:ty: $($field:ident)*) => {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct $name { $($field: u32,)* last: $last }
    };
}
macro_rules! both_hundreds {
    ($($field:ident)*) => {
        hundred!(Hundred u8: $($field)*);
        hundred!(OtherHundred i8: $($field)*);
    };
}
both_hundreds! {
    a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 c0 c1 c2 c3 c4 c5 c6 c7 c8 c9
    d0 d1 d2 d3 d4 d5 d6 d7 d8 d9 e0 e1 e2 e3 e4 e5 e6 e7 e8 e9 f0 f1 f2 f3 f4 f5 f6 f7 f8 f9
    g0 g1 g2 g3 g4 g5 g6 g7 g8 g9 h0 h1 h2 h3 h4 h5 h6 h7 h8 h9 i0 i1 i2 i3 i4 i5 i6 i7 i8 i9
    j0 j1 j2 j3 j4 j5 j6 j7 j8
}

#[test]
fn a_struct_of_a_hundred_fields_is_traced_whole() {
    assert_ne!(whole::<Hundred>(), whole::<OtherHundred>());
}

#[derive(Deserialize)]
#[serde(tag = "t", content = "c")]
#[allow(dead_code)]
enum Adjacent<T> {
    Nothing,
    Number(u32),
    Maybe(Option<u8>),
    Pair(u8, T),
}

#[derive(Deserialize)]
#[serde(tag = "t", content = "c")]
#[allow(dead_code)]
enum AdjacentFields {
    Number(u32),
    Fields { x: u8 },
}

#[test]
fn adjacently_tagged_enums_are_traced_whole() {
    assert_ne!(whole::<Adjacent<u8>>(), whole::<Adjacent<i8>>());
    assert_ne!(whole::<(u8, Adjacent<u8>)>(), whole::<(u8, Adjacent<i8>)>());
    partial::<Adjacent<Untagged>>();
    // Serde's derive names the fields of such a variant to no format.
    partial::<AdjacentFields>();
}

#[derive(Deserialize)]
#[serde(tag = "t")]
#[allow(dead_code)]
enum Internal {
    A { x: u8 },
    B { y: u8 },
}

#[derive(Deserialize)]
#[serde(untagged)]
#[allow(dead_code)]
enum Untagged {
    A(u8),
    B(String),
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Flat {
    x: u8,
    #[serde(flatten)]
    rest: Inner,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Inner {
    y: u8,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Holds<T, U> {
    first: T,
    second: U,
}

#[test]
fn what_asks_the_format_is_not_traced_whole() {
    partial::<Internal>();
    partial::<Untagged>();
    partial::<Flat>();
    // The rest of a type that holds one is.
    assert_ne!(partial::<Holds<Untagged, u8>>(), partial::<Holds<Untagged, i8>>());
    assert_ne!(partial::<(Internal, u8)>(), partial::<Internal>());
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Attributes {
    #[serde(default, alias = "old")]
    renamed: u8,
    #[serde(skip)]
    skipped: Option<u64>,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    #[serde(deserialize_with = "seconds")]
    at: DateTime<Utc>,
}

fn seconds<'de, D: serde::Deserializer<'de>>(format: D) -> Result<DateTime<Utc>, D::Error> {
    chrono::serde::ts_seconds::deserialize(format)
}

#[test]
fn attributes_are_followed() {
    whole::<Attributes>();
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Transparent(#[allow(dead_code)] u32);
#[derive(Deserialize)]
struct Newtype(#[allow(dead_code)] u32);

#[test]
fn a_newtype_counts_unless_it_is_transparent() {
    assert_eq!(whole::<Transparent>(), whole::<u32>());
    assert_ne!(whole::<Newtype>(), whole::<u32>());
}
