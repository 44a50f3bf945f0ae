//! A key whose slot is on its way from one node to another.
//!
//! While a slot moves, its keys are on both nodes: those that have not been carried over on the *source*,
//! the others, and all new ones, on the *target*. A command with one key is always served: the source
//! does it, or says `ASK`. One with two keys, of which one is here and one there or nowhere yet, is
//! refused with `TRYAGAIN` until the slot has arrived, and every script over value and lease is of that kind.
//! Waiting would put a slot's keys out of service for as long as it moves. So after a `TRYAGAIN` the
//! operations are done in steps of one key, each of which is safe where it stops:
//!
//! - `delete` drops the lease, then the value: a fill between the two finds no lease.
//! - `lease` takes the lease, then looks for holds, and gives it up again if there is one; then it reads the value:
//!   what it reads is no older than the lease.
//! - `displace` drops both, and what is absent from the source stays absent there. The rest happens on the
//!   target in one atomic step, by a script that names the lease and touches the value too. Then it looks for holds.
//! - `hold` holds, then drops lease and value. A lease that was taken before it falls with them, and one that is taken
//!   after it finds the hold: there is no third. It leaves no mark, so it will not have been alone.
//! - `renew_hold` does the same, but leaves the mark of a hold that stood, and lets it live longer: the hold may end
//!   when the slot has arrived.
//! - `end_hold` drops lease and value, and then the hold. Whether it was alone would take all three keys at once, so it
//!   never says so, and grants no lease.
//! - `fill` needs lease and value on one node. A lease that stands on the target was taken there, so the old
//!   value is dropped from the source, where nothing can put it back, and a script as above does the rest.
//!   A lease that still stands on the source was taken before the slot began to move; it is waited for a
//!   little, and then given up.

use std::time::Duration;

use ::redis::cmd;

use super::{
    super::{
        budget::Budget,
        connection::Request,
        exchange::{Answer, Repeat},
        reply,
        script::{END_HOLD, HOLD, Hold, RELEASE, RENEW, Script, holds_key, lease_key, millis},
    },
    Cluster, Redirect, Stop, rest,
};
use crate::{Fill, HoldEnd, LeaseToken, TierError, protocol::Granted};

/// How long a fill waits for its lease to be carried over before it looks again; so often.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
];

/// Takes the lease (`KEYS[1]`; `ARGV`: token, life). A token that stands already is granted again.
static TAKE: std::sync::LazyLock<Script> = std::sync::LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
elseif not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 0
end
return 1",
    )
});

/// Drops the value (`ARGV[1]`) and takes the lease (`KEYS[1]`; `ARGV`: .., token, life).
static DISPLACE: std::sync::LazyLock<Script> = std::sync::LazyLock::new(|| {
    Script::new(
        r"
redis.call('UNLINK', ARGV[1])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1",
    )
});

/// Stores the value (`ARGV[1]`) and drops the lease (`KEYS[1]`; `ARGV`: .., token, bytes, life), if the token
/// stands.
static FILL: std::sync::LazyLock<Script> = std::sync::LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
local stored = redis.pcall('SET', ARGV[1], ARGV[3], 'PX', ARGV[4])
redis.call('DEL', KEYS[1])
if stored.err then return stored end
return 1",
    )
});

/// The operations on one key, in steps of one key each.
#[derive(Debug)]
pub(in super::super) struct Moving<'a> {
    cluster: &'a Cluster,
    key: &'a [u8],
    lease: Vec<u8>,
    holds: Vec<u8>,
}

/// Whether an outcome says that the key's slot is on its way.
pub(in super::super) fn is_moving<R>(outcome: &Result<R, TierError>) -> bool {
    matches!(outcome, Err(TierError::Refused(code)) if code == "TRYAGAIN")
}

impl<'a> Moving<'a> {
    pub(in super::super) fn new(cluster: &'a Cluster, key: &'a [u8]) -> Self {
        Self { cluster, key, lease: lease_key(key), holds: holds_key(key) }
    }

