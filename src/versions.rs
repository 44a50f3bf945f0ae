//! Other versions of this program over the same cache, as a deployment brings them.
//!
//! A key has two slots on the server: its main one, and one *beside* it. The newest schema version
//! owns the main slot. Whoever finds a newer version's entry there, or one of its own schema version
//! but of another shape, leaves it alone and works beside it. So two versions load what they need
//! once each, and neither replaces what the other will ask for next. Every write of a key drops both
//! slots, each with its lease, so the fence holds in both.
//!
//! Rejected: slots named by the version, of which a write would not know how many to drop; and
//! loading without storing, where every older process loads again whenever its L1 has to ask.

use std::{
    any::TypeId,
    borrow::Cow,
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::sync::Mutex;

/// How long a version that was met is reckoned with: longer than a deployment takes.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// What the second slot's key ends with. No key is spelled so: a `%` is followed by two hex digits.
const BESIDE: &[u8] = b"%beside";

/// Where an entry lies on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Main,
    Beside,
}

impl Slot {
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
    /// `None` when newer versions have both slots.
    pub(crate) slot: Option<Slot>,
    /// Whether it is worth looking beside when the main slot is empty.
    pub(crate) look_beside: bool,
}

impl Course {
    /// Takes note of an entry of this version, or one that is of no use to any, in `slot`: a version
    /// has one slot, so what is in the main one is replaced there.
    pub(crate) fn own(&mut self, slot: Slot) {
        if slot == Slot::Main {
            self.slot = Some(Slot::Main);
        }
    }

    /// Takes note of what was found in `slot`.
    pub(crate) fn meet(&mut self, slot: Slot, version: Version) {
        match (slot, version) {
            (Slot::Main, Version::Older) => {
                *self = Self { slot: Some(Slot::Main), look_beside: false };
            }
            (Slot::Main, Version::Newer | Version::Unlike) => {
                *self = Self { slot: Some(Slot::Beside), look_beside: true };
            }
            (Slot::Beside, Version::Newer) if self.slot == Some(Slot::Beside) => self.slot = None,
            (Slot::Beside, _) => {}
        }
    }
}

/// The versions that a cache has met, for each type and schema version of its own.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    met: Mutex<HashMap<(TypeId, u32), Met>>,
}

/// When others were last met.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    newer: Option<Instant>,
    unlike: Option<Instant>,
}

impl Versions {
    /// Takes note of another version's entry.
    pub(crate) fn meet(&self, own: (TypeId, u32), version: Version, now: Instant) {
        let mut met = self.met.lock();
        match version {
            Version::Older => {}
            Version::Newer => met.entry(own).or_default().newer = Some(now),
            Version::Unlike => met.entry(own).or_default().unlike = Some(now),
        }
    }

    /// The course of a walk that has found nothing yet.
    pub(crate) fn course(&self, own: (TypeId, u32), now: Instant) -> Course {
        let recent = |met: Option<Instant>| {
            met.is_some_and(|met| now.saturating_duration_since(met) < REMEMBERED)
        };
        let Met { newer, unlike } = self.met.lock().get(&own).copied().unwrap_or_default();
        // Where newer ones are about, the main slot is left to them even when it is empty.
        let slot = if recent(newer) { Slot::Beside } else { Slot::Main };
        Course { slot: Some(slot), look_beside: recent(newer) || recent(unlike) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: fn() -> (TypeId, u32) = || (TypeId::of::<u8>(), 1);

    #[test]
    fn newer_and_unlike_entries_are_left_alone_and_older_ones_replaced() {
        let start = Course { slot: Some(Slot::Main), look_beside: false };
        let after = |steps: &[(Slot, Version)]| {
            let mut course = start;
            steps.iter().for_each(|(slot, version)| course.meet(*slot, *version));
            course.slot
        };
        assert_eq!(after(&[(Slot::Main, Version::Older)]), Some(Slot::Main));
        for version in [Version::Newer, Version::Unlike] {
            assert_eq!(after(&[(Slot::Main, version)]), Some(Slot::Beside));
            assert_eq!(after(&[(Slot::Main, version), (Slot::Beside, Version::Newer)]), None);
            for other in [Version::Older, Version::Unlike] {
                let steps = [(Slot::Main, version), (Slot::Beside, other)];
                assert_eq!(after(&steps), Some(Slot::Beside));
            }
        }
        assert_eq!(after(&[(Slot::Beside, Version::Newer)]), Some(Slot::Main));
    }

    #[test]
    fn a_version_that_was_met_is_reckoned_with_for_an_hour() {
        let (versions, start) = (Versions::default(), Instant::now());
        let alone = Course { slot: Some(Slot::Main), look_beside: false };
        versions.meet(OWN(), Version::Older, start);
        assert_eq!(versions.course(OWN(), start), alone);
        versions.meet(OWN(), Version::Unlike, start);
        assert_eq!(versions.course(OWN(), start), Course { look_beside: true, ..alone });
        versions.meet(OWN(), Version::Newer, start);
        let beside = Course { slot: Some(Slot::Beside), look_beside: true };
        assert_eq!(versions.course(OWN(), start + REMEMBERED / 2), beside);
        assert_eq!(versions.course(OWN(), start + REMEMBERED), alone);
        assert_eq!(versions.course((TypeId::of::<u16>(), 1), start), alone, "another type");
    }

    #[test]
    fn the_second_slots_key_is_no_users_key() {
        assert_eq!(&*Slot::Beside.key(b"shop:a"), b"shop:a%beside");
        let spelled = crate::Key::from("a%beside").wire("shop");
        assert_ne!(spelled, b"shop:a%beside");
    }
}
