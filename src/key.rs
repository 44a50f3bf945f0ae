//! A key: bytes, however they were made, and the readable form they take on the wire.
//!
//! Keys live inline up to 64 bytes, so a hit makes no allocation. On the wire a key is its
//! namespace, a colon and its bytes, with `{`, `}`, `%`, spaces and control bytes percent-encoded:
//! people can read it in a server's console, and no key can spell another key's lease (which
//! begins with `{`). Hashing keys instead would be shorter and would hide them from operators.

use std::fmt::{self, Display, Write};

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::{CacheEntity, Error};

/// The most bytes a key may have on the wire, its namespace not counted.
pub const MAX_KEY_LEN: usize = 64 * 1024;

/// A cache key. Made from anything that is [`Display`] (`"user:1"`, `format_args!("user:{id}")`,
/// a UUID) by `Into`, or from raw bytes by [`Key::bytes`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    bytes: SmallVec<[u8; 64]>,
    failed: bool,
}

impl Key {
    /// A key of raw bytes; all 256 values are legal, and so is none at all.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        Self { bytes: SmallVec::from_slice(bytes), failed: false }
    }

    /// The key under which the entity layer keeps the entity `id` of type `T`: `prefix:id`. A
    /// colon inside the prefix is percent-encoded, so that `a:b` + `1` is not `a` + `b:1`.
    #[must_use]
    pub fn entity<T: CacheEntity>(id: &T::Key) -> Self {
        let mut key = Self { bytes: SmallVec::new(), failed: false };
        encode(T::cache_prefix().as_bytes(), true, |byte| key.bytes.push(byte));
        key.bytes.push(b':');
        key.append(id);
        key
    }

    /// The key's bytes, as given.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn append(&mut self, part: &impl Display) {
        struct Sink<'a>(&'a mut SmallVec<[u8; 64]>);
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
        if self.bytes.len() > MAX_KEY_LEN / 3 && self.wire("").len() > MAX_KEY_LEN {
            return Err(Error::InvalidKey("longer than 64 KiB on the wire"));
        }
        Ok(())
    }

    /// The key as servers see it. `namespace` is already encoded.
    pub(crate) fn wire(&self, namespace: &str) -> Vec<u8> {
        let mut wire = Vec::with_capacity(namespace.len() + 1 + self.bytes.len());
        wire.extend_from_slice(namespace.as_bytes());
        wire.push(b':');
        encode(&self.bytes, false, |byte| wire.push(byte));
        wire
    }

    /// A hash for logs, where the key itself must not appear.
    pub(crate) fn fingerprint(&self) -> u64 {
        xxh3_64(&self.bytes)
    }
}

impl<T: Display> From<T> for Key {
    fn from(source: T) -> Self {
        let mut key = Self { bytes: SmallVec::new(), failed: false };
        key.append(&source);
        key
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

/// A namespace in its wire form.
pub(crate) fn encode_namespace(namespace: &str) -> String {
    let mut bytes = Vec::with_capacity(namespace.len());
    encode(namespace.as_bytes(), true, |byte| bytes.push(byte));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encode(bytes: &[u8], colon: bool, mut push: impl FnMut(u8)) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        let unsafe_byte = byte <= b' '
            || byte == 0x7f
            || matches!(byte, b'{' | b'}' | b'%')
            || (colon && byte == b':');
        if unsafe_byte {
            push(b'%');
            push(HEX[usize::from(byte >> 4)]);
            push(HEX[usize::from(byte & 15)]);
        } else {
            push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_keys_stay_readable_on_the_wire() {
        assert_eq!(Key::from("user:1").wire("shop"), b"shop:user:1");
        assert_eq!(Key::from(format_args!("user:{}", 1)).wire("shop"), b"shop:user:1");
    }

    #[test]
    fn no_key_can_spell_a_lease() {
        let wire = Key::from("{shop:user:1}:l").wire("shop");
        assert_eq!(wire, b"shop:%7Bshop:user:1%7D:l");
    }

    #[test]
    fn a_key_with_a_failing_display_or_of_endless_length_is_refused() {
        struct Failing;
        impl Display for Failing {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                Err(fmt::Error)
            }
        }
        assert!(matches!(Key::from(Failing).check(), Err(Error::InvalidKey(_))));
        assert!(Key::bytes(&vec![b'a'; MAX_KEY_LEN - 1]).check().is_ok());
        assert!(Key::bytes(&vec![b'a'; MAX_KEY_LEN + 1]).check().is_err());
        assert!(Key::bytes(&vec![b' '; MAX_KEY_LEN / 2]).check().is_err());
    }

    #[test]
    fn debug_never_shows_the_key() {
        assert!(!format!("{:?}", Key::from("alice@example.org")).contains("alice"));
    }

    proptest! {
        #[test]
        fn different_keys_never_meet_on_the_wire(
            a in proptest::collection::vec(any::<u8>(), 0..40),
            b in proptest::collection::vec(any::<u8>(), 0..40),
            m in "[a-z:%{} ]{0,8}",
            n in "[a-z:%{} ]{0,8}",
        ) {
            let left = Key::bytes(&a).wire(&encode_namespace(&m));
            let right = Key::bytes(&b).wire(&encode_namespace(&n));
            prop_assert_eq!(left == right, a == b && m == n);
            let is_raw = left.iter().any(|byte| matches!(byte, b'{' | b'}' | 0..=32 | 127));
            prop_assert!(!is_raw, "an unsafe byte stays raw");
        }
    }
}
