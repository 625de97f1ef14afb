//! In which message format a topic stores records.

use std::collections::BTreeMap;

use crate::endpoint::ConfigEntry;

/// Kafka's message formats, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageFormat {
    /// Before 0.10: records without a time.
    V0,
    /// 0.10: records without headers, no producers, no zstd.
    V1,
    /// Since 0.11.
    V2,
}

impl MessageFormat {
    /// The setting that decides, on a topic; `log.message.format.version` is the brokers' default for it. Neither exists
    /// any more in Kafka 4.
    pub const SETTING: &str = "message.format.version";

    /// The format of a topic with these effective settings. What is not told, or not understood, is the newest: a broker
    /// that keeps another one refuses what does not fit, and changes nothing silently.
    pub fn of(settings: &BTreeMap<String, ConfigEntry>) -> MessageFormat {
        let version = settings.get(Self::SETTING).and_then(|entry| entry.value.as_deref()).unwrap_or_default();
        let mut numbers = version.split(['.', '-']).map(|part| part.parse().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(0), Some(..10)) => MessageFormat::V0,
            (Some(0), Some(10)) => MessageFormat::V1,
            (Some::<u32>(_), _) | (None, _) => MessageFormat::V2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::ConfigOrigin;

    #[test]
    fn the_format_is_that_of_the_version_as_brokers_write_it() {
        use MessageFormat::{V0, V1, V2};
        for (version, format) in [
            ("0.8.2", V0),
            ("0.9.0.1", V0),
            ("0.10.0-IV1", V1),
            ("0.10.2", V1),
            ("0.11.0-IV2", V2),
            ("1.0", V2),
            ("2.8-IV1", V2),
            ("", V2),
            ("0", V2),
        ] {
            let entry = ConfigEntry { value: Some(version.into()), origin: ConfigOrigin::Topic };
            let settings = BTreeMap::from([(MessageFormat::SETTING.to_owned(), entry)]);
            assert_eq!(MessageFormat::of(&settings), format, "{version:?}");
        }
        assert_eq!(MessageFormat::of(&BTreeMap::new()), V2);
    }
}
