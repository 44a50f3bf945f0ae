//! Fetching the map: by one at a time, of whoever answers, and not too often.
//!
//! It is fetched when there is none, when a node could not be reached, and once in a while after a
//! correction. Whoever needs it fetches it, on its own time; the others wait for that. Rejected: a task that
//! fetches it every few seconds; this crate spawns nothing but connections.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ::redis::cmd;
use tokio::time::{Instant, timeout};

use super::{
    super::{budget::Budget, connection::Request},
    Cluster, Node, Stop, map, node,
};
use crate::TierError;

/// The least time between two fetches.
const PAUSE: Duration = Duration::from_millis(100);
/// The least time between two fetches that are made for corrections alone.
const LEISURE: Duration = Duration::from_secs(1);
/// How many nodes are tried for one fetch.
const TRIES: usize = 4;

/// When the map was fetched last, and what came of it.
#[derive(Debug)]
pub(super) struct Fetched {
    at: Instant,
    outcome: Result<(), TierError>,
}

impl Cluster {
    /// The owner of a slot by the map; it is fetched first if there is none.
    pub(super) async fn owner(
        &self,
        slot: u16,
        budget: &mut Budget,
    ) -> Result<Arc<Node>, TierError> {
        if self.map().is_empty() {
            self.refresh(0, budget).await?;
        } else if self.is_stale.load(Ordering::Relaxed) {
            self.refresh_at_leisure(budget).await;
        }
        let owner = self.map().owner(slot);
        owner.ok_or_else(|| TierError::Refused("CLUSTERDOWN".into()))
    }

    /// Fetches the map, unless somebody has since version `seen`, or has just tried to.
    pub(super) async fn refresh(&self, seen: u64, budget: &mut Budget) -> Result<(), TierError> {
        let start = Instant::now();
        // After a dial that failed slowly only the other purse has anything in it.
        let by_dial = budget.for_dial() > budget.for_answer();
        let patience = if by_dial { budget.for_dial() } else { budget.for_answer() };
        let turn = timeout(patience, self.fetching.lock()).await;
        if by_dial {
            budget.dialled(start)
        } else {
            budget.answered(start)
        }
        let Ok(mut fetched) = turn else { return Err(TierError::Timeout) };
        if self.map().version != seen {
            return Ok(());
        }
        if let Some(last) = &*fetched
            && last.at.elapsed() < PAUSE
        {
            return last.outcome.clone();
        }
        let outcome = self.fetch(budget).await;
        *fetched = Some(Fetched { at: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    /// Fetches the map on a part of the time, unless somebody is about to or did not long ago.
    async fn refresh_at_leisure(&self, budget: &mut Budget) {
        let Ok(mut fetched) = self.fetching.try_lock() else { return };
        if fetched.as_ref().is_some_and(|last| last.at.elapsed() < LEISURE) {
            return;
        }
        self.is_stale.store(false, Ordering::Relaxed);
        let part = budget.part(3);
        let mut left = part.clone();
        let outcome = self.fetch(&mut left).await;
        budget.spent(&part, &left);
        if outcome.is_err() {
            self.is_stale.store(true, Ordering::Relaxed);
        }
        *fetched = Some(Fetched { at: Instant::now(), outcome });
    }

    async fn fetch(&self, budget: &mut Budget) -> Result<(), TierError> {
        let mut question = cmd("CLUSTER");
        question.arg("SLOTS");
        let question = Request::Single(question);
        let candidates = self.candidates();
        let mut last = TierError::Unreachable("no node of the cluster is known".into());
        for (tried, asked) in candidates.iter().enumerate() {
            let part = budget.part(candidates.len() - tried);
            let mut left = part.clone();
            let stop = Stop { node: Arc::clone(asked), asking: false };
            let answer = self.ask_at(&stop, &question, &mut left).await;
            budget.spent(&part, &left);
            match answer
                .map_err(TierError::from)
                .and_then(|answer| map::shares(answer.value, &asked.address))
            {
                Ok(shares) => {
                    let make = |address: &_| node(&self.options, address);
                    self.map_mut().replace(&shares, &self.seeds, make);
                    return Ok(());
                }
                Err(TierError::Refused(code)) if code == "ERR" => {
                    last = TierError::Refused("ERR to CLUSTER SLOTS: no cluster".into());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whom to ask about the cluster: those with a connection first, and somebody else each time.
    pub(super) fn candidates(&self) -> Vec<Arc<Node>> {
        let map = self.map();
        let mut nodes: Vec<Arc<Node>> = map.nodes().to_vec();
        nodes.extend(self.seeds.iter().cloned());
        drop(map);
        let mut distinct: Vec<Arc<Node>> = Vec::with_capacity(nodes.len());
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % nodes.len().max(1);
        nodes.rotate_left(turn);
        for node in nodes {
            if !distinct.iter().any(|known| known.address == node.address) {
                distinct.push(node);
            }
        }
        distinct.sort_by_key(|node| node.pool.any().is_none());
        distinct.truncate(TRIES);
        distinct
    }
}
