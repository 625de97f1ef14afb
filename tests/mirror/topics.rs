//! Topics on the target: created, grown and set as the source's, otherwise only where the copy demands it; what does not
//! fit, is deleted or is kept otherwise is named.

use super::*;
use crate::support::view::View;
use crate::support::{ClusterSpec, shared_pair, shared_source, until};

const MAX_LONG: &str = "9223372036854775807";

/// A link that looks at topics as often as it may.
fn attentive(source: &Cluster, target: &Cluster, topics: &[&str]) -> Setup {
    link(source, target, topics, &[]).line("intervals = { topics = \"100ms\" }")
}

/// A setting's value in force on a cluster.
fn setting(cluster: &Cluster, topic: &str, name: &str) -> Option<String> {
    cluster.client().topic_configs(topic).ok()?.get(name)?.0.clone()
}

/// A setting's value if the topic has it of its own.
fn own_setting(cluster: &Cluster, topic: &str, name: &str) -> Option<String> {
    let configs = cluster.client().topic_configs(topic).expect("the topic is there");
    configs.get(name).filter(|(_, origin)| *origin == 1).and_then(|(value, _)| value.clone())
}

/// Waits until a setting has this value on the target: settings are compared every 5 s.
#[track_caller]
fn becomes(target: &Cluster, topic: &str, name: &str, value: &str) {
    let now = || setting(target, topic, name);
    until(SOON, &format!("{name} of {topic} becomes {value}, is {:?}", now()), || now().as_deref() == Some(value));
}

fn problems(mirror: &Twinlog) -> String {
    let status = mirror.run(&["status"]);
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    text.lines().filter(|line| line.trim_start().starts_with("problem:")).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn complains(mirror: &Twinlog, sentence: &str) {
    until(SOON, &format!("status has the problem {sentence:?}"), || problems(mirror).contains(sentence));
}

fn ids(cluster: &Cluster, topic: &str, partition: i32) -> Vec<u64> {
    let view = View::read(cluster.client(), topic, partition);
    view.map(|view| view.seen().iter().filter_map(|seen| seen.id).collect()).unwrap_or_default()
}

#[test]
fn own_settings_are_there_from_creation_and_follow_every_change() {
    let (source, target) = shared_pair();
    let topic = unique("settings");
    let own = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "86400000"),
        ("retention.bytes", "1000000000"),
        ("max.message.bytes", "3000000"),
        ("segment.ms", "3600000"),
    ];
    source.client().create_topic(&topic, 1, &own).unwrap();
    let mirror = twinlog(attentive(source, target, &[&topic]));
    mirror.start_ready();
    // One call creates the topic with all of them: there is no moment at which it would delete what it should keep.
    until(SOON, "the topic is on the target", || target.client().topic_configs(&topic).is_ok());
    for (name, value) in own {
        assert_eq!(own_setting(target, &topic, name).as_deref(), Some(value), "{name}");
    }
    assert!(!mirror.log_text().contains("changed topic settings"), "{}", mirror.log_text());

    let changes = [
        ("retention.ms", Some("3600000")),
        ("max.message.bytes", Some("4000000")),
        ("segment.bytes", Some("33554432")),
    ];
    source.client().alter_topic(&topic, &changes).unwrap();
    for (name, value) in changes {
        becomes(target, &topic, name, value.unwrap());
    }
    // What the target had changed of its own is put back or removed; what Twinlog does not manage is left alone.
    let meddled = [
        ("retention.ms", Some("1000")),
        ("min.cleanable.dirty.ratio", Some("0.9")),
        ("unclean.leader.election.enable", Some("true")),
    ];
    target.client().alter_topic(&topic, &meddled).unwrap();
    becomes(target, &topic, "retention.ms", "3600000");
    becomes(target, &topic, "min.cleanable.dirty.ratio", "0.5");
    assert_eq!(own_setting(target, &topic, "unclean.leader.election.enable").as_deref(), Some("true"));
    // Larger records were written while the source allowed them: a limit lowered later stays on the target.
    source.client().alter_topic(&topic, &[("max.message.bytes", Some("2000000")), ("segment.ms", None)]).unwrap();
    until(SOON, "segment.ms is inherited again", || own_setting(target, &topic, "segment.ms").is_none());
    assert_eq!(setting(target, &topic, "max.message.bytes").as_deref(), Some("4000000"));
    assert_eq!(problems(&mirror), "");
}

