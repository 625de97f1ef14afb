//! The one way to start a task: inside a scope that can stop all of its tasks and wait for them.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that live and end together. Dropping the last clone does not stop them: call [`TaskScope::stop`].
#[derive(Clone, Debug, Default)]
pub struct TaskScope {
    stop: CancellationToken,
    broken: CancellationToken,
    tracker: TaskTracker,
}

impl TaskScope {
    /// An empty scope.
    pub fn new() -> Self {
        Self::default()
    }

    /// A scope that is told to stop when this one is; it is waited for on its own.
    pub fn child(&self) -> Self {
        Self { stop: self.stop.child_token(), ..Self::default() }
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
        let (stop, broken) = (self.stop.clone(), self.broken.clone());
        self.tracker.spawn(async move {
            // Nothing of the task is looked at again.
            let task = AssertUnwindSafe(task).catch_unwind();
            if let Some(Err(_reported)) = stop.run_until_cancelled(task).await {
                broken.cancel();
            }
        });
    }

    /// Resolves once a task started by [`TaskScope::spawn_until_stopped`] has panicked: what it kept up is no longer
    /// kept up. Cancel-safe.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Tells every task to stop and waits until all have.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_noticed_and_one_that_ends_is_not() {
        let scope = TaskScope::new();
        scope.spawn_until_stopped(async {});
        scope.spawn_until_stopped(std::future::pending());
        tokio::task::yield_now().await;
        assert_eq!(scope.broken().now_or_never(), None);
        scope.spawn_until_stopped(async { panic!("a bug (as this test wishes)") });
        scope.broken().await;
        scope.stop().await;
    }
}
