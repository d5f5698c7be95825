//! A run as plain lines on stderr, where that is no terminal; and a bar for work outside a run.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use logweir_engine::event::{Event, Level, Sink};

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
        if let Some(line) = line::of(event, self.screen.err, self.screen.verbose) {
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

/// A bar for work outside a run; nothing where bars are not shown.
pub(crate) struct Work {
    bar: Option<ProgressBar>,
}

impl Work {
    /// Shows a bar called `name`.
    pub(crate) fn new(name: &str, screen: &Screen) -> Self {
        let bar = screen.bars.then(|| {
            let bar = ProgressBar::new(0).with_style(bar_style(0)).with_prefix(name.to_owned());
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

impl Work {
    /// Says something above the bar.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| to_stderr(text)),
            None => to_stderr(text),
        }
    }

    /// Removes the bar.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.end();
    }
}

fn show_progress(bar: &ProgressBar, done: u64, total: u64, unit: &str) {
    if bar.length() != Some(total) {
        bar.set_length(total);
        bar.set_style(bar_style(total));
    }
    bar.set_position(done);
    bar.set_message(if total == 0 {
        format!("{} {unit}", text::count(done))
    } else {
        format!("{} of {} {unit}", text::count(done), text::count(total))
    });
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
