//! `sequences`: sessions given as sequences of event ids, without lines or times, as benchmark sets come.
//!
//! A file is a CSV with a header: a session key, a label and the event ids in order, separated by blanks
//! (`BlockId,Label,Events`; plain, `.gz` or `.zst`); further columns are left alone. Out come the tables that `parse`,
//! `templates` and `sessionize` would have made, and the labels as a file for `label`.
//!
//! Nothing is known of times: every session starts at the epoch, has no gaps, and counts as over for good (`until` a
//! year later), so that what models learn of silences does not apply. `lines` count the events of the file.
//!
//! Where classes were sampled at different rates, `population` says how many sessions of each there really are. Each
//! session then carries how many it stands for (column `weight`), and `evaluate` counts it that often.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use polars::prelude::Column;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::logs::given::GivenTemplates;
use crate::logs::read::open;
use crate::sessionize::Sessions;
use crate::support::learning::write_json;
use crate::support::table::{read_parquet, write_parquet};
use crate::support::traces::strings;
use crate::templates::{Source, Template};

/// How long after its last event a session is looked at, microseconds: a year, longer than any silence.
const OVER: i64 = 365 * 86_400 * 1_000_000;

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "sequences",
        about: "sessions from files of session key, label and event ids, weighted to true class sizes",
        version: 1,
        code: crate::code("sequences"),
        inputs: const {
            &[
                Slot::files(
                    "sequences",
                    "CSV with a header: session key, label, event ids separated by blanks; also .gz, .zst",
                ),
                Slot::file("templates", "EventId,EventTemplate with <*> or [*]"),
                Slot::file("without", "sessions.parquet: its sessions are left out").optional(),
            ]
        },
        outputs: const {
            &[
                Slot::file("sessions", "sessions.parquet, with `until`, and `weight` where `population` is set"),
                Slot::file("templates", "templates.csv"),
                Slot::file("labels", "session key and label, for `label`"),
                Slot::file("summary", "sessions.json"),
            ]
        },
        schema: schema_of::<SequencesParams>,
        make: make::<SequencesParams, Sequences>,
    }
}

/// How many sessions each label really has, by label as the files write it (upper and lower case are one).
pub type Population = BTreeMap<String, f64>;

/// Parameters of `sequences`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SequencesParams {
    /// How many sessions of each label the files were sampled from, by label; empty: every session counts once.
    pub population: Population,
}

impl Params for SequencesParams {
    fn check(&self) -> Vec<ParamError> {
        let bad = self.population.iter().filter(|(_, n)| !(n.is_finite() && **n > 0.0));
        bad.map(|(label, _)| ParamError::new(format!("population.{label}"), "must be above 0")).collect()
    }
}

/// The stage.
struct Sequences(SequencesParams);

impl From<SequencesParams> for Sequences {
    fn from(params: SequencesParams) -> Self {
        Self(params)
    }
}

/// One session of a file: its label, and its events as template numbers.
struct Given {
    label: String,
    events: Vec<u32>,
}

impl Stage for Sequences {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let templates = GivenTemplates::read(cx.input("templates")?)?.all;
        let numbers: BTreeMap<&str, u32> = templates.iter().zip(0..).map(|(t, n)| (t.id.as_str(), n)).collect();
        let without: BTreeSet<String> = match cx.optional("without") {
            Some(path) => strings(&read_parquet(path, Some(&["session_id"]))?, "session_id")?.into_iter().collect(),
            None => BTreeSet::new(),
        };
        // By key: the order of files and rows does not matter.
        let mut given: BTreeMap<String, Given> = BTreeMap::new();
        let mut left_out = 0u64;
        for file in cx.inputs("sequences") {
            cx.check_cancelled()?;
            left_out += read(&file.path, &numbers, &without, &mut given)?;
        }
        ensure!(!given.is_empty(), "the files hold no session (hint: is every one in `without`?)");
        if left_out > 0 {
            cx.info(format!("{left_out} sessions left out, {} kept", given.len()));
        }
        let weights = self.weights(&given)?;
        write_sessions(cx.output("sessions")?, &given, weights.as_deref())?;
        write_templates(
            cx.output("templates")?,
            &templates.into_iter().map(|t| (t.id, t.text)).collect::<Vec<_>>(),
            &given,
        )?;
        let mut labels = csv::Writer::from_path(cx.output("labels")?).context("cannot write labels")?;
        labels.write_record(["session_id", "label"])?;
        for (id, session) in &given {
            labels.write_record([id, &session.label])?;
        }
        labels.flush()?;
        let summary = json!({"simulated": false, "sessions": given.len(), "censored": 0, "files": []});
        write_json(cx.output("summary")?, &summary)
    }
}

