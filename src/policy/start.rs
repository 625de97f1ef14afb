//! Where copying of a partition begins when it is copied for the first time.

use crate::model::Offset;

/// The start rule of a link, for topics that exist when the link is born.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The first record still there.
    #[default]
    Earliest,
    /// Records produced from now on.
    Latest,
    /// The first record at or after a time, milliseconds since 1970.
    Time(i64),
}

impl Start {
    /// The rule that holds for one topic: topics created after the link was born are copied from their first record.
    pub fn for_topic(self, existed_at_birth: bool) -> Start {
        if existed_at_birth { self } else { Start::Earliest }
    }

    /// The first source offset to copy. `at_time` is the first offset at or after the configured time, if any.
    pub fn first_offset(self, log_start: Offset, high_watermark: Offset, at_time: Option<Offset>) -> Offset {
        match self {
            Start::Earliest => log_start,
            Start::Latest => high_watermark,
            Start::Time(_) => at_time.unwrap_or(high_watermark).max(log_start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_starts_where_it_says() {
        let (low, high) = (Offset(10), Offset(90));
        assert_eq!(Start::Earliest.first_offset(low, high, None), low);
        assert_eq!(Start::Latest.first_offset(low, high, None), high);
        assert_eq!(Start::Time(5).first_offset(low, high, Some(Offset(40))), Offset(40));
        assert_eq!(Start::Time(5).first_offset(low, high, None), high);
    }

    #[test]
    fn later_topics_are_copied_from_their_first_record() {
        assert_eq!(Start::Latest.for_topic(false), Start::Earliest);
        assert_eq!(Start::Latest.for_topic(true), Start::Latest);
    }
}
