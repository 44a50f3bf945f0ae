//! What must hold for the view, whichever task runs when.

use std::sync::Arc;

use shuttle::{
    rand::{Rng, thread_rng},
    thread,
};

use super::Viewing;
use crate::{Scenario, sync::Mutex};

/// All scenarios for one copy.
pub(super) fn all<V: Viewing>() -> Vec<Scenario> {
    vec![
        Scenario { name: "what_is_void_is_not_served", run: what_is_void_is_not_served::<V> },
        Scenario {
            name: "what_a_message_names_is_not_served",
            run: what_a_message_names_is_not_served::<V>,
        },
        Scenario { name: "what_is_kept_since_is_proven", run: what_is_kept_since_is_proven::<V> },
    ]
}

/// Whether an entry of a generation is served at a moment: the proof was taken before it was found.
fn is_served((generation, until): (u64, u64), kept_under: u64, now: u64) -> bool {
    generation == kept_under && now < until
}

/// It is 9 o'clock. An entry was proven until 3, and its invalidation was missed, or it is to be forgotten. No
/// proof of what came after is one of it.
fn what_is_void_is_not_served<V: Viewing>() {
    let logs = 2;
    let view = Arc::new(V::new(logs));
    (0..logs).for_each(|log| view.prove(log, 1));
    let kept_under = view.generation();
    let is_void = thread_rng().r#gen::<bool>();
    let listening = {
        let view = Arc::clone(&view);
        thread::spawn(move || {
            if is_void {
                view.void(0);
            } else {
                view.forget();
            }
            (0..logs).for_each(|log| view.prove(log, 9));
        })
    };
    for _ in 0..2 {
        assert!(!is_served(view.proof(), kept_under, 9), "what was void is served");
    }
    assert!(listening.join().is_ok(), "the listener");
    assert!(!is_served(view.proof(), kept_under, 9), "what was void is served");
}

/// Two logs, one of which names the entry: it is removed before that log is proven, and the other proves nothing of it.
fn what_a_message_names_is_not_served<V: Viewing>() {
    let view = Arc::new(V::new(2));
    (0..2).for_each(|log| view.prove(log, 1));
    let l1 = Arc::new(Mutex::new(Some(view.generation())));
    let tasks: Vec<_> = (0..2)
        .map(|log| {
            let (view, l1) = (Arc::clone(&view), Arc::clone(&l1));
            thread::spawn(move || {
                if log == 0 {
                    *l1.lock() = None;
                }
                view.prove(log, 9);
            })
        })
        .collect();
    let proof = view.proof();
    let found = *l1.lock();
    assert!(!found.is_some_and(|kept| is_served(proof, kept, 9)), "what was named is served");
    tasks.into_iter().for_each(|task| assert!(task.join().is_ok(), "a listener"));
}

/// What is read after a void is proven by what follows, once all logs are.
fn what_is_kept_since_is_proven<V: Viewing>() {
    let view = Arc::new(V::new(2));
    (0..2).for_each(|log| view.prove(log, 1));
    let tasks: Vec<_> = (0..2)
        .map(|log| {
            let view = Arc::clone(&view);
            thread::spawn(move || {
                view.void(log);
                view.prove(log, 9);
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| assert!(task.join().is_ok(), "a listener"));
    let kept_under = view.generation();
    assert!(!is_served(view.proof(), kept_under, 11), "beyond the bound");
    (0..2).for_each(|log| view.prove(log, 10));
    assert!(is_served(view.proof(), kept_under, 11), "it is proven by nobody");
}
