//! Certificates under a running mirror, on brokers that want one too: those that are replaced count for the next
//! connection, those that went bad are named by both stacks, and all goes on when they are right again.

use super::*;
use crate::support::access::{Certificates, Validity};
use crate::support::cluster::Security;
use crate::support::load::{Load, LoadSpec};
use crate::support::{ClusterSpec, until};

/// Failed links look again every 30 s, and a broker takes some seconds to start.
const MENDED: Duration = Duration::from_secs(150);

fn certificates(cluster: &Cluster) -> &Certificates {
    cluster.certificates().expect("it is secured")
}

fn section(alias: &str, cluster: &Cluster) -> String {
    let Certificates { ca, client, client_key, .. } = certificates(cluster);
    format!(
        "[clusters.{alias}]\nbootstrap = \"{}\"\nsecurity = {{ protocol = \"ssl\", ca = {ca:?}, certificate = {client:?}, \
         key = {client_key:?} }}\n",
        cluster.bootstrap(),
    )
}

/// What can be wrong on one side.
struct Wrong {
    /// Writes it, with the other cluster's authority at hand.
    spoil: fn(&Certificates, &Certificates),
    /// What is said of it besides the cluster.
    said: &'static [&'static str],
}

const WRONGS: [Wrong; 3] = [
    Wrong { spoil: |own, _| own.renew_brokers(Validity::Expired), said: &["has expired"] },
    Wrong {
        spoil: |own, _| own.renew_brokers(Validity::OtherName),
        said: &["is not valid for the name", ".bootstrap"],
    },
    Wrong { spoil: |own, other| own.renew_clients_by(other), said: &[".security.certificate", ".security.key"] },
];

#[test]
fn replaced_certificates_are_used_and_bad_ones_named_until_they_are_right_again() {
    let spec = ClusterSpec { security: Security::MutualTls, ..ClusterSpec::default() };
    let (source, target) = super::brokers::started([spec.clone(), spec]);
    let topic = unique("certified");
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let clusters = section("source", &source) + &section("target", &target);
    let mirror = twinlog(Setup { clusters, ..link(&source, &target, &[&topic], &[]) });
    mirror.start_ready();
    let load =
        Load::start(addresses(&source), LoadSpec { pause: Duration::from_millis(50), ..LoadSpec::new(&topic, 3) });
    let mut both = twins(&source, &target, &topic);
    let mut goes_on = |what: &str| {
        let written = both.difference().unwrap().records;
        until(MENDED, &format!("it goes on {what}"), || {
            mirror.assert_running();
            let now = both.difference().unwrap();
            assert!(now.is_prefix(), "{what}: {now}");
            now.records - now.behind >= written
        });
    };
    goes_on("at first");
    let sides = [("source", &source, &target), ("target", &target, &source)];

    // Each start of a broker ends all connections; the new ones show the new certificate.
    for (_, own, _) in sides {
        certificates(own).renew_clients();
        certificates(own).renew_brokers(Validity::Good);
        own.only().restart();
    }
    goes_on("with other certificates");

    for turn in 0..rounds(1, WRONGS.len()) {
        let from = mirror.log_text().len();
        for (place, (alias, own, other)) in sides.into_iter().enumerate() {
            let Wrong { spoil, said } = WRONGS[(turn + place) % WRONGS.len()];
            spoil(certificates(own), certificates(other));
            own.only().restart();
            until(SOON, &format!("cluster {alias}: {said:?} is told"), || {
                let log = mirror.log_text();
                let mut lines = log[from..].lines().filter(|line| line.contains(&format!("cluster {alias}")));
                lines.any(|line| said.iter().all(|part| line.contains(part)))
            });
            mirror.assert_running();
            certificates(own).renew_clients();
            certificates(own).renew_brokers(Validity::Good);
            own.only().restart();
        }
        goes_on("when they are right again");
    }
    let written = load.stop();
    twins(&source, &target, &topic).settle(MENDED);
    println!("{} records", written.records());
    assert!(!mirror.log_text().contains("PRIVATE KEY"), "a key is in the log");
    assert!(mirror.stop(SOON).success());
}
