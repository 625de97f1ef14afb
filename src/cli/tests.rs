//! The command line before a daemon whose link answers from a script: what is parsed, printed and answered as exit code.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::args::Cli;
use super::execute;
use super::failed::{Exit, Failed};
use super::status::render;
use crate::config::{Config, Environment};
use crate::http::fake::{FakeDaemon, FakeLink, report};
use crate::link::Order;
use crate::model::{LinkName, Resolution, TopicPartition};

/// A configuration whose daemon listens at `address`; the directory keeps it.
fn configuration(address: impl ToString, http: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("twinlog.toml");
    let text = format!(
        "[http]\nlisten = \"{}\"\n{http}\n[clusters.paris]\nbootstrap = \"p:1\"\n[clusters.lyon]\nbootstrap = \"l:1\"\n\
         [links.dr]\nsource = \"paris\"\ntarget = \"lyon\"\ntopics = [\".*\"]\n",
        address.to_string()
    );
    fs::write(&file, text).unwrap();
    (directory, file)
}

async fn absent(_: Config, link: LinkName, order: Order) -> Result<String, String> {
    Ok(format!("{link}, absent: {order:?}"))
}

/// Runs `verb` with `--config file`: what it printed, and how it ended.
async fn run_with(file: &Path, environment: &Environment, verb: &str) -> (String, Result<(), Failed>) {
    let words = ["twinlog", "--config", file.to_str().unwrap()].into_iter().chain(verb.split_whitespace());
    let mut out = Vec::new();
    let daemon = |_: Config| async { Err("the daemon was started".to_owned()) };
    let ended = execute(Cli::try_parse_from(words).unwrap(), environment, &mut out, daemon, absent).await;
    (String::from_utf8(out).unwrap(), ended)
}

/// Runs `verb` against a daemon with `link`.
async fn run(link: &std::sync::Arc<FakeLink>, verb: &str) -> (String, Result<(), Failed>) {
    let daemon = FakeDaemon::with(link.clone()).await;
    let (_directory, file) = configuration(daemon.address, "");
    run_with(&file, &Environment::default(), verb).await
}

/// What `verb` printed; it must have succeeded.
async fn printed(verb: &str) -> String {
    let (out, ended) = run(&FakeLink::new(), verb).await;
    ended.unwrap_or_else(|failed| panic!("{verb}: {}", failed.message));
    out
}

/// How `verb` failed, and what it had printed by then.
async fn failed(verb: &str) -> (String, Exit, String) {
    let (out, ended) = run(&FakeLink::new(), verb).await;
    let failed = ended.unwrap_err();
    (out, failed.exit, failed.message)
}

fn usage_error(line: &str) -> String {
    let error = Cli::try_parse_from(line.split_whitespace()).unwrap_err();
    assert_eq!(error.exit_code(), Exit::Usage as i32, "{line}");
    error.to_string()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn wrong_usage_is_named() {
    for (line, part) in [
        ("twinlog", "Usage: twinlog"),
        ("twinlog fly", "unrecognized subcommand 'fly'"),
        ("twinlog limit dr", "<RATE>"),
        ("twinlog limit dr fast", "invalid value 'fast'"),
        ("twinlog limit dr 0", "0 would stop the link: pause it instead"),
        ("twinlog pause d/r", "a link is named by letters, digits, '-' and '_'"),
        ("twinlog resolve dr orders/1", "--adopt|--resend|--skip-loss"),
        ("twinlog resolve dr orders/1 --adopt --resend", "cannot be used with"),
        ("twinlog resolve dr orders --adopt", "is not TOPIC/PARTITION, such as orders/3"),
        ("twinlog resolve dr a?b/1 --adopt", "is not TOPIC/PARTITION, such as orders/3"),
        ("twinlog translate dr orders/1 -5", "unexpected argument"),
        ("twinlog translate dr orders/1 x", "expected a number from 0"),
        ("twinlog translate dr billing --reverse", "OFFSET"),
    ] {
        let error = usage_error(line);
        assert!(error.contains(part), "{line}: {error}");
    }
}

#[test]
fn help_states_the_exit_codes() {
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("4 answered, but not with an exact offset"), "{help}");
    assert_eq!(Cli::try_parse_from(["twinlog", "--help"]).unwrap_err().exit_code(), 0);
}

