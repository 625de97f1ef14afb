//! What to measure and how much of it: arguments name scenarios, the environment sets sizes.

use std::path::PathBuf;
use std::str::FromStr;

/// The choices of one run.
#[derive(Clone)]
pub struct Options {
    /// Scenarios by name; none = all.
    pub scenarios: Vec<String>,
    /// `BENCH_RECORDS`: records per topic of the copy scenario.
    pub records: u64,
    /// `BENCH_ROUNDS`: how often each copy and each latency is measured; tables show medians.
    pub rounds: usize,
    /// `BENCH_MM2=0` leaves MirrorMaker 2 out.
    pub mirror_maker: bool,
    /// `BENCH_CODECS`: of the copy scenario, by default `none,lz4,zstd`.
    pub codecs: Vec<String>,
    /// `BENCH_RUNS`: of the map in the scenario of that name.
    pub runs: u64,
    /// `BENCH_TWINLOG`: the binary to measure instead of the one that cargo built for this bench.
    pub binary: PathBuf,
}

impl Options {
    /// From this process's arguments and environment.
    pub fn read() -> Options {
        // cargo adds `--bench` to what the user gave.
        let scenarios = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
        let codecs = std::env::var("BENCH_CODECS").unwrap_or_else(|_| "none,lz4,zstd".into());
        Options {
            scenarios,
            records: number("BENCH_RECORDS", 1_000_000),
            rounds: number("BENCH_ROUNDS", 1_usize).max(1),
            mirror_maker: number("BENCH_MM2", 1_u8) != 0,
            codecs: codecs.split(',').map(str::to_owned).collect(),
            runs: number("BENCH_RUNS", 100_000_000),
            binary: std::env::var_os("BENCH_TWINLOG").map_or(env!("CARGO_BIN_EXE_twinlog").into(), PathBuf::from),
        }
    }

    /// Whether this scenario is to run.
    pub fn wants(&self, scenario: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|s| s == scenario)
    }
}

fn number<T: FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}
