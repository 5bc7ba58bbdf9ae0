#![no_main]

#[path = "../src/decompress.rs"]
mod decompress;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decompress::run(data));
