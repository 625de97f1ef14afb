//! TLS, SCRAM and rights on secured clusters; bad access is named, never retried in silence.

use super::*;
use crate::support::access::User;
use crate::support::cluster::Security;
use crate::support::raw::Allow;
use crate::support::raw::codes::*;
use crate::support::{Cluster, ClusterSpec, shared_source, until};

fn secured() -> Cluster {
    let users = vec![User::new("admin", "root-pw"), User::new("twinlog", "twin-pw")];
    Cluster::start(ClusterSpec { security: Security::SaslSsl(users), ..ClusterSpec::default() })
}

fn allow(cluster: &Cluster, rights: &[(i8, &str, i8)]) {
    let rights: Vec<Allow<'_>> = rights
        .iter()
        .map(|&(resource, name, operation)| Allow {
            principal: "User:twinlog",
            resource,
            name,
            prefixed: false,
            operation,
        })
        .collect();
    cluster.client().allow(&rights).unwrap();
}

fn fails_with(setup: Setup, sentence: &[&str]) {
    let mirror = twinlog(setup);
    mirror.start();
    until(SOON, &format!("the log says {sentence:?}"), || {
        let log = mirror.log_text();
        sentence.iter().all(|part| log.contains(part))
    });
    let log = mirror.log_text();
    assert!(!log.contains("twin-pw") && !log.contains("wrong-pw"), "a secret is in the log");
}

/// One scenario, because a pair of secured clusters costs as much as all its steps: bad access first, then the least
/// rights that suffice.
#[test]
fn least_privilege_over_sasl_ssl_mirrors_and_bad_access_is_named() {
    let (source, target) = std::thread::scope(|both| {
        let target = both.spawn(secured);
        (secured(), target.join().expect("the target boots"))
    });
    let (topic, group) = (unique("secured"), unique("group"));
    source.client().create_topic(&topic, 2, &[]).unwrap();
    write(source.client(), &topic, 1, orders(0..50), Codec::Lz4);
    source.client().commit_offsets(&group, &[(&topic, 1, 20)], "").unwrap();
    let user = User::new("twinlog", "twin-pw");
    let setup = link(&source, &target, &[&topic], &[&group]).secured((&source, Some(&user)), (&target, Some(&user)));

    let wrong = User::new("twinlog", "wrong-pw");
    fails_with(
        link(&source, &target, &[&topic], &[]).secured((&source, Some(&wrong)), (&target, Some(&user))),
        &["cluster source", "password"],
    );
    let untrusted = Setup {
        clusters: setup.clusters.replacen(
            &source.certificates().unwrap().ca.display().to_string(),
            &target.certificates().unwrap().ca.display().to_string(),
            1,
        ),
        ..setup.clone()
    };
    fails_with(untrusted, &["source", "certificate"]);
    // No right at all on the target: the first one missing is named, with what it is on.
    fails_with(setup.clone(), &["cluster target", "grant it Describe on topic __twinlog."]);

    allow(&source, &[(TOPIC, &topic, READ), (TOPIC, &topic, DESCRIBE_CONFIGS), (GROUP, "*", DESCRIBE)]);
    allow(
        &target,
        &[
            (TOPIC, "*", READ),
            (TOPIC, "*", WRITE),
            (TOPIC, "*", CREATE),
            (TOPIC, "*", ALTER),
            (TOPIC, "*", DESCRIBE_CONFIGS),
            (TOPIC, "*", ALTER_CONFIGS),
            (GROUP, "*", READ),
            (CLUSTER, "kafka-cluster", DESCRIBE_CONFIGS),
            (CLUSTER, "kafka-cluster", DESCRIBE),
            (TRANSACTIONAL_ID, "*", WRITE),
            (TRANSACTIONAL_ID, "*", DESCRIBE),
        ],
    );
    let mirror = twinlog(setup);
    mirror.start_ready();
    twins(&source, &target, &topic).settle(SOON);
    let carried = || target.client().committed(&group).unwrap().get(&(topic.clone(), 1)).map(|c| c.0) == Some(20);
    until(SOON, "the position is carried over", carried);
}

#[test]
fn a_cluster_that_is_not_there_is_named() {
    let source = shared_source();
    let port = crate::support::port::Port::reserve();
    let setup = link(source, source, &["x"], &[]);
    let (head, tail) = setup.clusters.split_once("[clusters.target]").unwrap();
    let tail = tail.replace(&source.bootstrap(), &port.address().to_string());
    let setup = Setup { clusters: format!("{head}[clusters.target]{tail}"), ..setup.clone() };
    fails_with(setup, &["target", &port.address().to_string()]);
}

#[test]
fn a_link_from_a_cluster_to_itself_is_refused() {
    let source = shared_source();
    let mirror = twinlog(link(source, source, &["x"], &[]));
    mirror.start();
    assert!(!mirror.wait(SOON).success());
    assert!(mirror.log_text().contains("are the same cluster"), "{}", mirror.log_text());
}
