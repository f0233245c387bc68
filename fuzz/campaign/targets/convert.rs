#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leno_fuzz::run("convert", bytes));
