//! Watches what everybody on a machine can see of other people's processes: command lines and environments.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::deployment::processes_in;

/// Reads the command lines and environments of all processes that work below a folder, again and again.
pub struct Watch {
    done: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Watch {
    /// Begins. Secrets need not be known before the end.
    #[must_use]
    pub fn over(folder: &Path) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (folder, end) = (folder.to_owned(), Arc::clone(&done));
        let thread = thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !end.load(Ordering::Relaxed) {
                for (pid, words) in processes_in(&folder).unwrap_or_default() {
                    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                    seen.insert(format!("{}\n{}", words.join(" "), String::from_utf8_lossy(&environment)));
                }
                thread::sleep(Duration::from_millis(3));
            }
            seen
        });
        Self { done, thread }
    }

    /// None of the secrets was ever to be seen, and every one of `commands` was.
    ///
    /// # Panics
    /// When one was, or when there was nothing to see.
    #[allow(clippy::expect_used, reason = "a test's own hands: what fails ends the test")]
    pub fn ends(self, secrets: &[&str], commands: &[&str]) {
        self.done.store(true, Ordering::Relaxed);
        let seen = self.thread.join().expect("it does not panic");
        for command in commands {
            let word = |line: &String| line.lines().next().is_some_and(|line| line.split(' ').any(|w| w == *command));
            assert!(seen.iter().any(word), "no process with the word {command} was ever looked at");
        }
        for line in seen {
            assert!(!secrets.iter().any(|secret| line.contains(secret)), "a secret is seen by everybody: {line}");
        }
    }
}
