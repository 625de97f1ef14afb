//! The test bed's own proof: what tests rely on holds, and what must be noticed is noticed.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{MetadataRequest, OffsetCommitRequest, ProduceRequest};
use kafka_protocol::protocol::StrBytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use support::access::User;
use support::batch::{Batch, Codec, open};
use support::cluster::{OLDER, Security};
use support::hold::OFFSET_COMMIT;
use support::load::{Load, LoadSpec};
use support::oracle::{Twins, standings};
use support::process;
use support::raw::{Allow, Client, Connection, Election, Isolation};
use support::record::Record;
use support::view::View;
use support::{Cluster, ClusterSpec, Setup, Twinlog, scratch, shared_pair, shared_source, unique, until, until_some};

use twinlog::config::Config;

const SOON: Duration = Duration::from_secs(60);

fn orders(ids: std::ops::Range<u64>) -> Vec<Record> {
    ids.map(|id| Record::order(id, 200)).collect()
}

fn write(client: &Client, topic: &str, partition: i32, records: Vec<Record>) -> i64 {
    client.produce(topic, partition, &Batch::of(records, Codec::Lz4).encode()).unwrap()
}

#[test]
fn every_codec_is_taken_by_a_broker_and_read_back() {
    let (client, topic) = (shared_source().client(), unique("codecs"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let mut expected = Vec::new();
    for codec in Codec::ALL {
        let records = orders(expected.len() as u64..expected.len() as u64 + 20);
        expected.extend(records.clone());
        client.produce(&topic, 0, &Batch::of(records, codec).encode()).unwrap();
    }
    let section = client.fetch(&topic, 0, 0, Isolation::Committed).unwrap();
    let read: Vec<Record> =
        open(&section.bytes).unwrap().into_iter().flat_map(|b| b.records).map(|r| r.record).collect();
    assert_eq!(read, expected);
}

#[test]
fn what_clients_would_alter_is_stored_as_written() {
    let (client, topic) = (shared_source().client(), unique("odd"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let headers = vec![(vec![], None), (vec![0xff, 0xfe], Some(vec![])), (vec![], Some(vec![1])), (vec![], None)];
    let record = |timestamp, key: Option<&[u8]>, value: Option<&[u8]>| {
        let headers = headers.clone();
        Record { timestamp, key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec), headers }
    };
    let odd = vec![record(-1, None, Some(b"")), record(0, Some(b""), None), record(1, Some(b"k"), Some(&[7; 1 << 19]))];
    for one in &odd {
        write(client, &topic, 0, vec![one.clone()]);
    }
    let section = client.fetch(&topic, 0, 0, Isolation::Uncommitted).unwrap();
    let read: Vec<Record> =
        open(&section.bytes).unwrap().into_iter().flat_map(|b| b.records).map(|r| r.record).collect();
    assert_eq!(read, odd);
}

#[test]
fn committed_records_are_seen_and_aborted_ones_are_not() {
    let (client, topic) = (shared_source().client(), unique("transactions"));
    client.create_topic(&topic, 2, &[]).unwrap();
    let mut producer = client.producer(Some(&topic)).unwrap();
    for round in 0..6 {
        let mut transaction = producer.begin();
        for partition in 0..2 {
            let records = orders(round * 10..round * 10 + 10);
            transaction.send(&topic, partition, &Batch::of(records, Codec::Zstd)).unwrap();
        }
        if round % 2 == 0 { transaction.commit() } else { transaction.abort() }.unwrap();
        write(client, &topic, 0, orders(1000 + round..1001 + round));
    }
    let expected: Vec<u64> =
        (0..6).flat_map(|r| (r * 10..r * 10 + 10).filter(move |_| r % 2 == 0).chain([1000 + r])).collect();
    let ids = || -> Vec<u64> { View::read(client, &topic, 0).unwrap().seen().iter().filter_map(|s| s.id).collect() };
    until(SOON, "the last marker is written", || ids().len() == expected.len());
    // A marker may be written after the plain record that follows it here, but the order of records is ours.
    assert_eq!(ids(), expected);
    // Six markers more than records of both kinds.
    assert_eq!(client.bounds(&topic, 0).unwrap(), (0, 6 * 11 + 6));
}

#[test]
fn both_oracles_agree_with_a_copy_made_by_hand() {
    let (source, target) = shared_pair();
    let (source, target) = (source.client(), target.client());
    let (topic, group) = (unique("copied"), unique("readers"));
    for client in [source, target] {
        client.create_topic(&topic, 2, &[]).unwrap();
    }
    for partition in 0..2 {
        write(source, &topic, partition, orders(0..30));
        write(target, &topic, partition, orders(0..10));
        write(target, &topic, partition, orders(10..30));
    }
    let equal = Twins::new(source, target, &topic).settle(SOON);
    assert_eq!(equal.records, 60);

    source.commit_offsets(&group, &[(&topic, 0, 12), (&topic, 1, 30)], "from the application").unwrap();
    target.commit_offsets(&group, &[(&topic, 0, 10)], "").unwrap();
    let at = source.committed(&group).unwrap();
    assert_eq!(at[&(topic.clone(), 0)], (12, "from the application".to_owned()));
    let standing = standings(source, target, &group, str::to_owned).unwrap();
    assert_eq!((standing[0].skipped, standing[0].reread, standing[0].present), (0, 2, true));
    assert!(!standing[1].present);
    target.commit_offsets(&group, &[(&topic, 0, 12), (&topic, 1, 30)], "").unwrap();
    assert!(standings(source, target, &group, str::to_owned).unwrap().iter().all(|s| s.is_exact()));

    write(target, &topic, 1, orders(7..8));
    let difference = Twins::new(source, target, &topic).difference().unwrap();
    assert_eq!((difference.doubled, difference.is_prefix()), (1, false), "{difference}");
}

#[test]
fn a_load_knows_what_three_brokers_acknowledged_while_they_are_killed_and_frozen() {
    let cluster = Cluster::start(ClusterSpec::three());
    let (client, topic) = (cluster.client(), unique("fire"));
    client.create_topic(&topic, 3, &[]).unwrap();
    let mut spec = LoadSpec::new(&topic, 3);
    spec.transaction_every = Some(10);
    let load = Load::start(cluster.brokers().iter().map(|b| b.inner_address()).collect(), spec);
    let more = |what: &str| {
        let now = load.acknowledged();
        until(SOON, what, || load.acknowledged() > now + 300);
    };
    more("the load writes");
    let leader = client.leader(&topic, 0).unwrap();
    cluster.broker(leader).kill9();
    more("it writes on after a leader was killed");
    cluster.broker(leader).restart();
    let other = leader % 3 + 1;
    cluster.broker(other).pause();
    more("it writes on while a broker is frozen");
    cluster.broker(other).resume();
    more("it writes on");
    let replicas: Vec<i32> = vec![other, leader, 6 - leader - other];
    client.again(|| client.reassign(&topic, 1, &replicas)).unwrap();
    client.again(|| client.elect(&topic, 1, Election::Preferred)).unwrap();
    until(SOON, "the first replica leads", || {
        client.forget_leader(&topic, 1);
        client.leader(&topic, 1) == Ok(other)
    });
    cluster.broker(leader).kill9();
    until(SOON, "the killed one leads nothing", || {
        (0..3).all(|p| {
            client.forget_leader(&topic, p);
            client.leader(&topic, p).is_ok_and(|l| l != leader)
        })
    });
    cluster.broker(leader).wipe();
    cluster.broker(leader).restart();
    more("it writes on with a broker that came back empty");

    let written = load.stop();
    assert!(written.records() > 1000, "{}", written.records());
    assert!(!written.aborted.is_empty(), "some transactions were aborted");
    for partition in 0..3 {
        let read = || View::read(client, &topic, partition).unwrap();
        until(SOON, "every acknowledged record is visible", || written.held_against(partition, &read()).0.is_empty());
        let view = read();
        assert_eq!(written.held_against(partition, &view), (vec![], vec![]));
        let ids: Vec<u64> = view.seen().iter().filter_map(|s| s.id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "an idempotent load doubles and reorders nothing");
    }
}

#[test]
fn an_older_kafka_boots_and_is_read() {
    let cluster = Cluster::start(ClusterSpec { version: OLDER, ..ClusterSpec::default() });
    let (client, topic) = (cluster.client(), unique("older"));
    client.create_topic(&topic, 1, &[]).unwrap();
    write(client, &topic, 0, orders(0..5));
    let mut producer = client.producer(Some("older")).unwrap();
    let mut transaction = producer.begin();
    transaction.send(&topic, 0, &Batch::of(orders(5..9), Codec::Snappy)).unwrap();
    transaction.commit().unwrap();
    until(SOON, "all are visible", || View::read(client, &topic, 0).unwrap().seen().len() == 9);
}

#[test]
fn a_secured_cluster_wants_trust_a_password_and_rights() {
    let users = vec![User::new("admin", "root-pw"), User::new("reader", "reader-pw")];
    let spec = ClusterSpec { security: Security::SaslSsl(users), ..ClusterSpec::default() };
    let cluster = Cluster::start(spec);
    let topic = unique("secret");
    cluster.client().create_topic(&topic, 1, &[]).unwrap();
    let ca = cluster.certificates().unwrap().ca.display().to_string();
    let topics = |mechanism: &str, user: &str, password: &str, ca: Option<&str>| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap()).set("security.protocol", "sasl_ssl");
        config.set("sasl.mechanism", mechanism).set("sasl.username", user).set("sasl.password", password);
        if let Some(ca) = ca {
            config.set("ssl.ca.location", ca);
        }
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(5)).ok()?;
        Some(metadata.topics().iter().map(|t| t.name().to_owned()).collect::<Vec<_>>())
    };
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] {
        assert_eq!(topics(mechanism, "admin", "root-pw", Some(&ca)), Some(vec![topic.clone()]), "{mechanism}");
    }
    assert_eq!(topics("SCRAM-SHA-512", "admin", "wrong", Some(&ca)), None);
    assert_eq!(topics("SCRAM-SHA-512", "admin", "root-pw", None), None, "an unknown authority is not trusted");
    assert_eq!(topics("SCRAM-SHA-512", "reader", "reader-pw", Some(&ca)), Some(vec![]), "no right to see it");
    let principal = "User:reader";
    let right = Allow { principal, resource: 2, name: &topic, prefixed: false, operation: 8 };
    cluster.client().allow(&[right]).unwrap();
    until(SOON, "the right is in force", || {
        topics("SCRAM-SHA-512", "reader", "reader-pw", Some(&ca)) == Some(vec![topic.clone()])
    });
}

