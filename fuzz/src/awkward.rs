//! Types that formats stumble over: each field is there for a reason.
//!
//! All compare exactly (floats by their bits), so that "equal" means "the same". The types are chosen
//! one at a time, by a number that the input begins with; all in one would let no input reach deep.

mod chain;
mod containers;
mod described;
mod keys;
mod leaves;
mod lopsided;
mod options;
mod variants;

use std::fmt::Debug;

use arbitrary::Arbitrary;
use serde::{Serialize, de::DeserializeOwned};
use tiered_codecs::CodecId;

pub use self::{
    chain::{Chain, Link},
    containers::{Skips, Texts, Units},
    described::{Adjacent, Flat, Free, Inner, Tagged, Untagged},
    keys::{Keys, OddKeys},
    leaves::{Code, Dual, F32, F64, Numbers, Std},
    lopsided::Lopsided,
    options::{Clear, Newtypes, Options, Unit, Wrap},
    variants::{Kind, Variants},
};

/// A type that targets encode and decode.
pub trait Awkward:
    Serialize + DeserializeOwned + PartialEq + Debug + for<'a> Arbitrary<'a> + 'static
{
    /// Only a format that describes itself carries it.
    const DESCRIBED: bool = false;
    /// A few bytes of it may take as long as a thousand others, so one input in so many is run.
    const ONE_IN: u64 = 1;

    /// Whether there are values that the codec of this id cannot express.
    fn may_be_refused(codec: CodecId) -> bool;

    /// Whether the codec of this id must read whatever it wrote.
    fn must_be_read(codec: CodecId) -> bool {
        !Self::DESCRIBED || codec != CodecId::POSTCARD
    }
}

/// Says which codecs may refuse values of a type.
macro_rules! awkward {
    ($($type:ty: [$($codec:ident)*] $($const:ident: $is:ty = $value:expr),*;)*) => {$(
        impl Awkward for $type {
            $(const $const: $is = $value;)*
            fn may_be_refused(codec: CodecId) -> bool {
                [$(CodecId::$codec),*].contains(&codec)
            }
        }
    )*};
}

awkward! {
    Numbers: [JSON];
    Std: [JSON];
    Options: [MESSAGE_PACK JSON];
    Newtypes: [MESSAGE_PACK JSON];
    Variants: [POSTCARD MESSAGE_PACK JSON];
    Units: [POSTCARD MESSAGE_PACK JSON] ONE_IN: u64 = 64;
    Texts: [];
    Skips: [POSTCARD];
    Keys: [JSON];
    OddKeys: [MESSAGE_PACK JSON];
    Chain: [POSTCARD MESSAGE_PACK JSON];
    Free: [POSTCARD MESSAGE_PACK JSON] DESCRIBED: bool = true, ONE_IN: u64 = 4;
    Flat: [POSTCARD MESSAGE_PACK JSON] DESCRIBED: bool = true;
    Tagged: [POSTCARD MESSAGE_PACK JSON] DESCRIBED: bool = true;
    Adjacent: [POSTCARD JSON] DESCRIBED: bool = true;
    Untagged: [POSTCARD JSON] DESCRIBED: bool = true;
    Lopsided: [POSTCARD MESSAGE_PACK JSON];
}

/// How many types [`with_type`] chooses from.
pub const TYPES: u8 = 16;

/// Runs an expression with the type of a number.
macro_rules! with_type {
    ($which:expr, $type:ident => $run:expr) => {
        $crate::awkward::with_type!(
            @ $which, $type, $run;
            0 Numbers, 1 Std, 2 Options, 3 Newtypes, 4 Variants, 5 Units, 6 Texts, 7 Skips, 8 Keys,
            9 OddKeys, 10 Chain, 11 Free, 12 Flat, 13 Tagged, 14 Adjacent, 15 Untagged
        )
    };
    (@ $which:expr, $type:ident, $run:expr; $($number:literal $name:ident),*) => {
        match $which % $crate::awkward::TYPES {
            $($number => {
                type $type = $crate::awkward::$name;
                $run
            })*
            _ => {}
        }
    };
}

pub(crate) use with_type;

/// What is done with a type that a number chooses.
pub trait Visit {
    /// Does it; says whether it could.
    fn visit<T: Awkward>(self) -> bool;
}

/// Visits the type of a number.
pub fn each(which: u8, visit: impl Visit) -> bool {
    with_type!(which, T => return visit.visit::<T>());
    false
}
