//! One byte stream to a broker: frames out in the order they were queued, answers matched to them in the same order.
//!
//! Whatever breaks the order (a lost stream, a time-out, a frame that makes no sense) ends the line for all who wait.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::endpoint::{Error, ErrorKind, Result};
use crate::runtime::tasks::TaskScope;
use crate::wire::chunks::Chunks;
use crate::wire::shape::behind_tags;
use crate::wire::tls::is_about_our_certificate;

/// Largest frame accepted from a broker, bytes.
pub(super) const LARGEST_FRAME: usize = 128 * 1024 * 1024;

/// Where the correlation id stands in a request frame: behind length, API key and version.
const CORRELATION: usize = 8;

/// Frames written per wake-up of the writer at most.
const BURST: usize = 64;

/// A request frame without its correlation id, and how to read the answer's header.
pub(super) struct Outgoing {
    /// Length, header, and the body as far as it is encoded with them.
    pub(super) head: BytesMut,
    /// The rest of the body.
    pub(super) body: Vec<Bytes>,
    /// Version of the response header: 1 has tagged fields behind the correlation id.
    pub(super) response_header: i16,
    /// What is asked, for messages: `Metadata v12`.
    pub(super) what: String,
}

/// The line. Dropping it ends both tasks and closes the stream.
pub(super) struct Line {
    queue: mpsc::UnboundedSender<Queued>,
    state: Arc<State>,
}

/// What all users of a line share.
pub(super) struct State {
    peer: Arc<str>,
    cause: OnceLock<Error>,
    scope: TaskScope,
}

struct Queued {
    request: Outgoing,
    answer: oneshot::Sender<Bytes>,
}

struct Awaited {
    correlation: i32,
    response_header: i16,
    answer: oneshot::Sender<Bytes>,
}

impl Line {
    /// Starts the tasks of a line over a stream. `peer` names it in messages.
    pub(super) fn open<R, W>(peer: Arc<str>, reading: R, writing: W) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let state = Arc::new(State { peer, cause: OnceLock::new(), scope: TaskScope::new() });
        let (queue, queued) = mpsc::unbounded_channel();
        let (expect, expected) = mpsc::unbounded_channel();
        state.watch(write_frames(writing, queued, expect));
        state.watch(read_frames(reading, expected));
        Self { queue, state }
    }

    /// Queues a frame now, in call order; the future awaits the answer's body until `timeout` after this call. Dropping
    /// the future forgets the answer, not the request: one that is not answered by then ends the line all the same.
    pub(super) fn send(
        &self,
        request: Outgoing,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes>> + Send + use<> {
        let deadline = Instant::now() + timeout;
        let what = request.what.clone();
        let (answer, answered) = oneshot::channel();
        // A closed queue drops the sender at once, so the wait below ends with the line's cause.
        let _ = self.queue.send(Queued { request, answer });
        let state = self.state.clone();
        let late = format!("{}: no answer to {what} within {timeout:?}; connection given up", state.peer);
        let mut waiting = Waiting { answered: Some(answered), deadline, late, state: state.clone() };
        async move {
            match waiting.wait().await {
                Some(Ok(body)) => Ok(body),
                Some(Err(_)) => {
                    // A task lets go of its requests a moment before it tells why it ended.
                    state.ended().await;
                    Err(state.cause().context(what))
                }
                None => Err(state.cause()),
            }
        }
    }

    /// What all users of the line share.
    pub(super) fn state(&self) -> &Arc<State> {
        &self.state
    }
}

/// Somebody waits for an answer.
struct Waiting {
    /// Until it has come, or has not come in time.
    answered: Option<oneshot::Receiver<Bytes>>,
    deadline: Instant,
    /// What the line ends with then.
    late: String,
    state: Arc<State>,
}

impl Waiting {
    /// `None`: the answer did not come in time, and the line has ended for that.
    async fn wait(&mut self) -> Option<Result<Bytes, oneshot::error::RecvError>> {
        let answered = self.answered.as_mut().expect("it is waited for once");
        let outcome = timeout_at(self.deadline, answered).await.ok();
        self.answered = None;
        if outcome.is_none() {
            self.state.end(Error::new(ErrorKind::Retryable, std::mem::take(&mut self.late)));
        }
        outcome
    }
}

