//! A token printed by a program.

use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::{Given, PATIENCE};
use crate::endpoint::Secret;

/// Runs the program without a shell; kills it when it takes too long. What it prints is never repeated: it may be secret.
pub(super) async fn run(words: &[String]) -> Result<Given, String> {
    let (program, arguments) = words.split_first().ok_or("names no program")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let done = match timeout(PATIENCE, command.output()).await {
        Ok(done) => done.map_err(|error| format!("cannot run {program}: {error}"))?,
        Err(_) => return Err(format!("{program} has printed no token within {PATIENCE:?} and was killed")),
    };
    if !done.status.success() {
        return Err(format!("{program} failed ({}): run it by hand to see why", done.status));
    }
    let printed = String::from_utf8(done.stdout).map_err(|_| format!("what {program} prints is not text"))?;
    Ok(Given { text: Secret::new(printed.trim()), life: None })
}
