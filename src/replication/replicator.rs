//! One route's replicator: attach, replicate until something ends it, recover.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::endpoint::{Catalog, Error, ErrorKind, PointReader, Source, Writer};
use crate::ledger::record::HaltRecord;
use crate::ledger::{ControlKey, ControlRecord, Ledger, RouteMap};
use crate::model::{
    Batch, EncodedBatch, Halt, HaltReason, LinkName, Offset, PartitionState, Payload, ProducerIdentity,
    ProtectionLevel, Route,
};
use crate::policy::priority::Priorities;
use crate::policy::resolution::RetentionOvertook;
use crate::policy::start::Start;
use crate::replication::attach::Attached;
use crate::replication::intake::{Intake, Taken};
use crate::replication::monitor::RouteMonitor;
use crate::replication::planes::Planes;
use crate::replication::window::{InFlight, Landed, Sent, Window};
use crate::runtime::limit::{ByteRate, Share, Toll};
use crate::runtime::retry::Pace;

/// Batches and empty ranges a replicator keeps unacknowledged; the writer's own bound on batches is lower, or the same over
/// a long path.
const WINDOW_MAX: usize = 256;
/// How long a stopping replicator waits for what is in flight.
const DRAIN: Duration = Duration::from_secs(5);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// Causes that people mend outside Twinlog are looked at again this often.
const HALT_RETRY: Duration = Duration::from_secs(30);

/// Everything a link's replicators talk to; the source side is read-only by type.
pub struct Ends {
    /// The link's name, for people.
    pub link: LinkName,
    /// The source's catalog: bounds, epochs, settings.
    pub catalog: Arc<dyn Catalog>,
    /// The source's shared fetch.
    pub source: Arc<dyn Source>,
    /// Single looks at the source.
    pub source_points: Arc<dyn PointReader>,
    /// The target's writers.
    pub planes: Planes,
    /// Single looks at the target.
    pub target_points: Arc<dyn PointReader>,
    /// The link's durable state.
    pub ledger: Ledger,
    /// Whom the target knows all owners of this link as.
    pub producer: ProducerIdentity,
    /// The target's `producer.id.expiration.ms`: older data is not protected by producer state.
    pub producer_expiration: Duration,
    /// The link's rate limit.
    pub rate: ByteRate,
    /// How topics share it.
    pub priorities: Priorities,
    /// What retention loss does.
    pub retention_overtook: RetentionOvertook,
    /// True while the map cannot be made durable: nothing more is sent.
    pub map_stalled: watch::Receiver<bool>,
    /// Bounds how many routes attach at a time.
    pub attach_turns: Semaphore,
    /// Bounds how many routes match a tail at a time: each holds chunks of both logs.
    pub tail_turns: Semaphore,
}

/// Copies one route until it is stopped.
pub(super) struct Replicator {
    pub(super) ends: Arc<Ends>,
    pub(super) monitor: Arc<RouteMonitor>,
    /// Where copying starts if the route is not born yet.
    pub(super) start: Start,
    pub(super) stop: CancellationToken,
}

/// Why replicating came to an end.
#[derive(Debug)]
pub(super) enum Ended {
    Stopped,
    Failed(Error),
    /// The target refuses the way the route is written.
    PlaneRefused(Error),
    Halted(Halt),
}

impl Replicator {
    pub(super) fn route(&self) -> &Route {
        self.monitor.route()
    }

    /// Runs until stopped. What is in flight then is waited for (5 s at most); what is not acknowledged by then is found by
    /// the next attach.
    pub(super) async fn run(self) {
        let mut pace = Pace::new(RETRY_FIRST, RETRY_LONGEST);
        self.monitor.set_plane(self.ends.planes.first());
        loop {
            let attached = self.stop.run_until_cancelled(self.attach()).await;
            let ended = match attached {
                None => Ended::Stopped,
                Some(Err(ended)) => ended,
                Some(Ok(attached)) => self.replicate(attached, &mut pace).await,
            };
            if !self.recover(ended, &mut pace).await {
                break;
            }
        }
        self.monitor.enter(PartitionState::Stopped);
    }

