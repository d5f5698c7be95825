//! A small run: scores of sessions over five hours, evaluated by the real `evaluate` stage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use logweir_engine::digest::Digest;
use logweir_engine::stage::{InputFile, Stage, StageContext, StageMessage};
use polars::prelude::*;
use serde_json::{Value, json};

/// Sessions in the fixture.
pub(crate) const SESSIONS: usize = 3000;
/// What `sessionize` says of the logs: two files.
const SUMMARY: &str = r#"{"simulated": false, "lines": 6200, "rejected": 0, "lines_without_session": 0, "sessions": 3000, "short_sessions": 0,
  "events": 6200, "censored": 0, "steps_back": 0, "first": null, "last": null, "files": [{"path": "raw:a.log", "first_line": 1}, {"path": "raw:b.log", "first_line": 3001}]}"#;
/// Start of the first one: 2026-01-01 00:00:00 UTC, microseconds.
pub(crate) const START: i64 = 1_767_225_600_000_000;
/// From the first session to the end, seconds.
pub(crate) const SPAN: i64 = 5 * 3600;

/// A folder with all artifacts an export reads.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
}

/// A number in 0..1 that looks random and is the same everywhere.
fn noise(i: usize, salt: u64) -> f64 {
    let mut x = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt.wrapping_mul(0xbf58_476d_1ce4_e5b9));
    x ^= x >> 30;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    (x >> 11) as f64 / (1u64 << 53) as f64
}

impl Fixture {
    /// Writes scores, sessions and templates, and evaluates them.
    pub(crate) fn new() -> Self {
        Self::with_shift(0.0)
    }

    /// The same with all fused scores moved a little: another run of the same data. Each is made once and copied from then on.
    pub(crate) fn with_shift(shift: f64) -> Self {
        static MADE: Mutex<BTreeMap<u64, PathBuf>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap();
        let from = made.entry(shift.to_bits()).or_insert_with(|| {
            let dir = Self::make(shift).dir.keep();
            crate::server::after_this_process(&format!("rm -rf '{}'", dir.display()));
            dir
        });
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        Self { dir }
    }

