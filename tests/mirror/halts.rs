//! P4: what breaks the promises from outside becomes a named halt with a way out that works.

use super::*;
use crate::support::{shared_pair, until};

fn halted(mirror: &Twinlog, reason: &str) {
    let report = || mirror.get("/v1/links").map(|(_, body)| body).unwrap_or_default();
    until(SOON, &format!("the partition halts as {reason}"), || report().contains(reason));
}

fn resolve(mirror: &Twinlog, topic: &str, decision: &str) {
    let output = mirror.run(&["resolve", mirror.link(), &format!("{topic}/0"), decision]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_target_that_is_not_empty_halts_until_adopted() {
    let (source, target) = shared_pair();
    let topic = unique("not-empty");
    for cluster in [source, target] {
        cluster.client().create_topic(&topic, 1, &[]).unwrap();
        write(cluster.client(), &topic, 0, orders(0..20), Codec::None);
    }
    write(source.client(), &topic, 0, orders(20..40), Codec::None);
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start();
    halted(&mirror, "TARGET_NOT_EMPTY");
    resolve(&mirror, &topic, "--adopt");
    twins(source, target, &topic).settle(SOON);
}

#[test]
fn a_strangers_record_in_the_unflushed_tail_halts() {
    let (source, target) = shared_pair();
    let topic = unique("stranger");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..20), Codec::None);
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    assert!(mirror.stop(SOON).success());
    // As many records as the source has more, but others.
    write(source.client(), &topic, 0, orders(20..25), Codec::None);
    write(target.client(), &topic, 0, orders(120..125), Codec::None);
    mirror.start();
    halted(&mirror, "FOREIGN_WRITE");
    let status = mirror.run(&["status"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains(&format!("twinlog resolve {} {topic}/0 --adopt", mirror.link())), "{text}");
    resolve(&mirror, &topic, "--adopt");
    let ids = || crate::support::view::View::read(target.client(), &topic, 0).unwrap();
    until(SOON, "copying goes on behind the foreign records", || ids().seen().len() == 30);
}

#[test]
fn a_foreign_write_while_copying_is_noticed_by_the_next_ack() {
    let (source, target) = shared_pair();
    let topic = unique("intruder");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..20), Codec::None);
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    write(target.client(), &topic, 0, orders(500..501), Codec::None);
    write(source.client(), &topic, 0, orders(20..25), Codec::None);
    halted(&mirror, "FOREIGN_WRITE");
}

#[test]
fn retention_that_overtook_names_the_exact_lost_range() {
    let (source, target) = shared_pair();
    let topic = unique("overtaken");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..20), Codec::None);
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    assert!(mirror.stop(SOON).success());
    write(source.client(), &topic, 0, orders(20..60), Codec::None);
    source.client().delete_records(&topic, 0, 45).unwrap();
    mirror.start();
    halted(&mirror, "RETENTION_OVERTOOK");
    let (_, body) = mirror.get("/v1/links").unwrap();
    assert!(body.contains("20..45"), "{body}");
    resolve(&mirror, &topic, "--skip-loss");
    let copied = || crate::support::view::View::read(target.client(), &topic, 0).unwrap().seen().len();
    until(SOON, "copying goes on behind the loss", || copied() == 35);
}

#[test]
fn a_source_topic_created_again_halts_until_an_operator_decides() {
    let (source, target) = shared_pair();
    let topic = unique("recreated");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..20), Codec::None);
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    source.client().delete_topic(&topic).unwrap();
    until(SOON, "the topic can be created again", || source.client().create_topic(&topic, 1, &[]).is_ok());
    write(source.client(), &topic, 0, orders(100..130), Codec::None);
    halted(&mirror, "SOURCE_RECREATED");
    resolve(&mirror, &topic, "--resend");
    let copied = || crate::support::view::View::read(target.client(), &topic, 0).unwrap().seen().len();
    until(SOON, "the new topic is copied behind the old records", || copied() == 50);
}
