//! `score`: new logs through the trained artifacts of a run.

mod parts;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use chrono::{SecondsFormat, Utc};
use logweir_engine::digest::Digest;
use logweir_engine::engine::Engine;
use logweir_engine::history::{OutputRecord, RunDetail, StageOutcome};
use logweir_engine::outside::Outside;
use logweir_engine::publish::hash_file;
use logweir_stages::score_logs::{Lines, Loaded, Scored, in_pool};
use logweir_stages::stream::follow::{Followed, Follower, News, Pace, can_follow};
use logweir_stages::stream::sink::{self, About, Begin, Target};
use logweir_stages::stream::state::{Identity, Progress, State, StateFile};
use logweir_stages::stream::tail::Tail;
use logweir_stages::stream::{Ending, span};
use serde_json::{Value, json};

use crate::cli::{Global, ScoreArgs};
use crate::commands::{Outcome, environment, limit_polars, open, stop_on_signal};
use crate::hooks::{Hooks, Settings, Teller};
use crate::render::diagnostic::Failure;
use crate::render::{Screen, text, to_stderr};
use parts::{Parts, recorded, speakers};

/// The variable that holds a token for receivers of alerts.
const TOKEN: &str = "LOGWEIR_HOOK_TOKEN";

/// How long a run that is under way is waited for before a record is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was asked for, checked.
struct Asked<'a> {
    args: &'a ScoreArgs,
    /// The logs; none for the standard input.
    logs: Vec<PathBuf>,
    target: Target,
    ending: Ending,
    until_silent: Option<Duration>,
    hook_repeat: Duration,
    state: Option<PathBuf>,
    before: Option<State>,
}

pub(super) fn score(global: &Global, args: &ScoreArgs, screen: &Screen) -> Outcome {
    // The project becomes the working directory; files are meant from where the user stands.
    let asked = Asked::of(args)?;
    limit_polars(args.jobs);
    let engine = open(global)?;
    let run = args.run.clone().or_else(|| asked.before.as_ref().map(|state| state.header.run.clone()));
    let detail = engine.show(run.as_deref().unwrap_or("last"))?;
    let parts = Parts::of(&detail).map_err(|error| {
        Failure::environment(error.context(format!("run {} has nothing to score with", detail.info.run)))
            .help("run the pipeline first, or name a run that trained: logweir runs")
    })?;
    let scratch = Scratch::new(engine.project().root(), "score")?;
    let scorer = parts.materialise(&engine, &scratch.0)?;
    let began = (Instant::now(), now());
    let loaded = scorer.load().map_err(|error| Failure::environment(error.context("cannot load the models")))?;
    let hooks = asked.hooks(global, &loaded, &detail).map(|s| Hooks::start(s, speakers(&scorer.models))).transpose();
    let hooks = hooks.context("cannot begin to send alerts").map_err(Failure::environment)?;
    let work = Work { asked: &asked, engine: &engine, detail: &detail, parts: &parts, loaded: &loaded, screen };
    let teller = hooks.as_ref().and_then(Hooks::teller);
    let told = if args.follow { work.follow(teller.as_ref()) } else { work.batch(teller.as_ref()) };
    // No more alerts: hooks may end.
    drop(teller);
    let (sent, unsent) = hooks.map(Hooks::finish).unzip();
    let mut told = told?;
    told.warnings.extend(unsent.into_iter().flatten());
    if let Err(error) = work.record(&told, &began) {
        told.warnings.push(format!("lineage does not know of this: {error}"));
    }
    work.tell(told, sent)?;
    Ok(0)
}

