//! The `simulate` kind: the log of a simulated HDFS cluster and the label of each block.
//!
//! Owns the generation of a raw log folder (`HDFS.log`, `anomaly_label.csv`, `simulation.json`) from a seed. It reads
//! nothing: the model is code and rounded summary statistics (`workload`), the wording is Hadoop's own (`wording`).
//! `docs/simulator.md` has the model, its calibration against real HDFS data, and what it does not imitate.
//!
//! Memory: some 100 bytes a block, and the lines of the deletion that is under way; the log itself is streamed.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use chrono::{NaiveDateTime, TimeDelta};
use logweir_engine::stage::{self, ParamError, Params, Slot, Stage, StageContext, StageKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod change;
mod cluster;
mod dice;
mod faults;
mod noise;
mod timeline;
mod wording;
mod workload;

#[cfg(test)]
mod calibration;
#[cfg(test)]
mod tests;

pub use change::{Change, Reword, Since};
use cluster::Cluster;
use dice::Dice;
use faults::{Plan, Targets};
use noise::Collector;
pub use noise::Noise;

/// File names in a raw log folder.
pub const LOG_FILE: &str = "HDFS.log";
/// Labels: `BlockId,Label`, in the order the blocks were allocated.
pub const LABELS_FILE: &str = "anomaly_label.csv";
/// What was simulated; its presence marks the folder as simulated.
pub const ABOUT_FILE: &str = "simulation.json";

/// Parameters of the `simulate` kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimulateParams {
    /// How many blocks are written, each one session: 1 to 50,000,000 (HDFS_v1 has 575,061).
    pub sessions: u32,
    /// Seed of every random draw.
    pub seed: u64,
    /// Length of the log in seconds, at least 3,600. Jobs, readings and deletions are stretched to it; lines a second
    /// follow from it and `sessions`.
    pub duration: u32,
    /// First second of the log, `YYYY-MM-DDTHH:MM:SS`.
    pub start: String,
    /// Share of anomalous sessions aimed at, 0 to 0.3.
    pub anomaly_share: f64,
    /// How the anomalous sessions divide into types.
    pub mix: Mix,
    /// Data nodes, 8 to 10,000.
    pub nodes: u16,
    /// What changes while the log goes on.
    pub change: Change,
    /// Lines that arrive late or twice.
    pub noise: Noise,
}

/// Weights of the anomaly types; only their ratios count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mix {
    /// Allocated, one replica begun, and given up.
    pub failed_at_the_beginning: f64,
    /// Given up on an exception while writing.
    pub write_exception: f64,
    /// A packet without data ends the block.
    pub empty_packet: f64,
    /// The pipeline broke and was rebuilt.
    pub receive_exception: f64,
    /// A copy was asked for and never arrived.
    pub replication_timed_out: f64,
    /// A replica was reported after its file was deleted.
    pub belongs_to_no_file: f64,
    /// A replica was reported twice.
    pub redundant_report: f64,
    /// Copied because a replica was missing or late, and deleted later.
    pub replication: f64,
    /// A node was asked to delete a block it no longer had.
    pub delete_of_a_missing_block: f64,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            failed_at_the_beginning: 2_950.0,
            write_exception: 3_225.0,
            empty_packet: 476.0,
            receive_exception: 40.0,
            replication_timed_out: 45.0,
            belongs_to_no_file: 1_240.0,
            redundant_report: 953.0,
            replication: 3_400.0,
            delete_of_a_missing_block: 4_500.0,
        }
    }
}

