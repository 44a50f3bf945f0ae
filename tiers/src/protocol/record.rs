//! One key on a server: its value, the lease on it, and the holds of those who write its source.
//!
//! | step | value | lease | holds |
//! |---|---|---|---|
//! | `lease` | read | taken, if free or by force, and nobody holds | untouched |
//! | `renew` | untouched | lives longer, if the token stands | untouched |
//! | `fill` | stored, if the token stands | dropped, if it stands | untouched |
//! | `release` | untouched | dropped, if the token stands | untouched |
//! | `set` | stored, if nobody holds; else dropped | dropped | not alone any more |
//! | `delete` | dropped | dropped | not alone any more |
//! | `hold` | dropped | dropped | one more |
//! | `renew_hold` | dropped | dropped | one lives longer, or is back, but not alone |
//! | `end_hold` | dropped | dropped; granted, if it was alone and asks for it | one less |
//!
//! While a hold stands, the source is being written: what is loaded now may be the old value or the new one, and
//! nobody gets a lease to store it. Holds are a set, for several may write at once: with one place for them all, the
//! first to end would open the key under the second. Each ends by the server's clock, if its writer dies.
//!
//! A writer that was *alone* wrote last, so what it wrote may be stored. It was not if another held meanwhile, or
//! deleted, or if its hold was gone for a while: others may have held then, and nobody remembers them.
//!
//! A server forgets what is over, and under pressure more than that: a lease that was *evicted* refuses its fill, and
//! so costs a load. A hold that was evicted, or ran out, opens the key early; but its end still drops what was
//! filled meanwhile, and says that it was lost.

use crate::Claim;

/// A key's state. `V` is what is stored, `K` a token, `T` a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record<V, K, T> {
    value: Option<Until<V, T>>,
    lease: Option<Until<K, T>>,
    holds: Vec<Hold<K, T>>,
}

/// Something that ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Until<X, T> {
    what: X,
    end: T,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Hold<K, T> {
    token: K,
    end: T,
    /// Another hold stood at some time of this one's.
    overlapped: bool,
}

/// What came of asking for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granted {
    /// The token stands now.
    Yes,
    /// Another token stands.
    Held,
    /// A writer holds the key.
    OnHold,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldEnd {
    /// It stood to the end, and no other hold stood meanwhile: whatever was written under it was written last.
    Alone,
    /// It stood to the end, and another hold stood at some time: nobody knows who wrote last.
    Overlapped,
    /// It was gone: it had expired, or was evicted.
    Lost,
}

impl<V, K, T> Default for Record<V, K, T> {
    fn default() -> Self {
        Self { value: None, lease: None, holds: Vec::new() }
    }
}

impl<V, K: PartialEq, T: PartialOrd + Copy> Record<V, K, T> {
    /// The value and its end, unless that is over.
    pub fn value(&self, now: T) -> Option<(&V, T)> {
        let value = self.value.as_ref().filter(|value| now < value.end)?;
        Some((&value.what, value.end))
    }

    /// Whether `token` stands.
    pub fn is_leased_to(&self, now: T, token: &K) -> bool {
        self.lease.as_ref().is_some_and(|lease| now < lease.end && lease.what == *token)
    }

    /// Whether `token` holds the key.
    pub fn is_held_by(&self, now: T, token: &K) -> bool {
        self.holds.iter().any(|hold| now < hold.end && hold.token == *token)
    }

    /// Whether some writer holds the key.
    pub fn is_on_hold(&self, now: T) -> bool {
        self.holds.iter().any(|hold| now < hold.end)
    }

    /// Whether nothing of it is left.
    pub fn is_empty(&self, now: T) -> bool {
        let leased = self.lease.as_ref().is_some_and(|lease| now < lease.end);
        self.value(now).is_none() && !leased && !self.is_on_hold(now)
    }

    /// Takes the lease until `end`. A token that stands is granted again.
    pub fn lease(&mut self, now: T, token: K, end: T, claim: Claim) -> Granted {
        if self.is_on_hold(now) {
            return Granted::OnHold;
        }
        let free = self.lease.as_ref().is_none_or(|lease| now >= lease.end || lease.what == token);
        if !free && claim == Claim::IfFree {
            return Granted::Held;
        }
        self.lease = Some(Until { what: token, end });
        Granted::Yes
    }

    /// Lets the lease live until `end`. Says whether the token stood.
    pub fn renew(&mut self, now: T, token: &K, end: T) -> bool {
        let stands = self.is_leased_to(now, token);
        if let Some(lease) = self.lease.as_mut().filter(|_| stands) {
            lease.end = end;
        }
        stands
    }

