//! [`Stored`]: what is cached, which says itself what it is.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One in so many is large.
const LARGE: usize = 200;

/// A version of a key's value. Its length varies, and its sum is over all of it: a mixture of two values, or of
/// two keys', is seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    key: u32,
    pub(crate) version: u64,
    padding: String,
    sum: u64,
}

impl Stored {
    /// A version of a key's value, with padding of some length.
    pub(crate) fn new(key: u32, version: u64) -> Self {
        let longest = if fastrand::usize(..LARGE) == 0 { 20_000 } else { 300 };
        let letter = char::from(b'a' + fastrand::u8(..26));
        let padding = std::iter::repeat_n(letter, fastrand::usize(..longest)).collect();
        let mut stored = Self { key, version, padding, sum: 0 };
        stored.sum = stored.own_sum();
        stored
    }

    /// Whether it is whole, and that key's.
    pub(crate) fn is_of(&self, key: u32) -> bool {
        self.key == key && self.sum == self.own_sum()
    }

    fn own_sum(&self) -> u64 {
        let seed = self.version.rotate_left(32) ^ u64::from(self.key);
        xxh3_64_with_seed(self.padding.as_bytes(), seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixtures_are_seen() {
        let (one, other) = (Stored::new(1, 7), Stored::new(2, 7));
        assert!(one.is_of(1) && !one.is_of(2));
        assert!(!Stored { key: 2, ..one.clone() }.is_of(2));
        assert!(!Stored { version: 8, ..one.clone() }.is_of(1));
        assert!(!Stored { padding: other.padding + "!", ..one }.is_of(1));
    }
}
