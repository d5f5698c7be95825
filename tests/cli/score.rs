//! Scoring a log as it grows: what comes out is what the log says, however it is written, rotated, and whatever is killed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Project, Said, said};

const PIPELINE: &str = include_str!("../../pipeline.yaml");

/// A project that was run on a simulated log; tests share it and write elsewhere.
pub(crate) struct Trained {
    pub(crate) project: Project,
    /// Its log.
    pub(crate) log: String,
}

pub(crate) fn trained() -> &'static Trained {
    static TRAINED: OnceLock<Trained> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let project = Project::new(PIPELINE);
        project.logweir(&["simulate", "--sessions", "1500", "--out", "raw"]).ok();
        let raw = project.path("raw");
        said(&project.command(&["run", "-q"]).env("LOGWEIR_HDFS", &raw).output().unwrap()).ok();
        let log = fs::read_to_string(raw.join("HDFS.log")).unwrap();
        Trained { project, log }
    })
}

impl Trained {
    /// The program, where logs and scores of a test are.
    pub(crate) fn command(&self, folder: &Path, arguments: &[&str]) -> std::process::Command {
        let root = self.project.root().to_str().unwrap();
        let mut command = self.project.command(&[&["-C", root, "--json"], arguments].concat());
        command.current_dir(folder).env("LOGWEIR_HDFS", self.project.path("raw"));
        command
    }

    pub(crate) fn score(&self, folder: &Path, arguments: &[&str]) -> Said {
        said(&self.command(folder, &[&["score"], arguments].concat()).output().unwrap())
    }

    fn spawn(&self, folder: &Path, arguments: &[&str]) -> Child {
        let mut command = self.command(folder, &[&["score"], arguments].concat());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn append(path: &Path, text: &[u8]) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text).unwrap();
}

/// The columns that the pipeline has, too: up to `is_alert`.
fn cut(text: &str) -> Vec<String> {
    text.lines().skip(1).map(|l| l.split(',').take(6).collect::<Vec<_>>().join(",")).collect()
}

/// By session: the rows of a state.
fn by_state(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        states.entry(line.rsplit(',').next().unwrap().to_owned()).or_default().push(line.to_owned());
    }
    states
}

const QUIET: [&str; 2] = ["--until-silent", "1500ms"];

