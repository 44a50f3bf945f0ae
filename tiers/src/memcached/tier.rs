//! The contract's operations, in the words of the protocol.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{join, join_all};

use super::{
    Memcached,
    batch::{self, Entry},
    exchange::{self, Answer, Command},
    is_too_large,
    key::Spelling,
    leases::{self, Held},
    options,
    pool::Asked,
};
use crate::{
    Abilities, Claim, ConfigError, Fill, Found, HoldEnd, Lease, LeaseToken, Progress, RemoteTier,
    TierError,
};

#[async_trait]
impl RemoteTier for Memcached {
    fn name(&self) -> &'static str {
        "memcached"
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        let key = Spelling::of(key);
        let Asked { answers, .. } = self.ask(self.servers.of(&key), &[Command::look(&key)]).await?;
        Ok(answers.into_iter().next().ok_or_else(exchange::missing)?.found())
    }

    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        let key = Spelling::of(key);
        let seconds = leases::seconds(life);
        let server = self.servers.of(&key);
        let mut commands = Vec::with_capacity(4);
        commands.push(Command::claim(&key, token, seconds, claim));
        if claim == Claim::ByForce {
            // The value stays, under another number. After the claim: whoever had the lease before has read
            // the old number.
            commands.push(Command::renumber(&key));
        }
        commands.push(Command::look_or_stub(&key, seconds));
        // Last: whose token stands here has read its number before anybody else's claim. It may have been
        // this one's before.
        commands.push(Command::look_at_lease(&key));
        let looks = commands.len();
        // After the claim: of a hold that comes later the claim falls.
        commands.extend(Command::look_for_holds(&key));
        let Asked { mut answers, origin } = self.ask(server, &commands).await?;
        let is_on_hold = answers.drain(looks..).any(|look| look.is_there());
        let mut answers = answers.into_iter().rev();
        let lease = answers.next().ok_or_else(exchange::missing)?;
        let value = answers.next().ok_or_else(exchange::missing)?;
        if is_on_hold {
            if lease.is_token(token) {
                self.give_up(server, &key, &lease).await;
            }
            return Ok(Lease::OnHold);
        }
        let numbers = lease.cas.zip(value.cas);
        let found = value.found();
        match numbers {
            Some((lease_cas, value_cas)) if lease.is_token(token) => {
                let lease_cas = Some(lease_cas);
                let held = Held { origin, life, server, lease_cas, value_cas };
                self.leases.remember(token, &key, held);
                Ok(Lease::Granted(found))
            }
            // Or evicted between two commands, perhaps: then nobody loads for a moment.
            _ if lease.is_some_mark() => {
                // Of a hold that was evicted. Of one that is just beginning it goes too, which that one sees.
                self.give_up(server, &key, &lease).await;
                Ok(Lease::Held(found))
            }
            _ => Ok(Lease::Held(found)),
        }
    }

    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        let key = Spelling::of(key);
        let Some(held) = self.leases.take(token, &key) else { return Ok(Fill::Refused) };
        let Some(seconds) = self.storable(&bytes, life) else {
            self.release_held(&key, token, &held).await?;
            return Ok(Fill::Skipped);
        };
        match self.fill_held(&key, token, &held, bytes, seconds).await {
            Err(error) if is_too_large(&error) => Ok(Fill::Skipped),
            filled => filled,
        }
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        let key = Spelling::of(key);
        let Some(held) = self.leases.take(token, &key) else { return Ok(()) };
        self.release_held(&key, token, &held).await
    }

    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.renew_held(&Spelling::of(key), token, life).await
    }

    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        self.hold_key(&Spelling::of(key), token, life, true).await.map(drop)
    }

    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.hold_key(&Spelling::of(key), token, life, false).await
    }

    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        self.end_hold_of(&Spelling::of(key), token, lease).await
    }

    /// Two round trips: the value goes and a stub takes its place, then the fill. It is tried again if
    /// somebody else's fill or write came between, within the time of one call.
    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        let Some(seconds) = self.storable(&bytes, life) else {
            self.delete(key).await?;
            return Ok(Fill::Skipped);
        };
        self.set_one(&Spelling::of(key), bytes, seconds, self.budget()).await
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        let key = Spelling::of(key);
        self.ask(self.servers.of(&key), &Command::drop_both(&key)).await.map(drop)
    }

    async fn get_many(&self, keys: &[&[u8]]) -> Vec<Result<Option<Found>, TierError>> {
        let answers = self.ask_all(keys, self.budget(), |key| vec![Command::look(key)]).await;
        let found = |answers: Vec<Answer>| {
            Ok(answers.into_iter().next().ok_or_else(exchange::missing)?.found())
        };
        answers.into_iter().map(|answers| answers.and_then(found)).collect()
    }

    async fn set_many(&self, entries: &[(&[u8], Bytes, Duration)]) -> Vec<Result<Fill, TierError>> {
        let (mut kept, mut unkept) = (Vec::new(), Vec::new());
        for (place, (key, bytes, life)) in entries.iter().enumerate() {
            match self.storable(bytes, *life) {
                Some(seconds) => {
                    kept.push(Entry { place, key: Spelling::of(key), bytes, seconds });
                }
                None => unkept.push((place, *key)),
            }
        }
        let dropped: Vec<&[u8]> = unkept.iter().map(|(_, key)| *key).collect();
        let set = self.set_all(kept, self.budget());
        let (stored, dropped) = join(set, self.delete_many(&dropped)).await;
        let skipped =
            |((place, _), dropped): (_, Result<(), _>)| (place, dropped.map(|()| Fill::Skipped));
        let skipped = unkept.into_iter().zip(dropped).map(skipped).collect();
        batch::in_place(entries.len(), [stored, skipped])
    }

    async fn delete_many(&self, keys: &[&[u8]]) -> Vec<Result<(), TierError>> {
        let both = |key: &Spelling| Command::drop_both(key).into();
        let answers = self.ask_all(keys, self.budget(), both).await;
        answers.into_iter().map(|answers| answers.map(drop)).collect()
    }

    async fn clear(&self, _: &[u8], _: Progress<'_>) -> Result<(), TierError> {
        Err(TierError::Unsupported("memcached knows no prefixes".into()))
    }

    async fn ping(&self) -> Result<(), TierError> {
        let commands = [Command::noop()];
        let asked = (0..self.servers.len()).map(|server| self.ask(server, &commands));
        join_all(asked).await.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            clears: false,
            tick: Duration::from_secs(1),
            shortest_life: Duration::from_secs(options::SHORTEST),
            longest_life: Duration::from_secs(options::LONGEST),
            longest_value: self.options.max_value_bytes,
            // A memcached that starts again is empty.
            tells_runs: false,
            copies: false,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.options.check()
    }
}
