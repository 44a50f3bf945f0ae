//! The servers as one runtime reaches them: one, a cluster's, or whatever the application's own
//! connection leads to. Above this nobody asks which.

use std::sync::Arc;

use super::{
    budget::Budget,
    cluster::Cluster,
    connection::Request,
    endpoint::Endpoint,
    exchange::{Answer, Repeat},
    handed_in::HandedIn,
    options::Options,
    pool::Pool,
    script::Script,
};
use crate::{Incarnation, TierError};

/// The servers of one runtime.
#[derive(Debug)]
pub(super) enum Servers {
    /// One, named itself or by sentinels.
    One(Pool),
    /// The nodes of a cluster.
    Cluster(Cluster),
    /// Behind the application's own connection.
    HandedIn(HandedIn),
}

impl Servers {
    pub(super) fn new(options: &Arc<Options>) -> Self {
        match &options.endpoint {
            Endpoint::Cluster(seeds) => Self::Cluster(Cluster::new(options, seeds)),
            Endpoint::HandedIn(connection) => Self::HandedIn(connection.clone()),
            _ => Self::One(Pool::new(Arc::clone(options))),
        }
    }

    /// Sends a request about `key` to the server that has it, and again as far as that is allowed.
    pub(super) async fn ask(
        &self,
        key: &[u8],
        request: &Request,
        repeat: Repeat,
        budget: &mut Budget,
    ) -> Result<Answer, TierError> {
        match self {
            Self::One(pool) => pool.ask(request, repeat, budget).await,
            Self::Cluster(cluster) => cluster.ask(key, request, repeat, budget).await,
            // It reconnects without telling: of its server's runs nothing is known.
            Self::HandedIn(connection) => {
                connection.ask(request, budget).await.map(|value| Answer { value, run: None })
            }
        }
    }

    /// The run of the server that has `key`.
    pub(super) async fn run_of(
        &self,
        key: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<Incarnation>, TierError> {
        match self {
            Self::One(pool) => pool.run(budget).await,
            Self::Cluster(cluster) => cluster.run_of(key, budget).await,
            Self::HandedIn(_) => Ok(None),
        }
    }

    /// Runs a script over `keys`, which are of one slot, by its digest if the server knows it.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        repeat: Repeat,
        budget: &mut Budget,
    ) -> Result<Answer, TierError> {
        let key = keys.first().copied().unwrap_or_default();
        let by_digest = Request::Single(script.by_digest(keys, arguments));
        match self.ask(key, &by_digest, repeat, budget).await.and_then(Answer::accepted) {
            Err(TierError::Refused(code)) if code == "NOSCRIPT" => {
                let by_source = Request::Single(script.by_source(keys, arguments));
                self.ask(key, &by_source, repeat, budget).await.and_then(Answer::accepted)
            }
            answer => answer,
        }
    }

    /// Replaces the connections, but those too young to have mixed anything up.
    pub(super) fn distrust(&self) {
        match self {
            Self::One(pool) => pool.distrust(),
            Self::Cluster(cluster) => cluster.distrust(),
            Self::HandedIn(_) => {}
        }
    }
}
