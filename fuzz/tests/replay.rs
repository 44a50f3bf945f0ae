//! The corpora that are checked in, each file through its target's body.

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use tiered_fuzz::TARGETS;

#[test]
fn all_seeds_hold() {
    for (target, run) in TARGETS {
        let seeds = files(&folder("seeds").join(target));
        assert!(!seeds.is_empty(), "no seeds for {target}: cargo run --example seeds");
        replay(run, &seeds);
    }
}

#[test]
fn all_regressions_hold() {
    for (target, run) in TARGETS {
        replay(run, &files(&folder("regressions").join(target)));
    }
}

#[test]
fn every_corpus_is_a_targets() {
    for corpus in files(&folder("seeds")).into_iter().chain(files(&folder("regressions"))) {
        let name = corpus.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_known = name.starts_with('.') || TARGETS.iter().any(|(target, _)| *target == name);
        assert!(is_known, "{} belongs to no target", corpus.display());
    }
}

#[test]
fn every_target_has_a_program() {
    let programs = files(&folder("fuzz_targets"));
    assert_eq!(programs.len(), TARGETS.len());
    for (target, _) in TARGETS {
        let program = folder("fuzz_targets").join(target).with_extension("rs");
        assert!(programs.contains(&program), "{} is missing", program.display());
    }
}

/// Runs a body over files, and says which one failed.
fn replay(run: fn(&[u8]), files: &[PathBuf]) {
    for file in files {
        let data = fs::read(file).unwrap();
        assert!(data.len() < 4096, "{} is too large to be checked in", file.display());
        assert!(catch_unwind(|| run(&data)).is_ok(), "{} failed", file.display());
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// What is in a folder, in order; nothing if there is none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
