//! The conformance suite of L2 under test itself: each fault of a tier's batches, and of its progress, is found. Those of
//! its holds are in `broken_holds.rs`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tiered_tiers::{
    Abilities, Claim, Fill, Found, HoldEnd, Lease, LeaseToken, Memory, Progress, RemoteTier,
    TierError, testing::remote_tier_conforms,
};

/// What a tier can do wrong with several keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    AnswersInAnotherOrder,
    LeavesTheAbsentOut,
    AnswersTheSameKeyOnce,
    ReadsTheFirstOnly,
    SparesTheLeased,
    DeletesTheFirstOnly,
    SetsUnderTheLease,
    StopsAfterSome,
    KeepsTheOldOfTheUnkept,
    TellsOfLeases,
    TellsOfNothing,
    TellsTwice,
}

const FAULTS: [Fault; 12] = [
    Fault::AnswersInAnotherOrder,
    Fault::LeavesTheAbsentOut,
    Fault::AnswersTheSameKeyOnce,
    Fault::ReadsTheFirstOnly,
    Fault::SparesTheLeased,
    Fault::DeletesTheFirstOnly,
    Fault::SetsUnderTheLease,
    Fault::StopsAfterSome,
    Fault::KeepsTheOldOfTheUnkept,
    Fault::TellsOfLeases,
    Fault::TellsOfNothing,
    Fault::TellsTwice,
];

/// The longest value of this tier.
const LONGEST: usize = 1_000_000;

/// A tier with one fault, or none.
#[derive(Debug)]
struct Broken {
    inner: Memory,
    fault: Option<Fault>,
}

impl Broken {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

#[async_trait]
impl RemoteTier for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        self.inner.get(key).await
    }

    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        self.inner.lease(key, token, life, claim).await
    }

    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        if bytes.len() <= LONGEST {
            return self.inner.fill(key, token, bytes, life).await;
        }
        match self.inner.fill(key, token, Bytes::new(), Duration::ZERO).await? {
            Fill::Stored => Ok(Fill::Skipped),
            refused => Ok(refused),
        }
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        self.inner.release(key, token).await
    }

    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.inner.renew(key, token, life).await
    }

    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        self.inner.hold(key, token, life).await
    }

    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.inner.renew_hold(key, token, life).await
    }

    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        self.inner.end_hold(key, token, lease).await
    }

    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        if bytes.len() <= LONGEST {
            return self.inner.set(key, bytes, life).await;
        }
        self.inner.delete(key).await?;
        Ok(Fill::Skipped)
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        self.inner.delete(key).await
    }

    async fn get_many(&self, keys: &[&[u8]]) -> Vec<Result<Option<Found>, TierError>> {
        let (mut found, mut seen) = (Vec::new(), Vec::new());
        for key in keys {
            let again = seen.contains(key);
            seen.push(*key);
            match self.get(key).await {
                Ok(None) if self.has(Fault::LeavesTheAbsentOut) => {}
                _ if again && self.has(Fault::AnswersTheSameKeyOnce) => found.push(Ok(None)),
                _ if found.len() >= 256 && self.has(Fault::ReadsTheFirstOnly) => {
                    found.push(Ok(None));
                }
                answer => found.push(answer),
            }
        }
        if self.has(Fault::AnswersInAnotherOrder) {
            found.reverse();
        }
        found
    }

    async fn set_many(&self, entries: &[(&[u8], Bytes, Duration)]) -> Vec<Result<Fill, TierError>> {
        let mut set = Vec::new();
        for (key, bytes, life) in entries {
            if set.len() >= 256 && self.has(Fault::StopsAfterSome) {
                set.push(Ok(Fill::Stored));
                continue;
            }
            let token = LeaseToken::random();
            if bytes.len() > LONGEST && self.has(Fault::KeepsTheOldOfTheUnkept) {
                set.push(Ok(Fill::Skipped));
            } else if self.has(Fault::SetsUnderTheLease) && *key == b"s1" {
                // It leaves a lease of its own behind.
                let stored = self.set(key, bytes.clone(), *life).await;
                let _ = self.lease(key, token, *life, Claim::ByForce).await;
                set.push(stored);
            } else {
                set.push(self.set(key, bytes.clone(), *life).await);
            }
        }
        set
    }

    async fn delete_many(&self, keys: &[&[u8]]) -> Vec<Result<(), TierError>> {
        for (number, key) in keys.iter().enumerate() {
            if self.has(Fault::SparesTheLeased) {
                let (token, life) = (LeaseToken::random(), Duration::from_secs(1));
                let lease = self.inner.lease(key, token, life, Claim::IfFree).await;
                if !matches!(lease, Ok(Lease::Held(_))) {
                    let _ = self.inner.delete(key).await;
                }
            } else if number < 256 || !self.has(Fault::DeletesTheFirstOnly) {
                let _ = self.inner.delete(key).await;
            }
        }
        keys.iter().map(|_| Ok(())).collect()
    }

    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        if self.has(Fault::TellsOfLeases) {
            progress(1);
        }
        let tell = |step| match self.fault {
            Some(Fault::TellsOfNothing) => {}
            Some(Fault::TellsTwice) => progress(step * 2),
            _ => progress(step),
        };
        self.inner.clear(prefix, &tell).await
    }

    async fn ping(&self) -> Result<(), TierError> {
        self.inner.ping().await
    }

    fn abilities(&self) -> Abilities {
        let mut abilities = self.inner.abilities();
        abilities.longest_value = LONGEST;
        abilities
    }
}

#[tokio::test]
async fn the_suite_finds_every_fault_of_an_l2s_batches() {
    let faults = FAULTS.map(Some).into_iter().chain([None]);
    let runs = faults.map(|fault| {
        let tier = Broken { inner: Memory::new(), fault };
        (fault, tokio::spawn(remote_tier_conforms(Arc::new(tier))))
    });
    for (fault, run) in runs.collect::<Vec<_>>() {
        assert_eq!(run.await.is_err(), fault.is_some(), "{fault:?}");
    }
}