#[test]
fn settings_left_to_the_target_are_neither_carried_over_nor_put_right() {
    let (source, target) = shared_pair();
    let topic = unique("filtered");
    let own = [("segment.ms", "3600000"), ("segment.bytes", "2000000"), ("retention.ms", "86400000")];
    source.client().create_topic(&topic, 1, &own).unwrap();
    let setup = attentive(source, target, &[&topic]).line("exclude_configs = [\"segment[.].*\"]");
    let mirror = twinlog(setup);
    mirror.start_ready();
    until(SOON, "the topic is on the target", || target.client().topic_configs(&topic).is_ok());
    let now = ["segment.ms", "segment.bytes", "retention.ms"].map(|name| own_setting(target, &topic, name));
    assert_eq!(now, [None, None, Some("86400000".to_owned())]);
    target.client().alter_topic(&topic, &[("segment.ms", Some("7200000"))]).unwrap();
    source.client().alter_topic(&topic, &[("retention.ms", Some("3600000"))]).unwrap();
    becomes(target, &topic, "retention.ms", "3600000");
    assert_eq!(own_setting(target, &topic, "segment.ms").as_deref(), Some("7200000"));
}

#[test]
fn settings_that_would_alter_records_or_endanger_the_copy_stay_at_the_source() {
    let (source, target) = shared_pair();
    let topic = unique("overridden");
    let own = [
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.before.max.ms", "3600000"),
        ("message.timestamp.after.max.ms", "60000"),
        ("compression.type", "zstd"),
        ("min.insync.replicas", "3"),
        ("leader.replication.throttled.replicas", "0:1"),
        ("follower.replication.throttled.replicas", "*"),
        ("unclean.leader.election.enable", "true"),
    ];
    source.client().create_topic(&topic, 1, &own).unwrap();
    let mirror = twinlog(attentive(source, target, &[&topic]));
    mirror.start_ready();
    until(SOON, "the topic is on the target", || target.client().topic_configs(&topic).is_ok());
    for (name, value) in [
        ("message.timestamp.type", "CreateTime"),
        ("message.timestamp.before.max.ms", MAX_LONG),
        ("message.timestamp.after.max.ms", MAX_LONG),
        ("compression.type", "producer"),
        // One broker, one replica: three in sync would refuse every record.
        ("min.insync.replicas", "1"),
    ] {
        assert_eq!(own_setting(target, &topic, name).as_deref(), Some(value), "{name}");
        let at_source = own.iter().find(|(own, _)| *own == name).expect("the source has it").1;
        let named = format!("{name} is {at_source} at the source but {value} on the target");
        until(SOON, &format!("the log says {named:?}"), || mirror.log_text().contains(&named));
    }
    for name in [
        "leader.replication.throttled.replicas",
        "follower.replication.throttled.replicas",
        "unclean.leader.election.enable",
    ] {
        assert_eq!(own_setting(target, &topic, name), None, "{name}");
    }
}

