//! The target `decode_messagepack`; its body is in `src/decode_messagepack.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiered_fuzz::decode_messagepack::run(data));
