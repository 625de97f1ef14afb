//! One producer on a thread of its own, shared by the routes of a lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer, ProducerContext, PurgeConfig};
use tokio::sync::oneshot;

use crate::batch::Codec;
use crate::endpoint::{Error, ErrorKind, Result};
use crate::librdkafka::access::ClusterAccess;
use crate::librdkafka::errors::{explain, kind_of, log};
use crate::librdkafka::login::{Login, answer};
use crate::librdkafka::records::codecs::Codecs;
use crate::librdkafka::records::parcel::{self, Parcel};
use crate::librdkafka::records::tally::Tally;
use crate::model::TopicPartition;

/// One wait for delivery reports; they are served as they come.
const SERVE: Duration = Duration::from_millis(50);
/// Between two looks whether there is anything to do; a send does not wait for it.
const IDLE: Duration = Duration::from_secs(10);
/// How long the reports of what was purged are waited for: they are local.
const PURGED_WITHIN: Duration = Duration::from_secs(10);

/// What a producer is set up for; it cannot be changed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    /// How batches are compressed: as they were, where the target takes that.
    pub codec: Codec,
    /// For data that the target's brokers remember nothing of, and for formats that know no producers: one request in
    /// flight, and nothing is ever repeated.
    pub is_careful: bool,
    /// Bytes of a batch before compression, at most; a single larger record travels alone.
    pub batch_bytes: usize,
}

/// A producer that serves its reports until the last handle is dropped, and then gives up what it has not sent.
pub(super) struct Lane {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    producer: BaseProducer<Context>,
    is_ended: AtomicBool,
}

