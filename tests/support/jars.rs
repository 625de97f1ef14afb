//! Kafka's own jars, resolved once by Maven and kept under `target/kafka/<version>`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What Maven is asked for, by Kafka version.
const POMS: [(&str, &str); 3] = [
    ("4.3.1", include_str!("jars/pom-4.3.xml")),
    ("3.9.1", include_str!("jars/pom-3.9.xml")),
    ("2.8.2", include_str!("jars/pom-2.8.xml")),
];

/// The directory with the jars of a Kafka version and all they need.
///
/// Several test processes may ask at once: a lock file lets one resolve, and a directory appears only when complete.
pub fn jars(version: &str) -> PathBuf {
    let known = POMS.iter().find(|(of, _)| *of == version);
    let (_, pom) = known.unwrap_or_else(|| panic!("no pom for Kafka {version}; see tests/support/jars"));
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kafka");
    let (ready, partial) = (cache.join(version), cache.join(format!("{version}.partial")));
    fs::create_dir_all(&cache).unwrap_or_else(|e| panic!("cannot make {}: {e}", cache.display()));
    let lock = File::create(cache.join(format!("{version}.lock"))).expect("the lock file can be made");
    lock.lock().expect("the lock file can be locked");
    if !ready.is_dir() {
        let _ = fs::remove_dir_all(&partial); // of a run that was killed
        fs::create_dir_all(&partial).expect("the cache directory can be written");
        let pom_file = cache.join(format!("{version}.xml"));
        fs::write(&pom_file, pom).expect("the cache directory can be written");
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "--file"]).arg(&pom_file);
        maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        maven.arg(joined("-DoutputDirectory=", &partial));
        let done = maven.output().unwrap_or_else(|e| panic!("cannot run mvn: {e} (run `make setup`)"));
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "Maven cannot resolve the jars of Kafka {version}:\n{said}");
        fs::rename(&partial, &ready).expect("a directory can be renamed beside itself");
    }
    ready
}

/// A JVM that starts quickly and stays small: many of them share the machine with the tests.
pub const SMALL: &[&str] = &["-Xmx512m", "-Xms96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// `java` with these jars on its class path, in a JVM of these options.
pub fn java(version: &str, jvm: &[&str], logging: &Path) -> Command {
    let mut java = Command::new("java");
    java.args(jvm).arg("-XX:-UsePerfData");
    let key = if logs_by_log4j_1(version) { "-Dlog4j.configuration=file:" } else { "-Dlog4j2.configurationFile=" };
    java.arg(joined(key, logging)).arg("-cp").arg(jars(version).join("*"));
    java
}

/// Writes how Kafka of this version logs (to standard output) into `directory`; returns the file.
pub fn logging(version: &str, directory: &Path) -> PathBuf {
    let (name, text) = match logs_by_log4j_1(version) {
        true => ("log4j.properties", include_str!("jars/log4j.properties")),
        false => ("log4j2.xml", include_str!("jars/log4j2.xml")),
    };
    let file = directory.join(name);
    fs::write(&file, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
    file
}

fn logs_by_log4j_1(version: &str) -> bool {
    version.starts_with(['2', '3'])
}

fn joined(before: &str, path: &Path) -> OsString {
    let mut all = OsString::from(before);
    all.push(path);
    all
}
