//! New logs through the trained artifacts of a run.
//!
//! A batch of files is scored when the logs end: the stages `parse`, `templates` and `sessionize` without files in
//! between, then [`crate::score`]. Rows of all logs are held until their templates are known, as `sessions_from_logs` says.
//! Where sessions may end before the log does, or it cannot be read twice, lines are scored as they come ([`crate::stream`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, bail};
use logweir_engine::stage::{ParamError, Params, read_params};
use serde::Serialize;
use serde_json::Value;

use crate::logs::parser::LineParser;
use crate::logs::read::LogReader;
use crate::logs::scan::each_chunk;
use crate::parse::{ParseParams, reading_order};
use crate::score::{Bundle, Directories};
use crate::sessionize::{SessionizeParams, sessions_from_logs};
use crate::stream::follow::News;
use crate::stream::forms::Forms;
use crate::stream::judge::{ScoreRow, TOGETHER};
use crate::stream::sink::Sink;
use crate::stream::state::State;
use crate::stream::{Ending, Stream};
use crate::support::traces::Templates;
use crate::support::turns::lock;
use crate::templates::{Source, Template, TemplatesParams, given_from_known, read_templates};

/// What to score with, as a run recorded it.
#[derive(Clone, Debug)]
pub struct Scorer {
    /// Parameters of the `parse` stage.
    pub parse: Value,
    /// Parameters of the `templates` stage.
    pub templates: Value,
    /// Parameters of the `sessionize` stage.
    pub sessionize: Value,
    /// `templates.csv` of the run.
    pub known: PathBuf,
    /// Its model directories.
    pub models: Directories,
    /// Its `metrics.json`: the threshold of the fusion score at and above which a session is an alert.
    pub metrics: PathBuf,
}

/// A scorer whose artifacts were read.
pub struct Loaded {
    /// The models.
    pub bundle: Mutex<Bundle>,
    /// Scores at and above it are alerts.
    pub threshold: f64,
    /// Whether the models were trained on simulated logs.
    pub trained_on_simulated: bool,
    known: Vec<Template>,
    parse: ParseParams,
    templates: TemplatesParams,
    sessionize: SessionizeParams,
}

/// Where lines come from.
pub enum Lines<'a> {
    /// Files, which are read oldest first.
    Files(&'a [&'a Path]),
    /// Something that is read once.
    Pipe(Box<dyn std::io::Read + Send>),
}

/// What was scored.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scored {
    /// Lines read.
    pub lines: u64,
    /// Lines no format fits.
    pub rejected: u64,
    /// Sessions scored.
    pub sessions: usize,
    /// Sessions at or above the threshold.
    pub alerts: usize,
    /// Templates that the run did not know.
    pub new_templates: usize,
    /// The threshold.
    pub threshold: f64,
    /// Whether the models were trained on simulated logs.
    pub trained_on_simulated: bool,
    /// Worth a look.
    pub warnings: Vec<String>,
}

impl Scorer {
    /// Reads the artifacts.
    ///
    /// # Errors
    /// One is missing or malformed.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        let metrics = Metrics::read(&self.metrics)?;
        Ok(Loaded {
            bundle: Mutex::new(Bundle::load(&self.models)?),
            threshold: metrics.threshold,
            trained_on_simulated: metrics.simulated,
            known: read_templates(&self.known)?,
            parse: recorded(&self.parse, "parse")?,
            templates: recorded(&self.templates, "templates")?,
            sessionize: recorded(&self.sessionize, "sessionize")?,
        })
    }
}

