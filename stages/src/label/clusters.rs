//! Types of anomalies where no rule names them: clusters of count vectors.
//!
//! Leader clustering (Hartigan 1975) over distinct vectors of `ln(1 + count)` times the inverse document frequency of each
//! template over all sessions, so that what every session has says little. The most frequent vector leads first; a vector
//! joins the leader that it is most similar to (cosine), or leads a cluster of its own while there may be more. A cluster is
//! named after the heaviest templates of its leader.

use std::collections::BTreeMap;

/// A vector that is this similar to a leader joins its cluster.
const SIMILAR: f64 = 0.7;

/// Templates that a name tells.
const TOLD: usize = 2;

/// Template number and how often it occurs, ascending by number.
type Counts = Vec<(u32, u32)>;

/// Template number and weight, ascending by number.
type Vector = Vec<(u32, f64)>;

/// Returns the cluster of each anomaly (rows of `offsets` into `events`), given its row number, and the clusters' names.
/// `name` tells a template by its number.
pub(super) fn cluster(
    (offsets, events): (&[usize], &[u32]),
    anomalies: &[usize],
    most: usize,
    name: impl Fn(u32) -> String,
) -> (Vec<usize>, Vec<String>) {
    let counts = |row: usize| {
        let mut counts = BTreeMap::new();
        for &event in &events[offsets[row]..offsets[row + 1]] {
            *counts.entry(event).or_insert(0_u32) += 1;
        }
        counts.into_iter().collect::<Counts>()
    };
    let rows = offsets.len() - 1;
    let mut with: BTreeMap<u32, f64> = BTreeMap::new();
    for row in 0..rows {
        for (event, _) in counts(row) {
            *with.entry(event).or_insert(0.0) += 1.0;
        }
    }
    let weigh = |counts: &[(u32, u32)]| -> Vector {
        let idf = |event: u32| ((1.0 + rows as f64) / (1.0 + with[&event])).ln() + 1e-3;
        counts.iter().map(|&(event, n)| (event, f64::from(n).ln_1p() * idf(event))).collect()
    };
    let mut distinct: BTreeMap<Counts, Vec<usize>> = BTreeMap::new();
    for (i, &row) in anomalies.iter().enumerate() {
        distinct.entry(counts(row)).or_default().push(i);
    }
    let mut order: Vec<(&Counts, &Vec<usize>)> = distinct.iter().collect();
    order.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.0.cmp(b.0)));
    let (mut leaders, mut of): (Vec<Vector>, Vec<usize>) = (Vec::new(), vec![0; anomalies.len()]);
    for (counts, members) in order {
        let vector = weigh(counts);
        let similarities = leaders.iter().map(|leader| cosine(leader, &vector)).enumerate();
        // The first of several equals.
        let nearest = similarities.fold(None, |best: Option<(usize, f64)>, now| match best {
            Some(best) if best.1 >= now.1 => Some(best),
            _ => Some(now),
        });
        let cluster = match nearest {
            Some((leader, similarity)) if similarity >= SIMILAR || leaders.len() >= most => leader,
            _ => {
                leaders.push(vector);
                leaders.len() - 1
            }
        };
        for &i in members {
            of[i] = cluster;
        }
    }
    let mut names: Vec<String> = Vec::new();
    for leader in &leaders {
        let mut heaviest = leader.clone();
        heaviest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let told: Vec<String> = heaviest.iter().take(TOLD).map(|&(event, _)| name(event)).collect();
        let plain = if told.is_empty() { "no_event".to_owned() } else { told.join("+") };
        let again = names.iter().filter(|n| **n == plain || n.starts_with(&format!("{plain}_"))).count();
        names.push(if again == 0 { plain } else { format!("{plain}_{}", again + 1) });
    }
    (of, names)
}

/// Cosine of the angle between two sparse vectors; 1 of two empty ones.
fn cosine(a: &[(u32, f64)], b: &[(u32, f64)]) -> f64 {
    let norm = |v: &[(u32, f64)]| v.iter().map(|(_, x)| x * x).sum::<f64>().sqrt();
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    let dot: f64 =
        a.iter().filter_map(|(event, x)| b.binary_search_by_key(event, |e| e.0).ok().map(|at| x * b[at].1)).sum();
    let scale = norm(a) * norm(b);
    if scale > 0.0 { dot / scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions as lists of template numbers, all but the first `normal` anomalous.
    fn clusters(sessions: &[&[u32]], normal: usize, most: usize) -> Vec<String> {
        let mut offsets = vec![0];
        let mut events = Vec::new();
        for session in sessions {
            events.extend_from_slice(session);
            offsets.push(events.len());
        }
        let anomalies: Vec<usize> = (normal..sessions.len()).collect();
        let (of, names) = cluster((&offsets, &events), &anomalies, most, |event| format!("E{event}"));
        of.into_iter().map(|c| names[c].clone()).collect()
    }

    #[test]
    fn what_every_session_has_does_not_join_anomalies() {
        let healthy: &[u32] = &[1, 2, 3, 1, 2, 3];
        let sessions = [healthy, healthy, healthy, healthy, &[1, 2, 3, 7], &[1, 2, 7, 7], &[1, 2, 3, 9], &[1, 9, 9]];
        let found = clusters(&sessions, 4, 10);
        assert_eq!((&found[0], &found[2]), (&found[1], &found[3]));
        assert_ne!(found[0], found[2]);
        assert!(found[0].starts_with("E7") && found[2].starts_with("E9"), "{found:?}");
    }

    #[test]
    fn there_are_no_more_clusters_than_allowed_and_names_differ() {
        let sessions: Vec<Vec<u32>> = (0..20).map(|i| vec![1, 100 + i]).collect();
        let sessions: Vec<&[u32]> = sessions.iter().map(Vec::as_slice).collect();
        let mut found = clusters(&sessions, 0, 6);
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 6);
        assert_eq!(clusters(&[&[1], &[]], 1, 3), ["no_event"]);
    }

    #[test]
    fn the_order_of_sessions_does_not_matter() {
        let a: [&[u32]; 5] = [&[1], &[1, 5], &[1, 6], &[1, 5, 5], &[1, 6, 6]];
        let mut b = a;
        b[1..].reverse();
        let (first, mut second) = (clusters(&a, 1, 9), clusters(&b, 1, 9));
        second.reverse();
        assert_eq!(first, second);
    }
}
