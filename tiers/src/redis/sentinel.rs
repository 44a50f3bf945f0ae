//! Sentinels: who knows which server is the primary now.
//!
//! Each dial asks all of them at once and goes where the first answer leads, if the server there says
//! itself that it is a primary (`ROLE`); else where the next one does. So neither a dead sentinel nor
//! one that has missed the latest failover holds a dial up. Rejected: asking in turn, where each dead
//! host in front of the list costs a good part of the dial's time.
//!
//! A primary that was replaced while it is alive goes on serving for some ten seconds, until the sentinels make
//! a replica of it, and who is connected to it would not notice. So each connection has a *watch*: a task that
//! asks the sentinels every second, and retires the connection when most of them name another primary.
//! Rejected: subscribing to their news, which tells nothing when a message is missed.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::redis::{Value, cmd};
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    connection::{Connection, Failure, Request},
    endpoint::{Address, Endpoint},
    options::{Options, Secret},
    reply,
};
use crate::TierError;

/// How often the sentinels are asked whether a connection still leads to their primary.
const LOOK: Duration = Duration::from_secs(1);

/// The sentinels of one primary.
#[derive(Clone)]
pub(super) struct Sentinels {
    pub(super) addresses: Vec<Address>,
    /// The name under which they watch the primary.
    pub(super) service: String,
    /// Their own login, which is not the servers'.
    pub(super) username: Option<Secret>,
    pub(super) password: Option<Secret>,
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {:?}", self.service, self.addresses)
    }
}

impl Sentinels {
    pub(super) fn new(addresses: Vec<Address>, service: String) -> Self {
        Self { addresses, service, username: None, password: None }
    }

    /// A connection to the primary.
    pub(super) async fn dial(&self, options: &Options) -> Result<Connection, TierError> {
        let questions = self.addresses.iter().map(|sentinel| self.ask(sentinel, options));
        let mut answers: FuturesUnordered<_> = questions.collect();
        let mut tried = Vec::new();
        let mut last = TierError::Unreachable("no sentinel was named".into());
        while let Some(answer) = answers.next().await {
            let address = match answer {
                Ok(address) => address,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            if tried.contains(&address) {
                continue;
            }
            let there = options.moved_to(Endpoint::Tcp(address.clone()));
            match primary(&there).await {
                Ok(connection) => {
                    let watch = Watch::start(self.clone(), options.clone(), address);
                    return Ok(connection.watched(watch));
                }
                Err(error) => last = error,
            }
            tried.push(address);
        }
        Err(last)
    }

    /// Where this sentinel thinks that the primary is.
    async fn ask(&self, sentinel: &Address, options: &Options) -> Result<Address, TierError> {
        self.ask_over(&self.reach(sentinel, options).await?, options).await
    }

    /// A connection to a sentinel.
    async fn reach(&self, sentinel: &Address, options: &Options) -> Result<Connection, TierError> {
        let login = Options {
            username: self.username.clone(),
            password: self.password.clone(),
            database: 0,
            ..options.moved_to(Endpoint::Tcp(sentinel.clone()))
        };
        Connection::direct(&login).await
    }

    async fn ask_over(
        &self,
        sentinel: &Connection,
        options: &Options,
    ) -> Result<Address, TierError> {
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let answer = answer(sentinel, question, options).await?;
        if answer == Value::Nil {
            return Err(TierError::Refused("the sentinels watch no primary of this name".into()));
        }
        let [host, port] = reply::array(answer)?;
        let text = |value| {
            let bytes = reply::bytes(value)?.unwrap_or_default();
            String::from_utf8(bytes.to_vec()).map_err(|_| reply::unexpected("no address"))
        };
        let port = text(port)?.parse().map_err(|_| reply::unexpected("no port"))?;
        Ok(Address { host: text(host)?, port })
    }
}

/// The watch over a connection to a primary; it ends with its connection.
#[derive(Debug)]
pub(super) struct Watch {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Watch {
    fn start(sentinels: Sentinels, options: Options, primary: Address) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let task = tokio::spawn(async move {
            let mut kept: Vec<Option<Connection>> =
                sentinels.addresses.iter().map(|_| None).collect();
            loop {
                sleep(LOOK).await;
                let looks = sentinels.addresses.iter().zip(&mut kept).map(|(sentinel, kept)| {
                    let look = sentinels.look(sentinel, kept, &options);
                    async move { timeout(LOOK, look).await.ok().flatten() }
                });
                let named = join_all(looks).await;
                let others = named.iter().flatten().filter(|named| **named != primary).count();
                if others > sentinels.addresses.len() / 2 {
                    told.store(true, Ordering::Relaxed);
                    return;
                }
            }
        });
        Self { is_over, task }
    }

    /// Whether most sentinels name another primary.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sentinels {
    /// Asks a sentinel over a connection that is kept as long as it works.
    async fn look(
        &self,
        sentinel: &Address,
        kept: &mut Option<Connection>,
        options: &Options,
    ) -> Option<Address> {
        let connection = match kept.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.reach(sentinel, options).await.ok()?,
        };
        let named = self.ask_over(&connection, options).await.ok()?;
        *kept = Some(connection);
        Some(named)
    }
}

/// A connection to a server that says that it is a primary.
async fn primary(options: &Options) -> Result<Connection, TierError> {
    let connection = Connection::direct(options).await?;
    let Value::Array(role) = reply::accepted(answer(&connection, cmd("ROLE"), options).await?)?
    else {
        return Err(reply::unexpected("no role"));
    };
    match role.into_iter().next().map(reply::bytes).transpose()?.flatten() {
        Some(role) if role.as_ref() == b"master" => Ok(connection),
        _ => Err(TierError::Unreachable("the sentinels name a server that is no primary".into())),
    }
}

async fn answer(
    connection: &Connection,
    command: ::redis::Cmd,
    options: &Options,
) -> Result<Value, TierError> {
    match connection.ask(&Request::Single(command), options.connect_timeout).await {
        Ok(value) => reply::accepted(value),
        Err(Failure::Broken(error)) => Err(error),
        Err(Failure::Late) => Err(TierError::Timeout),
    }
}
