//! Other versions of this program over the same cache, as a deployment brings them.
//!
//! A key has two slots on the server, the *main* one and the one *beside* it. A schema version's home
//! is told by its number: even ones live in the main slot, odd ones beside. So two versions in a row
//! never meet, and each loads what it needs once. What does meet is of the same home: a version two
//! away, or a type that was changed and its version not raised. There, a newer version replaces an
//! older one; whoever finds its home *taken*, by a newer version or by another shape, leaves it alone
//! and works in the other slot. What is stored there lives no longer than what has its home, and is looked
//! for only while the home is taken.
//!
//! An entity that can be made out of the version before it looks into the other slot for that one,
//! and makes its value out of it for as long as that entry lives. It does not store it: an invalidation
//! drops the two slots one after the other, and a value made of the second could be stored in the first
//! between the two.
//!
//! Every write (`set`, `Bypass`) stores in its home and drops the other slot, and every invalidation
//! drops both, each slot with its lease: so the fence holds in both, and a write need not know who else
//! is about.
//!
//! Rejected: a slot for each version, of which a write would not know how many to drop; one slot, and
//! loading without storing where it is taken, so that every older process loads again whenever its L1
//! has to ask; and slots that are given out as versions meet, which processes then have to remember, and
//! disagree about.

use std::{borrow::Cow, time::Instant};

/// What the second slot's key ends with. No key is spelled so: a `%` is followed by two hex digits.
const BESIDE: &[u8] = b"%beside";

/// Where an entry lies on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Main,
    Beside,
}

impl Slot {
    /// The home of a schema version.
    pub(crate) fn home(schema: u32) -> Self {
        if schema.is_multiple_of(2) { Self::Main } else { Self::Beside }
    }

    /// The slot's key on the server. Envelopes in either are bound to `wire`.
    pub(crate) fn key(self, wire: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Main => Cow::Borrowed(wire),
            Self::Beside => Cow::Owned([wire, BESIDE].concat()),
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Main => Self::Beside,
            Self::Beside => Self::Main,
        }
    }
}

/// Whose entry was found, if not this version's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Of an older schema version: to be replaced.
    Older,
    /// Of a newer schema version.
    Newer,
    /// Of this schema version, and of another shape: nobody knows which is the newer.
    Unlike,
}

/// Where a walk stores what it loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Course {
    home: Slot,
    /// Its home is another's, until then.
    taken_until: Option<Instant>,
    /// The other slot is a newer version's.
    is_shut: bool,
}

impl Course {
    /// The course of a walk that has found nothing yet.
    pub(crate) fn new(schema: u32) -> Self {
        Self { home: Slot::home(schema), taken_until: None, is_shut: false }
    }

    pub(crate) fn home(self) -> Slot {
        self.home
    }

    /// Whether another version or shape has its home.
    pub(crate) fn is_taken(self) -> bool {
        self.taken_until.is_some()
    }

    /// Until when it is.
    pub(crate) fn taken_until(self) -> Option<Instant> {
        self.taken_until
    }

    /// The slot to store in; `None` when others have both.
    pub(crate) fn slot(self) -> Option<Slot> {
        match (self.is_taken(), self.is_shut) {
            (false, _) => Some(self.home),
            (true, false) => Some(self.home.other()),
            (true, true) => None,
        }
    }

    /// Takes note of another version's entry in `slot`, which lives `until` then.
    pub(crate) fn meet(&mut self, slot: Slot, version: Version, until: Instant) {
        match version {
            Version::Older => {}
            Version::Newer | Version::Unlike if slot == self.home => {
                self.taken_until = Some(until);
            }
            Version::Newer => self.is_shut = true,
            Version::Unlike => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_a_row_have_different_homes() {
        for schema in [0, 1, 7, u32::MAX - 1] {
            assert_eq!(Slot::home(schema), Slot::home(schema + 1).other());
        }
        assert_eq!(Slot::home(0), Slot::Main, "undeclared versions use the key as it is");
    }

    #[test]
    fn newer_and_unlike_entries_are_left_alone_and_older_ones_replaced() {
        for schema in [4, 5] {
            let (home, away) = (Slot::home(schema), Slot::home(schema).other());
            let after = |steps: &[(Slot, Version)]| {
                let (mut course, until) = (Course::new(schema), Instant::now());
                steps.iter().for_each(|(slot, version)| course.meet(*slot, *version, until));
                course.slot()
            };
            assert_eq!(after(&[]), Some(home));
            assert_eq!(after(&[(home, Version::Older)]), Some(home));
            for version in [Version::Newer, Version::Unlike] {
                let taken = (home, version);
                assert_eq!(after(&[taken]), Some(away));
                assert_eq!(after(&[taken, (away, Version::Newer)]), None);
                for other in [Version::Older, Version::Unlike] {
                    assert_eq!(after(&[taken, (away, other)]), Some(away));
                }
            }
        }
    }

    #[test]
    fn the_second_slots_key_is_no_users_key() {
        assert_eq!(&*Slot::Beside.key(b"shop:a"), b"shop:a%beside");
        let spelled = crate::Key::from("a%beside").wire("shop");
        assert_ne!(spelled, b"shop:a%beside");
    }
}
