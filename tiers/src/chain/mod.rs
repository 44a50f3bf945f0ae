//! [`Chain`]: two remote tiers as one, a near one that answers quickly before a far one that decides.
//!
//! The far tier is the authority: a lease is the far tier's lease, and a fill is what the far tier says it
//! is. The near one holds copies. A read that the near tier cannot answer goes to the far one and leaves a
//! copy on its way back, the *backfill*; a write changes the far tier first and then *settles* the near
//! one, which then has the new copy or none. A chain is a tier itself, so that three are two chains.
//!
//! # The fence between the two
//!
//! Whoever puts something into the near tier takes a lease there *before* the far tier is read or changed,
//! under a token of its own, and fills under it *afterwards*. Whoever takes something away does so in the
//! far tier first, and then in the near one. So of what is taken away no copy comes back:
//!
//! 1. A read leases near and finds the old value far; a delete drops it far, and near value and lease; the
//!    read's copy comes without its lease: refused.
//! 2. A delete drops the value far; a read leases near and finds nothing far: there is nothing to copy.
//! 3. A fill leases near and is stored far; a delete goes over both; the fill's copy is refused.
//! 4. A delete drops the load's lease far; its fill is refused there, and leaves nothing near.
//! 5. Two writes lease near, one after the other; whichever the far tier executes last, the older of the
//!    two leases is gone. A copy that is refused says that somebody came between, so its writer deletes
//!    the key near: a copy that is there may be the older one, and what the other still holds falls too.
//! 6. The lease near runs out before the copy is made, and another read leases there and finds the old
//!    value: as in 5, the refused writer's delete drops the value or the lease, whichever it meets.
//! 7. A command that executes late, after its caller gave up: a lease near whose answer never came is never
//!    filled under, whenever it arrives; a copy that is late meets 1, 3 or 5; a late delete only takes away.
//! 8. A clear drops leases and values far, then leases and values near: as 1 and 3.
//! 9. A hold, its renewal, and its end, is a delete with a hold at the far tier: they drop far, then near, as 1 to 4. While it
//!    stands nothing is stored far, so there is nothing to copy; a near tier knows of no holds.
//! 10. The near server comes back with old data, and has a copy again, or a lease, that 1 to 8 had dropped: the
//!     copy is of its earlier run, and none; so is one that is made under that lease, for its run was asked before it.
//! 11. The far server does. It answers in another run, which is what a copy of that answer says, and what the reader
//!     judges. A copy from before says the run before: it went through all of the above, and is as good as it was.
//!
//! In each, a near tier that cannot be settled is an error of the whole write: it may hold what is old, and
//! the engine then keeps the key pending, and does not read it, until both tiers are reached.
//!
//! # What was rejected
//!
//! - The load's own token near, taken when the far lease is: a lease near whose answer was lost is not told
//!   from one that was granted, and a fill under it can come back after a delete (7). It would take a table
//!   of tokens to know; a token for each copy needs none, and as many round trips.
//! - Deleting near first: a read between the two deletes copies the old value back.
//! - Near copies that live as long as [`near_for`](Chain::near_for) says and report that as their remaining
//!   life: the engine would take every one of them for old. [`shortened`] tells how the true one is kept.

mod near;
mod shortened;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join;
use tokio::time::Instant;

use self::{
    near::{Place, Seen},
    shortened::Runs,
};
use crate::{
    Abilities, Claim, ConfigError, Fill, Found, HoldEnd, Incarnation, Lease, LeaseToken, Progress,
    RemoteTier, TierError,
};

/// The share of a read that a near tier has, unless told.
const NEAR_WITHIN: Duration = Duration::from_millis(50);

/// A near remote tier before a far one, as [`RemoteTier::then`] makes it.
///
/// ```
/// use tiered_tiers::{Memory, RemoteTier};
///
/// let (rack, region) = (Memory::new(), Memory::new()); // servers, more likely
/// let two = rack.then(region);
/// let three = two.then(Memory::new());
/// ```
///
/// A read asks the near tier, and the far one if that has nothing; what the far one has is copied into the
/// near one with the life that it has left. A value without an expiry is not copied. Writes and invalidations
/// change both tiers, the far one first, and fail if either cannot be reached.
///
/// The near tier's part of a read is bounded by [`near_within`](Self::near_within); beyond it, and if the near
/// tier fails, the far one answers alone. A write, an invalidation and a clear take as long as the two tiers'
/// own deadlines allow, one after the other. Dropping an operation's future harms nobody: of a write, the near
/// tier may then still hold the older value, as after an error. It needs a runtime with the time driver enabled
/// wherever a near tier is to be bounded; outside of any runtime there is no bound.
///
/// # How coherent it is
///
/// Processes whose chains have *the same* near tier see each other's writes and invalidations at once, as over
/// one tier. Processes that share the far tier but have *different* near tiers (one for each zone, or a
/// [`Memory`](crate::Memory) in each process), or none, do not: an invalidation reaches the far tier and its
/// own near tier, and the others keep their copies until these expire. Set [`near_for`](Self::near_for)
/// there: it is the longest time that such a copy outlives an invalidation elsewhere. It comes on top of the
/// time that an L1 may serve what it holds.
///
/// There, too, a copy may be stale while another zone has loaded the value anew. A load finds that out when it
/// asks for the lease: it takes the far value, and the copy is dropped. A read that never loads sees the
/// copy alone, until it expires.
///
/// A copy may outlive its original by as long as the command that makes it was on its way, and by what the far
/// tier rounds a life down by.
///
/// # A near tier that stays away
///
/// Reads go on without it. What is written or invalidated meanwhile is an error, which an engine keeps pending,
/// and too much of that keeps it from using either tier: a near tier that is not coming back should be taken
/// out of the chain.
#[derive(Clone, Debug)]
pub struct Chain<N, F> {
    near: N,
    far: F,
    near_within: Duration,
    near_for: Option<Duration>,
}

