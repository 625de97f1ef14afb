//! A network that goes silent, is far, or is rationed: the copy goes on by itself, exact, and says what holds it up.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::groups::exact;
use super::member::{Commits, Member, Protocol};
use super::*;
use crate::support::load::{Load, LoadSpec};
use crate::support::proxy::Proxy;
use crate::support::raw::{CONSUMER_BYTES, PRODUCER_BYTES, REQUEST_PERCENT};
use crate::support::{ClusterSpec, until};

/// Two clusters behind wires of their own.
struct Pair {
    source: Cluster,
    target: Cluster,
}

/// One scenario at a time may have them; booted once for all.
fn pair() -> MutexGuard<'static, Pair> {
    static PAIR: LazyLock<Mutex<Pair>> = LazyLock::new(|| {
        let spec = ClusterSpec { proxied: true, ..ClusterSpec::default() };
        let (source, target) = super::brokers::started([spec.clone(), spec]);
        Mutex::new(Pair { source, target })
    });
    PAIR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mirror of one topic and one group, while records are written.
struct Scene<'a> {
    source: &'a Cluster,
    target: &'a Cluster,
    topic: String,
    group: String,
    mirror: Twinlog,
    load: Load,
}

impl<'a> Scene<'a> {
    fn begin(pair: &'a Pair) -> Scene<'a> {
        let (topic, group) = (unique("network"), unique("group"));
        let Pair { source, target } = pair;
        for proxy in [source, target].map(|side| side.only().proxy()) {
            // As a scenario that failed has left it.
            proxy.mend();
            proxy.delay(Duration::ZERO);
        }
        source.client().create_topic(&topic, 3, &[]).unwrap();
        let mirror = twinlog(link(source, target, &[&topic], &[&format!("{group}.*")]));
        mirror.start_ready();
        let spec =
            LoadSpec { pause: Duration::from_millis(20), transaction_every: Some(20), ..LoadSpec::new(&topic, 3) };
        let load = Load::start(addresses(source), spec);
        let scene = Scene { source, target, topic, group, mirror, load };
        scene.goes_on("at first");
        scene
    }

    fn proxies(&self) -> [&'a Proxy; 2] {
        [self.source, self.target].map(|side| side.only().proxy())
    }

    /// Waits until what has been written by now is on the target, and the group stands behind it; how long that took.
    #[track_caller]
    fn goes_on(&self, what: &str) -> Duration {
        let begun = Instant::now();
        let ends: Vec<i64> = (0..3).map(|p| self.source.client().bounds(&self.topic, p).unwrap().1).collect();
        let at: Vec<_> = (0..).zip(&ends).map(|(partition, end)| (self.topic.as_str(), partition, *end)).collect();
        self.source.client().commit_offsets(&self.group, &at, "").unwrap();
        let mut both = twins(self.source, self.target, &self.topic);
        let written = both.difference().unwrap().records;
        until(2 * SOON, &format!("it goes on {what}"), || {
            self.mirror.assert_running();
            let now = both.difference().unwrap();
            assert!(now.is_prefix(), "{what}: {now}");
            now.records - now.behind >= written
        });
        until(2 * SOON, &format!("the group follows {what}"), || exact(self.source, self.target, &self.group));
        begun.elapsed()
    }

    /// The link's report.
    fn told(&self) -> Option<serde_json::Value> {
        let (_, body) = self.mirror.get(&format!("/v1/links/{}", self.mirror.link()))?;
        serde_json::from_str(&body).ok()
    }

    /// What is told of the partitions' lags, where they are listed.
    fn lags(&self) -> Option<Vec<serde_json::Value>> {
        let told = self.told()?;
        Some(told["partitions"].as_array()?.iter().map(|p| p["lag_records"].clone()).collect())
    }

    /// What the link tells that is wrong with it: why it does not run, its problems, and why partitions do not replicate.
    fn troubles(&self) -> Option<Vec<String>> {
        let told = self.told()?;
        let state = Some(&told["state"]).filter(|state| **state != "running");
        let waiting =
            told["partitions"].as_array()?.iter().filter(|p| p["state"] != "replicating").map(|p| &p["reason"]);
        let all = state.into_iter().chain(told["problems"].as_array()?).chain(waiting);
        Some(all.map(|trouble| trouble.to_string()).collect())
    }
}

#[test]
fn who_is_not_heard_any_more_is_left_for_a_new_connection_and_silence_is_told() {
    let pair = pair();
    let scene = Scene::begin(&pair);
    for (side, proxy) in ["source", "target"].into_iter().zip(scene.proxies()) {
        for _ in 0..rounds(1, 10) {
            // Whatever was open is dead for good, and nobody is told.
            proxy.swallow();
            proxy.mend();
            println!("every connection to the {side} silent: {:?}", scene.goes_on("by new connections"));
        }
        until(SOON, "nothing is wrong any more", || scene.troubles().is_some_and(|troubles| troubles.is_empty()));
        let begun = Instant::now();
        proxy.swallow();
        let of_the_side = |trouble: &String| trouble.contains(&format!("cluster {side}"));
        until(SOON, &format!("the silence of the {side} is told"), || {
            scene.troubles().is_some_and(|troubles| troubles.iter().any(of_the_side))
        });
        println!("the silence of the {side} is told after {:?}: {:?}", begun.elapsed(), scene.troubles());
        if side == "source" {
            until(SOON, "nobody claims to know how far behind we are", || {
                let lags = scene.lags().unwrap_or_default();
                !lags.is_empty() && lags.iter().all(serde_json::Value::is_null)
            });
        }
        proxy.mend();
        println!("and over: {:?}", scene.goes_on("when it is heard again"));
    }
    scene.load.stop();
    twins(scene.source, scene.target, &scene.topic).settle(2 * SOON);
    assert!(scene.mirror.stop(SOON).success());
}

#[test]
fn two_hundred_milliseconds_away_it_copies_exactly_and_a_group_moves_without_a_loss() {
    let pair = pair();
    let scene = Scene::begin(&pair);
    scene.proxies().iter().for_each(|proxy| proxy.delay(Duration::from_millis(100)));
    println!("both sides 200 ms away: {:?} until all is there", scene.goes_on("from far"));
    // A planned switch: the application works at the source, leaves, and goes on at the target.
    let (source, target, topic) = (scene.source, scene.target, scene.topic.clone());
    let moving = format!("{}-moving", scene.group);
    let join = |at: &Cluster| Member::join(&at.bootstrap(), &moving, &topic, Protocol::Classic, Commits::Always);
    let member = join(source);
    until(2 * SOON, "the group has read a good part", || member.count() > 500);
    let before = member.leave();
    let proxies = scene.proxies();
    let switched = Instant::now();
    let written = scene.load.stop();
    twins(source, target, &topic).settle(2 * SOON);
    until(SOON, "the position is carried over", || exact(source, target, &moving));
    println!("exact {:?} after the last commit", switched.elapsed());
    let member = join(target);
    let rest = written.records() as usize - before.len();
    until(2 * SOON, "the group has read the rest", || member.count() >= rest);
    let after = member.leave();
    let read: BTreeSet<u64> = before.iter().chain(&after).copied().collect();
    assert_eq!(read, written.acknowledged.values().flatten().copied().collect(), "read and written");
    assert_eq!(before.len() + after.len(), read.len(), "records read twice");
    proxies.iter().for_each(|proxy| proxy.delay(Duration::ZERO));
    assert!(scene.mirror.stop(SOON).success());
}

#[test]
fn quotas_of_either_side_slow_the_copy_and_break_nothing() {
    let pair = pair();
    let scene = Scene::begin(&pair);
    let ids = scene.mirror.client_ids();
    let ids = ids.each_ref().map(String::as_str);
    let counted = |name: &str| scene.mirror.metric(name).unwrap_or(0.0);
    let before = ["twinlog_failures_total", "twinlog_attaches_total"].map(counted);
    let mut next = 1 << 50;
    for (name, side, quota, amount) in [
        ("target", scene.target, PRODUCER_BYTES, 100_000.0),
        ("source", scene.source, CONSUMER_BYTES, 100_000.0),
        ("target", scene.target, REQUEST_PERCENT, 1.0),
        ("source", scene.source, REQUEST_PERCENT, 1.0),
    ] {
        side.client().set_quotas(&ids, &[(quota, Some(amount))]).unwrap();
        for partition in 0..3 {
            for _ in 0..rounds(1, 20) {
                let records = (next..next + 400).map(|id| Record::order(id, 1000)).collect();
                write(scene.source.client(), &scene.topic, partition, records, Codec::None);
                next += 400;
            }
        }
        println!("{quota} {amount} at the {name}: {:?} until all is there", scene.goes_on("under a quota"));
        until(SOON, "nothing is told to be wrong", || scene.troubles().is_some_and(|troubles| troubles.is_empty()));
        side.client().set_quotas(&ids, &[(quota, None)]).unwrap();
    }
    assert_eq!(["twinlog_failures_total", "twinlog_attaches_total"].map(counted), before, "failures and attaches");
    let log = scene.mirror.log_text();
    assert!(!log.contains("link interrupted"), "{log}");
    scene.load.stop();
    twins(scene.source, scene.target, &scene.topic).settle(2 * SOON);
    assert!(scene.mirror.stop(SOON).success());
}
