//! Sentinels: who knows which server is the primary now.
//!
//! Each dial asks all of them at once and goes where the newest answer leads, if the server there says itself that it
//! is a primary (`ROLE`). The newest is the one of the highest *configuration epoch*, which each failover counts up;
//! what others name was deposed, and says of itself that it is a primary all the same when it comes back before the
//! sentinels have made a replica of it. A silent sentinel is waited for no longer than a quarter of the dial's time. Rejected:
//! the first answer, which led writers to a primary that had died and was started again; and asking in turn, where each dead
//! host in front of the list costs a good part of the dial's time.
//!
//! A primary that was replaced while it is alive goes on serving for some ten seconds, until the sentinels make
//! a replica of it, and who is connected to it would not notice. So each connection has a *watch*: a task that
//! asks the sentinels every second, and retires the connection when one of them names another primary of a higher epoch,
//! or most of them another one of the same epoch, as where the epochs are not told. Rejected: subscribing to their news,
//! which tells nothing when a message is missed.

use std::{
    cmp::Reverse,
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::redis::{Pipeline, Value, cmd};
use futures_util::{
    StreamExt,
    future::{Either, join_all, select},
    stream::FuturesUnordered,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
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

/// What a sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    /// Where the primary is.
    primary: Address,
    /// The number of the configuration in which it became so; 0 if it is not told.
    epoch: u64,
}

impl Named {
    /// Whether the sentinels, so many in all, lead elsewhere by now: one of them to a newer primary, or most of them to
    /// another one that is as new. Those that name an older one have not heard yet; but where all do, who knew of this
    /// one is there no more, and they have begun anew.
    fn is_over(&self, named: &[Self], all: usize) -> bool {
        let (still, others): (Vec<&Self>, Vec<&Self>) =
            named.iter().partition(|named| named.primary == self.primary);
        let newest = still.iter().map(|named| named.epoch).fold(self.epoch, u64::max);
        others.iter().any(|other| other.epoch > newest)
            || others.iter().filter(|other| other.epoch == newest).count() > all / 2
            || others.len() == all
    }
}

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
        let patience = Instant::now() + options.connect_timeout / 4;
        let (mut named, mut tried) = (Vec::new(), Vec::new());
        let mut last = TierError::Unreachable("no sentinel was named".into());
        loop {
            // Those that are slow may know more; but once there is an answer, they are not waited for for long.
            let answer = if named.is_empty() {
                answers.next().await
            } else {
                timeout_at(patience, answers.next()).await.ok().flatten()
            };
            match answer {
                Some(Ok(answer)) => {
                    named.push(answer);
                    continue;
                }
                Some(Err(error)) => {
                    last = error;
                    continue;
                }
                None => {}
            }
            let epoch = named.iter().map(|named| named.epoch).max();
            let mut late = Vec::new();
            let dialled = {
                let mut dialling = pin!(self.newest(&named, &mut tried, options));
                loop {
                    match select(dialling.as_mut(), answers.next()).await {
                        Either::Left((dialled, _)) => break dialled,
                        // What hangs is not waited for when there is something newer.
                        Either::Right((Some(Ok(answer)), _)) if Some(answer.epoch) > epoch => {
                            late.push(answer);
                            break Err(None);
                        }
                        Either::Right((Some(Ok(answer)), _)) => late.push(answer),
                        Either::Right((Some(Err(error)), _)) => last = error,
                        Either::Right((None, _)) => break dialling.await,
                    }
                }
            };
            match dialled {
                Ok(connection) => return Ok(connection),
                Err(Some(error)) => last = error,
                Err(None) => {}
            }
            if !late.is_empty() {
                named.append(&mut late);
                continue;
            }
            // What is named later may be newer still.
            match answers.next().await {
                Some(Ok(answer)) => named.push(answer),
                Some(Err(error)) => last = error,
                None => return Err(last),
            }
        }
    }

    /// A connection to the primary of the newest configuration, unless it was tried before. Where that is said of
    /// several, or the epochs are not told, the one that most name comes first.
    async fn newest(
        &self,
        named: &[Named],
        tried: &mut Vec<Named>,
        options: &Options,
    ) -> Result<Connection, Option<TierError>> {
        let epoch = named.iter().map(|named| named.epoch).max();
        let mut newest: Vec<_> = named.iter().filter(|named| Some(named.epoch) == epoch).collect();
        let alike = |one: &Named| named.iter().filter(|named| *named == one).count();
        newest.sort_by_key(|named| Reverse(alike(named)));
        let mut last = None;
        for named in newest {
            if tried.contains(named) {
                continue;
            }
            let there = options.moved_to(Endpoint::Tcp(named.primary.clone()));
            match primary(&there).await {
                Ok(connection) => {
                    let watch = Watch::start(self.clone(), options.clone(), named.clone());
                    return Ok(connection.watched(watch));
                }
                Err(error) => last = Some(error),
            }
            tried.push(named.clone());
        }
        Err(last)
    }

    /// Where this sentinel thinks that the primary is.
    async fn ask(&self, sentinel: &Address, options: &Options) -> Result<Named, TierError> {
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

    async fn ask_over(&self, sentinel: &Connection, options: &Options) -> Result<Named, TierError> {
        let mut questions = Pipeline::new();
        for question in ["GET-MASTER-ADDR-BY-NAME", "MASTER"] {
            questions.cmd("SENTINEL").arg(question).arg(&self.service);
        }
        let answers = answer(sentinel, Request::Several(questions), options).await?;
        let [answer, more] = reply::array(answers)?;
        let answer = reply::accepted(answer)?;
        if answer == Value::Nil {
            return Err(TierError::Refused("the sentinels watch no primary of this name".into()));
        }
        let [host, port] = reply::array(answer)?;
        let text = |value| {
            let bytes = reply::bytes(value)?.unwrap_or_default();
            String::from_utf8(bytes.to_vec()).map_err(|_| reply::unexpected("no address"))
        };
        let port = text(port)?.parse().map_err(|_| reply::unexpected("no port"))?;
        // A login that may not ask for more does not hear of epochs.
        let epoch = epoch(more).unwrap_or_default();
        Ok(Named { primary: Address { host: text(host)?, port }, epoch })
    }
}

