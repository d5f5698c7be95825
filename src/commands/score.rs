//! `score`: new logs through the trained artifacts of a run.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use logweir_engine::engine::Engine;
use logweir_engine::history::{OutputRecord, RunDetail, StageOutcome};
use logweir_stages::score::Directories;
use logweir_stages::score_logs::{Format, Scored, Scorer};

use crate::cli::{Global, ScoreArgs};
use crate::commands::{Outcome, limit_polars, open};
use crate::render::diagnostic::Failure;
use crate::render::progress::Work;
use crate::render::{Screen, text};

pub(super) fn score(global: &Global, args: &ScoreArgs, screen: &Screen) -> Outcome {
    // The project becomes the working directory; files are meant from where the user stands.
    let absolute = |path: &PathBuf| std::path::absolute(path).map_err(Failure::environment);
    let logs: Vec<PathBuf> = args.logs.iter().map(absolute).collect::<Result<_, _>>()?;
    if let Some(missing) = logs.iter().find(|log| !log.is_file()) {
        let failure = Failure::environment(anyhow!("there is no log `{}`", missing.display()));
        return Err(failure.help("check the path; it is meant from where you stand"));
    }
    let to_stdout = args.out == Path::new("-");
    let format = format_of(&args.out)?;
    let out = absolute(&args.out)?;
    limit_polars(args.jobs);
    let engine = open(global)?;
    let detail = engine.show(args.run.as_deref().unwrap_or("last"))?;
    let parts = Parts::of(&detail).map_err(|error| {
        Failure::environment(error.context(format!("run {} has nothing to score with", detail.info.run)))
            .help("run the pipeline first, or name a run that trained: logweir runs")
    })?;

    let scratch = Scratch::new(engine.project().root(), "score")?;
    let scorer = parts.materialise(&engine, &scratch.0)?;
    let threads = args.jobs.map_or(0, std::num::NonZero::get);
    let work = Work::new("scoring", screen);
    let paths: Vec<&Path> = logs.iter().map(PathBuf::as_path).collect();
    let scored = logweir_stages::score_logs::in_pool(threads, || -> anyhow::Result<Scored> {
        if to_stdout {
            return scorer.score(&paths, format, &mut io::stdout().lock());
        }
        // A file that is there is whole.
        let partial = out.with_file_name(format!(".{}.partial", out.file_name().unwrap_or_default().to_string_lossy()));
        let mut file = File::create(&partial).with_context(|| format!("cannot write `{}`", partial.display()))?;
        let scored = scorer.score(&paths, format, &mut file).and_then(|scored| {
            file.flush()?;
            fs::rename(&partial, &out).with_context(|| format!("cannot write `{}`", out.display()))?;
            Ok(scored)
        });
        if scored.is_err() {
            // What cannot be removed is named `.partial`.
            let _ = fs::remove_file(&partial);
        }
        scored
    });
    drop(work);
    let closed = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    let scored = scored.map_err(|error| match error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()) {
        Some(cause) if to_stdout && closed(cause) => Failure::BrokenPipe,
        _ => Failure::work(error.context("cannot score these logs"))
            .help("check that they have the format of the log the run was trained on: logweir stages parse"),
    })?;
    tell(&scored, &detail, &args.out, to_stdout, screen)?;
    Ok(0)
}

fn tell(scored: &Scored, detail: &RunDetail, out: &Path, to_stdout: bool, screen: &Screen) -> Result<(), Failure> {
    if screen.json && !to_stdout {
        let mut value = serde_json::to_value(scored).map_err(|e| Failure::bug(e.to_string()))?;
        value["run"] = detail.info.run.clone().into();
        value["out"] = out.display().to_string().into();
        return screen.json(&value);
    }
    for warning in &scored.warnings {
        screen.note(&format!("{} {warning}", screen.err.yellow("warning:")));
    }
    let trained = if scored.trained_on_simulated { ", trained on SIMULATED logs" } else { "" };
    screen.note(&format!(
        "{} of {} sessions are alerts (fusion score ≥ {}; {} lines; models of run {}{trained})",
        text::count(scored.alerts as u64),
        text::count(scored.sessions as u64),
        scored.threshold,
        text::count(scored.lines),
        detail.info.run,
    ));
    if !to_stdout {
        screen.note(&format!("scores are in {}", out.display()));
    }
    Ok(())
}

fn format_of(out: &Path) -> Result<Format, Failure> {
    match out.extension().and_then(|e| e.to_str()) {
        _ if out == Path::new("-") => Ok(Format::Csv),
        Some("csv") => Ok(Format::Csv),
        Some("jsonl" | "ndjson") => Ok(Format::JsonLines),
        _ => Err(Failure::usage(anyhow!("`{}` tells no format", out.display())).help("name it .csv or .jsonl, or `-`")),
    }
}

/// The stages of a run that scoring needs, found by following the artifacts back from `evaluate`.
struct Parts<'a> {
    parse: &'a StageOutcome,
    templates: &'a StageOutcome,
    sessionize: &'a StageOutcome,
    known: &'a OutputRecord,
    features: &'a OutputRecord,
    models: [Option<&'a OutputRecord>; 3],
    fusion: &'a OutputRecord,
    metrics: &'a OutputRecord,
}

/// The input slots of `fusion` that name models, in the order of [`Parts::models`].
const MODELS: [&str; 3] = ["lgbm", "ae", "profile"];

impl<'a> Parts<'a> {
    fn of(detail: &'a RunDetail) -> anyhow::Result<Self> {
        let evaluate = only(detail, "evaluate")?;
        let (fusion, _) = producer(detail, evaluate, "scores")?;
        let mut models = [None; 3];
        let mut features = None;
        for (model, slot) in models.iter_mut().zip(MODELS) {
            if fusion.inputs.get(slot).is_some_and(|files| !files.is_empty()) {
                let (stage, output) = producer(detail, fusion, slot)?;
                *model = Some(output);
                if stage.inputs.contains_key("features") {
                    features = Some(producer(detail, stage, "features")?);
                }
            }
        }
        let (featurize, features) = features.context("no model of the fusion reads features")?;
        let (templates, known) = producer(detail, featurize, "templates")?;
        let (sessionize, _) = producer(detail, featurize, "sessions")?;
        let (parse, _) = producer(detail, sessionize, "events")?;
        let output = |stage: &'a StageOutcome, slot: &str| {
            stage.outputs.get(slot).with_context(|| format!("stage `{}` has no output `{slot}`", stage.stage))
        };
        Ok(Self {
            parse,
            templates,
            sessionize,
            known,
            features,
            models,
            fusion: output(fusion, "model")?,
            metrics: output(evaluate, "metrics")?,
        })
    }

    /// Writes the artifacts below a folder.
    fn materialise(&self, engine: &Engine, folder: &Path) -> Result<Scorer, Failure> {
        let place = |name: &str, output: &OutputRecord| -> Result<PathBuf, Failure> {
            let to = folder.join(name);
            engine.materialise(&output.digest, output.is_directory(), &to)?;
            Ok(to)
        };
        let model = |i: usize| self.models[i].map(|output| place(MODELS[i], output)).transpose();
        Ok(Scorer {
            parse: self.parse.params.clone(),
            templates: self.templates.params.clone(),
            sessionize: self.sessionize.params.clone(),
            known: place("templates.csv", self.known)?,
            models: Directories {
                features: place("features", self.features)?,
                lgbm: model(0)?,
                ae: model(1)?,
                profile: model(2)?,
                fusion: place("fusion", self.fusion)?,
            },
            metrics: place("metrics.json", self.metrics)?,
        })
    }
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
