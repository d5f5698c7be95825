//! What of a line depends on the lines before it, and so on the order of the file.

use super::format::NO_TIME;
use super::format::time::Years;

/// How lines belong together.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// The year that the file starts in, where dates lack it.
    pub years: Option<Years>,
}

/// What was seen of a file so far.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// The year, where dates lack it.
    pub years: Option<Years>,
    /// Lines whose time is before that of the line before.
    pub steps_back: u64,
    before: Option<i64>,
}

impl Order {
    /// Starts a file.
    pub fn new(entries: &Entries) -> Self {
        Self { years: entries.years, ..Self::default() }
    }

    /// Settles the times of the file's next lines.
    pub fn settle(&mut self, times: &mut [i64]) {
        if let Some(years) = &mut self.years {
            years.settle(times);
        }
        let mut before = self.before.unwrap_or(NO_TIME);
        for &time in times.iter().filter(|t| **t != NO_TIME) {
            self.steps_back += u64::from(time < before);
            before = time;
        }
        self.before = Some(before);
    }
}
