//! The state that stands for all that nobody can tell apart from it.

use crate::{
    Token,
    answers::{Answers, GONE},
    record::Key,
};

use super::{Entry, State, actors::Message, loads::Loader, writers::Writer};

type Known = Answers<Entry>;

pub(super) fn representative<R: Key<Entry>>(state: &mut State<R>) {
    state.sort();
    let as_is = state.clone();
    let mut key = Answers::of(&state.key, state.now);
    let mut saved = state.saved.as_ref().map(|saved| Answers::of(saved, state.now));
    // The clock may move on for ever.
    (state.now, state.ticks) = (0, 0);
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

/// Those that stand, and those that may stand again: of holds that can be renewed, and of holds that come late.
fn names<R>(state: &State<R>, key: &Known, saved: Option<&Known>) -> Vec<Token> {
    let mut names = Vec::with_capacity(12);
    for answers in [Some(key), saved].into_iter().flatten() {
        names.extend(answers.lease.iter().map(|(token, _)| *token));
        names.extend(answers.holds.iter().map(|(_, _, token)| *token));
    }
    names.extend(state.writers.iter().filter_map(|writer| match writer {
        Writer::Held { token, .. } | Writer::Written { token, .. } => Some(*token),
        _ => None,
    }));
    for message in state.late.iter().flatten() {
        match message {
            Message::Hold { token } | Message::RenewHold { token } => names.push(*token),
            Message::EndHold { lease, .. } => names.extend(lease),
            Message::Delete => {}
        }
    }
    names
}

fn name_tokens<R>(state: &mut State<R>, key: &mut Known, saved: &mut Option<Known>) {
    let names = names(state, key, saved.as_ref());
    let place = |token: &Token| names.iter().position(|known| known == token);
    let name = |token: &mut Token| *token = place(token).map_or(GONE, |place| place as Token);
    for answers in [Some(key), saved.as_mut()].into_iter().flatten() {
        answers.lease.iter_mut().for_each(|(token, _)| name(token));
        answers.holds.iter_mut().for_each(|(_, _, token)| name(token));
        answers.holds.sort_unstable();
    }
    state.loaders.iter_mut().filter_map(Loader::token_mut).for_each(name);
    state.writers.iter_mut().filter_map(Writer::token_mut).for_each(name);
    state.late.iter_mut().flatten().flat_map(Message::tokens_mut).for_each(name);
}

/// Only their order counts.
fn number_versions<R>(state: &mut State<R>, key: &mut Known, saved: &mut Option<Known>) {
    let floor = state.floor;
    let mut all = Vec::with_capacity(12);
    all.push(&mut state.source);
    all.extend(state.loaders.iter_mut().filter_map(Loader::version_mut));
    all.extend(state.writers.iter_mut().filter_map(Writer::version_mut));
    let stored = [key.value.as_mut(), saved.as_mut().and_then(|saved| saved.value.as_mut())];
    all.extend(stored.into_iter().flatten().map(|entry| &mut entry.version));
    let known = all.iter().fold(0_u8, |known, version| known | 1 << **version);
    let number = |version: u8| (known & ((1 << version) - 1)).count_ones() as u8;
    all.into_iter().for_each(|version| *version = number(*version));
    state.floor = number(floor);
}
