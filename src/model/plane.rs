//! How payloads travel.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How records are written to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plane {
    /// As the record batches they were stored in, unopened, by compare-and-append.
    Batches,
    /// Record by record through librdkafka, for targets that refuse the others.
    Records,
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Plane::Batches => "batches",
            Plane::Records => "records",
        })
    }
}
