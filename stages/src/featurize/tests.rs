use super::*;

fn templates(texts: &[&str]) -> Templates {
    Templates {
        event_ids: (1..=texts.len()).map(|n| format!("T{n}")).collect(),
        texts: texts.iter().map(|t| (*t).to_owned()).collect(),
    }
}

fn traces(sessions: &[(&[u32], &[i64])]) -> Traces {
    let mut traces = Traces { offsets: vec![0], ..Traces::default() };
    for (i, (events, gaps)) in sessions.iter().enumerate() {
        traces.ids.push(format!("s{i}"));
        traces.starts.push(0);
        traces.ends.push(gaps.iter().sum::<i64>() * 1000);
        traces.events.extend_from_slice(events);
        traces.gaps.extend_from_slice(gaps);
        traces.offsets.push(traces.events.len());
        traces.censored.push(false);
    }
    traces
}

fn params(vectorizer: TextVectorizer, groups: &[Group]) -> FeaturizeParams {
    FeaturizeParams { vectorizer, groups: groups.to_vec(), sublinear: false, ..FeaturizeParams::default() }
}

#[test]
fn tfidf_is_as_computed_by_hand() {
    let (templates, traces) = (templates(&["a", "b"]), traces(&[(&[0, 0, 1], &[0, 0, 0]), (&[0], &[0])]));
    let fitted = Vectorizer::fit(&params(TextVectorizer::Tfidf, &[]), &traces, &templates, &[0, 1]).unwrap();
    // a in both of two rows: ln(3/3) + 1 = 1; b in one: ln(3/2) + 1.
    let b = 1.5f64.ln() + 1.0;
    assert_eq!(fitted.idf, [1.0, b]);
    let matrix = fitted.transform(&traces, &templates).unwrap();
    let norm = (4.0 + b * b).sqrt();
    assert_eq!(matrix.rows.row(0), (&[0, 1][..], &[(2.0 / norm) as f32, (b / norm) as f32][..]));
    assert_eq!(matrix.rows.row(1), (&[0][..], &[1.0][..]));
}

#[test]
fn bigrams_and_min_df() {
    let (templates, traces) = (templates(&["a", "b"]), traces(&[(&[0, 1, 0], &[0; 3]), (&[0, 1], &[0; 2])]));
    let p = FeaturizeParams { ngrams: [1, 2], min_df: 2, ..params(TextVectorizer::Tfidf, &[]) };
    let fitted = Vectorizer::fit(&p, &traces, &templates, &[0, 1]).unwrap();
    assert_eq!(fitted.terms, [vec![0], vec![1], vec![0, 1]]);
    assert_eq!(fitted.names()[2].0, "tfidf T1 T2");
}

#[test]
fn counts_positions_and_numerics() {
    let (templates, traces) = (templates(&["a", "b", "never"]), traces(&[(&[1, 0, 1], &[0, 2000, 5000])]));
    let p = FeaturizeParams {
        numerics: vec![Numeric::Events, Numeric::HeadDuration, Numeric::MaxGap],
        head: 2,
        scaling: Scaling::None,
        ..params(TextVectorizer::None, &[Group::Last, Group::Numeric, Group::Count, Group::First, Group::Logcount])
    };
    let fitted = Vectorizer::fit(&p, &traces, &templates, &[0]).unwrap();
    let matrix = fitted.transform(&traces, &templates).unwrap();
    let (log1, log2) = (2f32.ln(), 3f64.ln() as f32);
    let expected = [1.0, 2.0, log1, log2, 2.0, 1.0, 2.0, 3.0, 4f64.ln() as f32, 3f64.ln() as f32, 6f64.ln() as f32];
    assert_eq!(matrix.rows.row(0).1, expected);
    assert_eq!(fitted.columns(), 11);
}

#[test]
fn numerics_are_scaled_by_train_only() {
    let (templates, traces) =
        (templates(&["a"]), traces(&[(&[0], &[0]), (&[0; 3], &[0; 3]), (&[0; 1000], &[0; 1000])]));
    let p = FeaturizeParams {
        numerics: vec![Numeric::Events],
        scaling: Scaling::Standard,
        ..params(TextVectorizer::None, &[Group::Numeric])
    };
    let fitted = Vectorizer::fit(&p, &traces, &templates, &[0, 1]).unwrap();
    let (x, y) = (2f64.ln(), 4f64.ln());
    assert!((fitted.centre[0] - f64::midpoint(x, y)).abs() < 1e-12 && (fitted.scale[0] - (y - x) / 2.0).abs() < 1e-12);
}

#[test]
fn other_template_numbers_give_the_same_rows_and_new_templates_are_unseen() {
    let sessions = traces(&[(&[0, 1, 0], &[0, 1000, 1000])]);
    let p = FeaturizeParams { vectorizer: TextVectorizer::Both, ngrams: [1, 2], ..FeaturizeParams::default() };
    let fitted = Vectorizer::fit(&p, &sessions, &templates(&["a", "b"]), &[0]).unwrap();
    let here = fitted.transform(&sessions, &templates(&["a", "b"])).unwrap();
    let there = fitted.transform(&traces(&[(&[2, 0, 2], &[0, 1000, 1000])]), &templates(&["b", "new", "a"])).unwrap();
    assert_eq!(here, there);
    let new = fitted.transform(&traces(&[(&[2, 1], &[0, 1000])]), &templates(&["b", "new", "a"])).unwrap();
    let unseen = fitted.names().iter().position(|n| n.0 == "numeric unseen").unwrap() as u32;
    assert!(new.rows.pairs(0).any(|(i, v)| i == unseen && v > 0.0));
    assert!(!here.rows.pairs(0).any(|(i, _)| i == unseen));
}

#[test]
fn windows_cover_every_event() {
    let (templates, traces) = (templates(&["a"]), traces(&[(&[0; 7], &[0; 7]), (&[0; 2], &[0; 2])]));
    let p = FeaturizeParams {
        window: Some(super::super::WindowParams { size: 4, step: 2 }),
        ..params(TextVectorizer::None, &[Group::Count])
    };
    let fitted = Vectorizer::fit(&p, &traces, &templates, &[0]).unwrap();
    assert_eq!(fitted.windows(7), [(0, 4), (2, 6), (4, 7)]);
    assert_eq!(fitted.windows(4), [(0, 4)]);
    let matrix = fitted.transform(&traces, &templates).unwrap();
    assert_eq!(matrix.windows, [0, 1, 2, 0]);
    assert_eq!(matrix.sessions(), (traces.ids.clone(), vec![0, 0, 0, 1]));
}

#[test]
fn threads_do_not_change_the_rows() {
    let sessions: Vec<(Vec<u32>, Vec<i64>)> = (0..9000u32)
        .map(|i| ((0..i % 17 + 1).map(|k| (i * 7 + k * k) % 5).collect(), (0..i64::from(i % 17 + 1)).collect()))
        .collect();
    let sessions: Vec<(&[u32], &[i64])> = sessions.iter().map(|(e, g)| (e.as_slice(), g.as_slice())).collect();
    let (templates, traces) = (templates(&["a", "b", "c", "d", "e"]), traces(&sessions));
    let train: Vec<usize> = (0..traces.len()).collect();
    let p = FeaturizeParams { vectorizer: TextVectorizer::Both, ngrams: [1, 3], ..FeaturizeParams::default() };
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let fitted = Vectorizer::fit(&p, &traces, &templates, &train).unwrap();
            let matrix = fitted.transform(&traces, &templates).unwrap();
            (serde_json::to_string(&fitted).unwrap(), matrix)
        })
    };
    assert_eq!(run(1), run(3));
}
