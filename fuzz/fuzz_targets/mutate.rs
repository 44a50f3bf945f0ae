//! The target `mutate`; its body is in `src/mutate.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiered_fuzz::mutate::run(data));
