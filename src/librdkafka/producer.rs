//! One transactional producer on a thread of its own.
//!
//! It serves its own events, only while somebody waits for them: rdkafka's `ThreadedProducer` would turn in circles for
//! the last millisecond of each of its 100 ms polls (measured: 1 % of a core per producer, for ever).

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::mpsc as reports;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer, ProducerContext};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::endpoint::{Error, ErrorKind, LedgerEntry, MAX_LEDGER_VALUE_BYTES, Result};
use crate::librdkafka::access::{ClusterAccess, Credentials};
use crate::librdkafka::errors::{Complaints, explain, kind_of, log};
use crate::librdkafka::login::{Login, answer};
use crate::model::TopicName;

/// The broker aborts what a dead holder left open after this long, if nobody claims before.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Key, headers and framing on top of the largest value, bytes.
const FRAMING_BYTES: usize = 64 * 1024;
/// A record not delivered by then is given up, with its transaction.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(8);
/// One attempt at a call that librdkafka can resume.
const ATTEMPT: Duration = Duration::from_secs(2);
/// One attempt to abort: it waits for the reports of what is in flight, which are served between attempts.
const ABORT_ATTEMPT: Duration = Duration::from_millis(50);
/// Between two looks for delivery reports; a transaction takes some milliseconds, and every look costs a wake-up.
const LOOK: Duration = Duration::from_micros(500);
/// Served per look; one event reports many deliveries.
const EVENTS_AT_ONCE: i32 = 64;
/// Between two looks whether a token is wanted.
const TOKEN_LOOK: Duration = Duration::from_secs(1);
/// Between two looks whether credentials were replaced.
const OUTDATED_LOOK: Duration = Duration::from_millis(250);
/// How long a claim goes on trying before it says why it does not succeed. A fresh cluster needs some 10 s to create its
/// coordinator's topic.
const CLAIM_PATIENCE: Duration = Duration::from_secs(10);

/// Entries for one transaction.
pub(super) struct Append {
    pub entries: Vec<LedgerEntry>,
    pub done: oneshot::Sender<Result<()>>,
}

/// Claims `transactional_id` and then serves appends until the sender is dropped. Blocks.
pub(super) fn serve(
    cluster: &ClusterAccess,
    login: Option<Login>,
    topic: TopicName,
    transactional_id: &str,
    claimed: oneshot::Sender<Result<()>>,
    mut appends: mpsc::Receiver<Append>,
) {
    let mut transactions = match Transactions::claim(cluster, login, topic, transactional_id, || claimed.is_closed()) {
        Ok(transactions) => transactions,
        Err(error) => {
            // Whoever gave up waiting does not want to know.
            let _ = claimed.send(Err(error));
            return;
        }
    };
    if claimed.send(Ok(())).is_err() {
        return;
    }
    while let Some(Append { entries, done }) = transactions.next(&mut appends) {
        let _ = done.send(transactions.append(&entries, || appends.is_closed()));
    }
}

type Report = (usize, KafkaResult<()>);

struct Transactions {
    cluster: ClusterAccess,
    /// What the producer was made with.
    credentials: Option<Credentials>,
    /// When it was last looked whether they have been replaced.
    looked: Cell<Instant>,
    topic: TopicName,
    producer: BaseProducer<Context>,
    delivered: reports::Receiver<Report>,
    /// Number of the transaction, so that reports of an aborted one are not taken for the next.
    number: usize,
    /// The last transaction failed and could not be aborted yet.
    abort_first: bool,
    /// What the last transaction that succeeded wrote.
    last: Vec<LedgerEntry>,
    /// An abort may have taken the last transaction along.
    repeat_last: bool,
}