#[test]
fn the_usage_of_a_process_is_what_it_has_burnt() {
    let usage = || process::usage_of(std::process::id()).unwrap();
    let (before, held) = (usage(), vec![1u8; 64 << 20]);
    let burn = || held.iter().map(|b| u64::from(*b)).sum::<u64>();
    until(SOON, "half a second of CPU is burnt", || {
        assert_eq!(burn(), 64 << 20);
        usage().cpu >= before.cpu + Duration::from_millis(500)
    });
    assert!(usage().peak_bytes >= 64 << 20);
}

#[test]
fn a_topic_is_configured_grown_emptied_and_deleted() {
    let (client, topic) = (shared_source().client(), unique("life"));
    client.create_topic(&topic, 1, &[("cleanup.policy", "compact,delete")]).unwrap();
    // Two weeks: the records carry times of an hour ago, and the broker may look at any moment.
    client.alter_topic(&topic, &[("retention.ms", Some("1234567890")), ("cleanup.policy", None)]).unwrap();
    let configured = || client.topic_configs(&topic).unwrap();
    until(SOON, "the change is in force", || configured()["retention.ms"] == (Some("1234567890".to_owned()), 1));
    assert_eq!(configured()["cleanup.policy"], (Some("delete".to_owned()), 5));
    client.create_partitions(&topic, 3).unwrap();
    assert_eq!(client.partitions(&topic).unwrap(), 3);
    write(client, &topic, 2, orders(0..10));
    assert_eq!(client.delete_records(&topic, 2, 4).unwrap(), 4);
    assert_eq!(client.bounds(&topic, 2).unwrap(), (4, 10));
    assert_eq!(View::read(client, &topic, 2).unwrap().seen().len(), 6);
    client.delete_topic(&topic).unwrap();
    assert_eq!(client.partitions(&topic).unwrap(), 0);
}

