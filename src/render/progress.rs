//! A running pipeline on stderr: bars on a terminal (running stages, then one line for all), plain lines elsewhere.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use indexmap::IndexMap;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use logweir_engine::event::{Decision, Event, Level, Sink};

use crate::render::{Screen, line, text, to_stderr};

/// One line per transition, for log files and pipes.
pub(crate) struct Lines {
    screen: Screen,
}

impl Lines {
    pub(crate) fn new(screen: Screen) -> Self {
        Self { screen }
    }
}

impl Sink for Lines {
    fn event(&self, event: &Event) {
        if self.screen.quiet && !matters(event) {
            return;
        }
        if let Some(line) = line::of(event, self.screen.err, self.screen.verbose, false) {
            to_stderr(&format!("{line}\n"));
        }
    }
}

/// What `-q` still shows.
fn matters(event: &Event) -> bool {
    matches!(
        event,
        Event::StageFailed { .. } | Event::Warning { .. } | Event::StageMessage { level: Level::Warning, .. }
    )
}

/// What stages took before, by name.
pub(crate) type Predict<'a> = dyn Fn() -> Vec<(String, f64)> + 'a;

/// Bars: one per running stage, one for the run.
pub(crate) struct Bars<'a> {
    screen: Screen,
    multi: MultiProgress,
    predict: Box<Predict<'a>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    total: Option<ProgressBar>,
    running: IndexMap<String, ProgressBar>,
    /// Seconds predicted for stages that have not ended, by name. `None` until a stage begins: a run with nothing to do
    /// asks nobody.
    ahead: Option<IndexMap<String, f64>>,
    ended: BTreeSet<String>,
    restored: usize,
    fresh: usize,
}

impl<'a> Bars<'a> {
    /// `predict` is asked once, when the first stage begins.
    pub(crate) fn new(screen: Screen, predict: Box<Predict<'a>>) -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { screen, multi, predict, state: RefCell::default() }
    }

    fn bar_style(total: u64) -> ProgressStyle {
        let template = if total == 0 {
            "  {spinner} {prefix}  {msg}  {elapsed_short}"
        } else {
            "  {spinner} {prefix}  {bar:24.cyan/dim} {msg}  {elapsed_short}{left}"
        };
        ProgressStyle::with_template(template)
            .expect("the template is constant")
            .with_key("elapsed_short", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{}", text::seconds(state.elapsed().as_secs_f64()));
            })
            .with_key("left", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let left = state.eta().as_secs_f64();
                if left >= 1.0 && state.elapsed() >= Duration::from_secs(2) {
                    let _ = write!(out, ", {} left", text::seconds(left));
                }
            })
            .progress_chars("━╸─")
            .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
    }

    fn started(&self, stages: usize) {
        let style = ProgressStyle::with_template("{spinner} {pos}/{len} stages {bar:32.green/dim} {msg}")
            .expect("the template is constant")
            .progress_chars("━╸─")
            .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ");
        let bar = self.multi.add(ProgressBar::new(stages as u64).with_style(style));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.state.borrow_mut().total = Some(bar);
    }

    fn begin(&self, stage: &str, expected: Option<f64>) {
        let mut state = self.state.borrow_mut();
        if state.ahead.is_none() {
            let ended = &state.ended;
            state.ahead = Some((self.predict)().into_iter().filter(|(name, _)| !ended.contains(name)).collect());
        }
        let bar = ProgressBar::new(0).with_style(Self::bar_style(0)).with_prefix(stage.to_owned());
        let bar = match &state.total {
            Some(total) => self.multi.insert_before(total, bar),
            None => self.multi.add(bar),
        };
        bar.enable_steady_tick(Duration::from_millis(120));
        if let Some(expected) = expected {
            bar.set_message(format!("about {}", text::seconds(expected)));
        }
        if let Some(old) = state.running.insert(stage.to_owned(), bar) {
            old.finish_and_clear();
        }
        drop(state);
        self.refresh();
    }

    fn progress(&self, stage: &str, done: u64, total: u64, unit: &str) {
        if let Some(bar) = self.state.borrow().running.get(stage) {
            show_progress(bar, done, total, unit);
        }
    }

    fn end(&self, stage: &str) {
        let mut state = self.state.borrow_mut();
        match &mut state.ahead {
            Some(ahead) => drop(ahead.shift_remove(stage)),
            None => drop(state.ended.insert(stage.to_owned())),
        }
        if let Some(bar) = state.running.shift_remove(stage) {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
        if let Some(total) = &state.total {
            total.inc(1);
        }
        drop(state);
        self.refresh();
    }

    /// The words after the last bar: what needed no run, and the time left.
    fn refresh(&self) {
        let state = self.state.borrow();
        let Some(total) = &state.total else { return };
        let mut parts = Vec::new();
        if state.fresh > 0 {
            parts.push(format!("{} fresh", state.fresh));
        }
        if state.restored > 0 {
            parts.push(format!("{} restored", state.restored));
        }
        let left: f64 = state
            .ahead
            .iter()
            .flatten()
            .map(|(stage, seconds)| {
                let elapsed = state.running.get(stage).map_or(0.0, |bar| bar.elapsed().as_secs_f64());
                (seconds - elapsed).max(0.0)
            })
            .sum();
        if left >= 1.0 {
            parts.push(format!("about {} of work left", text::seconds(left)));
        }
        total.set_message(parts.join(", "));
    }

    fn clear(&self) {
        let mut state = self.state.borrow_mut();
        for (_, bar) in state.running.drain(..) {
            bar.finish_and_clear();
        }
        if let Some(total) = state.total.take() {
            total.finish_and_clear();
        }
    }
}

