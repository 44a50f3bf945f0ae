//! The models at their full bounds, and their mutants: tables in Markdown. Fails if something does not hold.
//!
//! `models [THREADS]`; two of them unless told.

use std::{env, fmt::Display, process::ExitCode};

use tiered_models::{Catch, Figures, Mutant, bus, fill, holds, tags};

fn main() -> ExitCode {
    let threads = env::args().nth(1).and_then(|threads| threads.parse().ok()).unwrap_or(2);
    println!("| model | bounds | states | steps | seconds |\n|---|---|---|---|---|");
    let held = [
        search("fill", fill::Bounds::FULL, |bounds| fill::check(*bounds, threads)),
        search("bus", bus::Bounds::FULL, |bounds| bus::check(*bounds, threads)),
        search("tags", tags::Bounds::FULL, |bounds| tags::check(*bounds, threads)),
        search("holds", holds::Bounds::FULL, |bounds| holds::check(*bounds, threads)),
    ];
    println!("\n| model | fault | found in so many steps |\n|---|---|---|");
    let found = [
        hunt("fill", fill::mutants()),
        hunt("bus", bus::mutants()),
        hunt("tags", tags::mutants()),
        hunt("holds", holds::mutants()),
    ];
    let is_well = held.into_iter().chain(found).all(|is_well| is_well);
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line for each of `bounds`; says whether all of them hold.
fn search<B: Display>(
    model: &str,
    bounds: &[B],
    check: impl Fn(&B) -> Result<Figures, Catch>,
) -> bool {
    let mut holds = true;
    for bounds in bounds {
        match check(bounds) {
            Ok(Figures { states, steps, took, .. }) => {
                let seconds = took.as_secs_f64();
                println!("| {model} | {bounds} | {states} | {steps} | {seconds:.0} |");
            }
            Err(catch) => {
                holds = false;
                println!("| {model} | {bounds} | BROKEN | | |");
                eprintln!("{model}, {bounds}: {catch}");
            }
        }
    }
    holds
}

/// A line for each of `mutants`; says whether all of them are found.
fn hunt(model: &str, mutants: Vec<Mutant>) -> bool {
    let mut found = true;
    for mutant in mutants {
        match (mutant.hunt)() {
            // The last is the state that it ends in.
            Err(catch) => println!("| {model} | {} | {} |", mutant.fault, catch.steps.len() - 1),
            Ok(_) => {
                found = false;
                println!("| {model} | {} | NOT FOUND |", mutant.fault);
            }
        }
    }
    found
}
