//! Any bytes as a fetched section.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|section: &[u8]| twinlog_fuzz::fetch(section.to_vec().into()));
