//! The terminal view of a run: a block of lines at the bottom that is drawn again ten times a second, and above it a
//! line for each thing worth keeping.
//!
//! Events only change a state; one thread draws it. Ten thousand stages that end within a tick cost one frame, and a run
//! that is over before the first tick draws nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use logweir_engine::event::{Decision, Event, Sink};
use logweir_engine::forecast::Forecast;

use crate::render::board::Board;
use crate::render::{self, Screen, line, to_stderr};

/// Time between two frames.
const FRAME: Duration = Duration::from_millis(100);
/// Least time between two predictions.
const FORESEE: Duration = Duration::from_millis(500);
/// A prediction may take this part of the time at most.
const FORESEE_SHARE: u32 = 50;
/// Most lines of ended stages kept within one frame; more are told in one line.
const MOST_KEPT: usize = 20;

/// Makes the forecast of a run; asked once, when the first stage begins.
pub(crate) type Foresee = Box<dyn FnOnce() -> Option<Forecast> + Send>;

/// The view of one run.
pub(crate) struct Live {
    shared: Arc<Shared>,
    painter: Option<JoinHandle<()>>,
    screen: Screen,
    name_width: usize,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    began: Instant,
}

#[derive(Default)]
struct State {
    board: Board,
    /// Lines to be kept, oldest first.
    kept: Vec<Kept>,
    /// Stages that ended since the last forecast, with the seconds they ran.
    settled: Vec<(String, Option<f64>)>,
    foresee: Option<Foresee>,
    working: bool,
    over: bool,
}

enum Kept {
    /// Shown whatever else there is.
    Always(String),
    /// A stage that ended well: its name and its line.
    Done(String, String),
    /// A stage that was skipped: its line.
    Skipped(String),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere is told elsewhere; the state is only shown.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Starts the view. `name_width` is the width of the longest stage name, `cancel` is set when the user wants to stop.
    pub(crate) fn new(screen: Screen, name_width: usize, foresee: Foresee, cancel: Arc<AtomicBool>) -> Self {
        let state = State { foresee: Some(foresee), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), began: Instant::now() });
        let painter = Painter { shared: Arc::clone(&shared), screen, cancel, bar: None, forecast: None, due: None };
        Self { shared, painter: Some(std::thread::spawn(move || painter.paint())), screen, name_width }
    }

    fn keep(&self, event: &Event) -> Option<Kept> {
        let line = line::kept(event, self.screen.err, self.screen.verbose, self.name_width)?;
        Some(match event {
            Event::StageFinished { stage, .. } => Kept::Done(stage.clone(), line),
            Event::StageSkipped { .. } => Kept::Skipped(line),
            _ => Kept::Always(line),
        })
    }
}

impl Sink for Live {
    fn event(&self, event: &Event) {
        let kept = self.keep(event);
        let mut state = self.shared.state();
        state.board.take(event, self.shared.began.elapsed());
        state.kept.extend(kept);
        match event {
            Event::StageStarted { .. } => state.working = true,
            Event::StageFinished { stage, seconds, decision, .. } => {
                let ran = (*decision == Decision::Run).then_some(*seconds);
                state.settled.push((stage.clone(), ran));
            }
            Event::StageFailed { stage, retry: false, .. } | Event::StageSkipped { stage, .. } => {
                state.settled.push((stage.clone(), None));
            }
            _ => {}
        }
    }
}

impl Drop for Live {
    /// Clears the block; what is kept stays.
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.shared.changed.notify_all();
        if let Some(painter) = self.painter.take() {
            let _ = painter.join();
        }
    }
}

struct Painter {
    shared: Arc<Shared>,
    screen: Screen,
    cancel: Arc<AtomicBool>,
    /// The block; made when there is something to draw.
    bar: Option<ProgressBar>,
    forecast: Option<Forecast>,
    /// When the next prediction is due.
    due: Option<Duration>,
}

