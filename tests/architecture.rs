//! Holds the source to the plan of rooms: which way imports point, which rooms are pure, where tasks may start.
//!
//! The rules look at the program itself; unit tests and what is built only for them (`#[cfg(test)]`) are free.

use std::fs;
use std::path::Path;

use regex::Regex;

/// What each room may import, beside itself. A room that is not listed may not exist.
const ROOMS: [(&str, &[&str]); 21] = [
    // Hands the daemon to the command line, which knows only that there is one.
    ("main", &["app", "cli", "config"]),
    ("cli", &["config", "http", "link", "endpoint", "operations", "model", "runtime", "telemetry"]),
    (
        "app",
        &[
            "adapters",
            "config",
            "endpoint",
            "http",
            "ledger",
            "link",
            "metadata",
            "model",
            "operations",
            "policy",
            "runtime",
            "telemetry",
        ],
    ),
    // The only room that names an adapter.
    ("adapters", &["archive", "config", "endpoint", "librdkafka", "link", "model", "runtime", "telemetry", "wire"]),
    ("http", &["endpoint", "link", "model", "runtime", "telemetry"]),
    (
        "operations",
        &[
            "endpoint",
            "ledger",
            "link",
            "metadata",
            "model",
            "offsets",
            "policy",
            "runtime",
            "telemetry",
            "verification",
        ],
    ),
    (
        "link",
        &[
            "endpoint",
            "ledger",
            "metadata",
            "model",
            "offsets",
            "policy",
            "replication",
            "runtime",
            "telemetry",
            "verification",
        ],
    ),
    // These three meet in the ledger's view and never import each other.
    ("replication", &["batch", "endpoint", "ledger", "model", "offsets", "policy", "runtime", "telemetry"]),
    ("metadata", &["endpoint", "ledger", "model", "offsets", "policy", "runtime", "telemetry"]),
    ("verification", &["batch", "endpoint", "ledger", "model", "offsets", "policy", "runtime", "telemetry"]),
    ("ledger", &["endpoint", "model", "offsets", "runtime", "telemetry"]),
    ("config", &["endpoint", "model", "policy", "telemetry"]),
    // Adapters know the contracts and the batches, nothing above and not each other.
    ("wire", &["batch", "endpoint", "model", "runtime", "telemetry"]),
    ("librdkafka", &["batch", "endpoint", "model", "runtime", "telemetry"]),
    ("archive", &["batch", "endpoint", "model", "runtime", "telemetry"]),
    ("endpoint", &["batch", "model", "runtime"]),
    // Of the contracts, policy decides about their values; being pure, it cannot use their calls.
    ("policy", &["endpoint", "model"]),
    ("offsets", &["model"]),
    ("batch", &["model"]),
    ("telemetry", &["model", "runtime"]),
    // A batch carries its memory permit.
    ("model", &["runtime"]),
];

/// Rooms that import nothing.
const BOTTOM: [&str; 2] = ["runtime", "lib"];

/// Rooms without async, clock and I/O.
const PURE: [&str; 3] = ["batch", "offsets", "policy"];

/// What pure rooms may not say, and why it is looked for.
const IMPURE: [(&str, &str); 4] = [
    (r"\basync\b|\.await\b|\btokio::", "is async"),
    (r"\b(Instant|SystemTime)::now\b|\.elapsed\(\)", "reads a clock"),
    (r"\bstd::(fs|net|process|env|thread)\b", "does I/O"),
    (r"\brand::|\bthread_rng\b", "is not a function of its arguments"),
];

