//! One at a time: steps that judge a state and then act on it must not run beside each other on the same pair or
//! subject. A cheating signature is banned before the next one is looked at, or else as many answers as requests are
//! in flight could be had from one oblivious-transfer state (PROTOCOL.md 5, T1); and what a commit has verified is not
//! stored anew before it is committed.
//!
//! This holds among the requests of one process. Nodes that share a database can give one answer each to a cheat before
//! its ban stops all of them, so there are as many as nodes at the most.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

/// Who waits for whom, by an identifier.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<[u8; 16], Arc<tokio::sync::Mutex<()>>>>);

/// Nobody else is at it until this is dropped.
pub(crate) type Alone = OwnedMutexGuard<()>;

impl Turns {
    /// Waits for the turn at `id`.
    pub(crate) async fn at(&self, id: [u8; 16]) -> Alone {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody is at it or waits for it: its entry has no other owner.
            all.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(all.entry(id).or_default())
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_at_a_time_each_in_its_own_place_and_nothing_is_left_over() {
        let (turns, inside) = (Arc::new(Turns::default()), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..20u8)
            .map(|n| {
                let (turns, inside) = (Arc::clone(&turns), Arc::clone(&inside));
                tokio::spawn(async move {
                    let turn = turns.at([n % 2; 16]).await;
                    if n % 2 == 0 {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
                    }
                    tokio::task::yield_now().await;
                    if n % 2 == 0 {
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                    drop(turn);
                })
            })
            .collect();
        for task in tasks {
            assert!(task.await.is_ok());
        }
        drop(turns.at([9; 16]).await);
        assert_eq!(turns.0.lock().unwrap_or_else(PoisonError::into_inner).len(), 1, "only the last one");
    }
}
