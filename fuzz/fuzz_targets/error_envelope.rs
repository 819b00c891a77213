//! Feeds what a fuzzer makes up to the entry point `error_envelope`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    transship::registry::fuzzing::error_envelope(data);
});
