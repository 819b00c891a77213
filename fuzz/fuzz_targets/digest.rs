//! Feeds what a fuzzer makes up to the entry point `digest`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    transship::registry::fuzzing::digest(data);
});
