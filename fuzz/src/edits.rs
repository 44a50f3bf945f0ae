//! Changes to bytes, as damage or somebody with bad intent makes them.

use arbitrary::Arbitrary;

/// The most edits that are made in one run.
const MOST: usize = 8;
/// The longest that bytes may grow to.
const LONGEST: usize = 4096;

/// One change. Positions wrap around at the end.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Edit {
    /// One bit is turned.
    Flip(u16),
    /// A byte is replaced.
    Set(u16, u8),
    /// So many bytes are cut out.
    Cut(u16, u8),
    /// So many bytes stand twice.
    Repeat(u16, u8),
    /// A few bytes are put in.
    Insert(u16, [u8; 3]),
    /// From there on, the bytes are another entry's.
    Splice(u16),
    /// The bytes end there.
    End(u16),
    /// An eight byte number is replaced.
    Number(u16, u64),
}

/// Makes `edits` in `bytes`; `other` is another entry, to splice with.
pub fn edit(bytes: &mut Vec<u8>, edits: &[Edit], other: &[u8]) {
    for edit in edits.iter().take(MOST) {
        edit.make(bytes, other);
    }
}

impl Edit {
    fn make(self, bytes: &mut Vec<u8>, other: &[u8]) {
        let len = bytes.len();
        if len == 0 {
            return;
        }
        match self {
            Self::Flip(at) => bytes[usize::from(at / 8) % len] ^= 1 << (at % 8),
            Self::Set(at, byte) => bytes[usize::from(at) % len] = byte,
            Self::Cut(from, count) => {
                let from = usize::from(from) % len;
                bytes.drain(from..len.min(from + usize::from(count)));
            }
            Self::Repeat(from, count) if len < LONGEST => {
                let from = usize::from(from) % len;
                let part = from..len.min(from + usize::from(count));
                let twice = bytes[part].to_vec();
                bytes.splice(from..from, twice);
            }
            Self::Repeat(..) => {}
            Self::Insert(at, few) => {
                let at = usize::from(at) % len;
                bytes.splice(at..at, few);
            }
            Self::Splice(at) => {
                let at = usize::from(at) % len;
                bytes.truncate(at);
                bytes.extend_from_slice(other.get(at..).unwrap_or_default());
            }
            Self::End(at) => bytes.truncate(usize::from(at) % len),
            Self::Number(at, number) => {
                let at = usize::from(at) % len;
                for (place, byte) in bytes[at..].iter_mut().zip(number.to_le_bytes()) {
                    *place = byte;
                }
            }
        }
    }
}