    async fn replicate(&self, attached: Attached, pace: &mut Pace) -> Ended {
        let reader = self.ends.source.open(self.route(), attached.position, attached.last_epoch);
        self.monitor.hear_ends(reader.ends());
        let mut writer = attached.writer;
        let intake = Intake::new(reader, writer.joined_bytes_max());
        let one_in_flight = attached.level == ProtectionLevel::ProbeOnly;
        writer.limit_in_flight(one_in_flight);
        let topic = &self.route().source.topic;
        let mut flow = Flow {
            replicator: self,
            share: self.ends.rate.share(topic.as_str(), self.ends.priorities.weight(topic)),
            intake,
            writer,
            map: attached.map,
            window: Window::default(),
            ready: None,
            expected: attached.expected,
            level: attached.level,
            one_in_flight,
            guarded_until_ms: i64::MAX,
        };
        let ended = flow.run(pace).await;
        flow.writer.close().await;
        ended
    }

    /// Decides what follows. Returns false when the replicator is to end.
    async fn recover(&self, ended: Ended, pace: &mut Pace) -> bool {
        let wait = match ended {
            Ended::Stopped => return false,
            Ended::Failed(error) => {
                self.monitor.metrics.failed();
                let wait = pace.next_delay();
                tracing::warn!(route = %self.route(), %error, retry_in = ?wait, "replication interrupted");
                let state = match error.kind {
                    ErrorKind::Retryable => PartitionState::Waiting { reason: error.message },
                    _ => PartitionState::BackingOff { error: error.message },
                };
                self.monitor.enter(state);
                wait
            }
            Ended::PlaneRefused(error) => {
                let plane = self.monitor.plane().plane;
                if let Some(next) = self.ends.planes.instead_of(plane, &error.message) {
                    tracing::warn!(route = %self.route(), %error, from = %plane, to = %next.plane, "going on by another plane");
                    self.monitor.set_plane(next);
                    return true;
                }
                let detail =
                    format!("{} (plane `{plane}`; the link's setting `plane` may allow another)", error.message);
                self.halt(Halt { reason: HaltReason::RecordRefused, detail }).await
            }
            Ended::Halted(halt) => self.halt(halt).await,
        };
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = self.monitor.decided.notified() => true,
            () = tokio::time::sleep(wait) => true,
        }
    }

    /// Answers when to look at the cause again.
    async fn halt(&self, halt: Halt) -> Duration {
        self.report_halt(&halt).await;
        self.monitor.enter(PartitionState::Halted(halt));
        HALT_RETRY
    }

    async fn report_halt(&self, halt: &Halt) {
        let target = &self.route().target;
        let known = self.ends.ledger.view().halt(target).map(|h| h.halt);
        if known.as_ref() == Some(halt) {
            return;
        }
        let ways_out = crate::policy::resolution::ways_out(&self.ends.link, target, halt.reason);
        let record = ControlRecord::Halt(target.clone(), HaltRecord { halt: halt.clone(), at_ms: unix_ms() });
        tracing::error!(route = %self.route(), reason = %halt.reason, detail = halt.detail, ?ways_out, "partition halted");
        let mut records = vec![record];
        if known.is_none_or(|known| known.reason != halt.reason) {
            // A decision answers the halt it was made for and no other.
            records.push(ControlRecord::Removed(ControlKey::Resolution(target.clone())));
        }
        if let Err(error) = self.ends.ledger.append(records).await {
            tracing::warn!(route = %self.route(), %error, "the halt could not be recorded in the ledger");
        }
    }
}

/// One attachment's stream of batches: intake → window → acks → map.
struct Flow<'a> {
    replicator: &'a Replicator,
    /// The topic's share of the rate.
    share: Share,
    intake: Intake,
    writer: Box<dyn Writer>,
    map: RouteMap,
    window: Window,
    /// Read, not yet accepted by the writer.
    ready: Option<Ready>,
    /// Target offset the next record to be sent must get.
    expected: Offset,
    level: ProtectionLevel,
    one_in_flight: bool,
    /// When the target forgets what was last acknowledged, and with it us; unknown before the first ack, which is waited for
    /// before anything else is sent.
    guarded_until_ms: i64,
}

struct Ready {
    batch: Batch,
    /// What the rate limit has not let pass yet.
    toll: Toll,
    /// Whether producer state outlives it.
    is_protected: bool,
    /// Whether it was made of several source batches.
    joined: bool,
}

