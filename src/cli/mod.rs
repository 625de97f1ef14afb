//! The command line: one process for `run`, questions and orders to it for every other verb. Where no daemon answers,
//! orders are recorded for its next start.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed or refused, 2 wrong usage or
//! configuration, 3 no daemon answers a question, 4 answered but not with an exact offset.

mod args;
mod daemon;
mod failed;
mod groups;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod verbs;

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::{Config, Environment};
use crate::link::Order;
use crate::model::LinkName;
use args::{Cli, GroupVerb, Groups, Verb};
use daemon::Daemon;
use failed::{Exit, Failed};

/// Parses `args` (the program's name first), does what they say and answers with the exit code.
///
/// `run` is the daemon: it is given the checked configuration, and its error is a sentence. Logging is its business; the
/// other verbs do not log. `absent` obeys orders to links that no daemon runs.
pub async fn run<D, F, A, G>(
    args: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    run: D,
    absent: A,
) -> ExitCode
where
    D: FnOnce(Config) -> F,
    F: Future<Output = Result<(), String>>,
    A: FnOnce(Config, LinkName, Order) -> G,
    G: Future<Output = Result<String, String>>,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout, usage errors to stderr; that either is closed already changes nothing.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    match execute(cli, environment, &mut io::stdout(), run, absent).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            if !failed.message.is_empty() {
                eprintln!("twinlog: {}", failed.message.replace('\n', "\ntwinlog: "));
            }
            ExitCode::from(failed.exit as u8)
        }
    }
}

async fn execute<D, F, A, G>(
    cli: Cli,
    environment: &Environment,
    out: &mut impl Write,
    run: D,
    absent: A,
) -> Result<(), Failed>
where
    D: FnOnce(Config) -> F,
    F: Future<Output = Result<(), String>>,
    A: FnOnce(Config, LinkName, Order) -> G,
    G: Future<Output = Result<String, String>>,
{
    let file = cli
        .config
        .or_else(|| environment.get("TWINLOG_CONFIG").map(PathBuf::from))
        .ok_or_else(|| Failed::new(Exit::Usage, "which configuration? Say --config FILE, or set TWINLOG_CONFIG"))?;
    match cli.verb {
        Verb::Run => {
            let config = Config::load(&file, environment)?;
            run(config).await.map_err(|message| Failed::new(Exit::Failed, message))
        }
        Verb::Ask(asked) => verbs::ask(&Daemon::of(&file, environment)?, asked, out).await,
        Verb::Groups(Groups { verb: None, link: Some(link), group, json }) => {
            verbs::groups(&Daemon::of(&file, environment)?, &link, group.as_ref(), json, out).await
        }
        Verb::Groups(Groups { verb: None, link: None, .. }) => unreachable!("the parser asks for a link"),
        Verb::Groups(Groups { verb: Some(GroupVerb::Resync(resync)), .. }) => {
            obey(resync.order(), file, environment, out, absent).await
        }
        Verb::Order(verb) => obey(verb.order(), file, environment, out, absent).await,
    }
}

/// Gives an order to the daemon, or, where none answers, to the ledger.
async fn obey<A, G>(
    (link, order, json): (LinkName, Order, bool),
    file: PathBuf,
    environment: &Environment,
    out: &mut impl Write,
    absent: A,
) -> Result<(), Failed>
where
    A: FnOnce(Config, LinkName, Order) -> G,
    G: Future<Output = Result<String, String>>,
{
    let done = match verbs::order(&Daemon::of(&file, environment)?, &link, &order).await {
        Err(failed) if failed.exit == Exit::Unreachable => {
            let config = Config::load(&file, environment)?;
            absent(config, link, order).await.map_err(|message| {
                Failed::new(Exit::Failed, format!("no daemon answers, and without one: {message}"))
            })?
        }
        answered => answered?,
    };
    verbs::print_done(done, json, out)
}
