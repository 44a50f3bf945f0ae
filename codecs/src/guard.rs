//! Bounds that serde's formats do not set themselves, on both sides of the bytes.
//!
//! [`decode`] bounds what hostile bytes may cost. [`encode`] refuses what would not come back: a
//! value beyond those bounds, and one that the format would quietly turn into another.

mod decode;
mod encode;

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
};

pub(crate) use self::{
    decode::deserialize,
    encode::{Rules, serialize},
};

/// The deepest nesting of containers, options and newtypes among them, that is decoded.
const MAX_DEPTH: u32 = 128;
/// The deepest that is encoded: a little less, for a type may be read through more layers than it
/// is written through.
const MAX_ENCODED_DEPTH: u32 = 120;
/// What a part costs: about the memory of a small value, and a bound on parts that take neither
/// bytes nor memory.
const PART: usize = 16;
/// The memory, in bytes, that a value may take however short it is.
const FREE: usize = 4 << 20;
/// The memory, in bytes, that it may take for each of its encoded bytes: an enum of one byte may be
/// a large one.
const PER_BYTE: usize = 64;

/// The memory that a value of `len` encoded bytes may take.
fn allowance(len: usize) -> usize {
    len.saturating_mul(PER_BYTE).saturating_add(FREE)
}

/// What one encoding or decoding has used.
struct Meter {
    depth: Cell<u32>,
    max_depth: u32,
    /// In bytes.
    memory: Cell<usize>,
    /// Why the guard refused: formats drop the words of errors they are handed.
    reason: RefCell<Option<String>>,
}

impl Meter {
    fn new(max_depth: u32) -> Self {
        Self { depth: Cell::new(0), max_depth, memory: Cell::new(0), reason: RefCell::new(None) }
    }

    /// Enters a container; leaves it when the answer is dropped.
    #[inline]
    fn enter<E>(&self, fail: impl FnOnce(&str) -> E) -> Result<Level<'_>, E> {
        let depth = self.depth.get();
        if depth >= self.max_depth {
            return Err(fail(
                self.refuse(format_args!("nested deeper than {} levels", self.max_depth)),
            ));
        }
        self.depth.set(depth + 1);
        Ok(Level(self))
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

    /// The guard's reason, if there is one; else the format's.
    #[cold]
    fn explain(&self, error: impl Display) -> String {
        self.reason.take().unwrap_or_else(|| error.to_string())
    }
}

/// One level of nesting.
struct Level<'m>(&'m Meter);

impl Drop for Level<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.depth.set(self.0.depth.get().saturating_sub(1));
    }
}
