//! Spawned tasks with an owner: they can be waited for, and they end when it says so.

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one owner. Clones belong to the same owner.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Tasks {
    /// Starts `future`; it is dropped where it waits when the owner cancels.
    pub fn spawn<F>(&self, future: F) -> AbortHandle
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let token = self.token.clone();
        let task = async move {
            token.run_until_cancelled(future).await;
        };
        self.tracker.spawn(task).abort_handle()
    }

    /// Ends all tasks, those to come included.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Returns when all tasks are done. Call it when nothing more will be started.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// hyper's own tasks for HTTP/2 have an owner too.
impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}
