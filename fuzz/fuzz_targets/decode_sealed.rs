//! The target `decode_sealed`; its body is in `src/decode_sealed.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiered_fuzz::decode_sealed::run(data));