impl Loaded {
    /// Scores files when they end: every session as the pipeline would, in the order of their starts. Works on the rayon
    /// pool it is called from.
    ///
    /// # Errors
    /// A log cannot be read, no line of the logs has a session key, or rows cannot be written.
    pub fn score_whole(
        &self,
        logs: &[&Path],
        sink: &mut dyn Sink,
        news: &mut (dyn FnMut(News<'_>) + Send),
    ) -> anyhow::Result<Scored> {
        let found = sessions_from_logs(logs, &self.parse, &self.known, &self.templates, &self.sessionize)?;
        let templates = Templates {
            event_ids: found.templates.iter().map(|t| t.event_id.clone()).collect(),
            texts: found.templates.iter().map(|t| t.text.clone()).collect(),
        };
        let frame = lock(&self.bundle).score(&found.sessions.frame()?, &templates)?;
        let events: Vec<usize> = (0..found.sessions.len()).map(|row| found.sessions.events_of(row).len()).collect();
        let rows = ScoreRow::of_frame(&frame, &events, self.threshold)?;
        for (number, some) in rows.chunks(TOGETHER).enumerate() {
            sink.write((number * TOGETHER) as u64, some)?;
            news(News::Rows(some));
        }
        let unseen: u64 = found.templates.iter().filter(|t| t.source == Source::Unseen).map(|t| t.count).sum();
        let mut scored = Scored {
            lines: found.summary.lines,
            rejected: found.summary.rejected,
            sessions: found.sessions.len(),
            alerts: rows.iter().filter(|row| row.is_alert).count(),
            new_templates: found.templates.len() - self.known.len(),
            warnings: found.parse.files.iter().flat_map(|f| f.warnings.clone()).collect(),
            ..self.scored()
        };
        scored.warn_of_new();
        if unseen > 0 {
            scored.warnings.push(format!("{unseen} lines match no template of the trained run (`known: frozen`)"));
        }
        Ok(scored)
    }

    /// Scores lines as they come: a session when it ends, in memory that does not grow with the log if sessions may be
    /// idle. Works on the rayon pool it is called from.
    ///
    /// # Errors
    /// As [`Loaded::score_whole`].
    pub fn score_stream(
        &self,
        lines: Lines<'_>,
        ending: Ending,
        alerts: bool,
        sink: &mut dyn Sink,
        news: &mut (dyn FnMut(News<'_>) + Send),
    ) -> anyhow::Result<Scored> {
        let (mut parser, mut stream) = self.stream(ending, None)?;
        let mut rows = 0u64;
        let mut hand_on = |stream: &mut Stream, least: usize| -> anyhow::Result<()> {
            while stream.waiting() > least {
                let judged = stream.judge(&lock(&self.bundle), self.threshold, alerts)?;
                sink.write(rows, &judged.rows)?;
                rows += judged.rows.len() as u64;
                news(News::Rows(&judged.rows));
                judged.alerts.into_iter().for_each(|alert| news(News::Alert(Box::new(alert))));
            }
            Ok(())
        };
        match lines {
            Lines::Pipe(pipe) => {
                each(LogReader::of(pipe), &parser, &mut stream, &mut hand_on)?;
            }
            Lines::Files(files) => {
                let mut files = files.to_vec();
                files.sort_by_cached_key(|path| reading_order(&path.to_string_lossy()));
                let mut log = String::new();
                for path in files {
                    let context = || format!("cannot parse {}", path.display());
                    let base = reading_order(&path.to_string_lossy()).0;
                    if base != log {
                        stream.begin_log(parser.entries.years);
                        log = base;
                    }
                    parser.parameters = false;
                    each(LogReader::open(path)?, &parser, &mut stream, &mut hand_on).with_context(context)?;
                }
            }
        }
        stream.refuse_nothing()?;
        stream.finish();
        hand_on(&mut stream, 0)?;
        let counts = stream.counts().clone();
        let mut scored = Scored {
            lines: counts.lines,
            rejected: counts.rejected,
            sessions: counts.sessions as usize,
            alerts: counts.alerts as usize,
            new_templates: stream.new_templates()?,
            ..self.scored()
        };
        scored.warn_of_new();
        scored.warnings.extend(stream.warnings());
        Ok(scored)
    }

    /// Begins a stream, or has one go on from a state.
    ///
    /// # Errors
    /// A parameter is wrong, or the state is of a stream that ends sessions otherwise.
    pub fn stream(&self, ending: Ending, state: Option<State>) -> anyhow::Result<(LineParser, Stream)> {
        let mut parser = self.parse.parser(&given_from_known(&self.known))?;
        parser.parameters = false;
        let forms = Forms::new(self.known.clone(), &self.templates, &self.sessionize)?;
        let mut stream = Stream::new(forms, &parser, &self.sessionize, ending)?;
        if let Some(state) = state {
            state.resume(&mut stream)?;
        }
        Ok((parser, stream))
    }

    /// Returns after how much silence the run takes a session for over: microseconds.
    pub fn idle(&self) -> i64 {
        (self.sessionize.idle * 3.6e9) as i64
    }

    fn scored(&self) -> Scored {
        Scored { threshold: self.threshold, trained_on_simulated: self.trained_on_simulated, ..Scored::default() }
    }
}

fn each(
    reader: LogReader,
    parser: &LineParser,
    stream: &mut Stream,
    hand_on: &mut (dyn FnMut(&mut Stream, usize) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    let end = each_chunk(
        reader,
        parser,
        |_| Ok(()),
        |rows, ()| {
            stream.take(rows)?;
            hand_on(stream, TOGETHER)
        },
    )?;
    if let Some(why) = end.truncated {
        stream.warn(format!("a log ends early: {why}"));
    }
    Ok(())
}

impl Scored {
    fn warn_of_new(&mut self) {
        if self.new_templates > 0 {
            self.warnings.push(format!(
                "{} message templates are new to the trained run: their sessions are scored by what is known",
                self.new_templates
            ));
        }
    }
}

/// Does work on a rayon pool of so many threads; 0 for all cores.
///
/// # Errors
/// The threads cannot be started, or the work fails.
pub fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(work)
}

/// Reads parameters out of a run's record.
fn recorded<P: Params>(value: &Value, stage: &str) -> anyhow::Result<P> {
    read_params(value).map_err(|errors: Vec<ParamError>| {
        let texts: Vec<String> = errors.into_iter().map(|e| format!("{} {}", e.path, e.message)).collect();
        anyhow::anyhow!("the run was made by another version: parameters of {stage}: {}", texts.join("; "))
    })
}

/// What of metrics.json counts here.
struct Metrics {
    threshold: f64,
    simulated: bool,
}

impl Metrics {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
        let threshold = value.pointer("/threshold/value").and_then(Value::as_f64);
        let Some(threshold) = threshold else { bail!("{} has no /threshold/value", path.display()) };
        let simulated = value.pointer("/dataset/source").and_then(Value::as_str) == Some("simulated");
        Ok(Self { threshold, simulated })
    }
}