    fn make(shift: f64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let label: Vec<bool> = (0..SESSIONS).map(|i| noise(i, 1) < 0.05).collect();
        let fusion: Vec<f64> =
            (0..SESSIONS).map(|i| (noise(i, 2) * 0.5 + if label[i] { 0.45 } else { 0.0 } + shift).min(1.0)).collect();
        let fold: Vec<&str> = (0..SESSIONS)
            .map(|i| {
                if i < SESSIONS / 2 {
                    "train"
                } else if i < SESSIONS * 3 / 4 {
                    "validation"
                } else {
                    "test"
                }
            })
            .collect();
        let ids: Vec<String> = (0..SESSIONS).map(|i| format!("blk_{i}")).collect();
        let step = SPAN * 1_000_000 / SESSIONS as i64;
        let start: Vec<i64> = (0..SESSIONS as i64).map(|i| START + i * step / 1_000_000 * 1_000_000).collect();
        let time = |name: &str| {
            let micros = Column::new(name.into(), &start);
            micros.cast(&DataType::Datetime(TimeUnit::Microseconds, None)).unwrap()
        };
        let scaled = |by: f64| fusion.iter().map(|f| f * by).collect::<Vec<f64>>();
        let reason: Vec<&str> = (0..SESSIONS)
            .map(|i| if fusion[i] > 0.4 { "extra: T3 \"exception\", it's 100 % odd" } else { "" })
            .collect();
        let mut scores = DataFrame::new_infer_height(vec![
            Column::new("session_id".into(), &ids),
            time("timestamp"),
            time("end"),
            Column::new("fold".into(), &fold),
            Column::new("label".into(), label.iter().map(|&l| i32::from(l)).collect::<Vec<_>>()),
            Column::new("censored".into(), vec![false; SESSIONS]),
            Column::new("lgbm".into(), scaled(8.0)),
            Column::new("p_lgbm".into(), &fusion),
            Column::new("ae".into(), scaled(0.2)),
            Column::new("z_ae".into(), scaled(6.0)),
            Column::new("ae_bounded".into(), &fusion),
            Column::new("profile".into(), scaled(3.0)),
            Column::new("profile_bounded".into(), &fusion),
            Column::new("fusion".into(), &fusion),
            Column::new("reason".into(), &reason),
        ])
        .unwrap();
        write(&at("scores.parquet"), &mut scores);

        // Templates 0 and 1 in every session; 2 in the anomalous ones; 3 only late, so that it is new after training.
        let events: Vec<Vec<u32>> = (0..SESSIONS)
            .map(|i| [Some(0), Some(1), label[i].then_some(2), (i > 2900).then_some(3)].into_iter().flatten().collect())
            .collect();
        let gaps: Vec<Vec<i64>> =
            events.iter().map(|e| (0..e.len()).map(|k| if k == 0 { 0 } else { 1500 }).collect()).collect();
        let offsets: Vec<usize> = std::iter::once(0)
            .chain(events.iter().scan(0, |sum, e| {
                *sum += e.len();
                Some(*sum)
            }))
            .collect();
        let lines: Vec<u64> = (1..=offsets[SESSIONS] as u64).collect();
        let mut sessions = DataFrame::new_infer_height(vec![
            Column::new("session_id".into(), &ids),
            time("start"),
            time("end"),
            Column::new("censored".into(), vec![false; SESSIONS]),
            logweir_stages::support::table::list_column::<UInt32Type>("events", &offsets, &events.concat()),
            logweir_stages::support::table::list_column::<Int64Type>("gaps", &offsets, &gaps.concat()),
            logweir_stages::support::table::list_column::<UInt64Type>("lines", &offsets, &lines),
        ])
        .unwrap();
        write(&at("sessions.parquet"), &mut sessions);
        std::fs::write(
            at("templates.csv"),
            "event_id,number,count,text\nT1,0,1,Receiving block <id>\nT2,1,1,\"Deleting, block\"\nT3,2,1,exception\nT4,3,1,late\n",
        )
        .unwrap();
        std::fs::write(at("sessions.json"), SUMMARY).unwrap();
        let mut split = DataFrame::new_infer_height(vec![
            Column::new("session_id".into(), &ids),
            Column::new("fold".into(), &fold),
            Column::new("block".into(), vec![0u32; SESSIONS]),
        ])
        .unwrap();
        write(&at("split.parquet"), &mut split);
        let mut types = String::from("session_id,type\n");
        (0..SESSIONS).filter(|&i| label[i]).for_each(|i| types += &format!("blk_{i},{}\n", ["odd", "even"][i % 2]));
        std::fs::write(at("types.csv"), types).unwrap();
        let origin = json!({"target": "reports/metrics.json", "value": null, "nodes": [
            {"id": "a1", "type": "artifact", "path": "data/processed/scores.parquet", "digest": "d1"},
            {"id": "x1", "type": "action", "stage": "evaluate", "key": "k1", "action": "evaluate", "params": {"seed": 42}},
            {"id": "a2", "type": "artifact", "path": "reports/metrics.json", "digest": "d2"},
            {"id": "a0", "type": "artifact", "path": "raw:HDFS.log", "digest": "d0"}
        ], "edges": [["a1", "x1"], ["x1", "a2"]]});
        std::fs::write(at("origin.json"), origin.to_string()).unwrap();

        let fixture = Self { dir };
        let made = (logweir_stages::evaluate::kind().make)(&json!({"resamples": 100})).unwrap();
        let inputs = [
            ("scores", "scores.parquet"),
            ("sessions", "sessions.parquet"),
            ("summary", "sessions.json"),
            ("types", "types.csv"),
        ];
        let outputs = [
            ("metrics", "metrics.json"),
            ("roc", "roc.png"),
            ("pr", "pr.png"),
            ("cm", "cm.png"),
            ("ensemble", "ensemble.csv"),
        ];
        fixture.run(made.stage.as_ref(), &inputs, &outputs, "evaluate", BTreeMap::new()).unwrap();
        fixture.explain();
        let made = (logweir_stages::drift::kind().make)(&json!({})).unwrap();
        let inputs = [
            ("sessions", "sessions.parquet"),
            ("templates", "templates.csv"),
            ("summary", "sessions.json"),
            ("split", "split.parquet"),
            ("scores", "scores.parquet"),
        ];
        let outputs = [("drift", "drift.json"), ("plot", "drift.png")];
        fixture.run(made.stage.as_ref(), &inputs, &outputs, "drift", BTreeMap::new()).unwrap();
        fixture
    }

