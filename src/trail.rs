//! `cache/events.jsonl`: the events of the last run that did something, a line of JSON each as `run --json` writes them,
//! for those who watch from another process (`serve`). It begins anew with the first stage that starts or fails, so that
//! a run with nothing to do writes nothing; that stages are fresh is not told. Nobody needs it: what cannot be written is
//! left out.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use logweir_engine::event::{Decision, Event, Sink};
use serde::Serialize;

use crate::render::json::Pace;

/// Where it lies, in the project.
pub(crate) fn place(root: &Path) -> PathBuf {
    root.join("cache/events.jsonl")
}

/// Writes the events of one run.
pub(crate) struct Trail {
    root: PathBuf,
    /// The beginning of the run, until something is done.
    held: RefCell<Vec<Event>>,
    file: RefCell<Option<File>>,
    gone: Cell<bool>,
    pace: Pace,
}

/// An event and when it was written.
#[derive(Serialize)]
struct Timed<'a> {
    #[serde(flatten)]
    event: &'a Event,
    at: String,
}

impl Trail {
    /// Of a run in the project at `root`.
    pub(crate) fn new(root: &Path) -> Self {
        let (held, file, gone, pace) = Default::default();
        Self { root: root.to_path_buf(), held, file, gone, pace }
    }

    fn begin(&self) {
        // A reader of the old file keeps it: the new one is another.
        let path = place(&self.root);
        let _ = std::fs::remove_file(&path);
        match File::create(&path) {
            Ok(file) => {
                self.file.replace(Some(file));
                for event in self.held.take() {
                    self.write(&event);
                }
            }
            Err(_) => self.gone.set(true),
        }
    }

    fn write(&self, event: &Event) {
        let at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let Ok(mut line) = serde_json::to_vec(&Timed { event, at }) else { return };
        line.push(b'\n');
        if let Some(file) = &mut *self.file.borrow_mut()
            && file.write_all(&line).is_err()
        {
            self.gone.set(true);
        }
    }
}

impl Sink for Trail {
    fn event(&self, event: &Event) {
        let dull = matches!(event, Event::StageFinished { decision: Decision::Fresh, .. })
            || matches!(event, Event::StageProgress { stage, .. } if !self.pace.due(stage));
        if dull || self.gone.get() {
            return;
        }
        if self.file.borrow().is_none() {
            let done =
                matches!(event, Event::StageStarted { .. } | Event::StageFinished { .. } | Event::StageFailed { .. });
            if !done {
                self.held.borrow_mut().push(event.clone());
                return;
            }
            self.begin();
        }
        self.write(event);
    }
}

#[cfg(test)]
mod tests {
    use logweir_engine::digest::Digest;

    use super::*;

    #[test]
    fn a_run_is_written_once_something_is_done_in_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("cache")).unwrap();
        let key = Digest::of_bytes(b"k");
        let started = Event::RunStarted { run: "r".to_owned(), pipeline: "p".to_owned(), stages: 2, jobs: 1 };
        let trail = Trail::new(dir.path());
        trail.event(&started);
        trail.event(&Event::fresh("a", key));
        assert!(!place(dir.path()).exists());
        let (stage, reasons) = ("b".to_owned(), Vec::new());
        trail.event(&Event::StageStarted { stage, key, threads: 1, attempt: 1, expected: None, reasons });
        let text = std::fs::read_to_string(place(dir.path())).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["run_started", "stage_started"]);
        assert!(lines[1]["at"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn without_a_cache_a_run_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let trail = Trail::new(&dir.path().join("nowhere"));
        let skip = |stage: &str| Event::StageSkipped { stage: stage.to_owned(), needs: None };
        trail.event(&skip("a"));
        trail.event(&Event::StageFailed {
            stage: "b".to_owned(),
            error: String::new(),
            log: Vec::new(),
            log_file: None,
            retry: false,
            internal: false,
        });
        assert!(trail.gone.get());
    }
}
