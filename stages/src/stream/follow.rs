//! The loop: a log that grows to rows, one after the other, with a state that a kill does not harm.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::judge::{Alert, ScoreRow};
use super::sink::Sink;
use super::state::{Progress, StateFile};
use super::tail::Tail;
use super::{Counts, Stream};
use crate::logs::parser::LineParser;
use crate::logs::rows::Rows;
use crate::score::Bundle;
use crate::support::turns::lock;

/// How often a log is looked at that says nothing.
const POLL: Duration = Duration::from_millis(100);

/// How often a state is written at most, and what part of the time that may take.
const STATE_EVERY: Duration = Duration::from_secs(1);
const STATE_SHARE: u32 = 10;

/// How a log is followed.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Bytes that are read at once, at most.
    pub most: usize,
    /// Ends when the log has said nothing for so long.
    pub until_silent: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { most: 1 << 20, until_silent: None }
    }
}

/// What was done, and how long it took.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// What was counted.
    pub counts: Counts,
    /// Sessions that are still open.
    pub open: usize,
    /// Rows written, also before a restart.
    pub rows: u64,
    /// From the bytes of a line to its session: parsing, matching, what ends because of it. Not in it: reading the file,
    /// scoring sessions and writing rows.
    pub line: Latency,
    /// From a line to the row that it led to, as far as it lies in this program: as `line`, with scoring and writing.
    pub row: Latency,
    /// Worth a look.
    pub warnings: Vec<String>,
}

/// How long something took: counts by eighths of powers of two of nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency {
    counts: Vec<u64>,
    most: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: vec![0; 64 * 8], most: 0 }
    }
}

impl Latency {
    /// Adds `times` times.
    pub fn add(&mut self, nanos: u64, times: u64) {
        let bits = nanos.max(8).ilog2();
        let eighth = (nanos.max(8) >> (bits - 3)) & 7;
        self.counts[(bits as u64 * 8 + eighth) as usize] += times;
        self.most = self.most.max(nanos);
    }

    /// Returns what a share took at most, in microseconds (the upper end of its eighth); `None` where nothing was measured.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.counts.iter().sum();
        let wanted = ((all as f64 * share).ceil() as u64).max(1);
        let mut so_far = 0;
        let at = self.counts.iter().position(|count| {
            so_far += count;
            so_far >= wanted
        })?;
        let (bits, eighth) = (at as u64 / 8, at as u64 % 8);
        Some((((9 + eighth) << bits) >> 3).min(self.most) as f64 / 1000.0)
    }

    /// Returns the longest, in microseconds.
    pub fn most(&self) -> f64 {
        self.most as f64 / 1000.0
    }
}

/// What happens, for whoever shows it.
pub enum News<'a> {
    /// Something the user should know.
    Note(String),
    /// Rows were written.
    Rows(&'a [ScoreRow]),
    /// A session became an alert.
    Alert(Box<Alert>),
}

/// Follows a log.
pub struct Follower<'a> {
    /// How lines are written.
    pub parser: &'a LineParser,
    /// The models.
    pub bundle: &'a Mutex<Bundle>,
    /// Scores at and above it are alerts.
    pub threshold: f64,
    /// The sessions.
    pub stream: Stream,
    /// The log.
    pub tail: Tail,
    /// Where rows go.
    pub sink: Box<dyn Sink>,
    /// Where the state is written, if it is.
    pub state: Option<StateFile>,
    /// How far an earlier stream had come.
    pub progress: Progress,
    /// Whether alerts are told of.
    pub alerts: bool,
    /// How fast.
    pub pace: Pace,
}

