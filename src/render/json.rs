//! `run --json`: one line of JSON per event on stdout.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use logweir_engine::critical::CriticalPath;
use logweir_engine::event::{Event, Sink};
use serde::Serialize;

/// Shortest time between two progress lines of one stage.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// When a stage's progress was last told.
#[derive(Default)]
pub(crate) struct Pace(RefCell<BTreeMap<String, Instant>>);

impl Pace {
    /// Whether it is time to tell it again; if so, it is taken as told.
    pub(crate) fn due(&self, stage: &str) -> bool {
        let now = Instant::now();
        let mut last = self.0.borrow_mut();
        if last.get(stage).is_some_and(|at| now - *at < PROGRESS_EVERY) {
            return false;
        }
        last.insert(stage.to_owned(), now);
        true
    }
}

/// Writes events as lines of JSON.
#[derive(Default)]
pub(crate) struct JsonLines {
    pace: Pace,
    closed: Cell<bool>,
}

impl Sink for JsonLines {
    fn event(&self, event: &Event) {
        if let Event::StageProgress { stage, .. } = event
            && !self.pace.due(stage)
        {
            return;
        }
        self.line(event);
    }
}

impl JsonLines {
    /// The last line of a run, with its critical path.
    pub(crate) fn finish(&self, event: &Event, path: &CriticalPath) {
        let mut value = serde_json::to_value(event).expect("events hold nothing JSON cannot");
        value["critical_path"] = serde_json::to_value(path).expect("finite numbers and text");
        self.line(&value);
    }

    /// Writes anything as one line.
    pub(crate) fn line<T: Serialize>(&self, value: &T) {
        if self.closed.get() {
            return;
        }
        let mut line = serde_json::to_string(value).expect("events hold nothing JSON cannot");
        line.push('\n');
        let mut out = io::stdout().lock();
        // A reader that went away does not stop the run.
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            self.closed.set(true);
        }
    }
}
