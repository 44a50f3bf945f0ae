//! The target `decode_json`; its body is in `src/decode_json.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiered_fuzz::decode_json::run(data));