impl<N: RemoteTier, F: RemoteTier> Chain<N, F> {
    pub(crate) fn new(near: N, far: F) -> Self {
        Self { near, far, near_within: NEAR_WITHIN, near_for: None }
    }

    /// The most time that a read spends on the near tier, all its steps together: the look, and the two round
    /// trips of a copy. Default: 50 ms, and 50 ms more for each chain within the near tier.
    #[must_use]
    pub fn near_within(mut self, time: Duration) -> Self {
        self.near_within = time;
        self
    }

    /// The longest life of a copy in the near tier. Default: as long as the value lives in the far one.
    ///
    /// Where other processes share the far tier and not the near one, this is how long a copy may outlive
    /// their invalidations. Those of tags, too: what says whether a tag was invalidated is copied as values are, and lives
    /// for thirty days unless this says less.
    #[must_use]
    pub fn near_for(mut self, life: Duration) -> Self {
        self.near_for = Some(life);
        self
    }

    /// Stores what `far` stores, near as well; else the near tier has nothing of the key.
    async fn store(
        &self,
        key: &[u8],
        bytes: Bytes,
        life: Duration,
        far: impl Future<Output = Result<Fill, TierError>> + Send,
    ) -> Result<Fill, TierError> {
        let mut turn = self.turn();
        let place = turn.claim(key).await;
        match far.await {
            Ok(filled) => {
                let copy = (filled == Fill::Stored).then_some((bytes, life));
                self.settle(key, place, copy).await.map(|()| filled)
            }
            Err(error) => {
                // Nobody knows what the far tier has now; what is near stays, for those who only read.
                turn.release(key, place).await;
                Err(error)
            }
        }
    }

    /// Brings the near tier in line with the far one, which has just been changed: it holds this copy, or
    /// nothing.
    async fn settle(
        &self,
        key: &[u8],
        place: Option<Place>,
        copy: Option<(Bytes, Duration)>,
    ) -> Result<(), TierError> {
        // Asked now: what the far server has stored in a later run than the one it was asked about before is not
        // to be taken for that one's.
        if let (Some(place), Some((bytes, life))) = (place, copy)
            && let Ok(far) = self.far.incarnation(key).await
        {
            let life = life.min(self.far.abilities().longest_life);
            let (bytes, life) = self.copy(bytes, life, Runs { near: place.run, far });
            if matches!(self.near.fill(key, place.token, bytes, life).await, Ok(Fill::Stored)) {
                return Ok(());
            }
        }
        self.near.delete(key).await
    }
}

