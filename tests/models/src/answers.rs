//! What a record answers: all that anybody can know of it, and so all that it needs to be made anew.
//!
//! States that nobody can tell apart are one: with the time counted from now, with other names for the tokens and
//! the versions. This holds for the shipped record; a mutant may be different where it is not asked, so mutants are
//! searched as they are.

use tiered_tiers::{Claim, protocol::HoldEnd};

use crate::{Tick, Token, record::Key};

/// How long a lease and a hold live.
pub(crate) const LIFE: Tick = 2;
/// A token that stands nowhere, and can stand nowhere again.
pub(crate) const GONE: Token = 100;
/// What a record is filled with when it is made anew.
const MAKING: Token = 101;
/// More tokens than there are at once.
const TOKENS: Token = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answers<V> {
    pub(crate) value: Option<V>,
    /// The token, and for how long.
    pub(crate) lease: Option<(Token, Tick)>,
    /// For how long, whether it is alone, and its token.
    pub(crate) holds: Vec<(Tick, bool, Token)>,
}

impl<V: Clone + PartialEq> Answers<V> {
    pub(crate) fn of<R: Key<V>>(key: &R, now: Tick) -> Self {
        let left = |stands: &dyn Fn(Tick) -> bool| {
            (0..LIFE).take_while(|later| stands(now + later)).count() as Tick
        };
        let lease = (0..TOKENS).find(|token| key.is_leased_to(now, *token));
        let hold = |token: Token| {
            let is_alone = key.clone().end_hold(now, token, None) == HoldEnd::Alone;
            (left(&|then| key.is_held_by(then, token)), is_alone, token)
        };
        let mut holds: Vec<_> = if key.is_on_hold(now) {
            (0..TOKENS).filter(|token| key.is_held_by(now, *token)).map(hold).collect()
        } else {
            Vec::new()
        };
        holds.sort_unstable();
        Self {
            value: key.value(now).cloned(),
            lease: lease.map(|token| (token, left(&|then| key.is_leased_to(then, token)))),
            holds,
        }
    }

    /// A record that gives these answers at the moment 0.
    pub(crate) fn make<R: Key<V>>(&self) -> Option<R> {
        let mut key = R::default();
        if let Some(value) = &self.value {
            key.lease(0, MAKING, 1, Claim::ByForce);
            key.fill(0, MAKING, value.clone());
        }
        if let Some((token, left)) = self.lease {
            key.lease(0, token, left, Claim::ByForce);
        }
        for (left, is_alone, token) in &self.holds {
            key.hold(0, *token, *left);
            if !is_alone {
                // Another comes and goes.
                key.hold(0, MAKING, 1);
                key.end_hold(0, MAKING, None);
            }
        }
        (Self::of(&key, 0) == *self).then_some(key)
    }
}
