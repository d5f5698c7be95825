//! What a terminal shows of a run that is under way, as lines of text: what runs and how far it is, what needed no run,
//! how much is left. Pure: the state, a time and a size in, lines out.

use std::time::Duration;

use indexmap::IndexMap;
use logweir_engine::event::{Decision, Event, Reason};
use logweir_engine::forecast::Left;

use crate::render::{Paint, fit, text};

/// Shapes of the spinner, one a tick.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// Most running stages shown.
const MOST_RUNNING: usize = 12;
/// Lines below the running stages, and one for the prompt above.
const OTHER_LINES: usize = 4;
/// Longest name column.
pub(crate) const NAME_WIDTH: usize = 28;
/// Terminals with fewer columns are narrow.
const NARROW: usize = 70;
/// A stage that runs longer than expected is shown as nearly done.
const NEARLY: f64 = 0.97;

/// A running stage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    began: Duration,
    attempt: u32,
    expected: Option<f64>,
    /// Done, total (0 = unknown), unit.
    progress: Option<(u64, u64, String)>,
    reasons: Vec<Reason>,
}

/// The state of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board {
    stages: usize,
    ended: usize,
    done: usize,
    fresh: usize,
    restored: usize,
    failed: usize,
    skipped: usize,
    running: IndexMap<String, Task>,
    /// What is left, and when that was said.
    left: Option<(Left, Duration)>,
    /// The user wants to stop.
    pub(crate) stopping: bool,
}

impl Board {
    /// Takes note of an event.
    pub(crate) fn take(&mut self, event: &Event, now: Duration) {
        match event {
            Event::RunStarted { stages, .. } => self.stages = *stages,
            // A map counted as one until its files were known.
            Event::StageExpanded { actions, .. } => self.stages = self.stages.saturating_sub(1) + actions,
            Event::StageStarted { stage, attempt, expected, reasons, .. } => {
                // A further attempt keeps its place.
                let before = self.running.get(stage);
                let expected = expected.or_else(|| before.and_then(|task| task.expected));
                let reasons = before.map_or_else(|| reasons.clone(), |task| task.reasons.clone());
                let task = Task { began: now, attempt: *attempt, expected, progress: None, reasons };
                self.running.insert(stage.clone(), task);
            }
            Event::StageProgress { stage, done, total, unit } => {
                if let Some(task) = self.running.get_mut(stage) {
                    task.progress = Some((*done, *total, unit.clone()));
                }
            }
            Event::StageFinished { stage, decision, .. } => {
                match decision {
                    Decision::Fresh => self.fresh += 1,
                    Decision::Restore => self.restored += 1,
                    _ => self.done += 1,
                }
                self.end(stage);
            }
            Event::StageFailed { stage, retry: false, .. } => {
                self.failed += 1;
                self.end(stage);
            }
            Event::StageSkipped { stage, .. } => {
                self.skipped += 1;
                self.end(stage);
            }
            _ => {}
        }
    }

    fn end(&mut self, stage: &str) {
        self.running.shift_remove(stage);
        self.ended += 1;
    }

    /// How long a running stage has run, and why it does.
    pub(crate) fn about(&self, stage: &str, now: Duration) -> Option<(f64, &[Reason])> {
        let task = self.running.get(stage)?;
        Some((now.saturating_sub(task.began).as_secs_f64(), &task.reasons))
    }

    /// Whether anything has begun: before that there is nothing to show.
    pub(crate) fn is_working(&self) -> bool {
        !self.running.is_empty() || self.ended < self.stages
    }

    /// Takes a new word on what is left.
    pub(crate) fn foresee(&mut self, left: Left, now: Duration) {
        self.left = Some((left, now));
    }

    /// Seconds the running stages have run for.
    pub(crate) fn elapsed(&self, now: Duration) -> impl Iterator<Item = (String, f64)> {
        self.running.iter().map(move |(name, task)| (name.clone(), (now.saturating_sub(task.began)).as_secs_f64()))
    }