#[async_trait]
impl<N: RemoteTier, F: RemoteTier> RemoteTier for Chain<N, F> {
    fn name(&self) -> &'static str {
        "chain"
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        let mut turn = self.turn();
        let place = match turn.look(key).await {
            Seen::Found(found) => return Ok(Some(found)),
            Seen::Absent(place) => place,
        };
        let asked = Instant::now();
        let found = self.far.get(key).await;
        turn.backfill(key, place, found.as_ref().ok().and_then(Option::as_ref), asked).await;
        found
    }

    /// The far tier's lease. A value that came since, and is not what the near tier has, is dropped there: the
    /// next read copies the right one.
    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        let lease = self.far.lease(key, token, life, claim).await?;
        if let (Lease::Granted(Some(found)) | Lease::Held(Some(found)), Claim::IfFree) =
            (&lease, claim)
        {
            self.turn().agree(key, found).await;
        }
        Ok(lease)
    }

    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        self.store(key, bytes.clone(), life, self.far.fill(key, token, bytes, life)).await
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        self.far.release(key, token).await
    }

    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.far.renew(key, token, life).await
    }

    /// The far tier's; then the copy goes, whatever came of the first.
    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        let far = self.far.hold(key, token, life).await;
        let near = self.near.delete(key).await;
        far.and(near)
    }

    /// As [`hold`](Self::hold): far, then near.
    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        let far = self.far.renew_hold(key, token, life).await;
        let near = self.near.delete(key).await;
        far.and_then(|stood| near.map(|()| stood))
    }

    /// As [`hold`](Self::hold): far, then near.
    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        let far = self.far.end_hold(key, token, lease).await;
        let near = self.near.delete(key).await;
        far.and_then(|end| near.map(|()| end))
    }

    /// The far server's, for its entries are what the near tier has copies of.
    async fn incarnation(&self, key: &[u8]) -> Result<Option<Incarnation>, TierError> {
        self.far.incarnation(key).await
    }

    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        self.store(key, bytes.clone(), life, self.far.set(key, bytes, life)).await
    }

    /// Far, then near; the second is tried whatever comes of the first.
    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        let far = self.far.delete(key).await;
        let near = self.near.delete(key).await;
        far.and(near)
    }

    async fn get_many(&self, keys: &[&[u8]]) -> Vec<Result<Option<Found>, TierError>> {
        let mut turn = self.turn();
        let seen = turn.look_many(keys).await;
        let missing: Vec<(&[u8], Option<Place>)> = keys
            .iter()
            .zip(&seen)
            .filter_map(|(key, seen)| match seen {
                Seen::Found(_) => None,
                Seen::Absent(place) => Some((*key, *place)),
            })
            .collect();
        let absent: Vec<&[u8]> = missing.iter().map(|(key, _)| *key).collect();
        let asked = Instant::now();
        let answers = if absent.is_empty() { Vec::new() } else { self.far.get_many(&absent).await };
        let answers = each(absent.len(), answers);
        turn.backfill_many(&missing, &answers, asked).await;
        let mut answers = answers.into_iter();
        let in_its_place = |seen| match seen {
            Seen::Found(found) => Ok(Some(found)),
            Seen::Absent(_) => answers.next().unwrap_or_else(missing_answer),
        };
        seen.into_iter().map(in_its_place).collect()
    }

    /// Far, then near, each in its own batches.
    async fn delete_many(&self, keys: &[&[u8]]) -> Vec<Result<(), TierError>> {
        let far = each(keys.len(), self.far.delete_many(keys).await);
        let near = each(keys.len(), self.near.delete_many(keys).await);
        far.into_iter().zip(near).map(|(far, near)| far.and(near)).collect()
    }

    /// Far, then near. What it tells is the number of the far tier's values; those of the near one are copies.
    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        if !self.abilities().clears {
            let words = "one of the chain's tiers cannot clear".into();
            return Err(TierError::Unsupported(words));
        }
        self.far.clear(prefix, progress).await?;
        self.near.clear(prefix, &|_| progress(0)).await
    }

    /// Both, at once.
    async fn ping(&self) -> Result<(), TierError> {
        let (far, near) = join(self.far.ping(), self.near.ping()).await;
        far.and(near)
    }

    /// Both: nobody knows which of the two it came from.
    fn distrust(&self) {
        self.near.distrust();
        self.far.distrust();
    }

    /// The far tier's, for it decides what is kept. It clears if both do, and counts as coarsely as the coarser.
    fn abilities(&self) -> Abilities {
        let (near, far) = (self.near.abilities(), self.far.abilities());
        let (clears, tick) = (near.clears && far.clears, near.tick.max(far.tick));
        Abilities { clears, tick, copies: true, ..far }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.near.check()?;
        self.far.check()?;
        if self.near_within.is_zero() {
            let words = "Chain::near_within(0) never reads the near tier: try 50 ms";
            return Err(ConfigError::new(words));
        }
        let shortest = self.near.abilities().shortest_life;
        match self.near_for {
            Some(life) if life.is_zero() || life < shortest => Err(ConfigError::new(format!(
                "Chain::near_for({life:?}) keeps nothing in the near tier, whose shortest life is {shortest:?}: \
                 choose more, or leave the tier out"
            ))),
            _ => Ok(()),
        }
    }

    fn then<G: RemoteTier>(self, far: G) -> Chain<Self, G> {
        // A near tier that hangs within this one has had its time when the next is asked.
        let within = self.near_within.saturating_add(NEAR_WITHIN);
        Chain::new(self, far).near_within(within)
    }
}

/// A tier's answers, one for each of `count` keys. Another number of them is nobody's.
fn each<R>(count: usize, answers: Vec<Result<R, TierError>>) -> Vec<Result<R, TierError>> {
    if answers.len() == count {
        return answers;
    }
    let miscounted = || TierError::Protocol("another number of answers than of keys".into());
    (0..count).map(|_| Err(miscounted())).collect()
}

/// The answer for a key of which the far tier was not asked. It never comes to that.
fn missing_answer<R>() -> Result<R, TierError> {
    Err(TierError::Protocol("an answer is missing".into()))
}
