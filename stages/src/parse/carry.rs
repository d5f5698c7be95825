//! What of a log goes on from one of its files, or pieces of one, to the next: the year, where dates lack it, and the entry
//! that is open.

use super::reading_order;
use crate::logs::entries::{Ends, Leading, MOST};
use crate::logs::format::time::Years;

/// What the parts of a log leave to the next; take them in reading order.
#[derive(Clone, Debug, Default)]
pub struct Carry {
    log: String,
    /// The year, once a part has dates without one.
    pub years: Option<Years>,
    /// Bytes so far of the entry that is open.
    open: Option<u64>,
}

impl Carry {
    /// Goes on to a part of this file, which knows nothing of another log's.
    pub fn enter(&mut self, file: &str) {
        let log = reading_order(file).0;
        if log != self.log {
            *self = Self { log, ..Self::default() };
        }
    }

    /// Takes the next part and returns those of its leading lines that continue the entry that is open. `ends` lack where
    /// an entry is a line, and where a file is empty.
    pub fn join(&mut self, ends: Option<Ends>, mut leading: Vec<Leading>) -> Vec<Leading> {
        let Some(ends) = ends else { return Vec::new() };
        let room = self.open.map(|open| (MOST as u64).saturating_sub(open));
        // They are in order: one that is too far from the start of the entry is followed by such alone.
        leading.truncate(leading.partition_point(|line| room.is_some_and(|room| line.end <= room)));
        self.open = match ends {
            Ends { starts: true, last, bytes, .. } => last.map(|at| bytes.saturating_sub(at)),
            Ends { bytes, .. } => self.open.map(|open| open + bytes),
        };
        leading
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

    #[test]
    fn an_entry_goes_on_until_another_starts_or_it_is_full() {
        let lines =
            |ends: &[u64]| -> Vec<Leading> { ends.iter().map(|&end| Leading { end, ..Leading::default() }).collect() };
        let most = MOST as u64;
        let open = |bytes, last| Some(Ends { bytes, leading: 0, starts: true, last });
        let mut carry = Carry::default();
        carry.enter("a.log.4");
        assert_eq!(carry.join(open(100, Some(90)), lines(&[5])), []);
        carry.enter("a.log.3");
        // Ten bytes before, so many of the file: the third line ends behind the last byte of an entry.
        let through = Some(Ends { bytes: most, leading: 3, starts: false, last: None });
        assert_eq!(carry.join(through, lines(&[5, most - 10, most - 9])), lines(&[5, most - 10]));
        carry.enter("a.log.2");
        // An empty file, then one that is too far.
        assert_eq!(carry.join(None, Vec::new()), []);
        assert_eq!(carry.join(through, lines(&[1])), []);
        // A malformed start, after which nothing goes on; then a good one, and another log.
        for (ends, expected) in [(open(7, None), 0), (open(7, Some(0)), 0), (open(7, Some(0)), 1)] {
            assert_eq!(carry.join(ends, lines(&[1])).len(), expected, "{ends:?}");
        }
        carry.enter("b.log");
        assert_eq!(carry.join(through, lines(&[1])), []);
    }
}