impl<'a> Asked<'a> {
    fn of(args: &'a ScoreArgs) -> Result<Self, Failure> {
        let micros = |name: &str, text: &str| {
            span(text).map_err(|why| Failure::usage(anyhow!("--{name}: {why}")).help("such as 30s, 10m or 1h"))
        };
        let time = |name: &str, text: &str| -> Result<Duration, Failure> {
            Ok(Duration::from_micros(micros(name, text)?.unsigned_abs()))
        };
        let pipe = args.logs.iter().any(|log| log == Path::new("-"));
        if pipe && args.logs.len() > 1 {
            return Err(Failure::usage(anyhow!("`-` is read alone")).help("name files, or `-`"));
        }
        let logs = if pipe { Vec::new() } else { files(&args.logs, args.follow)? };
        let target = Target::parse(&args.out, &environment()).map_err(|error| {
            Failure::usage(error).help("name it .csv or .jsonl, `-`, sqlite:PATH or postgres://USER@HOST/DATABASE")
        })?;
        if args.follow {
            let refuse = |what: &str, hint: &str| Err(Failure::usage(anyhow!("{what}")).help(hint));
            if pipe {
                return refuse("the standard input cannot be followed", "without --follow it is read as it comes, too");
            }
            if logs.len() > 1 {
                return refuse("one log is followed at a time", "start one `score --follow` for each log");
            }
            if logs.iter().any(|log| !can_follow(log)) {
                return refuse("a compressed log does not grow", "follow the log that is written to");
            }
            if args.state.is_some() && matches!(target, Target::Stdout) {
                return refuse(
                    "what was written to stdout cannot be taken back after a kill",
                    "with --state, write to a file or a database",
                );
            }
        }
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(Failure::environment);
        let state = args.state.as_ref().map(absolute).transpose()?;
        let before = state.as_deref().map(State::read).transpose().map_err(|error| {
            Failure::environment(error).help("name another file with --state, or remove it to begin anew")
        })?;
        let idle = args.idle.as_deref().map(|text| micros("idle", text)).transpose()?;
        Ok(Self {
            logs,
            target,
            ending: Ending {
                idle,
                linger: micros("linger", &args.linger)?,
                early: args.follow && !args.no_early,
                sessions: args.max_open.max(1),
                ..Ending::default()
            },
            until_silent: args.until_silent.as_deref().map(|text| time("until-silent", text)).transpose()?,
            hook_repeat: time("hook-repeat", &args.hook_repeat)?,
            state,
            before: before.flatten(),
            args,
        })
    }

    fn hooks(&self, global: &Global, loaded: &Loaded, detail: &RunDetail) -> Option<Settings> {
        let ScoreArgs { hook, hook_rate, hook_link, .. } = self.args;
        let mut labels = BTreeMap::from([("pipeline".to_owned(), detail.info.pipeline.clone())]);
        labels.extend(global.profile.iter().map(|profile| ("profile".to_owned(), profile.clone())));
        if let [log] = &self.logs[..] {
            labels.insert("log".to_owned(), log.display().to_string());
        }
        (!hook.is_empty()).then(|| Settings {
            urls: hook.clone(),
            rate: (*hook_rate).max(1),
            repeat: self.hook_repeat,
            link: hook_link.clone(),
            token: environment().remove(TOKEN).filter(|token| !token.is_empty()),
            labels,
            threshold: loaded.threshold,
        })
    }
}

/// The files behind paths and patterns, absolute.
fn files(paths: &[PathBuf], may_come: bool) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let missing =
            |what: String| Failure::environment(anyhow!(what)).help("check the path; it is meant from where you stand");
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_file() || may_come && folder.is_dir() {
            let folder = folder.canonicalize().map_err(Failure::environment)?;
            files.push(folder.join(name));
            continue;
        }
        if !name.contains(['*', '?', '[', '{']) {
            return Err(missing(format!("there is no log `{}`", path.display())));
        }
        let glob = globset::Glob::new(name).map_err(|error| Failure::usage(anyhow!(error)))?.compile_matcher();
        let mut found = Vec::new();
        let entries = fs::read_dir(folder).with_context(|| format!("cannot list the folder `{}`", folder.display()));
        for entry in entries.map_err(Failure::environment)?.flatten() {
            if entry.path().is_file() && glob.is_match(entry.file_name()) {
                let folder = folder.canonicalize().map_err(Failure::environment)?;
                found.push(folder.join(entry.file_name()));
            }
        }
        if found.is_empty() {
            return Err(missing(format!("no file matches `{}`", path.display())));
        }
        files.append(&mut found);
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// What was done, as it is shown and recorded.
struct Told {
    scored: Scored,
    /// What more a stream has to say.
    more: Value,
    warnings: Vec<String>,
    stream: String,
}

/// All that scoring needs.
struct Work<'a> {
    asked: &'a Asked<'a>,
    engine: &'a Engine,
    detail: &'a RunDetail,
    parts: &'a Parts<'a>,
    loaded: &'a Loaded,
    screen: &'a Screen,
}