    /// Returns the lines for a terminal of this size; `tick` turns the spinners. `name_width` is that of the lines above.
    pub(crate) fn lines(
        &self,
        now: Duration,
        tick: usize,
        size: (usize, usize),
        name_width: usize,
        paint: Paint,
    ) -> Vec<String> {
        let (height, width) = size;
        let room = height.saturating_sub(OTHER_LINES).clamp(1, MOST_RUNNING);
        let spinner = SPINNER[tick % SPINNER.len()];
        let shown = if self.running.len() > room { room - 1 } else { room };
        let names = self.running.iter().take(shown).map(|(name, task)| label(name, task).chars().count());
        let columns = Columns { name: names.max().unwrap_or(0).max(name_width).min(NAME_WIDTH).min(width / 3), width };
        let mut lines: Vec<String> =
            self.running.iter().take(shown).map(|(name, task)| columns.task(name, task, now, spinner, paint)).collect();
        if self.running.len() > shown {
            lines.push(paint.dim(&format!("  and {} more", self.running.len() - shown)));
        }
        lines.push(self.total(now, width, paint));
        if let Some((left, _)) = &self.left
            && left.path.len() > 1
            && height > lines.len() + 2
        {
            let chain = text::chain(&left.path, width.saturating_sub(17));
            lines.push(paint.dim(&format!("critical path  {chain}")));
        }
        lines.iter().map(|line| fit(line, width.saturating_sub(1))).collect()
    }

    /// The last line but one: how far the run is, what was done, how long it may still take.
    fn total(&self, now: Duration, width: usize, paint: Paint) -> String {
        let stages = self.stages.max(self.ended + self.running.len());
        let left = self.left.as_ref().map(|(left, at)| {
            let gone = now.saturating_sub(*at).as_secs_f64();
            ((left.seconds - gone).max(0.0), left.unknown)
        });
        let part = match left {
            Some((seconds, 0)) if seconds > 0.0 => now.as_secs_f64() / (now.as_secs_f64() + seconds),
            _ => self.ended as f64 / stages.max(1) as f64,
        };
        let mut words = vec![format!("{}/{}", text::count(self.ended as u64), text::count(stages as u64))];
        if self.failed > 0 {
            words.push(paint.red(&format!("{} failed", self.failed)));
        }
        for (count, word) in
            [(self.skipped, "skipped"), (self.done, "executed"), (self.restored, "restored"), (self.fresh, "fresh")]
        {
            if count > 0 {
                words.push(format!("{} {word}", text::count(count as u64)));
            }
        }
        let clock = text::clock(now.as_secs_f64());
        let time = match left {
            _ if self.stopping => paint.yellow("stopping; Ctrl-C again stops at once"),
            Some((seconds, 0)) if seconds >= 1.0 => format!("{clock}, about {} left", text::clock(seconds)),
            Some((_, 0)) => format!("{clock}, nearly done"),
            Some((seconds, _)) if seconds >= 1.0 => format!("{clock}, at least {} left", text::clock(seconds)),
            _ => clock,
        };
        // Where not all fits, the time matters most.
        words.insert(if width < NARROW { 1 } else { words.len() }, time);
        let bar = bar(part, bar_width(width), paint, Paint::green);
        format!("{bar}{}", words.join(&paint.dim(" · ")))
    }
}

fn label(name: &str, task: &Task) -> String {
    if task.attempt > 1 { format!("{name} (attempt {})", task.attempt) } else { name.to_owned() }
}

struct Columns {
    name: usize,
    width: usize,
}

impl Columns {
    fn task(&self, name: &str, task: &Task, now: Duration, spinner: &str, paint: Paint) -> String {
        let elapsed = now.saturating_sub(task.began).as_secs_f64();
        let counted = task.progress.as_ref().filter(|(_, total, _)| *total > 0);
        let part = match (counted, task.expected) {
            (Some((done, total, _)), _) => Some(*done as f64 / *total as f64),
            (None, Some(expected)) if expected >= 1.0 => Some((elapsed / expected).min(NEARLY)),
            _ => None,
        };
        let name = fit(&label(name, task), self.name);
        let pad = " ".repeat(self.name.saturating_sub(name.chars().count()));
        let bar = match (part, bar_width(self.width)) {
            (_, 0) => String::new(),
            (Some(part), wide) => bar(part, wide, paint, Paint::cyan),
            (None, wide) => " ".repeat(wide + 2),
        };
        let time = match task.expected {
            Some(expected) if expected >= 1.0 => {
                format!("{} of {}", text::clock(elapsed), text::clock(expected))
            }
            _ => text::clock(elapsed),
        };
        let detail = match &task.progress {
            Some((done, 0, unit)) => format!("  {} {unit}", text::count(*done)),
            Some((done, total, unit)) => format!("  {} of {} {unit}", text::count(*done), text::count(*total)),
            None => String::new(),
        };
        format!("{} {}{pad}  {bar}{time}{}", paint.cyan(spinner), paint.bold(&name), paint.dim(&detail))
    }
}

fn bar_width(width: usize) -> usize {
    match width {
        0..50 => 0,
        50..70 => 10,
        70..100 => 16,
        _ => 24,
    }
}

