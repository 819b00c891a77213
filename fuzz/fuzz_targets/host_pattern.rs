//! Feeds what a fuzzer makes up to the entry point `host_pattern`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    transship::registry::fuzzing::host_pattern(data);
});
