//! The contract's operations, in the words of the protocol.

use std::time::Duration;

use ::redis::{Pipeline, Value, cmd};
use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Redis, batch,
    budget::Budget,
    clear::{self, Line},
    cluster::{Moving, is_moving},
    connection::Request,
    endpoint::Endpoint,
    exchange::{Answer, Repeat},
    handed_in::LeadsTo,
    reply,
    script::{
        DISPLACE, END_HOLD, FILL, HOLD, Hold, LEASE, RELEASE, RENEW, holds_key, lease_key, millis,
    },
    servers::Servers,
};
use crate::{
    Abilities, Claim, ConfigError, Fill, Found, HoldEnd, Incarnation, Lease, LeaseToken, Progress,
    RemoteTier, TierError, protocol::Granted,
};

impl Redis {
    fn budget(&self) -> Budget {
        Budget::new(&self.options)
    }

    /// Passes an outcome on. An answer of an unexpected form was one to another request.
    pub(super) fn judged<R>(&self, outcome: Result<R, TierError>) -> Result<R, TierError> {
        if matches!(outcome, Err(TierError::Protocol(_))) {
            self.distrust();
        }
        outcome
    }

    /// The fill, on what is left of the budget.
    async fn fill_within(
        &self,
        servers: &Servers,
        key: &[u8],
        token: LeaseToken,
        bytes: &[u8],
        life: Duration,
        budget: &mut Budget,
    ) -> Result<Fill, TierError> {
        let (lease, written) = (lease_key(key), millis(life));
        let arguments: [&[u8]; 3] = [token.as_bytes(), bytes, written.as_bytes()];
        let mut tries = 0;
        loop {
            let keys = [key, &lease];
            let answer = servers.run(&FILL, &keys, &arguments, Repeat::Never, budget).await;
            if is_moving(&answer)
                && let Servers::Cluster(cluster) = servers
            {
                let moving = Moving::new(cluster, key);
                if let Some(fill) = moving.fill(token, bytes, life, tries, budget).await? {
                    return Ok(fill);
                }
                tries += 1;
                continue;
            }
            return Ok(match self.judged(reply::integer(answer?.value))? {
                0 => Fill::Refused,
                _ => Fill::Stored,
            });
        }
    }

