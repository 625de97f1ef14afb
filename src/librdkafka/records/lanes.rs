//! The lanes there are: few, because each costs threads; of at most 64 routes, because these fail together.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use metrics::{Counter, counter};
use tokio::sync::Mutex;

use crate::endpoint::Result;
use crate::librdkafka::access::ClusterAccess;
use crate::librdkafka::records::codecs::Codecs;
use crate::librdkafka::records::lane::{Kind, Lane};
use crate::telemetry::metrics::families;

/// Routes of a lane, at most.
const ROUTES: usize = 64;

pub(super) struct Lanes {
    access: ClusterAccess,
    lanes: Mutex<HashMap<Kind, Vec<Weak<Lane>>>>,
    codecs: Arc<Codecs>,
    replaced: Counter,
}

impl Lanes {
    pub(super) fn new(access: ClusterAccess) -> Self {
        let replaced = counter!(families::LANES_REPLACED.name, "cluster" => access.alias.clone());
        Self { access, lanes: Mutex::default(), codecs: Arc::default(), replaced }
    }

    /// Which codecs the target takes.
    pub(super) fn codecs(&self) -> &Codecs {
        &self.codecs
    }

    /// A lane of this kind with room for another route; a new one where there is none.
    pub(super) async fn join(&self, kind: Kind) -> Result<Arc<Lane>> {
        let mut lanes = self.lanes.lock().await;
        let alike = lanes.entry(kind).or_default();
        alike.retain(|lane| {
            let lane = lane.upgrade();
            let is_broken = lane.as_ref().is_some_and(|lane| lane.is_broken());
            self.replaced.increment(u64::from(is_broken));
            lane.is_some() && !is_broken
        });
        let joined = alike.iter().filter(|lane| lane.strong_count() < ROUTES).find_map(Weak::upgrade);
        if let Some(lane) = joined {
            return Ok(lane);
        }
        let lane = Arc::new(Lane::start(self.access.clone(), kind, self.codecs.clone()).await?);
        alike.push(Arc::downgrade(&lane));
        Ok(lane)
    }
}
