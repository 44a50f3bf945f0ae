//! A copy whose life in the near tier is shorter than its own.
//!
//! The engine tells an entry's age by the life that remains of it. A copy that is kept for ten seconds of
//! its hour must not look fifty-nine minutes old, so it carries what was taken off: 8 bytes of magic, the
//! difference in milliseconds, little endian, and then the value. A copy that keeps its life is stored as
//! it is, so that a near server can be shared with those who use it alone; only one that begins with the
//! magic itself is wrapped all the same.

use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::Found;

const MAGIC: [u8; 8] = *b"\0nearer\x01";
const HEADER: usize = MAGIC.len() + size_of::<u64>();

/// The bytes to store of a value with `life` left, and the life to store them with, at most `stay`.
pub(super) fn wrap(bytes: Bytes, life: Duration, stay: Duration) -> (Bytes, Duration) {
    let stay = life.min(stay);
    if stay == life && !bytes.starts_with(&MAGIC) {
        return (bytes, life);
    }
    // Rounded down: never more than the true one.
    let taken = u64::try_from((life - stay).as_millis()).unwrap_or(u64::MAX);
    let mut wrapped = Vec::with_capacity(HEADER + bytes.len());
    wrapped.extend_from_slice(&MAGIC);
    wrapped.extend_from_slice(&taken.to_le_bytes());
    wrapped.extend_from_slice(&bytes);
    (wrapped.into(), stay)
}

/// The value as it was, with its true remaining life; `None` for what was cut off.
pub(super) fn unwrap(mut found: Found) -> Option<Found> {
    if found.bytes.starts_with(&MAGIC) {
        found.bytes.advance(MAGIC.len());
        let taken = *found.bytes.first_chunk()?;
        found.bytes.advance(taken.len());
        let taken = Duration::from_millis(u64::from_le_bytes(taken));
        found.remaining = found.remaining.map(|remaining| remaining.saturating_add(taken));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn there_and_back(bytes: &[u8], life: Duration, stay: Duration) -> (Found, Duration, usize) {
        let (stored, stored_for) = wrap(Bytes::copy_from_slice(bytes), life, stay);
        let length = stored.len();
        let found = Found { bytes: stored, remaining: Some(stored_for), incarnation: None };
        (unwrap(found).unwrap(), stored_for, length)
    }

    #[test]
    fn a_shortened_copy_keeps_its_value_and_its_age() {
        for bytes in [&b""[..], b"v", &MAGIC, b"\0nearer\x01 and more than that, and more"] {
            for (life, stay) in [
                (60 * SECOND, 10 * SECOND),
                (10 * SECOND, 60 * SECOND),
                (10 * SECOND, 10 * SECOND),
                (Duration::MAX, 10 * SECOND),
                (Duration::ZERO, SECOND),
            ] {
                let (found, stored_for, length) = there_and_back(bytes, life, stay);
                assert_eq!(found.bytes, bytes);
                assert_eq!(stored_for, life.min(stay));
                let remaining = found.remaining.unwrap();
                assert!(remaining <= life, "{remaining:?} of {life:?}");
                assert!(life == Duration::MAX || remaining + SECOND / 1_000 > life);
                let as_it_is = life <= stay && !bytes.starts_with(&MAGIC);
                assert_eq!(length, bytes.len() + if as_it_is { 0 } else { HEADER });
            }
        }
    }

    #[test]
    fn what_was_cut_off_is_no_value() {
        for length in MAGIC.len()..HEADER {
            let bytes = wrap(Bytes::new(), 2 * SECOND, SECOND).0.slice(..length);
            assert_eq!(unwrap(Found { bytes, remaining: Some(SECOND), incarnation: None }), None);
        }
    }
}
