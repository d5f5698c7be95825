use std::collections::BTreeSet;

use super::*;

fn templates(texts: &[&str]) -> Templates {
    Templates {
        event_ids: (1..=texts.len()).map(|n| format!("T{n}")).collect(),
        texts: texts.iter().map(|t| (*t).to_owned()).collect(),
    }
}

/// Sessions of (events, gap before each, censored, end in seconds).
fn traces(sessions: &[(&[u32], i64, bool, i64)]) -> Traces {
    let mut traces = Traces { offsets: vec![0], ..Traces::default() };
    for (i, &(events, gap, censored, end)) in sessions.iter().enumerate() {
        traces.ids.push(format!("s{i}"));
        traces.ends.push(end * 1_000_000);
        traces.starts.push(0);
        traces.events.extend_from_slice(events);
        traces.gaps.extend((0..events.len()).map(|i| if i == 0 { 0 } else { gap }));
        traces.offsets.push(traces.events.len());
        traces.censored.push(censored);
    }
    traces
}

fn no_prefixes() -> ProfileParams {
    ProfileParams { prefixes: false, ..params() }
}

fn params() -> ProfileParams {
    ProfileParams { slack: 1.0, grace: 0.0, ..ProfileParams::default() }
}

fn distances(index: &Index, params: &ProfileParams, traces: &Traces, templates: &Templates) -> Vec<f64> {
    let queries = index.queries(params, traces, &index.bind(templates));
    let found = index.nearest_all(&queries.distinct);
    queries.of.iter().map(|&q| found[q as usize].0).collect()
}

#[test]
fn the_distance_is_as_computed_by_hand() {
    let templates = templates(&["a", "b", "c"]);
    let benign = traces(&[(&[0, 0, 1], 1000, false, 10), (&[0], 1000, false, 10)]);
    let index = Index::fit(&benign, &templates, &[0, 1], &[0, 1], true);
    // a in both: ln(3/3) + 1; b in one of two: ln(3/2) + 1; c in none: ln(3) + 1.
    let (b, c) = (1.5f64.ln() + 1.0, 3f64.ln() + 1.0);
    assert_eq!((index.idf.as_slice(), index.unseen), (&[1.0, b][..], c));
    let asked = traces(&[(&[1, 0, 0], 0, false, 10), (&[0, 0], 0, false, 10), (&[0, 2, 2], 0, false, 10)]);
    let found = distances(&index, &no_prefixes(), &asked, &templates);
    // (2a) against (1a): ln 3 - ln 2; against (2a, 1b): b ln 2.
    assert_eq!(found[0], 0.0);
    assert!((found[1] - (3f64.ln() - 2f64.ln())).abs() < 1e-12);
    assert!((found[2] - c * 3f64.ln()).abs() < 1e-12);
}

#[test]
fn an_open_session_matches_a_beginning_that_was_once_as_silent() {
    let templates = templates(&["a", "b"]);
    let benign = traces(&[(&[0, 0, 1, 1], 60_000, false, 500)]);
    let index = Index::fit(&benign, &templates, &[0], &[0], true);
    // The log ends at 500 s. Silent since 480 s, and twice since 100 s.
    let asked = traces(&[
        (&[0, 0, 1], 0, true, 480),
        (&[0, 0, 1], 0, true, 100),
        (&[0, 0, 1], 0, false, 100),
        (&[0], 0, false, 500),
    ]);
    let found = distances(&index, &params(), &asked, &templates);
    assert_eq!(found[0], 0.0);
    assert!(found[1] > 0.0 && found[1] == found[2]);
    let without = ProfileParams { prefixes: false, ..params() };
    assert!(distances(&index, &without, &asked, &templates)[0] > 0.0);
}

#[test]
fn cross_fitting_ignores_the_sessions_own_block() {
    let templates = templates(&["a", "b"]);
    let benign = traces(&[(&[0], 0, false, 9), (&[0, 1], 0, false, 9), (&[0], 0, false, 9)]);
    let index = Index::fit(&benign, &templates, &[0, 1, 2], &[0, 1, 2], false);
    let queries = index.queries(&params(), &benign, &index.bind(&templates));
    let out = cross_fitted(&index, &queries, &[0.0; 3], &[0, 1, 2], &[0, 1, 2]);
    assert_eq!((out[0], out[2]), (0.0, 0.0));
    assert!(out[1] > 0.0);
}

