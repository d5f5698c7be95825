//! Scoring as lines come: rows to open sessions, and those that end to scores, in memory that does not grow with the log.
//!
//! | module | owns |
//! |---|---|
//! | `forms` | the template of a message, by the rules of a trained run |
//! | `open` | sessions that are open, in the order in which they were last active |
//! | `ends` | how sessions end |
//! | [`judge`] | scores of sessions, by the models of a run |
//! | [`sink`], [`database`] | where rows go: CSV, JSON lines, SQLite, PostgreSQL |
//! | [`tail`] | a log that grows and is rotated |
//! | [`state`] | what is kept over a restart |
//! | [`follow`] | the loop that puts them together |
//!
//! **What is exact.** A session is scored as the pipeline would score it, to the bit, if the log ended with the line that
//! was read last: with its events so far, and silent since then. That is so whatever ends it ([`Why`]). What a session is
//! does differ where it goes on after it was taken for over: the rest is another session of the same key.
//!
//! Invariant: what comes out depends on the log alone, not on how it came in pieces: every decision is made line by line,
//! by the clock of the log. The one exception is a log that falls silent ([`Stream::silent`]).

pub mod database;
mod ends;
pub mod follow;
pub(crate) mod forms;
pub mod judge;
mod open;
pub mod sink;
pub mod state;
pub mod tail;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::logs::entries::Leading;
use crate::logs::format::NO_TIME;
use crate::logs::format::time::Years;
use crate::logs::parser::LineParser;
use crate::logs::rows::{Rejected, Rows, text};
use crate::sessionize::{Cut, SessionizeParams, Within, micros};
use forms::Forms;
use open::{Event, OpenSessions, Place, Session};

/// Why a session is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is an alert already, and goes on.
    Early,
    /// An event closed it, and nothing followed.
    Closed,
    /// It was idle, or its window or the silence that cuts sessions is over.
    Idle,
    /// There were too many open sessions or events; it was idle for longest.
    Full,
    /// The log ended.
    End,
}

impl Why {
    /// The name used in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Full => "full",
            Self::End => "end",
        }
    }
}

/// When sessions end. Spans are microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// A session without an event for longer is over; `None`: when the log ends.
    pub idle: Option<i64>,
    /// As `idle`, once an event has closed the session.
    pub linger: i64,
    /// Sessions are also looked at while they go on.
    pub early: bool,
    /// Most open sessions.
    pub sessions: usize,
    /// Most events of open sessions.
    pub events: usize,
}

impl Default for Ending {
    fn default() -> Self {
        Self { idle: None, linger: 3_600_000_000, early: false, sessions: 1 << 20, events: 1 << 26 }
    }
}

/// Reads a span of time such as `30s` or `10m` as microseconds.
///
/// # Errors
/// What is wrong.
pub fn span(text: &str) -> Result<i64, String> {
    micros(text)
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Lines of every sort.
    pub lines: u64,
    /// Parsed lines.
    pub parsed: u64,
    /// Malformed lines.
    pub rejected: u64,
    /// Parsed lines that name no session.
    pub without_session: u64,
    /// Lines whose time is before that of the line before.
    pub steps_back: u64,
    /// Sessions scored.
    pub sessions: u64,
    /// Sessions with too few events, which are left out.
    pub short_sessions: u64,
    /// Sessions at or above the threshold.
    pub alerts: u64,
    /// Those of them that were told of before their end.
    pub early: u64,
    /// Sessions that ended because there were too many.
    pub full: u64,
}

/// A session to be scored.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    id: String,
    /// In order of time.
    events: Vec<Event>,
    why: Why,
    /// When it is looked at.
    until: i64,
    /// Whether it may go on, unless an event closed it.
    open: bool,
    /// How many new forms there were then.
    new: usize,
    instance: u64,
    alerted: bool,
    /// Where the session is, if it goes on.
    place: Place,
}

/// What goes on from chunk to chunk, apart from sessions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Clocks {
    years: Option<Years>,
    /// The time of the line before.
    now: i64,
    /// The earliest time, the latest, and the latest of an event of a session.
    first: i64,
    last: i64,
    horizon: i64,
    /// What the clock on the wall said, where the log has no times.
    wall: i64,
    instances: u64,
    /// Windows that end at this time are over, and those that start before the other.
    swept: i64,
    open_from: i64,
    /// The last row and the keys in it, where the next file may continue its entry.
    last_row: Option<(Event, Vec<Vec<u8>>)>,
}

impl Clocks {
    fn new(years: Option<Years>) -> Self {
        let never = NO_TIME;
        Self {
            years,
            now: never,
            first: never,
            last: never,
            horizon: never,
            wall: 0,
            instances: 0,
            swept: never,
            open_from: never,
            last_row: None,
        }
    }

    /// The time that idleness is measured by.
    fn active(&self) -> i64 {
        if self.last == NO_TIME { self.wall } else { self.last }
    }
}

