//! Reads one table of the configuration key by key: what is asked for is known, what is left over is refused.
//!
//! `config` layers file and environment; its typed half is not used, because serde's errors name neither the whole key
//! nor the file, and print the offending value, which may be a password.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use config::{Value, ValueKind};

use super::Environment;
use super::problem::Problem;

/// Prefix of every environment variable that overrides a key.
pub(super) const PREFIX: &str = "TWINLOG";
/// Stands for the dot between two parts of a key in an environment variable.
pub(super) const SEPARATOR: &str = "__";

/// What is shared by all sections of one load: where they come from, and the problems found so far.
pub(super) struct Loading<'a> {
    file: &'a Path,
    environment: &'a Environment,
    problems: RefCell<Vec<Problem>>,
    absent: RefCell<BTreeSet<String>>,
}

impl<'a> Loading<'a> {
    pub(super) fn new(file: &'a Path, environment: &'a Environment) -> Self {
        Self { file, environment, problems: RefCell::default(), absent: RefCell::default() }
    }

    pub(super) fn environment(&self) -> &Environment {
        self.environment
    }

    /// Notes a problem of the file itself, or of a key that is missing from it.
    pub(super) fn refuse(&self, key: &str, message: impl Into<String>) {
        self.refuse_at(self.file.display().to_string(), key, message);
    }

