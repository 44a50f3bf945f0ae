//! Dropping everything under a prefix on every primary, whatever moves meanwhile.
//!
//! Walks over all primaries, leases first, until the [`ledger`](super::ledger) says that no key can have been
//! missed. Each step of a walk goes over one connection to one process, which ends the walk when it breaks: a
//! primary that is replaced fails the call. Rejected: one walk and a second look at the map; it names
//! owners, and not the slots that are on their way.

use std::{sync::Arc, time::Duration};

use ::redis::{Cmd, Pipeline, Value, cmd};
use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::{
    super::{
        budget::Budget,
        clear::Walk,
        connection::{Connection, Request},
        exchange::{Repeat, settled},
        reply,
    },
    Cluster, Node, Redirect,
    ledger::{Claim, Ledger, claim},
};
use crate::{Progress, TierError};

/// So many walks at most.
const WALKS: usize = 6;
/// So many looks at who has what, before one shows an owner for every slot.
const LOOKS: usize = 3;
/// The wait before another look, which is longer than the least time between two fetches of the map.
const PAUSE: Duration = Duration::from_millis(120);

/// A primary and the connection of a walk.
struct Primary {
    node: Arc<Node>,
    connection: Arc<Connection>,
}

impl Cluster {
    /// Drops what begins with `prefix`.
    pub(in super::super) async fn clear(
        &self,
        prefix: &[u8],
        progress: Progress<'_>,
    ) -> Result<(), TierError> {
        let mut ledger = Ledger::default();
        let mut primaries = self.look(&mut ledger).await?;
        for _ in 0..WALKS {
            self.walk(&primaries, || Walk::leases(prefix), &|_| {}).await?;
            self.walk(&primaries, || Walk::values(prefix), progress).await?;
            primaries = self.look(&mut ledger).await?;
            if ledger.is_complete() {
                return Ok(());
            }
        }
        Err(TierError::Refused("TRYAGAIN: slots kept moving, and keys may be left".into()))
    }

    /// Takes down who has what, by what each primary says of itself.
    async fn look(&self, ledger: &mut Ledger) -> Result<Vec<Primary>, TierError> {
        self.owner(0, &mut Budget::new(&self.options)).await?;
        for look in 0..LOOKS {
            if look > 0 {
                sleep(PAUSE).await;
                let seen = self.map().version;
                self.refresh(seen, &mut Budget::new(&self.options)).await?;
            }
            let owners = self.map().owners();
            let answers = try_join_all(owners.into_iter().map(|node| self.claimed(node))).await?;
            let (primaries, claims): (Vec<_>, Vec<_>) = answers.into_iter().flatten().unzip();
            if ledger.take_down(&claims) {
                return Ok(primaries);
            }
        }
        Err(TierError::Refused("CLUSTERDOWN: not every slot has a node".into()))
    }

    async fn claimed(&self, node: Arc<Node>) -> Result<Option<(Primary, Claim)>, TierError> {
        let budget = &mut Budget::new(&self.options);
        let connection = node.pool.connection(budget).await?;
        let mut question = cmd("CLUSTER");
        question.arg("NODES");
        let answer = node.pool.ask_on(&connection, &Request::Single(question), budget).await;
        let claim = claim(settled(answer)?.value)?;
        Ok(claim.map(|claim| (Primary { node, connection }, claim)))
    }

    async fn walk(
        &self,
        primaries: &[Primary],
        walk: impl Fn() -> Walk,
        progress: Progress<'_>,
    ) -> Result<(), TierError> {
        let walks = primaries.iter().map(|primary| self.walk_one(primary, walk(), progress));
        try_join_all(walks).await.map(drop)
    }

    async fn walk_one(
        &self,
        primary: &Primary,
        mut walk: Walk,
        progress: Progress<'_>,
    ) -> Result<(), TierError> {
        while let Some(scan) = walk.scan() {
            let answer = self.step(primary, Request::Single(scan)).await?;
            let keys = walk.keys(answer)?;
            if keys.is_empty() {
                continue;
            }
            // One key a command: a command must keep to one slot.
            let mut unlinks = Pipeline::with_capacity(keys.len());
            for key in &keys {
                unlinks.add_command(unlink(key));
            }
            let Value::Array(answers) = self.step(primary, Request::Several(unlinks)).await? else {
                return Err(reply::unexpected("not an array"));
            };
            let mut dropped = 0;
            for (key, mut answer) in keys.iter().zip(answers) {
                if Redirect::of(&answer, &primary.node.address).is_some() {
                    let (again, budget) =
                        (Request::Single(unlink(key)), &mut Budget::new(&self.options));
                    answer = self.ask(key, &again, Repeat::Once, budget).await?.value;
                }
                dropped += u64::try_from(reply::integer(answer)?).unwrap_or_default();
            }
            progress(dropped);
        }
        Ok(())
    }

    async fn step(&self, primary: &Primary, request: Request) -> Result<Value, TierError> {
        let (pool, budget) = (&primary.node.pool, &mut Budget::new(&self.options));
        let answer = settled(pool.ask_on(&primary.connection, &request, budget).await)?;
        reply::accepted(answer.value)
    }
}

fn unlink(key: &[u8]) -> Cmd {
    let mut unlink = cmd("UNLINK");
    unlink.arg(key);
    unlink
}
