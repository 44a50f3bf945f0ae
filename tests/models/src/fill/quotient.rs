//! The state that stands for all that nobody can tell apart from it.

use crate::{
    Token,
    answers::{Answers, GONE},
    record::Key,
};

use super::{
    actors::{Loader, Writer},
    server::{Entry, Message, Origin, State},
};

type Known = Answers<Entry>;

/// The state that stands for all that are like this one.
pub(super) fn representative<R: Key<Entry>>(state: &mut State<R>) {
    let as_is = state.clone();
    let mut key = Answers::of(&state.key, state.now);
    let mut saved = state.saved.as_ref().map(|saved| Answers::of(saved, state.now));
    // The clock may move on for ever.
    (state.now, state.ticks) = (0, 0);
    forget_sets(state, &key, saved.as_ref());
    name_tokens(state, &mut key, &mut saved);
    number_versions(state, &mut key, &mut saved);
    let made = saved.as_ref().map(Answers::make).map_or(Some(None), |saved| saved.map(Some));
    match (key.make(), made) {
        (Some(key), Some(saved)) => (state.key, state.saved) = (key, saved),
        // It cannot be made anew: it stands for itself.
        _ => *state = as_is,
    }
    state.sort();
}

/// What a `set` of long ago may not do needs not be known.
fn forget_sets<R>(state: &mut State<R>, key: &Known, saved: Option<&Known>) {
    let stored = [key.value, saved.and_then(|saved| saved.value)];
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

fn name_tokens<R>(state: &mut State<R>, key: &mut Known, saved: &mut Option<Known>) {
    // Those that a late message would put in place are known to nobody else.
    let standing = [key.lease, saved.as_ref().and_then(|saved| saved.lease)];
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

fn number_versions<R>(state: &mut State<R>, key: &mut Known, saved: &mut Option<Known>) {
    let (mut ended, mut ruled_out) = (0, 0);
    let (was_ended, was_ruled_out, floor) = (state.ended, state.ruled_out, state.floor);
    let mut all = Vec::with_capacity(12);
    all.push(&mut state.source);
    all.extend(state.loaders.iter_mut().filter_map(Loader::version_mut));
    all.extend(state.writers.iter_mut().filter_map(Writer::version_mut));
    all.extend(state.late.iter_mut().flatten().filter_map(Message::version_mut));
    let stored = [key.value.as_mut(), saved.as_mut().and_then(|saved| saved.value.as_mut())];
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
