//! What a proxy keeps back: the requests of one API key or the answers to them, until they are let through or lost.
//!
//! It makes a moment last: between what a program has sent and what a broker has done, or between that and the answer.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// API key of offset commits.
pub const OFFSET_COMMIT: i16 = 8;
/// API key of what ends a transaction.
pub const END_TXN: i16 = 26;

/// What a frame is: which way it goes and its API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From a client to the broker.
    Request(i16),
    /// The broker's answer to a request of this key.
    Response(i16),
}

/// Keeps frames of one kind back, together with what follows them on their connections; dropped, it lets them through.
#[derive(Debug)]
pub struct Hold(Arc<Gate>);

impl Hold {
    /// How many frames stand here: at most one of each connection.
    pub fn count(&self) -> usize {
        self.0.state().1
    }

    /// Lets through what is held, also what was sent by somebody who has died since, and holds nothing more.
    pub fn release(self) {}

    /// What is held never arrives: its connections are closed. Holds nothing more.
    pub fn lose(self) {
        self.0.decide(Fate::Lost);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.decide(Fate::Passed);
    }
}

/// Everything that a proxy holds.
#[derive(Debug, Default)]
pub struct Holds(Mutex<Vec<Arc<Gate>>>);

impl Holds {
    /// Holds a kind of frame from now on.
    pub fn begin(&self, kind: Kind) -> Hold {
        let gate = Arc::new(Gate { kind, state: Mutex::new((Fate::Held, 0)), decided: Condvar::new() });
        let mut gates = self.gates();
        gates.retain(|gate| gate.state().0 == Fate::Held);
        gates.push(gate.clone());
        Hold(gate)
    }

    /// Returns at once for a frame that nothing holds, else when its fate is decided: whether it may go on.
    pub fn pass(&self, kind: Kind) -> bool {
        let gate = self.gates().iter().find(|gate| gate.kind == kind && gate.state().0 == Fate::Held).cloned();
        gate.is_none_or(|gate| gate.wait())
    }

    /// Holds nothing more.
    pub fn end(&self) {
        self.gates().drain(..).for_each(|gate| gate.decide(Fate::Lost));
    }

    fn gates(&self) -> MutexGuard<'_, Vec<Arc<Gate>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Held,
    Passed,
    Lost,
}

#[derive(Debug)]
struct Gate {
    kind: Kind,
    /// And how many wait for it.
    state: Mutex<(Fate, usize)>,
    decided: Condvar,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, (Fate, usize)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first decision stands.
    fn decide(&self, fate: Fate) {
        let mut state = self.state();
        if state.0 == Fate::Held {
            state.0 = fate;
            self.decided.notify_all();
        }
    }

    fn wait(&self) -> bool {
        let mut state = self.state();
        state.1 += 1;
        while state.0 == Fate::Held {
            state = self.decided.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.1 -= 1;
        state.0 == Fate::Passed
    }
}
