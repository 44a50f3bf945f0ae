//! Does a type read what it writes? Looked into once for every form in which a type's structs are
//! written.
//!
//! `Serialize` and `Deserialize` may differ: by `skip_serializing`, by `skip_deserializing`, by a
//! tuple that leaves a field out, by a skipped variant, which serde counts on one side only. A format
//! without names then reads a field or a variant in another's place, and neither the bytes nor the
//! [`Shape`](crate::Shape) show it. So a value with structs or variants in a form that was not written
//! yet is decoded and encoded again, which must give as many bytes and the same forms. (Not the same
//! bytes: hash maps have their own order.) Tuples must also be read with as many fields as they were written
//! with. From then on a value of those forms costs one look.
//!
//! What is not found: two forms of one hash, of which there are 256; and, in a format with names, a
//! field that is never written and has a default, or one that is never read. It reads as its default,
//! as its type declares.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, de::DeserializeOwned};

use crate::{EncodeError, Packing, known::Known};

/// Which structs a value was written or read with, and with how many fields, and which variants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    /// All of them, as a set of hashes.
    all: [u64; WORDS],
    /// The tuples among them: the hash of the type's name, and the number of fields.
    tuples: Vec<(u64, usize)>,
}

/// The size of a set, in words of 64 bits.
const WORDS: usize = 4;

#[cfg(any(feature = "postcard", feature = "messagepack", feature = "json"))]
impl Forms {
    /// With a struct, or a variant of that index, of so many fields.
    #[inline]
    pub(crate) fn add(&mut self, name: &'static str, index: u32, fields: usize) {
        // The name's address tells it from others; the constant is Fibonacci hashing's.
        let number = (u64::from(index) << 32).wrapping_add(fields as u64);
        let id = (name.as_ptr().addr() as u64).wrapping_add(number);
        let hash = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        if let Some(word) = self.all.get_mut((hash >> 6) as usize) {
            *word |= 1 << (hash & 63);
        }
    }

    /// With a tuple struct, or a tuple variant, of so many fields, and the name of its type.
    #[inline]
    pub(crate) fn add_tuple(&mut self, name: &'static str, fields: usize) {
        let tuple = (xxhash_rust::xxh3::xxh3_64(name.as_bytes()), fields);
        if !self.tuples.contains(&tuple) {
            self.tuples.push(tuple);
        }
    }
}

impl Forms {
    /// Whether a tuple was written shorter than it was `read`. One that was not seen there, because
    /// it was read through a buffer or under another name, says nothing.
    fn left_fields_out(&self, read: &Self) -> bool {
        self.tuples.iter().any(|tuple| {
            let seen = read.tuples.iter().any(|(name, _)| *name == tuple.0);
            seen && !read.tuples.contains(tuple)
        })
    }
}

/// Whether `small` is within `large`.
fn within(small: &[u64; WORDS], large: &[u64; WORDS]) -> bool {
    small.iter().zip(large).all(|(small, large)| small & !large == 0)
}

/// The forms of one type that came back.
#[derive(Debug, Default)]
pub(crate) struct Proven([AtomicU64; WORDS]);

impl Proven {
    fn has(&self, forms: &Forms) -> bool {
        let proven = std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed));
        within(&forms.all, &proven)
    }

    fn add(&self, forms: &Forms) {
        for (word, bits) in self.0.iter().zip(forms.all) {
            word.fetch_or(bits, Ordering::Relaxed);
        }
    }
}

/// Refuses `payload`, which `packing` wrote for a `T` in these `forms`, if it does not come back.
/// What codecs from elsewhere write has no forms.
#[inline]
pub(crate) fn prove<P, T>(
    packing: &P,
    known: &Known,
    payload: &[u8],
    forms: &Forms,
) -> Result<(), EncodeError>
where
    P: Packing,
    T: Serialize + DeserializeOwned + 'static,
{
    match known.proven(packing.id()) {
        Some(proven) if !proven.has(forms) => {
            comes_back::<P, T>(packing, payload, forms)?;
            proven.add(forms);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cold]
fn comes_back<P, T>(packing: &P, payload: &[u8], forms: &Forms) -> Result<(), EncodeError>
where
    P: Packing,
    T: Serialize + DeserializeOwned + 'static,
{
    let (value, read): (T, Forms) = packing
        .read_back(payload)
        .map_err(|error| EncodeError(format!("it would not be read back: {error}")))?;
    let mut again = Vec::with_capacity(payload.len());
    let forms_again = packing.encode(&value, &mut again)?;
    let same = again.len() == payload.len() && forms_again.all == forms.all;
    if same && !forms.left_fields_out(&read) {
        return Ok(());
    }
    Err(EncodeError(
        "it would come back as another value: its Serialize and its Deserialize differ, by \
         skip_serializing, skip_deserializing, a skipped variant or a tuple's skip_serializing_if"
            .into(),
    ))
}