#[test]
fn kafkas_own_dump_log_tool_agrees_with_the_raw_reader() {
    let (cluster, topic) = (shared_source(), unique("dumped"));
    cluster.client().create_topic(&topic, 1, &[]).unwrap();
    for codec in [Codec::None, Codec::Zstd] {
        cluster.client().produce(&topic, 0, &Batch::of(orders(0..7), codec).encode()).unwrap();
    }
    let dump = cluster.only().dump(&topic, 0);
    // `| offset: 3 CreateTime: 1795260584946 keySize: 10 … key: customer-3 payload: {"id":3,…`
    let told = |line: &str| {
        let after = |label: &str| line.split(label).nth(1)?.split_whitespace().next().map(str::to_owned);
        let id = line.split(r#"payload: {"id":"#).nth(1)?.split(',').next()?.parse::<u64>().ok();
        Some((after("| offset: ")?.parse::<i64>().ok()?, after("CreateTime: ")?.parse::<i64>().ok()?, id))
    };
    let dumped: Vec<_> = dump.lines().filter_map(told).collect();
    let view = View::read(cluster.client(), &topic, 0).unwrap();
    let read: Vec<_> = view.seen().iter().map(|s| (s.offset, s.timestamp, s.id)).collect();
    assert_eq!((dumped.len(), dumped), (14, read));
}

#[test]
fn a_proxied_broker_is_slow_cut_off_or_garbled_as_asked() {
    let cluster = Cluster::start(ClusterSpec { proxied: true, ..ClusterSpec::default() });
    let (topic, proxy) = (unique("wire"), cluster.only().proxy());
    cluster.client().create_topic(&topic, 1, &[]).unwrap();
    let mut outside = Connection::dial(cluster.only().address(), SOON).unwrap();
    let batch = Batch::of(orders(0..50), Codec::None).encode();
    let mut produce = |batch: &[u8]| {
        let data = PartitionProduceData::default().with_records(Some(batch.to_vec().into()));
        let name = StrBytes::from_string(topic.clone()).into();
        let data = TopicProduceData::default().with_name(name).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![data]);
        outside.exchange(&request, 9).map(|answer| answer.responses[0].partition_responses[0].error_code)
    };
    assert_eq!(produce(&batch).unwrap(), 0);
    proxy.corrupt_produce(1);
    assert_eq!(produce(&batch).unwrap(), 2, "the broker notices by the checksum");
    assert_eq!(produce(&batch).unwrap(), 0, "once was asked for");
    assert_eq!(proxy.corrupted(), 1);
    proxy.delay(Duration::from_millis(150));
    let begun = Instant::now();
    assert_eq!(produce(&batch).unwrap(), 0);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    proxy.delay(Duration::ZERO);
    proxy.cut();
    assert!(produce(&batch).is_err());
    assert!(Connection::dial(cluster.only().address(), SOON).is_err());
    proxy.mend();
    assert!(Connection::dial(cluster.only().address(), SOON).is_ok());
    assert_eq!(cluster.client().bounds(&topic, 0).unwrap(), (0, 150));
}

