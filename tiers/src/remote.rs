//! L2, the contract: opaque bytes under an expiry, on a server that many processes share.
//!
//! # The fence
//!
//! A value that was loaded before an invalidation must not be stored after it. So a load first
//! takes a *lease*: a random token beside the value. The *fill* stores only while that token still
//! stands, in one atomic step; `delete` and `set` remove the token with the value. A load that was
//! overtaken finds its token gone and its fill is refused.
//!
//! The fence holds against *late* commands too: a command whose caller gave up (deadline, dropped
//! future) may still execute later. So nothing that stores a value may be unconditional: `set`
//! takes the lease by force, waits for the answer, and fills.
//!
//! | operation | value | lease |
//! |---|---|---|
//! | `get` | read | untouched |
//! | `lease` | read | taken, if free or by force |
//! | `fill` | stored if the token stands | dropped if it stands |
//! | `release` | untouched | dropped if the token stands |
//! | `set` | replaced | dropped |
//! | `delete` | dropped | dropped |
//! | `clear` | dropped | dropped |
//! | `renew` | untouched | lives longer if the token stands |
//! | `hold` | dropped | dropped, and granted to nobody |
//! | `renew_hold` | dropped | dropped, and granted to nobody |
//! | `end_hold` | dropped | dropped; granted to who was alone and asks |
//!
//! A *hold* is a writer's: while it writes the source, what others load is not stored. The whole of it is a state
//! machine, [`protocol::Record`](crate::protocol::Record), which every tier behaves like.
//!
//! # Runs of a server
//!
//! A server that comes back with old data brings back values, and leases, that were dropped. So a tier that can
//! names the *run* of the server behind each answer: [`Incarnation`]. The engine writes into an entry in which run it
//! was stored, and does not believe one that is of another.
//!
//! The rejected alternative, deleting twice with a delay, only makes the race rarer.

use std::{fmt, fmt::Debug, num::NonZeroU64, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};

use crate::{Chain, ConfigError, TierError, protocol::HoldEnd};

/// How many of a batch are under way at once, where a tier asks for them one by one.
const AT_ONCE: usize = 64;

/// The length of a hold's mark, which no token has.
#[cfg(any(feature = "redis", feature = "memcached"))]
pub(crate) const HOLD_MARK: usize = 17;

/// Told of each step of a [`clear`](RemoteTier::clear), with the number of values it has dropped.
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
    /// Whether [`clear`](RemoteTier::clear) works. Where it does not, it is refused with
    /// [`TierError::Unsupported`].
    pub clears: bool,
    /// The unit in which lives are counted: a value may be gone, and `remaining` fall short, by so much.
    pub tick: Duration,
    /// The shortest life of a value. One with a shorter life is not kept: [`Fill::Skipped`].
    pub shortest_life: Duration,
    /// The longest life of a value. One with a longer life is kept for so long.
    pub longest_life: Duration,
    /// The longest value, in bytes. A longer one is not kept: [`Fill::Skipped`].
    pub longest_value: usize,
    /// Whether it asks its server for its [runs](RemoteTier::incarnation), which the server may refuse to tell. A tier
    /// that does not tells none.
    pub tells_runs: bool,
    /// Whether a read may be answered by a copy that changes by others do not reach, while a lease is granted by the
    /// tier that decides: [`Chain`].
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

