//! Feeds what a fuzzer makes up to the entry point `registry_url`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    transship::registry::fuzzing::registry_url(data);
});
