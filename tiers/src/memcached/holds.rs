//! Holds, of which each is an item of its own: a token in one of eight *places* beside the key, and the *mark*, the
//! token of whoever held last.
//!
//! A server that runs no scripts looks at one item at a time, so whoever takes something looks at the other's items
//! *afterwards*, on the same connection, which keeps the order:
//!
//! - `hold` writes the mark, takes a place, and then drops lease and value.
//! - `lease` takes the lease, and then looks at the places; if one is taken, it gives the lease up again.
//! - `set` drops lease and value, which leaves a stub, and then looks at the places; if one is taken, it stops.
//! - `end_hold` drops lease and value, takes the lease that is to follow while its place is still taken, leaves the
//!   place, and then looks at the mark and at the places; if another was there, it gives the lease up again.
//!
//! The interleavings of a hold H with a load L or a set S:
//!
//! 1. L takes the lease and finds no hold; H takes its place, and then drops lease and value: L's fill is refused.
//! 2. H takes its place; L takes the lease and finds the place taken: given up. H's drop may come before or after.
//! 3. L fills between H's place and H's drop: its value is dropped.
//! 4. S makes its stub and finds no hold; H takes its place, and then drops the stub: S's fill finds another number,
//!    and S begins again and finds the hold.
//! 5. The end of H: a load that took the lease before has lost it, one that takes it later finds the place still
//!    taken or free. The lease that follows is by force and gives the value another number, as any claim by force.
//!
//! Two holds, H and J, of which H ends:
//!
//! 6. J's mark is there when H looks, or is gone, which is as good: overlapped. So J may have come, written and ended
//!    in between, and its item may even have been evicted.
//! 7. J writes its mark after H has looked at it, and takes its place before H looks at that: overlapped.
//! 8. J takes its place later still: it began after H's end, and its drops take what H fills.
//! 9. J finds H's place taken, before it takes its own or after: it is overlapped itself, and this process remembers
//!    that. One that does not remember a hold, for it was begun by another process, answers overlapped too.
//! 10. H is lost, or never was, and ends while J stands: H takes J's mark away, and J is overlapped.
//!
//! A hold that leaves between J's mark and J's second look, and that J does not see, was through with its writing
//! before J's began: J is the last to write, and being alone is what that means.
//!
//! A renewal stores the token anew under its item's number; `touch` would renew what another has taken since. A mark
//! that is not one's own any more is left alone: it tells of another.
//!
//! Rejected: one item for all holds, changed under its number. A writer that dies would leave its token in it, with no
//! end of its own by the server's clock.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Memcached,
    exchange::{self, Answer, Command},
    key::Spelling,
    leases::{self, Held},
    pool,
};
use crate::{Claim, HoldEnd, LeaseToken, TierError};

/// The places for holds.
pub(super) const PLACES: [char; 8] = ['0', '1', '2', '3', '4', '5', '6', '7'];
/// The place of the mark.
pub(super) const MARK: char = 'x';
/// How often a place is looked for, when others take it at the same moment.
const ATTEMPTS: usize = PLACES.len();
/// From here on, holds whose time is over are looked for at each new one.
const MANY: usize = 1_024;

/// The holds of this process: whether one was alone when it began, and when it is over at the latest.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<HashMap<(LeaseToken, Vec<u8>), Began>>);

#[derive(Clone, Copy, Debug)]
struct Began {
    alone: bool,
    until: Instant,
}

impl Holds {
    /// Notes that a hold stands from now on, or longer. One that was overlapped remains so.
    fn began(&self, token: LeaseToken, key: &Spelling, is_new: bool, began: Began) {
        let mut holds = self.lock();
        if holds.len() >= MANY && holds.len() == holds.capacity() {
            let now = Instant::now();
            holds.retain(|_, began| now < began.until);
        }
        let known = holds.get(&(token, key.value.clone())).map(|known| known.alone);
        let alone = if is_new { began.alone } else { known.unwrap_or(false) };
        holds.insert((token, key.value.clone()), Began { alone, ..began });
    }

    fn was_alone(&self, token: LeaseToken, key: &Spelling) -> bool {
        self.lock().get(&(token, key.value.clone())).is_some_and(|began| began.alone)
    }

