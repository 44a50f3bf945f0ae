//! Sentinels: who knows which server is the primary now.
//!
//! Each dial asks all of them at once and goes where the first answer leads, if the server there says
//! itself that it is a primary (`ROLE`); else where the next one does. So neither a dead sentinel nor
//! one that has missed the latest failover holds a dial up. Rejected: asking in turn, where each dead
//! host in front of the list costs a good part of the dial's time; and subscribing to the sentinels'
//! news, another connection to keep alive: a demoted primary closes its connections, and a frozen one
//! falls silent, either of which leads here.

use std::fmt;

use ::redis::{Value, cmd};
use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    connection::{Connection, Failure, Request},
    endpoint::{Address, Endpoint},
    options::{Options, Secret},
    reply,
};
use crate::TierError;

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
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
            tried.push(address);
        }
        Err(last)
    }

    /// Where this sentinel thinks that the primary is.
    async fn ask(&self, sentinel: &Address, options: &Options) -> Result<Address, TierError> {
        let login = Options {
            username: self.username.clone(),
            password: self.password.clone(),
            database: 0,
            ..options.moved_to(Endpoint::Tcp(sentinel.clone()))
        };
        let connection = Connection::direct(&login).await?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let answer = answer(&connection, question, options).await?;
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