/// The watch over a connection to a primary; it ends with its connection.
#[derive(Debug)]
pub(super) struct Watch {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Watch {
    fn start(sentinels: Sentinels, options: Options, dialled: Named) -> Self {
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
                let named: Vec<_> = join_all(looks).await.into_iter().flatten().collect();
                if dialled.is_over(&named, sentinels.addresses.len()) {
                    told.store(true, Ordering::Relaxed);
                    return;
                }
            }
        });
        Self { is_over, task }
    }

    /// Whether the sentinels name another primary.
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
    ) -> Option<Named> {
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
    let Value::Array(role) =
        reply::accepted(answer(&connection, Request::Single(cmd("ROLE")), options).await?)?
    else {
        return Err(reply::unexpected("no role"));
    };
    match role.into_iter().next().map(reply::bytes).transpose()?.flatten() {
        Some(role) if role.as_ref() == b"master" => Ok(connection),
        _ => Err(TierError::Unreachable("the sentinels name a server that is no primary".into())),
    }
}

/// The configuration epoch among what a sentinel tells of a primary: names and values in turn.
fn epoch(told: Value) -> Option<u64> {
    let Value::Array(told) = told else { return None };
    let mut words = told.into_iter().map(|word| reply::bytes(word).ok().flatten());
    words.find(|word| word.as_deref() == Some(b"config-epoch"))?;
    std::str::from_utf8(&words.next()??).ok()?.parse().ok()
}

async fn answer(
    connection: &Connection,
    question: Request,
    options: &Options,
) -> Result<Value, TierError> {
    match connection.ask(&question, options.connect_timeout).await {
        Ok(value) => reply::accepted(value),
        Err(Failure::Broken(error)) => Err(error),
        Err(Failure::Late) => Err(TierError::Timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(host: &str, epoch: u64) -> Named {
        Named { primary: Address { host: host.into(), port: 6379 }, epoch }
    }

    #[test]
    fn a_connection_is_over_when_there_is_a_newer_primary() {
        let is_over = |of: (&str, u64), said: &[(&str, u64)]| {
            let said: Vec<_> = said.iter().map(|(host, epoch)| named(host, *epoch)).collect();
            named(of.0, of.1).is_over(&said, 3)
        };
        assert!(!is_over(("a", 1), &[]));
        assert!(!is_over(("a", 1), &[("a", 1), ("b", 1)]));
        assert!(is_over(("a", 1), &[("a", 1), ("a", 1), ("b", 2)]));
        assert!(is_over(("a", 0), &[("a", 0), ("b", 0), ("b", 0)]), "the epochs are not told");
        assert!(!is_over(("a", 2), &[("a", 2), ("b", 1), ("b", 1)]), "they have not heard yet");
        assert!(!is_over(("a", 1), &[("a", 3), ("b", 2)]), "it is the newest all the same");
        assert!(!is_over(("a", 2), &[("b", 1), ("b", 1)]), "one has not answered");
        assert!(is_over(("a", 2), &[("b", 1), ("b", 1), ("b", 1)]), "they have begun anew");
        assert!(is_over(("a", 2), &[("a", 2), ("b", 2), ("b", 2)]), "it was told of too early");
    }
}
