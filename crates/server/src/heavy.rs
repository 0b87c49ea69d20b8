//! Heavy arithmetic on a bounded pool (DECISIONS.md D10): a key generation costs a third of a second of CPU, and a few
//! of them at once would otherwise stop every other request.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fault::Fault;

const RETRY_AFTER_MS: u64 = 2_000;

/// The pool: as many steps at once as there are processors, and a bounded queue before it.
#[derive(Clone)]
pub(crate) struct Heavy {
    processors: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    queue: usize,
}

/// A place on a processor. Ask for it *before* single-use state is taken, so that being turned away costs nothing.
pub(crate) struct Place {
    permit: OwnedSemaphorePermit,
}

impl Heavy {
    /// With a queue of `queue` steps.
    pub(crate) fn new(queue: usize) -> Self {
        let processors = available_parallelism().map_or(1, NonZeroUsize::get);
        Self::with(processors, queue)
    }

    fn with(processors: usize, queue: usize) -> Self {
        Self { processors: Arc::new(Semaphore::new(processors)), waiting: Arc::new(AtomicUsize::new(0)), queue }
    }

    /// Waits for a place, or says at once that the queue is full.
    pub(crate) async fn admit(&self) -> Result<Place, Fault> {
        let closed = |_| Fault::unavailable("the server is stopping", RETRY_AFTER_MS);
        if let Ok(permit) = Arc::clone(&self.processors).try_acquire_owned() {
            return Ok(Place { permit });
        }
        let _waiting = Waiting::enter(&self.waiting, self.queue)
            .ok_or_else(|| Fault::unavailable("the server is busy", RETRY_AFTER_MS))?;
        let permit = Arc::clone(&self.processors).acquire_owned().await.map_err(closed)?;
        Ok(Place { permit })
    }
}

impl Place {
    /// Runs `work` on a thread of its own. It goes on to its end even if nobody waits any more.
    pub(crate) async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        let span = tracing::Span::current();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = self.permit;
            span.in_scope(work)
        });
        task.await.map_err(|error| Fault::internal(&error))
    }
}

/// One step in the queue; leaves it on drop.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize, queue: usize) -> Option<Self> {
        let enter = |waiting| (waiting < queue).then_some(waiting + 1);
        waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).ok().map(|_| Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use halfkey_api::error::ErrorId;

    #[tokio::test]
    async fn a_full_queue_turns_away_and_recovers() {
        let heavy = Heavy::with(1, 1);
        let place = heavy.admit().await.unwrap();
        let queued = tokio::spawn({
            let heavy = heavy.clone();
            async move { heavy.admit().await.map(drop) }
        });
        while heavy.waiting.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(heavy.admit().await.err().unwrap().id, ErrorId::Unavailable);
        assert_eq!(place.run(|| 7).await.unwrap(), 7);
        queued.await.unwrap().unwrap();
        assert!(heavy.admit().await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_frees_its_place() {
        let heavy = Heavy::with(1, 0);
        let place = heavy.admit().await.unwrap();
        #[allow(clippy::panic)]
        let result = place.run(|| -> () { panic!("on purpose") }).await;
        assert_eq!(result.err().unwrap().id, ErrorId::Internal);
        assert!(heavy.admit().await.is_ok());
    }
}
