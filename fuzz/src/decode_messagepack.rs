//! Bytes from anywhere, as the codec `MessagePack` reads them: see [`decoding`](crate::decoding).

use tiered_codecs::MessagePack;

/// One run.
pub fn run(data: &[u8]) {
    crate::decoding::decode(&MessagePack, data);
}
