//! `label`: joins what is known of sessions, and tells types of anomalies apart by rules over their templates.
//!
//! The label file is `session key,label` with a header; without one every label is empty. Labels are read generously
//! (`Anomaly`, `anomalous`, `1`, `true`, … and `Normal`, `benign`, `0`, `-`, …; `with.anomalous` and `with.normal` change the lists,
//! upper and lower case are one). What is neither counts as unknown, with a warning. Sessions that were cut by time
//! (`KEY@START`) have the label of their own id, else that of their key: it says that the key is anomalous somewhere, not in
//! which window.
//!
//! Where lines tell their own label (`with.lines`, slot `log`), a session is anomalous if some line of it is, and its type is
//! the most frequent label of such lines unless a rule names another. A label file says more than lines where it names a
//! session.
//!
//! A type rule holds for a session if all of its clauses do: `only` (every event matches one of the patterns), `any` (some
//! event matches one), `all` (each pattern matches some event), `none` (no event matches any). The first rule that holds
//! names the type of an anomalous session; otherwise it is `other`. Without rules and without labels in the lines, types are
//! clusters of count vectors (`clusters`).

mod clusters;
mod lines;
mod rules;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use indexmap::IndexMap;
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use polars::prelude::{DataFrame, Int64Type, UInt64Type};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::table::{lists, read_parquet};
use crate::support::time::rfc3339;
use crate::support::traces::{Traces, Wanted};
use crate::templates::{Template, read_templates};
pub use lines::LineLabels;
use lines::{Labelled, Said};
pub use rules::{Rules, TypeRule};

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "label",
        about: "labels by session, anomaly types by rules over templates, an optional trace of all events",
        version: 1,
        code: crate::code("label"),
        inputs: const {
            &[
                Slot::file("sessions", "sessions.parquet"),
                Slot::file("labels", "session key and label, with a header; without it all labels are empty")
                    .optional(),
                Slot::file("templates", "templates.csv, for `types` and the trace").optional(),
                Slot::files("log", "the log files that `parse` reads, for `lines`").optional(),
            ]
        },
        outputs: const {
            &[
                Slot::file("labels", "session_id,label,timestamp"),
                Slot::file("types", "session_id,type of anomalous sessions").optional(),
                Slot::file("events", "line,timestamp,session_id,event_id of every event").optional(),
            ]
        },
        schema: schema_of::<LabelParams>,
        make: make::<LabelParams, Label>,
    }
}

/// Parameters of `label`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelParams {
    /// Labels that mean anomalous (upper and lower case are one).
    pub anomalous: Vec<String>,
    /// Labels that mean normal.
    pub normal: Vec<String>,
    /// Types of anomalies, the first that holds wins.
    pub types: Vec<TypeRule>,
    /// How lines tell their own label; needs the slot `log`.
    pub lines: Option<LineLabels>,
    /// Without `types` and `lines`: anomalies are told apart by at most this many clusters of their count vectors, named after
    /// the templates that set them apart; 0 for none.
    pub clusters: u32,
}

impl Default for LabelParams {
    fn default() -> Self {
        let list = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect();
        Self {
            anomalous: list(&["anomaly", "anomalous", "abnormal", "fail", "1", "1.0", "true", "yes"]),
            normal: list(&["normal", "benign", "success", "0", "0.0", "false", "no", "-"]),
            types: Vec::new(),
            lines: None,
            clusters: 12,
        }
    }
}

impl Params for LabelParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = rules::check(&self.types);
        errors.extend(lines::check(self.lines.as_ref()));
        if let Some(both) = self.anomalous.iter().find(|a| self.normal.iter().any(|n| n.eq_ignore_ascii_case(a))) {
            errors.push(ParamError::new("anomalous", format!("`{both}` is also in `normal`")));
        }
        errors
    }
}

/// What a label file says, by session key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Whether the session is anomalous; `None` for a label that is neither.
    pub labels: IndexMap<String, Option<bool>>,
    /// Labels that are neither, with how often they occur.
    pub odd: BTreeMap<String, u64>,
}

