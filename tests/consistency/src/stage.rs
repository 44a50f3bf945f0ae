//! [`Stage`]: carries the schedule out.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    database::{Database, Weather},
    faults::{Fault, Planned, Row, Schedule},
    fleet::Fleet,
    servers::Servers,
};

/// How often each fault was there.
pub(crate) type Faults = BTreeMap<&'static str, u64>;

/// All that can break.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) servers: Servers,
    pub(crate) database: Database,
    pub(crate) fleet: Fleet,
}

impl Stage {
    /// Breaks what is to be broken, each row on its own, and mends it. Forges an acknowledgement, if that is asked
    /// for.
    pub(crate) async fn play(
        &mut self,
        schedule: &Schedule,
        forge: Option<Instant>,
    ) -> Result<Faults> {
        let Self { servers, database, fleet } = self;
        let start = Instant::now();
        let forging = async {
            if let Some(moment) = forge {
                sleep_until(moment).await;
                database.forge();
            }
            Ok(())
        };
        let (workers, (broken, evicted), loads, ()) = tokio::try_join!(
            workers(start, &schedule.workers, fleet, database),
            break_servers(start, &schedule.servers, servers, database),
            loads(start, &schedule.loads, database),
            forging,
        )?;
        let mut faults = Faults::new();
        for fault in workers.into_iter().chain(broken).chain(loads) {
            *faults.entry(fault).or_default() += 1;
        }
        if evicted > 0 {
            faults.insert("keys evicted", evicted);
        }
        Ok(faults)
    }
}

/// Waits for the next fault's time, and tells the database of it.
async fn begin(start: Instant, planned: &Planned, database: &Database) {
    sleep_until(start + planned.at).await;
    tracing::info!(fault = ?planned.fault, lasts = ?planned.lasts, "breaks");
    database.fault_begins();
}

async fn workers(
    start: Instant,
    row: &Row,
    fleet: &mut Fleet,
    database: &Database,
) -> Result<Vec<&'static str>> {
    for planned in row {
        begin(start, planned, database).await;
        match planned.fault {
            Fault::KillWorker(worker) => {
                fleet.kill(worker).await?;
                sleep(planned.lasts).await;
                fleet.launch(worker)?;
            }
            Fault::StopWorker(worker) => {
                fleet.signal(worker, Signal::STOP)?;
                sleep(planned.lasts).await;
                fleet.signal(worker, Signal::CONT)?;
            }
            _ => {}
        }
        database.fault_ends();
    }
    Ok(names(row))
}

async fn break_servers(
    start: Instant,
    row: &Row,
    servers: &mut Servers,
    database: &Database,
) -> Result<(Vec<&'static str>, u64)> {
    let mut evicted = 0;
    for planned in row {
        begin(start, planned, database).await;
        let lasts = planned.lasts;
        match planned.fault {
            Fault::Link(worker, fault) => {
                servers.inject(worker, Some(fault));
                sleep(lasts).await;
                servers.inject(worker, None);
            }
            Fault::CutRequests(worker) => {
                let end = Instant::now() + lasts;
                while Instant::now() < end {
                    servers.cut(worker);
                    sleep(Duration::from_millis(20)).await;
                }
            }
            Fault::Evict(policy) => evicted += evict(servers, policy, lasts).await?,
            fault => strike(servers, fault, lasts).await?,
        }
        database.fault_ends();
    }
    Ok((names(row), evicted))
}

async fn strike(servers: &mut Servers, fault: Fault, lasts: Duration) -> Result<()> {
    match (servers, fault) {
        (Servers::Single { server, .. }, Fault::FreezeServer) => {
            server.freeze()?;
            sleep(lasts).await;
            server.thaw()?;
        }
        (Servers::Single { server, .. }, Fault::RestartServer) => {
            server.kill()?;
            sleep(lasts).await;
            server.restart().await?;
        }
        (Servers::Single { server, .. }, Fault::RestoreServer) => {
            server.execute(&["SAVE"]).await?;
            sleep(lasts).await;
            server.restart().await?;
        }
        (Servers::Memcached { server, .. }, Fault::FreezeServer) => {
            server.freeze()?;
            sleep(lasts).await;
            server.thaw()?;
        }
        // It keeps nothing.
        (Servers::Memcached { server, .. }, Fault::RestartServer | Fault::RestoreServer) => {
            server.kill()?;
            sleep(lasts).await;
            server.restart().await?;
        }
        (Servers::Pair(pair), Fault::FailOver) => pair.fail_over(lasts).await?,
        (Servers::Group(group), Fault::KillPrimary) => {
            let primary = group.primary().await?;
            group.kill(primary)?;
            sleep(lasts).await;
            group.promoted(primary).await?;
            group.restart(primary).await?;
        }
        (Servers::Group(group), Fault::FreezePrimary) => {
            let primary = group.primary().await?;
            group.server(primary).freeze()?;
            sleep(lasts).await;
            // It does not know yet that it was replaced.
            group.server(primary).thaw()?;
            group.promoted(primary).await?;
        }
        (Servers::Group(group), Fault::ReplacePrimary) => {
            let primary = group.primary().await?;
            // Refused while the last replacement is not over; then nothing breaks.
            if group.fail_over().await.is_ok() {
                sleep(lasts).await;
                group.promoted(primary).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Has a server evict by a policy, for so long, by writing what nobody reads. Returns how many keys it has evicted.
async fn evict(servers: &Servers, policy: &str, time: Duration) -> Result<u64> {
    let Servers::Single { server, .. } = servers else { return Ok(0) };
    server.execute(&["CONFIG", "SET", "maxmemory-policy", policy]).await?;
    let before = server.info("evicted_keys").await?;
    let (end, junk) = (Instant::now() + time, "x".repeat(16 * 1_024));
    while Instant::now() < end {
        let name = format!("junk:{}", fastrand::u32(..));
        // Refused where nothing is evicted.
        let _ = server.execute(&["SET", &name, &junk, "EX", "60"]).await;
        sleep(Duration::from_millis(1)).await;
    }
    Ok(server.info("evicted_keys").await? - before)
}

async fn loads(start: Instant, row: &Row, database: &Database) -> Result<Vec<&'static str>> {
    for planned in row {
        begin(start, planned, database).await;
        if let Fault::Weather(weather) = planned.fault {
            database.set_weather(weather);
            sleep(planned.lasts).await;
            database.set_weather(Weather::FAIR);
        }
        database.fault_ends();
    }
    Ok(names(row))
}

fn names(row: &Row) -> Vec<&'static str> {
    row.iter().map(|planned| planned.fault.name()).collect()
}
