//! A connection that the application made: whatever it is, and wherever it leads.
//!
//! The application owns its reconnecting. Nothing is sent twice by us: a connection that mends itself
//! hides which socket carried a request, so we cannot tell one that was never sent from one whose
//! answer was lost, and a second try inside somebody else's tries would multiply them. Rejected: taking
//! redis-rs's clients apart by their types; a wrapper around one would be treated as none.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use ::redis::{RedisResult, Value, aio::ConnectionLike, cmd};
use tokio::time::{Instant, timeout};

use super::{budget::Budget, connection::Request, reply};
use crate::TierError;

/// The connection, and what has been learnt of where it leads.
#[derive(Clone)]
pub(super) struct HandedIn {
    carrier: Arc<dyn Carrier>,
    leads_to: Arc<AtomicU8>,
}

/// Where a connection leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum LeadsTo {
    /// Not asked yet, or the server would not say.
    Unknown = 0,
    /// One server.
    Server = 1,
    /// A cluster, or one node of it.
    Cluster = 2,
}

/// What every connection of redis-rs can do, without its type.
trait Carrier: Send + Sync {
    fn carry<'a>(&'a self, request: &'a Request) -> Carried<'a>;
}

type Carried<'a> = Pin<Box<dyn Future<Output = RedisResult<Value>> + Send + 'a>>;

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Carrier for C {
    fn carry<'a>(&'a self, request: &'a Request) -> Carried<'a> {
        let mut connection = self.clone();
        Box::pin(async move {
            match request {
                Request::Single(command) => connection.req_packed_command(command).await,
                Request::Several(commands) => connection
                    .req_packed_commands(commands, 0, commands.len())
                    .await
                    .map(Value::Array),
            }
        })
    }
}

impl fmt::Debug for HandedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a connection of the application's")
    }
}

impl HandedIn {
    pub(super) fn new(connection: impl ConnectionLike + Clone + Send + Sync + 'static) -> Self {
        Self { carrier: Arc::new(connection), leads_to: Arc::new(AtomicU8::new(0)) }
    }

    /// Sends a request, once.
    pub(super) async fn ask(
        &self,
        request: &Request,
        budget: &mut Budget,
    ) -> Result<Value, TierError> {
        let start = Instant::now();
        let answer = timeout(budget.for_answer(), self.carrier.carry(request)).await;
        budget.answered(start);
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(reply::failed(&error)),
            Err(_) => Err(TierError::Timeout),
        }
    }

    /// What is known of where it leads.
    pub(super) fn leads_to(&self) -> LeadsTo {
        match self.leads_to.load(Ordering::Relaxed) {
            1 => LeadsTo::Server,
            2 => LeadsTo::Cluster,
            _ => LeadsTo::Unknown,
        }
    }

    /// Finds out where it leads, if that is not known.
    pub(super) async fn explore(&self, budget: &mut Budget) -> LeadsTo {
        if self.leads_to() == LeadsTo::Unknown {
            let mut question = cmd("INFO");
            question.arg("cluster");
            let leads_to = match self.ask(&Request::Single(question), budget).await {
                // A client of a cluster asks several nodes, and answers with a map of what they say.
                Ok(Value::Map(_) | Value::Array(_)) => LeadsTo::Cluster,
                Ok(answer) => match info(&answer, "cluster_enabled") {
                    Some("0") => LeadsTo::Server,
                    Some(_) => LeadsTo::Cluster,
                    None => LeadsTo::Unknown,
                },
                Err(_) => LeadsTo::Unknown,
            };
            self.leads_to.store(leads_to as u8, Ordering::Relaxed);
        }
        self.leads_to()
    }
}

/// A field of what a server says of itself.
pub(super) fn info<'a>(answer: &'a Value, field: &str) -> Option<&'a str> {
    let text = match answer {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        Value::VerbatimString { text, .. } => text,
        _ => return None,
    };
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::trim)
}
