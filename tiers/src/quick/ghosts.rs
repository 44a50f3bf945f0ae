//! The keys that were let go lately, as fingerprints: who comes back soon was let go too early.
//!
//! Buckets of four fingerprints, each with the number of the eviction that left it: forgetting is
//! never an operation, a ghost is too old or overwritten by a younger one. Eight bytes a ghost; the
//! rejected alternative, a queue and a set of hashes, takes thrice that, and needs both to agree.
//! Two keys of one fingerprint are taken for each other, which costs one entry its trial time.

/// Fingerprints in one bucket.
const WAYS: usize = 4;

/// What is left of an entry. A fingerprint of 0 is none.
#[derive(Clone, Copy, Default)]
struct Ghost {
    fingerprint: u32,
    at: u32,
}

/// The ghosts of one shard.
#[derive(Default)]
pub(super) struct Ghosts {
    /// A power of two of them, or none.
    buckets: Vec<[Ghost; WAYS]>,
    /// Counts what was remembered; what a ghost's age is measured by.
    now: u32,
}

impl Ghosts {
    /// Remembers a key that was let go.
    pub(super) fn remember(&mut self, hash: u64) {
        self.now = self.now.wrapping_add(1);
        let (now, fingerprint) = (self.now, fingerprint(hash));
        if let Some(bucket) = self.bucket(fingerprint) {
            put(bucket, Ghost { fingerprint, at: now }, now);
        }
    }

    /// Whether the key is among the last `span` that were remembered. It is forgotten with that.
    pub(super) fn recall(&mut self, hash: u64, span: usize) -> bool {
        let (now, fingerprint) = (self.now, fingerprint(hash));
        let found = self.bucket(fingerprint).and_then(|bucket| {
            bucket.iter_mut().find(|ghost| ghost.fingerprint == fingerprint).map(std::mem::take)
        });
        found.is_some_and(|ghost| (age(ghost, now) as usize) < span)
    }

    fn bucket(&mut self, fingerprint: u32) -> Option<&mut [Ghost; WAYS]> {
        let mask = self.buckets.len().wrapping_sub(1);
        self.buckets.get_mut(fingerprint as usize & mask)
    }

    /// Makes room for `span` ghosts and moves those over that there are. Apart from
    /// [`remember`](Self::remember), which may not allocate.
    pub(super) fn reserve(&mut self, span: usize) {
        let wanted = span.div_ceil(WAYS).next_power_of_two();
        if wanted <= self.buckets.len() {
            return;
        }
        let old = std::mem::replace(&mut self.buckets, vec![Default::default(); wanted]);
        let now = self.now;
        for ghost in old.into_iter().flatten().filter(|ghost| ghost.fingerprint != 0) {
            if let Some(bucket) = self.bucket(ghost.fingerprint) {
                put(bucket, ghost, now);
            }
        }
    }
}

/// Puts a ghost over its former self, into a free place, or over the oldest.
fn put(bucket: &mut [Ghost; WAYS], ghost: Ghost, now: u32) {
    let worth = |old: &&mut Ghost| {
        if old.fingerprint == ghost.fingerprint {
            return (0, 0);
        }
        if old.fingerprint == 0 { (1, 0) } else { (2, u32::MAX - age(**old, now)) }
    };
    if let Some(place) = bucket.iter_mut().min_by_key(worth) {
        *place = ghost;
    }
}

/// How many were remembered since.
fn age(ghost: Ghost, now: u32) -> u32 {
    now.wrapping_sub(ghost.at)
}

fn fingerprint(hash: u64) -> u32 {
    // The low half: the high one has chosen the shard, and would be alike for all keys in it.
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As good as random.
    fn hash(key: u64) -> u64 {
        key.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
    }

    #[test]
    fn the_latest_are_known_once_and_the_older_are_not() {
        let mut ghosts = Ghosts::default();
        assert!(!ghosts.recall(hash(0), 100));
        ghosts.remember(hash(0));
        ghosts.reserve(100);
        for key in 0..1_000 {
            ghosts.remember(hash(key));
        }
        let known = (900..1_000).filter(|key| ghosts.recall(hash(*key), 100)).count();
        assert!(known > 75, "{known} of the last 100");
        assert!((0..1_000).all(|key| !ghosts.recall(hash(key), 100)));
    }

    #[test]
    fn they_are_still_known_after_growing() {
        let mut ghosts = Ghosts::default();
        ghosts.reserve(16);
        for key in 0..8 {
            ghosts.remember(hash(key));
        }
        ghosts.reserve(100_000);
        assert!((0..8).filter(|key| ghosts.recall(hash(*key), 100_000)).count() >= 6);
    }
}
