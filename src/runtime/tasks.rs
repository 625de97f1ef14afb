//! The one way to start a task: inside a scope that can stop all of its tasks and wait for them.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that live and end together. Dropping the last clone does not stop them: call [`TaskScope::stop`].
#[derive(Clone, Debug, Default)]
pub struct TaskScope {
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl TaskScope {
    /// An empty scope.
    pub fn new() -> Self {
        Self::default()
    }

    /// A scope that is told to stop when this one is; it is waited for on its own.
    pub fn child(&self) -> Self {
        Self { stop: self.stop.child_token(), tracker: TaskTracker::new() }
    }

    /// The signal the tasks of this scope watch.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task. It must return soon after [`TaskScope::stopping`] fires.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Starts a task that is simply dropped at its current await when the scope stops.
    pub fn spawn_until_stopped<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tracker.spawn(async move { stop.run_until_cancelled(task).await });
    }

    /// Tells every task to stop and waits until all have.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