impl Sequences {
    /// How many sessions each stands for; `None` where every one counts once.
    fn weights(&self, given: &BTreeMap<String, Given>) -> anyhow::Result<Option<Vec<f64>>> {
        if self.0.population.is_empty() {
            return Ok(None);
        }
        let population: BTreeMap<String, f64> =
            self.0.population.iter().map(|(label, &n)| (label.to_lowercase(), n)).collect();
        let mut counts: BTreeMap<String, f64> = BTreeMap::new();
        for session in given.values() {
            *counts.entry(session.label.to_lowercase()).or_insert(0.0) += 1.0;
        }
        let weight = |session: &Given| {
            let label = session.label.to_lowercase();
            let n = population
                .get(&label)
                .with_context(|| format!("label `{}` is not in `population`, which has to name all", session.label))?;
            Ok(n / counts[&label])
        };
        given.values().map(weight).collect::<anyhow::Result<Vec<f64>>>().map(Some)
    }
}

/// Reads a file; returns how many of its sessions are in `without`.
fn read(
    path: &Path,
    numbers: &BTreeMap<&str, u32>,
    without: &BTreeSet<String>,
    given: &mut BTreeMap<String, Given>,
) -> anyhow::Result<u64> {
    let context = || format!("cannot read sequences {}", path.display());
    let mut text = String::new();
    open(path)?.read_to_string(&mut text).with_context(context)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().with_context(context)?.clone();
    let find = |names: &[&str]| {
        let at = header.iter().position(|h| names.iter().any(|n| h.trim().eq_ignore_ascii_case(n)));
        at.with_context(|| {
            let has: Vec<&str> = header.iter().collect();
            format!("{} has no column `{}`, only `{}`", path.display(), names[0], has.join(","))
        })
    };
    let key = find(&["BlockId", "block_id", "session_id", "session", "id"])?;
    let label = find(&["Label", "is_anomaly", "anomaly", "class"])?;
    let events = find(&["Events", "EventSequence", "event_ids", "sequence"])?;
    let mut left_out = 0;
    for record in reader.records() {
        let record = record.with_context(context)?;
        let line = record.position().map_or(0, csv::Position::line);
        if without.contains(&record[key]) {
            left_out += 1;
            continue;
        }
        let number = |id: &str| {
            let known = numbers.get(id).copied();
            known.with_context(|| format!("{} line {line}: event `{id}` is not among the templates", path.display()))
        };
        let events: Vec<u32> = record[events].split_whitespace().map(number).collect::<anyhow::Result<_>>()?;
        ensure!(!events.is_empty(), "{} line {line}: session `{}` has no event", path.display(), &record[key]);
        let session = Given { label: record[label].trim().to_owned(), events };
        if given.insert(record[key].to_owned(), session).is_some() {
            bail!("{} line {line}: session `{}` is given twice", path.display(), &record[key]);
        }
    }
    Ok(left_out)
}

fn write_sessions(path: &Path, given: &BTreeMap<String, Given>, weights: Option<&[f64]>) -> anyhow::Result<()> {
    let n = given.len();
    let mut sessions = Sessions {
        ids: given.keys().cloned().collect(),
        start: vec![0; n],
        end: vec![0; n],
        censored: vec![false; n],
        offsets: vec![0],
        ..Sessions::default()
    };
    for session in given.values() {
        sessions.events.extend_from_slice(&session.events);
        sessions.offsets.push(sessions.events.len());
    }
    sessions.gaps = vec![0; sessions.events.len()];
    sessions.lines = (1..=sessions.events.len() as u64).collect();
    let mut frame = sessions.frame()?;
    frame.with_column(crate::fusion::time_column("until", &vec![OVER; n])?)?;
    if let Some(weights) = weights {
        frame.with_column(Column::new("weight".into(), weights))?;
    }
    write_parquet(path, &mut frame)
}

fn write_templates(path: &Path, templates: &[(String, String)], given: &BTreeMap<String, Given>) -> anyhow::Result<()> {
    let mut counts = vec![0u64; templates.len()];
    for &event in given.values().flat_map(|session| &session.events) {
        counts[event as usize] += 1;
    }
    let context = || format!("cannot write {}", path.display());
    let mut out = csv::Writer::from_path(path).with_context(context)?;
    for ((number, (event_id, text)), count) in (0..).zip(templates).zip(counts) {
        let (event_id, text) = (event_id.clone(), text.clone());
        out.serialize(Template { event_id, number, count, text, source: Source::Given }).with_context(context)?;
    }
    out.flush().with_context(context)
}

#[cfg(test)]
mod tests;