#[test]
fn a_swallowed_connection_stays_open_and_silent_also_when_the_broker_has_died_and_new_ones_work() {
    let cluster = Cluster::start(ClusterSpec { proxied: true, ..ClusterSpec::default() });
    let (broker, patience) = (cluster.only(), Duration::from_millis(300));
    let dial = || Connection::dial(broker.address(), patience);
    let ask = |on: &mut Connection| on.exchange(&MetadataRequest::default(), 9).map(drop).map_err(|e| e.kind());
    let (mut before, silent) = (dial().unwrap(), Err(std::io::ErrorKind::WouldBlock));
    assert_eq!(ask(&mut before), Ok(()));
    broker.proxy().swallow();
    assert_eq!(ask(&mut before), silent);
    assert_eq!(dial().map(drop).map_err(|e| e.kind()), silent, "connected, and nothing comes");
    broker.proxy().mend();
    until(SOON, "new ones work", || dial().is_ok_and(|mut fresh| ask(&mut fresh).is_ok()));
    assert_eq!(ask(&mut before), silent, "what was lost does not come back");
    broker.kill9();
    assert_eq!(ask(&mut before), silent, "nobody tells of the death");
    drop(before);
    until(SOON, "the proxy keeps nothing of whom it has forgotten", || broker.proxy().connections() == 0);
}

