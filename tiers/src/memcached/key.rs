//! A key as it goes over the wire: itself where that is safe, else a digest.
//!
//! The protocol ends a key at the first space and a command at the first line break, and takes 250
//! bytes. So nothing but visible bytes goes out as it is, and neither do braces, which the keys of leases and holds
//! and the digests begin with: no key can be spelled like another, or like a lease or a hold.

use sha2::{Digest, Sha256};

/// The longest key of a value: memcached's 250, less what a lease's or a hold's key adds.
const LONGEST: usize = 250 - 4;

/// A key's spellings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spelling {
    /// Of the value.
    pub(super) value: Vec<u8>,
    /// Of its lease, on the same server.
    pub(super) lease: Vec<u8>,
}

impl Spelling {
    pub(super) fn of(key: &[u8]) -> Self {
        let is_safe = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}');
        let value = if !key.is_empty() && key.len() <= LONGEST && key.iter().all(is_safe) {
            key.to_vec()
        } else {
            digest(key)
        };
        let lease = [b"{", value.as_slice(), b"}:l"].concat();
        Self { value, lease }
    }

    /// Of one of the places for holds, on the same server.
    pub(super) fn hold(&self, place: char) -> Vec<u8> {
        [b"{".as_slice(), &self.value, b"}h", place.to_string().as_bytes()].concat()
    }
}

/// SHA-256: two keys of one digest would drop each other's values, so nobody may be able to make some.
fn digest(key: &[u8]) -> Vec<u8> {
    let mut spelled = b"{#}".to_vec();
    for byte in Sha256::digest(key) {
        spelled.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_key_stays_readable() {
        let key = Spelling::of(b"shop:user:1%0a");
        assert_eq!(key.value, b"shop:user:1%0a");
        assert_eq!(key.lease, b"{shop:user:1%0a}:l");
    }

    #[test]
    fn whatever_is_not_plain_goes_out_as_a_digest() {
        let long = [b'x'; 247];
        let keys: [&[u8]; 9] =
            [b"", b"a b", b"a\r\nflush_all", b"\0", b"\x7f", b"\xff", b"{a}:l", b"{#}", &long];
        for key in keys {
            let key = Spelling::of(key);
            assert_eq!(key.value.len(), 3 + 64);
            for beside in [&key.lease, &key.hold('7')] {
                assert!(beside.iter().all(u8::is_ascii_graphic) && beside.len() <= 250);
            }
        }
        assert_eq!(Spelling::of(&long[..246]).lease.len(), 250);
        assert_eq!(Spelling::of(&long[..246]).hold('0').len(), 250);
    }

    #[test]
    fn a_spelling_is_no_other_keys() {
        let digest = Spelling::of(b"a b").value;
        assert_ne!(Spelling::of(&digest).value, digest);
        assert_ne!(Spelling::of(b"#").lease, Spelling::of(b"").value);
        assert_ne!(Spelling::of(b"k").hold('0'), Spelling::of(b"kh0").lease);
    }
}