struct Context {
    cluster: String,
    delivered: reports::Sender<Report>,
    complaints: Complaints,
    login: Option<Login>,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        answer(self.login.as_ref())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(&self.cluster, level, facility, line);
        // A right that is missing for a topic ends the transaction; its name is told in this line only.
        if facility == "ADDPARTS" && line.contains("authorization failed") {
            self.complaints.refused(line);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(cluster = %self.cluster, %error, "librdkafka: {reason}");
        self.complaints.note(&self.cluster, &error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, transaction: usize) {
        let outcome = report.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        // The receiver lives beside the producer: it is gone only when both are being dropped.
        let _ = self.delivered.send((transaction, outcome));
    }
}

impl Transactions {
    fn claim(
        cluster: &ClusterAccess,
        login: Option<Login>,
        topic: TopicName,
        transactional_id: &str,
        abandoned: impl Fn() -> bool,
    ) -> Result<Self> {
        let credentials = cluster.credentials();
        let mut config = cluster.client_config()?;
        set_for_writing(&mut config, transactional_id);
        let (send, delivered) = reports::channel();
        let (alias, complaints) = (cluster.alias.clone(), Complaints::default());
        let context = Context { cluster: alias, delivered: send, complaints, login };
        let producer: BaseProducer<Context> = config.create_with_context(context).map_err(|e| {
            let (kind, what) = explain(&e);
            Error::new(kind, format!("cluster {}: cannot create a producer: {what}", cluster.alias))
        })?;
        let this = Self {
            cluster: cluster.clone(),
            credentials,
            looked: Cell::new(Instant::now()),
            topic,
            producer,
            delivered,
            number: 0,
            abort_first: false,
            last: Vec::new(),
            repeat_last: false,
        };
        let begun = Instant::now();
        // The first token is asked for by an event.
        this.serve_events();
        // Asked before a broker is connected, librdkafka looks for the coordinator again only after 500 ms. Whatever
        // fails here fails in the claim, with a better reason.
        let _ = this.producer.client().fetch_metadata(Some(this.topic.as_str()), ATTEMPT);
        loop {
            match this.producer.init_transactions(ATTEMPT) {
                Ok(()) => {
                    this.producer.context().complaints.clear();
                    return Ok(this);
                }
                Err(KafkaError::Transaction(e)) if e.is_retriable() && begun.elapsed() < CLAIM_PATIENCE => {
                    // Somebody who gave up must not fence the holder of that day.
                    if abandoned() {
                        return Err(Error::new(ErrorKind::Retryable, "the claim was abandoned"));
                    }
                    this.serve_events();
                }
                Err(error) => return Err(this.failed("claim the transactional id", &error)),
            }
        }
    }

    /// Waits for work. A new token is asked for by an event, however long nobody appends.
    fn next(&self, appends: &mut mpsc::Receiver<Append>) -> Option<Append> {
        let Some(login) = &self.producer.context().login else { return appends.blocking_recv() };
        loop {
            match login.runtime.block_on(async { timeout(TOKEN_LOOK, appends.recv()).await }) {
                Ok(next) => return next,
                Err(_) => self.serve_events(),
            }
        }
    }

    /// One transaction. Returns once its outcome is certain, however long a broker keeps it open, unless nobody is left who
    /// could care.
    ///
    /// After an abort the transaction before it is written again. Kafka 4.3.1 acknowledges a commit before its marker is
    /// written, and a coordinator that dies between the two and comes back can complete the transaction without the marker
    /// (seen when one broker was coordinator and leader: `CompleteCommit` in its log, no marker in ours). The next marker
    /// then decides for both transactions, and if it aborts, takes back what was acknowledged.
    fn append(&mut self, entries: &[LedgerEntry], abandoned: impl Fn() -> bool) -> Result<()> {
        if self.abort_first {
            self.abort()?;
        }
        let entries = if self.repeat_last { latest_of(&self.last, entries) } else { entries.to_vec() };
        let entries = &entries[..];
        self.number += 1;
        self.producer.begin_transaction().map_err(|e| self.failed("begin a transaction", &e))?;
        // Whatever fails from here on leaves a transaction to abort.
        self.abort_first = true;
        let result = self.send_all(entries).and_then(|()| self.commit(abandoned));
        match result {
            Ok(()) => {
                self.producer.context().complaints.clear();
                self.abort_first = false;
                self.repeat_last = false;
                self.last = entries.to_vec();
                Ok(())
            }
            Err(error) => {
                if !matches!(error.kind, ErrorKind::Fenced | ErrorKind::Attach) {
                    // When it cannot be aborted now, the next append begins with it.
                    if let Err(abort) = self.abort()
                        && matches!(abort.kind, ErrorKind::Fenced | ErrorKind::Attach)
                    {
                        // Without the right to write, the transaction has not even begun for the brokers, and aborting it
                        // kills the producer: why, the first error knows.
                        let denied = error.kind == ErrorKind::Denied;
                        return Err(if denied { Error::new(abort.kind, error.message) } else { abort });
                    }
                }
                Err(error)
            }
        }
    }

