//! One type in many versions, as it changes over the years of a service.

use std::fmt::Debug;

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A version of the type.
pub trait Version:
    Serialize + DeserializeOwned + PartialEq + Debug + for<'a> Arbitrary<'a> + 'static
{
    /// Versions of one number have one shape.
    const SHAPE: u8;
}

/// Defines versions, each a struct, by the number of its shape.
macro_rules! versions {
    ($($(#[$about:meta])* $shape:literal $name:ident { $($fields:tt)* })*) => {
        $(
            $(#[$about])*
            #[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
            pub struct $name { $($fields)* }

            impl Version for $name {
                const SHAPE: u8 = $shape;
            }
        )*
    };
}

versions! {
    /// As it was at first.
    0 First { name: String, price: u32, tags: Vec<Tag>, size: Size }
    /// The same, called otherwise.
    0 Twin { name: String, price: u32, tags: Vec<TagTwin>, size: Size }
    /// A field was added behind.
    1 AddedBehind { name: String, price: u32, tags: Vec<Tag>, size: Size, note: Option<String> }
    /// A field was added in front.
    2 AddedInFront { id: u8, name: String, price: u32, tags: Vec<Tag>, size: Size }
    /// A field was dropped.
    3 Dropped { name: String, price: u32, tags: Vec<Tag> }
    /// Two fields have changed places.
    4 Moved { price: u32, name: String, tags: Vec<Tag>, size: Size }
    /// A field is wider.
    5 Wider { name: String, price: u64, tags: Vec<Tag>, size: Size }
    /// A field has a sign.
    6 Signed { name: String, price: i32, tags: Vec<Tag>, size: Size }
    /// A field may be missing.
    7 Optional { name: String, price: Option<u32>, tags: Vec<Tag>, size: Size }
    /// A field has another name.
    8 Renamed { name: String, cost: u32, tags: Vec<Tag>, size: Size }
    /// A field has another name where it is written only.
    8 RenamedInside { name: String, #[serde(rename = "cost")] price: u32, tags: Vec<Tag>, size: Size }
    /// An enum has one variant more.
    9 MoreVariants { name: String, price: u32, tags: Vec<Tag>, size: MoreSizes }
    /// Two variants have changed places.
    10 SwappedVariants { name: String, price: u32, tags: Vec<Tag>, size: SwappedSizes }
    /// A variant holds something else.
    11 OtherVariant { name: String, price: u32, tags: Vec<Tag>, size: OtherSizes }
    /// A struct far inside has one field more.
    12 Deeper { name: String, price: u32, tags: Vec<MoreTag>, size: Size }
    /// Texts are bytes.
    13 Bytes { #[serde(with = "serde_bytes")] name: Vec<u8>, price: u32, tags: Vec<Tag>, size: Size }
    /// A list is a map.
    14 Mapped { name: String, price: u32, tags: std::collections::BTreeMap<u8, i16>, size: Size }
}

/// Defines the parts of the versions.
macro_rules! parts {
    ($($(#[$about:meta])* $kind:ident $name:ident $body:tt)*) => {$(
        $(#[$about])*
        #[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
        pub $kind $name $body
    )*};
}

parts! {
    /// A part.
    struct Tag { key: u8, value: i16 }
    /// The same part, called otherwise.
    struct TagTwin { key: u8, value: i16 }
    /// The part with one field more.
    struct MoreTag { key: u8, value: i16, more: () }
    /// A choice.
    enum Size {
        /// Nothing more to say.
        Small,
        /// How large.
        Large(u8),
    }
    /// A choice of more.
    enum MoreSizes {
        /// Nothing more to say.
        Small,
        /// How large.
        Large(u8),
        /// What was added.
        Huge,
    }
    /// A choice in another order.
    enum SwappedSizes {
        /// How large.
        Large(u8),
        /// Nothing more to say.
        Small,
    }
    /// A choice that holds something else.
    enum OtherSizes {
        /// Nothing more to say.
        Small,
        /// How large.
        Large(i8),
    }
}

/// How many versions [`with_version`] chooses from.
pub const VERSIONS: u8 = 17;

/// Runs an expression with the version of a number.
macro_rules! with_version {
    ($which:expr, $type:ident => $run:expr) => {
        $crate::versions::with_version!(
            @ $which, $type, $run;
            0 First, 1 Twin, 2 AddedBehind, 3 AddedInFront, 4 Dropped, 5 Moved, 6 Wider, 7 Signed,
            8 Optional, 9 Renamed, 10 RenamedInside, 11 MoreVariants, 12 SwappedVariants,
            13 OtherVariant, 14 Deeper, 15 Bytes, 16 Mapped
        )
    };
    (@ $which:expr, $type:ident, $run:expr; $($number:literal $name:ident),*) => {
        match $which % $crate::versions::VERSIONS {
            $($number => {
                type $type = $crate::versions::$name;
                $run
            })*
            _ => unreachable!(),
        }
    };
}

pub(crate) use with_version;