impl Drop for Waiting {
    /// Whoever gives up sooner says nothing about the line. But if nobody looked any further, one whose other side has
    /// vanished would be asked again and again by those, for ever.
    fn drop(&mut self) {
        let Some(answered) = self.answered.take() else { return };
        // A program that ends drops what waits when there is nowhere to wait any more.
        if self.state.has_ended() || Handle::try_current().is_err() {
            return;
        }
        let (state, deadline, late) = (self.state.clone(), self.deadline, std::mem::take(&mut self.late));
        self.state.scope.spawn_until_stopped(async move {
            if timeout_at(deadline, answered).await.is_err() {
                state.end(Error::new(ErrorKind::Retryable, late));
            }
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.state.end(Error::new(ErrorKind::Retryable, format!("{}: connection closed by us", self.state.peer)));
    }
}

impl State {
    /// Ends the line with a cause; the first one counts.
    pub(super) fn end(&self, cause: Error) {
        let _ = self.cause.set(cause);
        self.scope.stopping().cancel();
    }

    /// Why the line ended.
    pub(super) fn cause(&self) -> Error {
        let unknown = || Error::new(ErrorKind::Retryable, format!("{}: connection lost", self.peer));
        self.cause.get().cloned().unwrap_or_else(unknown)
    }

    /// Waits until the line has ended.
    pub(super) async fn ended(&self) {
        self.scope.stopping().cancelled().await;
    }

    /// Whether the line has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.scope.stopping().is_cancelled()
    }

    /// The other end, for messages.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    fn watch(self: &Arc<Self>, task: impl Future<Output = Result<(), Broken>> + Send + 'static) {
        let state = self.clone();
        self.scope.spawn_until_stopped(async move {
            if let Err(broken) = task.await {
                state.end(Error::new(broken.kind, format!("{}: {}", state.peer, broken.why)));
            }
        });
    }
}

/// Why a task of a line ended.
struct Broken {
    kind: ErrorKind,
    why: String,
}

impl Broken {
    fn protocol(why: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Protocol, why: why.into() }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        if is_about_our_certificate(&error) {
            return Self { kind: ErrorKind::Denied, why: error.to_string() };
        }
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the broker closed the connection".to_owned(),
            _ => format!("connection lost: {error}"),
        };
        Self { kind: ErrorKind::Retryable, why }
    }
}

async fn write_frames(
    mut stream: impl AsyncWrite + Unpin,
    mut queued: mpsc::UnboundedReceiver<Queued>,
    expect: mpsc::UnboundedSender<Awaited>,
) -> Result<(), Broken> {
    let mut correlation = 0i32;
    let mut burst = Vec::with_capacity(BURST);
    let mut chunks = Chunks::default();
    while queued.recv_many(&mut burst, BURST).await > 0 {
        for Queued { request, answer } in burst.drain(..) {
            correlation = correlation.wrapping_add(1);
            let Outgoing { mut head, body, response_header, .. } = request;
            head[CORRELATION..CORRELATION + 4].copy_from_slice(&correlation.to_be_bytes());
            chunks.push(head.freeze());
            body.into_iter().for_each(|piece| chunks.push(piece));
            // Before the bytes leave: the reader must know the request when its answer arrives.
            let _ = expect.send(Awaited { correlation, response_header, answer });
        }
        stream.write_all_buf(&mut chunks).await?;
        stream.flush().await?;
    }
    Ok(())
}

async fn read_frames(
    stream: impl AsyncRead + Unpin,
    mut expected: mpsc::UnboundedReceiver<Awaited>,
) -> Result<(), Broken> {
    let mut stream = BufReader::with_capacity(8 * 1024, stream);
    let mut awaited = VecDeque::new();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await?;
        let frame = read_frame(&mut stream, length).await?;
        while let Ok(next) = expected.try_recv() {
            awaited.push_back(next);
        }
        let Some(Awaited { correlation, response_header, answer }) = awaited.pop_front() else {
            return Err(Broken::protocol("the broker answered a request that was not made"));
        };
        let _ = answer.send(body_of(frame, correlation, response_header)?);
    }
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin), length: [u8; 4]) -> Result<Bytes, Broken> {
    let size = u32::from_be_bytes(length) as usize;
    if size > LARGEST_FRAME {
        // A TLS record begins with its type (0x15 alert, 0x16 handshake) and the major version 3.
        let tls = matches!(length, [0x15 | 0x16, 3, ..]);
        let why = format!("a frame of {size} bytes is announced, more than the {LARGEST_FRAME} accepted");
        return Err(if tls {
            let why = "the broker answers in TLS: set `security.protocol` of this cluster to ssl or sasl_ssl";
            Broken { kind: ErrorKind::Denied, why: why.to_owned() }
        } else {
            Broken::protocol(why)
        });
    }
    let mut frame = BytesMut::with_capacity(size);
    while frame.len() < size {
        let room = size - frame.len();
        if stream.read_buf(&mut (&mut frame).limit(room)).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(frame.freeze())
}

/// Takes the header off a response frame.
fn body_of(mut frame: Bytes, correlation: i32, response_header: i16) -> Result<Bytes, Broken> {
    let found = frame.first_chunk().copied().map(i32::from_be_bytes);
    if found != Some(correlation) {
        return Err(Broken::protocol(format!("correlation id {found:?} where {correlation} is due")));
    }
    let mut body = frame.split_off(4);
    if response_header >= 1 {
        let behind = behind_tags(&body).map_err(|e| Broken::protocol(format!("response header with {e}")))?;
        body = body.split_off(body.len() - behind);
    }
    Ok(body)
}
