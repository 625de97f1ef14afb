//! The requests this adapter speaks: version range and outline of the response, one row each.
//!
//! Raising a maximum means adding the new fields to the row; a test holds every row and version to `kafka-protocol`.

use kafka_protocol::messages::ApiKey;

use crate::wire::shape::Kind::{Blob, Fixed, FixedArray, Struct, Structs, Tagged as Tag, Text, TextArray};
use crate::wire::shape::{Field, Misshapen, Tagged, between, field, since, walk};

/// A request type as far as this adapter speaks it.
pub(super) struct Api {
    /// Which.
    pub(super) key: ApiKey,
    /// Lowest version whose meaning suffices here.
    pub(super) min: i16,
    /// Highest version spoken.
    pub(super) max: i16,
    /// First version whose *response body* uses compact lengths and tagged fields.
    flexible: i16,
    response: &'static [Field],
}

const fn api(key: ApiKey, min: i16, max: i16, flexible: i16, response: &'static [Field]) -> Api {
    Api { key, min, max, flexible, response }
}

const I8: Field = field(Fixed(1));
const I16: Field = field(Fixed(2));
const I32: Field = field(Fixed(4));
const I64: Field = field(Fixed(8));
const UUID: Field = field(Fixed(16));
const TEXT: Field = field(Text);

/// Every request this adapter sends. Minima: what 2.8 brokers have, lower where older meaning suffices.
pub(super) const APIS: &[Api] = &[
    api(ApiKey::Produce, 3, 13, 9, PRODUCE),
    api(ApiKey::Fetch, 4, 18, 12, FETCH),
    api(ApiKey::ListOffsets, 2, 10, 6, LIST_OFFSETS),
    api(ApiKey::Metadata, 4, 13, 9, METADATA), // 4: a topic asked for is never created
    api(ApiKey::OffsetCommit, 2, 9, 8, OFFSET_COMMIT), // 10: by topic id only
    api(ApiKey::OffsetFetch, 7, 9, 6, OFFSET_FETCH), // 7: require_stable; 10: by topic id only
    api(ApiKey::FindCoordinator, 0, 6, 3, FIND_COORDINATOR),
    api(ApiKey::DescribeGroups, 0, 6, 5, DESCRIBE_GROUPS),
    api(ApiKey::ListGroups, 4, 5, 3, LIST_GROUPS), // 4: states
    api(ApiKey::SaslHandshake, 1, 1, i16::MAX, &[I16, field(TextArray)]),
    api(ApiKey::ApiVersions, 0, 3, 3, API_VERSIONS),
    api(ApiKey::CreateTopics, 2, 7, 5, CREATE_TOPICS),
    api(ApiKey::InitProducerId, 0, 5, 2, &[I32, I16, I64, I16]),
    api(ApiKey::OffsetForLeaderEpoch, 2, 4, 4, OFFSET_FOR_LEADER_EPOCH),
    api(ApiKey::DescribeConfigs, 1, 4, 4, DESCRIBE_CONFIGS),
    api(ApiKey::SaslAuthenticate, 0, 2, 2, &[I16, TEXT, field(Blob), since(1, Fixed(8))]),
    api(ApiKey::CreatePartitions, 0, 3, 2, &[I32, field(Structs(&[TEXT, I16, TEXT]))]),
    api(ApiKey::IncrementalAlterConfigs, 0, 1, 1, &[I32, field(Structs(&[I16, TEXT, I8, TEXT]))]),
    api(ApiKey::OffsetDelete, 0, 0, i16::MAX, OFFSET_DELETE),
    api(ApiKey::DescribeProducers, 0, 0, 0, DESCRIBE_PRODUCERS),
    api(ApiKey::ConsumerGroupDescribe, 0, 1, 0, CONSUMER_GROUP_DESCRIBE),
    api(ApiKey::DescribeShareGroupOffsets, 0, 0, 0, DESCRIBE_SHARE_GROUP_OFFSETS),
];

/// The row of a request type; `None` when this adapter does not speak it.
pub(super) fn find(key: ApiKey) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key == key)
}

impl Api {
    /// Holds a response body against its outline; on success decoding it reserves no more than its bytes justify.
    /// Returns the bytes left behind the last field.
    pub(super) fn check(&self, version: i16, body: &[u8]) -> Result<usize, Misshapen> {
        walk(self.response, version, version >= self.flexible, body)
    }
}

const NODE_ENDPOINTS: Tagged = Tagged::Structs(&[I32, TEXT, I32, TEXT]);
const LEADER: Tagged = Tagged::Struct(&[I32, I32]);
const EPOCH_END: Tagged = Tagged::Struct(&[I32, I64]);
const SNAPSHOT: Tagged = Tagged::Struct(&[I64, I32]);

const PRODUCE: &[Field] = &[
    field(Structs(&[
        between(0, 12, Text),
        since(13, Fixed(16)),
        field(Structs(&[
            I32,
            I16,
            I64,
            I64,
            since(5, Fixed(8)),
            since(8, Structs(&[I32, TEXT])),
            since(8, Text),
            since(10, Tag(0, &LEADER)),
        ])),
    ])),
    I32,
    since(10, Tag(0, &NODE_ENDPOINTS)),
];

