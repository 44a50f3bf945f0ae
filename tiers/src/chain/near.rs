//! The near tier's part of an operation: the look, and the copy on the way back, within their time.
//!
//! One allowance for all steps together, and the first failure spends it: a near tier that hangs or fails
//! costs a read no more than that, and the far tier answers. In a batch a failed key spends only itself,
//! for a tier of several servers may have lost one of them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Chain,
    shortened::{self, Runs},
};
use crate::{
    Claim, Found, Incarnation, Lease, LeaseToken, RemoteTier, TierError, remote::in_order,
};

/// How long a copy may be on its way, the read of the far tier included.
const LEASE: Duration = Duration::from_secs(2);

/// A lease in the near tier, under which a copy may be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) token: LeaseToken,
    /// The run of the near server, which was asked before the lease: it may be older than the one that granted it,
    /// and then the copy is none.
    pub(super) run: Option<Incarnation>,
}

/// What the near tier has of a key.
pub(super) enum Seen {
    /// A copy.
    Found(Found),
    /// None; with the lease under which one may be made, if it could be had.
    Absent(Option<Place>),
}

/// The near tier in one operation.
pub(super) struct Turn<'a, N, F> {
    chain: &'a Chain<N, F>,
    /// The time that is left.
    left: Duration,
}

impl<N: RemoteTier, F: RemoteTier> Chain<N, F> {
    /// The near tier's part of an operation that begins now.
    pub(super) fn turn(&self) -> Turn<'_, N, F> {
        Turn { chain: self, left: self.near_within }
    }

    /// What the near tier stores of a value that has so long to live, and for how long.
    pub(super) fn copy(&self, bytes: Bytes, life: Duration, runs: Runs) -> (Bytes, Duration) {
        let stay = self.near_for.unwrap_or(Duration::MAX).min(self.near.abilities().longest_life);
        shortened::wrap(bytes, life, stay, runs)
    }
}