/// MirrorMaker 2 asks whose default counts where the source has none of its own. Here what decides how long a record can be
/// read is the source's, whether set or inherited; everything else inherits from the target's own brokers.
#[test]
fn of_two_defaults_the_sources_decides_how_long_records_live_and_the_targets_all_else() {
    let source = shared_source();
    let target = Cluster::start(
        ClusterSpec::default()
            .with("log.retention.ms", "3600000")
            .with("log.retention.bytes", "100000000")
            .with("log.cleanup.policy", "compact")
            .with("message.max.bytes", "600000")
            .with("log.segment.bytes", "16777216"),
    );
    let topic = unique("defaults");
    source.client().create_topic(&topic, 1, &[("segment.bytes", "33554432")]).unwrap();
    let mirror = twinlog(attentive(source, &target, &[&topic]));
    mirror.start_ready();
    until(SOON, "the topic is on the target", || target.client().topic_configs(&topic).is_ok());
    let lifetime = ["retention.ms", "retention.bytes", "cleanup.policy", "delete.retention.ms", "max.message.bytes"];
    for name in lifetime {
        assert_eq!(own_setting(source, &topic, name), None, "{name} is inherited at the source");
        assert_eq!(setting(&target, &topic, name), setting(source, &topic, name), "{name}");
    }
    assert_eq!(setting(&target, &topic, "segment.bytes").as_deref(), Some("33554432"));
    // No longer the source's own: each side's brokers decide.
    source.client().alter_topic(&topic, &[("segment.bytes", None), ("retention.ms", Some("7200000"))]).unwrap();
    becomes(&target, &topic, "segment.bytes", "16777216");
    becomes(&target, &topic, "retention.ms", "7200000");
    source.client().alter_topic(&topic, &[("retention.ms", None)]).unwrap();
    becomes(&target, &topic, "retention.ms", "-1");
}

#[test]
fn partitions_grown_at_the_source_are_copied_from_their_first_record_also_with_latest() {
    let (source, target) = shared_pair();
    let topic = unique("grown");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..10), Codec::Lz4);
    let mirror = twinlog(attentive(source, target, &[&topic]).line("start = \"latest\""));
    mirror.start_ready();
    until(SOON, "the first partition is born", || mirror.metric("twinlog_lag_records") == Some(0.0));
    source.client().create_partitions(&topic, 4).unwrap();
    for partition in 1..4 {
        let first = partition as u64 * 100;
        write(source.client(), &topic, partition, orders(first..first + 10), Codec::Zstd);
    }
    write(source.client(), &topic, 0, orders(10..20), Codec::None);
    for partition in 1..4 {
        let all: Vec<u64> = (partition as u64 * 100..partition as u64 * 100 + 10).collect();
        until(SOON, &format!("{topic}/{partition} is copied whole"), || ids(target, &topic, partition) == all);
    }
    until(SOON, "the old partition goes on", || ids(target, &topic, 0) == (10..20).collect::<Vec<_>>());
    assert_eq!(target.client().partitions(&topic).unwrap(), 4);
}

#[test]
fn a_deletion_at_the_source_is_believed_after_the_grace_reported_and_not_applied() {
    let (source, target) = shared_pair();
    let (gone, stays) = (unique("deleted"), unique("stays"));
    for topic in [&gone, &stays] {
        source.client().create_topic(topic, 1, &[]).unwrap();
        write(source.client(), topic, 0, orders(0..20), Codec::Lz4);
    }
    let grace = Duration::from_secs(3);
    let setup = attentive(source, target, &[&gone, &stays]).line(&format!("deletion_grace = \"{grace:?}\""));
    let mirror = twinlog(setup);
    mirror.start_ready();
    for topic in [&gone, &stays] {
        twins(source, target, topic).settle(SOON);
    }
    let began = std::time::Instant::now();
    source.client().delete_topic(&gone).unwrap();
    let sentence = format!("topic {gone} was deleted at the source; its copy {gone} stays on the target");
    complains(&mirror, &sentence);
    assert!(began.elapsed() >= grace, "believed after {:?}", began.elapsed());
    assert_eq!(ids(target, &gone, 0), (0..20).collect::<Vec<_>>());
    write(source.client(), &stays, 0, orders(20..40), Codec::Lz4);
    twins(source, target, &stays).settle(SOON);
    // Not forgotten by the next process.
    assert!(mirror.stop(SOON).success());
    mirror.start_ready();
    complains(&mirror, &sentence);
}

