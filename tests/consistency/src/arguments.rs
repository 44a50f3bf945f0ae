//! [`Arguments`]: `--name value` pairs, flags and the rest.

use std::{collections::HashMap, str::FromStr};

use anyhow::{Context, Result, bail};

/// What stood on a command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arguments {
    named: HashMap<String, String>,
    rest: Vec<String>,
}

impl Arguments {
    /// Names in `flags` take no value.
    pub(crate) fn read(words: impl IntoIterator<Item = String>, flags: &[&str]) -> Result<Self> {
        let mut arguments = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                None => arguments.rest.push(word),
                Some(name) if flags.contains(&name) => {
                    arguments.named.insert(name.into(), "true".into());
                }
                Some(name) => {
                    let value = words.next().with_context(|| format!("--{name} needs a value"))?;
                    arguments.named.insert(name.into(), value);
                }
            }
        }
        Ok(arguments)
    }

    /// Takes a named one, if it was given.
    pub(crate) fn take<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.named.remove(name) else { return Ok(None) };
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => bail!("--{name} cannot be {value}"),
        }
    }

    /// Takes a named one that must be there.
    pub(crate) fn need<T: FromStr>(&mut self, name: &str) -> Result<T> {
        self.take(name)?.with_context(|| format!("--{name} is missing"))
    }

    /// Takes the next of those without a name.
    pub(crate) fn next<T: FromStr>(&mut self, what: &str) -> Result<Option<T>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let value = self.rest.remove(0);
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => bail!("{what} cannot be {value}"),
        }
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<()> {
        let left =
            self.rest.into_iter().chain(self.named.into_keys().map(|name| format!("--{name}")));
        match left.collect::<Vec<_>>() {
            left if left.is_empty() => Ok(()),
            left => bail!("not understood: {}", left.join(" ")),
        }
    }
}