/// Commits a position of topic "any" over a connection of its own and asks something else behind it.
fn commit_and_more(
    address: std::net::SocketAddr,
    group: &str,
    offset: i64,
) -> thread::JoinHandle<std::io::Result<i16>> {
    let name = |text: &str| StrBytes::from_string(text.to_owned());
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(name("any").into()).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(name(group).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    thread::spawn(move || {
        let mut outside = Connection::dial(address, SOON)?;
        let answer = outside.exchange(&request, 8)?;
        outside.exchange(&MetadataRequest::default(), 9)?;
        Ok(answer.topics[0].partitions[0].error_code)
    })
}

#[test]
fn requests_of_one_kind_are_held_until_they_are_let_through_or_lost_and_their_answers_too() {
    let cluster = Cluster::start(ClusterSpec { proxied: true, ..ClusterSpec::default() });
    let (group, client, address) = (unique("held"), cluster.client(), cluster.only().address());
    let (proxy, at) = (cluster.only().proxy(), ("any".to_owned(), 0));
    client.create_topic("any", 1, &[]).unwrap();
    client.commit_offsets(&group, &[("any", 0, 1)], "").unwrap();
    let there = || client.committed(&group).unwrap()[&at].0;

    let commits = proxy.hold_requests(OFFSET_COMMIT);
    let mut outside = Connection::dial(address, SOON).unwrap();
    let first = commit_and_more(address, &group, 2);
    until(SOON, "a request is held", || commits.count() == 1);
    let second = commit_and_more(address, &group, 2);
    until(SOON, "two requests are held", || commits.count() == 2);
    outside.exchange(&MetadataRequest::default(), 9).expect("other requests go through");
    assert_eq!(there(), 1, "the broker has not seen them");
    commits.release();
    for sender in [first, second] {
        assert_eq!(sender.join().unwrap().unwrap(), 0);
    }
    assert_eq!(there(), 2);

    let commits = proxy.hold_requests(OFFSET_COMMIT);
    let sender = commit_and_more(address, &group, 3);
    until(SOON, "a request is held", || commits.count() == 1);
    commits.lose();
    assert!(sender.join().unwrap().is_err(), "its connection is closed");
    assert_eq!(there(), 2);

    let answers = proxy.hold_responses(OFFSET_COMMIT);
    let sender = commit_and_more(address, &group, 4);
    until(SOON, "an answer is held", || answers.count() == 1);
    assert_eq!(there(), 4, "the broker has done it");
    assert!(!sender.is_finished());
    drop(answers);
    assert_eq!(sender.join().unwrap().unwrap(), 0, "dropped, it lets through");
    let answers = proxy.hold_responses(OFFSET_COMMIT);
    let sender = commit_and_more(address, &group, 5);
    until(SOON, "an answer is held", || answers.count() == 1);
    answers.lose();
    assert!(sender.join().unwrap().is_err());
    assert_eq!(there(), 5);
    assert_eq!(commit_and_more(address, &group, 6).join().unwrap().unwrap(), 0, "nothing is held any more");
}

/// A commit that was on its way when its sender died reaches the broker, as it would through a network.
#[test]
fn what_is_held_of_a_dead_sender_can_still_arrive() {
    if let Ok(told) = std::env::var(CHILD) {
        // The sender, which is killed before it hears an answer.
        let (address, group) = told.split_once(' ').unwrap();
        commit_and_more(address.parse().unwrap(), group, 7).join().unwrap().unwrap_err();
        return;
    }
    let cluster = Cluster::start(ClusterSpec { proxied: true, ..ClusterSpec::default() });
    let (group, client, at) = (unique("late"), cluster.client(), ("any".to_owned(), 0));
    client.create_topic("any", 1, &[]).unwrap();
    let commits = cluster.only().proxy().hold_requests(OFFSET_COMMIT);
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["what_is_held_of_a_dead_sender_can_still_arrive", "--exact", "--nocapture"]);
    program.env(CHILD, format!("{} {group}", cluster.only().address()));
    let mut sender = process::spawn(process::mortal(&program)).unwrap();
    until(SOON, "its request is held", || commits.count() == 1);
    sender.kill().unwrap();
    sender.wait().unwrap();
    assert!(client.committed(&group).unwrap().is_empty());
    commits.release();
    until(SOON, "the commit has arrived", || client.committed(&group).unwrap().get(&at).map(|c| c.0) == Some(7));
}

