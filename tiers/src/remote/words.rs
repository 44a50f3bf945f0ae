//! What the engine and a tier say to each other.

use std::{fmt, num::NonZeroU64, time::Duration};

use bytes::Bytes;

#[cfg(any(feature = "redis", feature = "memcached"))]
pub(crate) const HOLD_MARK: usize = 17;

/// Told of each step of a [`clear`](super::RemoteTier::clear), with the number of values it has dropped.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// What L2 has under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The stored bytes, unjudged.
    pub bytes: Bytes,
    /// The remaining life by the server's clock, never more than the true one of these bytes when
    /// they were replaced meanwhile; `None` for a key without an expiry (which no tier wrote).
    ///
    /// A server whose clock stands still, for its process is stopped or its machine paused, does not age what
    /// it holds: it may serve a value after its end, with the remaining life of before. By no more than the
    /// pause, and until it looks at its clock again.
    pub remaining: Option<Duration>,
    /// The run of the server that answered; `None` from a tier that cannot tell.
    pub incarnation: Option<Incarnation>,
}

/// One run of a server: from its start, or its promotion, to its end. Compared for equality only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(NonZeroU64);

impl Incarnation {
    /// By a number that is another for each run: a hash of the server's own random name for it.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }

    /// The number; never 0.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// A random 128-bit token that owns one lease, from the operating system's generator: two processes
/// must never draw the same. Never a counter: counters restart with the server.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken([u8; 16]);

impl LeaseToken {
    /// A new random token.
    #[must_use]
    pub fn random() -> Self {
        let mut token = [0; 16];
        if getrandom::fill(&mut token).is_err() {
            // No such source on this platform: the next best.
            token = fastrand::u128(..).to_le_bytes();
        }
        Self(token)
    }

    /// The token that came over the wire.
    #[cfg(feature = "redis")]
    pub(crate) fn from_wire(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// What a hold leaves in its key's lease: no token, so that nobody can fill or release it.
    #[cfg(any(feature = "redis", feature = "memcached"))]
    pub(crate) fn hold_mark(&self) -> [u8; HOLD_MARK] {
        let mut mark = [b'h'; HOLD_MARK];
        mark[1..].copy_from_slice(&self.0);
        mark
    }

    /// The token as it goes over the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseToken(..)")
    }
}

/// How a lease is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Only if nobody holds it.
    IfFree,
    /// Whoever holds it: an older load's fill is then refused.
    ByForce,
}

/// The answer to a request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The caller's token stands now. With it what is stored under the key at that moment, for a
    /// value may have come since the caller's read.
    Granted(Option<Found>),
    /// Another token stands. With it what is stored under the key at that moment.
    Held(Option<Found>),
    /// A writer holds the key: what is loaded now must not be stored, nor kept in L1.
    OnHold,
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The token stood; the value is stored and the lease dropped.
    Stored,
    /// The token was gone: overtaken, expired or evicted. Nothing was changed.
    Refused,
    /// This tier keeps no such value: it is too long, or its life too short. Nothing is stored; the lease
    /// is given up.
    Skipped,
}

/// What a tier can and cannot keep.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abilities {
    /// Whether [`clear`](super::RemoteTier::clear) works. Where it does not, it is refused with
    /// [`TierError::Unsupported`](crate::TierError::Unsupported).
    pub clears: bool,
    /// The unit in which lives are counted: a value may be gone, and `remaining` fall short, by so much.
    pub tick: Duration,
    /// The shortest life of a value. One with a shorter life is not kept: [`Fill::Skipped`].
    pub shortest_life: Duration,
    /// The longest life of a value. One with a longer life is kept for so long.
    pub longest_life: Duration,
    /// The longest value, in bytes. A longer one is not kept: [`Fill::Skipped`].
    pub longest_value: usize,
    /// Whether it asks its server for its [runs](super::RemoteTier::incarnation), which the server may refuse to tell. A tier
    /// that does not tells none.
    pub tells_runs: bool,
    /// Whether a read may be answered by a copy that changes by others do not reach, while a lease is granted by the
    /// tier that decides: [`Chain`](crate::Chain).
    pub copies: bool,
}

impl Default for Abilities {
    /// A tier that can do everything but tell runs, and counts in milliseconds.
    fn default() -> Self {
        Self {
            clears: true,
            tick: Duration::from_millis(1),
            shortest_life: Duration::ZERO,
            longest_life: Duration::MAX,
            longest_value: usize::MAX,
            tells_runs: false,
            copies: false,
        }
    }
}