impl Sink for Bars<'_> {
    fn event(&self, event: &Event) {
        if let Some(line) = line::of(event, self.screen.err, self.screen.verbose, true) {
            // Printing through the bars keeps them whole.
            let _ = self.multi.println(line);
        }
        match event {
            Event::RunStarted { stages, .. } => self.started(*stages),
            Event::StageStarted { stage, expected, .. } => self.begin(stage, *expected),
            Event::StageProgress { stage, done, total, unit } => self.progress(stage, *done, *total, unit),
            Event::StageFinished { stage, decision, .. } => {
                match decision {
                    Decision::Fresh => self.state.borrow_mut().fresh += 1,
                    Decision::Restore => self.state.borrow_mut().restored += 1,
                    _ => {}
                }
                self.end(stage);
            }
            Event::StageFailed { stage, retry: false, .. } | Event::StageSkipped { stage, .. } => self.end(stage),
            Event::RunFinished { .. } => self.clear(),
            Event::StageFailed { .. } | Event::StageMessage { .. } | Event::Warning { .. } => {}
        }
    }
}

impl Drop for Bars<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A bar for work outside a run; nothing where bars are not shown.
pub(crate) struct Work {
    bar: Option<ProgressBar>,
}

impl Work {
    /// Shows a bar called `name`.
    pub(crate) fn new(name: &str, screen: &Screen) -> Self {
        let bar = screen.bars.then(|| {
            let bar = ProgressBar::new(0).with_style(Bars::bar_style(0)).with_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar }
    }

    /// `done` of `total` (0 = unknown) `unit`s are finished.
    pub(crate) fn set(&self, done: u64, total: u64, unit: &str) {
        if let Some(bar) = &self.bar {
            show_progress(bar, done, total, unit);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn show_progress(bar: &ProgressBar, done: u64, total: u64, unit: &str) {
    if bar.length() != Some(total) {
        bar.set_length(total);
        bar.set_style(Bars::bar_style(total));
    }
    bar.set_position(done);
    bar.set_message(if total == 0 {
        format!("{} {unit}", text::count(done))
    } else {
        format!("{} of {} {unit}", text::count(done), text::count(total))
    });
}