    /// Explains the alerts of the ensemble, by what is known without models.
    pub(crate) fn explain(&self) {
        let made = (logweir_stages::explain::kind().make)(&json!({})).unwrap();
        let inputs = [
            ("scores", "scores.parquet"),
            ("ensemble", "ensemble.csv"),
            ("sessions", "sessions.parquet"),
            ("templates", "templates.csv"),
            ("summary", "sessions.json"),
            ("types", "types.csv"),
        ];
        let outputs = [("alerts", "alerts.parquet"), ("summary", "alerts.json")];
        self.run(made.stage.as_ref(), &inputs, &outputs, "explain", BTreeMap::new()).unwrap();
    }

    /// Changes rows of the ensemble, by number and columns; those that it says no to are left out.
    pub(crate) fn change_ensemble(&self, mut change: impl FnMut(usize, &mut Vec<String>) -> bool) {
        let path = self.dir.path().join("ensemble.csv");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        let mut out = vec![lines.next().unwrap().to_owned()];
        for (i, line) in lines.enumerate() {
            let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
            if change(i, &mut fields) {
                out.push(fields.join(","));
            }
        }
        std::fs::write(&path, out.join("\n") + "\n").unwrap();
    }

    /// Number of the first session of the ensemble that is so.
    pub(crate) fn first_session(&self, so: impl Fn(&[String]) -> bool) -> usize {
        let text = std::fs::read_to_string(self.dir.path().join("ensemble.csv")).unwrap();
        text.lines().skip(1).position(|line| so(&line.split(',').map(str::to_owned).collect::<Vec<_>>())).unwrap()
    }

    /// Exports scores and metrics without the rest.
    pub(crate) fn export_scores(
        &self,
        params: &Value,
        name: &str,
        env: &BTreeMap<String, String>,
    ) -> anyhow::Result<Vec<StageMessage>> {
        let made = (logweir_stages::export::kind().make)(params).unwrap();
        let inputs = [("ensemble", "ensemble.csv"), ("metrics", "metrics.json")];
        self.run(made.stage.as_ref(), &inputs, &[], name, env.clone())
    }

    /// Runs a stage in this folder under the key of `name`; returns what it told the user.
    pub(crate) fn run(
        &self,
        stage: &dyn Stage,
        inputs: &[(&str, &str)],
        outputs: &[(&str, &str)],
        name: &str,
        env: BTreeMap<String, String>,
    ) -> anyhow::Result<Vec<StageMessage>> {
        let at = |name: &str| self.dir.path().join(name);
        let messages = Mutex::new(Vec::new());
        let input = |&(slot, file): &(&str, &str)| {
            (slot.to_owned(), vec![InputFile { logical: file.to_owned(), path: at(file) }])
        };
        let cx = StageContext {
            inputs: inputs.iter().map(input).collect(),
            outputs: outputs.iter().map(|&(slot, file)| (slot.to_owned(), at(file))).collect::<BTreeMap<_, PathBuf>>(),
            scratch: self.dir.path().to_path_buf(),
            env,
            threads: 2,
            key: Digest::of_bytes(name.as_bytes()),
            messages: &|message| messages.lock().unwrap().push(message),
            cancelled: &AtomicBool::new(false),
        };
        stage.run(&cx)?;
        Ok(messages.into_inner().unwrap())
    }

    /// Exports everything under the key of `name`.
    pub(crate) fn export(
        &self,
        params: &Value,
        name: &str,
        env: &BTreeMap<String, String>,
    ) -> anyhow::Result<Vec<StageMessage>> {
        let inputs = [
            ("ensemble", "ensemble.csv"),
            ("metrics", "metrics.json"),
            ("scores", "scores.parquet"),
            ("templates", "templates.csv"),
            ("sessions", "sessions.parquet"),
            ("summary", "sessions.json"),
            ("alerts", "alerts.parquet"),
            ("signatures", "alerts.json"),
            ("drift", "drift.json"),
            ("origin", "origin.json"),
        ];
        let made = (logweir_stages::export::kind().make)(params).unwrap();
        self.run(made.stage.as_ref(), &inputs, &[], name, env.clone())
    }
}

/// Whether the target of an export says that the key of `name` is current.
pub(crate) fn is_current(params: &Value, name: &str, env: &BTreeMap<String, String>) -> anyhow::Result<bool> {
    let made = (logweir_stages::export::kind().make)(params).unwrap();
    made.stage.effect().unwrap().is_current(&Digest::of_bytes(name.as_bytes()), env)
}

fn write(path: &Path, frame: &mut DataFrame) {
    logweir_stages::support::table::write_parquet(path, frame).unwrap();
}
