//! The schedule of what breaks: drawn from the seed before anything starts, so that it is the same in each run.
//!
//! Three things break independently of each other: workers, what is between them and L2, and the loads. Each
//! twelve seconds begin with four in which nothing breaks.

use std::time::Duration;

use fastrand::Rng;
use tiered_tiers::testing::LinkFault;

use crate::{database::Weather, mode::Mode};

const PERIOD: Duration = Duration::from_secs(12);
const CALM: Duration = Duration::from_secs(4);

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// A worker is killed, and started again after the fault's time.
    KillWorker(u64),
    /// A worker stands still.
    StopWorker(u64),
    /// The server stands still.
    FreezeServer,
    /// The server is killed, and comes back with its last snapshot, or empty if there is none.
    RestartServer,
    /// The server takes a snapshot, and is killed after the fault's time: it comes back with what it had before.
    RestoreServer,
    /// The replica hears nothing for the fault's time; then the primary is killed, and the replica takes its place.
    FailOver,
    /// A worker's link, or all of them.
    Link(Option<u64>, LinkFault),
    /// Requests of a worker are thrown away, with their connections.
    CutRequests(u64),
    /// The primary is killed; it comes back as a replica.
    KillPrimary,
    /// The primary stands still until after it was replaced.
    FreezePrimary,
    /// The sentinels replace a primary that is well.
    ReplacePrimary,
    /// From now on the server evicts by this policy.
    Evict(&'static str),
    /// Loads are slow, or fail.
    Weather(Weather),
}

/// When, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

/// Faults that follow each other.
pub(crate) type Row = Vec<Planned>;

/// What breaks in a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) workers: Row,
    pub(crate) servers: Row,
    pub(crate) loads: Row,
}

impl Fault {
    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillWorker(_) => "worker killed",
            Self::StopWorker(_) => "worker stopped",
            Self::FreezeServer => "server stopped",
            Self::RestartServer => "server killed",
            Self::RestoreServer => "server restored",
            Self::FailOver => "failed over",
            Self::Link(_, LinkFault::BlackHole) => "link black",
            Self::Link(_, LinkFault::HoldRequests) => "requests held",
            Self::Link(_, LinkFault::Delay(_)) => "link slow",
            Self::Link(_, LinkFault::FlipBits) => "bits flipped",
            Self::Link(_, LinkFault::ShiftReplies) => "replies shifted",
            Self::Link(..) => "link cut",
            Self::CutRequests(_) => "requests cut",
            Self::KillPrimary => "primary killed",
            Self::FreezePrimary => "primary stopped",
            Self::ReplacePrimary => "primary replaced",
            Self::Evict(policy) => policy,
            Self::Weather(weather) if weather.failing > 0.0 => "loads failing",
            Self::Weather(_) => "loads slow",
        }
    }
}

impl Schedule {
    /// The longest time for which a worker stands still.
    pub(crate) fn longest_stop(&self) -> Duration {
        let stops =
            self.workers.iter().filter(|planned| matches!(planned.fault, Fault::StopWorker(_)));
        stops.map(|planned| planned.lasts).max().unwrap_or_default()
    }

    pub(crate) fn draw(seed: u64, mode: Mode, time: Duration, workers: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut row = |draw: &dyn Fn(&mut Rng) -> (Fault, Duration)| row(random.fork(), time, draw);
        Self {
            workers: row(&|random| worker_fault(random, workers)),
            servers: match mode {
                Mode::Fence | Mode::Local | Mode::Bus(_) | Mode::Memcached => {
                    row(&|random| server_fault(random, workers))
                }
                Mode::Pressure => row(&|random| pressure_fault(random, workers)),
                Mode::Lies => row(&|random| lie(random, workers)),
                Mode::Failover => row(&|random| failover_fault(random, workers)),
                Mode::Sentinels => row(&primary_fault),
            },
            loads: row(&load_fault),
        }
    }
}

fn row(mut random: Rng, time: Duration, draw: &dyn Fn(&mut Rng) -> (Fault, Duration)) -> Row {
    let (mut row, mut at) = (Vec::new(), Duration::ZERO);
    loop {
        at += millis(&mut random, 200, 1_500);
        let (fault, lasts) = draw(&mut random);
        at = outside_calm(at, lasts);
        if at + lasts > time {
            return row;
        }
        row.push(Planned { at, lasts, fault });
        at += lasts;
    }
}

/// The next moment from `at` on at which something may break for so long.
fn outside_calm(at: Duration, lasts: Duration) -> Duration {
    let period = PERIOD * u32::try_from(at.as_secs() / PERIOD.as_secs()).unwrap_or(u32::MAX);
    let at = at.max(period + CALM);
    if at + lasts <= period + PERIOD { at } else { period + PERIOD + CALM }
}

