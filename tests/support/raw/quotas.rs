//! What brokers let a client have.

use kafka_protocol::messages::AlterClientQuotasRequest;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};

use super::{Client, Result, accepted, text};

/// Bytes per second and broker that a client may write.
pub const PRODUCER_BYTES: &str = "producer_byte_rate";
/// Bytes per second and broker that a client may read.
pub const CONSUMER_BYTES: &str = "consumer_byte_rate";
/// Percent of a broker's network and request threads that a client may use.
pub const REQUEST_PERCENT: &str = "request_percentage";

impl Client {
    /// Sets (or with `None` removes) quotas of everybody who calls himself by one of these client ids.
    pub fn set_quotas(&self, client_ids: &[&str], quotas: &[(&str, Option<f64>)]) -> Result<()> {
        let quota = |(key, value): &(&str, Option<f64>)| {
            let operation = OpData::default().with_key(text(key)).with_remove(value.is_none());
            operation.with_value(value.unwrap_or_default())
        };
        let entry = |id: &&str| {
            let who = EntityData::default().with_entity_type(text("client-id")).with_entity_name(Some(text(id)));
            EntryData::default().with_entity(vec![who]).with_ops(quotas.iter().map(quota).collect())
        };
        let request = AlterClientQuotasRequest::default().with_entries(client_ids.iter().map(entry).collect());
        let answer = self.ask_controller(&request, 1)?;
        answer.entries.iter().try_for_each(|e| accepted(e.error_code, format_args!("quotas: {:?}", e.error_message)))
    }
}
