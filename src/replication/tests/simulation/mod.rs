//! Whole lives of a link under dice: traffic, faults at every call, crashes at any await, and the same two clusters again
//! and again. After every step the target is a prefix of the source and what is mapped translates; in the end the target is
//! the source.

mod dice;
mod memory;
mod sockets;

use super::*;
use crate::batch::Codec;
use crate::endpoint::memory::{Call, Transaction};
use dice::{Dice, each_seed};

/// Two clusters and what happens to them.
struct World {
    dice: Dice,
    twin: Twin,
    /// How long the longest pause between two steps is, milliseconds.
    stride_ms: u64,
    trouble: fn(&mut World),
    produced: i64,
    open: Option<Transaction>,
    /// An unclean election at the target may have taken what was acknowledged, and nobody may have noticed yet.
    lost_acknowledged: bool,
}

impl World {
    fn new(mut dice: Dice, twin: Twin, stride_ms: u64, trouble: fn(&mut World)) -> Self {
        let start = dice.one_of(&[Start::Earliest, Start::Earliest, Start::Latest]);
        let twin = Twin { start, ..twin };
        let mut world = Self { dice, twin, stride_ms, trouble, produced: 0, open: None, lost_acknowledged: false };
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

    /// The target's leader is another one that lacks some of what was acknowledged, from `first` on.
    fn lose_acknowledged_behind(&mut self, first: Offset) {
        let (lost, end) = (self.dice.below(6) as i64, self.twin.target.log_end(&at(0)));
        self.twin.target.elect_without(&at(0), Offset((end.0 - lost).max(first.0)));
        self.lost_acknowledged = true;
    }

    /// One process: it copies while things happen, and is stopped or killed at any moment.
    async fn live(&mut self, what: &str) {
        self.slow_down();
        let run = self.twin.run().await;
        for step in 0..self.dice.below(14) {
            match self.dice.below(8) {
                0..=2 => self.traffic(),
                3..=5 => (self.trouble)(self),
                6 => {
                    run.monitor().settle_anchor();
                    // Killed in mid-flush, as often as not.
                    let patience = Duration::from_millis(self.dice.below(6));
                    let _ = tokio::time::timeout(patience, run.ledger.flush_maps(&[at(0)])).await;
                }
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(self.dice.below(self.stride_ms))).await;
            self.assert_sound(&run, &format!("{what}, step {step}"));
        }
        run.crash().await;
    }

    /// What holds at every moment: the target is a prefix of what was to be copied, the position is that of durable
    /// records, and every offset below it translates both ways.
    fn assert_sound(&mut self, run: &Run, what: &str) {
        let Some(map) = run.monitor().map() else { return };
        let map = map.lock().expect("no panic while held");
        let (born, (position, target_end)) = (map.born().0, (map.position(), map.target_end()));
        let mut source = self.twin.source.committed(&at(0));
        source.retain(|record| record.offset >= born);
        let mut target = self.twin.target.committed(&at(0));
        assert!(target.len() <= source.len(), "{what}: {} records came of {}", target.len(), source.len());
        assert_same(&source[..target.len()], &target, what);
        let durable = self.twin.target.committed_end(&at(0));
        self.lost_acknowledged &= target_end > durable;
        if self.lost_acknowledged {
            return;
        }
        assert!(target_end <= durable, "{what}: mapped to {target_end}, durable are {durable}");
        source.retain(|record| record.offset < position);
        target.retain(|record| record.offset < target_end);
        assert_eq!(source.len(), target.len(), "{what}: {position} stands for {target_end}");
        assert_translates(&map, &source, &target, what);
    }

    /// The world has calmed down: the mirror catches up and is exact. Answers how many batches were joined with others, at
    /// least.
    async fn end_well(mut self) -> usize {
        self.open.take().into_iter().for_each(Transaction::commit);
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
                halt = run.halted() => panic!("halted {restart}: {halt:?}"),
            }
            self.twin.assert_exact(&run, restart);
            run.flush().await;
            run.crash().await;
        }
        self.twin.source.batches(&at(0)).saturating_sub(self.twin.target.batches(&at(0)))
    }
}
