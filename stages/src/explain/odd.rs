//! Which lines of a session stand out.

use std::collections::BTreeMap;

use super::alert::Odd;
use super::align::Alignment;
use super::columns::Columns;
use super::wording::Known;
use crate::profile::Difference;
use crate::support::traces::Trace;

/// Features whose lines stand out where the counts are those of a benign session.
const LOUDEST: usize = 3;

/// Returns the positions of the events that stand out, ascending, and why; at least one of a session that has any.
/// `benign` has the events of the nearest benign session, as far as they were compared.
pub(super) fn stand_out(
    trace: &Trace<'_>,
    known: &Known<'_>,
    benign: Option<&[u32]>,
    columns: &Columns,
) -> BTreeMap<usize, Odd> {
    let mut found = Found::default();
    let alignment = benign.map(|benign| Alignment::of(trace.events, benign));
    if let Some(difference) = known.differs() {
        found.of_difference(trace, difference, alignment.as_ref());
    } else {
        let supervised = known.contributions.iter().map(|c| (c.feature.as_str(), Odd::Contribution));
        let other = known.residuals.iter().map(|r| (r.feature.as_str(), Odd::Residual));
        if known.supervised() {
            found.of_features(trace, columns, supervised);
            if found.0.is_empty() {
                found.of_features(trace, columns, other);
            }
        } else {
            found.of_features(trace, columns, other);
            if found.0.is_empty() {
                found.of_features(trace, columns, supervised);
            }
        }
        if let Some(alignment) = alignment.filter(|_| found.0.is_empty()) {
            // Counts are equal: what is out of order lacks elsewhere.
            let departs = alignment.inserted.first().copied().min(alignment.lacking.first().map(|lacking| lacking.1));
            if let (Some(at), Some(last)) = (departs, trace.events.len().checked_sub(1)) {
                found.add(at.min(last), Odd::Order);
            }
        }
    }
    if let (true, Some(last)) = (found.0.is_empty(), trace.events.len().checked_sub(1)) {
        found.add(last, Odd::Last);
    }
    found.0
}

/// Positions of events, with the weightiest reason each.
#[derive(Default)]
struct Found(BTreeMap<usize, Odd>);

impl Found {
    fn add(&mut self, at: usize, why: Odd) {
        let known = self.0.entry(at).or_insert(why);
        *known = why.min(*known);
    }

    /// Something is missing where so many events came before.
    fn lacks(&mut self, before: usize) {
        match before.checked_sub(1) {
            Some(at) => self.add(at, Odd::Missing),
            None => self.add(0, Odd::MissingBefore),
        }
    }

    fn of_difference(&mut self, trace: &Trace<'_>, difference: &Difference, alignment: Option<&Alignment>) {
        let of = |number: Option<u32>| -> Vec<usize> {
            (0..trace.events.len()).filter(|&at| Some(trace.events[at]) == number).collect()
        };
        for deviation in &difference.unseen {
            of(deviation.number).into_iter().for_each(|at| self.add(at, Odd::Unseen));
        }
        // Which of several alike events is one too many nobody can know: the later ones of those out of order.
        let last = |of: &[usize], n: u32| of[of.len().saturating_sub(n as usize)..].to_vec();
        for deviation in &difference.extra {
            let all = of(deviation.number);
            let surplus = deviation.count.saturating_sub(deviation.benign);
            let inserted: Vec<usize> = match alignment {
                Some(alignment) => {
                    all.iter().copied().filter(|at| alignment.inserted.binary_search(at).is_ok()).collect()
                }
                None => Vec::new(),
            };
            let candidates = if inserted.len() < surplus as usize { all } else { inserted };
            last(&candidates, surplus).into_iter().for_each(|at| self.add(at, Odd::Extra));
        }
        for deviation in &difference.missing {
            let lacking: Vec<usize> = match alignment {
                Some(alignment) => {
                    let own = alignment.lacking.iter().filter(|(event, _)| Some(*event) == deviation.number);
                    own.map(|(_, before)| *before).collect()
                }
                None => Vec::new(),
            };
            let absent = deviation.benign.saturating_sub(deviation.count);
            let before = last(&lacking, absent).first().copied().unwrap_or(trace.events.len());
            if !trace.events.is_empty() {
                self.lacks(before);
            }
        }
    }

    fn of_features<'a>(
        &mut self,
        trace: &Trace<'_>,
        columns: &Columns,
        features: impl Iterator<Item = (&'a str, Odd)>,
    ) {
        for (feature, why) in features.take(LOUDEST) {
            columns.positions(feature, trace).into_iter().for_each(|at| self.add(at, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::alert::Shares;
    use crate::profile::Deviation;

    fn deviation(number: u32, count: u32, benign: u32) -> Deviation {
        let (event_id, text) = (format!("T{number}"), String::new());
        Deviation { event_id, text, number: Some(number), count, benign, weight: 1.0 }
    }

    fn odd(events: &[u32], benign: Option<&[u32]>, difference: &Difference) -> Vec<(usize, Odd)> {
        let gaps = vec![0; events.len()];
        let trace = Trace { events, gaps: &gaps, censored: false, silence: 0, values: &[] };
        let known = Known {
            id: "a",
            difference: Some(difference),
            contributions: &[],
            residuals: &[],
            shares: Shares::default(),
        };
        stand_out(&trace, &known, benign, &Columns::default()).into_iter().collect()
    }

    #[test]
    fn unseen_and_extra_lines_stand_out_and_those_after_which_something_is_missing() {
        let difference = Difference {
            unseen: vec![deviation(9, 2, 0)],
            extra: vec![deviation(2, 3, 1)],
            missing: vec![deviation(5, 0, 1)],
            ..Difference::default()
        };
        let events = [1, 9, 2, 3, 2, 2, 9, 4];
        let found = odd(&events, Some(&[1, 2, 3, 5, 4]), &difference);
        let expected = [(1, Odd::Unseen), (3, Odd::Missing), (4, Odd::Extra), (5, Odd::Extra), (6, Odd::Unseen)];
        assert_eq!(found, expected);
        // Without the events of the benign session: the last ones, and the end.
        let found = odd(&events, None, &difference);
        let expected = [(1, Odd::Unseen), (4, Odd::Extra), (5, Odd::Extra), (6, Odd::Unseen), (7, Odd::Missing)];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_missing_at_the_beginning_is_before_the_first_line() {
        let difference = Difference { missing: vec![deviation(1, 0, 1)], ..Difference::default() };
        assert_eq!(odd(&[2, 3], Some(&[1, 2, 3]), &difference), [(0, Odd::MissingBefore)]);
    }

    #[test]
    fn where_counts_are_benign_the_order_or_the_last_line_stands_out() {
        let same = Difference::default();
        assert_eq!(odd(&[1, 3, 2], Some(&[1, 2, 3]), &same), [(1, Odd::Order)]);
        assert_eq!(odd(&[1, 2, 3], None, &same), [(2, Odd::Last)]);
        assert_eq!(odd(&[], None, &same), []);
    }
}
