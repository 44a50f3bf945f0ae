//! The target `drift`; its body is in `src/drift.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiered_fuzz::drift::run(data));