impl Mix {
    fn weights(&self) -> [(&'static str, f64); 9] {
        [
            ("failed_at_the_beginning", self.failed_at_the_beginning),
            ("write_exception", self.write_exception),
            ("empty_packet", self.empty_packet),
            ("receive_exception", self.receive_exception),
            ("replication_timed_out", self.replication_timed_out),
            ("belongs_to_no_file", self.belongs_to_no_file),
            ("redundant_report", self.redundant_report),
            ("replication", self.replication),
            ("delete_of_a_missing_block", self.delete_of_a_missing_block),
        ]
    }
}

impl Default for SimulateParams {
    fn default() -> Self {
        Self {
            sessions: 8_000,
            seed: 42,
            duration: 139_002,
            start: "2008-11-09T20:35:18".to_owned(),
            anomaly_share: 0.0293,
            mix: Mix::default(),
            nodes: 203,
            change: Change::default(),
            noise: Noise::default(),
        }
    }
}

impl Params for SimulateParams {
    fn check(&self) -> Vec<ParamError> {
        let mut errors = Vec::new();
        let mut demand = |fine: bool, path: &str, message: String| {
            if !fine {
                errors.push(ParamError::new(path, message));
            }
        };
        demand(
            (1..=50_000_000).contains(&self.sessions),
            "sessions",
            format!("must be 1 to 50000000, is {}", self.sessions),
        );
        demand(
            (3_600..=31_622_400).contains(&self.duration),
            "duration",
            format!("must be 3600 seconds to a year, is {}", self.duration),
        );
        demand(
            (0.0..=0.3).contains(&self.anomaly_share),
            "anomaly_share",
            format!("must be 0 to 0.3, is {}", self.anomaly_share),
        );
        demand((8..=10_000).contains(&self.nodes), "nodes", format!("must be 8 to 10000, is {}", self.nodes));
        let mix = self.mix.weights();
        for (name, weight) in mix {
            let fine = weight.is_finite() && weight >= 0.0;
            demand(fine, &format!("mix.{name}"), format!("must be 0 or more, is {weight}"));
        }
        demand(mix.iter().any(|w| w.1 > 0.0), "mix", "needs one weight above 0".to_owned());
        for (name, since) in self.change.since.moments() {
            let fine = (0.0..=1.0).contains(&since);
            demand(fine, &format!("change.since.{name}"), format!("must be 0 to 1, is {since}"));
        }
        let Change { drift, reword: Reword { since, messages }, .. } = self.change;
        demand((0.0..=10.0).contains(&drift), "change.drift", format!("must be 0 to 10, is {drift}"));
        demand((0.0..=1.0).contains(&since), "change.reword.since", format!("must be 0 to 1, is {since}"));
        let most = Reword::MESSAGES.len();
        demand(usize::from(messages) <= most, "change.reword.messages", format!("must be 0 to {most}, is {messages}"));
        let Noise { duplicates, late, late_by } = self.noise;
        for (name, share) in [("duplicates", duplicates), ("late", late)] {
            demand((0.0..=0.5).contains(&share), &format!("noise.{name}"), format!("must be 0 to 0.5, is {share}"));
        }
        demand((1..=3_600).contains(&late_by), "noise.late_by", format!("must be 1 to 3600 seconds, is {late_by}"));
        if let Err(error) = self.first_second() {
            let error = ParamError::new("start", format!("is no time: {error}"));
            errors.push(error.help("write it as `2008-11-09T20:35:18`"));
        }
        errors
    }
}

impl SimulateParams {
    fn first_second(&self) -> chrono::ParseResult<NaiveDateTime> {
        NaiveDateTime::parse_from_str(self.start.trim_end_matches('Z'), "%Y-%m-%dT%H:%M:%S")
    }

    fn targets(&self) -> Targets {
        let total: f64 = self.mix.weights().iter().map(|w| w.1).sum();
        let share = |weight: f64| self.anomaly_share * weight / total;
        let mix = &self.mix;
        Targets {
            begin: share(mix.failed_at_the_beginning),
            write: share(mix.write_exception),
            empty: share(mix.empty_packet),
            receive: share(mix.receive_exception),
            timeout: share(mix.replication_timed_out),
            no_file: share(mix.belongs_to_no_file),
            redundant: share(mix.redundant_report),
            replication: share(mix.replication),
            redelete: share(mix.delete_of_a_missing_block),
        }
    }
}

/// What was simulated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Always true: marks the folder.
    pub simulated: bool,
    /// Blocks written, each a session.
    pub sessions: u64,
    /// Lines of the log.
    pub lines: u64,
    /// Lines that name several blocks.
    pub lines_of_several_blocks: u64,
    /// Lines that stand there twice.
    pub duplicates: u64,
    /// Lines that stand among later ones.
    pub late: u64,
    /// The seed.
    pub seed: u64,
    /// Sessions labelled anomalous.
    pub anomalies: u64,
    /// Anomalous sessions by type.
    pub anomalies_by_type: std::collections::BTreeMap<String, u64>,
    /// Normal sessions still open at the end of the log.
    pub open_at_the_end: u64,
    /// All parameters.
    pub parameters: SimulateParams,
}

