//! Any bytes as a batch whose length, magic and checksum are right, so that they are taken seriously to the end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use twinlog_fuzz::batch::HEADER_BYTES;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let mut bytes = bytes.to_vec();
    let length = (bytes.len() - 12) as i32;
    bytes[0] = 0;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    twinlog_fuzz::fetch(bytes.into());
});
