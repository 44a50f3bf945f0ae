//! The target `decode_postcard`; its body is in `src/decode_postcard.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiered_fuzz::decode_postcard::run(data));
