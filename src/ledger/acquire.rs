//! Coming to hold the ledger: read, wait, claim, read again, take the lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use uuid::Uuid;

use crate::endpoint::{Error, ErrorKind, LedgerAppender, LedgerStore, LedgerTopic, Result};
use crate::ledger::claimant::Claimant;
use crate::ledger::control::ControlRecord;
use crate::ledger::lease::{LEASE, Lease, Sighting, Turn, wall_clock_ms};
use crate::ledger::owner::Clusters;
use crate::ledger::reading::{Heard, Reading};
use crate::ledger::record::{ClaimRecord, LeaseRecord, LinkRecord};
use crate::ledger::view::View;
use crate::runtime::retry::Pace;

/// How often a waiting one looks whether the holder's process still lives.
const LOOK: Duration = Duration::from_millis(500);
/// How long our own mark may take to come back; by far longer than any healthy cluster needs.
const READ_BACK: Duration = Duration::from_secs(30);

/// How far an acquisition has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquiring {
    /// Reading the ledger to its end.
    Reading,
    /// Waiting for another holder's lease to run out.
    Waiting {
        /// Who holds it, for people.
        holder: String,
        /// When it is over, unless it is renewed.
        until: Instant,
    },
    /// Fencing earlier holders.
    Claiming,
    /// A passing failure; tries again.
    Retrying {
        /// What failed.
        error: String,
    },
    /// The ledger is ours.
    Held,
}

/// The ledger, just taken.
pub(super) struct Acquired {
    pub view: View,
    pub appender: Arc<dyn LedgerAppender>,
    pub lease: Lease,
    pub record: LeaseRecord,
}

/// See [`crate::ledger::Ledger::acquire`].
pub(super) async fn acquire(
    store: &dyn LedgerStore,
    claimant: &Claimant,
    clusters: &Clusters,
    progress: &watch::Sender<Acquiring>,
) -> Result<Acquired> {
    let acquisition = Acquisition { store, claimant, clusters, progress };
    let link = &claimant.link;
    let mut pace = Pace::new(Duration::from_millis(100), Duration::from_secs(3));
    loop {
        match acquisition.attempt().await {
            Ok(acquired) => {
                progress.send_replace(Acquiring::Held);
                return Ok(acquired);
            }
            // Fenced: somebody claimed right after us, and is waited for like any holder.
            Err(error) if matches!(error.kind, ErrorKind::Retryable | ErrorKind::Fenced | ErrorKind::Attach) => {
                tracing::warn!(%link, %error, "the ledger cannot be acquired yet");
                progress.send_replace(Acquiring::Retrying { error: error.message });
                sleep(pace.next_delay()).await;
            }
            Err(error) => return Err(error.context(format_args!("ledger of link {link}"))),
        }
    }
}

struct Acquisition<'a> {
    store: &'a dyn LedgerStore,
    claimant: &'a Claimant,
    clusters: &'a Clusters,
    progress: &'a watch::Sender<Acquiring>,
}