impl<N: RemoteTier, F: RemoteTier> Turn<'_, N, F> {
    /// Looks for a copy; if there is none, takes the lease for one.
    pub(super) async fn look(&mut self, key: &[u8]) -> Seen {
        match self.within(self.chain.near.get(key)).await {
            Ok(found) => match found.and_then(shortened::unwrap) {
                Some(found) => Seen::Found(found),
                None => self.look_again(key).await,
            },
            Err(_) => Seen::Absent(None),
        }
    }

    async fn look_again(&mut self, key: &[u8]) -> Seen {
        let lease = lease(&self.chain.near, key, Claim::IfFree);
        let (seen, unused) = leased(self.within(lease).await);
        self.release(key, unused).await;
        seen
    }

    /// Takes the lease for a copy, whoever has it; `None` if the near tier does not answer.
    pub(super) async fn claim(&mut self, key: &[u8]) -> Option<Place> {
        let (lease, place) =
            self.within(lease(&self.chain.near, key, Claim::ByForce)).await.ok()?;
        matches!(lease, Lease::Granted(_)).then_some(place)
    }

    /// Gives it up. One that cannot be ends by itself.
    pub(super) async fn release(&mut self, key: &[u8], place: Option<Place>) {
        if let Some(Place { token, .. }) = place {
            let _ = self.within(self.chain.near.release(key, token)).await;
        }
    }

    /// Leaves a copy of what the far tier has, which was `asked` for then.
    pub(super) async fn backfill(
        &mut self,
        key: &[u8],
        place: Option<Place>,
        found: Option<&Found>,
        asked: Instant,
    ) {
        let Some(place) = place else { return };
        match found.and_then(|found| self.copy_of(found, place, asked)) {
            // Refused: it was overtaken. Failed: it is there or not, and under its token.
            Some((bytes, life)) => {
                let _ = self.within(self.chain.near.fill(key, place.token, bytes, life)).await;
            }
            None => self.release(key, Some(place)).await,
        }
    }

    /// A copy that is not what the far tier has just given is dropped.
    pub(super) async fn agree(&mut self, key: &[u8], found: &Found) {
        let near = self.within(self.chain.near.get(key)).await;
        let is_other =
            |copy: Found| shortened::unwrap(copy).is_none_or(|copy| copy.bytes != found.bytes);
        if near.ok().flatten().is_some_and(is_other) {
            let _ = self.within(self.chain.near.delete(key)).await;
        }
    }

    /// As [`look`](Self::look), for several keys.
    pub(super) async fn look_many(&mut self, keys: &[&[u8]]) -> Vec<Seen> {
        let near = &self.chain.near;
        let found = self.within(async { Ok(near.get_many(keys).await) }).await.unwrap_or_default();
        let mut found = found.into_iter();
        let began = Instant::now();
        let until = self.until();
        let looks = keys.iter().map(|key| {
            let found = found.next().unwrap_or(Err(TierError::Timeout));
            let look = async move {
                match found.map(|found| found.and_then(shortened::unwrap)) {
                    Err(_) => Seen::Absent(None),
                    Ok(Some(found)) => Seen::Found(found),
                    Ok(None) => {
                        let lease = lease(near, key, Claim::IfFree);
                        let (seen, unused) = leased(until_then(until, lease).await);
                        if let Some(Place { token, .. }) = unused {
                            let _ = until_then(until, near.release(key, token)).await;
                        }
                        seen
                    }
                }
            };
            Box::pin(look) as BoxFuture<'_, Seen>
        });
        let seen = in_order(looks.collect()).await;
        self.spend(began);
        seen
    }

    /// As [`backfill`](Self::backfill), for several keys.
    pub(super) async fn backfill_many(
        &mut self,
        missing: &[(&[u8], Option<Place>)],
        answers: &[Result<Option<Found>, TierError>],
        asked: Instant,
    ) {
        let (near, until) = (&self.chain.near, self.until());
        let copies = missing.iter().zip(answers).filter_map(|((key, place), answer)| {
            let place = (*place)?;
            let token = place.token;
            let copy = answer.as_ref().ok().and_then(Option::as_ref);
            let copy = copy.and_then(|found| self.copy_of(found, place, asked));
            let step = async move {
                let _ = match copy {
                    Some((bytes, life)) => {
                        until_then(until, near.fill(key, token, bytes, life)).await.map(drop)
                    }
                    None => until_then(until, near.release(key, token)).await,
                };
            };
            Some(Box::pin(step) as BoxFuture<'_, ()>)
        });
        in_order(copies.collect()).await;
    }

    /// The copy to make of what the far tier was `asked` for then; `None` for a value that has no expiry, or
    /// is over.
    fn copy_of(&self, found: &Found, place: Place, asked: Instant) -> Option<(Bytes, Duration)> {
        let life = found.remaining?.checked_sub(asked.elapsed())?;
        let runs = Runs { near: place.run, far: found.incarnation };
        let copy = || self.chain.copy(found.bytes.clone(), life, runs);
        (!life.is_zero()).then(copy)
    }

    async fn within<R>(
        &mut self,
        operation: impl Future<Output = Result<R, TierError>>,
    ) -> Result<R, TierError> {
        if self.left.is_zero() {
            return Err(TierError::Timeout);
        }
        let began = Instant::now();
        let result = match Handle::try_current() {
            Ok(_) => timeout(self.left, operation).await.unwrap_or(Err(TierError::Timeout)),
            // Nothing to tell the time by; such a tier waits for nothing.
            Err(_) => operation.await,
        };
        self.spend(began);
        if result.is_err() {
            self.left = Duration::ZERO;
        }
        result
    }

    fn spend(&mut self, began: Instant) {
        self.left = self.left.saturating_sub(began.elapsed());
    }

    /// When its time is over; `None` if it is.
    fn until(&self) -> Option<Instant> {
        (!self.left.is_zero()).then(|| Instant::now() + self.left)
    }
}

/// Asks for a copy's lease.
async fn lease<N: RemoteTier>(
    near: &N,
    key: &[u8],
    claim: Claim,
) -> Result<(Lease, Place), TierError> {
    let place = Place { run: near.incarnation(key).await?, token: LeaseToken::random() };
    Ok((near.lease(key, place.token, LEASE, claim).await?, place))
}

/// What came of asking for a copy's lease: a copy may have come since it was looked for, and then the lease
/// is not needed.
fn leased(lease: Result<(Lease, Place), TierError>) -> (Seen, Option<Place>) {
    let Ok((lease, place)) = lease else { return (Seen::Absent(None), None) };
    match lease {
        Lease::Granted(found) => match found.and_then(shortened::unwrap) {
            Some(found) => (Seen::Found(found), Some(place)),
            None => (Seen::Absent(Some(place)), None),
        },
        Lease::Held(found) => match found.and_then(shortened::unwrap) {
            Some(found) => (Seen::Found(found), None),
            None => (Seen::Absent(None), None),
        },
        Lease::OnHold => (Seen::Absent(None), None),
    }
}

/// An operation of several at once, all of which end then.
async fn until_then<R>(
    until: Option<Instant>,
    operation: impl Future<Output = Result<R, TierError>>,
) -> Result<R, TierError> {
    let Some(until) = until else { return Err(TierError::Timeout) };
    match Handle::try_current() {
        Ok(_) => timeout_at(until, operation).await.unwrap_or(Err(TierError::Timeout)),
        Err(_) => operation.await,
    }
}
