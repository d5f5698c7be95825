//! The command line: clap types only, no logic.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Everything a user can type.
#[derive(Debug, Parser)]
#[command(
    name = "logweir",
    version,
    about = "Runs a pipeline of content-hashed stages; ships one that finds anomalous sessions in logs",
    after_help = "Exit codes: 0 done · 1 a stage failed or verify found something · 2 command line or YAML ·\n\
                  3 environment (disk, lock, database, missing data) · 70 a bug in logweir · 130 interrupted",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Project directory (default: the nearest one upwards that holds pipeline.yaml)
    #[arg(short = 'C', value_name = "DIR", global = true, value_hint = clap::ValueHint::DirPath)]
    pub(crate) directory: Option<PathBuf>,
    /// Pipeline file (default: pipeline.yaml in the project directory)
    #[arg(short = 'f', value_name = "FILE", global = true, value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Merge this profile of the pipeline file over it
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) profile: Option<String>,
    /// Override a value for this time only, e.g. stages.evaluate.with.threshold.beta=2
    #[arg(long = "set", value_name = "K=V", global = true)]
    pub(crate) sets: Vec<String>,
    /// Machine-readable output: JSON on stdout (lines of events for `run`)
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Only errors and warnings on stderr
    #[arg(short = 'q', long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// More detail: fresh stages, reasons, whole digests
    #[arg(short = 'v', long, global = true)]
    pub(crate) verbose: bool,
    /// Colours and progress bars
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub(crate) color: ColorChoice,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands, in the order of a user's day.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring stages or artifacts (default: all) up to date
    Run(RunArgs),
    /// Show what `run` would do, and why
    Plan(PlanArgs),
    /// Explain the last decision about a stage, leaf by leaf
    Why(WhyArgs),
    /// Draw the pipeline
    Graph(GraphArgs),
    /// Show everything that produced an artifact, or one number in it
    Lineage(LineageArgs),
    /// Show everything derived from an artifact
    Impact(ImpactArgs),
    /// List past runs, newest first
    Runs(RunsArgs),
    /// Show one run: what each stage did and with which key
    Show(ShowArgs),
    /// Put the artifacts of a past run back in place
    Restore(RestoreArgs),
    /// Re-hash artifacts, store and run log, and name every difference
    Verify(VerifyArgs),
    /// Write a simulated cluster's log with labels
    Simulate(SimulateArgs),
    /// Score new logs with the trained artifacts of a run
    Score(ScoreArgs),
    /// List the built-in stage kinds, or show one with every parameter
    Stages(StagesArgs),
    /// Print the JSON Schema of pipeline.yaml
    Schema,
    /// Start a project in an empty directory
    Init(InitArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Stages or artifact paths to bring up to date
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// How many threads all running stages may keep busy together (default: all cores)
    #[arg(short = 'j', value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
    /// After a failure, run everything that does not depend on it
    #[arg(short = 'k', long)]
    pub(crate) keep_going: bool,
    /// Run this stage even if it is up to date (may be repeated)
    #[arg(long, value_name = "STAGE")]
    pub(crate) force: Vec<String>,
    /// Show the plan and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Execute exactly this saved plan (`plan --out`), or refuse
    #[arg(long, value_name = "FILE", conflicts_with_all = ["targets", "force"])]
    pub(crate) plan: Option<PathBuf>,
    /// Hash every input again instead of trusting unchanged file times
    #[arg(long)]
    pub(crate) rehash: bool,
    /// Run again whenever the pipeline file or a source changes, until Ctrl-C
    #[arg(long, conflicts_with_all = ["dry_run", "plan"])]
    pub(crate) watch: bool,
}

/// `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Stages or artifact paths
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// Plan as if this stage had to run (may be repeated)
    #[arg(long, value_name = "STAGE")]
    pub(crate) force: Vec<String>,
    /// Predict the time with this many threads (default: all cores)
    #[arg(short = 'j', value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
    /// Also save the plan, for `run --plan`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The stage, e.g. `evaluate` or `custom[n=3]`
    pub(crate) stage: String,
}

/// `graph`.
#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "mermaid")]
    pub(crate) format: GraphFormat,
    /// Draw artifacts too, not only stages
    #[arg(long)]
    pub(crate) artifacts: bool,
}

/// Picture formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Mermaid flowchart, for Markdown
    Mermaid,
    /// Graphviz
    Dot,
    /// A picture
    Svg,
    /// Nodes and edges
    Json,
}

/// `lineage`.
#[derive(Debug, Args)]
pub(crate) struct LineageArgs {
    /// A path, `path#/json/pointer`, a digest, or a copy of a produced file anywhere
    pub(crate) target: String,
    /// As of this run instead of now
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
}

/// `impact`.
#[derive(Debug, Args)]
pub(crate) struct ImpactArgs {
    /// A path, a digest, or a copy of a produced or source file
    pub(crate) target: String,
}

/// `runs`.
#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// Show at most this many
    #[arg(short = 'n', value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
}

/// `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Run id, a unique beginning of one, `last` or `last~N`
    #[arg(default_value = "last")]
    pub(crate) run: String,
}

/// `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Run id, a unique beginning of one, `last` or `last~N`
    #[arg(default_value = "last")]
    pub(crate) run: String,
}

/// `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Stages or artifact paths (default: all, and store and run log too)
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// Put right what store or disk allow
    #[arg(long)]
    pub(crate) repair: bool,
}

/// `simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// How many sessions to simulate (about 19 lines each)
    #[arg(long, value_name = "N")]
    pub(crate) sessions: u32,
    /// Directory for HDFS.log, anomaly_label.csv and simulation.json
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// Seed: the same seed gives the same bytes
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
}

/// `score`.
#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    /// Log files, plain, .gz or .zst; rotated files of one log together
    #[arg(required = true, value_name = "LOG", value_hint = clap::ValueHint::FilePath)]
    pub(crate) logs: Vec<PathBuf>,
    /// Use the artifacts of this run (default: the last)
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Where to write the scores: .csv or .jsonl; `-` writes CSV to stdout
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// How many threads to use (default: all cores)
    #[arg(short = 'j', value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
}

/// `stages`.
#[derive(Debug, Args)]
pub(crate) struct StagesArgs {
    /// Show this kind: slots, parameters, defaults, units
    pub(crate) kind: Option<String>,
}

/// `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where (default: the current directory, or -C)
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub(crate) directory: Option<PathBuf>,
    /// Point the pipeline at this log instead of a simulated one
    #[arg(long, value_name = "LOG", value_hint = clap::ValueHint::FilePath)]
    pub(crate) from: Option<PathBuf>,
}

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}