impl Work<'_> {
    fn failed(&self, error: anyhow::Error) -> Failure {
        let closed = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
        match error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()) {
            Some(cause) if matches!(self.asked.target, Target::Stdout) && closed(cause) => Failure::BrokenPipe,
            _ => Failure::work(error.context("cannot score these logs"))
                .help("check that they have the format of the log the run was trained on: logweir stages parse"),
        }
    }

    /// Scores what there is.
    fn batch(&self, teller: Option<&Teller>) -> Result<Told, Failure> {
        let Self { asked, loaded, .. } = self;
        let stream = self.batch_id().map_err(Failure::environment)?;
        let about = About { stream: stream.clone(), run: self.detail.info.run.clone(), threshold: loaded.threshold };
        let mut sink = sink::open(&asked.target, Begin::Whole, &about).map_err(Failure::environment)?;
        let bar = crate::render::progress::Work::new("scoring", self.screen);
        let threads = asked.args.jobs.map_or(0, std::num::NonZero::get);
        let scored = in_pool(threads, || {
            let mut news = |news: News<'_>| {
                if let (News::Alert(alert), Some(teller)) = (news, teller) {
                    teller.tell(alert);
                }
            };
            let paths: Vec<&Path> = asked.logs.iter().map(PathBuf::as_path).collect();
            let streamed = asked.ending.idle.is_some() || asked.logs.is_empty() || teller.is_some();
            let scored = if streamed {
                let lines =
                    if asked.logs.is_empty() { Lines::Pipe(Box::new(io::stdin())) } else { Lines::Files(&paths) };
                loaded.score_stream(lines, asked.ending.clone(), teller.is_some(), &mut *sink, &mut news)?
            } else {
                loaded.score_whole(&paths, &mut *sink, &mut news)?
            };
            sink.finish()?;
            Ok(scored)
        });
        drop(bar);
        let scored = scored.map_err(|error| self.failed(error))?;
        Ok(Told { warnings: scored.warnings.clone(), scored, more: json!({}), stream })
    }

    /// What tells the rows of these logs, scored so, from others: the same again is the same.
    fn batch_id(&self) -> anyhow::Result<String> {
        if !matches!(self.asked.target, Target::Database(_)) || self.asked.logs.is_empty() {
            let unique = format!("{} {} {:?}", now(), std::process::id(), self.asked.logs);
            return Ok(Digest::of_bytes(unique.as_bytes()).to_string());
        }
        let digests: Vec<String> =
            self.asked.logs.iter().map(|log| Ok(Digest::of_file(log)?.to_string())).collect::<anyhow::Result<_>>()?;
        let all = json!({"models": self.parts.identity(), "logs": digests, "ending": self.asked.ending});
        Ok(Digest::of_json("logweir score batch v1", &all).to_string())
    }

    /// Scores what comes.
    fn follow(&self, teller: Option<&Teller>) -> Result<Told, Failure> {
        let Self { asked, loaded, screen, .. } = self;
        let log = &asked.logs[0];
        let run = self.detail.info.run.clone();
        let mut identity = Identity {
            run: run.clone(),
            models: self.parts.identity(),
            log: log.display().to_string(),
            out: asked.target.name(),
            stream: String::new(),
        };
        // The state is read once more: what was read first told the run.
        let before = asked.state.as_deref().map(State::read).transpose().map_err(Failure::environment)?.flatten();
        let (mut progress, mut begin) = (Progress::default(), Begin::Append);
        if let Some(State { header, .. }) = &before {
            let same = |what: &str, before: &str, now: &str| {
                if before == now {
                    return Ok(());
                }
                let error = anyhow!("the state is of another {what}: `{before}`, not `{now}`");
                Err(Failure::usage(error).help("give the same, or another --state"))
            };
            same("log", &header.log, &identity.log)?;
            same("target", &header.out, &identity.out)?;
            if header.models != identity.models {
                return Err(Failure::usage(anyhow!("the state is of the models of run {}, not of {run}", header.run))
                    .help(format!("go on with them: --run {}; or begin anew with another --state", header.run)));
            }
            identity.stream.clone_from(&header.stream);
            progress = Progress {
                position: header.position.clone(),
                rows: header.rows,
                length: header.length,
                silent: header.silent,
            };
            begin = Begin::At(header.length);
        } else {
            let unique = format!("{} {} {}", now(), std::process::id(), identity.log);
            identity.stream = Digest::of_bytes(unique.as_bytes()).to_string();
            if asked.args.from_end && log.is_file() {
                progress.position = Tail::end_of(log).map_err(Failure::environment)?;
            }
        }
        let stream_id = identity.stream.clone();
        let about = About { stream: stream_id.clone(), run, threshold: loaded.threshold };
        let resumed = before.is_some();
        // Unless told otherwise, as the pipeline takes sessions for over.
        let ending = Ending { idle: asked.ending.idle.or(Some(loaded.idle())), ..asked.ending.clone() };
        let (parser, stream) = loaded
            .stream(ending, before)
            .map_err(|error| Failure::usage(error).help("give the same options, or another --state"))?;
        let sink = sink::open(&asked.target, begin, &about).map_err(Failure::environment)?;
        let position = progress.position.clone();
        let from = (resumed || position.offset > 0).then_some(&position);
        let tail = Tail::open(log, &parser, from).map_err(Failure::environment)?;
        let say = **screen;
        let stop = stop_on_signal(move || say.note("stopping"))?;
        screen.note(&format!("following {} (Ctrl-C ends it)", log.display()));
        let pace = Pace { most: asked.args.read_at_most.max(1), until_silent: asked.until_silent };
        let threads = asked.args.jobs.map_or(1, std::num::NonZero::get);
        let follower = Follower {
            parser: &parser,
            bundle: &loaded.bundle,
            threshold: loaded.threshold,
            stream,
            tail,
            sink,
            state: asked.state.as_deref().map(|path| StateFile::new(path, identity)),
            progress,
            alerts: teller.is_some(),
            pace,
        };
        let quiet = screen.json || screen.quiet;
        let followed = in_pool(threads, || {
            let stop: &AtomicBool = &stop;
            follower.follow(stop, &mut |news| match news {
                News::Note(note) if !quiet => to_stderr(&format!("{} {note}\n", say.err.yellow("warning:"))),
                News::Alert(alert) => {
                    if let Some(teller) = teller {
                        teller.tell(alert);
                    }
                }
                News::Note(_) | News::Rows(_) => {}
            })
        });
        let Followed { counts, open, rows, line, row, warnings } = followed.map_err(|error| self.failed(error))?;
        let times = |latency: &logweir_stages::stream::follow::Latency| {
            json!({
                "p50": latency.quantile(0.5), "p99": latency.quantile(0.99), "p999": latency.quantile(0.999),
                "most": latency.most(),
            })
        };
        Ok(Told {
            scored: Scored {
                lines: counts.lines,
                rejected: counts.rejected,
                sessions: counts.sessions as usize,
                alerts: counts.alerts as usize,
                threshold: loaded.threshold,
                trained_on_simulated: loaded.trained_on_simulated,
                ..Scored::default()
            },
            more: json!({
                "early": counts.early, "open": open, "rows": rows,
                "line_microseconds": times(&line), "row_microseconds": times(&row),
            }),
            warnings,
            stream: stream_id,
        })
    }

    /// Records what was done, so that lineage knows what came of it.
    fn record(&self, told: &Told, (began, started): &(Instant, String)) -> anyhow::Result<()> {
        let Self { asked, engine, .. } = self;
        let root = engine.project().root();
        let mut inputs = self.parts.inputs();
        let mut logs = BTreeMap::new();
        for log in asked.logs.iter().filter(|log| log.is_file()) {
            logs.insert(recorded(root, log), Digest::of_file(log)?);
        }
        if !logs.is_empty() {
            inputs.insert("log".to_owned(), logs);
        }
        let mut outputs = BTreeMap::new();
        let mut effect = None;
        match &asked.target {
            Target::File(path, _) => {
                let fact = hash_file(path)?;
                let (path, digest) = (recorded(root, path), fact.digest);
                let output = OutputRecord { path, digest, size: fact.size, executable: false };
                outputs.insert("scores".to_owned(), output);
            }
            Target::Database(_) => effect = Some(asked.target.name()),
            Target::Stdout => {}
        }
        let mut params = self.parts.params();
        params["run"] = self.detail.info.run.clone().into();
        params["models"] = self.parts.identity().into();
        params["stream"] = told.stream.clone().into();
        params["follow"] = asked.args.follow.into();
        params["ending"] = serde_json::to_value(&asked.ending)?;
        params["lines"] = told.scored.lines.into();
        if asked.logs.is_empty() {
            params["log"] = "standard input".into();
        }
        let done = Outside {
            name: "score".to_owned(),
            code: Some(Digest::from(logweir_stages::code("score_logs"))),
            params,
            inputs,
            outputs,
            effect,
            started: started.clone(),
            seconds: began.elapsed().as_secs_f64(),
            threads: asked.args.jobs.map_or(1, std::num::NonZero::get),
            warnings: told.warnings.clone(),
        };
        engine.record_outside(done, PATIENCE)?;
        Ok(())
    }

    fn tell(&self, told: Told, hooks: Option<Value>) -> Result<(), Failure> {
        let Self { asked, detail, screen, .. } = self;
        let to_stdout = matches!(asked.target, Target::Stdout);
        let Told { scored, more, warnings, .. } = told;
        if screen.json && !to_stdout {
            let mut value = serde_json::to_value(&scored).map_err(|e| Failure::bug(e.to_string()))?;
            value["warnings"] = warnings.into();
            value["run"] = detail.info.run.clone().into();
            value["out"] = asked.target.name().into();
            for (name, item) in more.as_object().into_iter().flatten() {
                value[name] = item.clone();
            }
            if let Some(hooks) = hooks {
                value["hooks"] = hooks;
            }
            return screen.json(&value);
        }
        for warning in &warnings {
            screen.note(&format!("{} {warning}", screen.err.yellow("warning:")));
        }
        let trained = if scored.trained_on_simulated { ", trained on SIMULATED logs" } else { "" };
        let open = more["open"].as_u64().filter(|open| *open > 0);
        let open = open.map(|open| format!("; {} more are open", text::count(open))).unwrap_or_default();
        screen.note(&format!(
            "{} of {} sessions are alerts (fusion score ≥ {}; {} lines; models of run {}{trained}){open}",
            text::count(scored.alerts as u64),
            text::count(scored.sessions as u64),
            scored.threshold,
            text::count(scored.lines),
            detail.info.run,
        ));
        if !to_stdout {
            screen.note(&format!("scores are in {}", asked.target.name()));
        }
        Ok(())
    }
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The one stage of a kind.
pub(crate) fn only<'a>(detail: &'a RunDetail, kind: &str) -> anyhow::Result<&'a StageOutcome> {
    let mut found = detail.stages.iter().filter(|stage| stage.action.as_deref() == Some(kind));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => bail!("no stage of kind `{kind}` was up to date in it"),
        (Some(_), Some(_)) => bail!("it has several stages of kind `{kind}`"),
    }
}

