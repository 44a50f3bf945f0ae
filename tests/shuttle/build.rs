//! Brings the shipped `flight.rs`, `fence.rs`, `bus/view.rs` and `tags/table.rs` here, whole and as mutants.
//!
//! Each mutant is made by exact textual replacement. A text that does not occur exactly once fails
//! the build: a mutant never turns into the original, whatever happens to the shipped file.

mod mutants;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use mutants::Mutant;

fn main() -> ExitCode {
    let files = [
        ("flight", "flight", mutants::FLIGHT),
        ("fence", "fence", mutants::FENCE),
        ("view", "bus/view", mutants::VIEW),
        ("table", "tags/table", mutants::TABLE),
    ];
    match files.into_iter().try_for_each(|(file, path, mutants)| write(file, path, mutants)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("cargo::error={why}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the file of this name, at `path` in the sources, as `OUT_DIR/file/shipped.rs`, each mutant beside it, and the list of them all as
/// `OUT_DIR/file.rs`.
fn write(file: &str, path: &str, mutants: &[Mutant]) -> Result<(), String> {
    let source = variable("CARGO_MANIFEST_DIR")?.join("../../src").join(path).with_extension("rs");
    println!("cargo::rerun-if-changed={}", source.display());
    let text = fs::read_to_string(&source).map_err(|why| format!("{}: {why}", source.display()))?;
    let shipped = without_head(&text);

    let out = variable("OUT_DIR")?;
    let folder = out.join(file);
    fs::create_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    put(&folder.join("shipped.rs"), &shipped)?;
    let mut list = String::from("subjects! {\n    shipped;\n");
    for mutant in mutants {
        let mutated = mutate(&shipped, mutant)
            .map_err(|why| format!("mutant {} of {file}.rs: {why}", mutant.name))?;
        put(&folder.join(mutant.name).with_extension("rs"), &mutated)?;
        list += &format!("    {} {:?};\n", mutant.name, mutant.fault);
    }
    list += "}\n";
    put(&out.join(file).with_extension("rs"), &list)
}

/// The text without the module head, which an included file must not have.
fn without_head(text: &str) -> String {
    let body = text.lines().skip_while(|line| line.starts_with("//!"));
    body.flat_map(|line| [line, "\n"]).collect()
}

fn mutate(shipped: &str, mutant: &Mutant) -> Result<String, String> {
    let mut text = shipped.to_owned();
    for (from, to) in mutant.swaps {
        match shipped.matches(from).count() {
            1 => {}
            count => return Err(format!("its text occurs {count} times, not once: {from:?}")),
        }
        if !text.contains(from) {
            return Err(format!("an earlier replacement has taken its text: {from:?}"));
        }
        text = text.replacen(from, to, 1);
    }
    if text == shipped { Err("it is the original".to_owned()) } else { Ok(text) }
}

fn put(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|why| format!("{}: {why}", path.display()))
}

fn variable(name: &str) -> Result<PathBuf, String> {
    env::var_os(name).map(PathBuf::from).ok_or_else(|| format!("{name} is not set"))
}
