//! A key: bytes, however they were made, and the readable form they take on the wire.
//!
//! Keys live inline up to 64 bytes, so a hit makes no allocation. On the wire a key is its
//! namespace, a colon and its bytes, with what is unsafe percent-encoded: people can read it in a
//! server's console, and no key can spell another key's lease. Hashing keys instead would be shorter
//! and would hide them from operators.
//!
//! Three kinds of keys cannot be mistaken for each other, in L1 or on a server, whoever chooses their
//! parts: those of the application's own bytes, *versioned* ones (`user:1:v3`) and those of *lists*
//! (`posts:list:<digest>`). One of the first kind that reads like one of the others ends with `%raw` on
//! the wire.

mod list;
mod wire;

use std::fmt::{self, Display, Write};

use xxhash_rust::xxh3::xxh3_64;

pub use self::list::ListKey;
pub(crate) use self::wire::encode;
pub(crate) use self::wire::encode_namespace;
use self::wire::{Bytes, decode, encode_raw};
use crate::{CacheEntity, Error};

/// The most bytes a key may have on the wire, its namespace not counted.
pub const MAX_KEY_LEN: usize = 64 * 1024;

/// What the bytes of a built key end with, in L1. Bytes of the application's own that end with it are
/// given another.
const BUILT: u8 = 0;

/// A cache key. Made from anything that is [`Display`] (`"user:1"`, `format_args!("user:{id}")`,
/// a UUID) by `Into`, or from raw bytes by [`Key::bytes`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// As L1 has it: the application's bytes, with another `BUILT` if that is their last; or what a
    /// built key has on the wire, and one `BUILT`.
    bytes: Bytes,
    failed: bool,
}

impl Key {
    /// A key of raw bytes; all 256 values are legal, and so is none at all.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        Self { bytes: Bytes::from_slice(bytes), failed: false }.closed()
    }

    /// The key under which the entity layer keeps the entity `id` of type `T`: `prefix:id`. A
    /// colon inside the prefix is percent-encoded, so that `a:b` + `1` is not `a` + `b:1`.
    #[must_use]
    pub fn entity<T: CacheEntity>(id: &T::Key) -> Self {
        let mut key = Self::of_kind(T::cache_prefix());
        key.append(id);
        key.closed()
    }

    /// What the keys of all entities of type `T` begin with, their lists and versions included: for
    /// [`invalidate_prefix`](crate::Tiered::invalidate_prefix).
    #[must_use]
    pub fn entities<T: CacheEntity>() -> Self {
        Self::of_kind(T::cache_prefix())
    }

    /// The key of a list of entities: `posts:list:<digest>`, with the digest of the parameters that it is
    /// given. A colon inside `prefix` is percent-encoded; give the
    /// [`cache_prefix`](CacheEntity::cache_prefix) of what is listed.
    pub fn list(prefix: &str) -> ListKey {
        ListKey::new(prefix)
    }

    /// What the keys of all lists of this `prefix` begin with: for
    /// [`invalidate_prefix`](crate::Tiered::invalidate_prefix).
    #[must_use]
    pub fn lists(prefix: &str) -> Self {
        let mut key = Self::of_kind(prefix);
        key.bytes.extend_from_slice(b"list:");
        key
    }

    /// The key of one version of what this key names: `user:1` becomes `user:1:v3`. No other key is this
    /// one. Whoever changes the thing counts its version up, and what is cached of older ones is never read
    /// again.
    #[must_use]
    pub fn version(self, version: u64) -> Self {
        self.built(format!(":v{version}").as_bytes())
    }

    /// The key's bytes: as given, or what a built key reads on the server, its namespace left out.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.strip_suffix(&[BUILT]).unwrap_or(&self.bytes)
    }

    /// The key as L1 has it: different keys, different bytes.
    pub(crate) fn local(&self) -> &[u8] {
        &self.bytes
    }

    /// The key that has these bytes in L1.
    pub(crate) fn from_local(bytes: &[u8]) -> Self {
        Self { bytes: Bytes::from_slice(bytes), failed: false }
    }

    fn of_kind(prefix: &str) -> Self {
        let mut key = Self { bytes: Bytes::new(), failed: false };
        encode(prefix.as_bytes(), true, |byte| key.bytes.push(byte));
        key.bytes.push(b':');
        key
    }

    /// A built key: what this one has on the wire, and then `suffix`, which is plain text.
    fn built(self, suffix: &[u8]) -> Self {
        let mut key = Self { bytes: Bytes::new(), failed: self.failed };
        self.encode(|byte| key.bytes.push(byte));
        key.bytes.extend_from_slice(suffix);
        key.bytes.push(BUILT);
        key
    }

    /// Keeps the application's own bytes from looking like a built key.
    fn closed(mut self) -> Self {
        if self.bytes.last() == Some(&BUILT) {
            self.bytes.push(BUILT);
        }
        self
    }

    /// The plain text of a built key.
    fn text(&self) -> Option<&[u8]> {
        self.bytes.strip_suffix(&[BUILT]).filter(|text| text.last() != Some(&BUILT))
    }

    /// Says the key's form on the wire, its namespace left out.
    fn encode(&self, mut push: impl FnMut(u8)) {
        match self.text() {
            Some(text) => text.iter().copied().for_each(push),
            None => encode_raw(self.as_bytes(), &mut push),
        }
    }

    fn append(&mut self, part: &impl Display) {
        struct Sink<'a>(&'a mut Bytes);
        impl Write for Sink<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
        self.failed |= write!(Sink(&mut self.bytes), "{part}").is_err();
    }

    /// Refuses a key that has no faithful form.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.failed {
            return Err(Error::InvalidKey("its Display returned an error"));
        }
        // Every byte takes at most three on the wire.
        if self.bytes.len() > MAX_KEY_LEN / 3 - 8 && self.wire("").len() > MAX_KEY_LEN + 1 {
            return Err(Error::InvalidKey("longer than 64 KiB on the wire"));
        }
        Ok(())
    }

    /// The key as servers see it. `namespace` is already encoded.
    pub(crate) fn wire(&self, namespace: &str) -> Vec<u8> {
        let mut wire = Vec::with_capacity(namespace.len() + 1 + self.bytes.len());
        wire.extend_from_slice(namespace.as_bytes());
        wire.push(b':');
        self.encode(|byte| wire.push(byte));
        wire
    }

    /// A hash for logs, where the key itself must not appear.
    pub(crate) fn fingerprint(&self) -> u64 {
        xxh3_64(&self.bytes)
    }
}