/// A bar that is `part` full, with two spaces after it; nothing when `wide` is 0.
fn bar(part: f64, wide: usize, paint: Paint, full_in: fn(Paint, &str) -> String) -> String {
    if wide == 0 {
        return String::new();
    }
    let halves = (part.clamp(0.0, 1.0) * (2 * wide) as f64).floor() as usize;
    let full = "━".repeat(halves / 2);
    let half = if halves % 2 == 1 { "╸" } else { "" };
    let rest = "─".repeat(wide - halves.div_ceil(2));
    format!("{}{}  ", full_in(paint, &format!("{full}{half}")), paint.dim(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use logweir_engine::digest::Digest;

    fn started(stage: &str, attempt: u32, expected: Option<f64>) -> Event {
        let key = Digest::of_bytes(b"");
        Event::StageStarted { stage: stage.into(), key, threads: 1, attempt, expected, reasons: Vec::new() }
    }

    fn finished(stage: &str, decision: Decision) -> Event {
        let key = Digest::of_bytes(b"");
        let reasons = Vec::new();
        Event::StageFinished { stage: stage.into(), decision, key, seconds: 1.0, storing: 0.0, reasons, cutoff: false }
    }

    fn board() -> Board {
        let mut board = Board::default();
        let at = Duration::from_secs;
        let start = Event::RunStarted { run: "r".into(), pipeline: "p".into(), stages: 8, jobs: 2 };
        board.take(&start, at(0));
        board.take(&finished("a", Decision::Fresh), at(0));
        board.take(&finished("b", Decision::Restore), at(0));
        board.take(&started("train", 1, Some(8.0)), at(0));
        board.take(&started("split", 1, None), at(1));
        board.take(&Event::StageProgress { stage: "train".into(), done: 25, total: 100, unit: "rounds".into() }, at(2));
        board
    }

    fn shown(board: &Board, size: (usize, usize)) -> String {
        board.lines(Duration::from_secs(4), 0, size, 0, Paint(false)).join("\n")
    }

    #[test]
    fn a_run_shows_what_runs_what_needed_no_run_and_what_is_left() {
        let mut board = board();
        let path = vec!["train".to_owned(), "fuse".to_owned()];
        let left = Left { seconds: 12.0, unknown: 0, path, path_seconds: 12.0 };
        board.foresee(left, Duration::from_secs(4));
        assert_eq!(
            shown(&board, (24, 80)),
            "⠋ train  ━━━━────────────  4.0 s of 8.0 s  25 of 100 rounds\n\
             ⠋ split                    3.0 s\n\
             ━━━━────────────  2/8 · 1 restored · 1 fresh · 4.0 s, about 12 s left\n\
             critical path  train → fuse"
        );
    }

    #[test]
    fn without_history_nothing_is_promised() {
        let mut board = board();
        board.foresee(Left { unknown: 3, ..Left::default() }, Duration::from_secs(4));
        assert!(shown(&board, (24, 80)).ends_with("2/8 · 1 restored · 1 fresh · 4.0 s"), "{}", shown(&board, (24, 80)));
        board.foresee(Left { unknown: 3, seconds: 9.0, ..Left::default() }, Duration::from_secs(4));
        assert!(shown(&board, (24, 80)).ends_with("4.0 s, at least 9.0 s left"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_frame_higher() {
        let mut board = board();
        for n in 0..40 {
            board.take(&started(&format!("a_stage_with_a_long_name[n={n}]"), 2, Some(3.0)), Duration::ZERO);
        }
        board.foresee(Left { path: vec!["x".repeat(50); 9], ..Left::default() }, Duration::ZERO);
        for (height, width) in [(24, 80), (10, 40), (5, 20), (2, 5), (50, 200)] {
            let lines = board.lines(Duration::from_secs(4), 3, (height, width), 9, Paint(true));
            assert!(lines.iter().all(|line| crate::render::width(line) < width), "{width}: {lines:#?}");
            assert!(lines.len() <= height.max(3), "{height}: {lines:#?}");
        }
    }

    #[test]
    fn ended_stages_leave_and_are_counted() {
        let mut board = board();
        board.take(&finished("train", Decision::Run), Duration::ZERO);
        let failed = |retry| Event::StageFailed {
            stage: "split".into(),
            error: String::new(),
            log: Vec::new(),
            log_file: None,
            retry,
            internal: false,
        };
        board.take(&failed(true), Duration::ZERO);
        assert_eq!(board.running.len(), 1, "another attempt follows");
        board.take(&failed(false), Duration::ZERO);
        board.stopping = true;
        let shown = shown(&board, (24, 100));
        assert!(shown.contains("4/8 · 1 failed · 1 executed · 1 restored · 1 fresh · stopping"), "{shown}");
    }
}
