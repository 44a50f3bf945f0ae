//! The conformance suite of L2 under test itself: each fault of a tier's renewals and holds is found.
//!
//! The broken tier is made of two: one that has the values and leases, and one whose holds alone are used. Put together
//! rightly they conform; each fault is one wrong joint.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, Found, HoldEnd, Lease, LeaseToken, Memory, Progress, RemoteTier, TierError,
    testing::remote_tier_conforms,
};

const LIFE: Duration = Duration::from_secs(600);

macro_rules! faults {
    ($($fault:ident),+ $(,)?) => {
        /// What a tier can do wrong with those who write.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Fault {
            $($fault),+
        }

        const FAULTS: [Fault; 33] = [$($fault),+];
    };
}

use Fault::*;

faults! {
    RenewTakes,
    RenewTakesByForce,
    RenewBringsBack,
    RenewDoesNothing,
    OneSlot,
    HoldKeepsTheLease,
    HoldKeepsTheValue,
    HoldsForEver,
    HoldIsNotRenewed,
    RenewalForgetsOthers,
    HoldsMoreThanTheKey,
    LeaseIgnoresHolds,
    ForceIgnoresHolds,
    SetIgnoresHolds,
    DeleteEndsHolds,
    ClearEndsHolds,
    EndOpensUnderAnother,
    EndKeepsTheValue,
    EndKeepsTheLease,
    EndGrantsNothing,
    EndGrantsOverlapped,
    LostIsAlone,
    OverlappedIsAlone,
    ForgetsThoseThatEnded,
    ForgetsDeletes,
    ForgetsSets,
    ForgetsClears,
    ForgetsLostEnds,
    RenewalBegins,
    RenewalOfNoneIsTrue,
    RenewalOfNoneDoesNothing,
    RenewalIsAnother,
    RenewalKeepsTheValue,
}

/// A tier with one fault, or none.
#[derive(Debug)]
struct Broken {
    values: Memory,
    holds: Memory,
    fault: Option<Fault>,
    /// The token of each key's last lease, and of its holds.
    tokens: Mutex<HashMap<Vec<u8>, Tokens>>,
}

type Tokens = (Option<LeaseToken>, Vec<LeaseToken>);

impl Broken {
    fn new(fault: Option<Fault>) -> Self {
        let (values, holds) = (Memory::new(), Memory::new());
        Self { values, holds, fault, tokens: Mutex::default() }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn last_lease(&self, key: &[u8]) -> Option<LeaseToken> {
        self.tokens.lock().unwrap().get(key).and_then(|(lease, _)| *lease)
    }

    fn taken(&self, key: &[u8], token: LeaseToken) {
        self.tokens.lock().unwrap().entry(key.to_vec()).or_default().0 = Some(token);
    }

    fn holders(&self, key: &[u8]) -> Vec<LeaseToken> {
        self.tokens.lock().unwrap().get(key).map(|(_, holds)| holds.clone()).unwrap_or_default()
    }

    /// The key that its holds are under.
    fn place<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        if self.has(HoldsMoreThanTheKey) { &key[..key.len().min(1)] } else { key }
    }

    async fn is_on_hold(&self, key: &[u8]) -> bool {
        let (key, token) = (self.place(key), LeaseToken::random());
        let lease = self.holds.lease(key, token, LIFE, Claim::ByForce).await;
        self.holds.release(key, token).await.unwrap();
        lease == Ok(Lease::OnHold)
    }

    async fn end_all(&self, key: &[u8]) {
        for token in self.holders(key) {
            self.holds.end_hold(self.place(key), token, None).await.unwrap();
        }
    }

    /// Drops the value and the lease, but what this tier keeps by mistake.
    async fn drop_both(&self, key: &[u8], keeps_value: bool, keeps_lease: bool) {
        let found = self.values.get(key).await.unwrap().filter(|_| keeps_value);
        let lease = self.last_lease(key).filter(|_| keeps_lease);
        let stands = match lease {
            Some(token) => self.values.renew(key, token, LIFE).await.unwrap(),
            None => false,
        };
        self.values.delete(key).await.unwrap();
        if let Some(found) = found {
            self.values.set(key, found.bytes, LIFE).await.unwrap();
        }
        if let Some(token) = lease.filter(|_| stands) {
            self.values.lease(key, token, LIFE, Claim::ByForce).await.unwrap();
        }
    }
}

