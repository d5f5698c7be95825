//! The command line: clap types only, no logic.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Everything a user can type.
#[derive(Debug, Parser)]
#[command(
    name = "logweir",
    version,
    about = "Runs a pipeline of content-hashed stages; ships one that finds anomalous sessions in logs",
    after_help = "First steps: logweir init demo && cd demo && logweir run; logweir COMMAND --help shows examples\n\
                  Exit codes: 0 done · 1 a stage failed or verify found something · 2 command line or YAML ·\n\
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
    #[command(after_help = "Examples:
  logweir run
      everything
  logweir run reports/metrics.json
      one artifact and what it needs
  logweir run --set stages.evaluate.with.threshold.beta=2
      other parameters, this time only
  logweir run -k -j 4
      go on after a failure, four threads
  logweir run --watch
      again at every save, until Ctrl-C")]
    Run(RunArgs),
    /// Show what `run` would do, and why
    #[command(after_help = "Examples:
  logweir plan
      what would run, why, how long it may take
  logweir plan --force parse
      as if `parse` had to run
  logweir plan --out p.json && logweir run --plan p.json
      exactly that, or a refusal")]
    Plan(PlanArgs),
    /// Explain the last decision about a stage, leaf by leaf
    #[command(after_help = "Examples:
  logweir why evaluate           what changed since it was executed
  logweir why 'custom[n=3]' -v   one action of a matrix, whole values")]
    Why(WhyArgs),
    /// Draw the pipeline
    #[command(after_help = "Examples:
  logweir graph --format svg > dag.svg   a picture
  logweir graph --artifacts              Mermaid for Markdown, files too")]
    Graph(GraphArgs),
    /// Show everything that produced an artifact, or one number in it
    #[command(after_help = "Examples:
  logweir lineage reports/metrics.json#/fusion/f1
      where one number comes from
  logweir lineage ~/Downloads/roc.png
      a copy found anywhere
  logweir lineage reports/roc.png --format svg > roc-lineage.svg
      a picture
  logweir lineage metrics.json --bundle audit/lineage.json
      where the project is not, from its exported lineage")]
    Lineage(LineageArgs),
    /// Show everything derived from an artifact
    #[command(after_help = "Examples:
  logweir impact data/sessions.csv            what would be stale without it
  logweir impact data/sessions.csv --run r1   as of an earlier run")]
    Impact(ImpactArgs),
    /// List past runs, newest first
    #[command(after_help = "Examples:
  logweir runs -n 5                  the last five
  logweir runs --metric fusion/f1    with one number of each")]
    Runs(RunsArgs),
    /// Show one run: what each stage did and with which key
    #[command(after_help = "Examples:
  logweir show                 the last run
  logweir show last~1 --json   the one before, for scripts")]
    Show(ShowArgs),
    /// Show what differs between two runs, and what can have moved each metric
    #[command(after_help = "Examples:
  logweir diff                    the last run against the one before
  logweir diff last~3 last -v     every leaf, artifact and number
  logweir diff 20261122 last --json | jq '.metrics[] | {metric, delta, causes}'
      for scripts")]
    Diff(DiffArgs),
    /// Show metrics: of a run and the one before, over many runs, as a plot
    #[command(after_help = "Examples:
  logweir metrics                       headline numbers, and how they moved
  logweir metrics 'fusion/*' -n 10      some of them over the last ten runs
  logweir metrics 'fusion/f1' --plot    a picture, in reports/metrics-history.svg")]
    Metrics(MetricsArgs),
    /// Put the artifacts of a past run back in place
    #[command(after_help = "Examples:
  logweir restore last~1   as the run before the last left them")]
    Restore(RestoreArgs),
    /// Re-hash artifacts, store and run log, and name every difference
    #[command(after_help = "Examples:
  logweir verify                        all of it
  logweir verify reports/metrics.json   one artifact
  logweir verify --repair               and put right what the store allows
  logweir verify --key public.pem       the signatures of all runs too
  logweir verify --rerun evaluate       execute a stage again and compare")]
    Verify(VerifyArgs),
    /// Say what nothing needs any more in the store; with --yes remove it
    #[command(after_help = "Examples:
  logweir gc                       what would go, and how much it is
  logweir gc --yes                 and remove it
  logweir gc --keep-runs 3 --yes   keep only what the last three runs that did something left")]
    Gc(GcArgs),
    /// Write the lineage of a run in a standard format
    #[command(after_help = "Examples:
  logweir export-lineage --format ro-crate --out audit/
      a folder to hand over: reports, their lineage, a description
  logweir export-lineage --format openlineage --out events.jsonl --run last~1
      the events of the run before
  logweir lineage reports/roc.png --bundle audit/
      and ask it elsewhere")]
    ExportLineage(ExportLineageArgs),
    /// Write a simulated cluster's log with labels
    #[command(after_help = "Examples:
  logweir simulate --sessions 2000 --out data/raw/simulated
      about 40,000 lines
  logweir simulate --sessions 2000 --out raw --with noise.duplicates=0.01 --with change.since.empty_packet=0.7
      some lines twice, and a type of anomaly that is unseen before; logweir stages simulate lists all")]
    Simulate(SimulateArgs),
    /// Score new logs with the trained artifacts of a run
    ///
    /// Without --idle a session ends when the log does, as in the pipeline: scores of the same sessions are the same to the
    /// bit, and what is needed of every line is held in memory until then. With --idle, and with --follow, a session ends
    /// when it was idle for that long; it is scored as the pipeline would if the log ended there, in memory that does not
    /// grow with the log.
    #[command(after_help = "Examples:
  logweir score new.log --out scores.csv   with the models of the last run
  logweir score a.log.gz b.log --out -     two parts of one log, CSV on stdout
  zcat big.gz | logweir score - --idle 12h --out scores.jsonl
      a session is scored once it is silent for twelve hours of log time
  logweir score /var/log/app.log --follow --state app.state --out sqlite:scores.sqlite
      as it grows and is rotated, also over restarts
  logweir score app.log --follow --out scores.csv --hook http://localhost:9093
      and tell Alertmanager")]
    Score(ScoreArgs),
    /// Print the raw log lines of sessions
    #[command(after_help = "Examples:
  logweir lines blk_-1608999687919862906           as of the last run
  logweir lines blk_1 blk_2 --run 8f3a --json      of two, of another run")]
    Lines(LinesArgs),
    /// Say why a session scores as it does, with its raw lines
    #[command(after_help = "Examples:
  logweir explain blk_-1608999687919862906              as of the last run
  logweir explain blk_-1608999687919862906 --run 8f3a   of another run
  logweir explain blk_-1608999687919862906 --json       for programs")]
    Explain(ExplainArgs),
    /// Show runs, metrics, lineage and alerts as a web page
    #[command(after_help = "Examples:
  logweir serve                          at http://127.0.0.1:8787, for this machine
  logweir serve --addr 127.0.0.1:0       at any free port
  logweir serve --addr 0.0.0.0:8787      for other hosts too: the address printed carries a token")]
    Serve(ServeArgs),
    /// List the built-in stage kinds, or show one with every parameter
    #[command(after_help = "Examples:
  logweir stages         all kinds
  logweir stages parse   one: slots, parameters, defaults, units")]
    Stages(StagesArgs),
    /// Print the JSON Schema of pipeline.yaml
    #[command(after_help = "Examples:
  logweir schema > pipeline.schema.json   for editors: `# yaml-language-server: $schema=…`")]
    Schema,
    /// Start a project in an empty directory
    #[command(after_help = "Examples:
  logweir init demo && cd demo && logweir run   a small pipeline that runs at once
  logweir init DIR --from /var/log/app.log      anomalies in a log of yours
  logweir init DIR --from /var/log/app.log*     in rotated ones")]
    Init(InitArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  logweir completions bash > ~/.local/share/bash-completion/completions/logweir
      for bash
  logweir completions zsh > ~/.zfunc/_logweir
      for zsh")]
    Completions(CompletionsArgs),
    /// Write manual pages
    #[command(after_help = "Examples:
  logweir man | man -l -          the main page
  logweir man --out man/man1      a page for each command")]
    Man(ManArgs),
    /// Ask the run that is under way in this project to stop cleanly
    #[command(
        after_help = "Like Ctrl-C there: running stages are stopped, what is finished is kept, the next run goes on."
    )]
    Cancel,
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
    #[command(flatten)]
    pub(crate) about: AboutArgs,
}

