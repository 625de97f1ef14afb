//! Logs to stderr, as text for people or JSON for machines.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per line and event.
    Json,
}

/// Starts logging for the whole process; call once.
///
/// `level` is a level or `tracing` directives, as [`check_level`] accepts them.
///
/// # Errors
/// A sentence, when the level is not one or logging was started before.
pub fn init(format: LogFormat, level: &str) -> Result<(), String> {
    check_level(level)?;
    let filter = EnvFilter::try_new(level).map_err(|error| error.to_string())?;
    let lines = fmt::layer().with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        // Colours only where somebody looks: escape sequences in a journal are noise.
        LogFormat::Text => registry.with(lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr()))).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(|error| format!("logging cannot start: {error}"))
}

/// Whether `level` is a level (`info`), or directives (`info,twinlog::wire=debug`).
///
/// # Errors
/// What is wrong with it. Stricter than `tracing`, which takes a misspelt level for the name of a module and then logs
/// nothing at all.
pub fn check_level(level: &str) -> Result<(), String> {
    for directive in level.split(',') {
        let word = directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim();
        if !LEVELS.contains(&word) {
            return Err(format!("{word:?} is not one of {}", LEVELS.join(", ")));
        }
    }
    EnvFilter::try_new(level).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        assert!(check_level("info").is_ok());
        assert!(check_level("warn,twinlog::wire=debug").is_ok());
        assert!(check_level("inof").unwrap_err().contains("\"inof\" is not one of"));
        assert!(check_level("info,twinlog=loud").is_err());
        assert!(check_level("").is_err());
    }
}
