#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| efs_agent::testing::fuzz::config(data));
