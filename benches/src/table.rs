//! The table: medians, ratios to the floor, targets, and who spends it.

use crate::clock::{Meter, median};

/// One line of the table.
pub struct Row {
    /// What was measured.
    pub name: &'static str,
    /// The floor that it is compared with, in milliseconds.
    pub floor: f64,
    /// At most so many times the floor.
    pub target: Option<f64>,
    /// One entry per run.
    pub runs: Vec<Meter>,
}

impl Row {
    /// CPU milliseconds of all parties.
    #[must_use]
    pub fn ms(&self) -> f64 {
        median(self.runs.iter().map(Meter::total))
    }

    /// How many times the floor.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.ms() / self.floor
    }

    /// Whether a target is set and not met.
    #[must_use]
    pub fn misses(&self) -> bool {
        self.target.is_some_and(|target| self.ratio() > target)
    }

    fn of(&self, party: &str) -> String {
        let ms = median(self.runs.iter().map(|run| run.of(party)));
        if ms == 0.0 { "-".to_owned() } else { format!("{ms:.3}") }
    }
}

/// How a measured value stands to its target, as both tables print it.
#[must_use]
pub fn verdict(missed: bool) -> &'static str {
    if missed { "**FAIL**" } else { "PASS" }
}

/// Prints the rows.
pub fn print(rows: &[Row]) {
    println!("| what | runs | CPU ms | × floor | target | device ms | server ms | custodian ms | keeper ms |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for row in rows {
        let target =
            row.target.map_or_else(|| "-".to_owned(), |target| format!("≤ {target} {}", verdict(row.misses())));
        let parties = ["device", "server", "custodian"].map(|party| row.of(party)).join(" | ");
        let keeper = if row.of("keeper") == "-" { row.of("guesskeeper") } else { row.of("keeper") };
        println!(
            "| {} | {} | {:.3} | {:.1} | {target} | {parties} | {keeper} |",
            row.name,
            row.runs.len(),
            row.ms(),
            row.ratio()
        );
    }
}

/// Prints where the time of one row goes: its steps, the dearest first.
pub fn print_steps(row: &Row) {
    let Some(first) = row.runs.first() else { return };
    let of = |name: &str| median(row.runs.iter().map(|run| step(run, name)));
    let mut steps: Vec<_> = first.steps().iter().map(|(name, _)| (*name, of(name))).collect();
    steps.sort_by(|a, b| b.1.total_cmp(&a.1));
    let shares = steps.iter().map(|(name, ms)| format!("{name} {:.0} %", 100.0 * ms / row.ms()));
    println!("- {}: {}", row.name, shares.collect::<Vec<_>>().join(", "));
}

fn step(run: &Meter, name: &str) -> f64 {
    run.steps().iter().find(|(known, _)| *known == name).map_or(0.0, |(_, ms)| *ms)
}
