//! Every metric family by name, with the help text that is its documentation. Base units; `topic` is the target's.

/// A metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Name in the exposition.
    pub name: &'static str,
    /// What it counts, in which unit, and what to make of it.
    pub help: &'static str,
}

macro_rules! families {
    ($list:ident, $what:literal; $($constant:ident = $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Family = Family { name: $name, help: $help };)*
        #[doc = $what]
        pub const $list: &[Family] = &[$($constant),*];
    };
}

families! { COUNTERS, "Families that only grow, from 0 at the start of the process.";
    RECORDS = "twinlog_records_total", "Records copied and acknowledged by the target.";
    BYTES = "twinlog_bytes_total", "Bytes of record batches, as stored (compressed), copied and acknowledged by the target.";
    JOINED = "twinlog_joined_batches_total", "Record batches of the source that were joined with their neighbours, because they were tiny and their partition behind.";
    ATTACHES = "twinlog_attaches_total", "Times a partition learnt the target's true end and found its position; more than one per start means something was in doubt.";
    FAILURES = "twinlog_failures_total", "Times a partition failed and backed off before trying again.";
    DUPLICATED = "twinlog_duplicated_records_total", "Records found twice on the target, matched by content and mapped.";
    UNVERIFIABLE = "twinlog_unverifiable_records_total", "Records of the target's tail that could not be held against the source, because one side no longer has them.";
    ALTERED = "twinlog_altered_timestamps_total", "Records written with the timestamp of 1 ms instead of 0, which the records plane cannot write.";
    LOST = "twinlog_lost_records_total", "Source offsets given up: removed by retention before they were copied, or skipped by an operator.";
    LANES_REPLACED = "twinlog_lanes_replaced_total", "Producers of the records plane that were replaced after a failure; the routes of each, at most 64, attached again.";
    PASS_FAILURES = "twinlog_pass_failures_total", "Passes over topics, groups or bounds, or flushes of the map, that failed, by pass.";
}

families! { HISTOGRAMS, "Families of distributions.";
    DELIVERY_SECONDS = "twinlog_delivery_seconds", "Seconds from handing a record batch to the target's connection to its acknowledgement.";
    PASS_SECONDS = "twinlog_pass_seconds", "Seconds a pass over topics, groups or bounds, or a flush of the map, took, by pass.";
}

families! { GAUGES, "Families that say how things stand at the moment of the scrape.";
    BUILD_INFO = "twinlog_build_info", "Always 1; the version is a label.";
    LINK_STATE = "twinlog_link_state", "1 for the state a link is in, 0 for the others.";
    LINK_PROBLEMS = "twinlog_link_problems", "Problems of a link and its topics that wait for somebody; `twinlog status` names them.";
    PARTITIONS = "twinlog_partitions", "Partitions by state.";
    PROTECTION = "twinlog_replicating_partitions", "Partitions that replicate, by how well the target protects them against doubles.";
    HALTED = "twinlog_halted_partitions", "Partitions that stand still until an operator decides, by reason; alert on any.";
    LAG_RECORDS = "twinlog_lag_records", "Source offsets up to the high watermark that are not on the target yet.";
    LAG_BYTES = "twinlog_lag_bytes", "The records lag in bytes, estimated from the mean size of what this process has copied; absent until it has copied something.";
    LAG_SECONDS = "twinlog_lag_seconds", "Seconds since the source's end was where our position is, 0 when level; per topic the worst partition's.";
    UNSTABLE_RECORDS = "twinlog_unstable_records", "The part of the records lag behind the source's last stable offset: held back by open transactions, not by us.";
    UNFLUSHED_RECORDS = "twinlog_map_unflushed_records", "Records acknowledged by the target whose offsets are not durable in the map yet; a start would match them again.";
    MEMORY_USED = "twinlog_memory_used_bytes", "Bytes reserved of the memory budget, over all links.";
    MEMORY_BUDGET = "twinlog_memory_budget_bytes", "The memory budget, over all links.";
    RATE_LIMIT = "twinlog_rate_limit_bytes", "Bytes per second a link may copy; absent when unlimited.";
    GROUPS = "twinlog_groups", "Consumer groups by verdict; `twinlog groups` names them.";
    GROUPS_RE_READ = "twinlog_groups_re_read_records", "Records that all groups would read again if applications switched over now.";
    GROUPS_SKIP = "twinlog_groups_skip_records", "Records that all groups would pass over without having read them if applications switched over now; alert on any.";
    GROUPS_AT_RISK = "twinlog_groups_at_risk_records", "Records in partitions that groups read without a position: their reset rule decides.";
    GROUPS_LOST = "twinlog_groups_lost_records", "The part of the skipped records that the target has deleted while the source still has them.";
    GROUP_RE_READ = "twinlog_group_re_read_records", "The same for each group; only where partitions are kept apart.";
    GROUP_SKIP = "twinlog_group_skip_records", "The same for each group; only where partitions are kept apart.";
    GROUP_AT_RISK = "twinlog_group_at_risk_records", "The same for each group; only where partitions are kept apart.";
    GROUPS_FOLLOWED = "twinlog_groups_followed", "1 while the source's commits are followed as they are made, 0 while they are polled.";
    CUT_WITHOUT = "twinlog_cut_without_partitions", "Partitions that positions are not held back for, because they are halted or lag too much.";
}
