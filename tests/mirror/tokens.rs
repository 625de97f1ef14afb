//! A whole Twinlog that logs in with OAUTHBEARER, with tokens and sessions that live for seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::*;
use crate::support::access::unsigned_token;
use crate::support::cluster::Security;
use crate::support::load::{Load, LoadSpec};
use crate::support::scratch::{Scratch, replace};
use crate::support::{Cluster, ClusterSpec, until};

/// How long a token lives; brokers end the session with it, or after [`SESSION`].
const TOKEN: Duration = Duration::from_secs(8);
/// How long a session lives at most.
const SESSION: Duration = Duration::from_secs(5);

fn wants_tokens() -> Cluster {
    let spec = ClusterSpec { security: Security::Tokens, ..ClusterSpec::default() };
    Cluster::start(spec.with("connections.max.reauth.ms", SESSION.as_millis()))
}

fn section(alias: &str, cluster: &Cluster, token: &str) -> String {
    format!(
        "[clusters.{alias}]\nbootstrap = \"{}\"\nsecurity = {{ protocol = \"sasl_ssl\", ca = {:?}, mechanism = \
         \"oauthbearer\", token = {token} }}\n",
        cluster.bootstrap(),
        cluster.certificates().expect("it is secured").ca,
    )
}

#[test]
fn it_mirrors_with_tokens_that_expire_again_and_again_and_loses_nothing() {
    let (source, target) = thread::scope(|both| {
        let target = both.spawn(wants_tokens);
        (wants_tokens(), target.join().expect("the target boots"))
    });
    let directory = Scratch::new("tokens");
    let file = directory.path().join("token");
    let fresh = {
        let file = file.clone();
        move || replace(&file, &unsigned_token("twinlog", TOKEN))
    };
    fresh();
    // Whoever keeps the file fresh: one side reads it, the other has it printed.
    let over = Arc::new(AtomicBool::new(false));
    let refreshing = thread::spawn({
        let over = over.clone();
        move || {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(TOKEN / 16);
                fresh();
            }
        }
    });
    let (topic, group) = (unique("tokens"), unique("group"));
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let clusters = section("source", &source, &format!("{{ command = [\"cat\", {file:?}] }}"))
        + &section("target", &target, &format!("{{ file = {file:?} }}"));
    let mirror = twinlog(Setup { clusters, ..link(&source, &target, &[&topic], &[&group]) });
    mirror.start_ready();
    let begun = Instant::now();
    let load =
        Load::start(addresses(&source), LoadSpec { pause: Duration::from_millis(50), ..LoadSpec::new(&topic, 3) });
    until(SOON, "five tokens have expired", || {
        mirror.assert_running();
        begun.elapsed() > TOKEN * 5
    });
    let written = load.stop();
    twins(&source, &target, &topic).settle(SOON);
    source.client().commit_offsets(&group, &[(&topic, 0, 5)], "").unwrap();
    let carried = || target.client().committed(&group).unwrap().get(&(topic.clone(), 0)).map(|c| c.0) == Some(5);
    until(SOON, "the position is carried over", carried);
    println!("{} records in {:?}", written.records(), begun.elapsed());
    let log = mirror.log_text();
    println!("{} sessions of the link ended", log.matches("link interrupted").count());
    let interruptions: Vec<&str> = log.lines().filter(|line| line.contains("replication interrupted")).collect();
    assert!(interruptions.is_empty(), "connections take over from each other unseen: {interruptions:#?}");
    assert!(!log.contains("eyJ"), "a token is in the log");
    over.store(true, Ordering::Relaxed);
    refreshing.join().expect("it writes files");
    assert!(mirror.stop(SOON).success());
}
