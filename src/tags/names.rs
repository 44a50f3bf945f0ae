//! What tags are called, and where their generations are on the server.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use crate::{Error, key};

/// The most bytes of a tag.
const LONGEST: usize = 255;
/// The most tags of an entry.
const MOST: usize = 64;
/// The most stamps of one: the tags that its call names, those that its load reveals, and the namespace.
pub(super) const MOST_STAMPS: usize = 2 * MOST + 1;

/// A tag's name. The empty one is the namespace's own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tag(Arc<str>);

/// The tags of an entry, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct TagNames(Vec<Tag>);

impl Tag {
    /// The tag of every entry of a namespace.
    pub(crate) fn namespace() -> Self {
        Self(Arc::from(""))
    }

    pub(super) fn is_namespace(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        if name.is_empty() || name.len() > LONGEST {
            return Err(Error::config(format!(
                "a tag has {} bytes: give 1 to {LONGEST}, e.g. \"team:7\"",
                name.len()
            )));
        }
        Ok(Self(Arc::from(name)))
    }

    /// Out of a stored entry or a message.
    pub(crate) fn heard(name: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= LONGEST)?;
        Some(Self(Arc::from(name)))
    }

    /// The key of its generation: no user's key, for those have nothing but two digits behind a `%`.
    pub(super) fn record(&self, namespace: &str) -> Vec<u8> {
        let mut record = format!("{namespace}%tag:").into_bytes();
        key::encode(self.as_bytes(), false, |byte| record.push(byte));
        record
    }
}

/// The key of a namespace's epoch.
pub(super) fn epoch_key(namespace: &str) -> Vec<u8> {
    format!("{namespace}%tags").into_bytes()
}

impl Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Deref for Tag {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Tag {
    /// Tags may name people: none is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(..)")
    }
}

impl TagNames {
    pub(crate) fn push(&mut self, tag: Tag) {
        if !self.0.contains(&tag) {
            self.0.push(tag);
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.0.len() > MOST {
            return Err(Error::config(format!(
                "an entry has {} tags: give at most {MOST}",
                self.0.len()
            )));
        }
        Ok(())
    }
}

impl Deref for TagNames {
    type Target = [Tag];

    fn deref(&self) -> &[Tag] {
        &self.0
    }
}
