//! A session's events against those of another in order: which of them the other does not have, and where it has some
//! that the session lacks. By a longest common subsequence.

/// Most cells of the table of a longest common subsequence. Pairs that need more, which logs of sessions of thousands of
/// events have, are compared up to their first and from their last difference only.
const CELLS: usize = 1 << 22;

/// What an alignment found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Alignment {
    /// Positions in the session that the other has nothing for, ascending.
    pub(super) inserted: Vec<usize>,
    /// What the session lacks, in order: the event, and how many events of the session come before it.
    pub(super) lacking: Vec<(u32, usize)>,
}

impl Alignment {
    /// Aligns a session with another.
    pub(super) fn of(session: &[u32], other: &[u32]) -> Self {
        let same = |pairs: &mut dyn Iterator<Item = (&u32, &u32)>| pairs.take_while(|(a, b)| a == b).count();
        let head = same(&mut session.iter().zip(other));
        let (session_rest, other_rest) = (&session[head..], &other[head..]);
        let tail = same(&mut session_rest.iter().rev().zip(other_rest.iter().rev()));
        let (a, b) = (&session_rest[..session_rest.len() - tail], &other_rest[..other_rest.len() - tail]);
        let mut found = Self::default();
        if (a.len() + 1).saturating_mul(b.len() + 1) > CELLS {
            found.inserted.extend(head..head + a.len());
            found.lacking.extend(b.iter().map(|&event| (event, head)));
            return found;
        }
        // `common[i][j]`: length of the longest common subsequence of `a[i..]` and `b[j..]`.
        let width = b.len() + 1;
        let mut common = vec![0u16; (a.len() + 1) * width];
        for i in (0..a.len()).rev() {
            for j in (0..b.len()).rev() {
                common[i * width + j] = if a[i] == b[j] {
                    common[(i + 1) * width + j + 1] + 1
                } else {
                    common[(i + 1) * width + j].max(common[i * width + j + 1])
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            if i < a.len() && j < b.len() && a[i] == b[j] {
                (i, j) = (i + 1, j + 1);
            } else if i == a.len() || (j < b.len() && common[i * width + j + 1] >= common[(i + 1) * width + j]) {
                // Of equal ones what lacks comes first: as near as can be to what was there before it.
                found.lacking.push((b[j], head + i));
                j += 1;
            } else {
                found.inserted.push(head + i);
                i += 1;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_inserted_and_what_lacks_is_found_where_it_is() {
        let of = |a: &[u32], b: &[u32]| {
            let found = Alignment::of(a, b);
            (found.inserted, found.lacking)
        };
        assert_eq!(of(&[1, 2, 3], &[1, 2, 3]), (vec![], vec![]));
        assert_eq!(of(&[1, 9, 2, 3], &[1, 2, 3]), (vec![1], vec![]));
        assert_eq!(of(&[1, 3], &[1, 2, 3]), (vec![], vec![(2, 1)]));
        assert_eq!(of(&[2, 1, 3], &[1, 2, 3]), (vec![1], vec![(1, 0)]));
        assert_eq!(of(&[], &[5, 6]), (vec![], vec![(5, 0), (6, 0)]));
        assert_eq!(of(&[5, 6], &[]), (vec![0, 1], vec![]));
    }

    #[test]
    fn sessions_too_long_for_a_table_are_compared_at_both_ends() {
        let session: Vec<u32> = (0..6000).map(|i| i % 7).collect();
        let mut other = session.clone();
        other[10] = 99;
        other[5990] = 99;
        let found = Alignment::of(&session, &other);
        assert_eq!((found.inserted.first(), found.inserted.last()), (Some(&10), Some(&5990)));
        assert_eq!(found.lacking[0], (99, 10));
    }

    proptest! {
        #[test]
        fn without_what_is_inserted_and_with_what_lacks_it_is_the_other(
            a in prop::collection::vec(0..4u32, 0..30),
            b in prop::collection::vec(0..4u32, 0..30),
        ) {
            let found = Alignment::of(&a, &b);
            let mut made = Vec::new();
            let mut lacking = found.lacking.iter().peekable();
            for at in 0..=a.len() {
                while let Some((event, _)) = lacking.next_if(|(_, before)| *before == at) {
                    made.push(*event);
                }
                if at < a.len() && !found.inserted.contains(&at) {
                    made.push(a[at]);
                }
            }
            prop_assert_eq!(made, b);
        }
    }
}
