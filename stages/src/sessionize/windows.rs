//! The events of a key cut by time: at silences, or into windows.
//!
//! The events of a key are in order of time already, so a clock that goes back for a moment cuts nothing, and events of
//! equal times are never parted. Windows are aligned to 1970-01-01 00:00 UTC; window `[START, START + length)` is there
//! if it has an event, and sliding ones share events. A piece is named `KEY@START` (`20081109T203500Z`, with a fraction
//! where START has one): START of a window is its own, of a session between silences that of its first event.
//!
//! Pieces of a key start later than sessions of keys that begin after it, so all are held in memory until they are in
//! order: some 20 bytes an event, times the windows that share it.

use std::ops::Range;

use super::sessions::Sessions;

/// How the events of a key are cut; microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A silence of more than this ends a session.
    Gap(i64),
    /// Windows of a length that start every step.
    Window { length: i64, step: i64 },
}

impl Cut {
    /// Returns the pieces of events, which come with their times in order, and where each starts.
    pub(crate) fn pieces<T>(&self, events: &[(i64, T)]) -> Vec<(Range<usize>, i64)> {
        let mut pieces = Vec::new();
        match *self {
            Self::Gap(gap) => {
                let mut from = 0;
                for to in 1..=events.len() {
                    if to == events.len() || events[to].0 - events[to - 1].0 > gap {
                        pieces.push((from..to, events[from].0));
                        from = to;
                    }
                }
            }
            Self::Window { length, step } => {
                // Windows before this one end before the time or at it.
                let first_with = |time: i64| (time - length).div_euclid(step) + 1;
                let mut number = events.first().map_or(0, |(time, _)| first_with(*time));
                let (mut from, mut to) = (0, 0);
                while from < events.len() {
                    let start = number * step;
                    while from < events.len() && events[from].0 < start {
                        from += 1;
                    }
                    let Some((next, _)) = events.get(from) else { break };
                    if *next >= start + length {
                        number = first_with(*next);
                        continue;
                    }
                    to = from.max(to);
                    while to < events.len() && events[to].0 < start + length {
                        to += 1;
                    }
                    pieces.push((from..to, start));
                    number += 1;
                }
            }
        }
        pieces
    }

    /// Returns whether a piece may go on after the log's end.
    pub(crate) fn is_open(&self, start: i64, last: i64, log_end: i64) -> bool {
        match *self {
            Self::Gap(gap) => log_end - last <= gap,
            Self::Window { length, .. } => start + length > log_end,
        }
    }
}

/// Returns the places (table, row) of sessions in several tables, in order of start and key.
pub(super) fn order(tables: &[Sessions]) -> Vec<(usize, usize)> {
    let mut places: Vec<(usize, usize)> =
        tables.iter().enumerate().flat_map(|(number, table)| (0..table.len()).map(move |row| (number, row))).collect();
    let key = |&(number, row): &(usize, usize)| (tables[number].start[row], &tables[number].ids[row]);
    places.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    places
}

/// Makes a table of the sessions at these places.
pub(super) fn gather(tables: &[Sessions], places: &[(usize, usize)]) -> Sessions {
    let mut made = Sessions { offsets: vec![0], ..Sessions::default() };
    for &(number, row) in places {
        let table = &tables[number];
        let span = table.offsets[row]..table.offsets[row + 1];
        made.ids.push(table.ids[row].clone());
        made.start.push(table.start[row]);
        made.end.push(table.end[row]);
        made.censored.push(table.censored[row]);
        made.events.extend_from_slice(&table.events[span.clone()]);
        made.gaps.extend_from_slice(&table.gaps[span.clone()]);
        made.lines.extend_from_slice(&table.lines[span]);
        made.offsets.push(made.events.len());
    }
    made
}

/// Reads a span of time such as `30s`, `5m`, `1.5h` as microseconds.
///
/// # Errors
/// What is wrong.
pub(crate) fn micros(text: &str) -> Result<i64, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[number.len()..] {
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 6e7,
        "h" => 3.6e9,
        "d" => 8.64e10,
        _ => return Err(format!("`{text}` is no span of time such as 500ms, 30s, 5m, 1h or 1d")),
    };
    let span = number.trim().parse::<f64>().map_err(|_| format!("`{text}` does not begin with a number"))? * factor;
    // Some three hundred years: what is added to a time does not overflow.
    if !(1.0..1e16).contains(&span) {
        return Err(format!("`{text}` is not between a microsecond and 300 years"));
    }
    Ok(span as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(cut: Cut, times: &[i64]) -> Vec<(Range<usize>, i64)> {
        cut.pieces(&times.iter().map(|&time| (time, ())).collect::<Vec<_>>())
    }

    #[test]
    fn a_silence_of_more_than_the_gap_ends_a_session() {
        let got = pieces(Cut::Gap(10), &[0, 10, 10, 21, 30]);
        assert_eq!(got, [(0..3, 0), (3..5, 21)]);
        assert!(Cut::Gap(10).is_open(21, 30, 40) && !Cut::Gap(10).is_open(21, 30, 41));
    }

    #[test]
    fn windows_are_aligned_and_empty_ones_are_not_there() {
        let fixed = Cut::Window { length: 10, step: 10 };
        assert_eq!(pieces(fixed, &[-1, 0, 9, 10, 1000]), [(0..1, -10), (1..3, 0), (3..4, 10), (4..5, 1000)]);
        let sliding = Cut::Window { length: 10, step: 5 };
        assert_eq!(pieces(sliding, &[4, 12]), [(0..1, -5), (0..1, 0), (1..2, 5), (1..2, 10)]);
        assert!(fixed.is_open(10, 12, 19) && !fixed.is_open(10, 12, 20));
    }

    #[test]
    fn spans_of_time_are_read() {
        assert_eq!(micros("500ms"), Ok(500_000));
        assert_eq!(micros("1.5h"), Ok(5_400_000_000));
        for wrong in ["", "5", "m", "5 parsecs", "0s", "-1s", "nans", "1e9d"] {
            assert!(micros(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_window_has_the_events_of_its_time_and_none_is_missing(
            mut times in prop::collection::vec(-300i64..300, 1..40), length in 1i64..60, step in 1i64..60,
        ) {
            times.sort_unstable();
            let step = step.min(length);
            let got = pieces(Cut::Window { length, step }, &times);
            let all = (-400 / step..400 / step).map(|number| number * step);
            let wanted: Vec<(Range<usize>, i64)> = all
                .map(|start| {
                    let at = |time: i64| times.partition_point(|t| *t < time);
                    (at(start)..at(start + length), start)
                })
                .filter(|(events, _)| !events.is_empty())
                .collect();
            prop_assert_eq!(got, wanted);
        }
    }
}
