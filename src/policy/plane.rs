//! Which plane a route travels on.

use crate::endpoint::ErrorKind;
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

    /// The plane to go on with after an error on `plane`; `None` when it does not speak against that plane, or no other is
    /// allowed.
    pub fn instead_of(self, plane: Plane, error: ErrorKind) -> Option<Plane> {
        let is_refused = error == ErrorKind::PlaneRefused;
        (is_refused && self == PlaneRule::Auto && plane == Plane::Batches).then_some(Plane::Records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_batches_leads_to_records_and_never_back() {
        use ErrorKind::{Attach, Denied, PlaneRefused, Refused};
        assert_eq!(PlaneRule::Auto.first(), Plane::Batches);
        assert_eq!(PlaneRule::Auto.instead_of(Plane::Batches, PlaneRefused), Some(Plane::Records));
        assert_eq!(PlaneRule::Auto.instead_of(Plane::Records, PlaneRefused), None);
        for other in [Attach, Denied, Refused] {
            assert_eq!(PlaneRule::Auto.instead_of(Plane::Batches, other), None);
        }
        for plane in [Plane::Batches, Plane::Records] {
            assert_eq!(PlaneRule::Only(plane).first(), plane);
            assert_eq!(PlaneRule::Only(plane).instead_of(plane, PlaneRefused), None);
        }
    }
}
