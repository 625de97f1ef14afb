//! One process's place in the row of a link's owners: its own former tenures are waited for by nobody.

use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::ledger::process::ProcessIdentity;
use crate::model::LinkName;

/// Who acquires a link's ledger, tenure after tenure. Only one tenure at a time: before the next acquisition, everything
/// that wrote under the former one must have ended. A claimer that is new, as after a restart, knows of no former tenure.
#[derive(Debug)]
pub struct Claimant {
    /// The link whose ledger it is.
    pub link: LinkName,
    pub(super) process: ProcessIdentity,
    former: Mutex<Former>,
}

/// The holder's ids that can still be on record.
#[derive(Debug, Default)]
struct Former {
    claimed: Option<Uuid>,
    held: Option<Uuid>,
}

impl Claimant {
    /// This process, before its first tenure.
    pub fn new(link: LinkName) -> Self {
        Self { link, process: ProcessIdentity::own(), former: Mutex::default() }
    }

    pub(super) fn claims_as(&self, holder: Uuid) {
        self.former.lock().unwrap_or_else(PoisonError::into_inner).claimed = Some(holder);
    }

    pub(super) fn holds_as(&self, holder: Uuid) {
        self.former.lock().unwrap_or_else(PoisonError::into_inner).held = Some(holder);
    }

    /// Whether what `holder` of `process` wrote is certainly all there is: its process is gone, or it was ourselves.
    pub(super) fn is_over(&self, holder: Uuid, process: &ProcessIdentity) -> bool {
        let former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        [former.claimed, former.held].contains(&Some(holder)) || process.is_provably_gone()
    }
}