#[test]
fn a_pipe_and_patterns_score_as_the_pipeline_does() {
    let trained = trained();
    let dir = folder();
    let expected = cut(&trained.project.read("reports/ensemble_sessions.csv"));
    let mut child =
        trained.command(dir.path(), &["score", "-", "--out", "pipe.csv"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(trained.log.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(cut(&read(dir.path(), "pipe.csv")), expected);
    assert!(by_state(&read(dir.path(), "pipe.csv")).keys().eq(["end"]));

    // The same in three rotated files, one compressed.
    let lines: Vec<&str> = trained.log.split_inclusive('\n').collect();
    let third = lines.len() / 3;
    let gz = File::create(dir.path().join("a.log.2.gz")).unwrap();
    let mut gz = flate2::write::GzEncoder::new(gz, flate2::Compression::fast());
    gz.write_all(lines[..third].concat().as_bytes()).unwrap();
    gz.finish().unwrap();
    append(&dir.path().join("a.log.1"), lines[third..2 * third].concat().as_bytes());
    append(&dir.path().join("a.log"), lines[2 * third..].concat().as_bytes());
    trained.score(dir.path(), &["a.log*", "--out", "files.csv"]).ok();
    assert_eq!(cut(&read(dir.path(), "files.csv")), expected);
    trained.score(dir.path(), &["b*.log", "--out", "files.csv"]).exits(3);
    for wrong in [
        &["-", "a.log", "--out", "x.csv"][..],
        &["a.log", "--out", "x.csv", "--idle", "soon"],
        &["a.log", "--out", "x.csv", "--state", "s"],
        &["a.log", "--follow", "--out", "-", "--state", "s"],
        &["a.log.2.gz", "--follow", "--out", "x.csv"],
        &["a.log", "a.log.1", "--follow", "--out", "x.csv"],
    ] {
        trained.score(dir.path(), wrong).exits(2);
    }
}

/// An open session scores as in a batch of the log up to there, which scores as the pipeline.
#[test]
fn what_is_open_scores_as_if_the_log_ended() {
    let trained = trained();
    let dir = folder();
    let lines: Vec<&str> = trained.log.split_inclusive('\n').collect();
    for part in [lines.len() / 7, lines.len() / 2] {
        fs::write(dir.path().join("a.log"), lines[..part].concat()).unwrap();
        trained.score(dir.path(), &["a.log", "--out", "whole.csv"]).ok();
        trained.score(dir.path(), &["a.log", "--idle", "12h", "--out", "stream.csv"]).ok();
        let whole: BTreeMap<String, String> = cut(&read(dir.path(), "whole.csv"))
            .into_iter()
            .map(|l| (l.split(',').next().unwrap().to_owned(), l))
            .collect();
        let stream = read(dir.path(), "stream.csv");
        let states = by_state(&stream);
        let mut seen = std::collections::BTreeSet::new();
        let ended = states.iter().filter(|(state, _)| *state != "end").flat_map(|(_, rows)| rows);
        for row in ended {
            seen.insert(row.split(',').next().unwrap());
        }
        let mut same = 0;
        for row in &states["end"] {
            let id = row.split(',').next().unwrap();
            if !seen.contains(id) {
                assert_eq!(cut(&format!("\n{row}")), [whole[id].clone()]);
                same += 1;
            }
        }
        assert!(same > 20, "{same} of {} sessions were open", states["end"].len());
    }
}

#[test]
fn a_followed_log_gives_what_a_batch_gives_however_it_is_written() {
    let trained = trained();
    let dir = folder();
    fs::write(dir.path().join("whole.log"), &trained.log).unwrap();
    trained.score(dir.path(), &["whole.log", "--idle", "10m", "--out", "batch.csv"]).ok();
    let batch = read(dir.path(), "batch.csv");
    let states = by_state(&batch);
    assert!(states["closed"].len() > 100 && states["idle"].len() > 100, "{:?}", states.keys());

    // As it is there, in pieces of a few lines.
    let arguments =
        ["whole.log", "--follow", "--no-early", "--idle", "10m", "--read-at-most", "1000", "--out", "whole.csv"];
    let told = trained.score(dir.path(), &[&arguments[..], &QUIET].concat()).ok().json();
    assert_eq!(told["lines"], trained.log.lines().count());
    assert_eq!(read(dir.path(), "whole.csv"), batch);

    // As it is written, with halves of lines.
    let path = dir.path().join("a.log");
    let arguments = ["a.log", "--follow", "--no-early", "--idle", "10m", "--out", "grown.csv", "--until-silent", "5s"];
    let mut child = trained.spawn(dir.path(), &arguments);
    let bytes = trained.log.as_bytes();
    let pieces = 24;
    for piece in 0..pieces {
        let (from, to) = (bytes.len() * piece / pieces, bytes.len() * (piece + 1) / pieces);
        append(&path, &bytes[from..to]);
        std::thread::sleep(Duration::from_millis(if piece % 5 == 0 { 250 } else { 20 }));
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(read(dir.path(), "grown.csv"), batch);
}

/// Writes a log line by line, rotating it.
struct Writer<'a> {
    folder: &'a Path,
    lines: Vec<&'a [u8]>,
    next: usize,
    rotated: usize,
}

impl<'a> Writer<'a> {
    fn new(folder: &'a Path, log: &'a str) -> Self {
        Self { folder, lines: log.as_bytes().split_inclusive(|b| *b == b'\n').collect(), next: 0, rotated: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes so many lines, the last one in two halves.
    fn write(&mut self, count: usize) {
        let to = (self.next + count).min(self.lines.len());
        let text = self.lines[self.next..to].concat();
        let (first, rest) = text.split_at(text.len().saturating_sub(30));
        append(&self.path("a.log"), first);
        append(&self.path("a.log"), rest);
        self.next = to;
    }

    fn shift(&mut self) {
        for old in (1..=self.rotated).rev() {
            fs::rename(self.path(&format!("a.log.{old}")), self.path(&format!("a.log.{}", old + 1))).unwrap();
        }
        self.rotated += 1;
    }

    /// Moves the log away.
    fn rename(&mut self) {
        self.shift();
        fs::rename(self.path("a.log"), self.path("a.log.1")).unwrap();
    }

    /// Copies the log and cuts it to nothing.
    fn copy_and_cut(&mut self) {
        self.shift();
        fs::copy(self.path("a.log"), self.path("a.log.1")).unwrap();
        File::create(self.path("a.log")).unwrap();
    }

    fn is_done(&self) -> bool {
        self.next == self.lines.len()
    }
}

#[test]
fn a_log_that_is_rotated_is_read_once() {
    let trained = trained();
    let dir = folder();
    fs::write(dir.path().join("whole.log"), &trained.log).unwrap();
    trained.score(dir.path(), &["whole.log", "--idle", "10m", "--out", "batch.jsonl"]).ok();
    let arguments = ["a.log", "--follow", "--no-early", "--idle", "10m", "--out", "out.jsonl", "--until-silent", "5s"];
    let mut child = trained.spawn(dir.path(), &arguments);
    let mut writer = Writer::new(dir.path(), &trained.log);
    let mut round = 0;
    while !writer.is_done() {
        writer.write(1000);
        match round % 4 {
            // While it is read, and before.
            1 => {
                std::thread::sleep(Duration::from_millis(300));
                writer.rename();
            }
            2 => writer.copy_and_cut(),
            3 => std::thread::sleep(Duration::from_millis(900)),
            _ => {}
        }
        round += 1;
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(read(dir.path(), "out.jsonl"), read(dir.path(), "batch.jsonl"));
}

/// Numbers as of a dice, for delays and sizes.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Follows a log that grows and is rotated, and is killed again and again.
fn killed(seed: u64, out: &str) -> (tempfile::TempDir, usize) {
    let trained = trained();
    let (dir, mut dice, mut kills) = (folder(), Dice(seed), 0);
    let mut writer = Writer::new(dir.path(), &trained.log);
    let arguments =
        ["a.log", "--follow", "--state", "a.state", "--idle", "30m", "--out", out, "--read-at-most", "5000"];
    while !writer.is_done() {
        let mut child = trained.spawn(dir.path(), &arguments);
        for _ in 0..dice.throw(4) {
            writer.write(200 + dice.throw(3000) as usize);
            std::thread::sleep(Duration::from_millis(dice.throw(400)));
            if dice.throw(3) == 0 {
                writer.rename();
            }
        }
        std::thread::sleep(Duration::from_millis(dice.throw(1500)));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        if dice.throw(2) == 0 && writer.path("a.log").exists() {
            writer.rename();
            writer.write(1 + dice.throw(500) as usize);
        }
    }
    trained.score(dir.path(), &[&arguments[..], &QUIET].concat()).ok();
    (dir, kills)
}

#[test]
fn a_kill_loses_and_repeats_nothing() {
    let trained = trained();
    let once = folder();
    fs::write(once.path().join("a.log"), &trained.log).unwrap();
    let arguments = ["a.log", "--follow", "--state", "a.state", "--idle", "30m", "--out", "out.csv"];
    let told = trained.score(once.path(), &[&arguments[..], &QUIET].concat()).ok().json();
    let expected = read(once.path(), "out.csv");
    assert_eq!(told["rows"], expected.lines().count() - 1);
    assert!(told["open"].as_u64().unwrap() > 0 && told["early"].as_u64().unwrap() > 10, "{told}");
    for seed in [1, 2, 3] {
        let (dir, kills) = killed(seed * 7919, "out.csv");
        assert!(kills > 1);
        assert!(
            read(dir.path(), "out.csv") == expected,
            "seed {seed}: {} lines",
            read(dir.path(), "out.csv").lines().count()
        );
    }
    // Once more is nothing more; other settings, another log or target are refused.
    trained.score(once.path(), &[&arguments[..], &QUIET].concat()).ok();
    assert_eq!(read(once.path(), "out.csv"), expected);
    trained
        .score(once.path(), &["a.log", "--follow", "--state", "a.state", "--idle", "1h", "--out", "out.csv"])
        .exits(2);
    append(&once.path().join("b.log"), b"x\n");
    trained.score(once.path(), &["b.log", "--follow", "--state", "a.state", "--out", "out.csv"]).exits(2);
    trained.score(once.path(), &["a.log", "--follow", "--state", "a.state", "--out", "b.csv"]).exits(2);
    fs::write(once.path().join("out.csv"), "").unwrap();
    trained.score(once.path(), &arguments).exits(3);
    append(&once.path().join("a.state"), b"x");
    trained.score(once.path(), &arguments).exits(3);
}

#[test]
fn a_session_is_told_of_as_soon_as_it_is_an_alert_and_once() {
    let trained = trained();
    let dir = folder();
    fs::write(dir.path().join("a.log"), &trained.log).unwrap();
    trained.score(dir.path(), &[&["a.log", "--follow", "--out", "x.jsonl"][..], &QUIET].concat()).ok();
    trained.score(dir.path(), &[&["a.log", "--follow", "--no-early", "--out", "y.jsonl"][..], &QUIET].concat()).ok();
    let rows = |name: &str| -> Vec<Value> {
        read(dir.path(), name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (all, late) = (rows("x.jsonl"), rows("y.jsonl"));
    let (early, others): (Vec<Value>, Vec<Value>) = all.iter().cloned().partition(|row| row["state"] == "early");
    // Looking earlier changes nothing of what is said at the end.
    assert_eq!(others, late);
    assert!(early.len() > 10 && early.iter().all(|row| row["is_alert"] == true));
    // Once before it ends; what goes on after that is another session of the same name.
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for row in &all {
        let (id, events) = (row["session_id"].to_string(), row["events"].as_u64().unwrap());
        if row["state"] == "early" {
            assert!(told.insert(id, events).is_none(), "{row}");
        } else if let Some(then) = told.remove(&id) {
            assert!(events >= then, "{row}");
        }
    }
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_log_that_falls_silent_ends_its_sessions() {
    let trained = trained();
    let dir = folder();
    let lines: String = trained.log.split_inclusive('\n').take(300).collect();
    fs::write(dir.path().join("a.log"), lines).unwrap();
    let arguments = ["a.log", "--follow", "--state", "s", "--idle", "700ms", "--out", "x.csv", "--until-silent", "2s"];
    let told = trained.score(dir.path(), &arguments).ok().json();
    assert_eq!(told["open"], 0);
    let rows = read(dir.path(), "x.csv");
    assert!(rows.lines().count() > 20 && !by_state(&rows).contains_key("end"), "{rows}");
    trained.score(dir.path(), &arguments).ok();
    assert_eq!(read(dir.path(), "x.csv"), rows);
}

#[test]
fn lineage_knows_which_models_scored_which_log() {
    let trained = trained();
    let dir = folder();
    fs::write(dir.path().join("a.log"), &trained.log).unwrap();
    trained.score(dir.path(), &["a.log", "--idle", "10m", "--out", "x.csv"]).ok();
    let out = dir.path().join("x.csv");
    let asked = trained.command(dir.path(), &["lineage", out.to_str().unwrap()]).output().unwrap();
    let lineage = said(&asked).ok().json();
    let nodes = lineage["nodes"].as_array().unwrap();
    let has = |path: &str| nodes.iter().any(|node| node["path"].as_str().is_some_and(|p| p.ends_with(path)));
    for path in ["x.csv", "a.log", "data/models/lgbm/", "data/models/fusion/", "raw:HDFS.log"] {
        assert!(has(path), "{path} is not in {lineage}");
    }
    let action = nodes.iter().find(|node| node["stage"] == "score").unwrap();
    assert_eq!(action["params"]["ending"]["idle"], 600_000_000);
    // A copy of what was scored.
    fs::copy(&out, dir.path().join("copy.csv")).unwrap();
    let copy = dir.path().join("copy.csv");
    let asked = trained.command(dir.path(), &["lineage", copy.to_str().unwrap()]).output().unwrap();
    assert!(said(&asked).ok().json()["nodes"].as_array().unwrap().len() == nodes.len());
    // It is no run, and nothing is wrong with the project.
    said(&trained.command(dir.path(), &["verify"]).output().unwrap()).ok();
    let again = said(&trained.command(dir.path(), &["run"]).output().unwrap()).ok();
    assert_eq!((again.counts().executed, again.counts().restored), (0, 0));
}
