//! The live view: lag and throughput, redrawn in place on a terminal, a plain line every two seconds elsewhere.

use std::io::{IsTerminal, Write, stdout};
use std::thread;
use std::time::{Duration, Instant};

use twinlog::link::report::LinkReport;

use crate::stage::{PATIENCE, Stage};
use crate::support::load::Load;
use crate::worker::Worker;

const FRAME: Duration = Duration::from_millis(250);
const LINE: Duration = Duration::from_secs(2);

/// What there is to see.
pub struct Scene<'a> {
    pub stage: &'a Stage,
    pub producers: &'a [Load],
    pub group: &'a str,
    pub worker: &'a Worker,
}

/// Counters at a moment.
struct Sample {
    at: Instant,
    written: u64,
    read: usize,
    link: Option<LinkReport>,
}

impl Scene<'_> {
    /// Shows it for `least`, and on until `enough`.
    pub fn show(&self, least: Duration, what: &str, mut enough: impl FnMut() -> bool) {
        let (began, terminal) = (Instant::now(), stdout().is_terminal());
        let (mut before, mut drawn) = (self.sample(), 0);
        let mut due = began + if terminal { FRAME } else { LINE };
        loop {
            self.stage.twinlog.assert_running();
            if began.elapsed() >= least && enough() {
                return;
            }
            assert!(began.elapsed() < least + PATIENCE, "not within {PATIENCE:?}: {what}");
            thread::sleep(FRAME.min(due.saturating_duration_since(Instant::now())));
            if Instant::now() < due {
                continue;
            }
            let now = self.sample();
            let text = self.render(&now, &before, began.elapsed(), terminal);
            if drawn > 0 {
                // Up to where the last picture began, and clear from there on.
                print!("\x1b[{drawn}A\x1b[J");
            }
            println!("{text}");
            // A closed terminal ends the demo by its signal.
            let _ = stdout().flush();
            due += if terminal { FRAME } else { LINE };
            drawn = if terminal { text.lines().count() } else { 0 };
            // Rates over a second and more do not flicker.
            if now.at.duration_since(before.at) >= Duration::from_secs(1) {
                before = now;
            }
        }
    }

    fn sample(&self) -> Sample {
        let written = self.producers.iter().map(Load::acknowledged).sum();
        Sample { at: Instant::now(), written, read: self.worker.count(), link: self.stage.report() }
    }

    fn render(&self, now: &Sample, before: &Sample, age: Duration, terminal: bool) -> String {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let written = rate(now.written, before.written);
        let read = rate(now.read as u64, before.read as u64);
        let (records, bytes) = now.link.as_ref().map_or((0, 0), copied);
        let (records_before, bytes_before) = before.link.as_ref().map_or((records, bytes), copied);
        let copied = rate(records, records_before);
        let mib = rate(bytes, bytes_before) / f64::from(1 << 20);
        let lag = now.link.as_ref().map_or_else(|| "not known yet".into(), lag);
        let (total, had, group) = (now.written, now.read, self.group);
        if terminal {
            let position = self.stage.group(group).map_or_else(|| "not seen yet".into(), |g| g.verdict);
            format!(
                "  producers   {total:>8} orders   {written:>6.0}/s\n  \
                   Twinlog     {records:>8} copied   {copied:>6.0}/s  {mib:.1} MiB/s\n  \
                   lag         {lag}\n  \
                   group       {had:>8} read     {read:>6.0}/s  {group}, on the twin: {position}",
            )
        } else {
            format!(
                "  {:>3.0} s  written {total} ({written:.0}/s) · copied {records} ({copied:.0}/s, {mib:.1} MiB/s) · \
                 lag {lag} · {group} read {had} ({read:.0}/s)",
                age.as_secs_f64()
            )
        }
    }
}

/// Records and bytes that the running daemon has copied.
fn copied(link: &LinkReport) -> (u64, u64) {
    link.partitions.iter().fold((0, 0), |(records, bytes), p| (records + p.records, bytes + p.bytes))
}

fn lag(link: &LinkReport) -> String {
    let records: i64 = link.partitions.iter().filter_map(|p| p.lag_records).sum();
    let worst = link.partitions.iter().filter_map(|p| p.lag_seconds).fold(0.0, f64::max);
    match link.partitions.iter().filter(|p| p.lag_records.is_none()).count() {
        0 => format!("{records} records, {worst:.1} s"),
        unknown => format!("not known yet of {unknown} partitions"),
    }
}