    /// Drops the value and takes the lease by force, under a token that nobody had before; `None` on a key that a
    /// writer holds.
    ///
    /// Each attempt has a token of its own: a late copy of a failed one must not put the token of
    /// the one that is filled with back in place.
    async fn displace(
        &self,
        servers: &Servers,
        key: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<LeaseToken>, TierError> {
        // As long as the fill may be on its way; a `set` that fails halfway holds others up so long.
        let life = millis(self.options.response_timeout.saturating_mul(2));
        let (lease, holds) = (lease_key(key), holds_key(key));
        let tries = if matches!(servers, Servers::HandedIn(_)) { 1 } else { 2 };
        let mut attempts = 0;
        loop {
            let token = LeaseToken::random();
            let arguments: [&[u8]; 2] = [token.as_bytes(), life.as_bytes()];
            attempts += 1;
            let keys = [key, &lease, &holds];
            let answer = servers.run(&DISPLACE, &keys, &arguments, Repeat::Never, budget).await;
            match answer {
                Err(TierError::Unreachable(_)) if attempts < tries => {}
                answer => {
                    if is_moving(&answer)
                        && let Servers::Cluster(cluster) = servers
                    {
                        let moving = Moving::new(cluster, key);
                        let is_taken = moving.displace(token, &life, budget).await?;
                        return Ok(is_taken.then_some(token));
                    }
                    let is_taken = self.judged(answer.and_then(Answer::integer))? != 0;
                    return Ok(is_taken.then_some(token));
                }
            }
        }
    }

    /// Never repeated: neither may a second copy begin a hold that is over, nor hide that it was gone.
    async fn hold_for(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        hold: Hold,
    ) -> Result<bool, TierError> {
        let (servers, mut budget) = (self.servers()?, self.budget());
        let (lease, holds, life) = (lease_key(key), holds_key(key), millis(life));
        let arguments: [&[u8]; 3] = [token.as_bytes(), life.as_bytes(), hold.word()];
        let keys: [&[u8]; 3] = [&holds, key, &lease];
        let answer = servers.run(&HOLD, &keys, &arguments, Repeat::Never, &mut budget).await;
        if is_moving(&answer)
            && let Servers::Cluster(cluster) = &*servers
        {
            return Moving::new(cluster, key).hold(token, &life, hold, &mut budget).await;
        }
        self.judged(answer.and_then(Answer::integer)).map(|stood| stood != 0)
    }

    async fn get_within(
        &self,
        servers: &Servers,
        key: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<Found>, TierError> {
        let mut both = Pipeline::with_capacity(2);
        both.cmd("PTTL").arg(key).cmd("GET").arg(key);
        let answer = servers.ask(key, &Request::Several(both), Repeat::Once, budget).await?;
        let found = reply::array(answer.value)
            .and_then(|[pttl, value]| reply::found(pttl, value, answer.run));
        self.judged(found)
    }
}

#[async_trait]
impl RemoteTier for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        self.get_within(&*self.servers()?, key, &mut self.budget()).await
    }

    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        let (servers, mut budget) = (self.servers()?, self.budget());
        let (lease, holds, life) = (lease_key(key), holds_key(key), millis(life));
        let by_force = claim == Claim::ByForce;
        let force: &[u8] = if by_force { b"1" } else { b"0" };
        let arguments: [&[u8]; 3] = [token.as_bytes(), life.as_bytes(), force];
        let keys = [key, &lease, &holds];
        let answer = servers.run(&LEASE, &keys, &arguments, Repeat::Never, &mut budget).await;
        if is_moving(&answer)
            && let Servers::Cluster(cluster) = &*servers
        {
            let moving = Moving::new(cluster, key);
            let granted = moving.take(token, &life, by_force, &mut budget).await?;
            if granted == Granted::OnHold {
                return Ok(Lease::OnHold);
            }
            let found = self.get_within(&servers, key, &mut budget).await?;
            let is_granted = granted == Granted::Yes;
            return Ok(if is_granted { Lease::Granted(found) } else { Lease::Held(found) });
        }
        let answer = answer?;
        self.judged(reply::lease(answer.value, answer.run))
    }

    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        let servers = self.servers()?;
        self.fill_within(&servers, key, token, &bytes, life, &mut self.budget()).await
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        let (arguments, lease): ([&[u8]; 1], _) = ([token.as_bytes()], lease_key(key));
        let servers = self.servers()?;
        let budget = &mut self.budget();
        servers.run(&RELEASE, &[&lease], &arguments, Repeat::Once, budget).await.map(drop)
    }

    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        let (lease, life) = (lease_key(key), millis(life));
        let arguments: [&[u8]; 2] = [token.as_bytes(), life.as_bytes()];
        let (servers, mut budget) = (self.servers()?, self.budget());
        let answer = servers.run(&RENEW, &[&lease], &arguments, Repeat::Once, &mut budget).await;
        self.judged(answer.and_then(Answer::integer)).map(|stands| stands != 0)
    }

    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        self.hold_for(key, token, life, Hold::Begins).await.map(drop)
    }

    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.hold_for(key, token, life, Hold::Renewed).await
    }

    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        let (servers, mut budget) = (self.servers()?, self.budget());
        let lease = lease.map(|(token, life)| (token, millis(life)));
        let mut arguments: Vec<&[u8]> = vec![token.as_bytes()];
        if let Some((token, life)) = &lease {
            arguments.extend([token.as_bytes().as_slice(), life.as_bytes()]);
        }
        let (lease_key, holds) = (lease_key(key), holds_key(key));
        let keys: [&[u8]; 3] = [&holds, key, &lease_key];
        let answer = servers.run(&END_HOLD, &keys, &arguments, Repeat::Once, &mut budget).await;
        if is_moving(&answer)
            && let Servers::Cluster(cluster) = &*servers
        {
            return Moving::new(cluster, key).end_hold(token, &mut budget).await;
        }
        self.judged(answer.and_then(|answer| reply::hold_end(answer.value)))
    }

    async fn incarnation(&self, key: &[u8]) -> Result<Option<Incarnation>, TierError> {
        self.servers()?.run_of(key, &mut self.budget()).await
    }

    /// Two round trips: the value goes and the lease is taken by force, then the fill. A refused
    /// fill means that a concurrent writer won, and is no error.
    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        let (servers, mut budget) = (self.servers()?, self.budget());
        match self.displace(&servers, key, &mut budget).await? {
            Some(token) => self.fill_within(&servers, key, token, &bytes, life, &mut budget).await,
            None => Ok(Fill::Refused),
        }
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        let (servers, mut budget) = (self.servers()?, self.budget());
        let mut unlink = cmd("UNLINK");
        unlink.arg(key).arg(lease_key(key));
        let request = Request::Single(unlink);
        let answer = servers.ask(key, &request, Repeat::Once, &mut budget).await;
        let dropped = answer.and_then(|answer| reply::integer(answer.value));
        if is_moving(&dropped)
            && let Servers::Cluster(cluster) = &*servers
        {
            return Moving::new(cluster, key).delete(&mut budget).await;
        }
        self.judged(dropped).map(drop)
    }

    async fn get_many(&self, keys: &[&[u8]]) -> Vec<Result<Option<Found>, TierError>> {
        batch::get(self, keys).await
    }

    async fn delete_many(&self, keys: &[&[u8]]) -> Vec<Result<(), TierError>> {
        batch::delete(self, keys).await
    }

    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        let servers = self.servers()?;
        let cleared = match &*servers {
            Servers::One(pool) => {
                let line = Line::ours(pool, &mut self.budget()).await?;
                clear::one_server(&line, &self.options, prefix, progress).await
            }
            Servers::HandedIn(connection) => {
                let line = Line::handed_in(connection, &mut self.budget()).await?;
                clear::one_server(&line, &self.options, prefix, progress).await
            }
            Servers::Cluster(cluster) => cluster.clear(prefix, progress).await,
        };
        self.judged(cleared)
    }

    /// A round trip to a server. Of a cluster some node must answer, and call the cluster whole.
    async fn ping(&self) -> Result<(), TierError> {
        let (servers, mut budget) = (self.servers()?, self.budget());
        match &*servers {
            Servers::Cluster(cluster) => return self.judged(cluster.ping(&mut budget).await),
            // Where it leads is found out while somebody looks at its health anyway.
            Servers::HandedIn(connection) => drop(connection.explore(&mut budget).await),
            Servers::One(_) => {}
        }
        let request = Request::Single(cmd("PING"));
        let answer = servers.ask(b"", &request, Repeat::Once, &mut budget).await?;
        match reply::accepted(answer.value)? {
            // A client of a cluster hands in what several nodes say.
            Value::Array(answers) => {
                answers.into_iter().try_for_each(|answer| reply::accepted(answer).map(drop))
            }
            _ => Ok(()),
        }
    }

    fn distrust(&self) {
        if let Ok(servers) = self.servers() {
            servers.distrust();
        }
    }

    fn abilities(&self) -> Abilities {
        let is_clients_cluster = matches!(
            &self.options.endpoint,
            Endpoint::HandedIn(connection) if connection.leads_to() == LeadsTo::Cluster
        );
        // One that reconnects without telling may lead to another run at any time.
        let tells_runs = !matches!(&self.options.endpoint, Endpoint::HandedIn(_));
        Abilities { clears: !is_clients_cluster, tells_runs, ..Abilities::default() }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.options.check()
    }
}
