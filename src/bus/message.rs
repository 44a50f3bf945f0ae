//! What a message on the bus says, and its bytes.
//!
//! | offset | length | field |
//! |---|---|---|
//! | 0 | 1 | version: 1 |
//! | 1 | 1 | kind: 1 a key, 2 a prefix, 3 everything, 4 a tag |
//! | 2 | 8 | sender, at random: who it is need not hear it |
//! | 10 | | the key as L1 has it, the prefix as it is on the wire, or the tag |
//!
//! Whoever does not understand a message takes it for "everything": a later version may say what this one cannot.

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use crate::{Key, key::Prefix, tags::Tag};

const VERSION: u8 = 1;
const HEAD: usize = 10;

/// A change that others are told of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    /// Of a key.
    Key(&'a Key),
    /// Of all keys that begin alike.
    Prefix(&'a Prefix),
    /// Of all entries of a tag.
    Tag(&'a Tag),
    /// Of all there is.
    All,
}

/// A message that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Key(Key),
    Prefix(Prefix),
    Tag(Tag),
    All,
    /// It was this cache that said it.
    Own,
}

impl Change<'_> {
    fn parts(&self) -> (u8, &[u8]) {
        match self {
            Self::Key(key) => (1, key.local()),
            Self::Prefix(prefix) => (2, prefix.encoded()),
            Self::All => (3, &[]),
            Self::Tag(tag) => (4, tag.as_bytes()),
        }
    }

    /// By which the log is chosen.
    pub(super) fn hash(&self) -> u64 {
        xxh3_64(self.parts().1)
    }

    pub(super) fn encode(&self, sender: u64) -> Bytes {
        let (kind, what) = self.parts();
        let mut message = BytesMut::with_capacity(HEAD + what.len());
        message.put_u8(VERSION);
        message.put_u8(kind);
        message.put_u64_le(sender);
        message.put_slice(what);
        message.freeze()
    }
}

impl Heard {
    pub(super) fn decode(message: &[u8], own: u64) -> Self {
        let Some((&[VERSION, kind, ref sender @ ..], what)) = message.split_first_chunk::<HEAD>()
        else {
            return Self::All;
        };
        if u64::from_le_bytes(*sender) == own {
            return Self::Own;
        }
        match kind {
            1 => Self::Key(Key::from_local(what)),
            2 => Self::Prefix(Prefix::from_encoded(what)),
            4 => Tag::heard(what).map_or(Self::All, Self::Tag),
            _ => Self::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn what_is_said_is_heard_by_others() {
        for key in [Key::from("user:1"), Key::bytes(&[0, 255, 0]), Key::from("a").version(3)] {
            let prefix = Prefix::of(&key);
            let said = Change::Key(&key).encode(7);
            assert_eq!(Heard::decode(&said, 8), Heard::Key(key.clone()));
            assert_eq!(Heard::decode(&said, 7), Heard::Own);
            let said = Change::Prefix(&prefix).encode(7);
            assert_eq!(Heard::decode(&said, 8), Heard::Prefix(prefix));
        }
        assert_eq!(Heard::decode(&Change::All.encode(7), 8), Heard::All);
        let tag = Tag::new("team:7").unwrap();
        assert_eq!(Heard::decode(&Change::Tag(&tag).encode(7), 8), Heard::Tag(tag));
    }

    #[test]
    fn what_is_not_understood_is_everything() {
        let mut later = Change::Key(&Key::from("k")).encode(7).to_vec();
        later[0] = 2;
        let unknown = [1, 99, 0, 0, 0, 0, 0, 0, 0, 0];
        for message in [b"".as_slice(), b"\x01", &[1; 9], &later, &unknown] {
            assert_eq!(Heard::decode(message, 8), Heard::All, "{message:?}");
        }
    }

    proptest! {
        /// Whoever can write to the log chooses these bytes.
        #[test]
        fn any_bytes_are_heard_as_something(head in (0..3_u8, 0..6_u8, any::<u64>()), what in vec(any::<u8>(), 0..400), cut in 0..420_usize) {
            let (version, kind, sender) = head;
            let mut message = [&[version, kind][..], &sender.to_le_bytes(), &what].concat();
            message.truncate(cut);
            let heard = Heard::decode(&message, 8);
            if message.len() < HEAD || version != VERSION {
                assert_eq!(heard, Heard::All);
            } else if sender != 8 {
                let said = match &heard {
                    Heard::Key(key) => Change::Key(key).encode(sender),
                    Heard::Prefix(prefix) => Change::Prefix(prefix).encode(sender),
                    Heard::Tag(tag) => Change::Tag(tag).encode(sender),
                    Heard::All | Heard::Own => return Ok(()),
                };
                assert_eq!(said, message, "no more and no less is dropped than was said");
            }
        }
    }
}
