//! The fill of a lease, its end without one, and its renewal.
//!
//! In one round trip on a connection from before the lease: the number that was read with it is compared.
//! Where there is none, or the number is another, the token that still stands is the proof; see the module
//! above for why it is one.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    ATTEMPTS, Memcached,
    exchange::{self, Answer, Command},
    key::Spelling,
    leases::{self, Held},
    pool,
};
use crate::{Fill, LeaseToken, TierError};

impl Memcached {
    pub(super) async fn fill_held(
        &self,
        key: &Spelling,
        token: LeaseToken,
        held: &Held,
        bytes: Bytes,
        seconds: u32,
    ) -> Result<Fill, TierError> {
        let pools = self.pools()?;
        let (pool, mut budget) = (pool(&pools, held.server)?, self.budget());
        let number = Command::number_or_stub(key, self.stub());
        if let Some(lease_cas) = held.lease_cas
            && let Some(mut lent) = pool.lend_as_of(&held.origin, &budget).await?
        {
            let fill = Command::fill(key, held.value_cas, bytes.clone(), seconds);
            let commands = [fill, number, Command::release(key, lease_cas)];
            let answers = lent.ask(&budget, &commands).await?;
            let [filled, number, released] = exactly(answers)?;
            if filled.is_done() || !released.is_done() {
                lent.give_back();
                return Ok(if filled.is_done() { Fill::Stored } else { Fill::Refused });
            }
            // The old value's life has ended meanwhile, or another who came by force has lost.
            let fill = Command::fill(key, of(&number)?, bytes, seconds);
            let [filled] = exactly(lent.ask(&budget, &[fill]).await?)?;
            lent.give_back();
            return if filled.is_done() { Ok(Fill::Stored) } else { Err(unfenced()) };
        }
        for _ in 0..ATTEMPTS {
            let mut lent = pool.lend(&mut budget).await?;
            let commands = [number.clone(), Command::look_at_lease(key)];
            let [number, lease] = exactly(lent.ask(&budget, &commands).await?)?;
            if !lease.is_token(token) {
                lent.give_back();
                // Evicted, and nothing tells whether what is there was changed since.
                let is_open = lease.value.is_none()
                    && number.is_value()
                    && number.cas == Some(held.value_cas);
                return if is_open { Err(unfenced()) } else { Ok(Fill::Refused) };
            }
            let fill = Command::fill(key, of(&number)?, bytes.clone(), seconds);
            let mut commands = vec![fill];
            commands.extend(lease.cas.map(|cas| Command::release(key, cas)));
            let filled = lent.ask(&budget, &commands).await?;
            lent.give_back();
            if filled.first().is_some_and(Answer::is_done) {
                return Ok(Fill::Stored);
            }
        }
        Err(unfenced())
    }

    pub(super) async fn release_held(
        &self,
        key: &Spelling,
        token: LeaseToken,
        held: &Held,
    ) -> Result<(), TierError> {
        let pools = self.pools()?;
        let (pool, mut budget) = (pool(&pools, held.server)?, self.budget());
        if let Some(lease_cas) = held.lease_cas
            && let Some(mut lent) = pool.lend_as_of(&held.origin, &budget).await?
        {
            lent.ask(&budget, &[Command::release(key, lease_cas)]).await?;
            lent.give_back();
            return Ok(());
        }
        let mut lent = pool.lend(&mut budget).await?;
        let [lease] = exactly(lent.ask(&budget, &[Command::look_at_lease(key)]).await?)?;
        if let (Some(cas), true) = (lease.cas, lease.is_token(token)) {
            lent.ask(&budget, &[Command::release(key, cas)]).await?;
        }
        lent.give_back();
        Ok(())
    }

    /// Stores the token anew, for longer, under the number that its item has; never where there is none. The number
    /// comes from this connection, or from the lease by one of before it: a server that restarted counts anew.
    pub(super) async fn renew_held(
        &self,
        key: &Spelling,
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        let Some(held) = self.leases.renewing(token, key) else { return Ok(false) };
        let pools = self.pools()?;
        let (pool, mut budget) = (pool(&pools, held.server)?, self.budget());
        let (asked, seconds) = (Instant::now(), leases::seconds(life));
        let renewed = |answer: Answer| {
            self.leases.renewed(token, key, (asked, life), answer.cas);
            Ok(true)
        };
        if let Some(cas) = held.lease_cas
            && let Some(mut lent) = pool.lend_as_of(&held.origin, &budget).await?
        {
            let commands = [Command::renew(key, token, seconds, cas)];
            let [answer] = exactly(lent.ask(&budget, &commands).await?)?;
            lent.give_back();
            return if answer.is_done() { renewed(answer) } else { Ok(false) };
        }
        for _ in 0..ATTEMPTS {
            let mut lent = pool.lend(&mut budget).await?;
            let [lease] = exactly(lent.ask(&budget, &[Command::look_at_lease(key)]).await?)?;
            let (true, Some(cas)) = (lease.is_token(token), lease.cas) else {
                lent.give_back();
                return Ok(false);
            };
            let commands = [Command::renew(key, token, seconds, cas)];
            let [answer] = exactly(lent.ask(&budget, &commands).await?)?;
            lent.give_back();
            if answer.is_done() {
                return renewed(answer);
            }
            // An earlier renewal was late, or it was dropped: look again.
        }
        Ok(false)
    }
}

/// The answers, one to each command.
pub(super) fn exactly<const N: usize>(answers: Vec<Answer>) -> Result<[Answer; N], TierError> {
    answers.try_into().map_err(|_| exchange::missing())
}

fn of(number: &Answer) -> Result<u64, TierError> {
    number.cas.ok_or_else(exchange::missing)
}

/// Nobody has overtaken this fill, as far as can be told, and it cannot be stored.
fn unfenced() -> TierError {
    TierError::Unreachable("nothing is left that could fence this fill".into())
}
