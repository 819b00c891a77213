//! Feeds what a fuzzer makes up to the entry point `retry_after`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    transship::registry::fuzzing::retry_after(data);
});
