//! States that nobody can tell apart are one.
//!
//! A record is known by its answers, so it can be made anew from them: with its time counted from now, and the
//! versions, of which only the order counts, without gaps. Tokens that stand nowhere and can stand nowhere again are one.
//! This holds for the shipped record; a mutant may be different where it is not asked, so it is searched as it is.

use tiered_tiers::Claim;

use crate::{Tick, Token, record::Key};

use super::{
    actors::{LIFE, Loader, Writer},
    server::{Entry, Message, Origin, State},
};

/// What stands nowhere.
const GONE: Token = 100;
/// What a record is filled with when it is made anew.
const MAKING: Token = 101;

/// What a record answers.
#[derive(Clone, Copy)]
struct Answers {
    entry: Option<Entry>,
    lease: Option<(Token, Tick)>,
}

impl Answers {
    fn of<R: Key<Entry>>(key: &R, now: Tick) -> Self {
        let token = (0..MAKING).find(|token| key.is_leased_to(now, *token));
        let lease = token.map(|token| {
            let left = (1..=LIFE).take_while(|later| key.is_leased_to(now + later - 1, token));
            (token, left.count() as Tick)
        });
        Self { entry: key.value(now).copied(), lease }
    }

    fn make<R: Key<Entry>>(self) -> R {
        let mut key = R::default();
        if let Some(entry) = self.entry {
            key.lease(0, MAKING, 1, Claim::ByForce);
            key.fill(0, MAKING, entry);
        }
        if let Some((token, left)) = self.lease {
            key.lease(0, token, left, Claim::ByForce);
        }
        key
    }
}

/// The state that stands for all that are like this one.
pub(super) fn representative<R: Key<Entry>>(state: &mut State<R>) {
    let mut key = Answers::of(&state.key, state.now);
    let mut saved = state.saved.as_ref().map(|saved| Answers::of(saved, state.now));
    // The clock may move on for ever.
    (state.now, state.ticks) = (0, 0);
    forget_sets(state, key, saved);
    name_tokens(state, &mut key, &mut saved);
    number_versions(state, &mut key, &mut saved);
    (state.key, state.saved) = (key.make(), saved.map(Answers::make));
    state.sort();
}

/// What a `set` of long ago may not do needs not be known.
fn forget_sets<R>(state: &mut State<R>, key: Answers, saved: Option<Answers>) {
    let stored = [key.entry, saved.and_then(|saved| saved.entry)];
    let late = state.late.iter().flatten().filter_map(|message| message.entry());
    let set = stored.into_iter().flatten().chain(late).filter(|entry| entry.origin == Origin::Set);
    let writing = state.writers.iter().filter_map(|writer| match writer {
        Writer::Displaced { version, .. } => Some(*version),
        _ => None,
    });
    let known = set.map(|entry| entry.version).chain(writing).fold(0, |all, one| all | 1 << one);
    state.ended &= known;
    state.ruled_out &= known;
}

fn name_tokens<R>(state: &mut State<R>, key: &mut Answers, saved: &mut Option<Answers>) {
    // Those that a late message would put in place are known to nobody else.
    let standing = [key.lease, saved.and_then(|saved| saved.lease)];
    let mut names: Vec<Token> = standing.into_iter().flatten().map(|(token, _)| token).collect();
    names.dedup();
    let count = names.len() as Token;
    let name = |token: &mut Token| {
        *token = match names.iter().position(|known| known == token) {
            Some(place) => place as Token,
            None => GONE,
        };
    };
    let named = [Some(&mut *key), saved.as_mut()].into_iter().flatten();
    named.filter_map(|answers| answers.lease.as_mut()).for_each(|(token, _)| name(token));
    state.loaders.iter_mut().filter_map(Loader::token_mut).for_each(name);
    state.writers.iter_mut().filter_map(Writer::token_mut).for_each(name);
    for late in &mut state.late {
        match late {
            Some(Message::Displace { token }) => *token = count,
            Some(message) => {
                message.token_mut().into_iter().for_each(name);
                if *message == (Message::Renew { token: GONE }) {
                    *late = None;
                }
            }
            None => {}
        }
    }
}

fn number_versions<R>(state: &mut State<R>, key: &mut Answers, saved: &mut Option<Answers>) {
    let (mut ended, mut ruled_out) = (0, 0);
    let (was_ended, was_ruled_out, floor) = (state.ended, state.ruled_out, state.floor);
    let mut all = Vec::with_capacity(12);
    all.push(&mut state.source);
    all.extend(state.loaders.iter_mut().filter_map(Loader::version_mut));
    all.extend(state.writers.iter_mut().filter_map(Writer::version_mut));
    all.extend(state.late.iter_mut().flatten().filter_map(Message::version_mut));
    let stored = [key.entry.as_mut(), saved.as_mut().and_then(|saved| saved.entry.as_mut())];
    all.extend(stored.into_iter().flatten().map(|entry| &mut entry.version));
    let known = all.iter().fold(0_u8, |known, version| known | 1 << **version);
    let number = |version: u8| (known & ((1 << version) - 1)).count_ones() as u8;
    for version in all {
        let was = *version;
        *version = number(was);
        ended |= (was_ended >> was & 1) << *version;
        ruled_out |= (was_ruled_out >> was & 1) << *version;
    }
    (state.ended, state.ruled_out, state.floor) = (ended, ruled_out, number(floor));
}