/// `impact`.
#[derive(Debug, Args)]
pub(crate) struct ImpactArgs {
    /// A path, a digest, or a copy of a produced or source file
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) about: AboutArgs,
}

/// Which records `lineage` and `impact` ask, and how they answer.
#[derive(Debug, Args)]
pub(crate) struct AboutArgs {
    /// As of this run instead of now
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Ask this exported lineage (a bundle, or a folder with one as lineage.json) instead of a project
    #[arg(long, value_name = "PATH", conflicts_with = "run")]
    pub(crate) bundle: Option<PathBuf>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: LineageFormat,
}

/// How lineage is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineageFormat {
    /// A tree
    Text,
    /// Nodes and edges with everything recorded
    Json,
    /// Mermaid flowchart, for Markdown
    Mermaid,
    /// Graphviz
    Dot,
    /// A picture
    Svg,
}

/// `runs`.
#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// Show at most this many
    #[arg(short = 'n', value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Show this metric of each run of the pipeline, e.g. fusion/f1
    #[arg(long, value_name = "METRIC")]
    pub(crate) metric: Option<String>,
}

/// `diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The earlier run: its id, a unique beginning of one, `last` or `last~N`
    #[arg(value_name = "RUN", default_value = "last~1")]
    pub(crate) from: String,
    /// The later run
    #[arg(value_name = "RUN", default_value = "last")]
    pub(crate) to: String,
}