/// What some keys begin with, on the wire. In L1 those of the application's own bytes begin with it
/// decoded, and built ones as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prefix {
    decoded: Bytes,
    encoded: Bytes,
}

impl Prefix {
    /// The prefix that a key's bytes are.
    pub(crate) fn of(key: &Key) -> Self {
        let mut encoded = Bytes::new();
        match key.text() {
            Some(text) => encoded.extend_from_slice(text),
            None => encode(key.as_bytes(), false, |byte| encoded.push(byte)),
        }
        Self { decoded: decode(&encoded), encoded }
    }

    /// The prefix that reads so on the wire, the namespace left out.
    pub(crate) fn from_encoded(encoded: &[u8]) -> Self {
        Self { decoded: decode(encoded), encoded: Bytes::from_slice(encoded) }
    }

    /// As it is on the wire, the namespace left out.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// As servers see it.
    pub(crate) fn wire(&self, namespace: &str) -> Vec<u8> {
        [namespace.as_bytes(), b":", &self.encoded].concat()
    }

    /// As L1 has it: one prefix, or two.
    pub(crate) fn local(&self) -> impl Iterator<Item = &[u8]> {
        let second = (self.decoded != self.encoded).then_some(&*self.encoded);
        [&*self.decoded].into_iter().chain(second)
    }

    /// Whether a key, as L1 has it, may begin with it. One that does is never overlooked.
    pub(crate) fn covers(&self, local: &[u8]) -> bool {
        self.local().any(|prefix| local.starts_with(prefix))
    }
}

impl<T: Display> From<T> for Key {
    fn from(source: T) -> Self {
        let mut key = Self { bytes: Bytes::new(), failed: false };
        key.append(&source);
        key.closed()
    }
}

impl From<&Self> for Key {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

impl fmt::Debug for Key {
    /// Keys may name people: only a hash is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(#{:016x})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests;
