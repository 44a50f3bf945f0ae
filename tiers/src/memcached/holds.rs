//! Holds, of which each is an item of its own, a token in one of eight *places* beside the key; and the *mark* of the one
//! that is alone, which stands where the lease would.
//!
//! A server that runs no scripts looks at one item at a time, so whoever takes something looks at the other's items
//! *afterwards*, on the same connection, which keeps the order:
//!
//! - `hold` writes its mark over what the lease's item has, takes a place, drops the value, and looks at the places and
//!   at the mark. If another place is taken, or the mark is gone, it drops lease and value once more.
//! - `lease` takes the lease, and then looks at the places; if one is taken, it gives the lease up again.
//! - `set` drops lease and value, which leaves a stub, and then looks at the places; if one is taken, it stops.
//! - `end_hold` puts the lease that is to follow in the place of the mark, under the mark's number, drops the value,
//!   leaves its place, and then looks at the places and at the lease. Without a lease it takes the mark away at last.
//!
//! So whatever drops the lease drops the mark: a `delete`, a `set`, another hold, another's end, also of one that was
//! lost. No hold puts its mark back. A hold was alone if its mark stood to the end, and no other place is taken then.
//! A load by force drops it too, which is more than need be, and costs a value that might have been stored.
//!
//! The interleavings of a hold H with a load L or a set S:
//!
//! 1. L takes the lease and finds no hold; H takes its place. L's lease went under H's mark, or is found in its stead,
//!    and is dropped then; so is what L has filled, and its number is another: L's fill is refused.
//! 2. H takes its place; L takes the lease and finds the place taken: given up. H's mark may be gone now.
//! 3. L fills between H's place and H's drop: its value is dropped.
//! 4. S makes its stub and finds no hold; H takes its place, and then drops the stub: S's fill finds another number,
//!    and S begins again and finds the hold.
//! 5. The end of H: a load that took the lease before has lost it, one that takes it later finds the place still
//!    taken or free. The value has another number, for it was dropped.
//!
//! Two holds, H and J:
//!
//! 6. The later of the two marks takes the other away, for good. Let it be J's.
//! 7. H's place is taken before J looks: J finds it, and drops its own mark. Neither is alone.
//! 8. It is taken after that: then J's stands already, and H finds it when it looks, unless it is over; or H does not
//!    find its mark. In both cases it drops J's. Neither is alone.
//! 9. J ended before H looked, as alone: it was through with its writing before H's begins. The lease that it got is
//!    dropped by H, as in 1.
//! 10. J comes when H ends. Its mark takes away H's, or the lease that followed, before H looks at it: overlapped. Or
//!     after that: its place is taken later still, so it began after H's end, and its mark takes what H fills.
//!
//! A renewal stores the mark and the token anew under their items' numbers; `touch` would renew what another has taken
//! since. One whose place is gone takes a place without a mark, and drops lease and value after that.
//!
//! Rejected: one item for all holds, changed under its number. A writer that dies would leave its token in it, with no
//! end of its own by the server's clock. And a mark of its own beside the lease: a `delete` does not touch it.

use std::time::Duration;

use super::{
    Memcached,
    exchange::{self, Answer, Command},
    key::Spelling,
    leases::{self, Held},
    pool,
};
use crate::{HoldEnd, LeaseToken, TierError};

/// The places for holds.
pub(super) const PLACES: [char; 8] = ['0', '1', '2', '3', '4', '5', '6', '7'];
/// How often a place is looked for, when others take it at the same moment.
const ATTEMPTS: usize = PLACES.len();

/// What the places and the lease's item have shown.
struct Seen {
    /// The own place and its number.
    own: Option<(char, u64)>,
    /// Places that nobody has.
    free: Vec<char>,
    /// Whether others have some.
    others: bool,
    /// The number of the own mark.
    mark: Option<u64>,
}

impl Seen {
    fn looks(key: &Spelling) -> impl Iterator<Item = Command> {
        let places = PLACES.into_iter().map(|place| Command::look_at_hold(key, place));
        places.chain([Command::look_at_lease(key)])
    }

    fn of(answers: &[Answer], token: LeaseToken) -> Result<Self, TierError> {
        let (lease, places) = answers.split_last().ok_or_else(exchange::missing)?;
        if places.len() != PLACES.len() {
            return Err(exchange::missing());
        }
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
        seen.mark = lease.cas.filter(|_| lease.is_mark(token));
        Ok(seen)
    }
}

