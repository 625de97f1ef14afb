//! Record batches of format 2, written with any attribute a test wants and read without trusting `src/batch`; what is
//! older is opened by its own module.

use std::io::{Read, Write};

use bytes::{Buf, BufMut};

use super::messages;
use super::record::{Headers, Record, Stored};

/// Compression of a batch, with its code in the attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// As it is.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Raw blocks in the framing that Java writes.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// Zstandard frames.
    Zstd = 4,
}

impl Codec {
    /// Each of them.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
}

/// A batch to write. The default is what a plain producer sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The records.
    pub records: Vec<Record>,
    /// Compression.
    pub codec: Codec,
    /// −1 without a producer.
    pub producer_id: i64,
    /// −1 without a producer.
    pub producer_epoch: i16,
    /// −1 without a producer.
    pub base_sequence: i32,
    /// Whether it belongs to a transaction.
    pub transactional: bool,
}

impl Default for Batch {
    fn default() -> Self {
        let records = Vec::new();
        let (producer_id, producer_epoch, base_sequence) = (-1, -1, -1);
        Batch { records, codec: Codec::None, producer_id, producer_epoch, base_sequence, transactional: false }
    }
}

/// Length of a batch's header.
const HEADER: usize = 61;
/// Where the format stands, in every format.
const MAGIC_AT: usize = 16;

impl Batch {
    /// A batch of these records without a producer.
    pub fn of(records: Vec<Record>, codec: Codec) -> Batch {
        Batch { records, codec, ..Batch::default() }
    }

    /// Its bytes, with base offset 0. A record's timestamp stands as it is (so −1 can be written).
    pub fn encode(&self) -> Vec<u8> {
        let base = self.records.first().map_or(-1, |r| r.timestamp);
        let most = self.records.iter().map(|r| r.timestamp).max().unwrap_or(-1);
        let mut plain = Vec::new();
        for (delta, record) in self.records.iter().enumerate() {
            let body = body(record, record.timestamp - base, delta as i64);
            put_varint(&mut plain, body.len() as i64);
            plain.extend(body);
        }
        let payload = compress(self.codec, &plain);
        let mut batch = Vec::with_capacity(HEADER + payload.len());
        batch.put_i64(0); // base offset
        batch.put_i32((HEADER - 12 + payload.len()) as i32);
        batch.put_i32(-1); // leader epoch
        batch.put_i8(2); // magic
        batch.put_u32(0); // checksum, below
        batch.put_i16(self.codec as i16 | if self.transactional { 0x10 } else { 0 });
        batch.put_i32(self.records.len() as i32 - 1);
        batch.put_i64(base);
        batch.put_i64(most);
        batch.put_i64(self.producer_id);
        batch.put_i16(self.producer_epoch);
        batch.put_i32(self.base_sequence);
        batch.put_i32(self.records.len() as i32);
        batch.extend(payload);
        let checksum = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
        batch
    }
}

/// A stored batch, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// First offset it covers.
    pub base_offset: i64,
    /// Last offset it covers, whether or not a record is left there.
    pub last_offset: i64,
    /// The attributes as stored.
    pub attributes: i16,
    /// −1 without a producer.
    pub producer_id: i64,
    /// For a control batch: whether it commits.
    pub commits: Option<bool>,
    /// The records of a data batch.
    pub records: Vec<Stored>,
}

impl Opened {
    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }
}

/// Opens every whole batch of a section; a torn one at the end is left out. Checksums are checked.
pub fn open(mut section: &[u8]) -> Result<Vec<Opened>, String> {
    let mut all = Vec::new();
    while section.len() > MAGIC_AT {
        let length = 12 + (&section[8..]).get_i32() as usize;
        if section.len() < length {
            break;
        }
        let (batch, rest) = section.split_at(length);
        let is_old = batch.get(MAGIC_AT).is_some_and(|magic| *magic < 2);
        all.push(if is_old { messages::open(batch)? } else { open_one(batch)? });
        section = rest;
    }
    Ok(all)
}

