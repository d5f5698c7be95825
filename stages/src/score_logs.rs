//! New logs through the trained artifacts of a run: the stages `parse`, `templates` and `sessionize` without files in
//! between, then [`crate::score`], then one line per session.
//!
//! Times and memory: rows of all logs are held until their templates are known, as `sessions_from_logs` says.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use logweir_engine::stage::{ParamError, Params, read_params};
use polars::prelude::{DataFrame, DataType};
use serde::Serialize;
use serde_json::Value;

use crate::parse::ParseParams;
use crate::score::{Bundle, Directories};
use crate::sessionize::{SessionizeParams, sessions_from_logs};
use crate::support::time::rfc3339;
use crate::support::traces::Templates;
use crate::templates::{Source, TemplatesParams, read_templates};

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

/// How scores are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With a header line.
    Csv,
    /// One object a line.
    JsonLines,
}

/// What was scored.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// Scores logs, which are read oldest first, and writes one line per session in the order of their starts:
    /// `session_id`, `timestamp`, `p_lgbm`, `z_ae`, `fusion_score`, `is_alert` as in `ensemble_sessions.csv`, then
    /// `events`, `censored` and `reason`. Works on the rayon pool it is called from.
    ///
    /// # Errors
    /// A log or an artifact cannot be read, no line of the logs has a session key, or `out` cannot be written.
    pub fn score(&self, logs: &[&Path], format: Format, out: &mut dyn Write) -> anyhow::Result<Scored> {
        let bundle = Bundle::load(&self.models)?;
        let known = read_templates(&self.known)?;
        let metrics = Metrics::read(&self.metrics)?;
        let mining = recorded::<TemplatesParams>(&self.templates, "templates")?;
        let parse = recorded::<ParseParams>(&self.parse, "parse")?;
        let sessionize = recorded::<SessionizeParams>(&self.sessionize, "sessionize")?;
        let found = sessions_from_logs(logs, &parse, &known, &mining, &sessionize)?;
        let templates = Templates {
            event_ids: found.templates.iter().map(|t| t.event_id.clone()).collect(),
            texts: found.templates.iter().map(|t| t.text.clone()).collect(),
        };
        let frame = bundle.score(&found.sessions.frame()?, &templates)?;
        let events: Vec<usize> = (0..found.sessions.len()).map(|row| found.sessions.events_of(row).len()).collect();
        let alerts = write_scores(&frame, &events, metrics.threshold, format, out)?;
        let new_templates = found.templates.len() - known.len();
        let unseen: u64 = found.templates.iter().filter(|t| t.source == Source::Unseen).map(|t| t.count).sum();
        let mut warnings: Vec<String> = found.parse.files.iter().flat_map(|f| f.warnings.clone()).collect();
        if new_templates > 0 {
            warnings.push(format!(
                "{new_templates} message templates are new to the trained run: their sessions are scored by what is known"
            ));
        }
        if unseen > 0 {
            warnings.push(format!("{unseen} lines match no template of the trained run (`known: frozen`)"));
        }
        Ok(Scored {
            lines: found.summary.lines,
            rejected: found.summary.rejected,
            sessions: found.sessions.len(),
            alerts,
            new_templates,
            threshold: metrics.threshold,
            trained_on_simulated: metrics.simulated,
            warnings,
        })
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

/// Writes the sessions of a frame of scores and returns how many are alerts.
fn write_scores(
    frame: &DataFrame,
    events: &[usize],
    threshold: f64,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<usize> {
    let times = frame.column("timestamp")?.cast(&DataType::Int64)?;
    let (ids, times) = (frame.column("session_id")?.str()?, times.i64()?);
    let (p_lgbm, z_ae) = (frame.column("p_lgbm")?.f64()?, frame.column("z_ae")?.f64()?);
    let (fusion, reasons) = (frame.column("fusion")?.f64()?, frame.column("reason")?.str()?);
    let censored = frame.column("censored")?.bool()?;
    let mut lines = Lines::new(format, out)?;
    let mut alerts = 0;
    for (row, &events) in events.iter().enumerate() {
        let fusion_score = fusion.get(row).context("a session has no score")?;
        let is_alert = fusion_score >= threshold;
        alerts += usize::from(is_alert);
        lines.write(&Line {
            session_id: ids.get(row).context("a session has no id")?,
            timestamp: times.get(row).map(rfc3339),
            p_lgbm: p_lgbm.get(row),
            z_ae: z_ae.get(row),
            fusion_score,
            is_alert,
            events,
            censored: censored.get(row).unwrap_or_default(),
            reason: reasons.get(row).unwrap_or_default(),
        })?;
    }
    lines.flush()?;
    Ok(alerts)
}

/// A scored session as it is written.
#[derive(Serialize)]
struct Line<'a> {
    session_id: &'a str,
    timestamp: Option<String>,
    p_lgbm: Option<f64>,
    z_ae: Option<f64>,
    fusion_score: f64,
    is_alert: bool,
    events: usize,
    censored: bool,
    reason: &'a str,
}

enum Lines<'a> {
    Csv(Box<csv::Writer<&'a mut dyn Write>>),
    Json(BufWriter<&'a mut dyn Write>),
}

impl<'a> Lines<'a> {
    fn new(format: Format, out: &'a mut dyn Write) -> anyhow::Result<Self> {
        Ok(match format {
            Format::JsonLines => Self::Json(BufWriter::new(out)),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                let header = [
                    "session_id",
                    "timestamp",
                    "p_lgbm",
                    "z_ae",
                    "fusion_score",
                    "is_alert",
                    "events",
                    "censored",
                    "reason",
                ];
                writer.write_record(header).map_err(io_error)?;
                Self::Csv(Box::new(writer))
            }
        })
    }

    fn write(&mut self, line: &Line<'_>) -> anyhow::Result<()> {
        let number = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
        let bit = |x: bool| if x { "1" } else { "0" };
        match self {
            Self::Csv(writer) => {
                let cells = [
                    line.session_id,
                    line.timestamp.as_deref().unwrap_or_default(),
                    &number(line.p_lgbm),
                    &number(line.z_ae),
                    &line.fusion_score.to_string(),
                    bit(line.is_alert),
                    &line.events.to_string(),
                    bit(line.censored),
                    line.reason,
                ];
                writer.write_record(cells).map_err(io_error)?;
            }
            Self::Json(writer) => {
                serde_json::to_writer(&mut *writer, line)?;
                writer.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Csv(writer) => writer.flush(),
            Self::Json(writer) => writer.flush(),
        }
    }
}

/// The error of the file underneath, so that a closed pipe can be told from the rest.
fn io_error(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::Column;

    fn frame() -> DataFrame {
        let seconds = |s: i64| s * 1_000_000;
        let times = Column::new("timestamp".into(), vec![seconds(0), seconds(86_400)]);
        DataFrame::new_infer_height(vec![
            Column::new("session_id".into(), ["a", "b,c"]),
            times,
            Column::new("censored".into(), [false, true]),
            Column::new("p_lgbm".into(), [Some(0.5), None]),
            Column::new("z_ae".into(), [1.25, -3.0]),
            Column::new("fusion".into(), [0.75, 0.25]),
            Column::new("reason".into(), ["unseen T9", ""]),
        ])
        .unwrap()
    }

    #[test]
    fn a_line_per_session_and_an_alert_at_the_threshold() {
        let mut out = Vec::new();
        let alerts = write_scores(&frame(), &[3, 4], 0.75, Format::Csv, &mut out).unwrap();
        assert_eq!(alerts, 1);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "session_id,timestamp,p_lgbm,z_ae,fusion_score,is_alert,events,censored,reason\n\
             a,1970-01-01T00:00:00Z,0.5,1.25,0.75,1,3,0,unseen T9\n\
             \"b,c\",1970-01-02T00:00:00Z,,-3,0.25,0,4,1,\n"
        );
    }

    #[test]
    fn json_lines_keep_numbers_and_nulls() {
        let mut out = Vec::new();
        write_scores(&frame(), &[3, 4], 0.5, Format::JsonLines, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0]["is_alert"], true);
        assert_eq!(lines[1]["p_lgbm"], Value::Null);
        assert_eq!(lines[1]["events"], 4);
    }
}