    fn send_all(&mut self, entries: &[LedgerEntry]) -> Result<()> {
        let mut sent = 0;
        for entry in entries {
            let mut record: BaseRecord<'_, [u8], [u8], usize> =
                BaseRecord::with_opaque_to(self.topic.as_str(), self.number).partition(0).key(&entry.key[..]);
            record.payload = entry.value.as_deref();
            loop {
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) if sent > 0 => {
                        self.delivery()?;
                        sent -= 1;
                        record = again;
                    }
                    Err((error, _)) => return Err(self.failed("send", &error)),
                }
            }
            sent += 1;
        }
        (0..sent).try_for_each(|_| self.delivery())?;
        // An event counts as in flight until it was served; committing before that costs 100 ms.
        while self.producer.in_flight_count() > 0 {
            self.serve_events();
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Calls back for events that are there now.
    fn serve_events(&self) {
        // A poll that must not wait serves one event. What is counted includes all of them, and messages on their way.
        let most = self.producer.in_flight_count().min(EVENTS_AT_ONCE);
        (0..most).for_each(|_| self.producer.poll(Duration::ZERO));
    }

    /// Waits for the next delivery report of this transaction.
    fn delivery(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.delivered.try_recv() {
                Ok((number, outcome)) if number == self.number => {
                    return outcome.map_err(|e| self.failed("write", &e));
                }
                Ok(_) => continue,
                // Beyond the delivery time-out librdkafka reports a failure by itself; the margin is for a busy machine.
                Err(_) if begun.elapsed() > DELIVERY_TIMEOUT * 2 => {
                    return Err(self.error(ErrorKind::Attach, "write", "librdkafka gave no delivery report"));
                }
                Err(_) => self.unless_outdated("write")?,
            }
            std::thread::sleep(LOOK);
            self.serve_events();
        }
    }

    fn commit(&self, abandoned: impl Fn() -> bool) -> Result<()> {
        loop {
            match self.producer.commit_transaction(ATTEMPT) {
                Ok(()) => return Ok(()),
                // The outcome is open: only asking again tells it, or the next claim.
                Err(KafkaError::Transaction(e)) if e.is_retriable() && !abandoned() => {
                    self.serve_events();
                    self.unless_outdated("commit")?;
                }
                Err(error) => return Err(self.failed("commit", &error)),
            }
        }
    }

