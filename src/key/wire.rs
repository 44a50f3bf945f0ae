//! The form of keys on servers, which people can read and nobody can forge.
//!
//! `{`, `}`, `%`, spaces and control bytes are percent-encoded, so that no key can spell a lease (which
//! begins with `{`), and what begins with a `%` that no two hex digits follow is ours to say.

use smallvec::SmallVec;

/// What a key ends with that was not made by a builder and reads as if it were.
const RAW: &[u8] = b"%raw";

/// Percent-encodes what must be, the colon too if asked.
pub(crate) fn encode(bytes: &[u8], colon: bool, mut push: impl FnMut(u8)) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        let unsafe_byte = byte <= b' '
            || byte == 0x7f
            || matches!(byte, b'{' | b'}' | b'%')
            || (colon && byte == b':');
        if unsafe_byte {
            push(b'%');
            push(HEX[usize::from(byte >> 4)]);
            push(HEX[usize::from(byte & 15)]);
        } else {
            push(byte);
        }
    }
}

/// The bytes that were encoded; a `%` that no two hex digits follow stays.
pub(super) fn decode(wire: &[u8]) -> Bytes {
    let (mut bytes, mut rest) = (Bytes::new(), wire);
    while let [first, after @ ..] = rest {
        let digit =
            |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (first, after) {
            (b'%', [high, low, after @ ..]) if digit(high).is_some() && digit(low).is_some() => {
                bytes.push(digit(high).unwrap_or_default() << 4 | digit(low).unwrap_or_default());
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// The form of a key that no builder made, its namespace left out.
pub(super) fn encode_raw(bytes: &[u8], mut push: impl FnMut(u8)) {
    encode(bytes, false, &mut push);
    if is_like_built(bytes) {
        RAW.iter().copied().for_each(push);
    }
}

/// Whether a key reads as if a builder had made it: `…:v3`, `…:list:<digest>`.
fn is_like_built(bytes: &[u8]) -> bool {
    let Some(colon) = bytes.iter().rposition(|byte| *byte == b':') else { return false };
    let (before, last) = (&bytes[..colon], &bytes[colon + 1..]);
    let is_version = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    match last {
        [b'v', digits @ ..] if is_version(digits) => true,
        digest => digest.len() == super::list::DIGEST_LEN && before.ends_with(b":list"),
    }
}

/// A namespace in its wire form, with its version if it has one. No namespace spells `%v`.
pub(crate) fn encode_namespace(namespace: &str, version: u64) -> String {
    let mut bytes = Vec::with_capacity(namespace.len());
    encode(namespace.as_bytes(), true, |byte| bytes.push(byte));
    let mut wire = String::from_utf8_lossy(&bytes).into_owned();
    if version > 0 {
        wire.push_str(&format!("%v{version}"));
    }
    wire
}

/// A key's bytes: most are short, and live inline.
pub(super) type Bytes = SmallVec<[u8; 64]>;
