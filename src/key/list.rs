//! The keys of lists: what a query with these parameters returned.

use std::fmt::{self, Display};

use sha2::{Digest, Sha256};

use super::Key;

/// The digits of a digest: 160 bits of SHA-256 (FIPS 180-4), in hex.
pub(super) const DIGEST_LEN: usize = 40;

/// The key of a list, being put together; made by [`Key::list`]. It reads `posts:list:<digest>`, and the digest is
/// of the parameters: lists of different parameters never share a key, whoever chooses them.
///
/// ```
/// use tiered::Key;
///
/// let key: Key = Key::list("posts").param("tag", "rust").param("page", 2).into();
/// let same: Key = Key::list("posts").param("page", 2).param("tag", "rust").in_any_order().into();
/// assert_ne!(key, same, "the order counts, unless it is told not to");
/// ```
#[derive(Clone)]
#[must_use = "it is no key yet: make it one by `Key::from` or `.into()`"]
pub struct ListKey {
    prefix: String,
    params: Vec<(String, String)>,
    any_order: bool,
    failed: bool,
}

impl ListKey {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), params: Vec::new(), any_order: false, failed: false }
    }

    /// A parameter of the query. The same name may come several times.
    pub fn param(mut self, name: impl Display, value: impl Display) -> Self {
        let (name, value) = (self.text(&name), self.text(&value));
        self.params.push((name, value));
        self
    }

    /// The order in which the parameters were given does not count: `?a=1&b=2` is `?b=2&a=1`. Those of one
    /// name keep theirs, for it may mean something: `?sort=name&sort=age`.
    pub fn in_any_order(mut self) -> Self {
        self.any_order = true;
        self
    }

    fn text(&mut self, part: &dyn Display) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        self.failed |= write!(text, "{part}").is_err();
        text
    }

    /// Of each part its length goes before it, so that no two lists of parts look alike.
    fn digest(&self) -> String {
        let mut params: Vec<_> = self.params.iter().collect();
        if self.any_order {
            params.sort_by_key(|(name, _)| name);
        }
        let mut hasher = Sha256::new();
        for part in params.into_iter().flat_map(|(name, value)| [name, value]) {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut digits: String =
            hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        digits.truncate(DIGEST_LEN);
        digits
    }
}

impl From<ListKey> for Key {
    fn from(list: ListKey) -> Self {
        let suffix = list.digest();
        let mut key = Self::lists(&list.prefix).built(suffix.as_bytes());
        key.failed |= list.failed;
        key
    }
}

impl fmt::Debug for ListKey {
    /// Parameters may name people: none is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListKey").field("params", &self.params.len()).finish_non_exhaustive()
    }
}