impl Flow<'_> {
    async fn run(&mut self, pace: &mut Pace) -> Ended {
        let ends = self.replicator.ends.clone();
        let mut map_stalled = ends.map_stalled.clone();
        loop {
            let may_read = self.ready.is_none() && self.window.len() < WINDOW_MAX;
            let replicating = PartitionState::Replicating { level: self.level };
            let (ready, toll) = match &mut self.ready {
                Some(ready) => (Some(&ready.batch), Some(&mut ready.toll).filter(|toll| !toll.is_paid())),
                None => (None, None),
            };
            let unpaid = toll.is_some();
            let stalled = *map_stalled.borrow_and_update();
            let lease = ends.ledger.lease();
            let is_held = lease.valid();
            let may_send = ready.is_some() && !unpaid && !stalled && is_held;
            self.replicator.monitor.enter(match (stalled, is_held) {
                (true, _) => {
                    let detail = "the offset map cannot be made durable: nothing more is sent until it can".to_owned();
                    PartitionState::Halted(Halt { reason: HaltReason::MapStalled, detail })
                }
                (_, false) => {
                    let reason = "the link's lease cannot be renewed: nothing more is sent until it can".to_owned();
                    PartitionState::Waiting { reason }
                }
                _ => replicating,
            });
            // Acks before new work: else a fast source would grow the window while durable batches keep their memory.
            tokio::select! {
                biased;
                () = self.replicator.stop.cancelled() => return self.drain().await,
                landed = self.window.head() => match self.landed(landed) {
                    Ok(()) => pace.reset(),
                    Err(ended) => return ended,
                },
                () = self.replicator.monitor.doubted.notified() => return self.doubted(),
                () = changed(&mut map_stalled) => {}
                () = pay(toll), if unpaid => {}
                () = lease.regained(), if !is_held => {}
                () = lease.lapsed(), if may_send => {}
                sent = send(&mut *self.writer, ready, self.expected), if may_send => match sent {
                    Ok(sent) => self.sent(sent),
                    Err(error) => return error.into(),
                },
                read = self.intake.next(), if may_read => match read {
                    Ok(taken) => self.read(taken),
                    Err(error) => return self.source_failed(error),
                },
            }
        }
    }

    fn read(&mut self, taken: Taken) {
        let Taken { batch, parts } = taken;
        if parts > 1 {
            self.replicator.monitor.metrics.joined(parts.into());
        }
        match &batch.payload {
            Payload::Empty => {
                self.window.push(InFlight { range: batch.range, sent: None, joined: false, _permit: None })
            }
            Payload::Batches(encoded) => {
                let is_protected = self.protects(encoded);
                if !is_protected || unix_ms() >= self.guarded_until_ms {
                    self.protect(false);
                }
                let toll = self.share.toll(encoded.bytes.len() as u64);
                self.ready = Some(Ready { toll, is_protected, joined: parts > 1, batch });
            }
        }
    }

    /// State of a producer expires by *record* time (facts/live-measurements §3): data older than that is unprotected.
    fn protects(&self, batch: &EncodedBatch) -> bool {
        unix_ms() < self.remembered_until_ms(batch)
    }

    fn remembered_until_ms(&self, batch: &EncodedBatch) -> i64 {
        let expiration_ms = self.replicator.ends.producer_expiration.as_millis() as i64;
        batch.max_timestamp_ms.saturating_add(expiration_ms)
    }

    /// Whether the target remembers what was last written: else one batch is in flight.
    fn protect(&mut self, is_protected: bool) {
        if self.one_in_flight == is_protected {
            self.one_in_flight = !is_protected;
            self.writer.limit_in_flight(!is_protected);
        }
        self.level = match (self.level, is_protected) {
            (ProtectionLevel::DetectOnly, _) => ProtectionLevel::DetectOnly,
            (_, true) => ProtectionLevel::Guarded,
            (_, false) => ProtectionLevel::ProbeOnly,
        };
    }

    fn sent(&mut self, sent: Sent) {
        let Ready { batch, joined, .. } = self.ready.take().expect("only a ready batch is sent");
        self.expected = self.expected + i64::from(sent.batch.records);
        self.replicator.monitor.altered(self.writer.take_altered());
        self.window.push(InFlight { range: batch.range, sent: Some(sent), joined, _permit: batch.permit });
    }

    /// The oldest batch came to an outcome: the map grows, or this attachment ends.
    fn landed(&mut self, landed: Landed) -> Result<(), Ended> {
        let Landed { in_flight: InFlight { range, sent, joined, .. }, base } = landed;
        let monitor = &self.replicator.monitor;
        let (Some(sent), Some(base)) = (sent, base) else {
            self.map.lock().expect("no panic while held").skip(range);
            return Ok(());
        };
        let base = match base {
            // The topic takes less than it did when it was opened: attach learns how much.
            Err(error) if joined && error.kind == ErrorKind::TooLarge => {
                return Err(Ended::Failed(Error::new(ErrorKind::Attach, error.message)));
            }
            base => base?,
        };
        if base != sent.expected {
            if base < sent.expected {
                // Whether the target was cut and grew again, or held it before: from there on it is matched anew.
                self.map.lock().expect("no panic while held").truncate_target(base);
            }
            // Below: it was there before. Above: somebody wrote in between. Attach finds out which, record by record.
            let message = format!(
                "{} acknowledged offset {base} where {} was expected",
                self.replicator.route().target,
                sent.expected
            );
            return Err(Ended::Failed(Error::new(ErrorKind::Attach, message)));
        }
        let batch = sent.batch;
        self.guarded_until_ms = self.remembered_until_ms(&batch);
        // Only now does the target remember something of us that will stay: before, what follows could be accepted in the
        // place of what was lost.
        if self.protects(&batch) && self.ready.as_ref().is_none_or(|next| next.is_protected) {
            self.protect(true);
        }
        let target_end = base + i64::from(batch.records);
        self.map.lock().expect("no panic while held").extend(range, &batch.runs, base, batch.leader_epoch);
        let last_run = batch.runs.last().expect("a batch has at least one record");
        let last_source = last_run.start + i64::from(last_run.length) + -1;
        let level = self.window.is_empty() && self.ready.is_none();
        let mut anchor = monitor.anchor.lock().expect("no panic while held");
        anchor.acked(&batch.bytes, last_source, target_end + -1, level);
        drop(anchor);
        monitor.copied(u64::from(batch.records), batch.bytes.len() as u64, sent.sent_at.elapsed());
        Ok(())
    }

    /// Stopped: waits for what is in flight, so that a clean stop leaves nothing to match.
    async fn drain(&mut self) -> Ended {
        let landing = async {
            while !self.window.is_empty() {
                let landed = self.window.head().await;
                if self.landed(landed).is_err() {
                    break;
                }
            }
        };
        if tokio::time::timeout(DRAIN, landing).await.is_err() {
            tracing::warn!(route = %self.replicator.route(), "stopped with batches in flight; the next start matches them");
        }
        Ended::Stopped
    }

    /// An idle partition learns nothing from acks: somebody else looked.
    fn doubted(&self) -> Ended {
        let message = format!("{} does not end where it was left", self.replicator.route().target);
        Ended::Failed(Error::new(ErrorKind::Attach, message))
    }

    fn source_failed(&self, error: Error) -> Ended {
        let source = &self.replicator.route().source;
        let halt = |reason, detail| Ended::Halted(Halt { reason, detail });
        match error.kind {
            ErrorKind::Recreated => halt(HaltReason::SourceRecreated, error.message),
            ErrorKind::Truncated(end) => {
                halt(HaltReason::SourceTruncated, format!("{source} now ends at {end}, below what was copied: {error}"))
            }
            // Attach decides with the map and the policy at hand.
            ErrorKind::BelowLogStart(_) => Ended::Failed(Error::new(ErrorKind::Attach, error.message)),
            _ => error.into(),
        }
    }
}

/// Resolves when the map stalls or no longer does. Cancel-safe.
async fn changed(map_stalled: &mut watch::Receiver<bool>) {
    if map_stalled.changed().await.is_err() {
        // Who could tell is gone: the session ends.
        std::future::pending::<()>().await;
    }
}

pub(super) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Waits until the rate limit lets a batch pass; pending for ever without one. Cancel-safe.
async fn pay(toll: Option<&mut Toll>) {
    match toll {
        Some(toll) => toll.pay().await,
        None => std::future::pending().await,
    }
}

/// Hands a ready batch to the writer; pending for ever without one. Cancel-safe, as the writer's `send` is.
async fn send(writer: &mut dyn Writer, ready: Option<&Batch>, expected: Offset) -> Result<Sent, Error> {
    let Some(Payload::Batches(batch)) = ready.map(|b| &b.payload) else { return std::future::pending().await };
    let delivery = writer.send(batch.clone(), expected).await?;
    Ok(Sent { batch: batch.clone(), expected, delivery, sent_at: Instant::now() })
}