    /// Drops the lease, then the value.
    pub(in super::super) async fn delete(&self, budget: &mut Budget) -> Result<(), TierError> {
        self.drop_key(&self.lease, budget).await?;
        self.drop_key(self.key, budget).await
    }

    /// Takes the lease, unless the key is on hold. The value is to be read after it.
    pub(in super::super) async fn take(
        &self,
        token: LeaseToken,
        life: &str,
        by_force: bool,
        budget: &mut Budget,
    ) -> Result<Granted, TierError> {
        if by_force {
            self.drop_key(&self.lease, budget).await?;
        }
        let is_taken = self.take_lease(token, life, budget).await?;
        let is_open = self.or_give_up(token, budget).await?;
        Ok(match (is_open, is_taken) {
            (false, _) => Granted::OnHold,
            (true, true) => Granted::Yes,
            (true, false) => Granted::Held,
        })
    }

    /// Drops the value and takes the lease by force, unless the key is on hold; says whether it did.
    pub(in super::super) async fn displace(
        &self,
        token: LeaseToken,
        life: &str,
        budget: &mut Budget,
    ) -> Result<bool, TierError> {
        self.delete(budget).await?;
        let arguments: [&[u8]; 3] = [self.key, token.as_bytes(), life.as_bytes()];
        self.run(&DISPLACE, &self.lease, &arguments, budget).await?;
        self.or_give_up(token, budget).await
    }

    /// Holds the key, then drops what it has, but the mark of a hold that stood. Says whether it did.
    pub(in super::super) async fn hold(
        &self,
        token: LeaseToken,
        life: &str,
        hold: Hold,
        budget: &mut Budget,
    ) -> Result<bool, TierError> {
        let arguments: [&[u8]; 3] = [token.as_bytes(), life.as_bytes(), hold.word()];
        let stood = self.run(&HOLD, &self.holds, &arguments, budget).await?.integer()? != 0;
        if stood {
            let mark: [&[u8]; 2] = [&token.hold_mark(), life.as_bytes()];
            let is_marked = self.run(&RENEW, &self.lease, &mark, budget).await?.integer()? != 0;
            if is_marked {
                return self.drop_key(self.key, budget).await.map(|()| true);
            }
        }
        self.delete(budget).await.map(|()| stood)
    }

    /// Drops what the key has, then ends the hold.
    pub(in super::super) async fn end_hold(
        &self,
        token: LeaseToken,
        budget: &mut Budget,
    ) -> Result<HoldEnd, TierError> {
        self.delete(budget).await?;
        let end = self.run(&END_HOLD, &self.holds, &[token.as_bytes()], budget).await;
        end.and_then(|answer| reply::hold_end(answer.value))
    }

    async fn take_lease(
        &self,
        token: LeaseToken,
        life: &str,
        budget: &mut Budget,
    ) -> Result<bool, TierError> {
        let arguments: [&[u8]; 2] = [token.as_bytes(), life.as_bytes()];
        Ok(self.run(&TAKE, &self.lease, &arguments, budget).await?.integer()? != 0)
    }

    /// Whether nobody holds the key. If somebody does, or nobody knows, this token's lease is given up.
    async fn or_give_up(&self, token: LeaseToken, budget: &mut Budget) -> Result<bool, TierError> {
        let mut look = cmd("EXISTS");
        look.arg(&self.holds);
        let look = Request::Single(look);
        let found = self.cluster.ask(&self.holds, &look, Repeat::Once, budget).await;
        let is_open = found.and_then(Answer::integer).map(|holds| holds == 0);
        if is_open != Ok(true) {
            self.release(token, budget).await;
        }
        is_open
    }

    /// Gives a lease up under which nothing will be filled. One that cannot be ends by itself.
    async fn release(&self, token: LeaseToken, budget: &mut Budget) {
        let _ = self.run(&RELEASE, &self.lease, &[token.as_bytes()], budget).await;
    }

