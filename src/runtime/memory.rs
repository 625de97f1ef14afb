//! The memory budget of the process: bytes are reserved before they are fetched and return when the last holder drops.
//!
//! A [`Permit`] may be split off and shared ([`Permit`] is cheap to clone: the bytes return with the last clone), because
//! the batches of one fetch response are slices of one frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Accounting grain: a permit's size is rounded up to it.
const GRAIN_BYTES: u64 = 1024;

/// A process-wide bound on bytes in flight.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    grains: Arc<Semaphore>,
    total_bytes: u64,
    debt_bytes: Arc<AtomicU64>,
}

impl MemoryBudget {
    /// A budget of `bytes`, at least one grain (1 KiB).
    pub fn new(bytes: u64) -> Self {
        let grains = grains(bytes);
        Self {
            grains: Arc::new(Semaphore::new(grains as usize)),
            total_bytes: u64::from(grains) * GRAIN_BYTES,
            debt_bytes: Arc::default(),
        }
    }

    /// The whole budget, bytes.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes reserved now, including what frames larger than their reservation took on top.
    pub fn used_bytes(&self) -> u64 {
        self.total_bytes - self.grains.available_permits() as u64 * GRAIN_BYTES
            + self.debt_bytes.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` (clamped to the whole budget) are free and reserves them. Fair: waiters are served in order.
    /// Cancel-safe: a dropped future reserves nothing.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let wanted = grains(bytes).min(grains(self.total_bytes));
        let permit =
            self.grains.clone().acquire_many_owned(wanted).await.expect("the budget's semaphore is never closed");
        Reservation { permit, debt: self.debt_bytes.clone() }
    }

    /// Reserves without waiting; `None` when the bytes are not free now.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let wanted = grains(bytes).min(grains(self.total_bytes));
        let permit = self.grains.clone().try_acquire_many_owned(wanted).ok()?;
        Some(Reservation { permit, debt: self.debt_bytes.clone() })
    }
}

fn grains(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(GRAIN_BYTES)).unwrap_or(u32::MAX).max(1)
}

/// Bytes reserved before it is known how many will arrive.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
    debt: Arc<AtomicU64>,
}

impl Reservation {
    /// Settles on what arrived: the surplus returns at once; what exceeds the reservation (a single batch larger than
    /// asked for) is taken as debt, visible in [`MemoryBudget::used_bytes`], because it is already in memory.
    pub fn settle(mut self, arrived_bytes: u64) -> Permit {
        let reserved = self.permit.num_permits() as u32;
        let needed = grains(arrived_bytes);
        if needed < reserved {
            drop(self.permit.split((reserved - needed) as usize));
        }
        let debt_bytes = u64::from(needed.saturating_sub(reserved)) * GRAIN_BYTES;
        self.debt.fetch_add(debt_bytes, Ordering::Relaxed);
        Permit(Arc::new(Held::Bytes { _permit: self.permit, debt: self.debt, debt_bytes }))
    }
}

/// Reserved bytes; they return to the budget when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Permit(Arc<Held>);

#[derive(Debug)]
enum Held {
    Bytes { _permit: OwnedSemaphorePermit, debt: Arc<AtomicU64>, debt_bytes: u64 },
    All(Vec<Permit>),
}

impl Permit {
    /// One permit for what all of them hold, each held once.
    pub fn all(mut permits: Vec<Permit>) -> Permit {
        permits.dedup_by(|one, other| Arc::ptr_eq(&one.0, &other.0));
        match <[Permit; 1]>::try_from(permits) {
            Ok([only]) => only,
            Err(permits) => Permit(Arc::new(Held::All(permits))),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self {
            Held::Bytes { debt, debt_bytes, .. } => {
                debt.fetch_sub(*debt_bytes, Ordering::Relaxed);
            }
            Held::All(permits) => permits.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn surplus_returns_at_settlement_and_the_rest_with_the_last_clone() {
        let budget = MemoryBudget::new(64 * 1024);
        let permit = budget.reserve(32 * 1024).await.settle(1000);
        assert_eq!(budget.used_bytes(), 1024);
        let clone = permit.clone();
        drop(permit);
        assert_eq!(budget.used_bytes(), 1024);
        drop(clone);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn permits_held_together_return_together() {
        let budget = MemoryBudget::new(64 * 1024);
        let (one, other) = (budget.reserve(1024).await.settle(1024), budget.reserve(2048).await.settle(4096));
        let all = Permit::all(vec![one.clone(), one.clone(), other.clone()]);
        drop((one, other));
        assert_eq!(budget.used_bytes(), 5 * 1024);
        drop(all);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn a_frame_larger_than_reserved_is_counted_as_debt() {
        let budget = MemoryBudget::new(8 * 1024);
        let permit = budget.reserve(4 * 1024).await.settle(20 * 1024);
        assert_eq!(budget.used_bytes(), 20 * 1024);
        drop(permit);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn nobody_gets_bytes_that_are_taken() {
        let budget = MemoryBudget::new(4 * 1024);
        let all = budget.reserve(u64::MAX).await;
        assert!(budget.try_reserve(1).is_none());
        drop(all);
        assert!(budget.try_reserve(1).is_some());
    }
}