#[async_trait]
impl RemoteTier for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        self.values.get(key).await
    }

    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        let by_force = claim == Claim::ByForce;
        let ignores = self.has(if by_force { ForceIgnoresHolds } else { LeaseIgnoresHolds });
        if self.is_on_hold(key).await && !ignores {
            return Ok(Lease::OnHold);
        }
        let lease = self.values.lease(key, token, life, claim).await?;
        if matches!(lease, Lease::Granted(_)) {
            self.taken(key, token);
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
        self.values.fill(key, token, bytes, life).await
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        self.values.release(key, token).await
    }

    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        let claim = match self.fault {
            Some(RenewTakes) => Claim::IfFree,
            Some(RenewTakesByForce) => Claim::ByForce,
            // Says rightly that it was gone.
            Some(RenewBringsBack) if self.last_lease(key) == Some(token) => {
                let stood = self.values.renew(key, token, life).await?;
                self.values.lease(key, token, life, Claim::IfFree).await?;
                return Ok(stood);
            }
            Some(RenewDoesNothing) => {
                let before =
                    self.values.lease(key, token, Duration::from_millis(200), Claim::IfFree);
                return Ok(matches!(before.await?, Lease::Granted(_)));
            }
            _ => return self.values.renew(key, token, life).await,
        };
        Ok(matches!(self.values.lease(key, token, life, claim).await?, Lease::Granted(_)))
    }

    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        self.drop_both(key, self.has(HoldKeepsTheValue), self.has(HoldKeepsTheLease)).await;
        if self.has(OneSlot) {
            self.end_all(key).await;
        }
        self.tokens.lock().unwrap().entry(key.to_vec()).or_default().1.push(token);
        let life = if self.has(HoldsForEver) { LIFE } else { life };
        self.holds.hold(self.place(key), token, life).await
    }

    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.drop_both(key, self.has(RenewalKeepsTheValue), false).await;
        let place = self.place(key);
        match self.fault {
            Some(HoldIsNotRenewed) => return Ok(self.holders(key).contains(&token)),
            Some(RenewalForgetsOthers) => {
                self.end_all(key).await;
                self.holds.hold(place, token, life).await?;
                return Ok(true);
            }
            // As a second `hold` would: it tells what stood, but one that was gone begins anew.
            Some(RenewalBegins) => {
                let short = Duration::from_millis(1);
                let stood = self.holds.renew_hold(place, token, short).await?;
                if !stood {
                    self.holds.end_hold(place, token, None).await?;
                }
                self.holds.hold(place, token, life).await?;
                return Ok(stood);
            }
            // It was there all the time, so to say, and another came.
            Some(RenewalIsAnother) => self.holds.delete(place).await?,
            _ => {}
        }
        let stood = self.holds.renew_hold(place, token, life).await?;
        if !stood && self.has(RenewalOfNoneDoesNothing) {
            self.holds.end_hold(place, token, None).await?;
        } else {
            self.tokens.lock().unwrap().entry(key.to_vec()).or_default().1.push(token);
        }
        Ok(stood || self.has(RenewalOfNoneIsTrue))
    }

    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        self.drop_both(key, self.has(EndKeepsTheValue), self.has(EndKeepsTheLease)).await;
        if self.has(ForgetsLostEnds) && !self.holders(key).contains(&token) {
            return Ok(HoldEnd::Lost);
        }
        let mut end = self.holds.end_hold(self.place(key), token, None).await?;
        if self.has(EndOpensUnderAnother) && end != HoldEnd::Lost {
            self.end_all(key).await;
        }
        match (end, self.fault) {
            (HoldEnd::Lost, Some(LostIsAlone)) => end = HoldEnd::Alone,
            (HoldEnd::Overlapped, Some(OverlappedIsAlone)) => end = HoldEnd::Alone,
            // It looks at who stands now, and not at who stood.
            (HoldEnd::Overlapped, Some(ForgetsThoseThatEnded)) if !self.is_on_hold(key).await => {
                end = HoldEnd::Alone;
            }
            _ => {}
        }
        let grants = match end {
            HoldEnd::Alone => !self.has(EndGrantsNothing),
            HoldEnd::Overlapped => self.has(EndGrantsOverlapped) && !self.is_on_hold(key).await,
            HoldEnd::Lost => false,
        };
        if let Some((token, life)) = lease.filter(|_| grants) {
            self.values.lease(key, token, life, Claim::ByForce).await?;
            self.taken(key, token);
        }
        Ok(end)
    }

    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        if !self.has(ForgetsSets) {
            self.holds.delete(self.place(key)).await?;
        }
        if self.is_on_hold(key).await && !self.has(SetIgnoresHolds) {
            self.values.delete(key).await?;
            return Ok(Fill::Refused);
        }
        self.values.set(key, bytes, life).await
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        if self.has(DeleteEndsHolds) {
            self.end_all(key).await;
        }
        if !self.has(ForgetsDeletes) {
            self.holds.delete(self.place(key)).await?;
        }
        self.values.delete(key).await
    }

    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        if self.has(ClearEndsHolds) {
            let keys: Vec<Vec<u8>> = self.tokens.lock().unwrap().keys().cloned().collect();
            for key in keys.iter().filter(|key| key.starts_with(prefix)) {
                self.end_all(key).await;
            }
        }
        if !self.has(ForgetsClears) {
            self.holds.clear(prefix, &|_| {}).await?;
        }
        self.values.clear(prefix, progress).await
    }

    async fn ping(&self) -> Result<(), TierError> {
        self.values.ping().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_finds_every_fault_of_an_l2s_holds() {
    let faults = FAULTS.map(Some).into_iter().chain([None]);
    let runs = faults
        .map(|fault| (fault, tokio::spawn(remote_tier_conforms(Arc::new(Broken::new(fault))))));
    for (fault, run) in runs.collect::<Vec<_>>() {
        assert_eq!(run.await.is_err(), fault.is_some(), "{fault:?}");
    }
}