/// Why a file breaks the rules: one line each, empty when it does not.
fn faults(path: &str, text: &str) -> Vec<String> {
    let room = room_of(path);
    let program = program_of(text);
    let mut faults = Vec::new();
    let allowed = ROOMS.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed);
    match allowed {
        Some(allowed) => {
            let foreign = imports(path, &program).into_iter().filter(|i| *i != room && !allowed.contains(&i.as_str()));
            faults.extend(foreign.map(|import| format!("{path}: room `{room}` may not import `{import}`")));
        }
        None if BOTTOM.contains(&room) => {
            let foreign = imports(path, &program).into_iter().filter(|i| *i != room);
            faults.extend(foreign.map(|import| format!("{path}: room `{room}` imports nothing, but `{import}`")));
        }
        None => faults.push(format!("{path}: the plan knows no room `{room}`: see DESIGN and ROOMS here")),
    }
    let mut forbid = |pattern: &str, what: &str| {
        if let Some(found) = Regex::new(pattern).expect("a valid pattern").find(&program) {
            faults.push(format!("{path}: {what}: `{}`", found.as_str()));
        }
    };
    forbid(r"\bunsafe\b", "says unsafe");
    if path != "src/runtime/tasks.rs" {
        forbid(r"\btokio::spawn\b|\btask::spawn\b|\bJoinSet\b", "starts a task outside of a TaskScope");
    }
    if path != "src/runtime/retry.rs" {
        forbid(r"\bbackoff::", "paces retries outside of runtime::retry");
    }
    if PURE.contains(&room) {
        IMPURE.iter().for_each(|(pattern, why)| forbid(pattern, &format!("a pure room {why}")));
    }
    faults
}

/// `src/wire/fetch/mod.rs` → `wire`, `src/app.rs` → `app`.
fn room_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

/// The text without comments and without the unit tests at its end.
fn program_of(text: &str) -> String {
    let tests = Regex::new(r"\n#\[cfg\(test\)\]\nmod \w+ \{").expect("a valid pattern");
    let program = tests.find(text).map_or(text, |found| &text[..found.start()]);
    let comment = Regex::new(r"(^|\s)//.*$").expect("a valid pattern");
    program.lines().map(|line| comment.replace(line, "").into_owned() + "\n").collect()
}

/// Rooms that a program names, by `crate::`, by `twinlog::` (from the binary) or by climbing out of its own with `super::`.
fn imports(path: &str, program: &str) -> Vec<String> {
    // Depth of the file's module below the crate: so many times `super` is the crate itself.
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = inside.split('/').count();
    let own = if path == "src/main.rs" { "twinlog" } else { "crate" };
    let pattern = format!(r"(?:\b{own}::|\b(?:super::){{{depth},}})(\{{|[a-z_]+)");
    let mut rooms = Vec::new();
    for found in Regex::new(&pattern).expect("a valid pattern").captures_iter(program) {
        let (name, start) = (&found[1], found.get(1).expect("group 1 always takes part").start());
        if name != "{" {
            rooms.push(name.to_owned());
            continue;
        }
        // `use crate::{a::{b, c}, d};`: the names at the first level.
        let (mut level, mut expected) = (0, true);
        for (at, c) in program[start..].char_indices() {
            match c {
                '{' => level += 1,
                '}' if level == 1 => break,
                '}' => level -= 1,
                ',' if level == 1 => expected = true,
                c if level == 1 && expected && c.is_ascii_alphabetic() => {
                    let rest = &program[start + at..];
                    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                    rooms.push(rest[..end].to_owned());
                    expected = false;
                }
                _ => {}
            }
        }
    }
    rooms
}

/// Every source file of the program and its text; modules declared as `#[cfg(test)] mod name;` are not part of it.
fn program() -> Vec<(String, String)> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 30, "the source was not found");
    let declared = Regex::new(r"#\[cfg\(test\)\]\n(?:pub(?:\([a-z]+\))? )?mod (\w+);").expect("a valid pattern");
    let mut tests = Vec::new();
    for (path, text) in &files {
        let directory = path.trim_end_matches(".rs").trim_end_matches("/mod");
        tests.extend(declared.captures_iter(text).map(|found| format!("{directory}/{}", &found[1])));
    }
    files.retain(|(path, _)| {
        !tests.iter().any(|test| *path == format!("{test}.rs") || path.starts_with(&format!("{test}/")))
    });
    files
}