#[test]
fn the_search_agrees_with_looking_at_everything() {
    let templates = templates(&["a", "b", "c", "d"]);
    let make = |salt: u32, n: u32| -> Vec<Vec<u32>> {
        (0..n).map(|i| (0..(i * 7 + salt) % 9 + 1).map(|k| (i * salt + k * k * 5 + k) % 4).collect()).collect()
    };
    let sessions = |of: &[Vec<u32>]| {
        let list: Vec<(&[u32], i64, bool, i64)> = of.iter().map(|e| (e.as_slice(), 1000, true, 100)).collect();
        traces(&list)
    };
    let (benign, asked) = (make(3, 60), make(11, 200));
    let (benign, asked) = (sessions(&benign), sessions(&asked));
    let all: Vec<usize> = (0..benign.len()).collect();
    let index = Index::fit(&benign, &templates, &all, &vec![0; all.len()], true);
    let local = index.bind(&templates);
    let found = distances(&index, &params(), &asked, &templates);
    for (s, &found) in found.iter().enumerate() {
        let counts = index.counts(&asked.trace(s, 0), &local);
        let mut least = f64::INFINITY;
        for row in 0..benign.len() {
            let events = benign.trace(row, 0).events;
            for length in 1..=events.len() {
                let part = benign.trace(row, 0).part(0, length);
                let other = index.counts(&part, &local);
                let mut sum = 0.0;
                for t in 0..4 {
                    let n = |c: &Counts| c.iter().find(|e| e.0 == t).map_or(0, |e| e.1);
                    sum += index.difference(t, n(&counts), n(&other));
                }
                least = least.min(sum);
            }
        }
        assert!((found - least).abs() < 1e-9, "session {s}: {found} {least}");
    }
}

#[test]
fn the_file_holds_all_that_scoring_needs_and_reasons_name_the_difference() {
    let all = templates(&["open <*>", "close <*>", "explode <*>"]);
    let benign = traces(&[(&[0, 1], 1000, false, 9), (&[0, 1, 1], 1000, false, 9)]);
    let index = Index::fit(&benign, &all, &[0, 1], &[0, 0], true);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("profile.parquet");
    index.write(&path).unwrap();
    let (idf, unseen) = (index.idf.clone(), index.unseen);
    let mut index = index;
    index.forget_blocks();
    let back = Index::read(&path, index.templates.clone(), index.event_ids.clone(), idf.clone(), unseen).unwrap();
    assert_eq!((&back.complete, &back.prefixes, &back.ids), (&index.complete, &index.prefixes, &index.ids));
    let about = About {
        params: no_prefixes(),
        templates: back.templates.clone(),
        event_ids: back.event_ids.clone(),
        idf,
        unseen,
        reference: Conformal::fit(&[0.0; 100]).unwrap(),
    };
    let model = Model { about, index: back };
    let scores = model.score(&traces(&[(&[0, 2], 1, false, 9), (&[0, 1], 1, false, 9)]), &all);
    assert_eq!(
        scores.reason[0],
        "never seen in a benign session: T3 (1) `explode <*>`; missing: T2 (0 instead of 1) `close <*>`"
    );
    assert_eq!((scores.distance[1], scores.bounded[1], scores.reason[1].as_str()), (0.0, 0.0, ""));

    let found = model.differences(&traces(&[(&[0, 2], 1, false, 9), (&[0, 1], 1, false, 9)]), &all);
    assert_eq!(found.nearest(), BTreeSet::from(["s0".to_owned()]));
    let found = [found.of(0), found.of(1)];
    let brief = |list: &[Deviation]| -> Vec<(String, Option<u32>, u32, u32)> {
        list.iter().map(|d| (d.event_id.clone(), d.number, d.count, d.benign)).collect()
    };
    assert_eq!((found[0].nearest.as_deref(), found[0].events, found[0].beginning), (Some("s0"), 2, false));
    assert_eq!(brief(&found[0].unseen), [("T3".to_owned(), Some(2), 1, 0)]);
    assert_eq!(brief(&found[0].missing), [("T2".to_owned(), Some(1), 0, 1)]);
    assert!(found[0].extra.is_empty() && !found[0].is_none());
    let weights: f64 = found[0].unseen.iter().chain(&found[0].missing).map(|d| d.weight).sum();
    assert!((weights - found[0].distance).abs() < 1e-12);
    assert_eq!((found[0].sentence(), found[1].is_none()), (scores.reason[0].clone(), true));
}

#[test]
fn a_beginning_is_named_by_a_session_that_begins_so() {
    let templates = templates(&["a", "b"]);
    let benign = traces(&[(&[0, 1], 60_000, false, 500), (&[0, 0, 1, 1], 60_000, false, 500)]);
    let index = Index::fit(&benign, &templates, &[0, 1], &[0, 0], true);
    let queries = index.queries(&params(), &traces(&[(&[0, 0, 1], 0, true, 480), (&[0], 0, true, 500)]), &[0, 1]);
    let example = |query: &Query| index.nearest(query, None).1.and_then(|site| index.example(site));
    assert_eq!(queries.distinct.iter().map(example).collect::<Vec<_>>(), [Some("s1"), Some("s0")]);
}
