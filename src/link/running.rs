//! A link that runs: sessions one after another, and the handle through which it is seen and steered.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::endpoint::{Error, ErrorKind, Result};
use crate::ledger::{Acquiring, Claimant};
use crate::link::order::{self, Order};
use crate::link::report::{GroupReport, LinkReport, TranslateReport};
use crate::link::session::Session;
use crate::link::{LinkControl, LinkSettings, SourceSide, TargetSide, accounts, answers, caretaker, groups, upkeep};
use crate::model::{Offset, TopicPartition};
use crate::runtime::memory::MemoryBudget;
use crate::runtime::retry::Pace;
use crate::runtime::tasks::TaskScope;

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// What only people can mend ends a link that never ran: its configuration is being tried out. One that has run waits for
/// them, as long as it takes.
const RETRY_MENDED: Duration = Duration::from_secs(30);
/// A link that went so long without interruption owes nothing to the ones before.
const SOUND_AFTER: Duration = Duration::from_secs(60);

/// One direction, source cluster to target cluster.
pub struct Link {
    settings: Arc<LinkSettings>,
    source: Arc<SourceSide>,
    target: Arc<TargetSide>,
    budget: MemoryBudget,
    claimant: Claimant,
    state: Mutex<String>,
    session: Mutex<Option<Arc<Session>>>,
}

impl Link {
    /// A link that does not run yet. `budget` is the process's, shared by all links.
    pub fn new(settings: LinkSettings, source: SourceSide, target: TargetSide, budget: MemoryBudget) -> Self {
        Self {
            claimant: Claimant::new(settings.name.clone()),
            settings: Arc::new(settings),
            source: Arc::new(source),
            target: Arc::new(target),
            budget,
            state: Mutex::new("starting".into()),
            session: Mutex::default(),
        }
    }

