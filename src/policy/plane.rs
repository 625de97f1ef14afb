//! Which plane a route travels on.

use crate::model::Plane;

/// What a link allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlaneRule {
    /// Batches, and records where the target refuses those. Chosen at a route's start; afterwards it changes once at most.
    #[default]
    Auto,
    /// This one or none.
    Only(Plane),
}

impl PlaneRule {
    /// The plane to start with.
    pub fn first(self) -> Plane {
        match self {
            PlaneRule::Auto => Plane::Batches,
            PlaneRule::Only(plane) => plane,
        }
    }

    /// The plane to go on with where the target refuses `plane`; `None` when no other is allowed.
    pub fn instead_of(self, plane: Plane) -> Option<Plane> {
        (self == PlaneRule::Auto && plane == Plane::Batches).then_some(Plane::Records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_batches_leads_to_records_and_never_back() {
        assert_eq!(PlaneRule::Auto.first(), Plane::Batches);
        assert_eq!(PlaneRule::Auto.instead_of(Plane::Batches), Some(Plane::Records));
        assert_eq!(PlaneRule::Auto.instead_of(Plane::Records), None);
        for plane in [Plane::Batches, Plane::Records] {
            assert_eq!(PlaneRule::Only(plane).first(), plane);
            assert_eq!(PlaneRule::Only(plane).instead_of(plane), None);
        }
    }
}
