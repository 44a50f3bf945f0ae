//! Nesting without end, through everything that can hold a value.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use serde::{Deserialize, Serialize};

/// A value in a value in a value.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub enum Chain {
    /// The innermost.
    End,
    /// In a newtype variant.
    Boxed(Box<Chain>),
    /// In an option.
    Perhaps(Option<Box<Chain>>),
    /// In a list.
    List(Vec<Chain>),
    /// In a map.
    Map(BTreeMap<u8, Chain>),
    /// In a newtype.
    Linked(Link),
    /// In a struct variant.
    Struct {
        /// The next.
        next: Box<Chain>,
    },
    /// In a tuple variant.
    Tuple((), Box<Chain>),
    /// In an array.
    Array([Box<Chain>; 1]),
}

/// A newtype around the next.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub struct Link(Box<Chain>);

impl<'a> Arbitrary<'a> for Chain {
    fn arbitrary(from: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        // A few bytes make a long chain: the first repeats where there are no more.
        let (mut kind, depth) = from.arbitrary::<(u8, u8)>()?;
        let mut chain = Self::End;
        for _ in 0..depth {
            if !from.is_empty() {
                kind = from.arbitrary()?;
            }
            let next = Box::new(chain);
            chain = match kind % 9 {
                0 => Self::Boxed(next),
                1 => Self::Perhaps(Some(next)),
                2 => Self::List(vec![*next, Self::End]),
                3 => Self::Map(BTreeMap::from([(kind, *next)])),
                4 => Self::Linked(Link(next)),
                5 => Self::Struct { next },
                6 => Self::Tuple((), next),
                7 => Self::Array([next]),
                _ => Self::List(vec![Self::Perhaps(None), *next]),
            };
        }
        Ok(chain)
    }
}
