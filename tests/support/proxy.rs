//! A wire with faults between clients and one broker: slow, cut, dead but open, flipping a bit of what it carries, or
//! keeping it back.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::hold::{Hold, Holds, Kind};

/// Frames at least so long count as carrying records: a bit in their middle belongs to one.
const CARRIES_RECORDS: usize = 2048;

/// Longer than any frame of Kafka's: what TLS begins with, read as a length.
const NO_LENGTH: usize = 256 << 20;

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
    swallows: AtomicBool,
    delay_micros: AtomicU64,
    to_corrupt: AtomicU64,
    corrupted: AtomicU64,
    open: Mutex<Vec<Weak<Pair>>>,
    holds: Holds,
}

/// A client's connection and the one to the broker that goes with it.
#[derive(Debug)]
struct Pair {
    client: TcpStream,
    broker: TcpStream,
    /// What comes from either side disappears from now on, and neither learns that the other has ended.
    dead: AtomicBool,
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

    /// Half-open: what the connections carry disappears, and nobody is told. Those that are open stay so for good; those
    /// that are made until [`Proxy::mend`] too.
    pub fn swallow(&self) {
        self.wire.swallows.store(true, Ordering::Relaxed);
        self.wire.open().iter().filter_map(Weak::upgrade).for_each(|pair| pair.dead.store(true, Ordering::Relaxed));
    }

    /// Forwards again what comes by new connections.
    pub fn mend(&self) {
        self.wire.cut.store(false, Ordering::Relaxed);
        self.wire.swallows.store(false, Ordering::Relaxed);
    }

    /// How many clients are connected, by connections that are dead or not.
    pub fn connections(&self) -> usize {
        self.wire.open().iter().filter(|pair| pair.strong_count() > 0).count()
    }

    /// Flips one bit in the middle of each of the next `count` produce requests that carry more than 2 KiB.
    pub fn corrupt_produce(&self, count: u64) {
        self.wire.to_corrupt.store(count, Ordering::Relaxed);
    }

    /// How many requests have been corrupted so far.
    pub fn corrupted(&self) -> u64 {
        self.wire.corrupted.load(Ordering::Relaxed)
    }

    /// Keeps every request of an API key back from now on.
    pub fn hold_requests(&self, api_key: i16) -> Hold {
        self.wire.holds.begin(Kind::Request(api_key))
    }

    /// Keeps the answers to requests of an API key back: the broker has done what it was asked, and nobody knows.
    pub fn hold_responses(&self, api_key: i16) -> Hold {
        self.wire.holds.begin(Kind::Response(api_key))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.wire.ended.store(true, Ordering::Relaxed);
        self.wire.close_all();
        self.wire.holds.end();
        // Wakes the listener; it fails only when that is gone already.
        let _ = TcpStream::connect(self.address);
    }
}

impl Pair {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Fails only for what is closed already.
    fn close(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.broker.shutdown(Shutdown::Both);
    }
}