impl LabelParams {
    /// Reads a label file.
    ///
    /// # Errors
    /// It is unreadable, has no label column, or labels one session in two ways (the message names both lines).
    pub fn read(&self, path: &Path) -> anyhow::Result<Known> {
        let context = || format!("cannot read labels {}", path.display());
        let mut reader =
            csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_path(path).with_context(context)?;
        let header: Vec<String> = reader
            .headers()
            .with_context(context)?
            .iter()
            .map(|h| h.trim_start_matches('\u{feff}').to_lowercase())
            .collect();
        let find = |names: &[&str]| header.iter().position(|h| names.contains(&h.as_str()));
        let label = find(&["label", "is_anomaly", "anomaly", "class"]);
        let label = label.with_context(|| {
            format!("{}: no column `Label` in the header `{}` (hint: the file starts with a header such as `BlockId,Label`)", path.display(), header.join(","))
        })?;
        let key = find(&["blockid", "block_id", "session_id", "session", "id"]).unwrap_or(usize::from(label == 0));

        let mut known = Known::default();
        // Where each label stands: only to name the other one of two that contradict each other.
        let mut lines: Vec<u64> = Vec::new();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).with_context(context)? {
            let line = record.position().map_or(0, csv::Position::line);
            let (Some(key), Some(text)) = (record.get(key).filter(|k| !k.is_empty()), record.get(label)) else {
                bail!("{} line {line}: no session key and label", path.display());
            };
            let meaning = self.meaning(text);
            if meaning.is_none() && !text.is_empty() {
                *known.odd.entry(text.to_owned()).or_default() += 1;
            }
            match known.labels.get_index_of(key) {
                Some(at) if known.labels[at] != meaning => bail!(
                    "{} line {line}: session `{key}` is labelled `{text}`, but otherwise in line {}",
                    path.display(),
                    lines[at]
                ),
                Some(_) => {}
                None => {
                    known.labels.insert(key.to_owned(), meaning);
                    lines.push(line);
                }
            }
        }
        Ok(known)
    }

    fn meaning(&self, text: &str) -> Option<bool> {
        let among = |list: &[String]| list.iter().any(|l| l.eq_ignore_ascii_case(text));
        if among(&self.anomalous) {
            Some(true)
        } else if among(&self.normal) {
            Some(false)
        } else {
            None
        }
    }
}

impl Known {
    /// Returns what is said of a session: of its own id, else of the key that it was cut of by time (`KEY@20081109T203500Z`),
    /// so that all sessions of a key have its label.
    pub fn of(&self, id: &str) -> Option<&Option<bool>> {
        Some(&self.labels[self.place_of(id)?])
    }

    fn place_of(&self, id: &str) -> Option<usize> {
        self.labels.get_index_of(id).or_else(|| self.labels.get_index_of(key_of(id)?))
    }
}

/// Returns the key of a session that was cut by time.
fn key_of(id: &str) -> Option<&str> {
    let (key, start) = id.rsplit_once('@')?;
    let (day, time) = start.strip_suffix('Z')?.split_once('T')?;
    let digits =
        |text: &str, least: usize| text.len() >= least && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (digits(day, 8) && digits(time, 6)).then_some(key)
}

/// The type of anomalies that no rule and no line names.
const OTHER: &str = "other";

/// The stage.
struct Label {
    params: LabelParams,
}

impl From<LabelParams> for Label {
    fn from(params: LabelParams) -> Self {
        Self { params }
    }
}

impl Stage for Label {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let path = cx.input("sessions")?;
        let Traces { ids, starts: start, offsets, events, .. } =
            cx.in_pool(|| Traces::read_some(path, Some(Wanted::Events)))??;
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let trace = cx.optional_output("events");
        let more: &[&str] = match (trace.is_some(), self.params.lines.is_some()) {
            (true, _) => &["gaps", "lines"],
            (false, true) => &["lines"],
            (false, false) => &[],
        };
        let frame = if more.is_empty() { DataFrame::empty() } else { read_parquet(path, Some(more))? };
        let templates = cx.optional("templates").map(read_templates).transpose()?;

        let known = cx.optional("labels").map(|path| self.params.read(path)).transpose()?;
        let labelled = self.read_lines(cx)?;
        let said = match &labelled {
            Some(labelled) => {
                let (at, lines) = lists::<UInt64Type>(&frame, "lines")?;
                (0..ids.len()).map(|row| labelled.of(&lines[at[row]..at[row + 1]])).collect::<anyhow::Result<_>>()?
            }
            None => vec![Said::Nothing; ids.len()],
        };
        if let Some(known) = &known {
            warn(cx, known, &ids, labelled.is_some());
        } else if labelled.is_none() {
            cx.info("no label file: all labels are empty");
        }
        let known = known.unwrap_or_default();
        let of_lines = |said: &Said<'_>| match said {
            Said::Anomalous(_) => Some(true),
            Said::Normal => Some(false),
            Said::Nothing => None,
        };
        let label = |(id, said): (&&str, _)| known.of(id).copied().flatten().or_else(|| of_lines(said));
        let labels: Vec<Option<bool>> = ids.iter().zip(&said).map(label).collect();
        write_labels(cx.output("labels")?, &ids, &labels, &start)?;

        if let Some(path) = cx.optional_output("types") {
            if !self.params.types.is_empty() && templates.is_none() {
                bail!("`types` needs the input slot `templates`");
            }
            let rules = Rules::new(&self.params.types, templates.as_deref().unwrap_or_default())?;
            for unused in rules.without_template() {
                cx.info(format!("type rule pattern `{unused}` matches no template of this log"));
            }
            let anomalies: Vec<usize> = (0..ids.len()).filter(|&row| labels[row] == Some(true)).collect();
            let named = !self.params.types.is_empty() || self.params.lines.is_some() || self.params.clusters == 0;
            let (clusters, names) = if named {
                (Vec::new(), Vec::new())
            } else {
                let of_log = templates.as_deref().unwrap_or_default();
                let name =
                    |event: u32| of_log.get(event as usize).map_or_else(|| event.to_string(), |t| t.event_id.clone());
                clusters::cluster((&offsets, &events), &anomalies, self.params.clusters as usize, name)
            };
            let types = anomalies.iter().enumerate().map(|(i, &row)| {
                let otherwise = match (said[row], clusters.get(i)) {
                    (_, Some(&cluster)) => &names[cluster],
                    (Said::Anomalous(name), None) => name,
                    _ => OTHER,
                };
                (ids[row], rules.type_of(&events[offsets[row]..offsets[row + 1]]).unwrap_or(otherwise))
            });
            write_types(path, types)?;
        } else if !self.params.types.is_empty() {
            bail!("`types` needs the output slot `types`");
        }
        if let Some(path) = trace {
            let templates = templates.context("the trace `events` needs the input slot `templates`")?;
            write_trace(path, &frame, (&offsets, &events), &ids, &start, &templates)?;
        }
        Ok(())
    }
}

