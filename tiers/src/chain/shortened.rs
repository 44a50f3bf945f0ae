//! A copy that says more of itself than the near tier can: its true life, and the runs of both servers.
//!
//! The engine tells an entry's age by the life that remains of it. A copy that is kept for ten seconds of
//! its hour must not look fifty-nine minutes old, so it carries what was taken off.
//!
//! A near server that comes back with old data has copies again that were dropped. So a copy carries the run of the
//! near server that its lease was taken in, and one of another run is none. And it carries the run of the far server
//! that gave it, for the engine asks whose run an entry was read in, and that is the far one's.
//!
//! 8 bytes of magic, three numbers of 8 bytes, little endian (the milliseconds that were taken off, the near run
//! and the far run, 0 for one that is not known), and then the value. A copy that keeps its life, between tiers
//! that cannot tell their runs, is stored as it is; only one that begins with the magic itself is wrapped all
//! the same.

use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::{Found, Incarnation};

const MAGIC: [u8; 8] = *b"\0nearer\x02";
const HEADER: usize = MAGIC.len() + 3 * size_of::<u64>();

/// The runs of the servers that a copy went between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    /// The near one's; not after its lease was taken.
    pub(super) near: Option<Incarnation>,
    /// The far one's; not before it gave the value, or stored it.
    pub(super) far: Option<Incarnation>,
}

/// The bytes to store of a value with `life` left, and the life to store them with, at most `stay`.
pub(super) fn wrap(bytes: Bytes, life: Duration, stay: Duration, runs: Runs) -> (Bytes, Duration) {
    let stay = life.min(stay);
    if stay == life && runs == Runs::default() && !bytes.starts_with(&MAGIC) {
        return (bytes, life);
    }
    // Rounded down: never more than the true one.
    let taken = u64::try_from((life - stay).as_millis()).unwrap_or(u64::MAX);
    let mut wrapped = Vec::with_capacity(HEADER + bytes.len());
    wrapped.extend_from_slice(&MAGIC);
    let number = |run: Option<Incarnation>| run.map_or(0, Incarnation::get);
    for number in [taken, number(runs.near), number(runs.far)] {
        wrapped.extend_from_slice(&number.to_le_bytes());
    }
    wrapped.extend_from_slice(&bytes);
    (wrapped.into(), stay)
}

/// The value as it was, with its true remaining life, as the far server gave it; `None` for a copy that an earlier
/// run of the near server has left, and for what was cut off.
pub(super) fn unwrap(mut found: Found) -> Option<Found> {
    if found.bytes.starts_with(&MAGIC) {
        found.bytes.advance(MAGIC.len());
        let mut number = || {
            let number = *found.bytes.first_chunk()?;
            found.bytes.advance(number.len());
            Some(u64::from_le_bytes(number))
        };
        let (taken, near, far) = (Duration::from_millis(number()?), number()?, number()?);
        if found.incarnation.is_some_and(|run| run.get() != near) {
            return None;
        }
        found.incarnation = (far != 0).then(|| Incarnation::new(far));
        found.remaining = found.remaining.map(|remaining| remaining.saturating_add(taken));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn there_and_back(bytes: &[u8], life: Duration, stay: Duration) -> (Found, Duration, usize) {
        let (stored, stored_for) = wrap(Bytes::copy_from_slice(bytes), life, stay, Runs::default());
        let length = stored.len();
        let found = Found { bytes: stored, remaining: Some(stored_for), incarnation: None };
        (unwrap(found).unwrap(), stored_for, length)
    }

    #[test]
    fn a_shortened_copy_keeps_its_value_and_its_age() {
        for bytes in [&b""[..], b"v", &MAGIC, b"\0nearer\x02 and more than that, and more"] {
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
    fn a_copy_is_of_the_near_run_it_was_made_in_and_tells_the_far_one() {
        let run = |number| Some(Incarnation::new(number));
        for (near, far, answered, expected) in [
            (run(1), run(2), run(1), Some(run(2))),
            (run(1), run(2), run(3), None),
            (None, run(2), run(3), None),
            (run(1), run(2), None, Some(run(2))),
            (None, run(2), None, Some(run(2))),
            (run(1), None, run(1), Some(None)),
            (run(1), None, run(3), None),
            (None, None, None, Some(None)),
        ] {
            let value = Bytes::from_static(b"v");
            let (bytes, _) = wrap(value.clone(), SECOND, SECOND, Runs { near, far });
            let found = Found { bytes, remaining: Some(SECOND), incarnation: answered };
            let found = unwrap(found).map(|found| {
                assert_eq!((found.bytes, found.remaining), (value, Some(SECOND)));
                found.incarnation
            });
            assert_eq!(found, expected, "{near:?} {far:?} {answered:?}");
        }
    }

    #[test]
    fn what_was_cut_off_is_no_value() {
        for length in MAGIC.len()..HEADER {
            let bytes = wrap(Bytes::new(), 2 * SECOND, SECOND, Runs::default()).0.slice(..length);
            assert_eq!(unwrap(Found { bytes, remaining: Some(SECOND), incarnation: None }), None);
        }
    }
}
