//! The target `open_envelope`; its body is in `src/open_envelope.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiered_fuzz::open_envelope::run(data));