    fn abort(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.producer.abort_transaction(ABORT_ATTEMPT) {
                Ok(()) => {
                    self.abort_first = false;
                    self.repeat_last = true;
                    return Ok(());
                }
                Err(KafkaError::Transaction(e)) if e.is_retriable() && begun.elapsed() < DELIVERY_TIMEOUT => {
                    self.serve_events();
                }
                Err(error) => return Err(self.failed("abort", &error)),
            }
        }
    }

    /// A client keeps the credentials it was made with (its safe interface cannot take others): shut out while there are
    /// new ones, it is of no use any more. It is not simply made anew here: a claim that does not wait for the lease could
    /// fence a rightful holder.
    fn unless_outdated(&self, attempted: &str) -> Result<()> {
        if self.looked.get().elapsed() < OUTDATED_LOOK {
            return Ok(());
        }
        self.looked.set(Instant::now());
        match self.producer.context().complaints.standing() {
            Some((ErrorKind::Denied, why)) if self.is_outdated() => Err(self.outdated(attempted, &why)),
            _ => Ok(()),
        }
    }

    fn is_outdated(&self) -> bool {
        let now = self.cluster.credentials();
        now.is_some() && now != self.credentials
    }

    fn outdated(&self, attempted: &str, why: &str) -> Error {
        let what = format!("{why}; the credentials have been replaced since: going on with the new ones");
        self.error(ErrorKind::Attach, attempted, &what)
    }

    /// What follows from a failure: fenced, doomed ([`ErrorKind::Attach`]: this producer can do nothing any more), or what
    /// the broker said.
    fn failed(&self, attempted: &str, error: &KafkaError) -> Error {
        // Why may still lie among the events, behind any number of log lines.
        let mut left = i32::MAX;
        while (1..left).contains(&self.producer.in_flight_count()) {
            left = self.producer.in_flight_count();
            self.serve_events();
        }
        let (kind, what) = explain(error);
        if let Some((code, why)) = self.producer.client().fatal_error() {
            let kind = if kind_of(code) == ErrorKind::Fenced { ErrorKind::Fenced } else { ErrorKind::Attach };
            return self.error(kind, attempted, &why);
        }
        match (kind, self.producer.context().complaints.standing()) {
            (_, Some((ErrorKind::Denied, why))) if self.is_outdated() => self.outdated(attempted, &why),
            (ErrorKind::Retryable, Some((complaint, why))) => {
                let kind = if complaint == ErrorKind::Denied { ErrorKind::Denied } else { kind };
                self.error(kind, attempted, &format!("{what} ({why})"))
            }
            // Without a fatal error the broker's word was about one request of an older epoch.
            (ErrorKind::Fenced, _) if !matches!(error, KafkaError::Transaction(_)) => {
                self.error(ErrorKind::Retryable, attempted, &what)
            }
            _ => self.error(kind, attempted, &what),
        }
    }

    fn error(&self, kind: ErrorKind, attempted: &str, what: &str) -> Error {
        let (cluster, topic) = (&self.cluster.alias, &self.topic);
        let advice = match kind {
            // Brokers fence also whose transaction they have ended, and say no more than that (KIP-360).
            ErrorKind::Fenced => format!(
                ": another Twinlog has claimed this link's ledger, or brokers have ended a transaction that stood open \
                 for {TRANSACTION_TIMEOUT:?}"
            ),
            ErrorKind::Denied => {
                format!(
                    ": check clusters.{cluster}.security, and the rights to write this topic and its transactional id"
                )
            }
            _ => String::new(),
        };
        Error::new(kind, format!("cluster {cluster}, topic {topic}: cannot {attempted}: {what}{advice}"))
    }
}

/// Both, in order, without the values that a later one replaces.
fn latest_of(earlier: &[LedgerEntry], later: &[LedgerEntry]) -> Vec<LedgerEntry> {
    let replaced: HashSet<&[u8]> = later.iter().map(|entry| &entry.key[..]).collect();
    let kept = earlier.iter().filter(|entry| !replaced.contains(&entry.key[..]));
    kept.chain(later).cloned().collect()
}

fn set_for_writing(config: &mut ClientConfig, transactional_id: &str) {
    config
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
        .set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string())
        .set("message.max.bytes", (MAX_LEDGER_VALUE_BYTES + FRAMING_BYTES).to_string())
        .set("linger.ms", "0")
        .set("retry.backoff.ms", "20")
        .set("retry.backoff.max.ms", "500")
        .set("compression.type", "lz4");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_brings_back_no_value_that_was_replaced() {
        let entry = |key: &'static str, value: &'static str| LedgerEntry { key: key.into(), value: Some(value.into()) };
        let earlier = [entry("a", "1"), entry("b", "1")];
        assert_eq!(
            latest_of(&earlier, &[entry("b", "2"), entry("c", "2")]),
            [entry("a", "1"), entry("b", "2"), entry("c", "2")]
        );
    }
}
