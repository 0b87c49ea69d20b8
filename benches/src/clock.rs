//! CPU time, not wall time: what other programs do meanwhile counts only as far as they spoil the caches.

use rustix::time::{ClockId, clock_gettime};

/// CPU milliseconds of the calling thread.
#[must_use]
pub fn thread_ms() -> f64 {
    read(ClockId::ThreadCPUTime)
}

/// CPU milliseconds of all threads of this process.
#[must_use]
pub fn process_ms() -> f64 {
    read(ClockId::ProcessCPUTime)
}

#[allow(clippy::cast_precision_loss, reason = "a process does not run for 2⁵² nanoseconds")]
fn read(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// CPU time of one run of an operation, step by step. A step's name begins with the party that takes it.
#[derive(Debug, Clone, Default)]
pub struct Meter(Vec<(&'static str, f64)>);

impl Meter {
    /// Runs one step of one party. A step that was there before is added to.
    pub fn step<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let before = thread_ms();
        let result = work();
        self.add(name, thread_ms() - before);
        result
    }

    /// Adds time that was measured elsewhere.
    pub fn add(&mut self, name: &'static str, ms: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += ms,
            None => self.0.push((name, ms)),
        }
    }

    /// The steps, in the order in which they were first taken.
    #[must_use]
    pub fn steps(&self) -> &[(&'static str, f64)] {
        &self.0
    }

    /// All steps together.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.0.iter().map(|(_, ms)| ms).sum()
    }

    /// The steps whose name begins with `party`.
    #[must_use]
    pub fn of(&self, party: &str) -> f64 {
        self.0.iter().filter(|(name, _)| name.starts_with(party)).map(|(_, ms)| ms).sum()
    }
}

/// The one in the middle.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
