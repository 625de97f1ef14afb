//! One blocking connection: own framing around the messages of `kafka-protocol`.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// A connection in PLAINTEXT to one broker, one request at a time.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlation: i32,
    versions: HashMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects and learns what the broker speaks. Reads and writes give up after `patience`.
    pub fn dial(address: SocketAddr, patience: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut connection = Connection { stream, correlation: 0, versions: HashMap::new() };
        let spoken = connection.exchange(&ApiVersionsRequest::default(), 0)?;
        connection.versions = spoken.api_keys.iter().map(|k| (k.api_key, (k.min_version, k.max_version))).collect();
        Ok(connection)
    }

    /// The highest version, at most `cap`, that the broker and `kafka-protocol` both know.
    pub fn version<R: Request>(&self, cap: i16) -> io::Result<i16> {
        let &(least, most) = self.versions.get(&R::KEY).ok_or_else(|| odd(format!("no API {} here", R::KEY)))?;
        let version = most.min(cap).min(R::VERSIONS.max);
        if version < least.max(R::VERSIONS.min) {
            return Err(odd(format!("API {}: broker speaks {least}-{most}, we at most {version}", R::KEY)));
        }
        Ok(version)
    }

    /// Sends a request in the given version and waits for its answer.
    pub fn exchange<R: Request>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("testbed")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, R::header_version(version)).map_err(odd)?;
        request.encode(&mut frame, version).map_err(odd)?;
        let length = i32::try_from(frame.len() - 4).map_err(odd)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame)?;

        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(odd)?;
        if length > 256 << 20 {
            return Err(odd(format!("a frame of {length} bytes")));
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let mut body = Bytes::from(body);
        let header = ResponseHeader::decode(&mut body, R::Response::header_version(version)).map_err(odd)?;
        if header.correlation_id != self.correlation {
            return Err(odd(format!("answer {} to request {}", header.correlation_id, self.correlation)));
        }
        let response = R::Response::decode(&mut body, version).map_err(odd)?;
        match body.remaining() {
            0 => Ok(response),
            rest => Err(odd(format!("{rest} bytes behind the answer to API {} v{version}", R::KEY))),
        }
    }
}

fn odd(what: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}
