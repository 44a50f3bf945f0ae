//! Bytes from anywhere, as the codec `Postcard` reads them: see [`decoding`](crate::decoding).

use tiered_codecs::Postcard;

/// One run.
pub fn run(data: &[u8]) {
    crate::decoding::decode(&Postcard, data);
}
