//! The command line as types.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::link::Order;
use crate::link::report::Resolution;
use crate::model::{GroupId, LinkName, Offset, TopicPartition};

/// Keeps a second Kafka cluster as an exact twin of the first, consumer group positions included.
#[derive(Debug, Parser)]
#[command(name = "twinlog", version, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub(super) struct Cli {
    /// The configuration, *.toml or *.yaml; else the file TWINLOG_CONFIG names.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

const AFTER_HELP: &str = "\
Verbs other than `run` ask the daemon that listens where the same configuration says (http.listen).
Data goes to stdout, everything else to stderr.

Exit codes: 0 done · 1 failed, or refused · 2 wrong usage or configuration · 3 no daemon answers a question ·
4 answered, but not with an exact offset (translate)";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the links of the configuration until SIGTERM or Ctrl-C; a second one leaves at once, and still loses nothing
    Run,
    /// Show the consumer groups of a link, how their positions stand, and what a switch-over now would cost them
    Groups(Groups),
    #[command(flatten)]
    Ask(Ask),
    #[command(flatten)]
    Order(OrderVerb),
}

/// Verbs that ask the running daemon.
#[derive(Debug, Subcommand)]
pub(super) enum Ask {
    /// Show what links and partitions are doing, how far behind they are, and what waits for you
    Status(Status),
    /// Translate a group's positions, or one offset, to the other cluster
    Translate(Translate),
}

/// Verbs that make a link do something: now where a daemon runs it, else from its next start on.
#[derive(Debug, Subcommand)]
pub(super) enum OrderVerb {
    /// Stop moving records, across restarts, until `resume`
    Pause(OneLink),
    /// Move records again
    Resume(OneLink),
    /// Set or lift the rate limit of a link, across restarts
    Limit(Limit),
    /// Decide about a halted partition; `status` prints what each decision would mean
    Resolve(Resolve),
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Only this link
    #[arg(value_parser = link)]
    pub(super) link: Option<LinkName>,
    /// Again every second, with throughput
    #[arg(long)]
    pub(super) watch: bool,
    /// Print JSON (with --watch, one line each time)
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Translate {
    #[arg(value_parser = link)]
    pub(super) link: LinkName,
    /// A group; with OFFSET, a partition of the side asked about
    #[arg(value_name = "GROUP | TOPIC/PARTITION")]
    pub(super) what: String,
    /// An offset of that partition
    #[arg(value_parser = offset)]
    pub(super) offset: Option<Offset>,
    /// From the target back to the source
    #[arg(long, requires = "offset")]
    pub(super) reverse: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Groups {
    #[command(subcommand)]
    pub(super) verb: Option<GroupVerb>,
    #[arg(value_parser = link, required = true)]
    pub(super) link: Option<LinkName>,
    /// Each partition of this group, instead of all groups
    #[arg(long)]
    pub(super) group: Option<GroupId>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum GroupVerb {
    /// Take a group back that an application on the target had taken over: it follows the source again
    Resync(Resync),
}

#[derive(Debug, Args)]
pub(super) struct Resync {
    #[arg(value_parser = link)]
    pub(super) link: LinkName,
    pub(super) group: GroupId,
    /// Only say what that would change
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct OneLink {
    #[arg(value_parser = link)]
    pub(super) link: LinkName,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Limit {
    #[arg(value_parser = link)]
    pub(super) link: LinkName,
    /// Bytes per second, such as 50MiB, or "none"
    #[arg(value_parser = rate)]
    pub(super) rate: Rate,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("decision").required(true))]
pub(super) struct Resolve {
    #[arg(value_parser = link)]
    pub(super) link: LinkName,
    /// The halted partition, as at the target
    #[arg(value_name = "TOPIC/PARTITION", value_parser = partition)]
    pub(super) target: TopicPartition,
    /// Take what the target holds as ours, after matching it fully
    #[arg(long, group = "decision")]
    pub(super) adopt: bool,
    /// Copy again from where both sides agree, or from the source's log start
    #[arg(long, group = "decision")]
    pub(super) resend: bool,
    /// Go on behind the lost range and keep it on record
    #[arg(long, group = "decision")]
    pub(super) skip_loss: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl OrderVerb {
    /// To which link, what, and whether the answer is to be JSON.
    pub(super) fn order(self) -> (LinkName, Order, bool) {
        match self {
            OrderVerb::Pause(asked) => (asked.link, Order::Pause, asked.json),
            OrderVerb::Resume(asked) => (asked.link, Order::Resume, asked.json),
            OrderVerb::Limit(asked) => (asked.link, Order::Limit(asked.rate.0), asked.json),
            OrderVerb::Resolve(asked) => {
                let decision = asked.decision();
                (asked.link, Order::Resolve { target: asked.target, decision }, asked.json)
            }
        }
    }
}

impl Resync {
    /// To which link, what, and whether the answer is to be JSON.
    pub(super) fn order(self) -> (LinkName, Order, bool) {
        (self.link, Order::Resync { group: self.group, dry_run: self.dry_run }, self.json)
    }
}

impl Resolve {
    fn decision(&self) -> Resolution {
        match (self.adopt, self.resend) {
            (true, _) => Resolution::Adopt,
            (_, true) => Resolution::Resend,
            _ => Resolution::SkipLoss,
        }
    }
}

/// Bytes per second; `None` lifts the limit. (Not an `Option`, which clap would read as an optional argument.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate(pub(super) Option<u64>);

fn rate(text: &str) -> Result<Rate, String> {
    if text == "none" {
        return Ok(Rate(None));
    }
    let size: ByteSize = text.strip_suffix("/s").unwrap_or(text).parse()?;
    if size.as_u64() == 0 {
        Err("0 would stop the link: pause it instead".to_owned())
    } else {
        Ok(Rate(Some(size.as_u64())))
    }
}

/// What stands in a path or query of a request is held to the characters it can consist of, and needs no escaping then.
fn plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn link(text: &str) -> Result<LinkName, String> {
    if plain(text) { Ok(text.into()) } else { Err("a link is named by letters, digits, '-' and '_'".to_owned()) }
}

fn offset(text: &str) -> Result<Offset, String> {
    text.parse().ok().filter(|offset| *offset >= 0).map(Offset).ok_or_else(|| "expected a number from 0".to_owned())
}

pub(super) fn partition(text: &str) -> Result<TopicPartition, String> {
    let parts = text.rsplit_once('/').and_then(|(topic, number)| Some((topic, number.parse::<i32>().ok()?)));
    match parts {
        Some((topic, number)) if plain(topic) && number >= 0 => Ok(TopicPartition::new(topic, number)),
        _ => Err(format!("{text:?} is not TOPIC/PARTITION, such as orders/3")),
    }
}
