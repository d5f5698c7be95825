//! What is equal among many: sequences, feature rows, scores repeat, and what follows from them need be found out once.

/// Which of many things are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distinct {
    /// The first of each group.
    pub first: Vec<usize>,
    /// The group of each thing; groups are numbered in the order of their first ones.
    pub groups: Vec<u32>,
}

impl Distinct {
    /// Groups things by their hashes and by `same`, which says of two things whether they are equal.
    ///
    /// # Panics
    /// There are 2^32 things or more.
    pub fn by(hashes: &[u64], same: impl Fn(usize, usize) -> bool) -> Self {
        const FREE: u32 = u32::MAX;
        assert!(hashes.len() < FREE as usize, "fewer than 2^32 things");
        let mut found = Self { first: Vec::new(), groups: Vec::with_capacity(hashes.len()) };
        // Open addressing; at most half of the places are taken.
        let mut places = vec![FREE; 64];
        for (thing, &hash) in hashes.iter().enumerate() {
            if 2 * found.first.len() >= places.len() {
                let mut larger = vec![FREE; 4 * places.len()];
                for (group, &first) in found.first.iter().enumerate() {
                    let mut at = hashes[first] as usize & (larger.len() - 1);
                    while larger[at] != FREE {
                        at = (at + 1) & (larger.len() - 1);
                    }
                    larger[at] = group as u32;
                }
                places = larger;
            }
            let mut at = hash as usize & (places.len() - 1);
            let group = loop {
                let group = places[at];
                if group == FREE {
                    places[at] = found.first.len() as u32;
                    found.first.push(thing);
                    break places[at];
                }
                let first = found.first[group as usize];
                if hashes[first] == hash && same(first, thing) {
                    break group;
                }
                at = (at + 1) & (places.len() - 1);
            };
            found.groups.push(group);
        }
        found
    }

    /// Groups equal slices of some numbers: slice i is `values[offsets[i]..offsets[i + 1]]`.
    pub fn of_slices(offsets: &[usize], values: &[u32]) -> Self {
        let slice = |i: usize| &values[offsets[i]..offsets[i + 1]];
        let hashes: Vec<u64> = (0..offsets.len().saturating_sub(1)).map(|i| hash(slice(i))).collect();
        Self::by(&hashes, |a, b| slice(a) == slice(b))
    }

    /// How many of the things are in each group.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.first.len()];
        self.groups.iter().for_each(|&group| counts[group as usize] += 1);
        counts
    }

    /// Gives each thing what its group has.
    pub fn spread<T: Clone>(&self, of_groups: &[T]) -> Vec<T> {
        self.groups.iter().map(|&group| of_groups[group as usize].clone()).collect()
    }
}

/// Adds a word to a hash: a multiplication whose halves are folded (as in wyhash), all bits of which depend on all input.
pub fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ 0x9e37_79b9_7f4a_7c15) * u128::from(word ^ 0xd6e8_feb8_6659_fd93);
    (product as u64) ^ (product >> 64) as u64
}

/// Hashes numbers in their order.
pub fn hash(values: &[u32]) -> u64 {
    let (pairs, rest) = values.as_chunks::<2>();
    let paired = pairs.iter().fold(values.len() as u64, |all, &[a, b]| mix(all, u64::from(a) << 32 | u64::from(b)));
    rest.iter().fold(paired, |all, &last| mix(all, u64::from(last)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn groups_are_numbered_by_their_first_ones() {
        let found = Distinct::of_slices(&[0, 2, 2, 4, 5, 5, 7], &[1, 2, 1, 2, 1, 2, 1]);
        assert_eq!(found, Distinct { first: vec![0, 1, 3, 5], groups: vec![0, 1, 0, 2, 1, 3] });
        assert_eq!(found.counts(), [2, 2, 1, 1]);
        assert_eq!(found.spread(&['a', 'b', 'c', 'd']), ['a', 'b', 'a', 'c', 'b', 'd']);
        assert_eq!(Distinct::of_slices(&[], &[]), Distinct::default());
    }

    #[test]
    fn equal_hashes_of_unequal_things_do_not_merge_them() {
        let things = [3, 4, 3, 5, 4];
        let found = Distinct::by(&[7; 5], |a, b| things[a] == things[b]);
        assert_eq!(found.groups, [0, 1, 0, 2, 1]);
    }

    proptest! {
        #[test]
        fn as_many_groups_as_a_sorted_set_has(things in prop::collection::vec(0u32..3000, 0..2000)) {
            let offsets: Vec<usize> = (0..=things.len()).collect();
            let found = Distinct::of_slices(&offsets, &things);
            let set: std::collections::BTreeSet<u32> = things.iter().copied().collect();
            prop_assert_eq!(found.first.len(), set.len());
            for (thing, &group) in things.iter().zip(&found.groups) {
                prop_assert_eq!(*thing, things[found.first[group as usize]]);
            }
        }
    }
}