fn millis(random: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.u64(from..to))
}

fn worker_fault(random: &mut Rng, workers: u64) -> (Fault, Duration) {
    let worker = random.u64(..workers);
    match random.u8(..10) {
        0..5 => (Fault::KillWorker(worker), millis(random, 10, 500)),
        5..9 => (Fault::StopWorker(worker), millis(random, 20, 1_200)),
        _ => (Fault::StopWorker(worker), millis(random, 1_200, 3_000)),
    }
}

fn server_fault(random: &mut Rng, workers: u64) -> (Fault, Duration) {
    let worker = random.u64(..workers);
    let whose = Some(worker).filter(|_| random.u8(..4) > 0);
    match random.u8(..20) {
        0..3 => (Fault::FreezeServer, millis(random, 20, 400)),
        3..5 => (Fault::FreezeServer, millis(random, 400, 3_000)),
        5..7 => (Fault::RestartServer, millis(random, 10, 800)),
        7 => (Fault::RestoreServer, millis(random, 100, 2_500)),
        8..11 => (Fault::Link(whose, LinkFault::BlackHole), millis(random, 50, 1_500)),
        11..13 => (Fault::Link(whose, LinkFault::Reset), millis(random, 50, 1_000)),
        13..15 => (Fault::Link(whose, LinkFault::HoldRequests), millis(random, 50, 1_500)),
        15 => (Fault::Link(whose, LinkFault::Truncate), millis(random, 50, 800)),
        16..18 => {
            let longest = millis(random, 5, 300);
            (Fault::Link(whose, LinkFault::Delay(longest)), millis(random, 200, 1_500))
        }
        _ => (Fault::CutRequests(worker), millis(random, 50, 500)),
    }
}

fn lie(random: &mut Rng, workers: u64) -> (Fault, Duration) {
    let whose = Some(random.u64(..workers)).filter(|_| random.bool());
    let lie = match random.u8(..5) {
        0..2 => LinkFault::FlipBits,
        2..4 => LinkFault::ShiftReplies,
        _ => LinkFault::Truncate,
    };
    (Fault::Link(whose, lie), millis(random, 200, 2_500))
}

/// What Redis has for a server that is full.
const POLICIES: [&str; 8] = [
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "noeviction",
];

/// As for a single server, but that it does not die so often, and evicts by another policy instead.
fn pressure_fault(random: &mut Rng, workers: u64) -> (Fault, Duration) {
    match random.u8(..4) {
        0 => server_fault(random, workers),
        _ => (Fault::Evict(POLICIES[random.usize(..POLICIES.len())]), millis(random, 300, 1_500)),
    }
}

/// As for a single server, but that one which dies is replaced.
fn failover_fault(random: &mut Rng, workers: u64) -> (Fault, Duration) {
    match server_fault(random, workers) {
        (Fault::RestartServer | Fault::RestoreServer | Fault::FreezeServer, _) => {
            (Fault::FailOver, millis(random, 10, 2_000))
        }
        other => other,
    }
}

fn primary_fault(random: &mut Rng) -> (Fault, Duration) {
    match random.u8(..3) {
        0 => (Fault::KillPrimary, millis(random, 2_500, 3_500)),
        1 => (Fault::FreezePrimary, millis(random, 2_500, 3_500)),
        _ => (Fault::ReplacePrimary, millis(random, 1_500, 2_500)),
    }
}

fn load_fault(random: &mut Rng) -> (Fault, Duration) {
    let lasts = millis(random, 200, 2_500);
    let fair = Weather::FAIR;
    let weather = match random.u8(..3) {
        // Longer than a lease.
        0 => Weather { slow: 0.3, up_to: millis(random, 1_000, 1_800), ..fair },
        1 => Weather { slow: 0.8, up_to: millis(random, 50, 300), ..fair },
        _ => Weather { failing: 0.3 + random.f64() * 0.7, ..fair },
    };
    (Fault::Weather(weather), lasts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_and_leaves_the_calm_alone() {
        let time = Duration::from_secs(120);
        let drawn = Schedule::draw(7, Mode::Local, time, 4);
        assert_eq!(drawn, Schedule::draw(7, Mode::Local, time, 4));
        assert_ne!(drawn, Schedule::draw(8, Mode::Local, time, 4));
        for row in [&drawn.workers, &drawn.servers, &drawn.loads] {
            assert!(row.len() > 20, "{}", row.len());
            let mut last = Duration::ZERO;
            for Planned { at, lasts, .. } in row {
                let into = at.as_millis() % PERIOD.as_millis();
                assert!(*at >= last && into >= CALM.as_millis(), "{at:?}");
                assert!(into + lasts.as_millis() <= PERIOD.as_millis(), "{at:?} {lasts:?}");
                last = *at + *lasts;
            }
        }
    }
}