impl Follower<'_> {
    /// Follows until `stop` is set, or the log is silent for as long as was said. With a state, open sessions are in it then;
    /// without one, they are scored as they are.
    ///
    /// # Errors
    /// The log cannot be read, rows or the state cannot be written, or a session cannot be scored.
    pub fn follow(mut self, stop: &AtomicBool, news: &mut (dyn FnMut(News<'_>) + Send)) -> anyhow::Result<Followed> {
        let mut done = Followed::default();
        let mut rows = Rows::default();
        let (mut heard, mut saved) = (Instant::now(), Instant::now());
        let (mut pause, mut changed) = (STATE_EVERY, false);
        if self.progress.silent {
            // Killed while the sessions of a silent log were ended: their rows come again.
            self.end_silent(news)?;
        }
        // Before the first row: whatever is written from now on is known to be of this stream.
        self.progress.length = self.sink.commit()?;
        self.save(false)?;
        while !stop.load(Ordering::SeqCst) {
            self.stream.tell_time(wall());
            let chunk = self.tail.next(self.pace.most)?;
            for note in self.tail.notes() {
                news(News::Note(note));
            }
            let idle = self.stream.ending().idle;
            match chunk {
                Some(chunk) => {
                    heard = Instant::now();
                    self.parser.parse_into(&chunk, &mut rows);
                    let lines = rows.lines;
                    self.stream.take(&mut rows)?;
                    let each = |began: Instant| began.elapsed().as_nanos() as u64 / lines.max(1);
                    done.line.add(each(heard), lines);
                    self.score(news)?;
                    done.row.add(each(heard), lines);
                    changed = true;
                }
                None => {
                    let silence = heard.elapsed();
                    if self.pace.until_silent.is_some_and(|longest| silence >= longest) {
                        break;
                    }
                    let over = idle.is_some_and(|idle| silence.as_micros() as i64 >= idle);
                    if over && self.stream.open_sessions() > 0 {
                        // Told before it is done: after a kill it is done again, not otherwise.
                        self.progress.length = self.sink.commit()?;
                        self.save(true)?;
                        self.end_silent(news)?;
                        (saved, changed) = (Instant::now(), false);
                    }
                    std::thread::sleep(POLL);
                }
            }
            if changed && saved.elapsed() >= pause {
                let began = Instant::now();
                self.progress.length = self.sink.commit()?;
                self.save(false)?;
                (saved, changed) = (Instant::now(), false);
                pause = STATE_EVERY.max(began.elapsed() * STATE_SHARE);
            }
        }
        if self.state.is_none() {
            self.stream.finish();
            self.score(news)?;
        }
        self.progress.length = self.sink.commit()?;
        self.save(false)?;
        self.sink.finish()?;
        done.counts = self.stream.counts().clone();
        done.open = self.stream.open_sessions();
        done.rows = self.progress.rows;
        done.warnings = self.stream.warnings();
        Ok(done)
    }

    /// Ends the sessions of a log that is silent, and writes that down.
    fn end_silent(&mut self, news: &mut (dyn FnMut(News<'_>) + Send)) -> anyhow::Result<()> {
        self.stream.silent();
        self.score(news)?;
        self.progress.length = self.sink.commit()?;
        self.save(false)
    }

    fn save(&mut self, silent: bool) -> anyhow::Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        self.progress.position = self.tail.position();
        self.progress.silent = silent;
        state.save(&self.stream, &self.progress)
    }

    /// Scores what waits, and hands it on.
    fn score(&mut self, news: &mut (dyn FnMut(News<'_>) + Send)) -> anyhow::Result<()> {
        while self.stream.waiting() > 0 {
            let judged = self.stream.judge(&lock(self.bundle), self.threshold, self.alerts)?;
            if !judged.rows.is_empty() {
                self.sink.write(self.progress.rows, &judged.rows)?;
                self.progress.rows += judged.rows.len() as u64;
                news(News::Rows(&judged.rows));
            }
            for alert in judged.alerts {
                news(News::Alert(Box::new(alert)));
            }
        }
        Ok(())
    }
}

/// Microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a log without times is idle by the clock on the wall")]
fn wall() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// Returns whether a log is one that can be followed: a compressed one cannot grow.
pub fn can_follow(path: &Path) -> bool {
    !matches!(path.extension().and_then(|e| e.to_str()), Some("gz" | "zst" | "zstd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_an_eighth_too_high() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        for nanos in 1..=1000 {
            latency.add(nanos * 100, 1);
        }
        for (share, exact) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let got = latency.quantile(share).unwrap();
            assert!(got >= exact && got <= exact * 1.125, "{share}: {got}");
        }
        assert_eq!(latency.most(), 100.0);
    }
}
