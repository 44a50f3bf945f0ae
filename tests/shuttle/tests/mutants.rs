//! Every mutant is found by a scenario, and by what is wrong with it: the shipped file passes the
//! very schedule that the mutant fails.

use std::{panic, sync::Once, thread};

use tiered_shuttle::{
    Catch, Scenario, Search, Subject, THREAD, fence, flight, hunt, schedules, table as marks, view,
};

/// Keeps the hunts from telling of every panic.
fn quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // The first run puts a hook before the one that is there; this one comes before both.
        let nothing = Scenario { name: "nothing", run: || {} };
        assert!(hunt(nothing, Search::Random, 1).is_ok());
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(THREAD) {
                loud(info);
            }
        }));
    });
}

/// The first scenario that finds the fault, by its place, and the schedule. All scenarios get a few
/// schedules each before one of them gets many, so that the fitting one need not come first.
fn find(mutant: &Subject) -> Option<(usize, Catch)> {
    quiet();
    let (few, some, all) = (schedules().div_ceil(100), schedules().div_ceil(10), schedules());
    [(0, few), (few, some), (some, all)].into_iter().find_map(|(before, until)| {
        mutant.scenarios.iter().enumerate().find_map(|(place, scenario)| {
            let catch = hunt(*scenario, Search::Random, until - before).err()?;
            Some((place, Catch { schedules: before + catch.schedules, ..catch }))
        })
    })
}

/// Adds what is wrong with the hunt for each of `mutants` to `wrong`.
fn table(file: &str, shipped: &Subject, mutants: &[Subject], wrong: &mut Vec<String>) {
    for mutant in mutants {
        let Some((place, catch)) = find(mutant) else {
            wrong
                .push(format!("{file}: {} is found by no scenario: {}", mutant.name, mutant.fault));
            continue;
        };
        let scenario = shipped.scenarios[place];
        println!("{file}: {} → caught by {} {catch}", mutant.name, scenario.name);
        let again = hunt(mutant.scenarios[place], Search::Seed(catch.seed), 1);
        if again.is_ok() {
            wrong.push(format!("{file}: seed {} does not bring back {}", catch.seed, mutant.name));
        }
        if let Err(why) = hunt(scenario, Search::Seed(catch.seed), 1) {
            wrong.push(format!("{file}: what catches {} fails without it: {why}", mutant.name));
        }
    }
}

#[test]
fn every_mutant_is_found() {
    let mut wrong = Vec::new();
    table("flight", &flight::shipped(), &flight::mutants(), &mut wrong);
    table("fence", &fence::shipped(), &fence::mutants(), &mut wrong);
    table("table", &marks::shipped(), &marks::mutants(), &mut wrong);
    table("view", &view::shipped(), &view::mutants(), &mut wrong);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Who is not woken sleeps for ever, and that is a failure.
#[test]
fn a_lost_wakeup_is_seen() {
    let mutants = flight::mutants();
    let silent = mutants.iter().find(|mutant| mutant.name == "lost_leader_is_silent").unwrap();
    let (_, catch) = find(silent).unwrap();
    assert!(catch.message.contains("deadlock"), "{catch}");
}

/// A hunt that fails leaves nothing to those after it.
#[test]
fn a_failure_ends_with_its_hunt() {
    let mutants = fence::mutants();
    assert!(find(&mutants[0]).is_some());
    let shipped = fence::shipped();
    for scenario in &shipped.scenarios {
        let after = hunt(*scenario, Search::Random, 100);
        assert!(after.is_ok(), "{}: {after:?}", scenario.name);
    }
}