    /// Runs until `stop`: then everything in flight is drained, the map flushed and the lease released. A lost lease ends
    /// a session; the next one waits for the lease. Passing failures are retried for ever.
    ///
    /// # Errors
    /// Before it has run for the first time, what only people can mend: missing rights, source = target, another cluster
    /// than the ledger knows, a ledger written by a newer version.
    pub async fn run(&self, stop: CancellationToken) -> Result<()> {
        let mut pace = Pace::new(RETRY_FIRST, RETRY_LONGEST);
        let mut has_run = false;
        loop {
            let began = Instant::now();
            let error = match self.tenure(&stop, &mut has_run).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if began.elapsed() >= SOUND_AFTER {
                pace.reset();
            }
            let is_fatal = matches!(error.kind, ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::Corrupt);
            if is_fatal {
                tracing::error!(link = %self.settings.name, %error, "link failed");
                self.enter(format!("failed: {error}"));
                if !has_run {
                    return Err(error);
                }
            }
            let wait = if is_fatal { RETRY_MENDED } else { pace.next_delay() };
            tracing::warn!(link = %self.settings.name, %error, retry_in = ?wait, "link interrupted");
            self.enter(format!("interrupted: {error}"));
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// One session from start to end. `Ok` when it was stopped.
    async fn tenure(&self, stop: &CancellationToken, has_run: &mut bool) -> Result<()> {
        let Some(source) = stop.run_until_cancelled(self.source.catalog.cluster()).await else { return Ok(()) };
        if let Err(error) = source.map(drop)
            && error.is_retryable()
        {
            return self.stand_in(stop, error).await;
        }
        let scope = TaskScope::new();
        let (progress, acquiring) = watch::channel(Acquiring::Reading);
        let (settings, source, target) = (self.settings.clone(), self.source.clone(), self.target.clone());
        let started = {
            let starting = Session::start(settings, source, target, &self.claimant, &scope, &progress);
            tokio::select! {
                started = starting => Some(started),
                () = self.show(acquiring) => unreachable!("progress lives as long as the start"),
                () = stop.cancelled() => None,
            }
        };
        let session = match started {
            Some(Ok(session)) => session,
            unfinished => {
                // The lease may be ours already: renewed on, it would keep ourselves out for ever.
                scope.stop().await;
                return unfinished.map_or(Ok(()), |failed| failed.map(drop));
            }
        };
        let session = Arc::new(session);
        *self.session.lock().expect("no panic while held") = Some(session.clone());
        self.enter("running".into());
        *has_run = true;
        let upkeep = TaskScope::new();
        upkeep::start(&session, &upkeep);
        let lost = tokio::select! {
            () = stop.cancelled() => None,
            why = session.ledger.lease().lost() => Some(why),
            () = upkeep.broken() => Some(broken()),
            () = scope.broken() => Some(broken()),
        };
        self.enter("stopping".into());
        upkeep.stop().await;
        session.supervisor.stop().await;
        if lost.is_none() {
            self.hand_back(&session).await;
        }
        *self.session.lock().expect("no panic while held") = None;
        scope.stop().await;
        match lost {
            None => {
                self.enter("stopped".into());
                Ok(())
            }
            Some(why) => Err(Error::new(ErrorKind::Retryable, why.message)),
        }
    }

    /// Without its source a link only keeps what stands on the target. `Ok` when it was stopped.
    async fn stand_in(&self, stop: &CancellationToken, away: Error) -> Result<()> {
        self.enter(format!("waiting for the source: {away}; group positions on the target are kept meanwhile"));
        match caretaker::keep(&self.settings, &self.source, &self.target, stop).await {
            Ok(()) if stop.is_cancelled() => {
                self.enter("stopped".into());
                Ok(())
            }
            Ok(()) => Err(Error::new(ErrorKind::Retryable, "the source answers: starting")),
            // A link that never ran has nothing to keep, and another holder keeps it.
            Err(_) => Err(away),
        }
    }

    /// A clean end: the map is durable, and a successor need not wait for the lease.
    async fn hand_back(&self, session: &Session) {
        if let Err(error) = upkeep::flush(session).await {
            tracing::warn!(link = %self.settings.name, %error, "last map flush failed; the next start matches the tail");
        }
        if let Err(error) = session.ledger.clone().release().await {
            tracing::warn!(link = %self.settings.name, %error, "lease not released; a successor waits it out");
        }
    }

    async fn show(&self, mut acquiring: watch::Receiver<Acquiring>) {
        loop {
            let state = match &*acquiring.borrow_and_update() {
                Acquiring::Reading => "starting: reading the ledger".to_owned(),
                Acquiring::Waiting { holder, .. } => format!("waiting for the lease: held by {holder}"),
                Acquiring::Claiming => "starting: claiming the ledger".to_owned(),
                Acquiring::Retrying { error } => format!("starting: retrying: {error}"),
                Acquiring::Held => "starting".to_owned(),
            };
            self.enter(state);
            if acquiring.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn enter(&self, state: String) {
        let mut now = self.state.lock().expect("no panic while held");
        if *now != state {
            tracing::info!(link = %self.settings.name, "{state}");
            *now = state;
        }
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.session.lock().expect("no panic while held").clone()
    }

    fn running(&self) -> Result<Arc<Session>, String> {
        let state = self.state.lock().expect("no panic while held").clone();
        self.session().ok_or_else(|| format!("link {} holds no lease now ({state}): try again", self.settings.name))
    }
}

/// A session without one of its tasks would look alive and not be.
fn broken() -> Error {
    Error::new(ErrorKind::Retryable, "a task of the link ended by a bug, reported above in the log: starting anew")
}

#[async_trait]
impl LinkControl for Link {
    fn report(&self) -> LinkReport {
        let session = self.session();
        let mut state = self.state.lock().expect("no panic while held").clone();
        if state == "running" && session.as_ref().is_some_and(|s| s.ledger.view().desired().paused) {
            state = "paused".into();
        }
        let side = |alias: &str, id: Option<String>| id.map_or(alias.to_owned(), |id| format!("{alias} ({id})"));
        let ids = session.as_ref().map(|s| (s.clusters.0.id.to_string(), s.clusters.1.id.to_string())).unzip();
        LinkReport {
            link: self.settings.name.clone(),
            source: side(&self.source.alias, ids.0),
            target: side(&self.target.alias, ids.1),
            state,
            rate_limit_bytes: session.as_ref().and_then(|s| s.rate.get()),
            priorities: self.settings.priorities.weights(),
            memory_used_bytes: self.budget.used_bytes(),
            memory_budget_bytes: self.budget.total_bytes(),
            notices: session
                .as_ref()
                .map(|s| s.notices.lock().expect("no panic while held").clone())
                .unwrap_or_default(),
            problems: session.as_ref().map(|s| s.problems()).unwrap_or_default(),
            groups: session.as_ref().map(|s| accounts::summary(s)).unwrap_or_default(),
            partitions: session.map(|s| answers::partitions(&s)).unwrap_or_default(),
        }
    }

    fn groups(&self) -> Result<Vec<GroupReport>, String> {
        Ok(accounts::groups(&*self.running()?))
    }

    fn translate(&self, at: &TopicPartition, offset: Offset, reverse: bool) -> Result<TranslateReport, String> {
        answers::translate(&*self.running()?, at, offset, reverse)
    }

    async fn obey(&self, order: &Order) -> Result<String, String> {
        let session = self.running()?;
        let _turn = session.ordering.lock().await;
        let mirrored = groups::routes(&session);
        let (target, known) = (&*session.target.groups, Some((&session.groups, &mirrored)));
        let sentence = order::record(order, &self.settings.name, &session.ledger, target, known).await?;
        match order {
            // The next pass over the groups sees to it.
            Order::Resync { .. } => {}
            Order::Pause | Order::Resume => session.apply_whole().await,
            Order::Limit(_) => {
                let rate = session.ledger.view().desired().rate;
                session.rate.set(rate.in_force(self.settings.rate_limit_bytes));
            }
            Order::Resolve { target, .. } => {
                if let Some(monitor) = session.supervisor.monitor(target) {
                    monitor.decide();
                }
            }
        }
        Ok(sentence)
    }
}
