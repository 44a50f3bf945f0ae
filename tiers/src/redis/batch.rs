//! Several keys at once: a few round trips instead of one for each.
//!
//! In pieces of a bounded number of keys, a few of them on their way at once: one piece with everything in it
//! would hold the server up for everybody, and its answer might take longer than any deadline. A piece that
//! fails fails its keys alone, each piece has a budget of its own, and is repeated as its single form is.
//!
//! To one server a piece is one command, or two. To a cluster it is a pipeline to one node: a command there
//! must keep to one slot, and of a batch hardly two keys do. A key that its node redirects, because
//! its slot has moved or is moving, is asked for by itself. Rejected: grouping by slot, which
//! saves nothing but for batches of very many keys.
//!
//! `set` has no form here: its scripts are pipelined by the connection as it is.

use ::redis::{Pipeline, Value, cmd};
use futures_util::{StreamExt, future::BoxFuture, stream};

use super::{
    Redis, budget::Budget, cluster::Gathered, connection::Request, exchange::Repeat,
    options::Options, pool::Pool, reply, script::lease_key, servers::Servers,
};
use crate::{Found, Incarnation, RemoteTier, TierError};

/// Keys in one piece.
pub(super) const PIECE: usize = 256;
/// Pieces on their way to one server at once.
pub(super) const PIECES_AT_ONCE: usize = 4;
/// Keys that are asked for by themselves, at once.
const AT_ONCE: usize = 64;

/// What of a batch is one key's.
pub(super) struct Each<R: 'static> {
    /// How many commands are.
    pub(super) width: usize,
    /// Adds them.
    pub(super) commands: fn(&mut Pipeline, &[u8]),
    /// Reads their answers, which that run of a server gave.
    pub(super) read: fn(Vec<Value>, Option<Incarnation>) -> Result<R, TierError>,
}

const GET: Each<Option<Found>> = Each {
    width: 2,
    commands: |pipeline, key| {
        pipeline.cmd("PTTL").arg(key).cmd("GET").arg(key);
    },
    read: |answers, run| {
        reply::array(Value::Array(answers)).and_then(|[pttl, value]| reply::found(pttl, value, run))
    },
};

const DELETE: Each<()> = Each {
    width: 1,
    commands: |pipeline, key| {
        pipeline.cmd("UNLINK").arg(key).arg(lease_key(key));
    },
    read: |answers, _| {
        reply::array(Value::Array(answers)).and_then(|[dropped]| reply::integer(dropped)).map(drop)
    },
};

/// Reads several keys.
pub(super) async fn get(tier: &Redis, keys: &[&[u8]]) -> Vec<Result<Option<Found>, TierError>> {
    match tier.servers() {
        Err(error) => failed(keys, &error),
        Ok(servers) => match &*servers {
            Servers::One(pool) => {
                in_pieces(keys, |piece| Box::pin(get_piece(pool, &tier.options, piece))).await
            }
            Servers::Cluster(cluster) => {
                let gathered = cluster.gather(keys, &GET).await;
                completed(keys, gathered, |key| tier.get(key)).await
            }
            Servers::HandedIn(_) => one_by_one(keys, |key| tier.get(key)).await,
        },
    }
    .into_iter()
    .map(|outcome| tier.judged(outcome))
    .collect()
}

/// Drops several keys and their leases.
pub(super) async fn delete(tier: &Redis, keys: &[&[u8]]) -> Vec<Result<(), TierError>> {
    match tier.servers() {
        Err(error) => failed(keys, &error),
        Ok(servers) => match &*servers {
            Servers::One(pool) => {
                in_pieces(keys, |piece| Box::pin(delete_piece(pool, &tier.options, piece))).await
            }
            Servers::Cluster(cluster) => {
                let gathered = cluster.gather(keys, &DELETE).await;
                completed(keys, gathered, |key| tier.delete(key)).await
            }
            Servers::HandedIn(_) => one_by_one(keys, |key| tier.delete(key)).await,
        },
    }
    .into_iter()
    .map(|outcome| tier.judged(outcome))
    .collect()
}

