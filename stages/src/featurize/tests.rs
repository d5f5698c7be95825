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
    assert_eq!(matrix.rows().row(0), (&[0, 1][..], &[(2.0 / norm) as f32, (b / norm) as f32][..]));
    assert_eq!(matrix.rows().row(1), (&[0][..], &[1.0][..]));
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
    assert_eq!(matrix.rows().row(0).1, expected);
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
    assert!(new.pairs(0).any(|(i, v)| i == unseen && v > 0.0));
    assert!(!here.pairs(0).any(|(i, _)| i == unseen));
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
    assert_eq!(matrix.origins.windows, [0, 1, 2, 0]);
    assert_eq!((&matrix.origins.ids, &matrix.origins.session), (&traces.ids, &vec![0, 0, 0, 1]));
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

#[test]
fn sessions_of_equal_events_share_what_follows_from_events_and_are_rows_as_if_alone() {
    let sessions: Vec<(Vec<u32>, Vec<i64>)> = (0..60u32)
        .map(|i| {
            (
                (0..i % 4 + 1).map(|k| (i % 8 + k) % 5).collect(),
                (0..=i64::from(i % 4)).map(|k| k * i64::from(i)).collect(),
            )
        })
        .collect();
    let sessions: Vec<(&[u32], &[i64])> = sessions.iter().map(|(e, g)| (e.as_slice(), g.as_slice())).collect();
    let (templates, traces) = (templates(&["a", "b", "c", "d", "e"]), traces(&sessions));
    let p = FeaturizeParams {
        vectorizer: TextVectorizer::Both,
        numerics: vec![Numeric::Events, Numeric::Distinct, Numeric::Duration, Numeric::HeadMaxGap, Numeric::Unseen],
        ..FeaturizeParams::default()
    };
    let fitted = Vectorizer::fit(&p, &traces, &templates, &(0..30).collect::<Vec<_>>()).unwrap();
    let matrix = fitted.transform(&traces, &templates).unwrap();
    assert_eq!((matrix.len(), matrix.shared.distinct.len(), matrix.own.len()), (60, 8, 5 * 60));
    let bound = fitted.bind(&templates);
    let (mut scratch, mut row) = (Scratch::default(), Vec::new());
    for s in 0..60 {
        bound.row(&traces.trace(s, 0), &mut scratch, &mut row);
        row.retain(|(_, value)| *value != 0.0);
        assert_eq!(matrix.pairs(s).collect::<Vec<_>>(), row, "session {s}");
    }
}

const LOG: &str = "\
081109 203530 1 INFO a.B: Received block blk_1 of size 99 from /10.0.0.1
081109 203531 1 INFO a.B: Received block blk_1 of size 7 from /10.0.0.2
081109 203531 1 INFO a.B: Deleting block blk_1 file /data/1/blk_1
081109 203532 1 INFO a.B: Received block blk_2 of size 7 from /10.0.0.2
081109 203533 1 INFO a.B: Deleting block blk_2 file /data/2/blk_2
";