/// Simulates and writes `HDFS.log`, `anomaly_label.csv` and `simulation.json` into a folder, which is made if needed.
/// `progress` is told the seconds simulated and their total now and then, and may stop the work with an error.
///
/// # Errors
/// A parameter is out of range, a file cannot be written, or `progress` stopped the work.
pub fn write(
    params: &SimulateParams,
    folder: &Path,
    progress: &mut dyn FnMut(u64, u64) -> anyhow::Result<()>,
) -> anyhow::Result<Summary> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    write_files(params, &folder.join(LOG_FILE), &folder.join(LABELS_FILE), &folder.join(ABOUT_FILE), progress)
}

/// As [`write()`], with a path for each file.
fn write_files(
    params: &SimulateParams,
    log: &Path,
    labels: &Path,
    about: &Path,
    progress: &mut dyn FnMut(u64, u64) -> anyhow::Result<()>,
) -> anyhow::Result<Summary> {
    if let Some(error) = params.check().into_iter().next() {
        anyhow::bail!("parameter `{}` {}", error.path, error.message);
    }
    let first = params.first_second().context("parameter `start` is no time")?;
    let create = |path: &Path| -> anyhow::Result<BufWriter<File>> {
        let file = File::create(path).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(BufWriter::with_capacity(1 << 20, file))
    };
    let mut dice = Dice::new(params.seed);
    let plan = Plan::new(&params.targets(), &params.change.since, &mut dice);
    let mut cluster = Cluster::new(params, plan, &mut dice);
    let mut out = create(log)?;
    let time = |second: u64| {
        let at = first + TimeDelta::seconds(i64::try_from(second).expect("a duration is at most a year"));
        at.format("%y%m%d %H%M%S ").to_string()
    };
    let total = u64::from(params.duration);
    let collector = Collector::new(&mut out, &params.noise, params.seed);
    let tally = cluster.run(collector, time, &mut |now| if now % 500 == 0 { progress(now, total) } else { Ok(()) })?;
    out.flush().with_context(|| format!("cannot write `{}`", log.display()))?;
    progress(total, total)?;

    let mut summary = Summary {
        simulated: true,
        sessions: cluster.blocks.len() as u64,
        lines: tally.lines,
        lines_of_several_blocks: tally.several_blocks,
        duplicates: tally.duplicates,
        late: tally.late,
        seed: params.seed,
        anomalies: 0,
        anomalies_by_type: params.mix.weights().into_iter().map(|(name, _)| (name.to_owned(), 0)).collect(),
        open_at_the_end: 0,
        parameters: params.clone(),
    };
    let mut out = create(labels)?;
    writeln!(out, "BlockId,Label")?;
    for block in &cluster.blocks {
        let anomaly = block.is_anomaly();
        if anomaly {
            summary.anomalies += 1;
            *summary.anomalies_by_type.entry(block.kind().to_owned()).or_insert(0) += 1;
        } else {
            summary.open_at_the_end += u64::from(block.is_open());
        }
        writeln!(out, "blk_{},{}", block.id, if anomaly { "Anomaly" } else { "Normal" })?;
    }
    out.flush().with_context(|| format!("cannot write `{}`", labels.display()))?;
    let text = serde_json::to_string_pretty(&summary)? + "\n";
    let mut out = create(about)?;
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .with_context(|| format!("cannot write `{}`", about.display()))?;
    Ok(summary)
}

/// Version of the output bytes: raise it when they change though no parameter did.
/// 1: first.
const VERSION: u32 = 1;

const OUTPUTS: &[Slot] = &[
    Slot::file("log", "the log, `HDFS.log`"),
    Slot::file("labels", "`BlockId,Label` of each block, `anomaly_label.csv`"),
    Slot::file("about", "what was simulated, `simulation.json`"),
];

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "simulate",
        about: "simulates an HDFS cluster: its log and the label of each block",
        version: VERSION,
        code: crate::code("simulate"),
        inputs: &[],
        outputs: OUTPUTS,
        schema: stage::schema_of::<SimulateParams>,
        make: stage::make::<SimulateParams, Simulate>,
    }
}

struct Simulate(SimulateParams);

impl From<SimulateParams> for Simulate {
    fn from(params: SimulateParams) -> Self {
        Self(params)
    }
}

impl Stage for Simulate {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let mut progress = |done: u64, total: u64| {
            cx.progress(done, total, "seconds");
            cx.check_cancelled()
        };
        let summary =
            write_files(&self.0, cx.output("log")?, cx.output("labels")?, cx.output("about")?, &mut progress)?;
        cx.info(format!(
            "simulated {} sessions, {} lines, {} anomalous",
            summary.sessions, summary.lines, summary.anomalies
        ));
        Ok(())
    }
}
