//! The random numbers that tags and namespaces go by, each under a key of its own: made when they are missing,
//! changed when something is invalidated.
//!
//! They go by the contract's own means (lease, fill, set), so every tier has them. A record holds the number and the
//! run of the server it was written in: one that came back with an old server is as good as missing.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tiered_tiers::{Claim, Found, Incarnation, Lease, LeaseToken, TierError, protocol};

use super::{Budget, L2};
use crate::{
    meter::{Op, OpResult},
    restarts::Restarts,
    tags::Generation,
};

/// How long a record lives: what depends on it is loaded anew then.
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long whoever makes a record may take.
const LEASE: Duration = Duration::from_secs(1);
/// How long to wait for another who makes it, and how often.
const PAUSE: Duration = Duration::from_millis(3);
const TRIES: usize = 40;
/// After how many it is taken for gone.
const PATIENCE: usize = 8;

impl L2 {
    /// The generations under these keys; those that are missing are made.
    pub(crate) async fn generations(
        &self,
        keys: &[Vec<u8>],
        budget: &mut Budget,
    ) -> Result<Vec<Generation>, TierError> {
        let wanted: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let get = async {
            let found = self.tier.get_many(&wanted).await;
            let known = wanted.iter().zip(found).map(async |(key, found)| {
                match found?.as_ref().and_then(|found| self.read(found)) {
                    Some(generation) => Ok(generation),
                    None => self.make(key).await,
                }
            });
            // All that are missing at once: an entry has few tags, and one budget for them.
            let generations = try_join_all(known).await?;
            match generations.len() == wanted.len() {
                true => Ok(generations),
                false => Err(TierError::Protocol("another number of answers than of keys".into())),
            }
        };
        self.run(Op::Tag, budget, get, |_| OpResult::Ok).await
    }

    /// Whether what is read may be a copy, older than what was changed by others since.
    pub(crate) fn copies(&self) -> bool {
        self.tier.abilities().copies
    }

    /// The generation under a key, as it is now.
    pub(crate) async fn generation(
        &self,
        key: &[u8],
        budget: &mut Budget,
    ) -> Result<Generation, TierError> {
        let get = async {
            if self.copies() {
                // Who grants a lease has the original.
                return self.make(key).await;
            }
            match self.tier.get(key).await?.as_ref().and_then(|found| self.read(found)) {
                Some(generation) => Ok(generation),
                None => self.make(key).await,
            }
        };
        self.run(Op::Tag, budget, get, |_| OpResult::Ok).await
    }

    /// Puts another generation under a key. Of two at once one stays, and neither is the old one.
    pub(crate) async fn new_generation(
        &self,
        key: &[u8],
        budget: &mut Budget,
    ) -> Result<(), TierError> {
        let set = async {
            // Asked before: a record of an earlier run is no record.
            let run = self.tier.incarnation(key).await?;
            self.tier.set(key, record(&LeaseToken::random(), run), LIFE).await.map(drop)
        };
        self.run(Op::Tag, budget, set, |()| OpResult::Ok).await
    }

    /// Makes the generation under a key, unless it is there, or somebody else does meanwhile.
    async fn make(&self, key: &[u8]) -> Result<Generation, TierError> {
        for attempt in 0..TRIES {
            let run = self.tier.incarnation(key).await?;
            let token = LeaseToken::random();
            let claim = if attempt < PATIENCE { Claim::IfFree } else { Claim::ByForce };
            let lease = self.tier.lease(key, token, LEASE, claim).await?;
            let (Lease::Granted(found) | Lease::Held(found)) = &lease else {
                return Err(TierError::Protocol("a writer holds a tag".into()));
            };
            if let Some(generation) = found.as_ref().and_then(|found| self.read(found)) {
                if matches!(lease, Lease::Granted(_)) {
                    self.tier.release(key, token).await?;
                }
                return Ok(generation);
            }
            if matches!(lease, Lease::Granted(_)) {
                let generation = LeaseToken::random();
                let bytes = record(&generation, run);
                if self.tier.fill(key, token, bytes, LIFE).await? == tiered_tiers::Fill::Stored {
                    return Ok(*generation.as_bytes());
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(TierError::Timeout)
    }

    /// The generation in a record, if it is one and of the run of the server that has it. With [`Restarts::Warm`] of
    /// any run: what an earlier one has left is believed in part, and what it depends on says no less than that.
    fn read(&self, found: &Found) -> Option<Generation> {
        let (generation, run) = found.bytes.split_first_chunk::<16>()?;
        let run = u64::from_le_bytes(run.try_into().ok()?);
        let run = (run != 0).then(|| Incarnation::new(run));
        let present = if self.restarts == Restarts::Warm { run } else { found.incarnation };
        protocol::Generation::new(*generation, run).in_run(present)
    }
}

fn record(generation: &LeaseToken, run: Option<Incarnation>) -> Bytes {
    let run = run.map_or(0, Incarnation::get);
    [generation.as_bytes().as_slice(), &run.to_le_bytes()].concat().into()
}
