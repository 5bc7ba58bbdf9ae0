#![no_main]

#[path = "../src/group_bytes.rs"]
mod group_bytes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| group_bytes::run(data));
