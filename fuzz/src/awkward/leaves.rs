//! Values without parts: numbers at their limits, and types of others that look different to people
//! and to programs.

use std::{
    cmp::Reverse,
    ffi::CString,
    fmt,
    net::{IpAddr, SocketAddrV4},
    num::{NonZeroI128, NonZeroU8, Wrapping},
    path::PathBuf,
    time::Duration,
};

use arbitrary::Arbitrary;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Makes a float that compares by its bits, so that NaN is itself and the zeros are two.
macro_rules! float {
    ($name:ident $type:ty) => {
        /// A float that compares by its bits.
        #[derive(Arbitrary, Clone, Copy, Debug, Deserialize, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub $type);

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.to_bits() == other.0.to_bits()
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.0.to_bits().cmp(&other.0.to_bits())
            }
        }
    };
}

float!(F32 f32);
float!(F64 f64);

/// Every kind of number.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub struct Numbers {
    small: (u8, i8, u16, i16),
    middle: (u32, i32),
    large: (u64, i64),
    huge: (u128, i128),
    floats: (F32, F64),
    many: Vec<F64>,
    single: Vec<F32>,
    truth: bool,
    letter: char,
}

/// The standard library's types that serde knows.
#[derive(Arbitrary, Debug, Deserialize, PartialEq, Serialize)]
pub struct Std {
    time: Duration,
    address: IpAddr,
    socket: SocketAddrV4,
    non_zero: (NonZeroU8, NonZeroI128),
    wrapping: Wrapping<i16>,
    reverse: Reverse<u8>,
    path: PathBuf,
    c_text: CString,
    result: Result<u8, Option<String>>,
    code: Code,
    dual: Dual,
}

/// A text with rules, as an id: eight hexadecimal digits, a dash, four more.
#[derive(Arbitrary, Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code(u32, u16);

impl From<Code> for String {
    fn from(Code(high, low): Code) -> Self {
        format!("{high:08x}-{low:04x}")
    }
}

impl TryFrom<String> for Code {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let (high, low) = text.split_once('-').ok_or("no dash")?;
        if high.len() != 8 || low.len() != 4 || text.contains('+') {
            return Err("another length");
        }
        let high = u32::from_str_radix(high, 16).map_err(|_| "no number")?;
        Ok(Self(high, u16::from_str_radix(low, 16).map_err(|_| "no number")?))
    }
}

/// A text for people, bytes for programs: as many crates' ids are.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
pub struct Dual(u64);

impl Serialize for Dual {
    fn serialize<S: Serializer>(&self, format: S) -> Result<S::Ok, S::Error> {
        if format.is_human_readable() {
            format.collect_str(&self.0)
        } else {
            format.serialize_bytes(&self.0.to_be_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for Dual {
    fn deserialize<D: Deserializer<'de>>(format: D) -> Result<Self, D::Error> {
        if format.is_human_readable() {
            let text = String::deserialize(format)?;
            return text.parse().map(Self).map_err(D::Error::custom);
        }
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Dual;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("eight bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Dual, E> {
                let bytes = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
                Ok(Dual(u64::from_be_bytes(bytes)))
            }
        }
        format.deserialize_bytes(Visitor)
    }
}
