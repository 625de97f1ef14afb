//! What both acts play on: two clusters, Twinlog between them, producers and their topics.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use twinlog::link::report::{GroupReport, LinkReport};

use crate::count::Topic;
use crate::support::batch::Codec;
use crate::support::broker::Broker;
use crate::support::cluster::CURRENT;
use crate::support::load::{Load, LoadSpec, Written};
use crate::support::view::View;
use crate::support::{Cluster, ClusterSpec, Setup, Twinlog};

/// One per producer, so that its ids grow with the log of each partition.
pub const TOPICS: [&str; 2] = ["orders.web", "orders.shop"];
/// Of each topic.
const PARTITIONS: i32 = 3;
/// Name of the link.
const LINK: &str = "demo";
/// Longest wait for anything that takes a moment on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Offsets by topic and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;
/// What each producer wrote, in the order of [`TOPICS`].
pub type AllWritten = Vec<Written>;

/// Two real Kafka clusters and Twinlog; all of it dies with it.
pub struct Stage {
    pub source: Cluster,
    pub target: Cluster,
    pub twinlog: Twinlog,
}

impl Stage {
    /// Boots everything.
    pub fn set() -> Stage {
        println!("Booting two Kafka {CURRENT} clusters on loopback (the first time, Maven fetches Kafka) …");
        let boot = || Cluster::start(ClusterSpec::default());
        let (source, target) = thread::scope(|both| {
            let target = both.spawn(boot);
            (boot(), target.join().expect("the target boots"))
        });
        for topic in TOPICS {
            source.client().create_topic(topic, PARTITIONS, &[]).expect("a new cluster takes topics");
        }
        let setup = Setup::new(&source, &target, LINK, &["orders\\..*"], &[".*"]);
        let binary = binary();
        let twinlog = Twinlog::new(binary.to_str().expect("cargo's paths are text"), setup);
        println!("  source {}   target {}", source.bootstrap(), target.bootstrap());
        Stage { source, target, twinlog }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        TOPICS.len() * PARTITIONS as usize
    }

    /// Starts one producer per topic; `generation` keeps their ids apart from those of former ones.
    pub fn produce(&self, to: &Cluster, generation: u64) -> Vec<Load> {
        let start = |(number, topic): (u64, &&str)| {
            let spec = LoadSpec {
                codecs: vec![Codec::Lz4],
                transaction_every: Some(10),
                transactional_id: Some(format!("{topic}-producer")),
                first_id: (2 * generation + number) << 32,
                ..LoadSpec::new(topic, PARTITIONS)
            };
            Load::start(to.brokers().iter().map(Broker::inner_address).collect(), spec)
        };
        (0..).zip(&TOPICS).map(start).collect()
    }

    /// What the daemon says of the link, once it answers.
    pub fn report(&self) -> Option<LinkReport> {
        let (_, body) = self.twinlog.get("/v1/links")?;
        serde_json::from_str::<Vec<LinkReport>>(&body).ok()?.into_iter().next()
    }

    /// What the daemon says of a group, once it knows it.
    pub fn group(&self, name: &str) -> Option<GroupReport> {
        let (_, body) = self.twinlog.get(&format!("/v1/links/{LINK}/groups"))?;
        let groups: Vec<GroupReport> = serde_json::from_str(&body).ok()?;
        groups.into_iter().find(|g| g.group.as_str() == name)
    }

    /// Where a group stands, by the word of a cluster itself.
    pub fn committed(&self, on: &Cluster, group: &str) -> Offsets {
        let committed = on.client().committed(group).expect("the cluster answers");
        committed.into_iter().map(|(at, (offset, _))| (at, offset)).collect()
    }

    /// Behind the last order that a consumer can see, in every partition of a cluster.
    pub fn ends(&self, of: &Cluster) -> Offsets {
        let end = |view: View| view.seen().last().map_or(0, |last| last.offset + 1);
        let of_topic = |topic: &'static str| views(of, topic).map(move |(p, view)| ((topic.to_owned(), p), end(view)));
        TOPICS.into_iter().flat_map(of_topic).collect()
    }

    /// What was written, topic by topic, and the twin as a consumer sees it now.
    pub fn topics<'a>(&self, written: &'a [Vec<Written>]) -> Vec<Topic<'a>> {
        let ids = |view: View| view.seen().iter().map(|seen| seen.id.expect("every order has an id")).collect();
        let twin = |topic: &'static str| views(&self.target, topic).map(|(p, view)| (p, ids(view))).collect();
        TOPICS.iter().zip(written).map(|(topic, written)| Topic { written, twin: twin(topic) }).collect()
    }

    /// Stops Twinlog as an operator does: it finishes what it has in hand.
    pub fn stop_twinlog(&self) {
        let status = self.twinlog.stop(PATIENCE);
        assert!(status.success(), "Twinlog ended with {status}:\n{}", self.twinlog.log_text());
    }
}

fn views(of: &Cluster, topic: &'static str) -> impl Iterator<Item = (i32, View)> {
    (0..PARTITIONS).map(move |p| (p, View::read(of.client(), topic, p).expect("the cluster answers")))
}

/// Stops producers in the background: one whose cluster is gone first waits for its last request.
pub fn retire(producers: Vec<Load>) -> JoinHandle<AllWritten> {
    thread::spawn(|| {
        let stopping: Vec<_> = producers.into_iter().map(|p| thread::spawn(|| p.stop())).collect();
        stopping.into_iter().map(|p| p.join().expect("a producer does not panic")).collect()
    })
}

/// The binary that was built together with this example.
fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("Linux tells what is running");
    let binary = own.parent().and_then(|d| d.parent()).expect("cargo puts examples two levels down").join("twinlog");
    assert!(binary.is_file(), "{} is not built: use `make demo`", binary.display());
    binary
}