#[test]
fn status_shows_lag_problems_and_ways_out() {
    assert_eq!(
        render(&[report()], None),
        "\
dr: running  paris (a1) → lyon (b2)
  4 partitions: 2 replicating, 1 waiting, 1 HALTED
  lag: 12,345 records, 1m 12s (45 held back by open transactions); unknown for 1 of the partitions
  limit: none; memory: 1.0 MiB of 16.0 MiB
  groups: 11 synced, 1 taken over, 1 waiting for the mirror; following __consumer_offsets
  if applications switched over now: 3 records re-read, 2 skipped, 40 at risk without a position
  partial cut without payments/0 (halted)
  problem: topic audit cannot be created: the target refuses 3 replicas; set replication_factor
  note: message.timestamp.type is LogAppendTime at the source but CreateTime on the target: audit

  PARTITION                STATE                 POSITION  TARGET END  LAG     LAG TIME  UNFLUSHED
  orders/0                 guarded               1,000     1,005       0       0.0s      0
  orders/1                 probe only            1,000     1,005       12,345  1m 12s    7
      unanchored: no copied record was left on both sides to compare (compacted or expired)
  old-orders/2 → orders/2  waiting               -         -           -       -         0
      the high watermark is 3 short
  payments/0               HALTED FOREIGN_WRITE  1,000     1,005       0       0.0s      0
      payments/0 holds a record at 1005 that this link never wrote
      way out: twinlog resolve dr payments/0 --adopt: takes 1005..1006 as ours
"
    );
}

#[test]
fn watching_shows_throughput_across_a_restart_of_the_daemon() {
    let before = [report()];
    let mut now = report();
    now.rate_limit_bytes = Some(50 << 20);
    now.partitions[0].records += 20_000;
    now.partitions[0].bytes += 4 << 20;
    // Counts less than before: its process was restarted and has copied this much since.
    (now.partitions[1].records, now.partitions[1].bytes) = (600, 0);
    let shown = render(&[now.clone()], Some((&before, Duration::from_secs(2))));
    assert!(shown.contains("\n  copying: 10,300 records/s, 2.0 MiB/s\n"), "{shown}");
    assert!(shown.contains("\n  limit: 50.0 MiB/s (payments × 10); "), "{shown}");
    now.partitions.clear();
    let shown = render(&[now], None);
    assert!(shown.contains("\n  no partitions\n  lag: 0 records\n") && !shown.contains("PARTITION"), "{shown}");
    assert_eq!(render(&[], None), "no link has been started yet\n");
}

#[tokio::test]
async fn status_asks_the_daemon_of_the_configuration() {
    assert_eq!(printed("status").await, render(&[report()], None));
    assert_eq!(printed("status dr").await, render(&[report()], None));
    let json: serde_json::Value = serde_json::from_str(&printed("status --json").await).unwrap();
    assert_eq!(json, serde_json::to_value([report()]).unwrap());
    let (out, exit, message) = failed("status backup").await;
    assert_eq!((out.as_str(), exit, message.as_str()), ("", Exit::Failed, "no link is called backup; there is: dr"));
}

/// Takes so many texts, then is gone like `head`.
struct Reader {
    patience: usize,
    seen: Vec<u8>,
}

impl Write for Reader {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.patience = self.patience.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
        self.seen.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn watching_goes_on_until_the_reader_is_gone() {
    let daemon = FakeDaemon::with(FakeLink::new()).await;
    let (_directory, file) = configuration(daemon.address, "");
    let cli = Cli::try_parse_from(["twinlog", "--config", file.to_str().unwrap(), "status", "--watch", "--json"]);
    let mut reader = Reader { patience: 2, seen: Vec::new() };
    let never = async |_: Config| Ok(());
    let ended = execute(cli.unwrap(), &Environment::default(), &mut reader, never, absent).await.unwrap_err();
    assert_eq!((ended.exit, ended.message.as_str()), (Exit::Failed, ""), "it leaves without a word");
    let lines: Vec<serde_json::Value> =
        String::from_utf8(reader.seen).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, vec![serde_json::to_value([report()]).unwrap(); 2]);
}

