//! The program: it runs the service and tells on stderr why it ended, if it failed.

use std::process::ExitCode;

#[tokio::main]
#[allow(clippy::disallowed_methods, reason = "a program makes the runtime that libraries live on")]
async fn main() -> ExitCode {
    match spellbook::serve::run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spellbook: {error}");
            ExitCode::FAILURE
        }
    }
}