/// A shared store of bytes, the second tier.
///
/// Keys are wire keys as the engine makes them: they hold no `{`, `}`, space or control byte, and
/// are at most 65 KiB long. Every stored value has an expiry, in milliseconds.
///
/// Every operation is cancel-safe: dropping its future leaves the tier usable, and the command
/// either takes effect or not; the contract's table says why neither can break the fence.
/// Operations must not wait without a bound: each ends with [`TierError`] by the tier's own
/// deadlines, at the latest.
#[async_trait]
pub trait RemoteTier: Send + Sync + Debug + 'static {
    /// A short name for metrics and health: `"redis"`.
    fn name(&self) -> &'static str;

    /// Reads a value and its remaining life.
    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError>;

    /// Takes the lease of `key` for `life` under `token`, and reads the value in the same step.
    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError>;

    /// Stores `bytes` for `life` if `token` still holds the lease of `key`. Where a tier cannot tell whether
    /// it does, and what is there may be older than `bytes`, that is an error and not [`Fill::Refused`].
    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError>;

    /// Gives the lease of `key` up, if `token` still holds it.
    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError>;

    /// Lets the lease of `key` live for `life` from now, if `token` still holds it; says whether it does. A
    /// renewal may be late: it must not take a lease that was dropped.
    async fn renew(&self, key: &[u8], token: LeaseToken, life: Duration)
    -> Result<bool, TierError>;

    /// Drops the value and the lease of `key`, and holds it for `life`: no lease is granted, not even by force. Several
    /// may hold a key at once.
    ///
    /// This begins a hold, once: for longer it is [renewed](Self::renew_hold). A tier sends it once; a connection that
    /// breaks is an error. A second copy might come late, and begin a hold that was over as if it had been alone all
    /// the time.
    ///
    /// A late command of a holder that gave up holds the key until its life is over, and harms nothing else. After an
    /// error, or when the future is dropped, the key may or may not be held, and what it had may or may not be gone;
    /// the caller has no hold, and does not ask again with this token.
    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError>;

    /// Drops the value and the lease of `key`, and lets the hold of `token` live for `life` from now; says whether it
    /// stood. One that is gone is back, but not as alone: nobody knows who wrote meanwhile.
    ///
    /// A late one holds the key until its life is over. After an error, or when the future is dropped, the hold stands
    /// as long as before, or for `life`; it may be asked for again.
    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError>;

    /// Drops the value and the lease of `key`, and the hold of `token`. A `lease` (its token and its life) is granted
    /// in the same step if the hold was [`HoldEnd::Alone`]: since it began it stood, and nobody else held the key,
    /// ended a hold of it, though it was lost, or asked for a `delete`, `set` or `clear` of it. A tier that cannot tell
    /// answers [`HoldEnd::Overlapped`]; one that has no room for that lease lets its fill be refused.
    ///
    /// After an error the hold may or may not stand, until its life is over; it may be asked for again, and is then
    /// perhaps [`HoldEnd::Lost`] because it ended the first time.
    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError>;

    /// The run of the server that `key` is stored on, as far as the tier's connection to it knows; dials if there
    /// is none. `None` from a tier that cannot tell. What is asked *before* a lease or a `set` may be older than the
    /// run that stores, never newer.
    async fn incarnation(&self, key: &[u8]) -> Result<Option<Incarnation>, TierError> {
        let _ = key;
        Ok(None)
    }

    /// Stores `bytes` for `life` whoever holds the lease, and drops it; but on a key that a writer
    /// [holds](Self::hold) nothing is stored, and the old value goes: [`Fill::Refused`]. A value that this tier does
    /// not keep ([`Fill::Skipped`]) takes the old one away all the same.
    ///
    /// Of two concurrent calls one wins whole; the other is [`Fill::Refused`]. After an error, or when the future is dropped, the
    /// old value may or may not be gone and the new one may or may not be stored, but it is not
    /// stored after a later `delete`, `set` or `clear` has returned.
    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError>;

    /// Drops the value and the lease of `key`. An absent key is no error.
    async fn delete(&self, key: &[u8]) -> Result<(), TierError>;

    /// Reads several keys; the answers come in their order, and one that fails fails no other. A key may
    /// come twice.
    ///
    /// One by one, 64 at once, unless the tier has a better way. Each of them has its own deadline then, so a
    /// server that hangs costs one for every 64 keys.
    async fn get_many(&self, keys: &[&[u8]]) -> Vec<Result<Option<Found>, TierError>> {
        in_order(keys.iter().map(|key| self.get(key)).collect()).await
    }

    /// As [`set`](Self::set), for several keys, none of which comes twice; the answers come in their order.
    async fn set_many(&self, entries: &[(&[u8], Bytes, Duration)]) -> Vec<Result<Fill, TierError>> {
        let set = entries.iter().map(|(key, bytes, life)| self.set(key, bytes.clone(), *life));
        in_order(set.collect()).await
    }

    /// As [`delete`](Self::delete), for several keys; the answers come in their order.
    async fn delete_many(&self, keys: &[&[u8]]) -> Vec<Result<(), TierError>> {
        in_order(keys.iter().map(|key| self.delete(key)).collect()).await
    }

    /// Drops every value and every lease whose wire key begins with `prefix`: first the leases,
    /// then the values, so that no load under way can fill behind it. In bounded steps, each of which
    /// tells `progress`. Of a call that fails or is dropped midway some are gone and some are not.
    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError>;

    /// A round trip to the server.
    async fn ping(&self) -> Result<(), TierError>;

    /// What this tier gave for a key was not that key's: a value of another key, or damaged. A tier whose
    /// connections may have mixed answers up replaces them. Cheap, and called as often as it happens.
    fn distrust(&self) {}

    /// What it can and cannot keep; all of it, unless it says so.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    /// Checks the configuration; called once, when a cache is built. Touches no network.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the value and the way out.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// This tier before a farther one, as one tier: see [`Chain`]. Three are `near.then(far).then(farthest)`.
    fn then<F: RemoteTier>(self, far: F) -> Chain<Self, F>
    where
        Self: Sized,
    {
        Chain::new(self, far)
    }
}

/// Runs some at once; the results come in their order.
pub(crate) async fn in_order<R>(operations: Vec<BoxFuture<'_, R>>) -> Vec<R> {
    stream::iter(operations).buffered(AT_ONCE).collect().await
}

/// A tier that is shared, or whose kind is chosen at run time.
#[async_trait]
impl<T: RemoteTier + ?Sized> RemoteTier for Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        (**self).get(key).await
    }

    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        (**self).lease(key, token, life, claim).await
    }

    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        (**self).fill(key, token, bytes, life).await
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        (**self).release(key, token).await
    }

    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        (**self).renew(key, token, life).await
    }

    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        (**self).hold(key, token, life).await
    }

    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        (**self).renew_hold(key, token, life).await
    }

    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        (**self).end_hold(key, token, lease).await
    }

    async fn incarnation(&self, key: &[u8]) -> Result<Option<Incarnation>, TierError> {
        (**self).incarnation(key).await
    }

    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        (**self).set(key, bytes, life).await
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        (**self).delete(key).await
    }

    async fn get_many(&self, keys: &[&[u8]]) -> Vec<Result<Option<Found>, TierError>> {
        (**self).get_many(keys).await
    }

    async fn set_many(&self, entries: &[(&[u8], Bytes, Duration)]) -> Vec<Result<Fill, TierError>> {
        (**self).set_many(entries).await
    }

    async fn delete_many(&self, keys: &[&[u8]]) -> Vec<Result<(), TierError>> {
        (**self).delete_many(keys).await
    }

    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        (**self).clear(prefix, progress).await
    }

    async fn ping(&self) -> Result<(), TierError> {
        (**self).ping().await
    }

    fn distrust(&self) {
        (**self).distrust();
    }

    fn abilities(&self) -> Abilities {
        (**self).abilities()
    }

    fn check(&self) -> Result<(), ConfigError> {
        (**self).check()
    }
}
