//! Redis Cluster: every slot's owner, found, remembered and followed when it changes.
//!
//! The story of a request: its key's [`slot`], the slot's owner by the [`map`], that node's own [`Pool`], and
//! then whatever the node answers: its answer, or a [`redirect`] that is followed. [`refresh`] fetches the
//! map, [`moving`] holds what is done about keys whose slot is on its way between two nodes, [`clear`] the
//! walk over all nodes.
//!
//! Rejected: redis-rs's client of a cluster. It tries 16 times whatever it is given, a `fill` or a `lease`
//! too, hides which connection served, and reconnects without a hook.
//!
//! # What may be repeated
//!
//! A node that redirects (`MOVED`, `ASK`) or puts off (`TRYAGAIN`, `CLUSTERDOWN`, `LOADING`, `READONLY`,
//! `MASTERDOWN`) has not executed the command, so every operation is sent again after one. So is one whose
//! node could not be dialled, if its slot has another by now. What was sent and has no answer is
//! repeated by the rules of a single server, which the head of the module above tells.
//!
//! # What a failover loses
//!
//! A replica that is promoted may lack the last writes of its primary. A lost lease refuses its fill, which is
//! safe. A lost fill is a miss. A lost delete brings the old value back, until its life ends or the next
//! write. A replica that was promoted answers in another run than its primary did, and so does the node to which
//! a slot has moved: whoever stamps what it stores with the run does not believe the old value. A node that is
//! deposed and promoted again keeps its connections; each of them asks for the run once a second. Rejected: to
//! watch the nodes' roles in the map, which is fetched when something fails, and here nothing does.

mod clear;
mod gather;
mod ledger;
mod map;
mod moving;
mod redirect;
mod refresh;
mod slot;
mod whereabouts;

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::redis::cmd;
use tokio::time::{Instant, sleep};

pub(super) use self::{
    gather::Gathered,
    moving::{Moving, is_moving},
};
use self::{map::Map, redirect::Redirect, refresh::Fetched, slot::slot};
use super::{
    budget::Budget,
    connection::{Failure, Request},
    endpoint::{Address, Endpoint},
    exchange::{Answer, Repeat},
    handed_in::info,
    options::Options,
    pool::Pool,
    reply,
};
use crate::{Incarnation, TierError};

/// So many redirections of one request are followed.
const HOPS: usize = 5;
/// How long a request waits before it is sent again after a "not now"; so often, and no longer.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(40), Duration::from_millis(80)];

/// The nodes of a cluster, for one runtime.
#[derive(Debug)]
pub(super) struct Cluster {
    options: Arc<Options>,
    seeds: Vec<Arc<Node>>,
    map: RwLock<Map>,
    /// Held by the one who fetches the map.
    fetching: tokio::sync::Mutex<Option<Fetched>>,
    /// Whether something happened that the map should be fetched for.
    is_stale: AtomicBool,
    /// Whom to ask next.
    next: AtomicUsize,
}

/// One node and the connections to it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) pool: Pool,
}

/// A node that a request goes to, and in which manner.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    pub(super) node: Arc<Node>,
    /// Whether the slot is still on its way there.
    pub(super) asking: bool,
}

impl Cluster {
    /// A cluster of which nothing is known but some nodes.
    pub(super) fn new(options: &Arc<Options>, seeds: &[Address]) -> Self {
        Self {
            seeds: seeds.iter().map(|seed| node(options, seed)).collect(),
            options: Arc::clone(options),
            map: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
            is_stale: AtomicBool::new(false),
            next: AtomicUsize::new(0),
        }
    }

    /// Sends a request about `key` to whoever has its slot.
    pub(super) async fn ask(
        &self,
        key: &[u8],
        request: &Request,
        repeat: Repeat,
        budget: &mut Budget,
    ) -> Result<Answer, TierError> {
        self.ask_where(key, request, repeat, budget).await.map(|(answer, _)| answer)
    }

    /// The same, and who answered.
    pub(super) async fn ask_where(
        &self,
        key: &[u8],
        request: &Request,
        repeat: Repeat,
        budget: &mut Budget,
    ) -> Result<(Answer, Stop), TierError> {
        let slot = slot(key);
        let mut stop = Stop { node: self.owner(slot, budget).await?, asking: false };
        let (mut hops, mut repeated) = (0, false);
        let mut pauses = PAUSES.into_iter();
        loop {
            let answer = match self.ask_at(&stop, request, budget).await {
                Ok(answer) => answer,
                Err(Lost::Unsent(error)) => {
                    hops += 1;
                    match self.elsewhere(slot, &stop, budget).await {
                        Some(next) if hops <= HOPS => stop = next,
                        _ => return Err(error),
                    }
                    continue;
                }
                Err(Lost::Sent(Failure::Broken(_))) if repeat == Repeat::Once && !repeated => {
                    repeated = true;
                    if let Some(next) = self.elsewhere(slot, &stop, budget).await {
                        stop = next;
                    }
                    continue;
                }
                Err(Lost::Sent(failure)) => {
                    self.is_stale.store(true, Ordering::Relaxed);
                    return Err(match failure {
                        Failure::Late => TierError::Timeout,
                        Failure::Broken(error) => error,
                    });
                }
            };
            let Some(redirect) = Redirect::of(&answer.value, &stop.node.address) else {
                return Ok((answer, stop));
            };
            match redirect {
                Redirect::Moved(address) => {
                    hops += 1;
                    if hops > HOPS {
                        return Err(TierError::Refused("MOVED".into()));
                    }
                    stop = Stop { node: self.moved(slot, &address)?, asking: false };
                }
                Redirect::Ask(address) => {
                    hops += 1;
                    if hops > HOPS {
                        return Err(TierError::Refused("ASK".into()));
                    }
                    stop = Stop { node: self.node(&address)?, asking: true };
                }
                Redirect::Nowhere(code) => return Err(TierError::Refused(code)),
                Redirect::NotNow(code) => {
                    self.is_stale.store(true, Ordering::Relaxed);
                    let pause = pauses.next().filter(|pause| *pause < budget.for_answer());
                    let Some(pause) = pause else { return Err(TierError::Refused(code)) };
                    rest(pause, budget).await;
                    stop = Stop { node: self.owner(slot, budget).await?, asking: false };
                }
            }
        }
    }