/// The stage that wrote an input slot of another, and that output.
pub(super) fn producer<'a>(
    detail: &'a RunDetail,
    reader: &StageOutcome,
    slot: &str,
) -> anyhow::Result<(&'a StageOutcome, &'a OutputRecord)> {
    let files = reader.inputs.get(slot).with_context(|| format!("stage `{}` has no input `{slot}`", reader.stage))?;
    let path = files.keys().next().with_context(|| format!("input `{slot}` of `{}` is empty", reader.stage))?;
    let wanted = path.trim_end_matches('/');
    let found = detail.stages.iter().find_map(|stage| {
        let output = stage.outputs.values().find(|output| {
            let own = output.path.trim_end_matches('/');
            own == wanted || wanted.strip_prefix(own).is_some_and(|rest| rest.starts_with('/'))
        })?;
        Some((stage, output))
    });
    found.with_context(|| format!("nothing in it made `{path}`"))
}

/// A folder in the project's cache that is removed afterwards.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    /// Makes it, for a command of this name.
    pub(super) fn new(root: &Path, command: &str) -> Result<Self, Failure> {
        let folder = root.join("cache/tmp").join(format!("{command}-{}", std::process::id()));
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder `{}`", folder.display()))
            .map_err(Failure::environment)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Objects are read-only, and so may be the folders they were placed in; a leftover is swept by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}