impl Wire {
    fn open(&self) -> MutexGuard<'_, Vec<Weak<Pair>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_all(&self) {
        self.open().drain(..).filter_map(|pair| pair.upgrade()).for_each(|pair| pair.close());
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

/// A piece of what goes one way: when it is due, and which frame begins with it.
type Parcel = (Instant, Vec<u8>, Option<Kind>);

/// API keys of a connection's requests that have not been answered yet, by correlation id.
type Asked = Mutex<HashMap<i32, i16>>;

fn forward(wire: &Arc<Wire>, client: TcpStream, broker: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let pair = Arc::new(Pair { client, broker, dead: AtomicBool::new(false) });
    let mut open = wire.open();
    open.retain(|pair| pair.strong_count() > 0);
    open.push(Arc::downgrade(&pair));
    // Asked while nobody can be walking through the list: a connection is either in it or made dead here.
    pair.dead.store(wire.swallows.load(Ordering::Relaxed), Ordering::Relaxed);
    drop(open);
    let (requests, to_broker) = channel();
    let (responses, to_client) = channel();
    let asked = Arc::<Asked>::default();
    let (its, of, asks) = (pair.clone(), wire.clone(), asked.clone());
    thread::spawn(move || read_requests(&of, &its.client, &asks, &requests));
    let (its, of) = (pair.clone(), wire.clone());
    thread::spawn(move || read_responses(&of, &its.broker, &asked, &responses));
    let (its, of) = (pair.clone(), wire.clone());
    thread::spawn(move || {
        write(&of, &its, &its.broker, to_broker);
        // The client has closed: nobody is left to be deceived.
        its.close();
    });
    let of = wire.clone();
    thread::spawn(move || {
        write(&of, &pair, &pair.client, to_client);
        if !pair.is_dead() {
            pair.close();
        }
    });
    Ok(())
}

/// Requests come as whole frames, so that one can be told from another and damaged.
fn read_requests(wire: &Wire, mut from: &TcpStream, asked: &Asked, to: &Sender<Parcel>) {
    loop {
        let mut frame = vec![0; 4];
        if from.read_exact(&mut frame).is_err() {
            return;
        }
        let length = number(&frame) as usize;
        if length > NO_LENGTH {
            if to.send((wire.due(), frame, None)).is_ok() {
                read_bytes(wire, from, to);
            }
            return;
        }
        frame.resize(4 + length, 0);
        if from.read_exact(&mut frame[4..]).is_err() {
            return;
        }
        wire.touch(&mut frame[4..]);
        // API key, version, correlation id.
        let kind = (length >= 8).then(|| {
            let key = i16::from_be_bytes([frame[4], frame[5]]);
            asked.lock().unwrap_or_else(PoisonError::into_inner).insert(number(&frame[8..]) as i32, key);
            Kind::Request(key)
        });
        if to.send((wire.due(), frame, kind)).is_err() {
            return;
        }
    }
}

/// Answers go on as they come; where one begins is known by its length, and what it answers by its correlation id.
fn read_responses(wire: &Wire, from: &TcpStream, asked: &Asked, to: &Sender<Parcel>) {
    let mut from = BufReader::with_capacity(64 << 10, from);
    loop {
        let mut head = vec![0; 4];
        if from.read_exact(&mut head).is_err() {
            return;
        }
        let length = number(&head) as usize;
        if !(4..=NO_LENGTH).contains(&length) {
            if to.send((wire.due(), head, None)).is_ok() {
                read_bytes(wire, from, to);
            }
            return;
        }
        head.resize(8, 0);
        if from.read_exact(&mut head[4..]).is_err() {
            return;
        }
        let key = asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&(number(&head[4..]) as i32));
        let (mut piece, mut kind, mut rest) = (head, key.map(Kind::Response), length - 4);
        loop {
            // An answer without a body is sent as it is: waiting for more would be waiting for the next one.
            let more: &[u8] = if rest == 0 { &[] } else { from.fill_buf().unwrap_or_default() };
            let taken = more.len().min(rest);
            piece.extend_from_slice(&more[..taken]);
            if to.send((wire.due(), std::mem::take(&mut piece), kind.take())).is_err() || (taken == 0 && rest > 0) {
                return;
            }
            from.consume(taken);
            rest -= taken;
            if rest == 0 {
                break;
            }
        }
    }
}

fn read_bytes(wire: &Wire, mut from: impl Read, to: &Sender<Parcel>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.send((wire.due(), buffer[..length].to_vec(), None)).is_err() {
            return;
        }
    }
}

/// Until the side it comes from has closed, or the one it goes to.
fn write(wire: &Wire, pair: &Pair, mut to: &TcpStream, parcels: Receiver<Parcel>) {
    for (due, bytes, begins) in parcels {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if pair.is_dead() {
            continue;
        }
        let goes_on = begins.is_none_or(|kind| wire.holds.pass(kind));
        if !goes_on || to.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