impl Acquisition<'_> {
    async fn attempt(&self) -> Result<Acquired> {
        let holder = Uuid::new_v4();
        let mut reading = self.read().await?;
        let decided_on = self.wait_for_turn(&mut reading).await?;
        self.progress.send_replace(Acquiring::Claiming);
        let appender: Arc<dyn LedgerAppender> = Arc::from(self.store.claim().await?);
        self.mark(holder, &*appender).await?;
        let read_back = timeout(READ_BACK, hear_of(holder, &mut reading)).await;
        read_back.unwrap_or_else(|_| Err(self.silent()))?;
        self.check_clusters(reading.view())?;
        self.wait_for_unheard(&decided_on, reading.view()).await;
        let process = self.claimant.process.clone();
        let record = LeaseRecord { holder, process, renewal: 0, released: false, at_ms: wall_clock_ms() };
        self.claimant.holds_as(holder);
        let sent = Instant::now();
        let mut records = vec![ControlRecord::Lease(record.clone())];
        if reading.view().link().is_none() {
            let Clusters { source, target } = self.clusters.clone();
            records.push(ControlRecord::Link(LinkRecord { source_cluster_id: source, target_cluster_id: target }));
        }
        appender.append(LedgerTopic::Control, records.iter().map(ControlRecord::to_entry).collect()).await?;
        let view = reading.view().clone();
        view.apply(records);
        Ok(Acquired { view, appender, lease: Lease::held(sent + LEASE), record })
    }

    async fn read(&self) -> Result<Reading> {
        self.progress.send_replace(Acquiring::Reading);
        let mut reading = Reading::start(self.store).await?;
        reading.to_the_end().await?;
        self.check_clusters(reading.view())?;
        Ok(reading)
    }

    /// Waits until the rule of the lease lets us claim; answers what that was decided on.
    async fn wait_for_turn(&self, reading: &mut Reading) -> Result<Sighting> {
        let mut seen = sighting(reading.view(), Instant::now());
        while let Turn::At(until) = seen.turn(|holder, process| self.claimant.is_over(holder, process)) {
            self.show_waiting(&seen, until);
            match timeout_at(until.min(Instant::now() + LOOK), reading.next()).await {
                Ok(heard) => {
                    if let Heard::Control(_) = heard? {
                        seen = sighting(reading.view(), Instant::now());
                    }
                }
                Err(_) if Instant::now() < until => {}
                Err(_) => {
                    // Silence can also be our own: only a new reading proves that nothing was appended.
                    *reading = self.read().await?;
                    let now = sighting(reading.view(), Instant::now());
                    if (&now.lease, &now.claim) == (&seen.lease, &seen.claim) {
                        break;
                    }
                    seen = now;
                }
            }
        }
        Ok(seen)
    }

    /// Puts our mark into both topics: the first that can follow our claim.
    async fn mark(&self, holder: Uuid, appender: &dyn LedgerAppender) -> Result<()> {
        self.claimant.claims_as(holder);
        let mark = ControlRecord::Claim(ClaimRecord { holder, process: self.claimant.process.clone() }).to_entry();
        let append = |topic| appender.append(topic, vec![mark.clone()]);
        futures::future::try_join(append(LedgerTopic::Control), append(LedgerTopic::Map)).await?;
        Ok(())
    }

    /// A renewal that came between the decision and our claim is a lease like any other: its holder may still rely on it
    /// until its next append tells it that it is fenced.
    async fn wait_for_unheard(&self, decided_on: &Sighting, view: &View) {
        let mut now = sighting(view, Instant::now());
        if now.lease == decided_on.lease {
            return;
        }
        // The claim is ours.
        now.claim = None;
        while let Turn::At(until) = now.turn(|holder, process| self.claimant.is_over(holder, process)) {
            if Instant::now() >= until {
                return;
            }
            self.show_waiting(&now, until);
            sleep_until(until.min(Instant::now() + LOOK)).await;
        }
    }

    fn show_waiting(&self, seen: &Sighting, until: Instant) {
        let holder = seen.holder().map_or_else(|| "somebody".to_owned(), ToString::to_string);
        let state = Acquiring::Waiting { holder, until };
        self.progress.send_if_modified(|shown| {
            let changed = *shown != state;
            *shown = state;
            changed
        });
    }

    fn check_clusters(&self, view: &View) -> Result<()> {
        let Some(LinkRecord { source_cluster_id: source, target_cluster_id: target }) = view.link() else {
            return Ok(());
        };
        if (&source, &target) == (&self.clusters.source, &self.clusters.target) {
            return Ok(());
        }
        let Clusters { source: source_now, target: target_now } = self.clusters;
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "link {} was born between cluster ids {source} (source) and {target} (target), but the configured \
                 clusters are {source_now} and {target_now}: give this pair of clusters a link name of its own, or point \
                 the configuration back at the clusters of this link",
                self.claimant.link
            ),
        ))
    }

    fn silent(&self) -> Error {
        let message = format!(
            "link {}: our own mark in the ledger's topics did not come back within {READ_BACK:?}",
            self.claimant.link
        );
        Error::new(ErrorKind::Retryable, message)
    }
}

fn sighting(view: &View, last_append: Instant) -> Sighting {
    view.read_with(|c| Sighting { lease: c.lease.clone(), claim: c.claim.clone(), last_append })
}

/// Reads on until our own mark comes back in both topics: then everything before our claim is in the view, and nothing
/// of an earlier holder can follow.
async fn hear_of(holder: Uuid, reading: &mut Reading) -> Result<()> {
    let marked = |view: &View| {
        view.read_with(|c| c.map_claim == Some(holder) && c.claim.as_ref().is_some_and(|claim| claim.holder == holder))
    };
    while !marked(reading.view()) {
        reading.next().await?;
    }
    Ok(())
}
