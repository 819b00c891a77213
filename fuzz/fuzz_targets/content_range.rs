//! Feeds what a fuzzer makes up to the entry point `range`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    transship::registry::fuzzing::range(data);
});
