//! Short runs: one in which every promise is kept, and one in which an acknowledgement was forged.

use std::{
    io,
    process::{Command, Output},
};

/// Small: the machine may have other things to do.
const SMALL: [&str; 12] = [
    "--workers",
    "3",
    "--readers",
    "3",
    "--writers",
    "2",
    "--lookers",
    "1",
    "--keys",
    "64",
    "--pause",
    "2000",
];

fn run(words: &[&str]) -> io::Result<Output> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tiered-consistency"));
    program.args(words).args(SMALL).output()
}

#[test]
fn every_promise_is_kept_in_a_short_run() {
    for mode in ["fence", "bus-half", "failover"] {
        let output = run(&["9", "7", "--mode", mode]).unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        println!("{told}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{mode}");
        assert!(told.contains("ok      no stale fill in L2"), "{mode}");
    }
}

#[test]
fn a_forged_acknowledgement_is_found() {
    let output = run(&["4", "7", "--mode", "fence", "--forge"]).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("BROKEN  no stale fill in L2"));
    assert!(told.contains("stale fill: L2 holds version"));
}
