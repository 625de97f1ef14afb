//! Chance that a seed fixes, and the seeds of a run.

use std::ops::Range;

/// How many seeds `make test` tries.
const SEEDS: Range<u64> = 0..1000;

/// Tries each seed of one of several parts that run side by side. `TWINLOG_SEEDS=FIRST..END` asks for others: for a soak,
/// or to see one again, as the last line of a failed run says. A life answers how many batches were joined.
pub(super) async fn each_seed(test: &str, part: u64, parts: u64, life: impl AsyncFn(u64) -> usize) {
    let asked = std::env::var("TWINLOG_SEEDS").ok();
    let (is_whole, mut joined) = (asked.is_none(), 0);
    let seeds = asked.map_or(SEEDS, |asked| {
        let parsed = asked.split_once("..").and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
        parsed.unwrap_or_else(|| panic!("TWINLOG_SEEDS is FIRST..END, not {asked}"))
    });
    for seed in seeds.filter(|seed| seed % parts == part) {
        let _told = Told { test, seed };
        joined += life(seed).await;
    }
    assert!(joined > 0 || !is_whole, "no tiny batches were ever joined");
}

/// Says on a failure how to see it again.
struct Told<'a> {
    test: &'a str,
    seed: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { test, seed } = *self;
            eprintln!("seed {seed} failed; again: TWINLOG_SEEDS={seed}..{} cargo test --lib {test}", seed + 1);
        }
    }
}

/// SplitMix64: the same rolls for the same seed, everywhere.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
