//! How many random positions a second one thread translates, and that every one is right.

use std::hint::black_box;
use std::time::Instant;

use twinlog::model::{LeaderEpoch, Offset, OffsetRange, Run};
use twinlog::offsets::{OffsetMap, Translation};

use super::Bench;
use super::summary::Table;

const LOOKUPS: usize = 2_000_000;

/// A log by the shape of its holes.
struct Shape {
    name: &'static str,
    runs: u32,
    /// Longest run of records, and longest hole behind it.
    records: u32,
    hole: u32,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "no holes", runs: 1, records: 10_000_000, hole: 0 },
    Shape { name: "transactional", runs: 1_000_000, records: 100, hole: 2 },
    Shape { name: "compacted", runs: 5_000_000, records: 3, hole: 6 },
];

/// Builds maps, asks them, and prints the table.
pub fn run(_bench: &Bench) {
    let mut table =
        Table::new(&["log", "runs", "offsets", "source → target per second", "target → source per second", "wrong"]);
    for shape in SHAPES {
        let mut dice = Dice(7);
        let (mut map, mut source, mut starts) = (OffsetMap::new(Offset(0), Offset(0)), 0, Vec::new());
        let mut target = 0;
        for _ in 0..shape.runs {
            let length = if shape.runs == 1 { shape.records } else { dice.up_to(shape.records) };
            let hole = i64::from(dice.up_to(shape.hole));
            let end = source + i64::from(length);
            let run = Run { start: Offset(source), length };
            map.extend(OffsetRange::new(Offset(source), Offset(end + hole)), &[run], Offset(target), LeaderEpoch(0));
            starts.push((source, target, i64::from(length)));
            (source, target) = (end + hole, target + i64::from(length));
        }
        let asked: Vec<_> = (0..LOOKUPS).map(|_| dice.below(source as u64) as i64).collect();
        let back: Vec<_> = (0..LOOKUPS).map(|_| dice.below(target as u64) as i64).collect();
        let rate = |of: &[i64], one: &dyn Fn(Offset) -> Translation| {
            let begun = Instant::now();
            for at in of {
                black_box(one(black_box(Offset(*at))));
            }
            LOOKUPS as f64 / begun.elapsed().as_secs_f64()
        };
        let (there, and_back) = (rate(&asked, &|at| map.translate(at)), rate(&back, &|at| map.translate_back(at)));
        let right = |at: i64| {
            let before = starts.partition_point(|(start, _, _)| *start <= at) - 1;
            let (start, target, length) = starts[before];
            Translation::Exact(Offset(target + (at - start).min(length)))
        };
        let right_back = |at: i64| {
            let (start, target, _) = starts[starts.partition_point(|(_, target, _)| *target <= at) - 1];
            Translation::Exact(Offset(start + at - target))
        };
        let wrong = asked.iter().filter(|at| map.translate(Offset(**at)) != right(**at)).count()
            + back.iter().filter(|at| map.translate_back(Offset(**at)) != right_back(**at)).count();
        table.row([
            shape.name.into(),
            shape.runs.to_string(),
            source.to_string(),
            format!("{there:.0}"),
            format!("{and_back:.0}"),
            format!("{wrong} of {}", 2 * LOOKUPS),
        ]);
        assert_eq!(wrong, 0, "every position is answered exactly");
    }
    println!("{table}");
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 20) % end
    }

    /// 1 to `most`; 0 when that is 0.
    fn up_to(&mut self, most: u32) -> u32 {
        if most == 0 { 0 } else { self.below(u64::from(most)) as u32 + 1 }
    }
}
