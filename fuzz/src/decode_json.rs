//! Bytes from anywhere, as the codec `Json` reads them: see [`decoding`](crate::decoding).

use tiered_codecs::Json;

/// One run.
pub fn run(data: &[u8]) {
    crate::decoding::decode(&Json, data);
}