/// The sessions of a log.
pub struct Stream {
    forms: Forms,
    cut: Option<Cut>,
    keyless: bool,
    /// Microseconds of silence after which a session does not count as open.
    over: i64,
    min_events: usize,
    ending: Ending,
    clocks: Clocks,
    open: OpenSessions,
    pending: VecDeque<Done>,
    counts: Counts,
    /// The first malformed lines.
    samples: Vec<Rejected>,
    multiline: bool,
    warnings: Vec<String>,
    /// Places of the sessions of a chunk, and codes of its forms.
    places: Vec<Place>,
    codes: Vec<u32>,
}

/// Malformed lines that are kept.
const SAMPLES: usize = 3;

impl Stream {
    /// Starts with the templates and the parameters of a run. Sessions that a run cuts at silences end there, unless told
    /// otherwise.
    ///
    /// # Errors
    /// A parameter is wrong; checked ones are not.
    pub(crate) fn new(
        forms: Forms,
        parser: &LineParser,
        params: &SessionizeParams,
        mut ending: Ending,
    ) -> anyhow::Result<Self> {
        let cut = params.cut().map_err(|e| anyhow::anyhow!("`{}`: {}", e.path, e.message))?;
        if let (Some(Cut::Gap(gap)), Some(idle)) = (cut, ending.idle.as_mut()) {
            *idle = gap.max(*idle);
            ending.linger = ending.linger.max(gap);
        }
        ending.early &= !matches!(cut, Some(Cut::Window { .. }));
        Ok(Self {
            forms,
            cut,
            keyless: params.within == Within::Log,
            over: (params.idle * 3.6e9) as i64,
            min_events: params.min_events,
            ending,
            clocks: Clocks::new(parser.entries.years),
            open: OpenSessions::default(),
            pending: VecDeque::new(),
            counts: Counts::default(),
            samples: Vec::new(),
            multiline: !matches!(parser.entries.multiline, crate::logs::entries::Multiline::Off),
            warnings: Vec::new(),
            places: Vec::new(),
            codes: Vec::new(),
        })
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns how many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.open.len()
    }

    /// Returns how many sessions wait to be scored.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Returns when sessions end.
    pub fn ending(&self) -> &Ending {
        &self.ending
    }

    /// Says what the clock on the wall shows: sessions of a log without times are idle by it.
    pub fn tell_time(&mut self, micros: i64) {
        self.clocks.wall = self.clocks.wall.max(micros);
    }

    /// Goes on with another log: dates without a year, and entries of several lines, are its own.
    pub(crate) fn begin_log(&mut self, years: Option<Years>) {
        self.clocks.years = years;
        self.clocks.last_row = None;
    }

    /// Keeps something to be said.
    pub(crate) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// Returns how many templates there are that the run did not know.
    ///
    /// # Errors
    /// A pattern of `closes` is no regular expression; checked ones are.
    pub fn new_templates(&mut self) -> anyhow::Result<usize> {
        let all = self.forms.numbered(Some(self.forms.new_forms()))?;
        Ok(all.templates.len() - self.forms.known())
    }

