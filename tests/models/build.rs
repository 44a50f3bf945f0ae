//! Makes mutants of the protocol's files. The shipped ones are used as they are, from their crate.

mod mutants;
#[path = "../mutating.rs"]
mod mutating;

use std::process::ExitCode;

fn main() -> ExitCode {
    mutating::run(
        "../../tiers/src/protocol",
        &[
            ("record", "record", mutants::RECORD),
            ("follower", "follower", mutants::FOLLOWER),
            ("tags", "tags", mutants::TAGS),
        ],
    )
}
