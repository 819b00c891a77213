//! Feeds what a fuzzer makes up to the entry point `challenge`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    transship::registry::fuzzing::challenge(data);
});
