//! Holds `config/twinlog.toml` and `config/minimal.toml` to the code.

use std::fs;
use std::path::{Path, PathBuf};

use super::section::{Loading, Section};
use super::{Config, Environment, layers};

fn shown(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn environment() -> Environment {
    ["LYON_PASSWORD", "OSLO_CLIENT_SECRET", "TWINLOG_TOKEN"].into_iter().map(|name| (name, "secret")).collect()
}

/// The example with the keys that have no default switched on, and the files they refer to.
fn with_everything_on(directory: &Path) -> PathBuf {
    let text = fs::read_to_string(shown("twinlog.toml")).unwrap();
    let is_key = |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
    let lines = text.lines().map(|line| if is_key(line) { &line[1..] } else { line });
    let file = directory.join("twinlog.toml");
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    for referred_to in ["ca.pem", "idp.pem", "twinlog.pem", "twinlog.key"] {
        fs::write(directory.join(referred_to), "").unwrap();
    }
    file
}

#[test]
fn the_example_sets_every_default_to_what_the_code_has() {
    let shown = Config::load(&shown("twinlog.toml"), &environment()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let bare = directory.path().join("bare.toml");
    // What the example chooses, without a single key that has a default.
    fs::write(
        &bare,
        r#"
        clusters.paris.bootstrap = "paris-1:9092,paris-2:9092"
        [clusters.lyon]
        bootstrap = "lyon-1:9093"
        security = { protocol = "sasl_ssl", mechanism = "scram-sha-512", username = "twinlog", password = { env = "LYON_PASSWORD" } }
        [clusters.oslo]
        bootstrap = "oslo-1:9093"
        [clusters.oslo.security]
        protocol = "sasl_ssl"
        mechanism = "oauthbearer"
        token = { endpoint = "https://login.example.com/oauth2/token", client_id = "twinlog", client_secret = { env = "OSLO_CLIENT_SECRET" } }
        [links.dr]
        source = "paris"
        target = "lyon"
        topics = ["orders", "payments\\..*"]
        "#,
    )
    .unwrap();
    assert_eq!(shown, Config::load(&bare, &environment()).unwrap());
}

#[test]
fn the_example_shows_every_key_the_code_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    let file = with_everything_on(directory.path());
    let environment = environment();
    let loading = Loading::new(&file, &environment);
    Config::read(Section::root(&loading, layers(&file, &environment).unwrap()));
    // Of the clusters, lyon shows passwords and oslo tokens, which exclude each other.
    let elsewhere = ["mechanism", "username", "password", "token", "ca", "certificate", "key"];
    let shown_elsewhere = |key: &str| {
        let of =
            |alias: &str| key.strip_prefix(&format!("clusters.{alias}.security.")).map(|key| elsewhere.contains(&key));
        key.starts_with("clusters.paris.")
            || of("oslo") == Some(true)
            || ["clusters.lyon.security.token", "clusters.lyon.rack", "clusters.oslo.rack"].contains(&key)
    };
    let absent: Vec<_> = loading.absent().into_iter().filter(|key| !shown_elsewhere(key)).collect();
    assert_eq!(absent, Vec::<String>::new());
    assert_eq!(loading.into_problems(), []);
}

#[test]
fn the_minimal_example_loads_in_toml_and_in_yaml() {
    let toml = Config::load(&shown("minimal.toml"), &Environment::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let yaml = directory.path().join("minimal.yaml");
    fs::write(
        &yaml,
        "clusters:\n  paris: { bootstrap: '127.0.0.1:9092' }\n  lyon:\n    bootstrap: 127.0.0.1:9192\n\
         links:\n  dr: { source: paris, target: lyon, topics: ['.*'] }\n",
    )
    .unwrap();
    assert_eq!(toml, Config::load(&yaml, &Environment::default()).unwrap());
}