/// The lives first: a value that is replaced after its life was read gets the shorter of the two.
async fn get_piece(
    pool: &Pool,
    options: &Options,
    keys: &[&[u8]],
) -> Result<Vec<Result<Option<Found>, TierError>>, TierError> {
    let mut commands = Pipeline::with_capacity(keys.len() + 1);
    for key in keys {
        commands.cmd("PTTL").arg(*key);
    }
    commands.cmd("MGET");
    for key in keys {
        commands.arg(*key);
    }
    let request = Request::Several(commands);
    let answer = pool.ask(&request, Repeat::Once, &mut Budget::new(options)).await?;
    let Value::Array(mut lives) = reply::accepted(answer.value)? else {
        return Err(reply::unexpected("not an array"));
    };
    let values = lives.pop().ok_or_else(|| reply::unexpected("array length"))?;
    let Value::Array(values) = reply::accepted(values)? else {
        return Err(reply::unexpected("not an array"));
    };
    if values.len() != keys.len() || lives.len() != keys.len() {
        return Err(reply::unexpected("array length"));
    }
    let found = |(life, value)| reply::found(life, value, answer.run);
    Ok(lives.into_iter().zip(values).map(found).collect())
}

async fn delete_piece(
    pool: &Pool,
    options: &Options,
    keys: &[&[u8]],
) -> Result<Vec<Result<(), TierError>>, TierError> {
    let mut unlink = cmd("UNLINK");
    for key in keys {
        unlink.arg(*key).arg(lease_key(key));
    }
    let request = Request::Single(unlink);
    let answer = pool.ask(&request, Repeat::Once, &mut Budget::new(options)).await?;
    reply::integer(answer.value)?;
    Ok(vec![Ok(()); keys.len()])
}

/// What one piece came to: an outcome for each key, or one failure for all.
type Piece<R> = Result<Vec<Result<R, TierError>>, TierError>;

async fn in_pieces<'k, R: Clone>(
    keys: &'k [&'k [u8]],
    ask: impl Fn(&'k [&'k [u8]]) -> BoxFuture<'k, Piece<R>>,
) -> Vec<Result<R, TierError>> {
    let pieces: Vec<_> = keys
        .chunks(PIECE)
        .map(|piece| {
            let asked = ask(piece);
            async move { asked.await.unwrap_or_else(|error| failed(piece, &error)) }
        })
        .collect();
    stream::iter(pieces).buffered(PIECES_AT_ONCE).collect::<Vec<_>>().await.concat()
}

/// Asks for those that were redirected by themselves.
async fn completed<'k, R>(
    keys: &'k [&'k [u8]],
    gathered: Vec<Gathered<R>>,
    single: impl Fn(&'k [u8]) -> BoxFuture<'k, Result<R, TierError>>,
) -> Vec<Result<R, TierError>> {
    let completing: Vec<_> = keys
        .iter()
        .zip(gathered)
        .map(|(key, gathered)| {
            let again = matches!(gathered, Gathered::Redirected).then(|| single(key));
            async move {
                match (gathered, again) {
                    (Gathered::Done(outcome), _) => outcome,
                    (Gathered::Redirected, Some(again)) => again.await,
                    (Gathered::Redirected, None) => Err(TierError::Timeout),
                }
            }
        })
        .collect();
    stream::iter(completing).buffered(AT_ONCE).collect().await
}

async fn one_by_one<'k, R>(
    keys: &'k [&'k [u8]],
    single: impl Fn(&'k [u8]) -> BoxFuture<'k, Result<R, TierError>>,
) -> Vec<Result<R, TierError>> {
    let asked: Vec<_> = keys.iter().map(|key| single(key)).collect();
    stream::iter(asked).buffered(AT_ONCE).collect().await
}

fn failed<R>(keys: &[&[u8]], error: &TierError) -> Vec<Result<R, TierError>> {
    keys.iter().map(|_| Err(error.clone())).collect()
}