impl Memcached {
    /// Begins a hold, or renews it; says whether it stood already.
    pub(super) async fn hold_key(
        &self,
        key: &Spelling,
        token: LeaseToken,
        life: Duration,
        begins: bool,
    ) -> Result<bool, TierError> {
        let (pools, mut budget) = (self.pools()?, self.budget());
        let pool = pool(&pools, self.servers.of(key))?;
        let seconds = leases::seconds(life);
        let mut lent = pool.lend(&mut budget).await?;
        for _ in 0..ATTEMPTS {
            let looks: Vec<Command> = Seen::looks(key).collect();
            let seen = Seen::of(&lent.ask(&budget, &looks).await?, token)?;
            if let Some((place, cas)) = seen.own {
                let mark = seen.mark.map(|cas| Command::mark(key, token, seconds, Some(cas)));
                let mut commands: Vec<Command> = mark.into_iter().collect();
                let kept = commands.len();
                commands.push(Command::keep_place(key, place, token, seconds, cas));
                if seen.mark.is_none() {
                    commands.push(Command::delete_lease(key));
                }
                commands.push(Command::delete(key));
                let answers = lent.ask(&budget, &commands).await?;
                if answers.get(kept).is_some_and(Answer::is_done) {
                    lent.give_back();
                    return Ok(true);
                }
                continue;
            }
            // Never the same one first: of several at once each would lose to another.
            let lot = usize::from(token.as_bytes().first().copied().unwrap_or_default());
            let Some(place) = seen.free.get(lot % seen.free.len().max(1)).copied() else {
                lent.give_back();
                let words = "eight writers hold this key, and memcached has no place for more";
                return Err(TierError::Refused(words.into()));
            };
            let mark = begins.then(|| Command::mark(key, token, seconds, None));
            let mut commands: Vec<Command> = mark.into_iter().collect();
            let taken = commands.len();
            commands.push(Command::take_place(key, place, token, seconds));
            commands.push(Command::delete(key));
            commands.extend(Seen::looks(key));
            let answers = lent.ask(&budget, &commands).await?;
            let after = Seen::of(answers.get(taken + 2..).unwrap_or_default(), token)?;
            if after.others || after.mark.is_none() {
                lent.ask(&budget, &Command::drop_both(key)).await?;
            }
            if answers.get(taken).is_some_and(Answer::is_done) {
                lent.give_back();
                return Ok(false);
            }
        }
        lent.give_back();
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
        let mut lent = pool.lend(&mut budget).await?;
        for _ in 0..ATTEMPTS {
            let looks: Vec<Command> = Seen::looks(key).collect();
            let seen = Seen::of(&lent.ask(&budget, &looks).await?, token)?;
            let Some((place, cas)) = seen.own else {
                lent.ask(&budget, &Command::drop_both(key)).await?;
                lent.give_back();
                return Ok(HoldEnd::Lost);
            };
            let leave = Command::leave_place(key, place, cas);
            let Some(mark) = seen.mark.filter(|_| !seen.others) else {
                let [lease, value] = Command::drop_both(key);
                let answers = lent.ask(&budget, &[lease, value, leave]).await?;
                if answers.last().is_some_and(Answer::is_done) {
                    lent.give_back();
                    return Ok(HoldEnd::Overlapped);
                }
                // Its item has another number: it ran out, or a renewal was late. Look again.
                continue;
            };
            let (has_left, stood) = match lease {
                None => {
                    let mut commands = vec![Command::delete(key), leave];
                    commands.extend(Seen::looks(key));
                    commands.push(Command::release(key, mark));
                    let answers = lent.ask(&budget, &commands).await?;
                    let [_, left, looks @ .., released] = answers.as_slice() else {
                        return Err(exchange::missing());
                    };
                    let others = Seen::of(looks, token)?.others;
                    (left.is_done(), released.is_done() && !others)
                }
                Some((lease, life)) => {
                    let seconds = leases::seconds(life);
                    let mut commands = vec![Command::renew(key, lease, seconds, mark)];
                    commands.push(Command::delete(key));
                    commands.push(Command::look_or_stub(key, seconds));
                    commands.push(leave);
                    commands.extend(Seen::looks(key));
                    let origin = lent.origin();
                    let answers = lent.ask(&budget, &commands).await?;
                    let [_, _, value, left, looks @ ..] = answers.as_slice() else {
                        return Err(exchange::missing());
                    };
                    let alone = left.is_done() && !Seen::of(looks, token)?.others;
                    let found = looks.last().filter(|found| found.is_token(lease));
                    let lease_cas = found.and_then(|found| found.cas);
                    match (lease_cas, value.cas) {
                        (Some(_), Some(value_cas)) if alone => {
                            let held = Held { origin, life, server, lease_cas, value_cas };
                            self.leases.remember(lease, key, held);
                        }
                        (Some(cas), _) => {
                            lent.ask(&budget, &[Command::release(key, cas)]).await?;
                        }
                        (None, _) => {}
                    }
                    (left.is_done(), alone && lease_cas.is_some())
                }
            };
            if has_left {
                lent.give_back();
                return Ok(if stood { HoldEnd::Alone } else { HoldEnd::Overlapped });
            }
        }
        lent.give_back();
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
