//! For the build scripts of the crates that hunt mutants: copies of a shipped file, each with one fault.
//!
//! Each mutant is made by exact textual replacement. A text that does not occur exactly once fails the build: a mutant
//! never turns into the original, whatever happens to the shipped file.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// One fault.
pub(crate) struct Mutant {
    /// The name of its module.
    pub(crate) name: &'static str,
    /// What it does wrong.
    pub(crate) fault: &'static str,
    /// Texts that occur once in the shipped file, and what stands there instead.
    pub(crate) swaps: &'static [(&'static str, &'static str)],
}

/// Makes the mutants of files below `sources`, a folder as seen from the crate: a name, the path without `.rs`, and the
/// faults of each. What does not work is told to cargo.
pub(crate) fn run(sources: &str, files: &[(&str, &str, &[Mutant])]) -> ExitCode {
    let mut all = files.iter();
    match all
        .try_for_each(|(file, path, mutants)| write(file, &Path::new(sources).join(path), mutants))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("cargo::error={why}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the file at `path` as `OUT_DIR/file/shipped.rs`, each mutant beside it, and the list of them all, as an invocation
/// of `subjects!`, as `OUT_DIR/file.rs`.
fn write(file: &str, path: &Path, mutants: &[Mutant]) -> Result<(), String> {
    let source = variable("CARGO_MANIFEST_DIR")?.join(path).with_extension("rs");
    println!("cargo::rerun-if-changed={}", source.display());
    let text = fs::read_to_string(&source).map_err(|why| format!("{}: {why}", source.display()))?;
    let shipped = body(&text);

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

/// The text without its tests, and without the module head, which an included file must not have.
fn body(text: &str) -> String {
    let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
    let body = shipped.lines().skip_while(|line| line.starts_with("//!"));
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