#[tokio::test]
async fn one_offset_is_translated_both_ways() {
    assert_eq!(printed("translate dr orders/3 200").await, "orders/3 205\n");
    assert_eq!(printed("translate dr orders/3 205 --reverse").await, "orders/3 200\n");
    let json: serde_json::Value = serde_json::from_str(&printed("translate dr orders/3 200 --json").await).unwrap();
    assert_eq!(json["offset"], 205);
}

#[tokio::test]
async fn an_offset_without_an_exact_answer_is_no_number() {
    for (verb, message) in [
        ("translate dr orders/3 5", "orders/3 offset 5: before the mirror, which begins at 100"),
        ("translate dr orders/3 5000", "orders/3 offset 5000: not copied yet: the mirror ends at 1000"),
        ("translate dr audit/0 5", "audit/0 offset 5: no route has this partition"),
    ] {
        assert_eq!(failed(verb).await, (String::new(), Exit::Inexact, message.to_owned()));
    }
    let (out, exit, _) = failed("translate dr orders/3 5 --json").await;
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &json["first"]), (Exit::Inexact, &serde_json::json!(100)));
    let (_, exit, message) = failed("translate dr orders 5").await;
    assert_eq!((exit, message.as_str()), (Exit::Usage, "\"orders\" is not TOPIC/PARTITION, such as orders/3"));
}

#[tokio::test]
async fn a_group_is_translated_partition_by_partition() {
    let (out, exit, message) = failed("translate dr billing").await;
    assert_eq!(
        out,
        "\
SOURCE    OFFSET  TARGET    OFFSET
orders/0  500     orders/0  505
orders/1  1001    -         not copied yet: the mirror ends at 1000
"
    );
    assert_eq!((exit, message.as_str()), (Exit::Inexact, "1 of 2 positions have no exact offset on the target"));
    let (_, exit, message) = failed("translate dr nobody").await;
    let told = "link dr knows no group nobody; `twinlog groups dr` lists them";
    assert_eq!((exit, message.as_str()), (Exit::Failed, told));
}

#[tokio::test]
async fn groups_are_listed_with_their_verdicts() {
    assert_eq!(
        printed("groups dr").await,
        "\
GROUP        VERDICT                 PARTITIONS  RE-READ  SKIP  AT RISK
billing      waiting for the mirror  2           3        0     0
    partial cut without payments/0
odd group/1  taken over              1           -        -     -
    it has members on the target
RE-READ, SKIP, AT RISK: records, if applications switched over now
"
    );
    assert_eq!(
        printed("groups dr --group billing").await,
        "\
billing: waiting for the mirror
  partial cut without payments/0
PARTITION  SOURCE OFFSET  TARGET OFFSET  VERDICT                 RE-READ  SKIP
orders/0   500            505            synced                  0        0
orders/1   1,001          -              waiting for the mirror  3        0
"
    );
    let json: serde_json::Value = serde_json::from_str(&printed("groups dr --json").await).unwrap();
    assert_eq!(json[1]["group"], "odd group/1");
}

#[tokio::test]
async fn verbs_reach_the_link_and_say_what_is_true_then() {
    let link = FakeLink::new();
    let resolve = |decision| Order::Resolve { target: TopicPartition::new("payments", 0), decision };
    let orders = [
        ("pause dr", Order::Pause),
        ("resume dr", Order::Resume),
        ("limit dr 50MiB", Order::Limit(Some(50 << 20))),
        ("limit dr 1KiB/s", Order::Limit(Some(1024))),
        ("limit dr none", Order::Limit(None)),
        ("resolve dr payments/0 --adopt", resolve(Resolution::Adopt)),
        ("resolve dr payments/0 --resend", resolve(Resolution::Resend)),
        ("resolve dr payments/0 --skip-loss", resolve(Resolution::SkipLoss)),
        ("groups resync dr billing", Order::Resync { group: "billing".into(), dry_run: false }),
        ("groups resync dr billing --dry-run", Order::Resync { group: "billing".into(), dry_run: true }),
    ];
    for (verb, order) in &orders {
        let (out, ended) = run(&link, verb).await;
        assert!(ended.is_ok(), "{verb}: {ended:?}");
        assert_eq!(out, format!("{order:?} is obeyed\n"), "{verb}");
    }
    assert_eq!(link.told(), orders.map(|(_, order)| order));
    assert_eq!(run(&link, "resume dr --json").await.0, "{\n  \"done\": \"Resume is obeyed\"\n}\n");
    let (out, ended) = run(&FakeLink::refusing("payments/0 is not halted"), "resolve dr payments/0 --adopt").await;
    let failed = ended.unwrap_err();
    assert_eq!((out.as_str(), failed.exit, failed.message.as_str()), ("", Exit::Failed, "payments/0 is not halted"));
}