const FETCH: &[Field] = &[
    I32,
    since(7, Fixed(2)),
    since(7, Fixed(4)),
    field(Structs(&[
        between(0, 12, Text),
        since(13, Fixed(16)),
        field(Structs(&[
            I32,
            I16,
            I64,
            I64,
            since(5, Fixed(8)),
            field(Structs(&[I64, I64])),
            since(11, Fixed(4)),
            field(Blob),
            field(Tag(0, &EPOCH_END)),
            field(Tag(1, &LEADER)),
            field(Tag(2, &SNAPSHOT)),
        ])),
    ])),
    since(16, Tag(0, &NODE_ENDPOINTS)),
];

const LIST_OFFSETS: &[Field] =
    &[I32, field(Structs(&[TEXT, field(Structs(&[I32, I16, I64, I64, since(4, Fixed(4))]))]))];

const METADATA: &[Field] = &[
    I32,
    field(Structs(&[I32, TEXT, I32, TEXT])),
    TEXT,
    I32,
    field(Structs(&[
        I16,
        TEXT,
        since(10, Fixed(16)),
        I8,
        field(Structs(&[
            I16,
            I32,
            I32,
            since(7, Fixed(4)),
            field(FixedArray(4)),
            field(FixedArray(4)),
            since(5, FixedArray(4)),
        ])),
        since(8, Fixed(4)),
    ])),
    between(8, 10, Fixed(4)),
    since(13, Fixed(2)),
];

const OFFSET_COMMIT: &[Field] = &[since(3, Fixed(4)), field(Structs(&[TEXT, field(Structs(&[I32, I16]))]))];

const COMMITTED: Field = field(Structs(&[TEXT, field(Structs(&[I32, I64, I32, TEXT, I16]))]));

const OFFSET_FETCH: &[Field] = &[
    I32,
    between(0, 7, Structs(&[TEXT, field(Structs(&[I32, I64, I32, TEXT, I16]))])),
    between(0, 7, Fixed(2)),
    since(8, Structs(&[TEXT, COMMITTED, I16])),
];

const FIND_COORDINATOR: &[Field] = &[
    since(1, Fixed(4)),
    between(0, 3, Fixed(2)),
    between(1, 3, Text),
    between(0, 3, Fixed(4)),
    between(0, 3, Text),
    between(0, 3, Fixed(4)),
    since(4, Structs(&[TEXT, I32, TEXT, I32, I16, TEXT])),
];

const DESCRIBE_GROUPS: &[Field] = &[
    since(1, Fixed(4)),
    field(Structs(&[
        I16,
        since(6, Text),
        TEXT,
        TEXT,
        TEXT,
        TEXT,
        field(Structs(&[TEXT, since(4, Text), TEXT, TEXT, field(Blob), field(Blob)])),
        since(3, Fixed(4)),
    ])),
];

const LIST_GROUPS: &[Field] = &[I32, I16, field(Structs(&[TEXT, TEXT, TEXT, since(5, Text)]))];

const FEATURES: Tagged = Tagged::Structs(&[TEXT, I16, I16]);

const API_VERSIONS: &[Field] = &[
    I16,
    field(Structs(&[I16, I16, I16])),
    since(1, Fixed(4)),
    field(Tag(0, &FEATURES)),
    field(Tag(1, &Tagged::Fixed(8))),
    field(Tag(2, &FEATURES)),
    field(Tag(3, &Tagged::Fixed(1))),
];

const CREATE_TOPICS: &[Field] = &[
    I32,
    field(Structs(&[
        TEXT,
        since(7, Fixed(16)),
        I16,
        TEXT,
        since(5, Fixed(4)),
        since(5, Fixed(2)),
        since(5, Structs(&[TEXT, TEXT, I8, I8, I8])),
        field(Tag(0, &Tagged::Fixed(2))),
    ])),
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[I32, field(Structs(&[TEXT, field(Structs(&[I16, I32, I32, I64]))]))];

const DESCRIBE_CONFIGS: &[Field] = &[
    I32,
    field(Structs(&[
        I16,
        TEXT,
        I8,
        TEXT,
        field(Structs(&[
            TEXT,
            TEXT,
            I8,
            I8,
            I8,
            field(Structs(&[TEXT, TEXT, I8])),
            since(3, Fixed(1)),
            since(3, Text),
        ])),
    ])),
];

const OFFSET_DELETE: &[Field] = &[I16, I32, field(Structs(&[TEXT, field(Structs(&[I32, I16]))]))];

const DESCRIBE_PRODUCERS: &[Field] =
    &[I32, field(Structs(&[TEXT, field(Structs(&[I32, I16, TEXT, field(Structs(&[I64, I32, I32, I64, I32, I64]))]))]))];

const ASSIGNMENT: Field = field(Struct(&[field(Structs(&[UUID, TEXT, field(FixedArray(4))]))]));

const CONSUMER_GROUP_DESCRIBE: &[Field] = &[
    I32,
    field(Structs(&[
        I16,
        TEXT,
        TEXT,
        TEXT,
        I32,
        I32,
        TEXT,
        field(Structs(&[
            TEXT,
            TEXT,
            TEXT,
            I32,
            TEXT,
            TEXT,
            field(TextArray),
            TEXT,
            ASSIGNMENT,
            ASSIGNMENT,
            since(1, Fixed(1)),
        ])),
        I32,
    ])),
];

const SHARE_START: Field = field(Structs(&[I32, I64, I32, I16, TEXT]));

const DESCRIBE_SHARE_GROUP_OFFSETS: &[Field] =
    &[I32, field(Structs(&[TEXT, field(Structs(&[TEXT, UUID, SHARE_START])), I16, TEXT]))];

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
