//! Whole lives of a link under dice: traffic, faults at every call, crashes at any await, and the same two clusters again
//! and again. In the end the target is the source, and every offset translates.

use super::*;
use crate::batch::Codec;
use crate::endpoint::ErrorKind;
use crate::endpoint::memory::{Call, Disturbance, Transaction};

const SEEDS: Range<u64> = 0..300;

/// `TWINLOG_SEEDS=FIRST..END` for a soak, or to see one seed again.
fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("TWINLOG_SEEDS") else { return SEEDS };
    let parsed = asked.split_once("..").and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    parsed.unwrap_or_else(|| panic!("TWINLOG_SEEDS is FIRST..END, not {asked}"))
}

/// SplitMix64: the same rolls for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

struct World {
    dice: Dice,
    twin: Twin,
    produced: i64,
    open: Option<Transaction>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let start = dice.one_of(&[Start::Earliest, Start::Earliest, Start::Latest]);
        let mut world = Self { dice, twin: Twin { start, ..Twin::new() }, produced: 0, open: None };
        for _ in 0..world.dice.below(6) {
            world.traffic();
        }
        world
    }

    /// Every call takes its time, so that a crash can come before, within and behind each.
    fn slow_down(&mut self) {
        for call in [Call::Catalog, Call::PointRead, Call::Attach, Call::LedgerAppend, Call::Ack, Call::Read] {
            for cluster in [&self.twin.source, &self.twin.target] {
                cluster.delay(call, Duration::from_millis(self.dice.below(5)));
            }
        }
        // Only what is at hand is joined.
        if self.dice.one_in(2) {
            self.twin.source.delay(Call::Read, Duration::ZERO);
        }
    }

    fn records(&mut self) -> Vec<Record> {
        let from = self.produced;
        self.produced += 1 + self.dice.below(4) as i64;
        let aged = self.dice.one_in(4);
        (from..self.produced).map(|n| if aged { old(n) } else { fresh(n) }).collect()
    }

    fn traffic(&mut self) {
        let records = self.records();
        match self.dice.below(6) {
            0 => match self.open.take() {
                Some(open) if self.dice.one_in(2) => open.commit(),
                Some(open) => open.abort(),
                None => self.open = Some(self.twin.source.transaction()),
            },
            // A backlog of tiny batches.
            3 if self.dice.one_in(2) => {
                for _ in 0..10 + self.dice.below(20) {
                    self.twin.source.append(&at(0), &[fresh(self.produced)]);
                    self.produced += 1;
                }
            }
            1 | 2 if self.open.is_some() => {
                let open = self.open.as_mut().expect("just looked");
                open.append(&at(0), &records);
            }
            _ => {
                let codec = self.dice.one_of(&[Codec::None, Codec::Lz4, Codec::Zstd]);
                self.twin.source.append_compressed(&at(0), &records, codec);
            }
        }
    }

    fn trouble(&mut self) {
        let Twin { source, target, .. } = &self.twin;
        let dice = &mut self.dice;
        let here = &at(0);
        match dice.below(12) {
            0..=3 => {
                let kinds = [
                    Disturbance::LoseRequest,
                    Disturbance::LoseAck,
                    Disturbance::Hold,
                    Disturbance::Refuse(ErrorKind::Retryable),
                ];
                let (skipping, kind) = (dice.below(3) as usize, dice.one_of(&kinds));
                target.disturb(here, skipping, kind);
            }
            4 => target.release_held(),
            5 => target.elect(here),
            6 => target.restart(here),
            7 => target.hold_followers(here),
            8 => target.release_followers(here),
            9 => {
                target.elect_without_unreplicated(here);
                target.release_followers(here);
            }
            10 => {
                let lost = dice.below(6) as i64;
                target.elect_without(here, Offset((target.log_end(here).0 - lost).max(0)));
            }
            _ => {
                source.elect(here);
                let calls = [Call::Catalog, Call::Read, Call::PointRead];
                source.fail_next(dice.one_of(&calls), 1, ErrorKind::Retryable);
                let calls = [Call::PointRead, Call::Attach, Call::LedgerAppend];
                target.fail_next(dice.one_of(&calls), 1, ErrorKind::Retryable);
            }
        }
    }

    /// One process: it copies while things happen, and is stopped or killed at any moment.
    async fn live(&mut self) {
        self.slow_down();
        let run = self.twin.run().await;
        for _ in 0..self.dice.below(14) {
            match self.dice.below(8) {
                0..=2 => self.traffic(),
                3..=5 => self.trouble(),
                6 => {
                    run.monitor().settle_anchor();
                    // Killed in mid-flush, as often as not.
                    let patience = Duration::from_millis(self.dice.below(6));
                    let _ = tokio::time::timeout(patience, run.ledger.flush_maps(&[at(0)])).await;
                }
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(self.dice.below(40))).await;
        }
        run.crash().await;
    }

    /// The world calms down: the mirror catches up and is exact. Answers how many batches were joined with others, at least.
    async fn end_well(mut self, seed: u64) -> usize {
        self.open.take().into_iter().for_each(Transaction::commit);
        self.twin.target.heal();
        self.twin.source.heal();
        if self.dice.one_in(2) {
            self.twin.target.release_held();
        }
        self.twin.target.release_followers(&at(0));
        for restart in ["after the storm", "after one more restart"] {
            let run = self.twin.run().await;
            self.twin.target.release_held();
            let end = self.twin.source.log_end(&at(0));
            let caught_up = until("the mirror caught up", || {
                run.monitor().position().is_some_and(|(position, _)| position == end).then_some(())
            });
            tokio::select! {
                () = caught_up => {}
                halt = run.halted() => panic!("seed {seed} halted {restart}: {halt:?}"),
            }
            self.twin.assert_exact(&run, &format!("seed {seed} {restart}"));
            run.flush().await;
            run.crash().await;
        }
        let (source, target) = (self.twin.source.batches(&at(0)), self.twin.target.batches(&at(0)));
        source.saturating_sub(target)
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_breaks_and_whenever_it_is_killed_the_target_becomes_the_source() {
    let mut joined = 0;
    for seed in seeds() {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..1 + world.dice.below(4) {
            world.live().await;
        }
        joined += world.end_well(seed).await;
    }
    assert!(joined > 0 || seeds().count() < SEEDS.count(), "no tiny batches were ever joined");
}