    /// Sends a request to this node, whatever slot it is about.
    pub(super) async fn ask_at(
        &self,
        stop: &Stop,
        request: &Request,
        budget: &mut Budget,
    ) -> Result<Answer, Lost> {
        let pool = &stop.node.pool;
        let connection = pool.connection(budget).await.map_err(Lost::Unsent)?;
        if !stop.asking {
            return pool.ask_on(&connection, request, budget).await.map_err(Lost::Sent);
        }
        let answer = pool.ask_on(&connection, &redirect::asking(request), budget).await;
        let Answer { value, run } = answer.map_err(Lost::Sent)?;
        let value = redirect::asked(request, value);
        value.map(|value| Answer { value, run }).map_err(|error| Lost::Sent(Failure::Broken(error)))
    }

    /// The run of the node that has `key`: by the map, or by the nodes themselves where a question must go out
    /// anyway.
    pub(super) async fn run_of(
        &self,
        key: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<Incarnation>, TierError> {
        let owner = self.owner(slot(key), budget).await?;
        if let Some(connection) = owner.pool.any().filter(|connection| !connection.is_due()) {
            return Ok(connection.run());
        }
        let mut question = cmd("EXISTS");
        question.arg(key);
        Ok(self.ask(key, &Request::Single(question), Repeat::Once, budget).await?.run)
    }

    /// Whether some node answers and calls the cluster whole.
    pub(super) async fn ping(&self, budget: &mut Budget) -> Result<(), TierError> {
        let mut question = cmd("CLUSTER");
        question.arg("INFO");
        let question = Request::Single(question);
        self.owner(0, budget).await?;
        let nodes = self.candidates();
        let mut last = TierError::Unreachable("no node of the cluster is known".into());
        for (tried, node) in nodes.iter().enumerate() {
            let part = budget.part(nodes.len() - tried);
            let mut left = part.clone();
            let stop = Stop { node: Arc::clone(node), asking: false };
            let answer = self.ask_at(&stop, &question, &mut left).await;
            budget.spent(&part, &left);
            match answer.map_err(TierError::from).and_then(Answer::accepted) {
                Ok(answer) => match info(&answer.value, "cluster_state") {
                    Some("ok") => return Ok(()),
                    Some(_) => last = TierError::Refused("CLUSTERDOWN".into()),
                    None => last = reply::unexpected("no state"),
                },
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(super) fn distrust(&self) {
        for node in self.map().nodes().iter().chain(&self.seeds) {
            node.pool.distrust();
        }
    }

    /// The owner of a slot after the map was fetched again, unless it is the one that has failed.
    async fn elsewhere(&self, slot: u16, failed: &Stop, budget: &mut Budget) -> Option<Stop> {
        // The map may have been corrected while the failed one was being asked.
        let seen = self.map().version;
        if self.owner_is(slot, &failed.node) || failed.asking {
            let _ = self.refresh(seen, budget).await;
        }
        let owner = self.map().owner(slot)?;
        (!Arc::ptr_eq(&owner, &failed.node)).then_some(Stop { node: owner, asking: false })
    }

    fn owner_is(&self, slot: u16, node: &Arc<Node>) -> bool {
        self.map().owner(slot).is_some_and(|owner| Arc::ptr_eq(&owner, node))
    }

    /// Notes the new owner of a slot.
    fn moved(&self, slot: u16, address: &Address) -> Result<Arc<Node>, TierError> {
        let node = self.node(address)?;
        self.map_mut().correct(slot, &node);
        self.is_stale.store(true, Ordering::Relaxed);
        Ok(node)
    }

    /// The node at an address.
    fn node(&self, address: &Address) -> Result<Arc<Node>, TierError> {
        let seed = || self.seeds.iter().find(|seed| seed.address == *address).cloned();
        let make = || seed().unwrap_or_else(|| node(&self.options, address));
        let node = self.map_mut().node(address, make);
        node.ok_or_else(|| TierError::Refused("MOVED to more nodes than a cluster has".into()))
    }

    fn map(&self) -> RwLockReadGuard<'_, Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn map_mut(&self) -> RwLockWriteGuard<'_, Map> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// No connection to its node could be made.
    Unsent(TierError),
    /// It was sent.
    Sent(Failure),
}

impl From<Lost> for TierError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Unsent(error) | Lost::Sent(Failure::Broken(error)) => error,
            Lost::Sent(Failure::Late) => Self::Timeout,
        }
    }
}

/// Waits on the time that is meant for answers.
async fn rest(pause: Duration, budget: &mut Budget) {
    let start = Instant::now();
    sleep(pause).await;
    budget.answered(start);
}

fn node(options: &Arc<Options>, address: &Address) -> Arc<Node> {
    let there = options.moved_to(Endpoint::Tcp(address.clone()));
    Arc::new(Node { address: address.clone(), pool: Pool::new(Arc::new(there)) })
}
