//! Looking at single places of a partition.

use async_trait::async_trait;

use crate::batch::content_hash;
use crate::endpoint::memory::log::opened;
use crate::endpoint::memory::{Call, MemoryCluster};
use crate::endpoint::{ErrorKind, PointReader, RecordDigest, Result, View, Window};
use crate::model::{LeaderEpoch, OffsetRange, TopicPartition};

#[async_trait]
impl PointReader for MemoryCluster {
    async fn read(&self, at: &TopicPartition, range: OffsetRange, view: View, max_bytes: u32) -> Result<Window> {
        self.enter_at(Call::PointRead, at).await?;
        let state = self.state();
        let log = state.log(at)?;
        let bounds = log.bounds();
        if range.start < bounds.log_start {
            let kind = ErrorKind::BelowLogStart(bounds.log_start);
            return Err(self.error(kind, format!("{at} at {}: the log starts at {}", range.start, bounds.log_start)));
        }
        let shown = match view {
            View::Committed => bounds.last_stable,
            View::Log => bounds.high_watermark,
        };
        let end = range.end.min(shown).max(range.start);
        let mut window = Window { records: Vec::new(), range: OffsetRange::new(range.start, end) };
        let mut bytes = 0;
        for batch in log.batches_from(range.start) {
            if batch.header.base_offset >= end.0 {
                break;
            }
            bytes += batch.bytes.len();
            let hidden =
                batch.header.attributes.is_control() || view == View::Committed && log.transactions.aborted(batch);
            let records = if hidden { Vec::new() } else { opened(batch) };
            let wanted = records.iter().filter(|record| window.range.contains(record.offset));
            window.records.extend(wanted.map(|record| RecordDigest {
                offset: record.offset,
                leader_epoch: LeaderEpoch(batch.header.leader_epoch),
                hash: content_hash(record),
            }));
            if bytes >= max_bytes as usize {
                window.range.end = end.min(batch.header.next_offset());
                break;
            }
        }
        Ok(window)
    }
}