struct Context {
    cluster: String,
    login: Option<Login>,
    /// A record was not delivered: with the gapless guarantee that is the end of the producer.
    is_broken: AtomicBool,
    /// A broker does not let us in: what is queued would wait for ever, and credentials are read anew only for a new producer.
    is_refused: AtomicBool,
    codec: Codec,
    codecs: Arc<Codecs>,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        answer(self.login.as_ref())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(&self.cluster, level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(cluster = %self.cluster, %error, "librdkafka: {reason}");
        match error.rdkafka_error_code() {
            Some(Code::Fatal) => self.is_broken.store(true, Ordering::Relaxed),
            Some(code) if kind_of(code) == ErrorKind::Denied => self.is_refused.store(true, Ordering::Relaxed),
            _ => {}
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = Arc<Tally>;

    fn delivery(&self, report: &DeliveryResult<'_>, tally: Arc<Tally>) {
        tally.report(match report {
            Ok(message) => Ok(message.offset()),
            Err((error, message)) => {
                self.is_broken.store(true, Ordering::Relaxed);
                let is_codec = error.rdkafka_error_code() == Some(Code::UnsupportedCompressionType);
                if is_codec && self.codecs.refuse(self.codec) {
                    tracing::warn!(cluster = %self.cluster, codec = %self.codec, "not taken: compressing otherwise");
                }
                let at = TopicPartition::new(message.topic(), message.partition());
                Err(undelivered(&self.cluster, &at, error))
            }
        });
    }
}

impl Lane {
    /// Starts a producer. Its creation may read files and so runs on its own thread.
    pub(super) async fn start(access: ClusterAccess, kind: Kind, codecs: Arc<Codecs>) -> Result<Self> {
        let (ready, started) = oneshot::channel();
        let name = format!("records-{}", kind.codec);
        let (alias, login) = (access.alias.clone(), Login::of(&access));
        let run = move || match create(&access, login, kind, codecs) {
            Ok(shared) => {
                // Whoever waited may be gone: then nobody holds the lane.
                if ready.send(Ok(shared.clone())).is_ok() {
                    shared.serve();
                }
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        let failed = |what: String| Error::new(ErrorKind::Retryable, format!("cluster {alias}: {what}"));
        let started_thread = thread::Builder::new().name(name).spawn(run);
        let handle = started_thread.map_err(|e| failed(format!("cannot start a thread to produce: {e}")))?;
        let shared = started.await.unwrap_or_else(|_| Err(failed("the producer's thread has ended".into())))?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Whether a record was not delivered, so that nothing more goes through.
    pub(super) fn is_broken(&self) -> bool {
        self.shared.producer.context().is_broken.load(Ordering::Relaxed)
    }

    /// Gives up everything not sent yet, of all routes: their batches fail.
    pub(super) fn purge(&self) {
        self.shared.purge();
        self.thread.unpark();
    }

    /// Hands a parcel's records to librdkafka. What it does not accept is reported like what the target does not.
    pub(super) fn send(&self, at: &TopicPartition, parcel: &Parcel, tally: &Arc<Tally>) {
        for record in &parcel.records {
            let mut message: BaseRecord<'_, [u8], [u8], Arc<Tally>> =
                BaseRecord::with_opaque_to(at.topic.as_str(), tally.clone())
                    .partition(at.partition)
                    .timestamp(record.carried_timestamp_ms());
            message.key = record.key.as_deref();
            message.payload = record.value.as_deref();
            message.headers = parcel::headers(record);
            if let Err((error, _)) = self.shared.producer.send(message) {
                let context = self.shared.producer.context();
                context.is_broken.store(true, Ordering::Relaxed);
                tally.report(Err(undelivered(&context.cluster, at, &error)));
            }
        }
        self.thread.unpark();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Shared {
    fn purge(&self) {
        self.producer.context().is_broken.store(true, Ordering::Relaxed);
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }

    fn serve(self: Arc<Self>) {
        // A start that was given up while the producer came to be leaves no handle, and nobody who says so.
        while !self.is_ended.load(Ordering::Acquire) && Arc::strong_count(&self) > 1 {
            if self.producer.context().is_refused.swap(false, Ordering::Relaxed) {
                self.purge();
            }
            match self.producer.in_flight_count() {
                0 => thread::park_timeout(IDLE),
                _ => self.producer.poll(SERVE),
            }
        }
        self.purge();
        // Every batch must come to an outcome: somebody may still wait for it.
        let since = Instant::now();
        while self.producer.in_flight_count() > 0 && since.elapsed() < PURGED_WITHIN {
            self.producer.poll(SERVE);
        }
    }
}

fn create(access: &ClusterAccess, login: Option<Login>, kind: Kind, codecs: Arc<Codecs>) -> Result<Arc<Shared>> {
    let mut config = access.client_config()?;
    set_for_records(&mut config, kind);
    let (is_broken, is_refused) = (AtomicBool::new(false), AtomicBool::new(false));
    let context = Context { cluster: access.alias.clone(), login, is_broken, is_refused, codec: kind.codec, codecs };
    let producer = config.create_with_context(context).map_err(|e| {
        let (kind, what) = explain(&e);
        Error::new(kind, format!("cluster {}: cannot create a producer: {what}", access.alias))
    })?;
    Ok(Arc::new(Shared { producer, is_ended: AtomicBool::new(false) }))
}

/// Sizes and times from `facts/rust-crates` §2–4.
fn set_for_records(config: &mut ClientConfig, kind: Kind) {
    let codec = match kind.codec {
        Codec::None => "none",
        Codec::Gzip => "gzip",
        Codec::Snappy => "snappy",
        Codec::Lz4 => "lz4",
        Codec::Zstd => "zstd",
    };
    config
        .set("client.id", "twinlog-records")
        .set("acks", "all")
        // Nothing expires here: what an expiry leaves out, nobody would notice.
        .set("message.timeout.ms", "0")
        .set("compression.type", codec)
        .set("batch.size", kind.batch_bytes.to_string())
        .set("batch.num.messages", "100000")
        // Record sizes are the target's affair.
        .set("message.max.bytes", "1000000000")
        .set("linger.ms", "5")
        // What is queued is bounded by the sink, in bytes.
        .set("queue.buffering.max.kbytes", "2147483647")
        .set("queue.buffering.max.messages", "0")
        .set("retry.backoff.ms", "20")
        .set("retry.backoff.max.ms", "500");
    if kind.is_careful {
        config
            .set("enable.idempotence", "false")
            .set("max.in.flight.requests.per.connection", "1")
            .set("message.send.max.retries", "0");
    } else {
        // With it a record that is refused is the end of the producer: none behind it overtakes.
        config.set("enable.idempotence", "true").set("enable.gapless.guarantee", "true");
    }
}

/// Whether anything of a batch landed is in doubt, unless the target has refused it for what it is.
fn undelivered(cluster: &str, at: &TopicPartition, error: &KafkaError) -> Error {
    let (kind, what) = explain(error);
    let kind = match kind {
        ErrorKind::TooLarge | ErrorKind::Refused | ErrorKind::Denied | ErrorKind::Corrupt => kind,
        _ => ErrorKind::Attach,
    };
    let advice = match kind {
        ErrorKind::Denied => format!(": grant Write on topic {}", at.topic),
        _ => String::new(),
    };
    Error::new(kind, format!("cluster {cluster}: {at}: not delivered: {what}{advice}"))
}
