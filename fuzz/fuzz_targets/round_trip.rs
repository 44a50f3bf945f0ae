//! The target `round_trip`; its body is in `src/round_trip.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tiered_fuzz::round_trip::run(data));