    fn refuse_at(&self, place: String, key: &str, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { place, key: key.to_owned(), message: message.into() });
    }

    /// A path from the file; a relative one starts at the directory of the configuration file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Keys that were asked for and not given, so that their defaults hold.
    #[cfg(test)]
    pub(super) fn absent(&self) -> BTreeSet<String> {
        self.absent.borrow().clone()
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// A table that is being read. A reader answers `None` both for an absent key and for a bad value, which it has then
/// reported: no configuration comes out of a load with problems, so the caller may go on with a default.
pub(super) struct Section<'a> {
    loading: &'a Loading<'a>,
    path: String,
    given: BTreeMap<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn root(loading: &'a Loading<'a>, value: Value) -> Self {
        Self::of_value(loading, String::new(), value)
    }

    fn of_value(loading: &'a Loading<'a>, path: String, value: Value) -> Self {
        let mut section = Self { loading, path, given: BTreeMap::new(), known: Vec::new() };
        let place = section.place(&section.path, &value);
        match value.kind {
            ValueKind::Table(table) => section.given = table.into_iter().collect(),
            other => loading.refuse_at(place, &section.path, expected("a table of keys", &other)),
        }
        section
    }

    pub(super) fn loading(&self) -> &'a Loading<'a> {
        self.loading
    }

    /// The dotted key of this table.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Where a value of `dotted` came from: the file, or the variable that overrides it.
    fn place(&self, dotted: &str, value: &Value) -> String {
        if from_environment(value) {
            format!("{PREFIX}{SEPARATOR}{}", dotted.replace('.', SEPARATOR).to_uppercase())
        } else {
            self.loading.file.display().to_string()
        }
    }

    fn know(&mut self, key: &'static str) {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.know(key);
        let value = self.given.remove(key);
        if value.is_none() {
            self.loading.absent.borrow_mut().insert(self.key(key));
        }
        value
    }

    /// Takes a key and reads it; `read` answers with what to write instead.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Self, Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        let dotted = self.key(key);
        let place = self.place(&dotted, &value);
        read(self, value).map_err(|message| self.loading.refuse_at(place, &dotted, message)).ok()
    }

    /// Reports a key whose value was read but does not fit.
    pub(super) fn refuse(&self, key: &str, message: impl Into<String>) {
        self.loading.refuse(&self.key(key), message);
    }

    /// Reports the key when it is not given, then reads it.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Option<T>,
    ) -> Option<T> {
        if !self.given.contains_key(key) {
            self.refuse(key, "is required");
        }
        read(self, key)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.read(key, |_, value| text(value))
    }

    /// A list of texts; one text alone is a list of one (so that an environment variable can give it).
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.read(key, |_, value| match value.kind {
            ValueKind::Array(items) => items.into_iter().map(text).collect(),
            ValueKind::String(one) => Ok(vec![one]),
            other => Err(expected("a list of texts", &other)),
        })
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, |_, value| match &value.kind {
            ValueKind::Boolean(flag) => Ok(*flag),
            ValueKind::String(word) if from_environment(&value) && (word == "true" || word == "false") => {
                Ok(word == "true")
            }
            other => Err(expected("true or false", other)),
        })
    }

    pub(super) fn integer(&mut self, key: &'static str, within: RangeInclusive<i64>) -> Option<i64> {
        self.read(key, |_, value| {
            let number = match &value.kind {
                ValueKind::I64(number) => *number,
                ValueKind::String(digits) if from_environment(&value) => {
                    digits.parse().map_err(|_| "expected a whole number".to_owned())?
                }
                other => return Err(expected("a whole number", other)),
            };
            contained(number, &within)
        })
    }

    /// One of a few words; case does not matter.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.read(key, |_, value| {
            let given = text(value)?;
            words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&given)).map(|(_, meaning)| *meaning).ok_or_else(
                || {
                    format!(
                        "expected one of {}",
                        words.iter().map(|(w, _)| format!("{w:?}")).collect::<Vec<_>>().join(", ")
                    )
                },
            )
        })
    }

    /// A duration with its unit, such as `"500ms"` or `"7d"`.
    pub(super) fn duration(&mut self, key: &'static str, within: RangeInclusive<Duration>) -> Option<Duration> {
        self.read(key, |_, value| {
            let hint = "expected a duration with its unit, such as \"500ms\", \"2s\" or \"7d\"";
            let given = text(value).map_err(|found| format!("{hint}: {found}"))?;
            let duration = humantime::parse_duration(&given).map_err(|error| format!("{hint}: {error}"))?;
            if within.contains(&duration) {
                Ok(duration)
            } else {
                Err(format!(
                    "{} is not within {} to {}",
                    humantime::format_duration(duration),
                    humantime::format_duration(*within.start()),
                    humantime::format_duration(*within.end())
                ))
            }
        })
    }

    /// A number of bytes with its unit, such as `"16MiB"`.
    pub(super) fn bytes(&mut self, key: &'static str, least: u64) -> Option<u64> {
        self.read(key, |_, value| {
            let hint = "expected a size with its unit, such as \"16MiB\"";
            let given = match value.kind {
                ValueKind::I64(number) => number.to_string(),
                ValueKind::String(size) => size,
                other => return Err(expected("a size with its unit, such as \"16MiB\"", &other)),
            };
            let size: ByteSize = given.parse().map_err(|error| format!("{hint}: {error}"))?;
            if size.as_u64() < least { Err(format!("must be at least {}", ByteSize(least))) } else { Ok(size.as_u64()) }
        })
    }

    /// The table under `key`; an empty one when it is not given.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        self.know(key);
        let path = self.key(key);
        match self.given.remove(key) {
            Some(value) => Self::of_value(self.loading, path, value),
            None => Section { loading: self.loading, path, given: BTreeMap::new(), known: Vec::new() },
        }
    }

    /// The tables under `key`, by the names the operator gave them.
    pub(super) fn named_sections(&mut self, key: &'static str) -> Vec<(String, Section<'a>)> {
        let group = self.section(key);
        let named = group.given.into_iter().map(|(name, value)| {
            let path = format!("{}.{name}", group.path);
            (name, Self::of_value(group.loading, path, value))
        });
        named.collect()
    }

    /// The table in `value`, which was found under `key` of this section.
    pub(super) fn inner(&self, key: &str, value: Value) -> Section<'a> {
        Self::of_value(self.loading, self.key(key), value)
    }

    /// Every key with its text, of a table whose keys the operator chose.
    pub(super) fn into_texts(self) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (key, value) in self.given {
            match text(value) {
                Ok(value) => drop(texts.insert(key, value)),
                Err(message) => self.loading.refuse(&format!("{}.{key}", self.path), message),
            }
        }
        texts
    }

    /// Every key with its number, of a table whose keys the operator chose.
    pub(super) fn into_integers(self, within: RangeInclusive<i64>) -> BTreeMap<String, i64> {
        let mut numbers = BTreeMap::new();
        for (key, value) in self.given {
            let number = match value.kind {
                ValueKind::I64(number) => contained(number, &within),
                other => Err(expected("a whole number", &other)),
            };
            match number {
                Ok(number) => drop(numbers.insert(key, number)),
                Err(message) => self.loading.refuse(&format!("{}.{key}", self.path), message),
            }
        }
        numbers
    }

    /// Which one of two keys that exclude each other is given; `None` for neither or both.
    pub(super) fn either(&mut self, one: &'static str, other: &'static str) -> Option<&'static str> {
        self.know(one);
        self.know(other);
        match (self.gives(one), self.gives(other)) {
            (true, false) => Some(one),
            (false, true) => Some(other),
            _ => None,
        }
    }

    pub(super) fn gives(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// Refuses every key nobody asked for.
    pub(super) fn finish(self) {
        for (key, value) in &self.given {
            let dotted = self.key(key);
            let place = self.place(&dotted, value);
            self.loading.refuse_at(place, &dotted, format!("unknown key; known here: {}", self.known.join(", ")));
        }
    }
}

fn contained<N: PartialOrd + fmt::Display>(number: N, within: &RangeInclusive<N>) -> Result<N, String> {
    if within.contains(&number) {
        Ok(number)
    } else {
        Err(format!("{number} is not within {}..={}", within.start(), within.end()))
    }
}

/// Whether an override of the environment gave the value.
pub(super) fn from_environment(value: &Value) -> bool {
    // The only origin `config` gives to values of its `Environment` source.
    value.origin() == Some("the environment")
}

/// A text as it was written. Numbers are not turned into text: YAML would read the user name `012` as 12.
pub(super) fn text(value: Value) -> Result<String, String> {
    match value.kind {
        ValueKind::String(text) => Ok(text),
        other => Err(expected("text in quotes", &other)),
    }
}

/// The kind of what was found, never its value: it might be a secret in the wrong place.
pub(super) fn expected(wanted: &str, found: &ValueKind) -> String {
    let found = match found {
        ValueKind::Nil => "nothing (leave the key out for its default)",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a number",
        ValueKind::Float(_) => "a decimal number",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    };
    format!("expected {wanted}, found {found}")
}
