//! The target `decode_zstd`; its body is in `src/decode_zstd.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiered_fuzz::decode_zstd::run(data));
