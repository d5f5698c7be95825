//! The last line of a run: what was done, how long it took, where to look.

use crate::render::{Paint, text};

/// The counts of a finished run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) executed: usize,
    pub(crate) restored: usize,
    pub(crate) fresh: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) seconds: f64,
}

/// Returns the summary, without a line end.
pub(crate) fn of(counts: &Counts, run: &str, interrupted: bool, paint: Paint) -> String {
    let mut parts = Vec::new();
    if counts.failed > 0 {
        parts.push(paint.red(&format!("{} failed", counts.failed)));
    }
    if counts.skipped > 0 {
        parts.push(format!("{} skipped", counts.skipped));
    }
    parts.push(format!("{} executed", counts.executed));
    if counts.restored > 0 {
        parts.push(format!("{} restored", counts.restored));
    }
    parts.push(format!("{} fresh", counts.fresh));
    let head = match (interrupted, counts.failed) {
        (true, _) => paint.yellow("interrupted"),
        (_, 0) if counts.executed + counts.restored == 0 => paint.green("up to date"),
        (_, 0) => paint.green("done"),
        _ => paint.red("failed"),
    };
    let run = paint.dim(&format!("(run {run})"));
    format!("{head}: {} in {} {run}", parts.join(", "), text::seconds(counts.seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_done_and_leaves_out_what_was_not() {
        let plain = |counts, interrupted| of(&counts, "r1", interrupted, Paint(false));
        let base = Counts { fresh: 3, seconds: 0.05, ..Counts::default() };
        assert_eq!(plain(base, false), "up to date: 0 executed, 3 fresh in 0.05 s (run r1)");
        let failed = Counts { failed: 1, skipped: 2, executed: 1, ..base };
        assert_eq!(plain(failed, false), "failed: 1 failed, 2 skipped, 1 executed, 3 fresh in 0.05 s (run r1)");
        assert!(plain(base, true).starts_with("interrupted: "));
    }
}