/// `metrics`.
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Which, as `path#/pointer` or `pointer`; `*` stands for one name, `**` for any (default: headline numbers; all with -v)
    #[arg(value_name = "METRIC")]
    pub(crate) metrics: Vec<String>,
    /// Of this run instead of the last
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Over so many runs; those that did nothing are left out
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(usize))]
    pub(crate) limit: Option<usize>,
    /// Over all runs from this one on
    #[arg(long, value_name = "RUN")]
    pub(crate) since: Option<String>,
    /// Draw their history into this .svg or .png file (default: reports/metrics-history.svg)
    #[arg(long, value_name = "FILE", num_args = 0..=1, value_hint = clap::ValueHint::FilePath)]
    pub(crate) plot: Option<Option<PathBuf>>,
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
    /// Check the signatures of all runs with this public key (PEM)
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// Execute the stages again, in scratch, and compare what they give with what was recorded
    #[arg(long, conflicts_with_all = ["repair", "key"])]
    pub(crate) rerun: bool,
    /// How many threads `--rerun` may keep busy (default: all cores)
    #[arg(short = 'j', value_name = "N", requires = "rerun")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
}

/// `gc`.
#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Keep the artifacts of this many last runs of each pipeline that did something
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) keep_runs: usize,
    /// Remove; without it only what would go is shown
    #[arg(long)]
    pub(crate) yes: bool,
    /// Only show what would go (the default)
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
}

/// `export-lineage`.
#[derive(Debug, Args)]
pub(crate) struct ExportLineageArgs {
    /// The format
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: ExportFormat,
    /// Where to write it: a file, or a folder that does not exist or is empty (ro-crate); `-` writes to stdout
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) out: PathBuf,
    /// Run id, a unique beginning of one, `last` or `last~N`
    #[arg(long, value_name = "RUN", default_value = "last")]
    pub(crate) run: String,
    /// Copy reports of up to this many bytes into an ro-crate
    #[arg(long, value_name = "BYTES", default_value_t = logweir_engine::export::rocrate::COPY_UP_TO)]
    pub(crate) copy_up_to: u64,
}

/// Formats of lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// OpenLineage events, one JSON object a line
    Openlineage,
    /// W3C PROV-JSON
    Prov,
    /// A Process Run Crate: a folder
    RoCrate,
    /// Everything recorded, as logweir itself reads it
    Bundle,
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
    /// Any parameter of the stage kind `simulate`, as PATH=VALUE; may be repeated
    #[arg(long = "with", value_name = "PATH=VALUE")]
    pub(crate) with: Vec<String>,
}

