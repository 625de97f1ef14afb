//! The links the daemon was configured with, and those of them that have been started.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::link::LinkControl;
use crate::model::LinkName;

type Started = Option<Arc<dyn LinkControl>>;

/// Every configured link by name. Clones share the registry; links are added as they start.
#[derive(Clone, Default)]
pub struct Links(Arc<RwLock<BTreeMap<LinkName, Started>>>);

impl Links {
    /// A registry of links that are still to be started: until they are, the process is not ready.
    pub fn expecting(names: impl IntoIterator<Item = LinkName>) -> Self {
        Self(Arc::new(RwLock::new(names.into_iter().map(|name| (name, None)).collect())))
    }

    /// From now on `name` is answered by `link`.
    pub fn insert(&self, name: LinkName, link: Arc<dyn LinkControl>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, Some(link));
    }

    /// Every configured link, started or not, in order of names.
    pub(super) fn all(&self) -> Vec<(LinkName, Started)> {
        let links = self.0.read().unwrap_or_else(PoisonError::into_inner);
        links.iter().map(|(name, link)| (name.clone(), link.clone())).collect()
    }

    /// The links that have been started, in order of names.
    pub(super) fn started(&self) -> Vec<(LinkName, Arc<dyn LinkControl>)> {
        self.all().into_iter().filter_map(|(name, link)| Some((name, link?))).collect()
    }

    /// One link; the outer `None`: not configured, the inner: not started.
    pub(super) fn get(&self, name: &LinkName) -> Option<Started> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
