//! `make demo`: a Kafka cluster is killed under load, and a consumer group goes on at its twin on the record it had
//! reached; then the same as a planned switch. Every number is counted from the ids inside the records.

#[path = "../support/mod.rs"]
mod support;

mod count;
mod disaster;
mod janitor;
mod planned;
mod stage;
mod view;
mod worker;

use std::process::ExitCode;
use std::time::Instant;

use stage::Stage;

fn main() -> ExitCode {
    // Everything plays in a process below this one, which only waits and clears up, whatever happens.
    if std::env::args().nth(1).as_deref() == Some(janitor::ON_STAGE) { play() } else { janitor::run() }
}

fn play() -> ExitCode {
    let began = Instant::now();
    println!("Twinlog keeps a second Kafka cluster as an exact twin of the first, consumer groups included.\n");
    let stage = Stage::set();

    println!("\nAct 1 · The source is killed with kill -9 while everything runs.\n");
    let (disaster, written) = disaster::play(&stage);

    println!("\nAct 2 · The source comes back, and a planned switch.\n");
    let planned = planned::play(&stage, written);

    println!("\nAll of it took {} s.", began.elapsed().as_secs());
    let kept = disaster.is_kept() && planned.is_kept() && planned.reread == 0;
    if kept {
        println!("Nothing was lost and nothing skipped; the planned switch read nothing twice.");
        return ExitCode::SUCCESS;
    }
    println!("A PROMISE WAS BROKEN: see the counts above.");
    println!("What Twinlog said:\n{}", stage.twinlog.log_text());
    ExitCode::FAILURE
}
