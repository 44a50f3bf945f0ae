//! Bounds that serde's formats do not set themselves, on both sides of the bytes.
//!
//! [`decode`] bounds what hostile bytes may cost. [`encode`] refuses what would not come back: a
//! value beyond those bounds, and one that the format would quietly turn into another.

mod decode;
mod encode;

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
    ptr::from_ref,
};

use crate::forms::{Forms, Proven, form};

pub(crate) use self::{
    decode::deserialize,
    encode::{Rules, serialize},
};

/// The deepest nesting of containers, options and newtypes among them, that is decoded.
const MAX_DEPTH: u32 = 128;
/// The deepest that is encoded: a little less, for a type may be read through more layers than it
/// is written through.
const MAX_ENCODED_DEPTH: u32 = 120;
/// How much of the stack, in bytes, a value may take, however few its levels are: types are large, and
/// tokio's threads have 2 MiB.
const MAX_STACK: usize = 1152 << 10;
/// A distance that no stack has: between two of them, as an address sanitizer makes them.
const NO_STACK: usize = 64 << 20;
/// The least that an element of a list costs: a bound on elements that take neither bytes nor memory.
const ELEMENT: usize = 16;
/// The memory, in bytes, that a value may take however short it is.
const FREE: usize = 1 << 20;
/// The memory, in bytes, that it may take for each of its encoded bytes: a `None` is one byte, and
/// may stand for hundreds.
const PER_BYTE: usize = 1024;
/// From here on it may take less for each byte.
const MUCH: usize = 64 << 20;
/// The least that it may always take for each byte.
const AT_LEAST_PER_BYTE: usize = 32;

/// The memory that a value of `len` encoded bytes may take.
fn allowance(len: usize) -> usize {
    let least = len.saturating_mul(AT_LEAST_PER_BYTE);
    len.saturating_mul(PER_BYTE).min(MUCH).max(least).saturating_add(FREE)
}

/// What one encoding or decoding has used, but for its depth: that is handed down by value.
struct Meter {
    /// In bytes.
    memory: Cell<usize>,
    /// The forms of structs and variants that need not be noted; none need, without it.
    proven: Option<&'static Proven>,
    /// Those that are noted.
    forms: RefCell<Forms>,
    /// Why the guard refused: formats drop the words of errors they are handed.
    reason: RefCell<Option<String>>,
}

impl Meter {
    fn new(forms: Forms) -> Self {
        Self {
            memory: Cell::new(0),
            proven: forms.proven(),
            forms: RefCell::new(forms),
            reason: RefCell::new(None),
        }
    }

    /// A struct, or a variant of that index, of so many fields, is written. Says whether that is
    /// noted.
    #[inline]
    fn write_form(
        &self,
        owner: &'static str,
        name: &'static str,
        index: u32,
        fields: usize,
    ) -> bool {
        let Some(proven) = self.proven else { return false };
        let form = form(owner, name, index, fields);
        let is_fresh = !proven.has(form);
        if is_fresh {
            self.forms.borrow_mut().add(form);
        }
        is_fresh
    }

    /// A tuple struct, or a tuple variant, is read.
    #[inline]
    fn read_tuple(&self, name: &'static str, fields: usize) {
        if self.proven.is_some() {
            self.forms.borrow_mut().add_tuple(name, fields);
        }
    }

    #[inline]
    fn pay(&self, memory: usize) {
        self.memory.set(self.memory.get().saturating_add(memory));
    }

    /// Notes why the guard refuses; gives the words that the format is told.
    #[cold]
    fn refuse(&self, reason: impl Display) -> &'static str {
        self.reason.borrow_mut().get_or_insert_with(|| reason.to_string());
        "refused"
    }

    /// Whether so many levels are too many, or take too much of the stack, on which the meter lies
    /// where they begin.
    #[inline]
    fn is_too_deep(&self, depth: u32, max_depth: u32) -> bool {
        let here = 0_u8;
        let taken = from_ref(self).addr().abs_diff(from_ref(&here).addr());
        depth > max_depth || (taken > MAX_STACK && taken < NO_STACK)
    }

    #[cold]
    fn too_deep(&self, max_depth: u32) -> &'static str {
        self.refuse(format_args!(
            "nested deeper than {max_depth} levels, or than {MAX_STACK} bytes of the stack"
        ))
    }

    /// The guard's reason, if there is one; else the format's.
    #[cold]
    fn explain(&self, error: impl Display) -> String {
        self.reason.take().unwrap_or_else(|| error.to_string())
    }
}
