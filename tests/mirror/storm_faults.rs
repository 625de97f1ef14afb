//! What can befall a mirror, by chance: each fault begins at some moment and is taken back some seconds later.

use std::collections::BTreeMap;
use std::time::Instant;

use rand::Rng;
use rand::rngs::StdRng;

use super::*;
use crate::support::broker::Broker;
use crate::support::proxy::Proxy;
use crate::support::raw::{CONSUMER_BYTES, Election, PRODUCER_BYTES};

/// Names of the sides, for messages.
const SIDES: [&str; 2] = ["source", "target"];

/// Something that is wrong at the moment; brokers and clusters by their side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// Killed or stopped.
    Down(usize, i32),
    /// Started again, and not there yet.
    Starting(usize, i32),
    Frozen(usize, i32),
    /// Cut off from its clients, or silent.
    Unreachable(usize, i32),
    /// Each of a cluster's brokers is some way off.
    Distant(usize),
    Throttled(usize),
    TwinlogFrozen,
}

/// The faults of a storm.
pub struct Faults<'a> {
    sides: [&'a Cluster; 2],
    clients: [Client; 2],
    mirror: &'a Twinlog,
    topics: &'a [String],
    dice: StdRng,
    wrong: Vec<(Instant, Wrong)>,
    /// How often what was done.
    pub done: BTreeMap<String, usize>,
}