#[tokio::test]
async fn the_token_is_sent_where_one_is_configured() {
    let link = FakeLink::new();
    let daemon = FakeDaemon::serve("127.0.0.1:0", Some("s3cret")).await;
    daemon.links.insert("dr".into(), link.clone());
    let (_directory, file) = configuration(daemon.address, "token = { env = \"TOKEN\" }");
    let with = |token| [("TOKEN", token)].into_iter().collect::<Environment>();
    assert!(run_with(&file, &with("s3cret"), "pause dr").await.1.is_ok());
    let refused = run_with(&file, &with("wrong"), "pause dr").await.1.unwrap_err();
    assert_eq!(
        (refused.exit, refused.message.as_str()),
        (Exit::Failed, "the bearer token is not the one of http.token")
    );
    assert_eq!(link.told(), [Order::Pause]);
}

#[tokio::test]
async fn a_daemon_that_listens_everywhere_is_asked_here() {
    let daemon = FakeDaemon::serve("0.0.0.0:0", None).await;
    let (_directory, file) = configuration(daemon.address, "");
    let (out, ended) = run_with(&file, &Environment::default(), "status").await;
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(out, "no link has been started yet\n");
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_named_with_its_configuration() {
    // Taken, so that nobody else gets the port, but not listened on.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    let (_directory, file) = configuration(address, "");
    let failed = run_with(&file, &Environment::default(), "status").await.1.unwrap_err();
    assert_eq!(failed.exit, Exit::Unreachable);
    let shown = file.display();
    assert_eq!(
        failed.message,
        format!(
            "no daemon answers at {address} (http.listen of {shown}): Connection refused (os error 111); start one with \
             `twinlog run --config {shown}`"
        )
    );
    // An order needs none.
    let (out, ended) = run_with(&file, &Environment::default(), "pause dr").await;
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(out, "dr, absent: Pause\n");
}

#[tokio::test]
async fn something_else_at_the_address_is_not_taken_for_a_daemon() {
    let (address, server) = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(async || "hello");
        (address, std::future::IntoFuture::into_future(axum::serve(listener, router)))
    };
    let (_directory, file) = configuration(address, "");
    let environment = Environment::default();
    let failed = tokio::select! {
        (_, ended) = run_with(&file, &environment, "status") => ended.unwrap_err(),
        _ = server => panic!("the server ended"),
    };
    assert_eq!(failed.exit, Exit::Failed);
    assert!(failed.message.contains("is not a Twinlog of this version: status 200 OK, "), "{}", failed.message);
}

#[tokio::test]
async fn run_is_given_the_checked_configuration() {
    let (_directory, file) = configuration("127.0.0.1:1", "");
    let (_, ended) = run_with(&file, &Environment::default(), "run").await;
    let failed = ended.unwrap_err();
    assert_eq!((failed.exit, failed.message.as_str()), (Exit::Failed, "the daemon was started"));
    let (_directory, file) = configuration("127.0.0.1:1", "port = 1");
    let failed = run_with(&file, &Environment::default(), "run").await.1.unwrap_err();
    assert_eq!(failed.exit, Exit::Usage);
    assert!(failed.message.contains("http.port: unknown key"), "{}", failed.message);
}

#[tokio::test]
async fn the_configuration_can_be_named_by_the_environment() {
    let (_directory, file) = configuration("127.0.0.1:1", "");
    let cli = || Cli::try_parse_from(["twinlog", "run"]).unwrap();
    let started = async |_: Config| Ok(());
    let named: Environment = [("TWINLOG_CONFIG", file.to_str().unwrap())].into_iter().collect();
    assert!(execute(cli(), &named, &mut Vec::new(), started, absent).await.is_ok());
    let failed = execute(cli(), &Environment::default(), &mut Vec::new(), started, absent).await.unwrap_err();
    assert_eq!(
        (failed.exit, failed.message.as_str()),
        (Exit::Usage, "which configuration? Say --config FILE, or set TWINLOG_CONFIG")
    );
}