impl Label {
    /// Reads the labels of the lines of the log, where the parameters say how.
    fn read_lines(&self, cx: &StageContext<'_>) -> anyhow::Result<Option<Labelled>> {
        let logs: Vec<(String, &Path)> =
            cx.inputs("log").iter().map(|file| (file.logical.clone(), file.path.as_path())).collect();
        let how = match &self.params.lines {
            Some(_) if logs.is_empty() => bail!("`lines` needs the input slot `log`"),
            None if !logs.is_empty() => bail!("the input slot `log` needs `lines`: how a line tells its label"),
            None => return Ok(None),
            Some(how) => how,
        };
        let labelled = Labelled::read(&logs, how, &self.params.normal, || cx.check_cancelled())?;
        if labelled.anomalies() == 0 {
            cx.warn(format!("no line of the log is anomalous by `lines.regex: {}`", how.regex));
        }
        Ok(Some(labelled))
    }
}

/// `lines`: whether lines have labels of their own, too.
fn warn(cx: &StageContext<'_>, known: &Known, ids: &[&str], lines: bool) {
    for (label, count) in &known.odd {
        cx.warn(format!("label `{label}` ({count} sessions) is neither normal nor anomalous: it counts as unknown"));
    }
    let mut used = vec![false; known.labels.len()];
    let mut here = 0;
    for id in ids {
        if let Some(at) = known.place_of(id) {
            used[at] = true;
            here += 1;
        }
    }
    let absent = used.iter().filter(|used| !**used).count();
    if absent > 0 {
        cx.warn(format!("{absent} of {} labels are for sessions that the log does not have", known.labels.len()));
    }
    if here < ids.len() && !lines {
        cx.warn(format!("{} of {} sessions have no label", ids.len() - here, ids.len()));
    }
}

fn write_labels(path: &Path, ids: &[&str], labels: &[Option<bool>], start: &[i64]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut out = csv::Writer::from_path(path).with_context(context)?;
    out.write_record(["session_id", "label", "timestamp"]).with_context(context)?;
    let (mut last, mut time) = (None, String::new());
    for ((id, label), start) in ids.iter().zip(labels).zip(start) {
        let label = match label {
            Some(true) => "1",
            Some(false) => "0",
            None => "",
        };
        // Sessions are in order of their starts, many of which are the same second.
        if last != Some(*start) {
            (last, time) = (Some(*start), rfc3339(*start));
        }
        out.write_record([id, label, &time]).with_context(context)?;
    }
    out.flush().with_context(context)
}

fn write_types<'a>(path: &Path, types: impl Iterator<Item = (&'a str, &'a str)>) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut out = csv::Writer::from_path(path).with_context(context)?;
    out.write_record(["session_id", "type"]).with_context(context)?;
    for (id, name) in types {
        out.write_record([id, name]).with_context(context)?;
    }
    out.flush().with_context(context)
}

/// Writes every event in order of its line (a line of several sessions has several), then of sessions.
fn write_trace(
    path: &Path,
    frame: &DataFrame,
    (offsets, events): (&[usize], &[u32]),
    ids: &[&str],
    start: &[i64],
    templates: &[Template],
) -> anyhow::Result<()> {
    let (_, gaps) = lists::<Int64Type>(frame, "gaps")?;
    let (_, lines) = lists::<UInt64Type>(frame, "lines")?;
    let mut order: Vec<(u64, u32, u32, i64)> = Vec::with_capacity(events.len());
    for row in 0..ids.len() {
        let mut time = start[row];
        for at in offsets[row]..offsets[row + 1] {
            time += gaps[at] * 1000;
            order.push((lines[at], row as u32, events[at], time));
        }
    }
    order.sort_unstable_by_key(|&(line, row, _, _)| (line, row));
    let context = || format!("cannot write {}", path.display());
    let mut out = csv::Writer::from_path(path).with_context(context)?;
    out.write_record(["line", "timestamp", "session_id", "event_id"]).with_context(context)?;
    for (line, row, event, time) in order {
        let event =
            templates.get(event as usize).with_context(|| format!("template {event} is not in templates.csv"))?;
        out.write_record([&line.to_string(), &rfc3339(time), ids[row as usize], &event.event_id])
            .with_context(context)?;
    }
    out.flush().with_context(context)
}

#[cfg(test)]
mod tests;
