//! Directories of this run, under one that carries the owner's pid and start time; those of dead owners are removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

/// A directory that goes with its owner, unless a test is failing: then it stays for reading until the next run.
#[derive(Debug)]
pub struct Scratch(Option<TempDir>);

impl Scratch {
    /// A new, empty directory whose name begins with `name`.
    pub fn new(name: &str) -> Scratch {
        let made = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(root());
        Scratch(Some(made.unwrap_or_else(|e| panic!("cannot make a directory in {}: {e}", root().display()))))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("taken only while dropping").path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(directory) = self.0.take().filter(|_| std::thread::panicking()) {
            eprintln!("kept for reading: {}", directory.keep().display());
        }
    }
}

/// Replaces a file as a secret manager does: whole or not at all.
pub fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("next");
    fs::write(&beside, text).expect("the scratch directory can be written");
    fs::rename(&beside, file).expect("a file can be renamed beside itself");
}

/// The directory of this process; the first call sweeps those of processes that are gone.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let all = std::env::temp_dir().join("twinlog-testbed");
        let own = all.join(name_of(std::process::id()).expect("/proc tells when this process started"));
        fs::create_dir_all(&own).unwrap_or_else(|e| panic!("cannot make {}: {e}", own.display()));
        sweep(&all);
        own
    })
}

/// Removes what processes left in `all` that no longer exist.
pub fn sweep(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split_once('-').and_then(|(pid, _)| pid.parse().ok());
        if owner.is_some_and(|pid| name_of(pid).as_deref() != Some(name.as_str())) {
            // Another process may be sweeping the same directory: whoever comes second finds nothing.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// `pid-starttime`: a pid alone comes back, together with the start time (field 22 of `stat`) it does not.
fn name_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything: count from behind it.
    let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{pid}-{started}"))
}
