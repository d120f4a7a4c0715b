#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| efs_agent::fuzz::aws_profile(data));
