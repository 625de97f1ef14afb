//! What the operator decided: one TOML or YAML file, `TWINLOG__…` overrides, checked whole before anything starts.
//!
//! Only this room reads the environment. There is no reload: a restart is a recovery and costs seconds.

mod cluster;
mod daemon;
#[cfg(test)]
mod example;
mod intervals;
mod link;
mod problem;
mod secret;
mod section;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use config::{Environment as Overrides, File, FileFormat, Value};

pub use cluster::ClusterConfig;
pub use daemon::{HttpConfig, LogConfig, MemoryConfig};
pub use intervals::Intervals;
pub use link::{LinkConfig, Naming, PlaneRule, Retention, RetentionOvertook, Start};
pub use problem::{ConfigError, Problem};

use crate::model::LinkName;
use section::{Loading, PREFIX, SEPARATOR, Section};

/// A complete configuration: every alias resolves, every pattern compiles, every secret is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Clusters by alias; a link's `source` and `target` are keys of it.
    pub clusters: BTreeMap<String, ClusterConfig>,
    /// The daemon's own address.
    pub http: HttpConfig,
    /// The process's memory bound.
    pub memory: MemoryConfig,
    /// The process's log.
    pub log: LogConfig,
    /// Links by name; at least one.
    pub links: BTreeMap<LinkName, LinkConfig>,
}

impl Config {
    /// Loads `file` (`.toml`, `.yaml` or `.yml`), lays `TWINLOG__SECTION__KEY` variables over it and checks the whole.
    ///
    /// Blocks on reading the file and those it refers to; relative paths in it start at its own directory.
    ///
    /// # Errors
    /// Everything that is wrong at once, each with its dotted key and the file or variable that holds it.
    pub fn load(file: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        load(file, environment, Self::read)
    }

    fn read(mut root: Section<'_>) -> Self {
        let clusters = named(&mut root, "clusters", ClusterConfig::read);
        let aliases: BTreeSet<String> = clusters.keys().cloned().collect();
        let config = Self {
            http: HttpConfig::read(root.section("http")),
            memory: MemoryConfig::read(root.section("memory")),
            log: LogConfig::read(root.section("log")),
            links: named(&mut root, "links", |section| LinkConfig::read(section, &aliases))
                .into_iter()
                .map(|(name, link)| (LinkName::from(name), link))
                .collect(),
            clusters,
        };
        if config.links.is_empty() {
            root.refuse("links", "at least one link is required: [links.<name>] with source, target and topics");
        }
        root.finish();
        config
    }
}

impl HttpConfig {
    /// Loads only where the daemon of this configuration listens, for verbs that talk to it: the clusters' secrets
    /// need not be readable by whoever asks for a status.
    ///
    /// # Errors
    /// As [`Config::load`], for the `[http]` section and the file as a whole.
    pub fn load(file: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        load(file, environment, |mut root| Self::read(root.section("http")))
    }
}

/// The process's environment, as far as it is UTF-8.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment this process was started with.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

fn load<T>(file: &Path, environment: &Environment, read: impl FnOnce(Section<'_>) -> T) -> Result<T, ConfigError> {
    let loading = Loading::new(file, environment);
    let loaded = layers(file, environment).map(|root| read(Section::root(&loading, root)));
    let loaded = loaded.map_err(|message| loading.refuse("", message)).ok();
    match (loaded, loading.into_problems()) {
        (Some(loaded), problems) if problems.is_empty() => Ok(loaded),
        (_, problems) => Err(ConfigError { problems }),
    }
}

/// The file with the environment laid over it, untyped; else what is wrong with the file.
fn layers(file: &Path, environment: &Environment) -> Result<Value, String> {
    let format = match file.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => return Err("a configuration is called *.toml, *.yaml or *.yml".to_owned()),
    };
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read the configuration: {error}"))?;
    // No `try_parsing`: it would turn a password such as 0123 into a number and back into another one.
    let overrides = Overrides::with_prefix(PREFIX)
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .source(Some(environment.0.clone().into_iter().collect()));
    config::Config::builder()
        .add_source(File::from_str(&text, format))
        .add_source(overrides)
        .build()
        .map(|layered| layered.cache)
        .map_err(|error| without_quotes(&error.to_string()))
}

/// A syntax error without what it quotes from the file, in which a secret may stand: only errors of the parsers
/// themselves are kept, and of these not the lines that draw the place.
fn without_quotes(message: &str) -> String {
    if !message.contains("line ") {
        return "expected tables of keys and values, found something else".to_owned();
    }
    let kept = message.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains('|'));
    kept.collect::<Vec<_>>().join(": ")
}

/// Reads the tables under `key`, whose names must be reachable by environment variables and usable in topic names.
fn named<T>(root: &mut Section<'_>, key: &'static str, read: impl Fn(Section<'_>) -> T) -> BTreeMap<String, T> {
    let mut named = BTreeMap::new();
    for (name, section) in root.named_sections(key) {
        if !is_name(&name) {
            let path = section.path().to_owned();
            root.loading().refuse(
                &path,
                "a name here has 1 to 64 characters: lower-case letters, digits, '-' and single '_', first a letter or \
                 digit",
            );
        }
        named.insert(name, read(section));
    }
    named
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    name.len() <= 64
        && name.chars().all(fits)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.contains(SEPARATOR)
}
