//! The terminal view of a run: a block of lines at the bottom that is drawn again ten times a second, and above it a
//! line for each thing worth keeping.
//!
//! Events only change a state; one thread draws it. Ten thousand stages that end within a tick cost one frame, and a run
//! that is over before the first tick draws nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use logweir_engine::event::{Decision, Event, Sink};
use logweir_engine::forecast::Forecast;

use crate::render::board::Board;
use crate::render::{self, Screen, line, text, to_stderr};

/// Time between two frames.
const FRAME: Duration = Duration::from_millis(100);
/// Least time between two predictions.
const FORESEE: Duration = Duration::from_millis(500);
/// A prediction may take this part of the time at most.
const FORESEE_SHARE: u32 = 50;
/// Most lines of ended stages kept within one frame. As long as more end in each, they are told together, in one line.
const MOST_KEPT: usize = 4;

/// Tells terminals that can to show a frame only when it is whole.
const BEGIN: &str = "\x1b[?2026h";
const END: &str = "\x1b[?2026l";
const CLEAR_RIGHT: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

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
        let painter = Painter {
            shared: Arc::clone(&shared),
            screen,
            name_width,
            cancel,
            drawn: 0,
            forecast: None,
            burst: Burst::default(),
            due: None,
        };
        Self { shared, painter: Some(std::thread::spawn(move || painter.paint())), screen, name_width }
    }

    fn keep(&self, event: &Event, board: &Board) -> Option<Kept> {
        let mut line = line::kept(event, self.screen.err, self.screen.verbose, self.name_width)?;
        if let Event::StageFailed { stage, retry: false, .. } = event
            && let Some((seconds, reasons)) = board.about(stage, self.shared.began.elapsed())
        {
            // Its error says what went wrong; why it ran at all is often what the user changed.
            let why = text::reasons(reasons, self.screen.verbose);
            let ran = format!("it ran {} because: {why}", text::seconds(seconds));
            line.push_str(&format!("\n    {}", self.screen.err.dim(&ran)));
        }
        Some(match event {
            Event::StageFinished { stage, .. } => Kept::Done(stage.clone(), line),
            Event::StageSkipped { .. } => Kept::Skipped(line),
            _ => Kept::Always(line),
        })
    }
}

impl Sink for Live {
    fn event(&self, event: &Event) {
        let mut state = self.shared.state();
        let kept = self.keep(event, &state.board);
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
    name_width: usize,
    cancel: Arc<AtomicBool>,
    /// How many lines the block has on the screen.
    drawn: usize,
    forecast: Option<Forecast>,
    burst: Burst,
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
            let mut lines = self.burst.fold(kept, self.screen, render::size().1);
            if over {
                self.burst.close(self.screen, &mut lines);
                self.draw(&lines, &[]);
                return;
            }
            if let Some(foresee) = foresee {
                self.forecast = foresee();
                self.due = Some(now);
            }
            let Some(mut board) = board else { continue };
            self.look_ahead(&mut board, settled, now);
            let block = board.lines(now, tick, render::size(), self.name_width, self.screen.err);
            self.draw(&lines, &block);
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

    fn draw(&mut self, kept: &[String], block: &[String]) {
        if let Some(frame) = self.frame(kept, block) {
            to_stderr(&frame);
        }
    }

    /// Returns what puts `kept` where the block was and the block below, to be written at once. The cursor rests on the
    /// line after it: what the terminal echoes there (`^C`) moves nothing.
    fn frame(&mut self, kept: &[String], block: &[String]) -> Option<String> {
        if kept.is_empty() && block.is_empty() && self.drawn == 0 {
            return None;
        }
        let mut out = String::from(BEGIN);
        if self.drawn > 0 {
            out.push_str(&format!("\x1b[{}A", self.drawn));
        }
        out.push('\r');
        if !kept.is_empty() || block.is_empty() {
            // Kept lines may be longer than the screen is wide: they need empty ones.
            out.push_str(CLEAR_BELOW);
        }
        for line in kept {
            out.push_str(line);
            out.push('\n');
        }
        for line in block {
            out.push_str(line);
            out.push_str(CLEAR_RIGHT);
            out.push('\n');
        }
        out.push_str(CLEAR_BELOW);
        out.push_str(END);
        self.drawn = block.len();
        Some(out)
    }
}

/// Stages that end faster than their lines could be read: how many of each sort, and which.
#[derive(Default)]
struct Burst {
    done: usize,
    skipped: usize,
    /// First and last of those done.
    ends: Option<(String, String)>,
}

impl Burst {
    /// Returns the lines to be kept of one frame. A burst goes on until a frame has few, or something else to say.
    fn fold(&mut self, kept: Vec<Kept>, screen: Screen, columns: usize) -> Vec<String> {
        let quick = kept.iter().filter(|kept| !matches!(kept, Kept::Always(_))).count();
        let fold = quick > MOST_KEPT && !screen.verbose;
        let mut lines = Vec::new();
        if !fold && quick > 0 {
            self.close(screen, &mut lines);
        }
        for kept in kept {
            match kept {
                Kept::Done(stage, _) if fold => {
                    self.done += 1;
                    match &mut self.ends {
                        Some((_, last)) => *last = stage,
                        None => self.ends = Some((stage.clone(), stage)),
                    }
                }
                Kept::Skipped(_) if fold => self.skipped += 1,
                Kept::Done(_, line) if !screen.verbose => lines.push(render::fit(&line, columns)),
                Kept::Done(_, line) | Kept::Skipped(line) => lines.push(line),
                Kept::Always(line) => {
                    self.close(screen, &mut lines);
                    lines.push(line);
                }
            }
        }
        lines
    }

