//! Twinlog keeps a second Kafka cluster as an exact twin of the first: same records, same order, every consumer group's
//! position translated without error, so that applications can move to the other cluster without skipping or re-reading
//! a record.
//!
//! # A record's way
//!
//! 1. [`metadata::topics`] sees a source topic, asks [`policy`] for its name and settings, creates or grows the target's,
//!    and reports **routes**.
//! 2. [`link`] publishes them to the [`replication`] supervisor, which runs one replicator per route.
//! 3. The replicator **attaches**: [`wire::produce`] learns the target's true end on a connection that has proven
//!    leadership; it is held against the **offset map**, both logs against the **anchor**, and what a crash left behind the
//!    map's end is matched with the source record by record.
//! 4. [`wire::fetch`] reads record batches of many partitions per request, committed view, as they are stored. [`batch`]
//!    looks at 61 header bytes; only what a broker would refuse (thinned by compaction, old formats, cut in the middle,
//!    append-time stamps) is opened and repacked, every record byte kept. And while a route is behind ([`policy::joining`]),
//!    tiny batches are joined: a produce request takes one batch per partition.
//! 5. [`wire::produce`] stamps the header with the link's one producer identity and a sequence that is a pure function of
//!    the data, shifts the checksum (never recomputes it: the source's checksum reaches the target's check), and sends the
//!    payload untouched. The target's broker appends it only if the log is where we think it is: **compare-and-append**.
//!    That is the batches plane; where a target refuses it, [`librdkafka`] opens the batch and produces its records one by
//!    one (records plane), and doubles are only noticed.
//! 6. The ack's offset is held against the expected one, the [`offsets`] map grows by the run, memory returns.
//! 7. The map is flushed into the [`ledger`] on an interval. It may lag behind the data, because starting attaches.
//!
//! # A position's way
//!
//! 1. A commit at the source rings: [`wire`] reads the keys of `__consumer_offsets` (where rights allow; else all
//!    groups are polled). [`metadata::groups`] asks the group's coordinator where it stands.
//! 2. **The cut**: after that it asks for the high watermarks of all mirrored partitions, and holds the position back until
//!    the mirror has passed them, so that no group stands beyond the output its work had produced. What holds everybody up
//!    leaves by name ([`policy::cut`]).
//! 3. The position is translated through the map, and held against what both logs still have.
//! 4. On the target nothing is written before it was looked whose the group is: members there, or a position that is
//!    neither *intended* nor *confirmed* by us in the ledger, latch it as **taken over**, until an operator's resync.
//! 5. Intent, commit, confirmation. Unchanged positions are committed again before they expire, also without the source.
//!
//! # Rooms, and which way imports point
//!
//! ```text
//! main → cli → app → { config, http, adapters, link }
//! http → link (its handle and reports)          link → { replication, metadata }
//! replication, metadata → { ledger, offsets, policy, endpoint, batch };  they never import each other
//! ledger → { offsets, endpoint }
//! wire, librdkafka → { endpoint, batch }        adapters of clusters; they never import each other
//! everyone → { model, runtime, telemetry }      policy, batch, offsets: pure (no async, no clock, no I/O)
//! ```
//! Only `adapters` names an adapter. `tests/architecture.rs` reads the paths and holds all of this.
//!
//! # Non-obvious
//!
//! * **The target is the truth.** Nothing is remembered on local disk; starting is recovering.
//! * **Accepted is not durable.** A writer's `send` waits for acceptance; a delivery resolves when all in-sync replicas
//!   have it. Only deliveries move the map.
//! * **A log end above the high watermark can vanish, even by a clean election.** Attach waits until both are equal.
//! * **An empty answer is no hole.** In a fetch of several partitions earlier ones can use up the response; a hole is
//!   believed from offsets inside and between batches, or from an answer to one partition alone.
//! * **Duplicate detection does not compare content.** But a sequence is a function of the record's place, so that the same
//!   sequences are the same records whoever cuts them into batches (another cut is refused and leads to an attach); and the
//!   last record's content is held against an anchor at every start.
//! * **A quota is a silence that was announced.** Whose quota is exceeded is answered, and then the broker reads nothing
//!   more from that connection for as long as it has said (KIP-219), minutes where the quota is small: no dead peer.
//! * **Kafka never compares a committed position with the one it replaces.** Whose a position is, is known only by what we
//!   remember to have written, and what we may have written before a crash.
//! * **Each position of a group expires on its own**; but a classic group that once had members loses all of them counted
//!   from when the last one left. Those are looked at in every pass.
//! * **Producer state expires by record time.** Data older than the target's `producer.id.expiration.ms` travels with one
//!   batch in flight (`probe only`), and every doubt is settled by reading the target.

pub mod adapters;
pub mod app;
pub mod batch;
pub mod cli;
pub mod config;
pub mod endpoint;
pub mod http;
pub mod ledger;
pub mod librdkafka;
pub mod link;
pub mod metadata;
pub mod model;
pub mod offsets;
pub mod policy;
pub mod replication;
pub mod runtime;
pub mod telemetry;
pub mod wire;