impl<'a> Faults<'a> {
    /// Nothing is wrong yet. Whatever befalls the mirror, it must run.
    pub fn new(sides: [&'a Cluster; 2], mirror: &'a Twinlog, topics: &'a [String], dice: StdRng) -> Faults<'a> {
        // What needs an answer of a cluster that has none at the moment is left.
        let clients = sides.map(|side| Client::new(addresses(side)).patient(Duration::from_secs(4)));
        Faults { sides, clients, mirror, topics, dice, wrong: Vec::new(), done: BTreeMap::new() }
    }

    /// One fault more, which lasts for some seconds, and some time without another one; takes back what has lasted.
    pub fn strike(&mut self, twinlog_dies: bool) {
        self.mirror.assert_running();
        let side = self.dice.random_range(0..2);
        let broker = self.dice.random_range(1..=self.sides[side].brokers().len() as i32);
        let what = match self.dice.random_range(0..100) {
            0..15 if twinlog_dies => self.twinlog_dies(),
            0..15 => "nothing",
            15..20 => self.twinlog_freezes(),
            20..32 => self.broker_ends(side, broker, Broker::kill9, "a broker killed"),
            32..40 => self.broker_ends(side, broker, Broker::shut_down, "a broker stopped"),
            40..50 => self.broker_freezes(side, broker),
            50..60 => self.leaders_move(side),
            60..70 => self.unreachable(side, broker, |proxy| proxy.cut(), "a broker cut off"),
            70..82 => self.unreachable(side, broker, |proxy| proxy.swallow(), "a broker silent"),
            82..92 => self.distant(side),
            _ => self.throttled(side),
        };
        let of_a_side = what != "nothing" && !what.starts_with("Twinlog");
        let what = if of_a_side { format!("{what} ({})", SIDES[side]) } else { what.to_owned() };
        *self.done.entry(what).or_default() += 1;
        let pause = Duration::from_millis(self.dice.random_range(200..3500));
        let until = Instant::now() + pause;
        while Instant::now() < until {
            self.take_back(Instant::now());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes everything back and waits until all brokers answer.
    pub fn relent(&mut self) {
        let end = Instant::now() + Duration::from_secs(3600);
        crate::support::until(3 * SOON, "all brokers are back", || {
            self.take_back(end);
            self.wrong.is_empty()
        });
        self.mirror.assert_running();
    }

    fn take_back(&mut self, now: Instant) {
        for (until, wrong) in std::mem::take(&mut self.wrong) {
            if until > now {
                self.wrong.push((until, wrong));
                continue;
            }
            let of = |side: usize, id| self.sides[side].broker(id);
            match wrong {
                Wrong::Down(side, id) => {
                    of(side, id).launch();
                    self.wrong.push((now, Wrong::Starting(side, id)));
                }
                Wrong::Starting(side, id) => match of(side, id).is_ready(1) {
                    Ok(true) => {}
                    Ok(false) => self.wrong.push((until, wrong)),
                    Err(why) => panic!("broker {id} of the {} did not restart: {why}", SIDES[side]),
                },
                Wrong::Frozen(side, id) => of(side, id).resume(),
                Wrong::Unreachable(side, id) => of(side, id).proxy().mend(),
                Wrong::Distant(side) => {
                    self.sides[side].brokers().iter().for_each(|broker| broker.proxy().delay(Duration::ZERO));
                }
                Wrong::Throttled(side) => {
                    let removed = [(PRODUCER_BYTES, None), (CONSUMER_BYTES, None)];
                    if self.quotas(side, &removed).is_err() {
                        self.wrong.push((now + Duration::from_secs(1), wrong));
                    }
                }
                Wrong::TwinlogFrozen => self.mirror.resume(),
            }
        }
    }

    /// Mostly some seconds, sometimes longer than any lease or time-out of the network.
    fn begin(&mut self, wrong: Wrong) {
        let millis = if self.dice.random_bool(0.1) { 12_000..20_000 } else { 300..6_000 };
        let lasts = Duration::from_millis(self.dice.random_range(millis));
        self.wrong.push((Instant::now() + lasts, wrong));
    }

    fn twinlog_is_frozen(&self) -> bool {
        self.wrong.iter().any(|(_, wrong)| *wrong == Wrong::TwinlogFrozen)
    }

    fn twinlog_dies(&mut self) -> &'static str {
        if self.twinlog_is_frozen() {
            return "nothing";
        }
        let killed = self.dice.random_bool(0.7);
        if killed {
            self.mirror.kill9();
        } else {
            self.mirror.stop(SOON);
        }
        self.mirror.start();
        if killed { "Twinlog killed" } else { "Twinlog stopped" }
    }

    /// Alone it may sleep as long as it likes.
    fn twinlog_freezes(&mut self) -> &'static str {
        if self.twinlog_is_frozen() {
            return "nothing";
        }
        self.mirror.pause();
        self.begin(Wrong::TwinlogFrozen);
        "Twinlog frozen"
    }

    /// One broker of a cluster at a time: the others have what it had.
    fn is_whole(&self, of: usize) -> bool {
        !self.wrong.iter().any(|(_, wrong)| match *wrong {
            Wrong::Down(side, _) | Wrong::Starting(side, _) | Wrong::Frozen(side, _) => side == of,
            _ => false,
        })
    }

    fn broker_ends(&mut self, side: usize, id: i32, end: fn(&Broker), what: &'static str) -> &'static str {
        if !self.is_whole(side) {
            return "nothing";
        }
        end(self.sides[side].broker(id));
        self.begin(Wrong::Down(side, id));
        what
    }

    fn broker_freezes(&mut self, side: usize, id: i32) -> &'static str {
        if !self.is_whole(side) {
            return "nothing";
        }
        self.sides[side].broker(id).pause();
        self.begin(Wrong::Frozen(side, id));
        "a broker frozen"
    }

    fn leaders_move(&mut self, side: usize) -> &'static str {
        let brokers = self.sides[side].brokers().len() as i32;
        let first = self.dice.random_range(0..brokers);
        let replicas: Vec<i32> = (0..brokers).map(|n| (first + n) % brokers + 1).collect();
        let topic = &self.topics[self.dice.random_range(0..self.topics.len())];
        let client = &self.clients[side];
        for partition in 0..client.partitions(topic).unwrap_or(0) {
            // Refused while the replicas are not all there.
            let _ = client.reassign(topic, partition, &replicas);
            let _ = client.elect(topic, partition, Election::Preferred);
        }
        "leaders moved"
    }

    /// One broker, or all of them.
    fn unreachable(&mut self, side: usize, id: i32, how: fn(&Proxy), what: &'static str) -> &'static str {
        let all = self.dice.random_bool(0.3);
        for broker in self.sides[side].brokers().iter().filter(|broker| all || broker.id() == id) {
            how(broker.proxy());
            self.begin(Wrong::Unreachable(side, broker.id()));
        }
        what
    }

    /// 200 ms there and back.
    fn distant(&mut self, side: usize) -> &'static str {
        self.sides[side].brokers().iter().for_each(|broker| broker.proxy().delay(Duration::from_millis(100)));
        self.begin(Wrong::Distant(side));
        "200 ms away"
    }

    fn throttled(&mut self, side: usize) -> &'static str {
        let few = Some(f64::from(self.dice.random_range(2_000..200_000)));
        if self.quotas(side, &[(PRODUCER_BYTES, few), (CONSUMER_BYTES, few)]).is_err() {
            return "nothing";
        }
        self.begin(Wrong::Throttled(side));
        "throttled"
    }

    fn quotas(&self, side: usize, quotas: &[(&str, Option<f64>)]) -> crate::support::raw::Result<()> {
        let ids = self.mirror.client_ids();
        self.clients[side].set_quotas(&ids.each_ref().map(String::as_str), quotas)
    }
}
