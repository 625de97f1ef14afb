//! Any bytes as a message of magic 0 or 1 whose length and checksum are right.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() < 26 {
        return;
    }
    let mut bytes = bytes.to_vec();
    let length = (bytes.len() - 12) as i32;
    bytes[0] = 0;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] &= 1;
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.sum().to_be_bytes());
    twinlog_fuzz::fetch(bytes.into());
});
