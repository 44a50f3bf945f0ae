//! [`Landing`]: a read from its beginning to its judgement.

use super::world::{Notes, World};
use crate::{
    clock::{MILLISECOND, now},
    judge::{Read, Staleness, Verdict, judge},
    tally::{Count, Measure},
    value::Stored,
};

/// Reads that take longer may have been stopped together with their process.
const SLOW: u64 = 20 * MILLISECOND;
/// What a bound may be missed by.
pub(crate) const TOLERANCE: u64 = 50 * MILLISECOND;

/// Where a value came from, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Local,
    Remote,
    Loaded,
    Shared,
    /// Not loaded by the reader, and nobody says from where.
    Somewhere,
    Past,
}

/// A read that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Landing {
    pub(crate) key: u32,
    /// What this process had invalidated by then.
    floor: u64,
    from: u64,
}

impl Landing {
    pub(crate) fn begin(world: &World, key: u32) -> Self {
        Self { key, floor: world.floor(key), from: now() }
    }

    /// It has ended with a value.
    pub(crate) fn judge(
        self,
        world: &World,
        notes: &mut Notes,
        stored: &Stored,
        how: How,
        until: u64,
    ) {
        let Self { key, floor, from } = self;
        let version = stored.version;
        notes.count(Count::Reads);
        notes.count(how.count());
        if until - from > SLOW {
            notes.count(Count::Slow);
        }
        if how != How::Local {
            notes.measure(Measure::Walk, until - from);
        }
        if !stored.is_of(key) {
            let what = format_args!(
                "wrong value: key {key} got what is not its own, at {from} by {how:?}"
            );
            return notes.violation(Count::Wrong, what);
        }
        if version < floor {
            notes.violation(
                Count::Forgotten,
                format_args!(
                    "forgotten: version {version} of key {key} at {from} by {how:?}; this process had invalidated \
                     what was before {floor}"
                ),
            );
        }
        match judge(&world.ledger, Read { key, version, from }) {
            Ok(Verdict::Fresh) => {}
            Ok(Verdict::Stale(stale)) => self.judge_stale(world, notes, version, how, stale, until),
            Ok(Verdict::Invented { committed }) => notes.violation(
                Count::Wrong,
                format_args!("wrong value: version {version} of key {key} at {from} by {how:?}; the last was {committed}"),
            ),
            Err(error) => notes.violation(Count::Wrong, format_args!("the ledger failed: {error}")),
        }
    }

    fn judge_stale(
        self,
        world: &World,
        notes: &mut Notes,
        version: u64,
        how: How,
        stale: Staleness,
        until: u64,
    ) {
        let Self { key, from, .. } = self;
        let Staleness { by, since, version: newer } = stale;
        let told = format_args!(
            "version {version} of key {key} at {from} by {how:?}; version {newer} was acknowledged at {since}, {} ms \
             earlier",
            by / MILLISECOND
        )
        .to_string();
        match how {
            How::Loaded => notes.violation(Count::LateLoads, format_args!("late load: {told}")),
            How::Local => {
                notes.measure(Measure::StaleLocal, by);
                let mut longest = by;
                if until - from <= SLOW {
                    longest = until - since;
                    notes.measure(Measure::StaleLocalAfter, longest);
                }
                let bound = world.settings.mode.local_bound().map(|bound| bound.as_nanos());
                if u128::from(longest.saturating_sub(TOLERANCE)) > bound.unwrap_or_default() {
                    notes.violation(Count::TooStale, format_args!("too stale: {told}"));
                }
            }
            How::Remote | How::Shared => notes.measure(Measure::StaleShared, by),
            How::Somewhere => notes.measure(Measure::StaleSomewhere, by),
            How::Past => notes.measure(Measure::StalePast, by),
        }
    }
}

impl How {
    fn count(self) -> Count {
        match self {
            Self::Local => Count::Local,
            Self::Remote => Count::Remote,
            Self::Loaded => Count::Loaded,
            Self::Shared => Count::Shared,
            Self::Somewhere => Count::Somewhere,
            Self::Past => Count::Past,
        }
    }
}
