//! Secrets that are replaced while Twinlog mirrors, on brokers that end every session after some seconds.

use std::path::Path;
use std::time::Instant;

use super::*;
use crate::support::access::User;
use crate::support::cluster::Security;
use crate::support::load::{Load, LoadSpec};
use crate::support::scratch::{Scratch, replace};
use crate::support::{Cluster, ClusterSpec, until};

/// How long a session lives: connections are made anew all the time.
const SESSION: Duration = Duration::from_secs(3);
/// Halted partitions and failed links look again every 30 s.
const MENDED: Duration = Duration::from_secs(120);

fn recycling() -> Cluster {
    let security = Security::SaslSsl(vec![User::new("admin", "first-pw")]);
    let spec = ClusterSpec { security, ..ClusterSpec::default() };
    Cluster::start(spec.with("connections.max.reauth.ms", SESSION.as_millis()))
}

fn section(alias: &str, cluster: &Cluster, password: &Path) -> String {
    format!(
        "[clusters.{alias}]\nbootstrap = \"{}\"\nsecurity = {{ protocol = \"sasl_ssl\", ca = {:?}, mechanism = \
         \"scram-sha-512\", username = \"admin\", password = {{ file = {password:?} }} }}\n",
        cluster.bootstrap(),
        cluster.certificates().expect("it is secured").ca,
    )
}

#[test]
fn passwords_replaced_while_it_runs_interrupt_nothing_for_good_and_lose_nothing() {
    let (source, target) = std::thread::scope(|both| {
        let target = both.spawn(recycling);
        (recycling(), target.join().expect("the target boots"))
    });
    let directory = Scratch::new("secrets");
    let files = ["source", "target"].map(|alias| directory.path().join(alias));
    files.iter().for_each(|file| replace(file, "first-pw\n"));
    let topic = unique("rotated");
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let clusters = section("source", &source, &files[0]) + &section("target", &target, &files[1]);
    let mirror = twinlog(Setup { clusters, ..link(&source, &target, &[&topic], &[]) });
    mirror.start_ready();
    let begun = Instant::now();
    let load =
        Load::start(addresses(&source), LoadSpec { pause: Duration::from_millis(50), ..LoadSpec::new(&topic, 3) });
    let copied = || (0..3).map(|p| target.client().bounds(&topic, p).map_or(0, |(_, end)| end)).sum::<i64>();
    // For some sessions, whatever was acknowledged by then arrives.
    let goes_on = |what: &str| {
        for _ in 0..3 {
            let (begun, then) = (Instant::now(), load.acknowledged());
            until(SOON, "a session has ended", || begun.elapsed() > SESSION && load.acknowledged() > then);
            until(MENDED, &format!("{what}: all that was written before is copied"), || {
                mirror.assert_running();
                copied() >= i64::try_from(then).expect("few records")
            });
        }
    };
    let change = |password: &str| {
        for cluster in [&source, &target] {
            cluster.client().set_password("admin", password).unwrap();
        }
    };
    goes_on("with the first password");

    change("second-pw");
    files.iter().for_each(|file| replace(file, "second-pw"));
    goes_on("with the second password");

    // A file that comes late: until then every refusal names the key.
    change("third-pw");
    for key in ["clusters.source.security.password", "clusters.target.security.password"] {
        until(SOON, &format!("the log names {key}"), || mirror.log_text().contains(key));
    }
    files.iter().for_each(|file| replace(file, "third-pw"));
    goes_on("with the third password");

    let written = load.stop();
    twins(&source, &target, &topic).settle(MENDED);
    println!("{} records over {} sessions", written.records(), begun.elapsed().as_secs() / SESSION.as_secs());
    let log = mirror.log_text();
    assert!(log.contains("the credentials have been replaced since"), "the ledger's clients were made anew");
    assert!(!["first-pw", "second-pw", "third-pw"].iter().any(|secret| log.contains(secret)), "a secret is in the log");
    assert!(mirror.stop(SOON).success());
}