    /// Stores a value until `end`, if the token stands, which is then dropped. Says whether it did.
    pub fn fill(&mut self, now: T, token: &K, value: V, end: T) -> bool {
        let stands = self.is_leased_to(now, token);
        if stands {
            self.value = Some(Until { what: value, end });
            self.lease = None;
        }
        stands
    }

    /// Drops the lease, if the token stands.
    pub fn release(&mut self, now: T, token: &K) {
        if self.is_leased_to(now, token) {
            self.lease = None;
        }
    }

    /// Stores a value until `end`, whoever has the lease, which is dropped; on a key that a writer holds nothing is
    /// stored, and the old value goes. Says whether it did.
    pub fn set(&mut self, now: T, value: V, end: T) -> bool {
        self.delete();
        let is_free = !self.is_on_hold(now);
        self.value = is_free.then_some(Until { what: value, end });
        is_free
    }

    /// Drops the value and the lease. Somebody has written the source: whoever holds the key is not alone.
    pub fn delete(&mut self) {
        self.drop_both();
        self.overlap();
    }

    /// Drops the value and the lease, and holds the key until `end`. A token that holds already holds longer.
    ///
    /// A second copy of this message must not come late: it would begin a hold that has ended, as if it were alone.
    pub fn hold(&mut self, now: T, token: K, end: T) {
        if !self.holds_longer(now, &token, end) {
            let overlapped = !self.holds.is_empty();
            self.overlap();
            self.holds.push(Hold { token, end, overlapped });
        }
    }

    /// Drops the value and the lease, and lets a hold live until `end`; says whether it stood. One that is gone is
    /// back, but not as alone: nobody knows who wrote meanwhile.
    pub fn renew_hold(&mut self, now: T, token: K, end: T) -> bool {
        let stood = self.holds_longer(now, &token, end);
        if !stood {
            self.overlap();
            self.holds.push(Hold { token, end, overlapped: true });
        }
        stood
    }

    /// Drops the value, the lease and this hold. If it was alone all the time, `lease` is granted.
    pub fn end_hold(&mut self, now: T, token: &K, lease: Option<(K, T)>) -> HoldEnd {
        self.drop_both();
        self.holds.retain(|hold| now < hold.end);
        let own = self.holds.iter().position(|hold| hold.token == *token);
        let own = own.map(|own| self.holds.swap_remove(own));
        // Also where this one is lost: its writer wrote all the same.
        self.overlap();
        match own {
            None => HoldEnd::Lost,
            Some(own) if own.overlapped => HoldEnd::Overlapped,
            Some(_) => {
                self.lease = lease.map(|(what, end)| Until { what, end });
                HoldEnd::Alone
            }
        }
    }

    fn drop_both(&mut self) {
        (self.value, self.lease) = (None, None);
    }

    fn overlap(&mut self) {
        self.holds.iter_mut().for_each(|hold| hold.overlapped = true);
    }

    /// Drops the value, the lease and the holds that are over. A token that holds holds until `end`; says whether it
    /// does.
    fn holds_longer(&mut self, now: T, token: &K, end: T) -> bool {
        self.drop_both();
        self.holds.retain(|hold| now < hold.end);
        let own = self.holds.iter_mut().find(|hold| hold.token == *token);
        let stands = own.is_some();
        if let Some(own) = own {
            own.end = end;
        }
        stands
    }
}

/// What a server does by itself: forget.
impl<V, K, T: PartialOrd + Copy> Record<V, K, T> {
    /// What is stored and when it ends, over or not.
    pub fn stored(&self) -> Option<(&V, T)> {
        self.value.as_ref().map(|value| (&value.what, value.end))
    }

    /// How many leases and holds there are, over or not.
    pub fn guards(&self) -> usize {
        usize::from(self.lease.is_some()) + self.holds.len()
    }

    /// When the first of the lease and the holds ends.
    pub fn first_guard_end(&self) -> Option<T> {
        let ends = self.lease.iter().map(|lease| lease.end);
        ends.chain(self.holds.iter().map(|hold| hold.end)).reduce(|a, b| if b < a { b } else { a })
    }

    /// Evicts the value. Says whether there was one.
    pub fn evict_value(&mut self) -> bool {
        self.value.take().is_some()
    }

