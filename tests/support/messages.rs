//! Messages of format 1, as brokers keep them where `message.format.version` is below 0.11, read without trusting
//! `src/batch`.

use bytes::Buf;

use super::batch::{Opened, decompress};
use super::record::{Headers, Record, Stored};

/// Opens one message, which is compressed and then holds others, or is one record.
pub fn open(message: &[u8]) -> Result<Opened, String> {
    let Message { offset, attributes, record } = Message::read(message)?;
    let codec = i16::from(attributes & 7);
    let append_time = attributes & 8 != 0;
    let mut records = Vec::new();
    if codec == 0 {
        records.push(Stored { offset, append_time, record });
    } else {
        let time = record.timestamp;
        let inside = decompress(codec, &record.value.unwrap_or_default())?;
        let mut rest = inside.as_slice();
        while !rest.is_empty() {
            let length = 12 + rest.get(8..).ok_or("a torn message inside")?.get_i32() as usize;
            let Message { offset, mut record, .. } = Message::read(rest.get(..length).ok_or("a torn message inside")?)?;
            rest = &rest[length..];
            if append_time {
                record.timestamp = time;
            }
            records.push(Stored { offset, append_time, record });
        }
        // Offsets inside are relative; the outer one is the last one's.
        let base = offset - records.last().ok_or("nothing inside")?.offset;
        records.iter_mut().for_each(|stored| stored.offset += base);
    }
    let base_offset = records[0].offset;
    let attributes = attributes.into();
    Ok(Opened { base_offset, last_offset: offset, attributes, producer_id: -1, commits: None, records })
}

struct Message {
    offset: i64,
    attributes: i8,
    record: Record,
}

impl Message {
    fn read(mut bytes: &[u8]) -> Result<Message, String> {
        if bytes.len() < 34 {
            return Err("a torn message".into());
        }
        let offset = bytes.get_i64();
        let complaint = |what: &str| format!("message at {offset}: {what}");
        bytes.advance(4); // length
        let checksum = bytes.get_u32();
        let mut computed = flate2::Crc::new();
        computed.update(bytes);
        if computed.sum() != checksum {
            return Err(complaint("checksum"));
        }
        let (format, attributes, timestamp) = (bytes.get_i8(), bytes.get_i8(), bytes.get_i64());
        if format != 1 {
            return Err(complaint(&format!("format {format}")));
        }
        let mut nullable = || {
            let length = bytes.try_get_i32().ok()?;
            let Ok(length) = usize::try_from(length) else { return Some(None) };
            let part = bytes.get(..length)?.to_vec();
            bytes.advance(length);
            Some(Some(part))
        };
        let key = nullable().ok_or_else(|| complaint("key"))?;
        let value = nullable().ok_or_else(|| complaint("value"))?;
        let record = Record { timestamp, key, value, headers: Headers::new() };
        Ok(Message { offset, attributes, record })
    }
}
