//! A type that nests in every way that serde knows, and marks how far down the stack it is read.

use std::{cell::Cell, collections::BTreeMap, hint::black_box};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tiered_codecs::Packing;

use crate::support::encode;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Deep {
    Leaf,
    Newtype(Marked),
    Tuple(u8, Marked),
    Struct { inner: Marked },
    Seq(Vec<Marked>),
    Map(BTreeMap<String, Marked>),
    Some(Option<Marked>),
    Wrapped(Wrapped),
    Pair((u8, Marked)),
    TupleStruct(TupleStruct),
    Record(Record),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wrapped(Marked);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TupleStruct(u8, Marked);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    before: u8,
    inner: Marked,
}

/// One way to nest.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) wrap: fn(Deep) -> Deep,
    /// How many of the guard's levels it takes.
    pub(crate) levels: usize,
}

/// A variant takes a level, and so does what is in it, unless that is the variant itself.
pub(crate) const KINDS: [Kind; 10] = [
    Kind { name: "newtype variant", wrap: |it| Deep::Newtype(mark(it)), levels: 1 },
    Kind { name: "tuple variant", wrap: |it| Deep::Tuple(1, mark(it)), levels: 1 },
    Kind { name: "struct variant", wrap: |it| Deep::Struct { inner: mark(it) }, levels: 1 },
    Kind { name: "list", wrap: |it| Deep::Seq(vec![mark(it)]), levels: 2 },
    Kind { name: "map", wrap: |it| Deep::Map([("k".into(), mark(it))].into()), levels: 2 },
    Kind { name: "option", wrap: |it| Deep::Some(Some(mark(it))), levels: 2 },
    Kind { name: "newtype", wrap: |it| Deep::Wrapped(Wrapped(mark(it))), levels: 2 },
    Kind { name: "tuple", wrap: |it| Deep::Pair((1, mark(it))), levels: 2 },
    Kind {
        name: "tuple struct",
        wrap: |it| Deep::TupleStruct(TupleStruct(1, mark(it))),
        levels: 2,
    },
    Kind {
        name: "struct",
        wrap: |it| Deep::Record(Record { before: 1, inner: mark(it) }),
        levels: 2,
    },
];

impl Kind {
    /// A value of so many wraps.
    pub(crate) fn nest(&self, wraps: usize) -> Deep {
        (0..wraps).fold(Deep::Leaf, |inner, _| (self.wrap)(inner))
    }

    /// The bytes of about `len` bytes of wraps that nobody closes.
    pub(crate) fn unclosed(&self, packing: &impl Packing, len: usize) -> Vec<u8> {
        let [one, two] = [1, 2].map(|wraps| encode(packing, &self.nest(wraps)).unwrap());
        let inside = two.windows(one.len()).rposition(|part| part == one).unwrap();
        two[..inside].repeat(len / inside)
    }
}

fn mark(inner: Deep) -> Marked {
    Marked(Box::new(inner))
}

/// A box that notes where the stack is when it is written or read; no format sees it.
#[derive(Debug, PartialEq)]
pub(crate) struct Marked(Box<Deep>);

impl Serialize for Marked {
    fn serialize<S: Serializer>(&self, format: S) -> Result<S::Ok, S::Error> {
        note();
        self.0.serialize(format)
    }
}

impl<'de> Deserialize<'de> for Marked {
    fn deserialize<D: Deserializer<'de>>(format: D) -> Result<Self, D::Error> {
        note();
        Box::deserialize(format).map(Self)
    }
}

thread_local! {
    /// The lowest place on this thread's stack that was noted.
    static LOWEST: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Notes where the stack is.
#[inline(never)]
pub(crate) fn note() {
    let here = 0_u8;
    let place = black_box(&raw const here).addr();
    LOWEST.set(LOWEST.get().min(place));
}

/// How many bytes of the stack `run` takes, as far as it notes them.
#[inline(never)]
pub(crate) fn stack_of(run: impl FnOnce()) -> usize {
    let here = 0_u8;
    let place = black_box(&raw const here).addr();
    LOWEST.set(place);
    run();
    place - LOWEST.get()
}
