//! Does a type read what it writes? Looked into once for every form in which a type's structs are
//! written.
//!
//! `Serialize` and `Deserialize` may differ: by `skip_serializing`, by `skip_deserializing`, by a
//! tuple that leaves a field out, by a skipped variant, which serde counts on one side only. A format
//! without names then reads a field or a variant in another's place, and neither the bytes nor the
//! [`Shape`](crate::Shape) show it. So a value with structs or variants in a form that was not written
//! yet is decoded and encoded again, which must give the same bytes, each as often, and the same forms.
//! (In whatever order: hash maps have their own.) Tuples must also be read with as many fields as they were written
//! with. From then on a value of those forms costs one look.
//!
//! What is not found: in a format with names, a field that is never written and has a default, or one
//! that is never read. It reads as its default, as its type declares.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, de::DeserializeOwned};

use crate::{EncodeError, Packing, known::Known};

/// Watches which structs and variants a value is written with, or read with, and notes those that
/// are not proven.
#[derive(Clone, Debug, Default)]
pub struct Forms {
    /// What is proven; nothing is watched without it.
    #[cfg_attr(
        not(any(feature = "postcard", feature = "messagepack", feature = "json")),
        allow(dead_code)
    )]
    proven: Option<&'static Proven>,
    /// The hashes of those that are not.
    fresh: Vec<u64>,
    /// The tuples among them: the hash of the type's name, and the number of fields.
    tuples: Vec<(u64, usize)>,
}

impl Forms {
    /// Watches against what is proven.
    pub(crate) fn watching(proven: &'static Proven) -> Self {
        Self { proven: Some(proven), ..Self::default() }
    }

    /// Whether two values were written alike: with the same fresh forms, in whatever order.
    fn is_like(&self, other: &Self) -> bool {
        self.fresh.len() == other.fresh.len()
            && self.fresh.iter().all(|form| other.fresh.contains(form))
    }

    /// Whether a tuple was written shorter than it was `read`. One that was not seen there, because
    /// it was read through a buffer or under another name, says nothing.
    fn left_fields_out(&self, read: &Self) -> bool {
        self.tuples.iter().any(|tuple| {
            let longer = read.tuples.iter().any(|(name, len)| *name == tuple.0 && *len > tuple.1);
            longer && !read.tuples.contains(tuple)
        })
    }
}

#[cfg(any(feature = "postcard", feature = "messagepack", feature = "json"))]
impl Forms {
    /// What is proven; nothing is watched without it.
    pub(crate) fn proven(&self) -> Option<&'static Proven> {
        self.proven
    }

    /// Notes a form that is not proven.
    #[cold]
    pub(crate) fn add(&mut self, form: u64) {
        if !self.fresh.contains(&form) {
            self.fresh.push(form);
        }
    }

    /// Notes a tuple struct, or a tuple variant, by the name of its type.
    #[cold]
    pub(crate) fn add_tuple(&mut self, name: &'static str, fields: usize) {
        let tuple = (xxhash_rust::xxh3::xxh3_64(name.as_bytes()), fields);
        if !self.tuples.contains(&tuple) {
            self.tuples.push(tuple);
        }
    }
}

/// The forms of one type that came back: a small cache of hashes. One that is pushed out is proven
/// again when it is next written.
#[derive(Debug)]
pub(crate) struct Proven([AtomicU64; PLACES]);

const PLACES: usize = 256;

impl Proven {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; PLACES])
    }

    /// The two places that a form may be in.
    #[inline]
    fn places(&self, form: u64) -> [&AtomicU64; 2] {
        [form ^ form >> 16 ^ form >> 24, form >> 20 ^ form >> 4]
            .map(|at| &self.0[at as usize % PLACES])
    }

    /// Whether a form came back before.
    #[cfg(any(feature = "postcard", feature = "messagepack", feature = "json"))]
    #[inline]
    pub(crate) fn has(&self, form: u64) -> bool {
        let [first, second] = self.places(form);
        first.load(Ordering::Relaxed) == form || second.load(Ordering::Relaxed) == form
    }

    fn add(&self, form: u64) {
        let [first, second] = self.places(form);
        let is_free = first.load(Ordering::Relaxed) == 0;
        if is_free { first } else { second }.store(form, Ordering::Relaxed);
    }
}

/// The form of a struct, or of a variant of that index, of so many fields, and of its enum; never 0.
#[cfg(any(feature = "postcard", feature = "messagepack", feature = "json"))]
#[inline]
pub(crate) fn form(owner: &'static str, name: &'static str, index: u32, fields: usize) -> u64 {
    // The names' addresses, of 48 bits, tell it from most others of this process: equal names may share
    // one. More than 256 variants or fields are told apart by their last eight bits, and by the names.
    let number = u64::from(index & 0xff) << 8 | (fields as u64 & 0xff);
    let owner = (owner.as_ptr().addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((name.as_ptr().addr() as u64) << 16 | number) ^ owner | 1 << 63
}

/// How often each byte is there.
fn tally(bytes: &[u8]) -> [usize; 256] {
    let mut tally = [0; 256];
    for byte in bytes {
        tally[usize::from(*byte)] += 1;
    }
    tally
}

/// Nothing: everything that is read is noted.
static NOTHING: Proven = Proven::new();

/// Encodes `value` for an entry, and refuses it if it does not come back. Appends to `out`. What
/// codecs from elsewhere write has no forms, and is not looked into.
#[inline]
pub(crate) fn encode<P, T>(
    packing: &P,
    known: &'static Known,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError>
where
    P: Packing,
    T: Serialize + DeserializeOwned + 'static,
{
    let before = out.len();
    let Some(proven) = known.proven(packing.id()) else {
        return packing.encode(value, out);
    };
    let forms = packing.encode_forms(value, out, Forms::watching(proven))?;
    if !forms.fresh.is_empty() {
        comes_back(packing, value, out.get(before..).unwrap_or_default())?;
        forms.fresh.iter().for_each(|form| proven.add(*form));
    }
    Ok(())
}

/// Whether `payload`, which is `value`, reads as what it was. All its forms are noted here: others may
/// be proving some of them at this moment.
#[cold]
fn comes_back<P, T>(packing: &P, value: &T, payload: &[u8]) -> Result<(), EncodeError>
where
    P: Packing,
    T: Serialize + DeserializeOwned + 'static,
{
    let all = || Forms::watching(&NOTHING);
    let (back, read): (T, Forms) = packing
        .decode_forms(payload, all())
        // Not in the format's words: they quote the value.
        .map_err(|error| EncodeError(format!("it would not be read back ({})", error.label())))?;
    let mut again = Vec::with_capacity(payload.len());
    let back_forms = packing.encode_forms(&back, &mut again, all())?;
    let same_bytes = tally(&again) == tally(payload);
    again.clear();
    let forms = packing.encode_forms(value, &mut again, all())?;
    if same_bytes && back_forms.is_like(&forms) && !forms.left_fields_out(&read) {
        return Ok(());
    }
    Err(EncodeError(
        "it would come back as another value: its Serialize and its Deserialize differ, by \
         skip_serializing, skip_deserializing, a skipped variant or a tuple's skip_serializing_if"
            .into(),
    ))
}
