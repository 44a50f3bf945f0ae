//! What must hold for the fence, whichever task runs when.

use std::sync::Arc;

use shuttle::{
    rand::{Rng, thread_rng},
    thread::{self, JoinHandle},
};

use super::{
    Fencing,
    model::{HASH, Model},
};
use crate::{
    Scenario,
    sync::{AtomicU64, Ordering},
};

/// Another key of the same shard.
const NEIGHBOUR: u64 = HASH + 64;

/// All scenarios for one copy.
pub(super) fn all<F: Fencing>() -> Vec<Scenario> {
    vec![
        Scenario { name: "loads_end_at_an_invalidation", run: loads_end_at_an_invalidation::<F> },
        Scenario { name: "two_writes_leave_the_last", run: two_writes_leave_the_last::<F> },
        Scenario { name: "reads_and_writes_mix", run: reads_and_writes_mix::<F> },
        Scenario { name: "undisturbed_loads_hold", run: undisturbed_loads_hold::<F> },
        Scenario { name: "steps_exclude_each_other", run: steps_exclude_each_other::<F> },
    ]
}

/// Loads and invalidations: after an acknowledged one, L1 has nothing older than the source had.
fn loads_end_at_an_invalidation<F: Fencing>() {
    let model = Model::<F>::new();
    let mut tasks: Vec<_> = (0..3).map(|_| start(&model, Model::load)).collect();
    tasks.push(start(&model, Model::update));
    tasks.push(start(&model, Model::invalidate));
    join(tasks);
    model.close();
}

/// Two writes at once and a load: L1 ends empty or with what the source has.
fn two_writes_leave_the_last<F: Fencing>() {
    let model = Model::<F>::new();
    let mut tasks: Vec<_> = (0..2).map(|_| start(&model, |model| model.set(true))).collect();
    tasks.push(start(&model, Model::load));
    join(tasks);
    model.close();
}

/// All at once, and some writes get no answer.
fn reads_and_writes_mix<F: Fencing>() {
    let model = Model::<F>::new();
    let mut tasks: Vec<_> = (0..2).map(|_| start(&model, Model::load)).collect();
    for _ in 0..2 {
        let answered = thread_rng().r#gen();
        tasks.push(start(&model, move |model| model.set(answered)));
    }
    tasks.push(start(&model, Model::update));
    join(tasks);
    model.close();
}

/// What overtakes a key overtakes no other one, and loads do not overtake each other.
fn undisturbed_loads_hold<F: Fencing>() {
    let model = Model::<F>::new();
    let load = |model: &Model<F>| {
        let ticket = F::capture(&model.fence, HASH);
        assert!(F::holds(&ticket), "a ticket was overtaken by nothing");
        assert!(F::admit(&ticket, || {}), "a load was refused for nothing");
    };
    let disturb = |model: &Model<F>| {
        let ticket = F::capture(&model.fence, NEIGHBOUR);
        F::advance(&model.fence, NEIGHBOUR, || {});
        assert!(!F::holds(&ticket), "an overtaken ticket holds");
        F::supersede(&ticket, |alone| assert!(!alone, "an overtaken ticket was told it held"));
    };
    join(vec![start(&model, load), start(&model, load), start(&model, disturb)]);
    model.close();
}

/// Whatever is run in one step with the fence runs alone.
fn steps_exclude_each_other<F: Fencing>() {
    let model = Model::<F>::new();
    let inside = Arc::new(AtomicU64::new(0));
    let step = |inside: &AtomicU64| {
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two steps at once");
        inside.fetch_sub(1, Ordering::SeqCst);
    };
    let tasks = vec![
        start_with(&model, &inside, move |model, inside| {
            F::advance(&model.fence, HASH, || step(inside));
        }),
        start_with(&model, &inside, move |model, inside| {
            F::advance(&model.fence, HASH, || step(inside));
        }),
        start_with(&model, &inside, move |model, inside| {
            F::admit(&F::capture(&model.fence, HASH), || step(inside));
        }),
        start_with(&model, &inside, move |model, inside| {
            F::supersede(&F::capture(&model.fence, HASH), |_| step(inside));
        }),
    ];
    join(tasks);
    model.close();
}

fn start<F: Fencing>(
    model: &Arc<Model<F>>,
    task: impl FnOnce(&Model<F>) + Send + 'static,
) -> JoinHandle<()> {
    let model = Arc::clone(model);
    thread::spawn(move || task(&model))
}

fn start_with<F: Fencing>(
    model: &Arc<Model<F>>,
    inside: &Arc<AtomicU64>,
    task: impl FnOnce(&Model<F>, &AtomicU64) + Send + 'static,
) -> JoinHandle<()> {
    let inside = Arc::clone(inside);
    start(model, move |model| task(model, &inside))
}

fn join(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        assert!(task.join().is_ok(), "a task panicked");
    }
}
