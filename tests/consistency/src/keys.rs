//! The keys, and what is done with them.

use fastrand::Rng;

/// What is special about a key. Each is treated in one way only, so that what is counted of the plain ones is
/// not due to the others' habits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Read, loaded, invalidated.
    Plain,
    /// Changed by `set`, always by the same worker: of two writers at once nobody knows who wins.
    Written,
    /// Short-lived, and served stale while it is refreshed behind its readers' backs.
    Volatile,
    /// Its readers give up midway.
    Fickle,
    /// Also read by the strategies `Bypass` and `Invalidate`.
    Forced,
    /// Depends on a tag, as others do, and is invalidated by it; its readers name the tag, or its load reveals it.
    Tagged,
}

impl Habit {
    pub(crate) fn of(key: u32) -> Self {
        match key % 16 {
            0 => Self::Written,
            1 => Self::Volatile,
            2 => Self::Fickle,
            3 => Self::Forced,
            4 => Self::Tagged,
            _ => Self::Plain,
        }
    }
}

/// The tag of a tagged key, and whether only its load reveals it.
pub(crate) fn tag(key: u32) -> (String, bool) {
    (format!("tag:{}", key % 64), key % 32 >= 16)
}

/// A key, low ones more often than high ones: the hottest of 256 is every sixteenth.
pub(crate) fn hot(random: &mut Rng, keys: u32) -> u32 {
    let place = random.f64();
    (place * place * f64::from(keys)) as u32
}
