//! What of a log goes on from one of its files, or pieces of one, to the next: the year, where dates lack it.

use super::reading_order;
use crate::logs::format::time::Years;

/// What the parts of a log leave to the next; take them in reading order.
#[derive(Clone, Debug, Default)]
pub struct Carry {
    log: String,
    /// The year, once a part has dates without one.
    pub years: Option<Years>,
}

impl Carry {
    /// Goes on to a part of this file, which knows nothing of another log's.
    pub fn enter(&mut self, file: &str) {
        let log = reading_order(file).0;
        if log != self.log {
            *self = Self { log, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_of_one_log_follow_each_other() {
        let mut carry = Carry::default();
        carry.enter("raw:a.log.2.gz");
        carry.years = Some(Years::new(2008));
        for file in ["raw:a.log.1", "raw:a.log", "raw:a.log"] {
            carry.enter(file);
            assert_eq!(carry.years, Some(Years::new(2008)), "{file}");
        }
        carry.enter("raw:b.log");
        assert_eq!(carry.years, None);
    }
}
