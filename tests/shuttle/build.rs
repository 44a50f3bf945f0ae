//! Brings the shipped `flight.rs`, `fence.rs`, `bus/view.rs` and `tags/table.rs` here, whole and as mutants.

mod mutants;
#[path = "../mutating.rs"]
mod mutating;

use std::process::ExitCode;

fn main() -> ExitCode {
    mutating::run(
        "../../src",
        &[
            ("flight", "flight", mutants::FLIGHT),
            ("fence", "fence", mutants::FENCE),
            ("view", "bus/view", mutants::VIEW),
            ("table", "tags/table", mutants::TABLE),
        ],
    )
}
