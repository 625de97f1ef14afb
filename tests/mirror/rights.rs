//! The rights that README lists: they suffice, and each is missed by name when it is taken away.

use super::*;
use crate::support::access::User;
use crate::support::cluster::Security;
use crate::support::raw::Allow;
use crate::support::raw::codes::*;
use crate::support::{Cluster, ClusterSpec, until};

/// Halted partitions and failed links look again every 30 s.
const MENDED: Duration = Duration::from_secs(120);
/// Begins the names of the topics and groups that belong to a test.
const OURS: &str = "sales.";

/// A right on names that begin so (but for the cluster, which is named whole).
type Right = (i8, &'static str, i8);

/// Nothing but reading.
const SOURCE: [Right; 5] = [
    (TOPIC, OURS, READ),
    (TOPIC, OURS, DESCRIBE_CONFIGS),
    (GROUP, OURS, DESCRIBE),
    (TOPIC, "__consumer_offsets", READ),
    (TOPIC, "__twinlog.", READ),
];

const TARGET: [Right; 16] = [
    (TOPIC, OURS, READ),
    (TOPIC, OURS, WRITE),
    (TOPIC, OURS, CREATE),
    (TOPIC, OURS, ALTER),
    (TOPIC, OURS, DESCRIBE_CONFIGS),
    (TOPIC, OURS, ALTER_CONFIGS),
    (TOPIC, "__twinlog.", READ),
    (TOPIC, "__twinlog.", WRITE),
    (TOPIC, "__twinlog.", CREATE),
    (TOPIC, "__twinlog.", DESCRIBE_CONFIGS),
    (GROUP, OURS, READ),
    (GROUP, "twinlog.stir-", READ),
    (CLUSTER, "kafka-cluster", DESCRIBE),
    (CLUSTER, "kafka-cluster", DESCRIBE_CONFIGS),
    (TRANSACTIONAL_ID, "twinlog.", WRITE),
    (TRANSACTIONAL_ID, "twinlog.", DESCRIBE),
];

fn allows(rights: &[Right]) -> Vec<Allow<'static>> {
    let allow = |&(resource, name, operation): &Right| {
        let prefixed = resource != CLUSTER;
        Allow { principal: "User:twinlog", resource, name, prefixed, operation }
    };
    rights.iter().map(allow).collect()
}

fn locked(rights: &[Right]) -> Cluster {
    let users = vec![User::new("admin", "root-pw"), User::new("twinlog", "twin-pw")];
    let spec = ClusterSpec { security: Security::SaslSsl(users), ..ClusterSpec::default() };
    let cluster = Cluster::start(spec.with("allow.everyone.if.no.acl.found", false));
    cluster.client().allow(&allows(rights)).unwrap();
    cluster
}

#[test]
fn exactly_the_listed_rights_suffice_and_rights_that_are_taken_away_are_named() {
    let (source, target) = std::thread::scope(|both| {
        let target = both.spawn(|| locked(&TARGET));
        (locked(&SOURCE), target.join().expect("the target boots"))
    });
    let (topic, group) = (unique("sales.orders"), unique("sales.billing"));
    source.client().create_topic(&topic, 2, &[]).unwrap();
    let written = std::cell::Cell::new(0);
    let write_more = || {
        written.set(written.get() + 10);
        write(source.client(), &topic, 1, orders(written.get() - 10..written.get()), Codec::Lz4);
    };
    let commit = |offset| source.client().commit_offsets(&group, &[(&topic, 1, offset)], "").unwrap();
    let carried = |offset| {
        until(MENDED, &format!("position {offset} is carried over"), || {
            let told = target.client().committed(&group).unwrap_or_default();
            told.get(&(topic.clone(), 1)).map(|c| c.0) == Some(offset)
        });
    };
    write_more();
    commit(4);
    let user = User::new("twinlog", "twin-pw");
    let setup = link(&source, &target, &["sales\\..*"], &["sales\\..*"]);
    let mirror = twinlog(setup.secured((&source, Some(&user)), (&target, Some(&user))));
    mirror.start_ready();
    twins(&source, &target, &topic).settle(SOON);
    carried(4);
    source.client().create_partitions(&topic, 3).unwrap();
    source.client().alter_topic(&topic, &[("retention.ms", Some("7654321"))]).unwrap();
    until(SOON, "partitions and settings follow", || {
        let retention = || target.client().topic_configs(&topic).unwrap().remove("retention.ms").and_then(|c| c.0);
        target.client().partitions(&topic).unwrap() == 3 && retention().as_deref() == Some("7654321")
    });
    let place = format!("{topic}/1");
    for question in [&["status"][..], &["groups", mirror.link()], &["translate", mirror.link(), &place, "3"]] {
        let asked = mirror.run(question);
        let said = String::from_utf8_lossy(&asked.stdout).into_owned() + &String::from_utf8_lossy(&asked.stderr);
        assert!(asked.status.success(), "{question:?}: {said}");
    }
    let log = mirror.log_text();
    assert!(!log.contains("grant"), "nothing is missed: {log}");

    // Without `right`, what `provoke` brings about is refused, and the log or a report says all of `sentence` on one line.
    let missed = |cluster: &Cluster, right: Right, sentence: &[&str], provoke: &dyn Fn()| {
        let seen = mirror.log_text().len();
        cluster.client().forbid(&allows(&[right])).unwrap();
        provoke();
        until(MENDED, &format!("without {right:?} the log says {sentence:?}"), || {
            mirror.assert_running();
            let groups = mirror.run(&["groups", mirror.link()]).stdout;
            let said = mirror.log_text()[seen..].to_owned() + &String::from_utf8_lossy(&groups);
            said.lines().any(|line| sentence.iter().all(|part| line.contains(part)))
        });
        cluster.client().allow(&allows(&[right])).unwrap();
    };
    let settings = |value: &str| source.client().alter_topic(&topic, &[("retention.ms", Some(value))]).unwrap();
    let alone: &dyn Fn() = &|| {};
    missed(&source, (TOPIC, OURS, DESCRIBE_CONFIGS), &["source", "grant", "DescribeConfigs"], alone);
    missed(&target, (TOPIC, OURS, ALTER_CONFIGS), &["target", "grant", "AlterConfigs"], &|| settings("7654322"));
    missed(&target, (TOPIC, OURS, ALTER), &["target", "grant", "Alter on topic"], &|| {
        source.client().create_partitions(&topic, 4).unwrap();
    });
    missed(&target, (TOPIC, OURS, CREATE), &["target", "grant", "Create on topic"], &|| {
        source.client().create_topic(&unique("sales.more"), 1, &[]).unwrap();
    });
    missed(&target, (GROUP, OURS, READ), &["target", "grant", "on group"], &|| commit(7));
    carried(7);
    missed(&source, (TOPIC, OURS, READ), &["source", "grant", "Read on topic"], &write_more);
    twins(&source, &target, &topic).settle(MENDED);
    missed(&target, (TOPIC, OURS, WRITE), &["target", "grant Write"], &write_more);
    twins(&source, &target, &topic).settle(MENDED);
    missed(&target, (TOPIC, "__twinlog.", WRITE), &["target", "the rights to write this topic"], &write_more);
    missed(&target, (TRANSACTIONAL_ID, "twinlog.", WRITE), &["target", "transactional id"], &write_more);
    commit(written.get() as i64);
    twins(&source, &target, &topic).settle(MENDED);
    carried(written.get() as i64);
    assert!(mirror.stop(SOON).success());
}