#[test]
fn values_of_wildcards_are_columns_and_are_kept_for_copies_of_sessions() {
    use crate::support::learning::read_to_copy;
    use crate::support::matrix::read_columns;
    use crate::testing::run;
    use serde_json::json;

    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("a.log");
    std::fs::write(&log, LOG).unwrap();
    let parsed = run(&crate::parse::kind(), &json!({}), &[("log", "a.log", &log)], &["events/"], 1).unwrap();
    let events = parsed.path("events");
    fn at<'a>(slot: &'a str, path: &'a std::path::Path) -> (&'a str, &'a str, &'a std::path::Path) {
        (slot, slot, path)
    }
    let merged =
        run(&crate::templates::kind(), &json!({}), &[at("events", &events)], &["templates", "map"], 1).unwrap();
    let (templates, map) = (merged.path("templates"), merged.path("map"));
    let inputs = [at("events", events.as_path()), at("templates", &templates), at("map", &map)];
    let made = run(&crate::sessionize::kind(), &json!({}), &inputs, &["sessions", "summary"], 1).unwrap();
    let sessions = made.path("sessions");
    let split = dir.path().join("split.parquet");
    let column = |name: &str, values: [&str; 2]| polars::prelude::Column::new(name.into(), values);
    let mut folds = polars::prelude::DataFrame::new_infer_height(vec![
        column("session_id", ["blk_1", "blk_2"]),
        column("fold", ["train", "test"]),
        polars::prelude::Column::new("block".into(), [0u32, 0]),
    ])
    .unwrap();
    crate::support::table::write_parquet(&split, &mut folds).unwrap();

    let with = |more: serde_json::Value| {
        let mut with = json!({
            "vectorizer": "none", "scaling": "none", "groups": ["count", "parameter"],
            "parameters": [
                {"template": "^Received", "name": "size", "make": ["max", "last", "sum"]},
                {"template": "block", "wildcard": "ip", "make": ["distinct"]},
            ],
        });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with
    };
    let inputs =
        [at("sessions", sessions.as_path()), at("templates", &templates), at("split", &split), at("events", &events)];
    let features = run(&super::super::kind(), &with(json!({})), &inputs, &["features/"], 2).unwrap();
    let directory = features.path("features");
    let names = super::super::Features::read(&directory).unwrap().names;
    assert_eq!(
        names[2..],
        [
            "parameter size of T1 max",
            "parameter size of T1 last",
            "parameter size of T1 sum",
            "parameter ip of T1 distinct",
        ]
    );
    let keep: Vec<Option<u32>> = (0..names.len() as u32).map(Some).collect();
    let (_, rows) = read_columns(&directory.join("matrix.parquet"), &keep, names.len()).unwrap();
    let of = |row: usize| rows.rows().pairs(row).filter(|p| p.0 >= 2).map(|p| p.1).collect::<Vec<_>>();
    let ln = |x: f64| x.ln() as f32;
    assert_eq!(of(0), [ln(100.0), ln(8.0), ln(107.0), ln(3.0)]);
    assert_eq!(of(1), [ln(8.0), ln(8.0), ln(8.0), ln(2.0)]);

    // A copy that is cut off has the values of what is left.
    let (traces, templates_of_log) = read_to_copy(&directory, &sessions, &templates).unwrap();
    let cut = traces.trace(0, 0).censored_at(0.5).unwrap();
    assert_eq!((cut.events.len(), cut.values.len()), (1, 2));
    let (copies, _) = traces.censored_copies(&[0], &[0.5]);
    let copy = Vectorizer::read(&directory).unwrap().transform(&copies, &templates_of_log).unwrap();
    let values: Vec<f32> = copy.pairs(0).filter(|p| p.0 >= 2).map(|p| p.1).collect();
    assert_eq!(values, [ln(100.0), ln(100.0), ln(100.0), ln(2.0)]);
    // Without values of sessions, as where the group is not asked for.
    assert!(parameters::read_stored(dir.path(), &traces.ids).unwrap().is_none());
    let some = parameters::read_stored(&directory, &["blk_2".to_owned()]).unwrap().unwrap();
    assert_eq!(some.of(0), traces.values.of(1));

    // Windows have the values of their own events.
    let windows = with(json!({"window": {"size": 1, "step": 1}}));
    let features = run(&super::super::kind(), &windows, &inputs, &["features/"], 1).unwrap();
    let (_, rows) = read_columns(&features.path("features").join("matrix.parquet"), &keep, names.len()).unwrap();
    let maxima: Vec<f32> = (0..3).map(|row| rows.rows().pairs(row).find(|p| p.0 == 2).map_or(0.0, |p| p.1)).collect();
    assert_eq!(maxima, [ln(100.0), ln(8.0), 0.0]);

    let lacking = run(&super::super::kind(), &with(json!({})), &inputs[..3], &["features/"], 1).err().unwrap();
    assert!(lacking.to_string().contains("input slot `events`"), "{lacking}");
    let bare = run(&crate::parse::kind(), &json!({"parameters": false}), &[("log", "a.log", &log)], &["events/"], 1);
    let bare = bare.unwrap();
    let bare = bare.path("events");
    let inputs = [inputs[0], inputs[1], inputs[2], at("events", bare.as_path())];
    let lacking = run(&super::super::kind(), &with(json!({})), &inputs, &["features/"], 1).err().unwrap();
    assert!(format!("{lacking:#}").contains("keeps no parameters"), "{lacking:#}");
}

#[test]
fn wrong_parameters_are_told() {
    let of = |with: serde_json::Value| -> Vec<String> {
        let params: FeaturizeParams = serde_json::from_value(with).unwrap();
        logweir_engine::stage::Params::check(&params).into_iter().map(|error| error.path).collect()
    };
    use serde_json::json;
    assert_eq!(of(json!({"groups": ["parameter"]})), ["parameters"]);
    assert_eq!(of(json!({"groups": ["count"], "parameters": [{"template": "a"}]})), ["groups"]);
    let wrong = json!([
        {"template": "(", "wildcard": "Num", "place": 0, "make": ["max", "distinct"], "buckets": 0},
        {"make": ["max", "max"]},
        {"template": "a", "make": []},
    ]);
    assert_eq!(
        of(json!({"groups": ["parameter"], "parameters": wrong})),
        [
            "parameters.0.template",
            "parameters.0.wildcard",
            "parameters.0.place",
            "parameters.0.buckets",
            "parameters.0.make",
            "parameters.1.template",
            "parameters.1.make",
            "parameters.2.make",
        ]
    );
}