fn open_one(batch: &[u8]) -> Result<Opened, String> {
    let mut header = batch;
    let base_offset = header.get_i64();
    header.advance(8); // length, leader epoch
    let magic = header.get_i8();
    if magic != 2 {
        return Err(format!("batch at {base_offset}: format {magic}"));
    }
    let checksum = header.get_u32();
    if crc32c::crc32c(header) != checksum {
        return Err(format!("batch at {base_offset}: checksum"));
    }
    let attributes = header.get_i16();
    let last_offset = base_offset + i64::from(header.get_i32());
    let (base, most) = (header.get_i64(), header.get_i64());
    let producer_id = header.get_i64();
    header.advance(6); // epoch, sequence
    let count = header.get_i32();
    let plain = decompress(attributes & 7, header).map_err(|e| format!("batch at {base_offset}: {e}"))?;
    let mut rest = plain.as_slice();
    let (append_time, mut records) = (attributes & 8 != 0, Vec::new());
    for _ in 0..count {
        let (timestamp, delta, mut record) =
            parse(&mut rest).ok_or_else(|| format!("batch at {base_offset}: record"))?;
        record.timestamp = if append_time { most } else { base + timestamp };
        records.push(Stored { offset: base_offset + delta, append_time, record });
    }
    if !rest.is_empty() {
        return Err(format!("batch at {base_offset}: {} bytes behind its records", rest.len()));
    }
    let mut commits = None;
    if attributes & 0x20 != 0 {
        let key = records.first().and_then(|r| r.record.key.clone()).unwrap_or_default();
        // Version, then type: 0 aborts, 1 commits.
        commits = Some(key.len() >= 4 && (&key[2..]).get_i16() == 1);
        records.clear();
    }
    Ok(Opened { base_offset, last_offset, attributes, producer_id, commits, records })
}

fn body(record: &Record, timestamp_delta: i64, offset_delta: i64) -> Vec<u8> {
    let mut body = vec![0]; // attributes
    put_varint(&mut body, timestamp_delta);
    put_varint(&mut body, offset_delta);
    put_nullable(&mut body, record.key.as_deref());
    put_nullable(&mut body, record.value.as_deref());
    put_varint(&mut body, record.headers.len() as i64);
    for (name, value) in &record.headers {
        put_nullable(&mut body, Some(name));
        put_nullable(&mut body, value.as_deref());
    }
    body
}

fn parse(rest: &mut &[u8]) -> Option<(i64, i64, Record)> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let mut body = rest.get(..length)?;
    *rest = &rest[length..];
    body = body.get(1..)?; // attributes
    let (timestamp, offset) = (varint(&mut body)?, varint(&mut body)?);
    let (key, value) = (nullable(&mut body)?, nullable(&mut body)?);
    let mut headers = Headers::new();
    for _ in 0..varint(&mut body)? {
        headers.push((nullable(&mut body)??, nullable(&mut body)?));
    }
    body.is_empty().then_some((timestamp, offset, Record { timestamp: 0, key, value, headers }))
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut zigzag = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
        }
    }
    None
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |b| b.len() as i64));
    out.extend(bytes.unwrap_or_default());
}

/// Outer `None`: malformed. Inner `None`: null.
fn nullable(rest: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let length = varint(rest)?;
    if length < 0 {
        return Some(None);
    }
    let length = usize::try_from(length).ok()?;
    let bytes = rest.get(..length)?.to_vec();
    *rest = &rest[length..];
    Some(Some(bytes))
}

const XERIAL: &[u8] = b"\x82SNAPPY\0";

fn compress(codec: Codec, plain: &[u8]) -> Vec<u8> {
    let in_memory = "writing to memory cannot fail";
    match codec {
        Codec::None => plain.to_vec(),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).expect(in_memory);
            encoder.finish().expect(in_memory)
        }
        Codec::Snappy => {
            let mut out = XERIAL.to_vec();
            out.put_i32(1); // version
            out.put_i32(1); // compatible since
            for block in plain.chunks(32 << 10) {
                let block = snap::raw::Encoder::new().compress_vec(block).expect("a block of 32 KiB is within bounds");
                out.put_i32(block.len() as i32);
                out.extend(block);
            }
            out
        }
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(plain).expect(in_memory);
            encoder.finish().expect(in_memory)
        }
        Codec::Zstd => zstd::encode_all(plain, 1).expect(in_memory),
    }
}

pub(super) fn decompress(codec: i16, packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    match codec {
        0 => plain.extend(packed),
        1 => drop(flate2::read::GzDecoder::new(packed).read_to_end(&mut plain).map_err(|e| e.to_string())?),
        2 => {
            let one = |block: &[u8]| snap::raw::Decoder::new().decompress_vec(block).map_err(|e| e.to_string());
            let Some(mut rest) = packed.strip_prefix(XERIAL).and_then(|r| r.get(8..)) else { return one(packed) };
            while rest.len() >= 4 {
                let length = rest.get_i32() as usize;
                plain.extend(one(rest.get(..length).ok_or("torn snappy block")?)?);
                rest.advance(length);
            }
        }
        3 => drop(lz4_flex::frame::FrameDecoder::new(packed).read_to_end(&mut plain).map_err(|e| e.to_string())?),
        4 => plain = zstd::decode_all(packed).map_err(|e| e.to_string())?,
        other => return Err(format!("codec {other}")),
    }
    Ok(plain)
}