    /// Ends the burst: what it held becomes a line or two.
    fn close(&mut self, screen: Screen, lines: &mut Vec<String>) {
        let Self { done, skipped, ends } = std::mem::take(self);
        if let Some((first, last)) = ends {
            let count = text::plural(done, "stage");
            lines.push(format!("{} {count} done: {first} … {last}", screen.err.green("✓")));
        }
        if skipped > 0 {
            lines.push(format!("{} {} skipped", screen.err.dim("–"), text::plural(skipped, "stage")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn done(n: usize) -> Kept {
        Kept::Done(format!("s{n}"), format!("line {n}"))
    }

    #[test]
    fn a_frame_replaces_the_one_before() {
        let (shared, cancel) = Default::default();
        let began = Instant::now();
        let shared = Arc::new(Shared { state: shared, changed: Condvar::new(), began });
        let (screen, burst) = (Screen::PLAIN, Burst::default());
        let mut painter = Painter { shared, screen, name_width: 0, cancel, drawn: 0, forecast: None, burst, due: None };
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(painter.frame(&[], &[]), None, "nothing was drawn, nothing is");
        let first = painter.frame(&[], &lines(&["a", "b"])).unwrap();
        assert_eq!(first, "\x1b[?2026h\ra\x1b[K\nb\x1b[K\n\x1b[J\x1b[?2026l");
        let second = painter.frame(&lines(&["kept"]), &lines(&["c"])).unwrap();
        assert_eq!(second, "\x1b[?2026h\x1b[2A\r\x1b[Jkept\nc\x1b[K\n\x1b[J\x1b[?2026l");
        let last = painter.frame(&[], &[]).unwrap();
        assert_eq!(last, "\x1b[?2026h\x1b[1A\r\x1b[J\x1b[J\x1b[?2026l");
    }

    #[test]
    fn a_burst_is_one_line_however_many_frames_it_takes_and_failures_stay() {
        let frame =
            |burst: &mut Burst, from: usize, to: usize| burst.fold((from..to).map(done).collect(), Screen::PLAIN, 80);
        let mut burst = Burst::default();
        assert_eq!(frame(&mut burst, 0, 3), ["line 0", "line 1", "line 2"]);
        assert_eq!(frame(&mut burst, 3, 500), [""; 0]);
        assert_eq!(frame(&mut burst, 500, 500), [""; 0], "a frame without anything ends nothing");
        assert_eq!(frame(&mut burst, 500, 2000), [""; 0]);
        let failed = vec![Kept::Always("✗ x failed".into())];
        let lines = burst.fold(failed, Screen::PLAIN, 80);
        assert_eq!(lines, ["✓ 1,997 stages done: s3 … s1999", "✗ x failed"]);
        let skipped = (0..30).map(|_| Kept::Skipped("–".into())).collect();
        assert_eq!(burst.fold(skipped, Screen::PLAIN, 80), [""; 0]);
        assert_eq!(frame(&mut burst, 0, 1), ["– 30 stages skipped", "line 0"]);
        let all = burst.fold((0..500).map(done).collect(), Screen { verbose: true, ..Screen::PLAIN }, 80);
        assert_eq!(all.len(), 500);
    }
}