#[test]
fn positions_pend_in_transactions_vanish_one_by_one_and_their_group_is_listed() {
    let (client, topic, group) = (shared_source().client(), unique("positions"), unique("group"));
    client.create_topic(&topic, 2, &[]).unwrap();
    assert_eq!(client.group_state(&group).unwrap(), None);
    client.commit_offsets(&group, &[(&topic, 0, 1), (&topic, 1, 1)], "größer").unwrap();
    assert_eq!(client.group_state(&group).unwrap().as_deref(), Some("Empty"));
    assert_eq!(client.coordinator(&group).unwrap(), 1);
    let epochs = || client.committed_epochs(&group).unwrap().into_values().collect::<Vec<_>>();
    assert_eq!(epochs(), [-1, -1]);
    client.commit_offsets_of_epoch(0, &group, &[(&topic, 1, 1)], "größer").unwrap();
    assert_eq!(epochs(), [-1, 0]);
    let there = || client.committed(&group).unwrap().into_values().map(|(offset, _)| offset).collect::<Vec<_>>();
    for (commit, after) in [(false, [1, 1]), (true, [5, 1])] {
        let mut producer = client.producer(Some(&group)).unwrap();
        let mut transaction = producer.begin();
        transaction.commit_offsets(&group, &[(&topic, 0, 5)], "").unwrap();
        assert_eq!(there(), [1, 1], "pending");
        let for_good = || client.committed_for_good(&group).unwrap().into_values().collect::<Vec<_>>();
        assert_eq!(for_good(), [1], "nothing is said of what may be replaced");
        if commit {
            transaction.commit().unwrap()
        } else {
            transaction.abort().unwrap()
        }
        until(SOON, "the transaction has ended", || there() == after);
    }
    client.delete_offset(&group, &topic, 0).unwrap();
    assert_eq!(there(), [1]);
    client.delete_group(&group).unwrap();
    assert_eq!(client.group_state(&group).unwrap(), None);
}

#[test]
fn twinlog_reads_the_configuration_that_the_test_bed_writes() {
    let users = vec![User::new("admin", "root-pw")];
    let plain = shared_source();
    let secured = Cluster::start(ClusterSpec { security: Security::SaslSsl(users.clone()), ..ClusterSpec::default() });
    let setup = Setup::new(plain, &secured, "dr", &["orders\\..*"], &[".*"]);
    let setup = setup.secured((plain, None), (&secured, Some(&users[0]))).line("naming = { prefix = \"a.\" }");
    let environment = setup.environment.iter().cloned().collect();
    let runner = Twinlog::new("unused", setup.and("[memory]\nbudget = \"4MiB\""));
    let config = Config::load(&runner.config(), &environment).unwrap();
    assert_eq!(config.http.listen, runner.http());
    assert_eq!(config.memory.budget_bytes, 4 << 20);
    let target = &config.clusters["target"];
    assert_eq!(target.bootstrap, secured.bootstrap());
    assert_eq!(target.security.password.as_ref().unwrap().read().unwrap().reveal(), "root-pw");
}

/// A stand-in for the binary: it tells that it runs, and ends in good order when asked.
const STAND_IN: &str =
    "#!/bin/sh\ntrap 'echo drained; exit 3' TERM\necho \"started $*\"\nwhile :; do sleep 0.02; done\n";

