//! The strategy table, cell by cell, on a real Redis: alive, dead and frozen.

use std::time::{Duration, Instant};

use tiered::{
    Answer,
    CacheStrategy::{self, Bypass, Fresh, Invalidate, Refresh},
    Error, Jitter, Outcome, Tiered,
    tiers::{Moka, Redis},
};
use tiered_tiers::testing::RedisServer;

use crate::support::{DbDown, db_down};

scenarios! {
    every_cell_holds,
    every_cell_holds_for_detached_loaders,
    a_kept_stale_value_stands_in_under_refresh_only,
}

/// The value in the cache, and the one in the database.
const CACHED: u32 = 1;
const STORED: u32 = 2;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Alive,
    Dead,
    Frozen,
}

/// Where the value is before the read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cached {
    InL1,
    InL2,
    Nowhere,
}

/// What a cell of the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Hit(Outcome),
    Nothing,
    Loaded,
    Backend,
    Repository,
}

fn cell(read: &Result<Answer<u32>, Error>) -> Cell {
    match read {
        Ok(Answer { value: Some(value), outcome, .. }) if **value == CACHED => Cell::Hit(*outcome),
        Ok(Answer { value: Some(_), outcome: Outcome::Load, .. }) => Cell::Loaded,
        Ok(Answer { value: None, outcome: Outcome::Miss, .. }) => Cell::Nothing,
        Err(Error::Backend(_)) => Cell::Backend,
        Err(error) if error.loader_error::<DbDown>().is_some() => Cell::Repository,
        other => panic!("no cell of the table: {other:?}"),
    }
}

/// The table. Rows are strategies; the arguments tell the column.
fn expected(strategy: CacheStrategy, server: Server, database_up: bool, cached: Cached) -> Cell {
    let up = server == Server::Alive;
    match (strategy, cached) {
        (Fresh | Refresh, Cached::InL1) => Cell::Hit(Outcome::HitL1),
        (Fresh | Refresh, Cached::InL2) if up => Cell::Hit(Outcome::HitL2),
        (Fresh, _) if up => Cell::Nothing,
        (Fresh, _) => Cell::Backend,
        _ if database_up => Cell::Loaded,
        _ => Cell::Repository,
    }
}

fn cache(server: &RedisServer) -> Tiered {
    let redis = Redis::new(&server.url()).unwrap();
    Tiered::new(Moka::new(100), redis).jitter(Jitter::none()).build().unwrap()
}

async fn read(
    cache: &Tiered,
    strategy: CacheStrategy,
    database_up: bool,
    detached: bool,
) -> Result<Answer<u32>, Error> {
    let load = move |_| async move { if database_up { Ok(Some(STORED)) } else { db_down().await } };
    let request = cache.key("k").strategy(strategy);
    if detached { request.load_detached(load).await } else { request.load(load).await }
}

async fn check_cells(detached: bool) {
    let mut server = RedisServer::start().await.unwrap();
    for state in [Server::Alive, Server::Dead, Server::Frozen] {
        for cached in [Cached::InL1, Cached::InL2, Cached::Nowhere] {
            for database_up in [true, false] {
                for strategy in [Fresh, Refresh, Invalidate, Bypass] {
                    let writer = cache(&server);
                    match cached {
                        Cached::Nowhere => drop(writer.invalidate("k").await.unwrap()),
                        _ => drop(writer.set("k", CACHED).await.unwrap()),
                    }
                    let reader = if cached == Cached::InL1 { writer } else { cache(&server) };
                    match state {
                        Server::Alive => {}
                        Server::Dead => server.kill().unwrap(),
                        Server::Frozen => server.freeze().unwrap(),
                    }
                    let start = Instant::now();
                    let answer = read(&reader, strategy, database_up, detached).await;
                    let took = start.elapsed();
                    let case = format!(
                        "{strategy:?}, Redis {state:?}, database up: {database_up}, {cached:?}, detached: {detached}"
                    );
                    assert_eq!(
                        cell(&answer),
                        expected(strategy, state, database_up, cached),
                        "{case}"
                    );
                    // One budget of 250 ms, two for Invalidate, which drops before it loads.
                    assert!(took < Duration::from_secs(3), "{case} took {took:?}");
                    match state {
                        Server::Alive => {}
                        Server::Dead => server.restart().await.unwrap(),
                        Server::Frozen => server.thaw().unwrap(),
                    }
                    if answer.is_ok_and(|answer| answer.outcome == Outcome::Load) {
                        let kept = reader.key("k").lookup::<u32>().await.unwrap();
                        assert_eq!(kept.value.as_deref(), Some(&STORED), "{case}: in L1");
                        if state == Server::Alive {
                            reader.shutdown().await;
                            let kept = cache(&server).get::<u32>("k").await.unwrap();
                            assert_eq!(kept.as_deref(), Some(&STORED), "{case}: in L2");
                        }
                    }
                    reader.shutdown().await;
                }
            }
        }
    }
    assert_eq!(server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

async fn every_cell_holds() {
    check_cells(false).await;
}

async fn every_cell_holds_for_detached_loaders() {
    check_cells(true).await;
}

async fn a_kept_stale_value_stands_in_under_refresh_only() {
    let rig = crate::support::rig_with(|builder| builder.stale_for(Duration::from_secs(600)));
    for (strategy, stands_in) in [(Refresh, true), (Bypass, false), (Invalidate, false)] {
        let _ = rig.cache.set("k", CACHED).await.unwrap();
        rig.clock.advance(Duration::from_secs(61));
        let answer =
            rig.cache.key("k").strategy(strategy).load::<u32, _, _, _>(|_| db_down()).await;
        assert_eq!(answer.is_ok(), stands_in, "{strategy:?}");
    }
}