    fn forget(&self, token: LeaseToken, key: &Spelling) {
        self.lock().remove(&(token, key.value.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(LeaseToken, Vec<u8>), Began>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the places and the mark have shown.
struct Seen {
    /// The own place and its number.
    own: Option<(char, u64)>,
    /// Places that nobody has.
    free: Vec<char>,
    /// Whether others have some.
    others: bool,
    /// The number of the mark, if it is one's own.
    mark: Option<u64>,
}

impl Seen {
    fn looks(key: &Spelling) -> Vec<Command> {
        let looks = PLACES.into_iter().chain([MARK]);
        looks.map(|place| Command::look_at_hold(key, place)).collect()
    }

    fn of(answers: &[Answer], token: LeaseToken) -> Result<Self, TierError> {
        let (mark, places) = answers.split_last().ok_or_else(exchange::missing)?;
        let mut seen = Self { own: None, free: Vec::new(), others: false, mark: None };
        for (place, answer) in PLACES.into_iter().zip(places) {
            if answer.is_token(token) {
                seen.own = Some((place, answer.cas.ok_or_else(exchange::missing)?));
            } else if answer.is_there() {
                seen.others = true;
            } else {
                seen.free.push(place);
            }
        }
        seen.mark = mark.cas.filter(|_| mark.is_token(token));
        Ok(seen)
    }
}

impl Memcached {
    pub(super) async fn hold_key(
        &self,
        key: &Spelling,
        token: LeaseToken,
        life: Duration,
    ) -> Result<(), TierError> {
        let (pools, mut budget) = (self.pools()?, self.budget());
        let pool = pool(&pools, self.servers.of(key))?;
        let seconds = leases::seconds(life);
        for _ in 0..ATTEMPTS {
            let mut lent = pool.lend(&mut budget).await?;
            let seen = Seen::of(&lent.ask(&budget, &Seen::looks(key)).await?, token)?;
            // Never the same one first: of several at once each would lose to another.
            let lot = usize::from(token.as_bytes().first().copied().unwrap_or_default());
            let free = seen.free.get(lot % seen.free.len().max(1)).copied();
            let (mut commands, place) = match (seen.own, free) {
                (Some((place, cas)), _) => {
                    let mark = seen.mark.map(|cas| {
                        Command::write_place(key, MARK, token, seconds.saturating_add(1), Some(cas))
                    });
                    let own = Command::write_place(key, place, token, seconds, Some(cas));
                    (mark.into_iter().chain([own]).collect::<Vec<_>>(), place)
                }
                (None, Some(place)) => {
                    let mark =
                        Command::write_place(key, MARK, token, seconds.saturating_add(1), None);
                    (vec![mark, Command::take_place(key, place, token, seconds)], place)
                }
                (None, None) => {
                    lent.give_back();
                    let words = "eight writers hold this key, and memcached has no place for more";
                    return Err(TierError::Refused(words.into()));
                }
            };
            let taken = commands.len() - 1;
            commands.extend(Command::look_for_holds(key));
            commands.extend(Command::drop_both(key));
            let until = Instant::now() + Duration::from_secs(u64::from(seconds) + 1);
            let answers = lent.ask(&budget, &commands).await?;
            lent.give_back();
            if answers.get(taken).is_some_and(Answer::is_done) {
                let looked = PLACES.into_iter().zip(answers.iter().skip(taken + 1));
                let beside = looked.filter(|(other, _)| *other != place);
                let alone = !seen.others && beside.into_iter().all(|(_, look)| !look.is_there());
                self.holds.began(token, key, seen.own.is_none(), Began { alone, until });
                return Ok(());
            }
        }
        Err(TierError::Refused("every place for a hold was taken as it fell free".into()))
    }

    pub(super) async fn end_hold_of(
        &self,
        key: &Spelling,
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        let (pools, mut budget) = (self.pools()?, self.budget());
        let server = self.servers.of(key);
        let pool = pool(&pools, server)?;
        for _ in 0..ATTEMPTS {
            let mut lent = pool.lend(&mut budget).await?;
            let seen = Seen::of(&lent.ask(&budget, &Seen::looks(key)).await?, token)?;
            let Some((place, cas)) = seen.own else {
                // Its writer wrote all the same: whoever holds now was not alone.
                let [lease, value] = Command::drop_both(key);
                lent.ask(&budget, &[Command::drop_mark(key), lease, value]).await?;
                lent.give_back();
                self.holds.forget(token, key);
                return Ok(HoldEnd::Lost);
            };
            let was_alone = self.holds.was_alone(token, key) && !seen.others && seen.mark.is_some();
            let lease = lease.filter(|_| was_alone);
            let mut commands = Vec::from(Command::drop_both(key));
            if let Some((lease, life)) = lease {
                let seconds = leases::seconds(life);
                commands.push(Command::claim(key, lease, seconds, Claim::ByForce));
                commands.push(Command::renumber(key));
                commands.push(Command::look_or_stub(key, seconds));
                commands.push(Command::look_at_lease(key));
            }
            commands.push(Command::leave_place(key, place, cas));
            let left = commands.len() - 1;
            commands.extend(Seen::looks(key));
            let origin = lent.origin();
            let answers = lent.ask(&budget, &commands).await?;
            let has_left = answers.get(left).is_some_and(Answer::is_done);
            let after = Seen::of(answers.get(left + 1..).unwrap_or_default(), token)?;
            let alone = was_alone && has_left && !after.others && after.mark.is_some();
            let leased = answers.get(left.saturating_sub(2)..left).unwrap_or_default();
            if let (Some((lease, life)), [value, leased]) = (lease, leased) {
                let cas = leased.cas.filter(|_| leased.is_token(lease));
                match (cas, value.cas) {
                    (Some(lease_cas), Some(value_cas)) if alone => {
                        let lease_cas = Some(lease_cas);
                        let held = Held { origin, life, server, lease_cas, value_cas };
                        self.leases.remember(lease, key, held);
                    }
                    (Some(cas), _) => drop(lent.ask(&budget, &[Command::release(key, cas)]).await?),
                    (None, _) => {}
                }
            }
            lent.give_back();
            if has_left {
                self.holds.forget(token, key);
                return Ok(if alone { HoldEnd::Alone } else { HoldEnd::Overlapped });
            }
            // Its item has another number: it ran out, or a renewal was late. Look again.
        }
        Err(TierError::Refused("the hold was renewed while it was to end".into()))
    }

    /// Gives a lease up that was taken on a key on hold. One that cannot be ends by itself, or with the hold.
    pub(super) async fn give_up(&self, server: usize, key: &Spelling, lease: &Answer) {
        if let Some(cas) = lease.cas {
            let _ = self.ask(server, &[Command::release(key, cas)]).await;
        }
    }
}

/// The number of the stub that emptying a key has left; `None` if the key is on hold.
pub(super) fn emptied_number(answers: &[Answer]) -> Result<Option<u64>, TierError> {
    let [_, _, stub, holds @ ..] = answers else { return Err(exchange::missing()) };
    let cas = stub.cas.ok_or_else(exchange::missing)?;
    Ok((!holds.iter().any(Answer::is_there)).then_some(cas))
}
