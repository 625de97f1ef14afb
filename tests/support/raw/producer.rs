//! Producer ids and transactions by hand, so that committed and aborted ones can be written where a test wants them.

use std::collections::HashMap;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, TxnOffsetCommitRequest,
};

use super::super::batch::Batch;
use super::{Client, Failure, Result, accepted, name_of, text};

/// An idempotent producer: a batch given again after a broken connection lands once.
#[derive(Debug)]
pub struct Producer<'a> {
    client: &'a Client,
    transactional: Option<String>,
    /// As the coordinator gave it.
    pub id: i64,
    /// As the coordinator gave it.
    pub epoch: i16,
    sequences: HashMap<(String, i32), i32>,
}

impl Client {
    /// A producer; with a transactional id it can write transactions, and fences former ones of that id.
    pub fn producer(&self, transactional: Option<&str>) -> Result<Producer<'_>> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(transactional.map(name_of))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let (id, epoch) = self.again(|| {
            let answer = match transactional {
                Some(key) => self.ask_coordinator(1, key, &request, 4)?,
                None => self.ask_any(&request, 4)?,
            };
            accepted(answer.error_code, "producer id")?;
            Ok((answer.producer_id.0, answer.producer_epoch))
        })?;
        let transactional = transactional.map(str::to_owned);
        Ok(Producer { client: self, transactional, id, epoch, sequences: HashMap::new() })
    }
}

impl<'a> Producer<'a> {
    /// Appends a batch outside of transactions, exactly once, whatever breaks; returns its first offset, or −1 when the
    /// broker knew it already from a try whose answer was lost.
    pub fn send(&mut self, topic: &str, partition: i32, batch: &Batch) -> Result<i64> {
        self.append(None, topic, partition, batch)
    }

    /// Begins a transaction.
    pub fn begin(&mut self) -> Transaction<'_, 'a> {
        assert!(self.transactional.is_some(), "this producer has no transactional id");
        Transaction { producer: self, partitions: Vec::new() }
    }

    fn append(&mut self, transactional: Option<&str>, topic: &str, partition: i32, batch: &Batch) -> Result<i64> {
        let sequence = self.sequences.entry((topic.to_owned(), partition)).or_default();
        let stamped = Batch {
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence: *sequence,
            transactional: transactional.is_some(),
            ..batch.clone()
        };
        let bytes = stamped.encode();
        let offset = self.client.again(|| match self.client.produce_as(transactional, topic, partition, &bytes) {
            // 46: it is in the log from a try whose answer was lost.
            Err(Failure::Refused(46, _)) => Ok(-1),
            done => done,
        })?;
        // Sequences wrap to 0 behind the greatest positive number.
        *sequence = ((i64::from(*sequence) + batch.records.len() as i64) % (1 << 31)) as i32;
        Ok(offset)
    }
}

/// An open transaction; left open when dropped.
#[derive(Debug)]
pub struct Transaction<'p, 'a> {
    producer: &'p mut Producer<'a>,
    partitions: Vec<(String, i32)>,
}

impl Transaction<'_, '_> {
    /// Appends a batch as part of the transaction; returns its first offset.
    pub fn send(&mut self, topic: &str, partition: i32, batch: &Batch) -> Result<i64> {
        let id = self.producer.transactional.clone().unwrap_or_default();
        let at = (topic.to_owned(), partition);
        if !self.partitions.contains(&at) {
            let which = AddPartitionsToTxnTopic::default().with_name(name_of(topic)).with_partitions(vec![partition]);
            let request = AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(name_of(&id))
                .with_v3_and_below_producer_id(self.producer.id.into())
                .with_v3_and_below_producer_epoch(self.producer.epoch)
                .with_v3_and_below_topics(vec![which]);
            let client = self.producer.client;
            client.again(|| {
                let answer = client.ask_coordinator(1, &id, &request, 3)?;
                let mut results = answer.results_by_topic_v3_and_below.iter().flat_map(|t| &t.results_by_partition);
                results
                    .try_for_each(|p| accepted(p.partition_error_code, format_args!("{topic} into transaction {id}")))
            })?;
            self.partitions.push(at);
        }
        self.producer.append(Some(&id), topic, partition, batch)
    }

    /// Commits positions of a group without members as part of the transaction: pending until it ends.
    pub fn commit_offsets(&mut self, group: &str, at: &[(&str, i32, i64)], metadata: &str) -> Result<()> {
        let (client, producer) = (self.producer.client, self.producer.id.into());
        let id = self.producer.transactional.clone().unwrap_or_default();
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(name_of(&id))
            .with_producer_id(producer)
            .with_producer_epoch(self.producer.epoch)
            .with_group_id(name_of(group));
        client.again(|| {
            let answer = client.ask_coordinator(1, &id, &request, 3)?;
            accepted(answer.error_code, format_args!("positions of {group} into transaction {id}"))
        })?;
        let topic = |(topic, partition, offset): &(&str, i32, i64)| {
            let partition = TxnOffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(text(metadata)));
            TxnOffsetCommitRequestTopic::default().with_name(name_of(topic)).with_partitions(vec![partition])
        };
        // Version 3, as below: the coordinator of the group does not ask the transaction's.
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(name_of(&id))
            .with_group_id(name_of(group))
            .with_producer_id(producer)
            .with_producer_epoch(self.producer.epoch)
            .with_generation_id(-1)
            .with_topics(at.iter().map(topic).collect());
        client.again(|| {
            let answer = client.ask_coordinator(0, group, &request, 3)?;
            let mut partitions = answer.topics.iter().flat_map(|t| &t.partitions);
            partitions.try_for_each(|p| accepted(p.error_code, format_args!("transactional commit of {group}")))
        })
    }

    /// Commits it: its records become visible.
    pub fn commit(self) -> Result<()> {
        self.end(true)
    }

    /// Aborts it: nobody reading committed data ever sees its records.
    pub fn abort(self) -> Result<()> {
        self.end(false)
    }

    fn end(self, commit: bool) -> Result<()> {
        let id = self.producer.transactional.clone().unwrap_or_default();
        let request = EndTxnRequest::default()
            .with_transactional_id(name_of(&id))
            .with_producer_id(self.producer.id.into())
            .with_producer_epoch(self.producer.epoch)
            .with_committed(commit);
        // Version 3: later ones (KIP-890) raise the epoch with every transaction and write nothing for an empty one.
        self.producer.client.again(|| {
            let answer = self.producer.client.ask_coordinator(1, &id, &request, 3)?;
            accepted(answer.error_code, format_args!("end of transaction {id}"))
        })
    }
}
