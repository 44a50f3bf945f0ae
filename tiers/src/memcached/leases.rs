//! The leases that this process holds: what memcached has no room for beside a token.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::key::Spelling;
use crate::LeaseToken;

/// From here on, leases whose time is over are looked for at each new one.
const MANY: usize = 1_024;

/// A lease of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) origin: Origin,
    pub(super) life: Duration,
    pub(super) server: usize,
    /// The number of the lease's own item; not known while a renewal is on its way, or was lost.
    pub(super) lease_cas: Option<u64>,
    /// The number of the value, or of its stub.
    pub(super) value_cas: u64,
}

/// Whence a lease came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// When it was asked for.
    pub(super) asked: Instant,
    /// Of whom.
    pub(super) peer: SocketAddr,
}

/// The leases of this process, by token and key.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<Map>);

type Map = HashMap<(LeaseToken, Vec<u8>), Held>;

impl Leases {
    pub(super) fn remember(&self, token: LeaseToken, key: &Spelling, held: Held) {
        let mut leases = self.lock();
        if leases.len() >= MANY && leases.len() == leases.capacity() {
            // The holder of each was dropped before it could fill.
            leases.retain(|_, held| !held.is_over());
        }
        leases.insert((token, key.value.clone()), held);
    }

    /// Takes a lease out, unless its time is over.
    pub(super) fn take(&self, token: LeaseToken, key: &Spelling) -> Option<Held> {
        self.lock().remove(&(token, key.value.clone())).filter(|held| !held.is_over())
    }

    /// What is known of a lease whose renewal begins now; its number is about to change.
    pub(super) fn renewing(&self, token: LeaseToken, key: &Spelling) -> Option<Held> {
        let mut leases = self.lock();
        let held = leases.get_mut(&(token, key.value.clone())).filter(|held| !held.is_over())?;
        let before = *held;
        held.lease_cas = None;
        Some(before)
    }

    /// It lives for `life` from when that was asked for, unless it was taken out meanwhile.
    pub(super) fn renewed(
        &self,
        token: LeaseToken,
        key: &Spelling,
        (asked, life): (Instant, Duration),
        cas: Option<u64>,
    ) {
        if let Some(held) = self.lock().get_mut(&(token, key.value.clone())) {
            held.life = asked.saturating_duration_since(held.origin.asked).saturating_add(life);
            held.lease_cas = cas;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn is_over(&self) -> bool {
        self.origin.asked.elapsed() >= self.life
    }
}

/// The life of a lease in the server's seconds, rounded up: it is over here before it is over there.
pub(super) fn seconds(life: Duration) -> u32 {
    const DAY: u64 = 24 * 60 * 60;
    // The server's clock ticks once in a second, so a second may be none.
    let seconds = life.as_secs().saturating_add(2).min(DAY);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