#[test]
fn a_target_topic_with_more_partitions_is_a_named_problem_and_one_with_fewer_is_grown() {
    let (source, target) = shared_pair();
    let (more, fewer) = (unique("more"), unique("fewer"));
    for (topic, at_source, at_target) in [(&more, 2, 3), (&fewer, 3, 1)] {
        source.client().create_topic(topic, at_source, &[]).unwrap();
        target.client().create_topic(topic, at_target, &[]).unwrap();
        for partition in 0..at_source {
            write(source.client(), topic, partition, orders(0..10), Codec::Lz4);
        }
    }
    let mirror = twinlog(attentive(source, target, &[&more, &fewer]));
    mirror.start_ready();
    for topic in [&more, &fewer] {
        twins(source, target, topic).settle(SOON);
    }
    complains(&mirror, &format!("topic {more} has 3 partitions on the target but {more} has 2 at the source"));
    assert!(!problems(&mirror).contains(&fewer), "{}", problems(&mirror));
    assert_eq!(target.client().partitions(&fewer).unwrap(), 3);
}

#[test]
fn a_target_topic_that_would_store_other_times_is_put_right_before_its_first_record() {
    let (source, target) = shared_pair();
    let prefix = unique("times");
    let mirror = twinlog(attentive(source, target, &[&format!("{prefix}.*")]));
    mirror.start_ready();
    // Two, because the second comes when the settings of all topics have just been compared.
    for topic in [format!("{prefix}-first"), format!("{prefix}-second")] {
        target.client().create_topic(&topic, 1, &[("message.timestamp.type", "LogAppendTime")]).unwrap();
        source.client().create_topic(&topic, 1, &[]).unwrap();
        write(source.client(), &topic, 0, orders(0..20), Codec::Lz4);
        // The oracle counts a record with the target broker's time as altered.
        twins(source, target, &topic).settle(SOON);
        assert_eq!(setting(target, &topic, "message.timestamp.type").as_deref(), Some("CreateTime"));
    }
}

#[test]
fn an_append_time_topic_keeps_its_times_and_the_change_of_type_is_named() {
    let (source, target) = shared_pair();
    let topic = unique("appended");
    source.client().create_topic(&topic, 1, &[("message.timestamp.type", "LogAppendTime")]).unwrap();
    let mirror = twinlog(attentive(source, target, &[&topic]));
    mirror.start_ready();
    for (turn, codec) in Codec::ALL.into_iter().enumerate() {
        let first = turn as u64 * 10;
        write(source.client(), &topic, 0, orders(first..first + 10), codec);
    }
    twins(source, target, &topic).settle(SOON);
    let view = |cluster: &Cluster| View::read(cluster.client(), &topic, 0).unwrap();
    assert!(view(source).seen().iter().all(|seen| seen.append_time), "the source stamps");
    assert!(view(target).seen().iter().all(|seen| !seen.append_time), "the target does not");
    let named = "message.timestamp.type is LogAppendTime at the source but CreateTime on the target";
    let log = mirror.log_text();
    assert!(log.lines().any(|line| line.contains(named) && line.contains(&topic)), "{log}");
    let status = || String::from_utf8_lossy(&mirror.run(&["status"]).stdout).into_owned();
    until(SOON, "status notes it", || status().lines().any(|line| line.contains("note: ") && line.contains(named)));
}

#[test]
fn a_prefix_and_a_rename_table_mirror_to_other_names() {
    let (source, target) = shared_pair();
    let (plain, renamed, copy) = (unique("plain"), unique("renamed"), unique("copy"));
    for topic in [&plain, &renamed] {
        source.client().create_topic(topic, 2, &[]).unwrap();
        write(source.client(), topic, 1, orders(0..30), Codec::Lz4);
    }
    let naming = format!("naming = {{ rename = {{ {renamed:?} = {copy:?} }} }}");
    let table = twinlog(attentive(source, target, &[&plain, &renamed]).line(&naming));
    let prefix = twinlog(attentive(source, target, &[&plain]).line("naming = { prefix = \"paris.\" }"));
    table.start_ready();
    prefix.start_ready();
    for (topic, copy) in [(&plain, &plain), (&renamed, &copy), (&plain, &format!("paris.{plain}"))] {
        Twins::renamed(source.client(), target.client(), topic, copy).settle(SOON);
        write(source.client(), topic, 0, orders(0..30), Codec::None);
        Twins::renamed(source.client(), target.client(), topic, copy).settle(SOON);
    }
    assert_eq!(target.client().partitions(&renamed).unwrap_or(0), 0, "the source's name is not used on the target");
}
