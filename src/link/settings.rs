//! What a link was told to do, in the terms of the rooms that do it.

use std::time::Duration;

use crate::metadata::groups::GroupRules;
use crate::metadata::topics::TopicRules;
use crate::model::LinkName;
use crate::policy::plane::PlaneRule;
use crate::policy::priority::Priorities;
use crate::policy::resolution::RetentionOvertook;
use crate::policy::start::Start;

/// A link's settings.
pub struct LinkSettings {
    /// Its name: the ledger's identity.
    pub name: LinkName,
    /// Which topics, under which names and settings.
    pub topics: TopicRules,
    /// Which groups, and how they are kept.
    pub groups: GroupRules,
    /// Where topics that exist at the link's birth are copied from.
    pub start: Start,
    /// What retention loss does.
    pub retention_overtook: RetentionOvertook,
    /// How records may travel.
    pub plane: PlaneRule,
    /// Rate limit unless an operator set another, bytes per second.
    pub rate_limit_bytes: Option<u64>,
    /// How topics share the rate while it is limited.
    pub priorities: Priorities,
    /// Pause between looks at the topics.
    pub topics_interval: Duration,
    /// Pause between passes over the groups.
    pub groups_interval: Duration,
    /// Pause between flushes of the map.
    pub flush_interval: Duration,
    /// Pause between readings of the source's ends.
    pub bounds_interval: Duration,
}
