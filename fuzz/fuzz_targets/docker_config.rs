//! Feeds what a fuzzer makes up to the entry point `docker_config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    transship::registry::fuzzing::docker_config(data);
});
