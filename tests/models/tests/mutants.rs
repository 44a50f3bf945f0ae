//! Every fault is found. The list is the test: a name that is missing here, or found nowhere, fails it.

use tiered_models::{Mutant, bus, fill, holds, tags};

/// The faults of each model.
const LIST: &[(&str, &[&str])] = &[
    (
        "fill",
        &[
            "no_token_check",
            "delete_keeps_the_lease",
            "renewal_takes_the_lease",
            "counter_token",
            "token_per_process",
            "no_incarnation",
            "run_after_load",
            "double_delete",
            "set_keeps_the_lease",
        ],
    ),
    (
        "bus",
        &[
            "start_at_the_end",
            "gaps_are_skipped",
            "head_is_not_compared",
            "no_head_is_nothing_new",
            "run_is_not_compared",
            "a_cut_answer_counts",
            "message_before_delete",
            "proof_at_receive_time",
            "abandoned_poll_counts",
            "ticket_after_load",
            "void_keeps_loads",
            "message_keeps_loads",
        ],
    ),
    (
        "holds",
        &[
            "single_hold_slot",
            "leases_on_hold",
            "delete_leaves_holders_alone",
            "end_leaves_holders_alone",
            "holds_do_not_overlap",
            "later_hold_is_alone",
            "renewed_hold_is_alone",
            "end_keeps_the_value",
            "overlapped_gets_a_lease",
            "renewal_begins_a_hold",
            "unanswered_writes_through",
            "hold_is_sent_twice",
            "run_after_hold",
            "never_asks_whether_alone",
        ],
    ),
    (
        "tags",
        &[
            "generation_before_epoch",
            "epoch_is_not_compared",
            "generation_of_any_run",
            "generation_after_load",
            "no_epoch",
            "epoch_is_looked_at_first",
            "counter_generation",
        ],
    ),
];

fn mutants() -> Vec<(&'static str, Vec<Mutant>)> {
    vec![
        ("fill", fill::mutants()),
        ("bus", bus::mutants()),
        ("holds", holds::mutants()),
        ("tags", tags::mutants()),
    ]
}

#[test]
fn every_mutant_is_found() {
    let mut wrong = Vec::new();
    for (model, mutants) in mutants() {
        for mutant in mutants {
            match (mutant.hunt)() {
                Ok(figures) => {
                    wrong.push(format!("{model}: {} is not found: {figures}", mutant.name))
                }
                Err(catch) => println!("{model}: {}, {}: {catch}\n", mutant.name, mutant.fault),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_mutant_is_forgotten() {
    let names = |(model, mutants): (_, Vec<Mutant>)| {
        (model, mutants.iter().map(|mutant| mutant.name).collect::<Vec<_>>())
    };
    let all: Vec<_> = mutants().into_iter().map(names).collect();
    let list: Vec<_> = LIST.iter().map(|(model, names)| (*model, names.to_vec())).collect();
    assert_eq!(all, list);
}
