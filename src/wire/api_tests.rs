use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ResponseKind};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{APIS, Api};
use crate::wire::shape::{Field, Kind, Tagged};

/// Writes a random body that has exactly an outline.
struct Writer {
    version: i16,
    flexible: bool,
    random: StdRng,
    out: BytesMut,
}

impl Writer {
    fn body(api: &Api, version: i16, seed: u64) -> Bytes {
        let flexible = version >= api.flexible;
        let mut writer = Self { version, flexible, random: StdRng::seed_from_u64(seed), out: BytesMut::new() };
        writer.fields(api.response);
        writer.out.freeze()
    }

    fn fields(&mut self, fields: &[Field]) {
        let version = self.version;
        let (tagged, plain): (Vec<_>, Vec<_>) =
            fields.iter().filter(|f| f.is_in(version)).partition(|f| matches!(f.kind(), Kind::Tagged(..)));
        for field in plain {
            match field.kind() {
                Kind::Fixed(bytes) => self.fixed(*bytes),
                Kind::Text => self.text(),
                Kind::Blob => {
                    self.length(5, 4);
                    self.fixed(5);
                }
                Kind::FixedArray(bytes) => {
                    let count = self.count();
                    (0..count).for_each(|_| self.fixed(*bytes));
                }
                Kind::TextArray => {
                    let count = self.count();
                    (0..count).for_each(|_| self.text());
                }
                Kind::Struct(inner) => self.fields(inner),
                Kind::Structs(inner) => self.structs(inner),
                Kind::Tagged(..) => unreachable!("set apart above"),
            }
        }
        if self.flexible {
            self.tags(&tagged);
        }
    }

    fn tags(&mut self, tagged: &[&Field]) {
        self.varint(tagged.len() as u32 + 1);
        for field in tagged {
            let Kind::Tagged(tag, content) = field.kind() else { unreachable!("set apart above") };
            let outside = std::mem::take(&mut self.out);
            match content {
                Tagged::Fixed(bytes) => self.fixed(*bytes),
                Tagged::Struct(inner) => self.fields(inner),
                Tagged::Structs(inner) => self.structs(inner),
            }
            let inside = std::mem::replace(&mut self.out, outside);
            self.varint(*tag);
            self.varint(inside.len() as u32);
            self.out.put(inside);
        }
        // One that nobody knows.
        self.varint(4_000);
        self.varint(3);
        self.out.put_slice(b"new");
    }

    fn structs(&mut self, inner: &[Field]) {
        let count = self.count();
        (0..count).for_each(|_| self.fields(inner));
    }

    fn count(&mut self) -> usize {
        let count = self.random.random_range(0..3);
        self.length(count, 4);
        count
    }

    fn text(&mut self) {
        let text: String = (0..self.random.random_range(0..6)).map(|_| self.random.random::<char>()).collect();
        self.length(text.len(), 2);
        self.out.put_slice(text.as_bytes());
    }

    fn fixed(&mut self, bytes: usize) {
        // Single bytes may be booleans.
        let most = if bytes == 1 { 1 } else { 255 };
        (0..bytes).for_each(|_| self.out.put_u8(self.random.random_range(0..=most)));
    }

    fn length(&mut self, length: usize, width: usize) {
        match (self.flexible, width) {
            (true, _) => self.varint(length as u32 + 1),
            (false, 2) => self.out.put_u16(length as u16),
            (false, _) => self.out.put_u32(length as u32),
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }
}

fn rows() -> impl Iterator<Item = (&'static Api, i16)> {
    APIS.iter().flat_map(|api| (api.min..=api.max).map(move |version| (api, version)))
}

#[test]
fn every_outline_is_exactly_what_the_decoder_reads() {
    for (api, version) in rows() {
        for seed in 0..20 {
            let body = Writer::body(api, version, seed);
            let what = format!("{:?} v{version}, seed {seed}", api.key);
            assert_eq!(api.check(version, &body), Ok(0), "{what}");
            let mut rest = body.clone();
            let decoded = ResponseKind::decode(api.key, &mut rest, version);
            let decoded = decoded.unwrap_or_else(|e| panic!("{what}: the decoder refuses it: {e}"));
            assert!(rest.is_empty(), "{what}: the decoder leaves {} bytes", rest.len());
            let mut again = BytesMut::new();
            decoded.encode(&mut again, version).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(api.check(version, &again), Ok(0), "{what}: encoded again");
        }
    }
}

#[test]
fn flexible_versions_are_those_with_a_tagged_response_header() {
    for (api, version) in rows().filter(|(api, _)| api.key != ApiKey::ApiVersions) {
        let tagged = api.key.response_header_version(version) >= 1;
        assert_eq!(version >= api.flexible, tagged, "{:?} v{version}", api.key);
    }
}

#[test]
fn a_body_cut_anywhere_is_refused() {
    for (api, version) in rows() {
        let body = Writer::body(api, version, 1);
        for end in 0..body.len() {
            assert!(api.check(version, &body[..end]).is_err(), "{:?} v{version} cut at {end}", api.key);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// The decoder would reserve gigabytes for a length like these and abort; what the outline lets through, it decodes
    /// or refuses within the bytes that are there.
    #[test]
    fn hostile_lengths_never_reach_the_decoder(
        row in 0..rows().count(), seed in any::<u64>(), at in any::<prop::sample::Index>(),
        poison in prop::sample::select(vec![
            vec![0x7f, 0xff, 0xff, 0xff], vec![0xff, 0xff, 0xff, 0xff, 0x0f], vec![0xff, 0xff, 0xff, 0xff],
            vec![0x80, 0, 0, 0], vec![0xff, 0xff, 0xff, 0x7f], vec![0x7f], vec![0xff; 6], vec![0, 0, 0, 0x40],
        ]),
    ) {
        let (api, version) = rows().nth(row).expect("within the rows");
        let mut body = Writer::body(api, version, seed).to_vec();
        let at = at.index(body.len());
        let end = body.len().min(at + poison.len());
        body.splice(at..end, poison);
        if api.check(version, &body).is_ok() {
            let _ = ResponseKind::decode(api.key, &mut Bytes::from(body), version);
        }
    }

    #[test]
    fn noise_never_reaches_the_decoder_unchecked(row in 0..rows().count(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let (api, version) = rows().nth(row).expect("within the rows");
        if api.check(version, &body).is_ok() {
            let _ = ResponseKind::decode(api.key, &mut Bytes::from(body), version);
        }
    }
}