/// `score`.
#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    /// Log files, plain, .gz or .zst, also as a pattern; rotated files of one log together. `-` reads the standard input
    #[arg(required = true, value_name = "LOG", value_hint = clap::ValueHint::FilePath)]
    pub(crate) logs: Vec<PathBuf>,
    /// Use the artifacts of this run (default: the last, or that of the state)
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Where to write the scores: a file .csv or .jsonl, `-` for CSV on stdout, sqlite:PATH, postgres:// with an address, or
    /// `postgres:` for what LOGWEIR_POSTGRES or PG* variables name
    #[arg(long, value_name = "TARGET", value_hint = clap::ValueHint::FilePath)]
    pub(crate) out: String,
    /// How many threads to use (default: all cores; --follow: one)
    #[arg(short = 'j', value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
    /// A session ends after so much log time without a line of it, such as 30m or 12h (default with --follow: `idle` of the
    /// stage that makes sessions; else when the log ends). On the wall, too, where the whole log is silent
    #[arg(long, value_name = "SPAN")]
    pub(crate) idle: Option<String>,
    /// As --idle, for sessions that an event has closed (`closes` of the stage that makes sessions)
    #[arg(long, value_name = "SPAN", default_value = "1h")]
    pub(crate) linger: String,
    /// Most sessions that are open at a time; beyond that the one that was silent for longest ends
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    pub(crate) max_open: usize,
    /// Read on when the log grows and when it is rotated, until interrupted
    #[arg(long)]
    pub(crate) follow: bool,
    /// Keep here what a restart needs: a stream goes on where it was killed, and loses and repeats nothing
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, requires = "follow")]
    pub(crate) state: Option<PathBuf>,
    /// Begin with what is written from now on
    #[arg(long, requires = "follow")]
    pub(crate) from_end: bool,
    /// Do not look at sessions before they end: no row as soon as a session crosses the threshold
    #[arg(long, requires = "follow")]
    pub(crate) no_early: bool,
    /// End when the log has said nothing for so long
    #[arg(long, value_name = "SPAN", requires = "follow")]
    pub(crate) until_silent: Option<String>,
    /// Bytes that are read at once, at most
    #[arg(long, value_name = "N", requires = "follow", default_value_t = 1 << 20, hide = true)]
    pub(crate) read_at_most: usize,
    /// Tell this receiver of alerts, in the format of Alertmanager; may be repeated. The variable LOGWEIR_HOOK_TOKEN holds a
    /// token, if one is needed
    #[arg(long, value_name = "URL")]
    pub(crate) hook: Vec<String>,
    /// Most alerts that are sent in a minute
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) hook_rate: u32,
    /// Alerts of one signature are sent once in so long
    #[arg(long, value_name = "SPAN", default_value = "10m")]
    pub(crate) hook_repeat: String,
    /// The page that alerts point to
    #[arg(long, value_name = "URL", default_value = "http://localhost:8787/")]
    pub(crate) hook_link: String,
}

/// `lines`.
#[derive(Debug, Args)]
pub(crate) struct LinesArgs {
    /// Session ids, as in sessions.csv
    #[arg(required = true, value_name = "SESSION")]
    pub(crate) sessions: Vec<String>,
    /// Look in the artifacts of this run (default: the last)
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
}

/// `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Session id, as in sessions.csv
    #[arg(value_name = "SESSION")]
    pub(crate) session: String,
    /// Explain with the artifacts of this run (default: the last)
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
}

/// `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; beyond this machine (not 127.0.0.1, ::1 or localhost) a token is asked for
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8787")]
    pub(crate) addr: String,
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
    /// What to begin with (default: small, or anomalies with --from)
    #[arg(long, value_name = "NAME")]
    pub(crate) template: Option<Template>,
    /// Take the anomaly pipeline, point it at these logs (files, folders, patterns; also .gz, .zst), and guess how
    /// their lines are written and what tells sessions apart
    #[arg(long, value_name = "LOG", num_args = 1.., value_hint = clap::ValueHint::AnyPath)]
    pub(crate) from: Vec<PathBuf>,
}

/// Pipelines to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// A page that shows inputs, outputs, parameters and a matrix; runs at once
    Small,
    /// From raw logs to scored sessions, metrics and a report
    Anomalies,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write a page for each command into this folder (default: the main page to stdout)
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
}

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}