    /// Stores the value if the token stands. `None` after a little wait: the usual way is to be tried again, for
    /// the slot may have arrived.
    pub(in super::super) async fn fill(
        &self,
        token: LeaseToken,
        bytes: &[u8],
        life: Duration,
        tries: usize,
        budget: &mut Budget,
    ) -> Result<Option<Fill>, TierError> {
        let mut read = cmd("GET");
        read.arg(&self.lease);
        let read = Request::Single(read);
        let asked = self.cluster.ask_where(&self.lease, &read, Repeat::Once, budget).await;
        let (standing, stop) = asked?;
        if reply::bytes(standing.value)?.as_deref() != Some(token.as_bytes().as_slice()) {
            return Ok(Some(Fill::Refused));
        }
        if !stop.asking || tries >= PAUSES.len() {
            // Still on the source; or the slot has arrived, and the usual way will do.
            let Some(pause) = PAUSES.get(tries).filter(|pause| **pause < budget.for_answer() / 2)
            else {
                self.release(token, budget).await;
                return Err(TierError::Refused("TRYAGAIN".into()));
            };
            rest(*pause, budget).await;
            return Ok(None);
        }
        self.drop_from_the_source(budget).await?;
        let life = millis(life);
        let arguments: [&[u8]; 4] = [self.key, token.as_bytes(), bytes, life.as_bytes()];
        let answer = self.run_at(&stop, &FILL, &arguments, budget).await?;
        if Redirect::of(&answer.value, &stop.node.address).is_some() {
            // The move was called off, or is over: not executed.
            return Ok(None);
        }
        Ok(Some(match reply::integer(answer.value)? {
            0 => Fill::Refused,
            _ => Fill::Stored,
        }))
    }

    async fn drop_key(&self, key: &[u8], budget: &mut Budget) -> Result<(), TierError> {
        let mut unlink = cmd("UNLINK");
        unlink.arg(key);
        let answer = self.cluster.ask(key, &Request::Single(unlink), Repeat::Once, budget).await?;
        reply::integer(answer.value).map(drop)
    }

    /// Drops the value where its slot comes from. A redirection says that it is not there.
    async fn drop_from_the_source(&self, budget: &mut Budget) -> Result<(), TierError> {
        let mut unlink = cmd("UNLINK");
        unlink.arg(self.key);
        let node = self.cluster.owner(super::slot(self.key), budget).await?;
        let source = Stop { node, asking: false };
        let answer = self.cluster.ask_at(&source, &Request::Single(unlink), budget).await?;
        match Redirect::of(&answer.value, &source.node.address) {
            Some(Redirect::Ask(_) | Redirect::Moved(_)) => Ok(()),
            _ => reply::integer(answer.value).map(drop),
        }
    }

    /// Runs a script that names this key alone, wherever that is.
    async fn run(
        &self,
        script: &Script,
        key: &[u8],
        arguments: &[&[u8]],
        budget: &mut Budget,
    ) -> Result<Answer, TierError> {
        let keys = [key];
        let mut answer = Err(TierError::Timeout);
        for call in [script.by_digest(&keys, arguments), script.by_source(&keys, arguments)] {
            let call = Request::Single(call);
            answer = self.cluster.ask(key, &call, Repeat::Never, budget).await;
            answer = answer.and_then(Answer::accepted);
            if !is_unknown(&answer) {
                break;
            }
        }
        answer
    }

    /// Runs one that names the lease alone, at this node and nowhere else.
    async fn run_at(
        &self,
        stop: &Stop,
        script: &Script,
        arguments: &[&[u8]],
        budget: &mut Budget,
    ) -> Result<Answer, TierError> {
        let keys: [&[u8]; 1] = [&self.lease];
        let by_digest = Request::Single(script.by_digest(&keys, arguments));
        let answer = self.cluster.ask_at(stop, &by_digest, budget).await?;
        if !is_unknown(&answer.clone().accepted()) {
            return Ok(answer);
        }
        let by_source = Request::Single(script.by_source(&keys, arguments));
        Ok(self.cluster.ask_at(stop, &by_source, budget).await?)
    }
}

fn is_unknown(answer: &Result<Answer, TierError>) -> bool {
    matches!(answer, Err(TierError::Refused(code)) if code == "NOSCRIPT")
}
