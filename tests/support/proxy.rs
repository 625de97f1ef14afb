//! A wire with faults between clients and one broker: slow, cut, or flipping a bit of what it carries.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Frames at least so long count as carrying records: a bit in their middle belongs to one.
const CARRIES_RECORDS: usize = 2048;

/// API key of produce requests.
const PRODUCE: i16 = 0;

/// Forwards connections to a broker; ends with its owner.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
}

#[derive(Debug, Default)]
struct Wire {
    ended: AtomicBool,
    cut: AtomicBool,
    delay_micros: AtomicU64,
    to_corrupt: AtomicU64,
    corrupted: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Listens on a port of the kernel's choice and forwards to `to`, which need not listen yet.
    pub fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let wire = Arc::new(Wire::default());
        let proxy = Proxy { address, wire: wire.clone() };
        thread::spawn(move || {
            for client in listener.incoming() {
                if wire.ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                // A broker that does not listen: the client's connection closes, as a dead host's would.
                if let (false, Ok(broker)) = (wire.cut.load(Ordering::Relaxed), TcpStream::connect(to)) {
                    // A pair that cannot be set up is closed by being dropped.
                    let _ = forward(&wire, client, broker);
                }
            }
        });
        proxy
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds so much to each direction, without limiting throughput.
    pub fn delay(&self, each_way: Duration) {
        self.wire.delay_micros.store(each_way.as_micros() as u64, Ordering::Relaxed);
    }

    /// Closes every connection and accepts no more, until [`Proxy::mend`].
    pub fn cut(&self) {
        self.wire.cut.store(true, Ordering::Relaxed);
        self.wire.close_all();
    }

    /// Forwards again.
    pub fn mend(&self) {
        self.wire.cut.store(false, Ordering::Relaxed);
    }

    /// Flips one bit in the middle of each of the next `count` produce requests that carry more than 2 KiB.
    pub fn corrupt_produce(&self, count: u64) {
        self.wire.to_corrupt.store(count, Ordering::Relaxed);
    }

    /// How many requests have been corrupted so far.
    pub fn corrupted(&self) -> u64 {
        self.wire.corrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.wire.ended.store(true, Ordering::Relaxed);
        self.wire.close_all();
        // Wakes the listener; it fails only when that is gone already.
        let _ = TcpStream::connect(self.address);
    }
}

impl Wire {
    fn close_all(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Fails only for one that is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Flips a bit of a frame (without its length) when it is one to corrupt.
    fn touch(&self, frame: &mut [u8]) {
        let is_produce = frame.len() >= CARRIES_RECORDS && i16::from_be_bytes([frame[0], frame[1]]) == PRODUCE;
        let take = |left: u64| left.checked_sub(1);
        if is_produce && self.to_corrupt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            let middle = frame.len() / 2;
            frame[middle] ^= 0x10;
            self.corrupted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn due(&self) -> Instant {
        Instant::now() + Duration::from_micros(self.delay_micros.load(Ordering::Relaxed))
    }
}

type Parcel = (Instant, Vec<u8>);

fn forward(wire: &Arc<Wire>, client: TcpStream, broker: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    wire.open.lock().unwrap_or_else(PoisonError::into_inner).extend([client.try_clone()?, broker.try_clone()?]);
    let (requests, to_broker) = channel();
    let (responses, to_client) = channel();
    let (from_client, from_broker) = (client.try_clone()?, broker.try_clone()?);
    let (frames, bytes) = (wire.clone(), wire.clone());
    thread::spawn(move || read_frames(&frames, from_client, &requests));
    thread::spawn(move || read_bytes(&bytes, from_broker, &responses));
    thread::spawn(move || write(broker, to_broker));
    thread::spawn(move || write(client, to_client));
    Ok(())
}

/// Requests come as frames, so that one can be told from another.
fn read_frames(wire: &Wire, mut from: TcpStream, to: &Sender<Parcel>) {
    loop {
        let mut frame = vec![0; 4];
        if from.read_exact(&mut frame).is_err() {
            return;
        }
        // Under TLS this is no length: forward what comes.
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        if length > 256 << 20 {
            if to.send((wire.due(), frame)).is_ok() {
                read_bytes(wire, from, to);
            }
            return;
        }
        frame.resize(4 + length, 0);
        if from.read_exact(&mut frame[4..]).is_err() {
            return;
        }
        wire.touch(&mut frame[4..]);
        if to.send((wire.due(), frame)).is_err() {
            return;
        }
    }
}

fn read_bytes(wire: &Wire, mut from: TcpStream, to: &Sender<Parcel>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.send((wire.due(), buffer[..length].to_vec())).is_err() {
            return;
        }
    }
}

fn write(mut to: TcpStream, parcels: Receiver<Parcel>) {
    for (due, bytes) in parcels {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    // The other side has closed, or this one has: both end.
    let _ = to.shutdown(Shutdown::Both);
}