fn sources(directory: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("the source can be read") {
        let path = entry.expect("the source can be read").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("it lies in the package");
            into.push((name.display().to_string(), fs::read_to_string(&path).expect("source is text")));
        }
    }
}

#[test]
fn every_file_keeps_to_the_plan() {
    let faults: Vec<String> = program().iter().flat_map(|(path, text)| faults(path, text)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_reader_holds() {
    let files = program();
    let long = files.iter().map(|(path, text)| (path, text.lines().count())).filter(|(_, lines)| *lines > 450);
    assert_eq!(long.collect::<Vec<_>>(), []);
}

#[test]
fn no_two_rooms_import_each_other() {
    let allows = |a: &str, b: &str| ROOMS.iter().any(|(name, allowed)| *name == a && allowed.contains(&b));
    for (a, allowed) in ROOMS {
        for b in allowed {
            assert!(!allows(b, a), "{a} and {b}");
        }
    }
}

/// The checker itself: what it must notice, and what it must let pass.
#[test]
fn each_kind_of_fault_is_noticed() {
    let one = |path: &str, text: &str| faults(path, text).join("; ");
    let wants = |path: &str, text: &str, fault: &str| {
        let found = one(path, text);
        assert!(found.contains(fault), "{path}: {text:?}: {found:?}");
    };
    wants("src/replication/attach.rs", "use crate::metadata::Topics;\n", "may not import `metadata`");
    wants("src/link/mod.rs", "fn f() { crate::wire::Cluster::new() }\n", "may not import `wire`");
    wants(
        "src/wire/mod.rs",
        "use crate::{endpoint::{A, B},\n    librdkafka::C, model};\n",
        "may not import `librdkafka`",
    );
    wants("src/wire/mod.rs", "use super::ledger::Entry;\n", "may not import `ledger`");
    wants("src/wire/fetch/plan.rs", "use super::super::super::ledger::Entry;\n", "may not import `ledger`");
    wants("src/main.rs", "use twinlog::wire::Cluster;\n", "may not import `wire`");
    wants("src/runtime/limit.rs", "use crate::model::Offset;\n", "imports nothing");
    wants("src/helpers/mod.rs", "", "knows no room `helpers`");
    wants("src/policy/lag.rs", "pub async fn f() {}\n", "is async");
    wants("src/offsets/map.rs", "let t = Instant::now();\n", "reads a clock");
    wants("src/batch/header.rs", "use std::fs::File;\n", "does I/O");
    wants("src/link/mod.rs", "tokio::spawn(async {});\n", "outside of a TaskScope");
    wants("src/link/mod.rs", "use backoff::ExponentialBackoff;\n", "runtime::retry");
    wants("src/batch/mod.rs", "unsafe { x() }\n", "says unsafe");
    // A fault before the tests is not hidden by them.
    wants("src/link/mod.rs", "use crate::wire::A;\n\n#[cfg(test)]\nmod tests {}\n", "may not import `wire`");

    let fine = |path: &str, text: &str| assert_eq!(one(path, text), "", "{path}: {text:?}");
    fine("src/link/mod.rs", "use crate::{replication::{Window, wire}, model};\nuse crate::link::report;\n");
    fine("src/wire/fetch/plan.rs", "use super::super::connection::Connection;\nuse super::batch::Plan;\n");
    fine("src/policy/lag.rs", "/// Unlike [`crate::wire`], pure.\nfn f() {} // no Instant::now() here\n");
    fine("src/policy/lag.rs", "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::wire::A;\n}\n");
    // A module for tests, declared in the middle, hides nothing that follows.
    wants("src/link/mod.rs", "mod a;\n#[cfg(test)]\nmod fixtures;\nuse crate::wire::A;\n", "may not import `wire`");
    fine("src/config/log.rs", "fn f() -> &'static str { \"such as twinlog::wire=debug\" }\n");
    fine("src/runtime/tasks.rs", "tokio::spawn(async {});\n");
    fine("src/adapters.rs", "use crate::wire::Cluster;\nuse crate::librdkafka::Store;\n");
}
