//! The fingerprint of a type's shape: what serde shows of it.
//!
//! Formats without names, such as postcard, decode a changed struct into nonsense without an error.
//! So every envelope carries the fingerprint of the type it was written from: names, order and kinds
//! of fields and variants, all the way down. Names of types are left out, so that two services may
//! call one shape differently; so are all widths and layouts that serde does not show.
//!
//! There is no value of the type at hand and no derive of ours on it, only `Deserialize`. It is
//! [probed](probe) one position at a time: each pass runs `T::deserialize` along a path of choices,
//! notes which call comes at its end, and stops there with an error. Values that must come before the
//! position are [made up](dummy). The [tracer](trace) follows every path once, types met again close
//! a loop, and the [graph] that results is reduced to its smallest form and hashed.
//!
//! Rejected: serde-reflection, which runs whole values through `Deserialize` and so fails on types
//! that check what they are given; `std::any::type_name`, which says nothing of fields and changes
//! with a module's name; a derive macro, which every type of an application would need.

mod dummy;
mod graph;
mod label;
mod probe;
mod trace;

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use serde::de::DeserializeOwned;

use crate::known::Known;

/// The fingerprint of a type's shape.
///
/// Equal between builds and between services for one shape, whatever the types are called; different
/// when a field or a variant is added, dropped, moved, renamed or retyped. Equality and hash are
/// those of [`value`](Self::value) alone.
#[derive(Clone, Copy)]
pub struct Shape {
    value: u64,
    complete: bool,
}

impl Shape {
    /// The shape of `T`, traced at the first call and remembered.
    ///
    /// Tracing runs `T::deserialize` with made-up input, a few passes per field. A panic there is
    /// caught (if the program unwinds) and makes the shape incomplete.
    #[must_use]
    pub fn of<T: DeserializeOwned + 'static>() -> Self {
        let known = &Known::of::<T>().shape;
        // Not by `get_or_init`: a type's `Deserialize` may come here itself. Whoever traces it at the
        // same time finds the same.
        known.get().copied().unwrap_or_else(|| {
            let shape = Self::trace::<T>();
            *known.get_or_init(|| shape)
        })
    }

    /// The shape of everything in a cache without a codec. It counts as complete: where nothing is
    /// encoded, nothing can drift.
    #[must_use]
    pub const fn untraced() -> Self {
        Self { value: 0, complete: true }
    }

    /// The fingerprint. Never 0, but for [`untraced`](Self::untraced).
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// The shape an envelope names. Whether it was complete is not stored; it is said to be.
    #[must_use]
    pub const fn from_value(value: u64) -> Self {
        Self { value, complete: true }
    }

    /// Whether the whole type was seen. If not, the fingerprint covers the part that was, and a
    /// change in the rest shows only in the declared schema version.
    ///
    /// Not seen whole are: what asks the format what comes next (`flatten`, untagged and internally
    /// tagged enums, adjacently tagged struct variants, `serde_json::Value`); what lies behind a tuple's element that accepts none of
    /// the made-up values; and what a `Deserialize` that panics hides.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Traces `T` without looking it up.
    fn trace<T: DeserializeOwned>() -> Self {
        let (value, complete) = graph::fingerprint(&trace::trace::<T>());
        Self { value: value.max(1), complete }
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Shape {}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = if self.complete { "" } else { ", incomplete" };
        write!(out, "Shape({:#018x}{rest})", self.value)
    }
}