#[test]
fn the_runner_starts_freezes_asks_stops_and_kills_a_daemon() {
    let directory = scratch::Scratch::new("stand-in");
    let binary = directory.path().join("twinlog");
    fs::write(&binary, STAND_IN).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let (source, target) = shared_pair();
    let twinlog = Twinlog::new(binary.to_str().unwrap(), Setup::new(source, target, "dr", &[".*"], &[]));
    twinlog.start();
    until(SOON, "it says so", || twinlog.log_text().starts_with("started run --config"));
    let state = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    let pid = twinlog.pid().unwrap();
    twinlog.pause();
    until(SOON, "it is frozen", || state(pid) == Some('T'));
    twinlog.resume();
    until(SOON, "it is awake", || state(pid) != Some('T'));
    assert_eq!(twinlog.stop(SOON).code(), Some(3));
    assert!(twinlog.log_text().ends_with("drained\n"));
    twinlog.start();
    let pid = twinlog.pid().unwrap();
    twinlog.kill9();
    assert_eq!((state(pid), twinlog.pid()), (None, None));

    assert_eq!(twinlog.get("/metrics"), None, "nobody listens on the reserved port");
    let listener = TcpListener::bind(twinlog.http()).unwrap();
    let server = thread::spawn(move || {
        for body in ["# HELP a\na{b=\"1\"} 2\na{b=\"2\"} 0.5\nab 7\n", "gone"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 256];
            let length = stream.read(&mut asked).unwrap();
            assert!(asked[..length].starts_with(b"GET /"));
            write!(stream, "HTTP/1.1 404 Not Found\r\nX: y\r\n\r\n{body}").unwrap();
        }
    });
    assert_eq!(twinlog.metric("a"), Some(2.5));
    assert_eq!(twinlog.get("/x"), Some((404, "gone".to_owned())));
    server.join().unwrap();
}

/// Set for the process that this test starts from its own program, to be killed.
const CHILD: &str = "TWINLOG_TESTBED_CHILD";

#[test]
fn a_broker_dies_with_its_test_process_and_its_directory_with_the_next() {
    if std::env::var_os(CHILD).is_some() {
        // On a thread that ends: the broker must outlive it, and only it.
        let cluster = thread::spawn(|| Cluster::start(ClusterSpec::default())).join().unwrap();
        println!("\n{CHILD} {} {}", cluster.only().pid().unwrap(), scratch::root().display());
        loop {
            thread::park();
        }
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = "a_broker_dies_with_its_test_process_and_its_directory_with_the_next";
    command.args([name, "--exact", "--nocapture"]).env(CHILD, "1");
    let mut command = process::mortal(&command);
    let mut child = process::spawn({
        command.stdout(Stdio::piped());
        command
    })
    .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).find_map(|line| line.strip_prefix(CHILD).map(str::to_owned));
    let said = said.expect("the child tells the broker's pid");
    let mut words = said.split_whitespace();
    let (broker, directory) = (words.next().unwrap(), PathBuf::from(words.next().unwrap()));
    let broker = Path::new("/proc").join(broker).join("cmdline");
    let command_line = || fs::read(&broker).map(|c| String::from_utf8_lossy(&c).into_owned()).unwrap_or_default();
    assert!(command_line().contains("kafka.Kafka"), "the pid is the JVM's own");

    child.kill().unwrap();
    child.wait().unwrap();
    until(Duration::from_secs(5), "the broker is gone", || !command_line().contains("kafka.Kafka"));
    assert!(directory.is_dir());
    let all = scratch::root().parent().unwrap();
    scratch::sweep(all);
    assert!(!directory.exists() && scratch::root().is_dir(), "only what has no owner is swept");
}

#[test]
fn a_killed_broker_comes_back_on_its_port_with_its_records_and_wiped_without() {
    let cluster = Cluster::start(ClusterSpec::default());
    let (client, topic, broker) = (cluster.client(), unique("kept"), cluster.only());
    client.create_topic(&topic, 1, &[]).unwrap();
    write(client, &topic, 0, orders(0..10));
    let address = broker.address();
    broker.kill9();
    assert!(client.clone().patient(Duration::from_secs(1)).partitions(&topic).is_err());
    broker.restart();
    assert_eq!(broker.address(), address);
    assert_eq!(until_some(SOON, "records are back", || View::read(client, &topic, 0).ok()).seen().len(), 10);
    broker.kill9();
    broker.wipe();
    broker.restart();
    assert_eq!(client.bounds(&topic, 0).unwrap(), (0, 0));
}
