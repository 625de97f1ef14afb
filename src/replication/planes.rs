//! The ways there are to write a link's target, and the one a route is on.

use std::sync::Arc;

use crate::endpoint::Sink;
use crate::model::Plane;
use crate::policy::plane::PlaneRule;

/// Both ways to write the target, and which the link allows.
pub struct Planes {
    /// What the link allows.
    pub rule: PlaneRule,
    /// Writes record batches unopened.
    pub batches: Arc<dyn Sink>,
    /// Writes record by record.
    pub records: Arc<dyn Sink>,
}

/// The plane a route is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaneInUse {
    /// The plane.
    pub plane: Plane,
    /// Why, where that is not the configuration's word.
    pub why: Option<String>,
}

impl Planes {
    /// The plane a route starts on.
    pub(super) fn first(&self) -> PlaneInUse {
        PlaneInUse { plane: self.rule.first(), why: None }
    }

    /// The plane to go on with where the target refuses `plane`, and `why`.
    pub(super) fn instead_of(&self, plane: Plane, why: &str) -> Option<PlaneInUse> {
        let plane = self.rule.instead_of(plane)?;
        Some(PlaneInUse { plane, why: Some(why.to_owned()) })
    }

    pub(super) fn sink(&self, plane: Plane) -> &dyn Sink {
        match plane {
            Plane::Batches => &*self.batches,
            Plane::Records => &*self.records,
        }
    }
}
