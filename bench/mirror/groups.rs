//! Many groups with ten partitions each: what following them costs, and how soon a commit shows on the target.

use std::thread;
use std::time::{Duration, Instant};

use super::mirror::{forget, twinlog};
use super::payload::Payload;
use super::summary::{Table, percentile};
use super::support::batch::Codec;
use super::support::raw::Client;
use super::support::unique;
use super::{Bench, ends, usage};

const GROUPS: [usize; 2] = [1_000, 10_000];
const PARTITIONS: i32 = 10;
const MEASURED: Duration = Duration::from_secs(20);
/// Commits watched, and by how many at a time.
const SAMPLES: usize = 200;
const WATCHERS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures and prints the table.
pub fn run(bench: &Bench) {
    let mut table = Table::new(&[
        "groups × partitions",
        "pid",
        "of a core, nothing commits",
        "of a core, 4 groups commit at a time",
        "of a core, each commits once a minute",
        "peak memory",
        "commit → target p50 / p99",
        "start → all followed",
        "goal",
    ]);
    for groups in GROUPS {
        (0..bench.options.rounds).for_each(|_| table.row(measure(bench, groups)));
    }
    println!("{table}");
}

fn measure(bench: &Bench, groups: usize) -> [String; 9] {
    let (topic, stem) = (unique("followed"), unique("group"));
    let filled = Payload::new(Codec::Lz4).fill(&bench.source, &topic, PARTITIONS, 20_000);
    let name = |n: usize| format!("{stem}-{n}");
    commit(bench, groups, |n| (name(n), 100), &topic);
    let (mirror, copy) = twinlog(bench, &topic, &[&format!("{stem}-.*")], |setup| setup);
    let launched = Instant::now();
    mirror.start();
    let target = bench.target.client();
    let mut followed = 0;
    while ends::total(target, &copy, PARTITIONS) < filled.records || followed < groups {
        assert!(launched.elapsed() < PATIENCE, "the groups do not follow: {}", mirror.log_text());
        while followed < groups && stands(target, &name(followed), &copy, 100) {
            followed += 1;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let all_followed = launched.elapsed();
    let pid = mirror.pid().expect("it runs");
    let share = |work: &mut dyn FnMut()| {
        let (before, begun) = (usage::cpu(pid), Instant::now());
        work();
        (usage::cpu(pid) - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0
    };
    let quiet = share(&mut || thread::sleep(MEASURED));
    let mut delays = Vec::new();
    let busy = share(&mut || delays = watch(bench, groups, &name, &topic, &copy));
    let paced = share(&mut || commit_in_turn(bench, groups, &name, &topic));
    let (_, peak) = usage::memory(pid);
    drop(mirror);
    // The next round's brokers shall have no others to list.
    for client in [bench.source.client(), target] {
        (0..groups).for_each(|n| client.delete_group(&name(n)).expect("nobody is in it"));
    }
    forget(target, &copy);
    forget(bench.source.client(), &topic);
    let ms = |part: usize| format!("{:.0}", percentile(&delays, part) * 1e3);
    [
        format!("{groups} × {PARTITIONS}"),
        pid.to_string(),
        format!("{quiet:.1} %"),
        format!("{busy:.1} %"),
        format!("{paced:.1} %"),
        format!("{} MiB", peak >> 20),
        format!("{} / {} ms", ms(50), ms(99)),
        format!("{:.1} s", all_followed.as_secs_f64()),
        "< 5 %, p99 < 250 ms".into(),
    ]
}

/// Commits on the source at moments that have nothing to do with the mirror's, and waits for each on the target.
fn watch(bench: &Bench, groups: usize, name: &(dyn Fn(usize) -> String + Sync), topic: &str, copy: &str) -> Vec<f64> {
    thread::scope(|scope| {
        let watcher = |watcher: usize| {
            let source = Client::new(vec![bench.source.only().inner_address()]);
            let target = Client::new(vec![bench.target.only().inner_address()]);
            let mut delays = Vec::new();
            for n in (watcher..SAMPLES).step_by(WATCHERS) {
                thread::sleep(Duration::from_millis(rand::random_range(0..500)));
                let (group, offset) = (name(n * (groups / SAMPLES)), 101 + n as i64);
                let begun = Instant::now();
                let at: Vec<_> = (0..PARTITIONS).map(|p| (topic, p, offset)).collect();
                source.commit_offsets(&group, &at, "").expect("the commit is accepted");
                while !stands(&target, &group, copy, offset) {
                    assert!(begun.elapsed() < PATIENCE, "{group} does not follow");
                    thread::sleep(Duration::from_millis(10));
                }
                delays.push(begun.elapsed().as_secs_f64());
            }
            delays
        };
        let watchers: Vec<_> = (0..WATCHERS).map(|w| scope.spawn(move || watcher(w))).collect();
        watchers.into_iter().flat_map(|w| w.join().expect("the watcher does not fail")).collect()
    })
}

/// One group after the other commits, evenly, so that all would have within a minute.
fn commit_in_turn(bench: &Bench, groups: usize, name: &dyn Fn(usize) -> String, topic: &str) {
    let (began, pause) = (Instant::now(), Duration::from_secs(60) / groups as u32);
    for n in 0..groups {
        let due = began + pause * n as u32;
        if due - began >= MEASURED {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let at: Vec<_> = (0..PARTITIONS).map(|p| (topic, p, 500)).collect();
        bench.source.client().commit_offsets(&name(n), &at, "").expect("the commit is accepted");
    }
    assert!(began.elapsed() < MEASURED * 11 / 10, "the source takes no such rate: {:?}", began.elapsed());
}

/// Commits one offset in all partitions for the first `count` groups.
fn commit(bench: &Bench, count: usize, what: impl Fn(usize) -> (String, i64), topic: &str) {
    for n in 0..count {
        let (group, offset) = what(n);
        let at: Vec<_> = (0..PARTITIONS).map(|p| (topic, p, offset)).collect();
        bench.source.client().commit_offsets(&group, &at, "").expect("the commit is accepted");
    }
}

/// Whether a group stands at this offset in every partition (no gaps: both sides have equal offsets).
fn stands(target: &Client, group: &str, copy: &str, offset: i64) -> bool {
    let Ok(at) = target.committed(group) else { return false };
    (0..PARTITIONS).all(|p| at.get(&(copy.to_owned(), p)).is_some_and(|(there, _)| *there == offset))
}
