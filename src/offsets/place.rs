//! A pair of offsets that belong together.

use crate::model::Offset;

/// The same point of the log on both sides: whatever comes next lies at or behind `source` there and at or behind
/// `target` here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub source: Offset,
    pub target: Offset,
}

impl Place {
    /// Whether neither side lies before `other`'s.
    pub fn is_at_or_behind(self, other: Place) -> bool {
        self.source >= other.source && self.target >= other.target
    }
}