    /// Returns what the user should know.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        let Counts { rejected, steps_back, full, .. } = self.counts;
        if rejected > 0 {
            let sample = self.samples.first().map(|s| format!(", such as `{}`: {}", text(&s.text), s.why));
            warnings.push(format!("{rejected} lines could not be parsed{}", sample.unwrap_or_default()));
        }
        if steps_back > 0 && self.ending.idle.is_some() {
            warnings.push(format!("the clock goes back at {steps_back} lines; sessions end by the latest time so far"));
        }
        if full > 0 {
            warnings.push(format!("{full} sessions were ended for lack of room (raise --max-open)"));
        }
        if self.clocks.last == NO_TIME && self.counts.parsed > 0 && self.ending.idle.is_some() {
            warnings.push("no line has a time: sessions are idle only by the clock on the wall".to_owned());
        }
        if self.forms.new_forms() > forms::MOST_NEW {
            warnings.push("there are too many new forms of messages to tell apart; the rest counts as one".to_owned());
        }
        warnings
    }

    /// Takes the next lines of the log.
    ///
    /// # Errors
    /// A given template is not among the known ones.
    pub fn take(&mut self, rows: &mut Rows) -> anyhow::Result<()> {
        self.counts.lines += rows.lines;
        self.counts.parsed += rows.len() as u64;
        self.counts.rejected += rows.rejected;
        let room = SAMPLES.saturating_sub(self.samples.len());
        self.samples.extend(rows.samples.drain(..).take(room));
        if rows.ends.is_some() {
            let leading = std::mem::take(&mut rows.leading);
            self.continue_with(&leading);
        }
        if let Some(years) = &mut self.clocks.years {
            years.settle(&mut rows.time);
        }
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        places.resize(rows.names.sessions.len(), Place::NOWHERE);
        let mut codes = std::mem::take(&mut self.codes);
        codes.clear();
        let (mut key, mut from) = (Vec::new(), 0);
        for row in 0..rows.len() {
            let form = rows.form[row];
            // Numbers of forms are in order of appearance.
            if form as usize == codes.len() {
                let message = &rows.names.uses[codes.len()].message;
                codes.push(self.forms.code(rows.names.forms.get(form), message)?);
            }
            let code = codes[form as usize];
            let to = rows.session_ends[row] as usize;
            let sessions = &rows.sessions[from..to];
            from = to;
            let event = (self.tick(rows.time[row], self.keyless || !sessions.is_empty()), code);
            if self.keyless {
                let place = self.open.find(WHOLE);
                self.push(place, WHOLE, event);
                continue;
            }
            self.counts.without_session += u64::from(sessions.is_empty());
            for &session in sessions {
                let place = &mut places[session as usize];
                let known = if self.open.holds(*place) {
                    Some(*place)
                } else {
                    key.clear();
                    rows.names.sessions.write(session, &mut key);
                    self.open.find(&key)
                };
                *place = self.push(known, &key, event);
            }
        }
        if self.multiline && !rows.is_empty() {
            self.remember_last(rows, &codes);
        }
        (self.places, self.codes) = (places, codes);
        Ok(())
    }

    fn remember_last(&mut self, rows: &Rows, codes: &[u32]) {
        let last = rows.len() - 1;
        let keys = rows.sessions_of(last).iter().map(|&session| {
            let mut key = Vec::new();
            rows.names.sessions.write(session, &mut key);
            key
        });
        self.clocks.last_row = Some(((self.clocks.now, codes[rows.form[last] as usize]), keys.collect()));
    }

    /// Adds the last event to the sessions that the first lines of the next file name.
    fn continue_with(&mut self, leading: &[Leading]) {
        if leading.is_empty() || self.keyless {
            return;
        }
        let Some((event, mut keys)) = self.clocks.last_row.take() else { return };
        for key in leading.iter().flat_map(|line| &line.sessions) {
            if !keys.contains(key) {
                keys.push(key.clone());
                let place = self.open.find(key);
                self.push(place, key, event);
            }
        }
        self.counts.rejected -= (leading.len() as u64).min(self.counts.rejected);
        self.clocks.last_row = Some((event, keys));
    }

    /// Goes on to the time of the next line, and ends what ended before it; returns the time of its event.
    #[inline]
    fn tick(&mut self, time: i64, has_session: bool) -> i64 {
        let clocks = &mut self.clocks;
        if time != NO_TIME {
            self.counts.steps_back += u64::from(time < clocks.now);
            clocks.now = time;
            if time > clocks.last {
                if clocks.last == NO_TIME {
                    clocks.first = time;
                    self.open.rebase(time);
                }
                clocks.last = time;
            }
            clocks.first = clocks.first.min(time);
        }
        if has_session {
            clocks.horizon = clocks.horizon.max(clocks.now);
        }
        let now = clocks.now;
        if self.ending.idle.is_some() {
            self.expire();
        }
        now
    }

    /// Adds an event to a session; returns where that is.
    #[inline]
    fn push(&mut self, place: Option<Place>, key: &[u8], event: Event) -> Place {
        let closes = !self.keyless && self.forms.closes(event.1);
        let active = self.clocks.active();
        if self.open.events() >= self.ending.events {
            self.make_room();
        }
        let place = match place.filter(|place| self.open.holds(*place)) {
            Some(place) => {
                self.open.push(place, event, active, closes);
                place
            }
            None => self.begin(key, event, active, closes),
        };
        if self.ending.early {
            self.look(place, event.1);
        }
        place
    }

    #[cold]
    fn begin(&mut self, key: &[u8], event: Event, active: i64, closing: bool) -> Place {
        if self.open.len() >= self.ending.sessions {
            self.make_room();
        }
        let instance = self.clocks.instances;
        self.clocks.instances += 1;
        let (key, events) = (key.to_vec(), vec![event]);
        self.open.add(Session { key, events, active, instance, closing, ..Session::default() })
    }

    /// Has a session scored that goes on, if it just became another: it has an event that it did not have before, or
    /// twice as many as the last time.
    fn look(&mut self, place: Place, code: u32) {
        let session = self.open.at(place);
        if session.alerted {
            return;
        }
        let (_, before) = session.events.split_last().expect("an event was just added");
        if !session.events.len().is_power_of_two() && before.iter().any(|(_, other)| *other == code) {
            return;
        }
        let (key, events, instance) = (session.key.clone(), session.events.clone(), session.instance);
        let events = self.settled(events);
        if let Some(piece) = self.pieces(&key, &events, |_| true).pop() {
            let done = self.done(piece, &events, Why::Early, instance, false, None);
            self.pending.push_back(Done { place, ..done });
        }
    }

    /// Fails when there was nothing to score.
    ///
    /// # Errors
    /// Lines were read, and none could be parsed or named a session.
    pub fn refuse_nothing(&self) -> anyhow::Result<()> {
        let Counts { lines, parsed, without_session, .. } = self.counts;
        if parsed == 0 {
            let sample = self.samples.first().map(|s| format!("; `{}`: {}", text(&s.text), s.why)).unwrap_or_default();
            anyhow::bail!("none of {lines} lines could be parsed{sample}");
        }
        anyhow::ensure!(without_session < parsed, "no line of the log has a session key");
        Ok(())
    }
}

/// The key of the session of all lines.
const WHOLE: &[u8] = b"all";

#[cfg(test)]
mod tests;