impl Painter {
    fn paint(mut self) {
        let mut tick = 0;
        loop {
            let mut state = self.shared.state();
            if !state.over {
                let waited = self.shared.changed.wait_timeout(state, FRAME);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let over = state.over;
            let now = self.shared.began.elapsed();
            let kept = std::mem::take(&mut state.kept);
            let settled = std::mem::take(&mut state.settled);
            let foresee = if state.working { state.foresee.take() } else { None };
            state.board.stopping = self.cancel.load(Ordering::Relaxed);
            let board = (!over && state.board.is_working()).then(|| state.board.clone());
            drop(state);
            let mut text = fold(kept, self.screen, render::size().1).join("\n");
            if over {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                if !text.is_empty() {
                    text.push('\n');
                    to_stderr(&text);
                }
                return;
            }
            if let Some(foresee) = foresee {
                self.forecast = foresee();
                self.due = Some(now);
            }
            let Some(mut board) = board else { continue };
            self.look_ahead(&mut board, settled, now);
            self.draw(&board, &text, now, tick);
            tick += 1;
        }
    }

    /// Settles what ended, and predicts anew when that is due.
    fn look_ahead(&mut self, board: &mut Board, settled: Vec<(String, Option<f64>)>, now: Duration) {
        let Some(forecast) = &mut self.forecast else {
            // Kept for the forecast that is made when the first stage begins.
            self.shared.state().settled.splice(0..0, settled);
            return;
        };
        for (stage, seconds) in settled {
            forecast.settle(&stage, seconds);
        }
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let began = Instant::now();
        let left = forecast.left(&board.elapsed(now).collect());
        self.due = Some(now + FORESEE.max(began.elapsed() * FORESEE_SHARE));
        board.foresee(left.clone(), now);
        self.shared.state().board.foresee(left, now);
    }

    fn draw(&mut self, board: &Board, text: &str, now: Duration, tick: usize) {
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg}").expect("the template is constant");
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
        });
        if !text.is_empty() {
            bar.println(text);
        }
        bar.set_message(board.lines(now, tick, render::size(), self.screen.err).join("\n"));
        bar.tick();
    }
}

/// The lines to be kept of one frame; many of a sort become one.
fn fold(kept: Vec<Kept>, screen: Screen, columns: usize) -> Vec<String> {
    let paint = screen.err;
    let done = kept.iter().filter(|kept| matches!(kept, Kept::Done(..))).count();
    let skipped = kept.iter().filter(|kept| matches!(kept, Kept::Skipped(_))).count();
    let (fold_done, fold_skipped) = (done > MOST_KEPT && !screen.verbose, skipped > MOST_KEPT && !screen.verbose);
    let mut lines = Vec::new();
    let (mut first, mut last) = (None, None);
    for kept in kept {
        match kept {
            Kept::Done(stage, _) if fold_done => {
                first.get_or_insert_with(|| stage.clone());
                last = Some(stage);
            }
            Kept::Skipped(_) if fold_skipped => {}
            Kept::Done(_, line) if !screen.verbose => lines.push(render::fit(&line, columns)),
            Kept::Done(_, line) | Kept::Always(line) | Kept::Skipped(line) => lines.push(line),
        }
    }
    if let (Some(first), Some(last)) = (first, last) {
        lines.push(format!("{} {done} stages, {first} … {last}", paint.green("✓")));
    }
    if fold_skipped {
        lines.push(format!("{} {skipped} stages skipped", paint.dim("–")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    fn done(n: usize) -> Kept {
        Kept::Done(format!("s{n}"), format!("line {n}"))
    }

    #[test]
    fn many_lines_of_one_frame_become_one_but_failures_stay() {
        let few: Vec<Kept> = (0..3).map(done).collect();
        assert_eq!(fold(few, Screen::PLAIN, 80), ["line 0", "line 1", "line 2"]);
        let mut many: Vec<Kept> = (0..500).map(done).collect();
        many.insert(7, Kept::Always("✗ x failed".into()));
        many.extend((0..30).map(|_| Kept::Skipped("–".into())));
        assert_eq!(fold(many, Screen::PLAIN, 80), ["✗ x failed", "✓ 500 stages, s0 … s499", "– 30 stages skipped"]);
        let all: Vec<Kept> = (0..500).map(done).collect();
        assert_eq!(fold(all, Screen { verbose: true, ..Screen::PLAIN }, 80).len(), 500);
    }
}
