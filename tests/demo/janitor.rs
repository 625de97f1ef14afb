//! The process that outlives the demo: passes on how it ended and leaves neither a process nor a file behind.

use std::process::{Command, ExitCode};

use rustix::process::{Signal, WaitOptions, getpid, set_child_subreaper, wait};
use tokio::signal::unix::{SignalKind, signal};

use crate::support::{process, scratch};

/// The argument under which the program plays the demo itself.
pub const ON_STAGE: &str = "on-stage";

/// Runs the demo as a child; its exit code, or 130 when it was interrupted (Ctrl-C, SIGTERM, a closed terminal).
pub fn run() -> ExitCode {
    // Brokers whose parent is killed become our children: only so can we know that the last of them is gone.
    set_child_subreaper(Some(getpid())).expect("Linux lets every process adopt its descendants");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.expect("a runtime can be built").block_on(watch());
    // An error means that there is no child left.
    while wait(WaitOptions::empty()).is_ok() {}
    // After a failure the logs stay for reading until the next run.
    if ended.is_none_or(|code| code == 0) {
        scratch::sweep(&std::env::temp_dir().join("twinlog-testbed"));
    }
    if ended.is_none() {
        eprintln!("\nInterrupted: brokers, Twinlog and their files are gone.");
    }
    // As shells say it: 128 and the signal's number.
    ExitCode::from(ended.unwrap_or(128 + Signal::INT.as_raw() as u8))
}

/// Waits for the demo; its exit code, or `None` when it was interrupted.
async fn watch() -> Option<u8> {
    let program = std::env::current_exe().expect("Linux tells what is running");
    let mut command = Command::new(program);
    command.arg(ON_STAGE);
    let [mut interrupt, mut terminate, mut hangup] =
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(|kind| signal(kind).expect("these signals can be handled"));
    let spawned = tokio::process::Command::from(process::mortal(&command)).spawn();
    let mut stage = spawned.unwrap_or_else(|e| panic!("cannot start the demo: {e} (run `make setup`)"));
    tokio::select! {
        status = stage.wait() => {
            let code = status.expect("our own child can be waited for").code();
            // No code: a terminal's Ctrl-C has reached it before us.
            return code.and_then(|code| u8::try_from(code).ok());
        }
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    // Brokers and Twinlog die with it: `process::mortal` has seen to that. An error means that it has ended already.
    let _ = stage.kill().await;
    None
}
