//! The two programs that are compared, started on one topic each.

use super::Bench;
use super::mm2::MirrorMaker;
use super::support::raw::Client;
use super::support::{Setup, Twinlog, unique};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    MirrorMaker,
    Twinlog,
    /// Twinlog on the records plane.
    Records,
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 3] = [Program::MirrorMaker, Program::Twinlog, Program::Records];

    /// As tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Program::MirrorMaker => "MirrorMaker 2",
            Program::Twinlog => "Twinlog",
            Program::Records => "Twinlog, records plane",
        }
    }
}

/// What the programs are set up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// Brokers next door: Twinlog as it comes.
    Near,
    /// A long way to one of the clusters: more is on its way at a time, and Twinlog has a memory budget for it.
    Far(&'static str),
}

/// A started mirror of one topic; killed when dropped.
pub struct Mirror {
    running: Running,
    /// Name of the copy.
    pub copy: String,
}

enum Running {
    MirrorMaker(MirrorMaker),
    Twinlog(Twinlog),
}

impl Mirror {
    /// Starts a program on a topic, for the first time: it finds nothing of an earlier one on the target.
    pub fn start(program: Program, bench: &Bench, topic: &str, codec: &str) -> Mirror {
        match program {
            Program::MirrorMaker => {
                let alias = unique("mm").replace('-', "");
                let mirror_maker = MirrorMaker::start(bench, &alias, topic, codec);
                Mirror { running: Running::MirrorMaker(mirror_maker), copy: format!("{alias}.{topic}") }
            }
            Program::Twinlog | Program::Records => {
                let plane = if program == Program::Records { "records" } else { "batches" };
                let (twinlog, copy) = twinlog(bench, topic, &[], |s| s.line(&format!("plane = {plane:?}")));
                twinlog.start();
                Mirror { running: Running::Twinlog(twinlog), copy }
            }
        }
    }

    /// Pid of the program itself.
    pub fn pid(&self) -> u32 {
        match &self.running {
            Running::MirrorMaker(mirror_maker) => mirror_maker.pid(),
            Running::Twinlog(twinlog) => twinlog.pid().expect("it was started"),
        }
    }

    /// The end of its output, for messages.
    pub fn tail(&self) -> String {
        match &self.running {
            Running::MirrorMaker(mirror_maker) => mirror_maker.tail(),
            Running::Twinlog(twinlog) => twinlog.log_text(),
        }
    }
}

/// Twinlog configured for one topic and these groups (regexes) under a link of its own, not started, and the name of the copy.
pub fn twinlog(bench: &Bench, topic: &str, groups: &[&str], more: impl FnOnce(Setup) -> Setup) -> (Twinlog, String) {
    let link = unique("bench");
    // Two links may not write one target topic: each copy has its own name.
    let prefix = format!("{link}.");
    let setup = Setup::new(&bench.source, &bench.target, &link, &[topic], groups);
    let setup = match bench.tuning {
        Tuning::Near => setup,
        Tuning::Far(budget) => setup.and(&format!("[memory]\nbudget = {budget:?}")),
    };
    let setup = more(setup.line(&format!("naming = {{ prefix = {prefix:?} }}")));
    let binary = bench.options.binary.to_str().expect("cargo's paths are text");
    (Twinlog::new(binary, setup), prefix + topic)
}

/// Deletes a topic that is no longer needed: a copy is a GiB of page cache and disk.
pub fn forget(client: &Client, topic: &str) {
    client.delete_topic(topic).unwrap_or_else(|e| eprintln!("{topic} stays: {e}"));
}