    /// Evicts the lease or the hold that ends first. Says whether there was one.
    pub fn evict_first_guard(&mut self) -> bool {
        let Some(first) = self.first_guard_end() else { return false };
        if self.lease.as_ref().is_some_and(|lease| lease.end <= first) {
            self.lease = None;
        } else if let Some(at) = self.holds.iter().position(|hold| hold.end <= first) {
            self.holds.swap_remove(at);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Key = Record<&'static str, u8, u8>;

    #[test]
    fn a_fill_needs_the_token_that_stands() {
        let mut key = Key::default();
        assert_eq!(key.lease(0, 1, 5, Claim::IfFree), Granted::Yes);
        assert_eq!(key.lease(1, 2, 6, Claim::IfFree), Granted::Held);
        key.delete();
        assert!(!key.fill(2, &1, "old", 9));
        assert_eq!(key.lease(2, 2, 6, Claim::IfFree), Granted::Yes);
        assert!(key.renew(5, &2, 10) && key.fill(9, &2, "new", 20));
        assert_eq!(key.value(19), Some((&"new", 20)));
        assert_eq!((key.value(20), key.is_empty(20)), (None, true));
    }

    #[test]
    fn a_set_drops_the_lease_and_stores_nothing_under_a_hold() {
        let mut key = Key::default();
        assert_eq!(key.lease(0, 1, 9, Claim::IfFree), Granted::Yes);
        assert!(key.set(1, "set", 9) && !key.is_leased_to(1, &1));
        assert_eq!(key.value(2), Some((&"set", 9)));
        key.hold(2, 1, 5);
        assert!(!key.set(4, "later", 9) && key.stored().is_none());
        assert!(key.set(5, "after", 9), "the hold is over");
    }

    #[test]
    fn what_is_evicted_is_as_if_it_had_run_out() {
        let mut key = Key::default();
        key.hold(0, 1, 9);
        key.hold(0, 2, 5);
        assert_eq!((key.guards(), key.first_guard_end()), (2, Some(5)));
        assert!(key.evict_first_guard() && key.is_held_by(1, &1) && !key.is_held_by(1, &2));
        assert_eq!(key.end_hold(1, &2, Some((7, 9))), HoldEnd::Lost);
        assert_eq!(key.end_hold(1, &1, Some((7, 9))), HoldEnd::Overlapped);
        assert_eq!(key.lease(1, 3, 4, Claim::IfFree), Granted::Yes);
        assert!(key.evict_first_guard() && !key.fill(2, &3, "late", 9));
        assert!(key.set(2, "v", 9) && key.evict_value() && !key.evict_value());
        assert!(key.is_empty(2) && !key.evict_first_guard());
    }

    #[test]
    fn nobody_leases_a_key_that_is_held_and_the_first_to_end_does_not_open_it() {
        let mut key = Key::default();
        key.hold(0, 1, 5);
        key.hold(1, 2, 9);
        assert_eq!(key.end_hold(2, &1, Some((7, 9))), HoldEnd::Overlapped);
        assert_eq!(key.lease(3, 8, 9, Claim::ByForce), Granted::OnHold);
        assert_eq!(key.end_hold(4, &2, Some((7, 9))), HoldEnd::Overlapped);
        assert_eq!(key.lease(4, 8, 9, Claim::IfFree), Granted::Yes);
        key.hold(5, 3, 9);
        assert!(key.renew_hold(8, 3, 12));
        assert_eq!(key.end_hold(11, &3, Some((7, 15))), HoldEnd::Alone);
        assert!(key.fill(12, &7, "mine", 20));
        key.hold(13, 4, 14);
        assert_eq!(key.lease(14, 9, 20, Claim::IfFree), Granted::Yes);
        assert_eq!(key.end_hold(15, &4, None), HoldEnd::Lost);
        assert!(!key.fill(16, &9, "read meanwhile", 20));
    }

    #[test]
    fn who_is_not_alone_stores_nothing() {
        let others: [fn(&mut Key); 4] = [
            // Wrote the source without a hold, and deletes.
            |key| key.delete(),
            // Wrote under a hold of its own.
            |key| {
                key.hold(2, 2, 9);
                key.end_hold(3, &2, None);
            },
            // Wrote under a hold that the server has lost.
            |key| assert_eq!(key.end_hold(2, &2, None), HoldEnd::Lost),
            // Wrote after the first hold had run out, and before it is renewed.
            |key| {
                key.hold(5, 2, 9);
                key.end_hold(6, &2, None);
                assert!(!key.renew_hold(7, 1, 12));
            },
        ];
        for other in others {
            let mut key = Key::default();
            key.hold(1, 1, 5);
            other(&mut key);
            let ended = key.end_hold(if key.is_on_hold(7) { 8 } else { 4 }, &1, Some((7, 15)));
            assert_eq!((ended, key.is_leased_to(8, &7)), (HoldEnd::Overlapped, false));
        }
    }
}
