//! What each verb asks the daemon, and how it prints the answer.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::{Ask, Status, Translate, partition};
use super::daemon::Daemon;
use super::failed::{Exit, Failed};
use super::groups::{self as positions, Translated};
use super::status as overview;
use crate::http::{Done, LimitRequest, ResolveRequest, ResyncRequest};
use crate::link::Order;
use crate::link::report::{GroupReport, LinkReport, TranslateReport};
use crate::model::{GroupId, LinkName, Offset, TopicPartition};

/// As often as lag is measured.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Puts the cursor home and clears what is below it.
const CLEAR: &str = "\x1b[H\x1b[J";

fn print_json(out: &mut impl Write, value: &impl Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).expect("reports are plain data");
    Ok(writeln!(out, "{text}")?)
}

/// Asks what is asked, and prints the answer.
pub(super) async fn ask(daemon: &Daemon, asked: Ask, out: &mut impl Write) -> Result<(), Failed> {
    match asked {
        Ask::Status(asked) => status(daemon, &asked, out).await,
        Ask::Translate(asked) => translate(daemon, &asked, out).await,
    }
}

async fn reports(daemon: &Daemon, link: Option<&LinkName>) -> Result<Vec<LinkReport>, Failed> {
    match link {
        Some(link) => Ok(vec![daemon.get(&format!("/v1/links/{link}")).await?]),
        None => daemon.get("/v1/links").await,
    }
}

async fn status(daemon: &Daemon, status: &Status, out: &mut impl Write) -> Result<(), Failed> {
    let links = reports(daemon, status.link.as_ref()).await?;
    if status.watch {
        return watch(daemon, status, links, out).await;
    }
    if status.json { print_json(out, &links) } else { Ok(out.write_all(overview::render(&links, None).as_bytes())?) }
}

/// Prints until whoever reads it is gone. A daemon that is being restarted is waited for.
async fn watch(
    daemon: &Daemon,
    status: &Status,
    mut links: Vec<LinkReport>,
    out: &mut impl Write,
) -> Result<(), Failed> {
    let mut before: Option<(Vec<LinkReport>, Instant)> = None;
    let mut tick = tokio::time::interval(WATCH_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        let now = Instant::now();
        let text = if status.json {
            serde_json::to_string(&links).expect("reports are plain data") + "\n"
        } else {
            let before = before.as_ref().map(|(links, at)| (links.as_slice(), now - *at));
            let clear = if io::stdout().is_terminal() { CLEAR } else { "" };
            format!("{clear}{}\n", overview::render(&links, before))
        };
        out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
        before = Some((links, now));
        links = loop {
            tick.tick().await;
            match reports(daemon, status.link.as_ref()).await {
                Ok(links) => break links,
                Err(failed) if failed.exit == Exit::Unreachable => eprintln!("twinlog: {}", failed.message),
                Err(failed) => return Err(failed),
            }
        };
    }
}

async fn answer_to(
    daemon: &Daemon,
    link: &LinkName,
    at: &TopicPartition,
    offset: Offset,
    reverse: bool,
) -> Result<TranslateReport, Failed> {
    let (topic, partition) = (&at.topic, at.partition);
    let query = format!("topic={topic}&partition={partition}&offset={offset}&reverse={reverse}");
    daemon.get(&format!("/v1/links/{link}/translate?{query}")).await
}

async fn group(daemon: &Daemon, link: &LinkName, group: &GroupId) -> Result<GroupReport, Failed> {
    let groups: Vec<GroupReport> = daemon.get(&format!("/v1/links/{link}/groups")).await?;
    groups.into_iter().find(|report| report.group == *group).ok_or_else(|| {
        Failed::new(Exit::Failed, format!("link {link} knows no group {group:?}; `twinlog groups {link}` lists them"))
    })
}

async fn translate(daemon: &Daemon, asked: &Translate, out: &mut impl Write) -> Result<(), Failed> {
    let Some(offset) = asked.offset else { return translate_group(daemon, asked, out).await };
    let at = partition(&asked.what).map_err(|message| Failed::new(Exit::Usage, message))?;
    let answer = answer_to(daemon, &asked.link, &at, offset, asked.reverse).await?;
    if asked.json {
        print_json(out, &answer)?;
    }
    match &answer {
        TranslateReport::Exact { .. } if asked.json => Ok(()),
        TranslateReport::Exact { partition, offset } => Ok(writeln!(out, "{partition} {offset}")?),
        other => Err(Failed::new(Exit::Inexact, format!("{at} offset {offset}: {}", positions::why_not(other)))),
    }
}

async fn translate_group(daemon: &Daemon, asked: &Translate, out: &mut impl Write) -> Result<(), Failed> {
    let group = group(daemon, &asked.link, &GroupId::from(&asked.what)).await?;
    let mut translated = Vec::with_capacity(group.partitions.len());
    for position in group.partitions {
        let Some(source_offset) = position.source_offset else { continue };
        // Asked afresh: what was committed on the target may be a pass old.
        let translation = answer_to(daemon, &asked.link, &position.source, source_offset, false).await?;
        translated.push(Translated { source: position.source, source_offset, translation });
    }
    if asked.json {
        print_json(out, &translated)?;
    } else {
        out.write_all(positions::translated(&translated).as_bytes())?;
    }
    match translated.iter().filter(|position| !position.is_exact()).count() {
        0 => Ok(()),
        inexact => {
            let message = format!("{inexact} of {} positions have no exact offset on the target", translated.len());
            Err(Failed::new(Exit::Inexact, message))
        }
    }
}

/// Prints all groups of a link, or the positions of one.
pub(super) async fn groups(
    daemon: &Daemon,
    link: &LinkName,
    one: Option<&GroupId>,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Failed> {
    if let Some(name) = one {
        let group = group(daemon, link, name).await?;
        return if json { print_json(out, &group) } else { Ok(out.write_all(positions::one(&group).as_bytes())?) };
    }
    let groups: Vec<GroupReport> = daemon.get(&format!("/v1/links/{link}/groups")).await?;
    if json { print_json(out, &groups) } else { Ok(out.write_all(positions::all(&groups).as_bytes())?) }
}

/// Makes a link obey; answers with what is true then.
pub(super) async fn order(daemon: &Daemon, link: &LinkName, order: &Order) -> Result<String, Failed> {
    let path = |verb: &str| format!("/v1/links/{link}/{verb}");
    let done: Done = match order {
        Order::Pause => daemon.post(&path("pause"), &()).await?,
        Order::Resume => daemon.post(&path("resume"), &()).await?,
        Order::Limit(rate) => daemon.post(&path("limit"), &LimitRequest { bytes_per_second: *rate }).await?,
        Order::Resync { group, dry_run } => {
            let request = ResyncRequest { group: group.clone(), dry_run: *dry_run };
            daemon.post(&path("groups/resync"), &request).await?
        }
        Order::Resolve { target, decision } => {
            let request = ResolveRequest { target: target.clone(), decision: *decision };
            daemon.post(&path("resolve"), &request).await?
        }
    };
    Ok(done.done)
}

pub(super) fn print_done(done: String, json: bool, out: &mut impl Write) -> Result<(), Failed> {
    if json { print_json(out, &Done { done }) } else { Ok(writeln!(out, "{done}")?) }
}
