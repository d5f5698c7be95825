//! `explain`: why a session scores as it does, with its raw lines.
//!
//! Computed from the models of a run, whether or not the session is an alert and whether or not the pipeline has a stage
//! `explain`. Models that the run did not train do not speak.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use logweir_engine::engine::Engine;
use logweir_engine::history::{OutputRecord, RunDetail, StageOutcome};
use logweir_stages::explain::{Chosen, Decision, Directories, ExplainParams, Explainer, Explanation, Files, Odd, Raw};
use logweir_stages::session_lines::RawLine;
use logweir_stages::sessionize::SessionSummary;
use logweir_stages::support::traces::Templates;
use serde_json::{Value, json};

use crate::cli::{ExplainArgs, Global};
use crate::commands::lines::Artifacts;
use crate::commands::score::{Scratch, only, producer};
use crate::commands::{Outcome, open};
use crate::render::diagnostic::Failure;
use crate::render::table::Table;
use crate::render::{Paint, Screen};

pub(super) fn explain(global: &Global, args: &ExplainArgs, screen: &Screen) -> Outcome {
    let engine = open(global)?;
    tell(&engine, args.run.as_deref(), &args.session, |told, unread| {
        if screen.json {
            return screen.json(&told.json());
        }
        screen.data(&told.page(screen.out))?;
        if let Some(error) = unread {
            screen.note(&format!("{} {error:#}", screen.err.yellow("warning:")));
        }
        Ok(())
    })??;
    Ok(0)
}

/// What `explain --json` says of a session.
pub(crate) fn document(engine: &Engine, run: Option<&str>, session: &str) -> Result<Value, Failure> {
    tell(engine, run, session, |told, unread| {
        let mut document = told.json();
        if let Some(error) = unread {
            document["unread"] = format!("{error:#}").into();
        }
        document
    })
}

/// Explains a session and hands over what there is to say, and why its lines cannot be read.
fn tell<T>(
    engine: &Engine,
    run: Option<&str>,
    id: &str,
    say: impl FnOnce(&Told<'_>, Option<&anyhow::Error>) -> T,
) -> Result<T, Failure> {
    let detail = engine.show(run.unwrap_or("last"))?;
    let artifacts = Artifacts::of(engine, &detail)?;
    let Some(session) = Chosen::find(&artifacts.sessions, id).map_err(Failure::environment)? else {
        return Err(artifacts.missing(id, &detail)?);
    };
    let scratch = Scratch::new(engine.project().root(), "explain")?;
    let directories = directories(engine, &detail, &scratch.0)?;
    let templates = Templates {
        event_ids: artifacts.templates.iter().map(|t| t.event_id.clone()).collect(),
        texts: artifacts.templates.iter().map(|t| t.text.clone()).collect(),
    };
    let params = ExplainParams::default();
    let files = files(engine, &detail)?;
    let explained = Explainer::load(&directories, &templates, files, &params)
        .and_then(|explainer| {
            let differences = explainer.differences(&session);
            let nearest = differences.as_ref().and_then(|all| all.of(0).nearest.clone());
            let mut benign = BTreeMap::new();
            if let Some(id) = nearest
                && let Some(found) = Chosen::find(&artifacts.sessions, &id)?
            {
                benign.insert(id, found.traces.events);
            }
            let mut explained = explainer.explain(&session, differences.as_ref(), &benign)?;
            let (raw, explanation) = explained.pop().context("the session was not explained (a bug)")?;
            Ok((explainer.fused(&raw), raw, explanation))
        })
        .map_err(|error| Failure::work(error.context(format!("cannot explain `{id}`"))))?;
    let (score, raw, explanation) = explained;
    let lines = artifacts.lines(id, &detail);
    let told = Told {
        id,
        run: &detail.info.run,
        score,
        decided: Decided::of(engine, &detail, id)?,
        raw,
        explanation,
        lines: lines.as_deref().ok(),
        artifacts: &artifacts,
    };
    let unread = match &lines {
        Err(Failure::Other { error, .. }) => Some(error),
        _ => None,
    };
    Ok(say(&told, unread))
}

/// What the pipeline decided.
#[derive(Debug, Default)]
struct Decided {
    threshold: Option<f64>,
    row: Option<Decision>,
}

impl Decided {
    fn of(engine: &Engine, detail: &RunDetail, id: &str) -> Result<Self, Failure> {
        let Ok(evaluate) = only(detail, "evaluate") else { return Ok(Self::default()) };
        let stored = |slot: &str| -> Result<Option<PathBuf>, Failure> {
            let Some(output) = evaluate.outputs.get(slot) else { return Ok(None) };
            Ok(engine.stored(output)?.remove(""))
        };
        let mut decided = Self::default();
        if let Some(path) = stored("metrics")? {
            let text = fs::read(&path).map_err(Failure::environment)?;
            let metrics: Value = serde_json::from_slice(&text).map_err(Failure::environment)?;
            decided.threshold = metrics.pointer("/threshold/value").and_then(Value::as_f64);
        }
        if let Some(path) = stored("ensemble")? {
            decided.row = Decision::find(&path, id).map_err(Failure::environment)?;
        }
        Ok(decided)
    }
}

/// All that is said of a session.
struct Told<'a> {
    id: &'a str,
    run: &'a str,
    score: Option<f64>,
    decided: Decided,
    raw: Raw,
    explanation: Explanation,
    lines: Option<&'a [RawLine]>,
    artifacts: &'a Artifacts,
}

/// What a model has in a score.
struct Member {
    name: &'static str,
    title: &'static str,
    raw: f64,
    /// Its part in the decision.
    share: Option<f64>,
    /// The raw score in another form.
    shown: Option<(&'static str, f64)>,
}

impl Told<'_> {
    /// The models that speak.
    fn members(&self) -> Vec<Member> {
        let row = self.decided.row.as_ref();
        let (raw, shares) = (&self.raw, &self.explanation.shares);
        let member =
            |name, title, raw: Option<f64>, share, shown| Some(Member { name, title, raw: raw?, share, shown });
        let (p, z) = (row.and_then(|r| Some(("p", r.p_lgbm?))), row.and_then(|r| Some(("z", r.z_ae?))));
        let members = [
            member("lgbm", "LightGBM (margin)", raw.lgbm, shares.lgbm, p),
            member("ae", "autoencoder (error)", raw.ae, shares.ae, z),
            member("profile", "benign profile (distance)", raw.profile, shares.profile, None),
        ];
        members.into_iter().flatten().collect()
    }

    fn odd(&self, event: usize) -> Option<Odd> {
        self.explanation.odd.iter().find(|odd| odd.event as usize == event).map(|odd| odd.why)
    }

    fn text_of(&self, event_id: &str) -> &str {
        let template = self.artifacts.templates.iter().find(|t| t.event_id == event_id);
        template.map_or("", |template| template.text.as_str())
    }

    fn json(&self) -> Value {
        let members = self.members().into_iter().map(|member| {
            let mut value = json!({"name": member.name, "raw": member.raw, "share": member.share});
            if let Some((what, shown)) = member.shown {
                value[what] = shown.into();
            }
            value
        });
        let row = self.decided.row.as_ref();
        let lines = self.lines.map(|lines| {
            let named = self.artifacts.named(lines);
            let named = named.as_array().cloned().unwrap_or_default();
            let marked = named.into_iter().enumerate().map(|(event, mut line)| {
                line["odd"] = self.odd(event).map(Odd::name).into();
                line
            });
            marked.collect::<Vec<Value>>()
        });
        let mut document = json!({
            "run": self.run,
            "session_id": self.id,
            "timestamp": row.map(|r| r.timestamp.as_str()),
            "fusion_score": self.score,
            "threshold": self.decided.threshold,
            "is_alert": row.map(|r| r.is_alert == 1),
            "label": row.and_then(|r| r.label),
            "members": members.collect::<Vec<Value>>(),
        });
        if let (Some(document), Value::Object(rest)) = (document.as_object_mut(), json!(self.explanation)) {
            document.extend(rest);
            document.insert("lines".to_owned(), json!(lines));
        }
        document
    }

    fn page(&self, paint: Paint) -> String {
        let why = &self.explanation;
        let row = self.decided.row.as_ref();
        let mut out = paint.bold(self.id);
        match row.map(|r| r.is_alert == 1) {
            Some(true) => out += &format!("  {}", paint.red("alert")),
            Some(false) => out += &format!("  {}", paint.green("no alert")),
            None => {}
        }
        if let Some(score) = self.score {
            let _ = write!(out, "  fused score {score:.4}");
            if let Some(threshold) = self.decided.threshold {
                let _ = write!(out, ", threshold {threshold:.4}");
            }
        }
        let label = row.and_then(|r| r.label).map(|label| if label == 1 { "anomalous" } else { "normal" });
        if let Some(label) = label {
            let _ = write!(out, ", labelled {label}");
        }
        let mut about = Table::default();
        about.row(["reason".to_owned(), why.reason.clone()]);
        about.row(["signature".to_owned(), why.signature.clone()]);
        if let Some(nearest) = &why.nearest {
            about.row(["nearest".to_owned(), format!("{nearest} (benign)")]);
        }
        let _ = write!(out, "\n{}", about.render(2));
        let mut members = Table::default();
        for Member { title, raw, share, shown, .. } in self.members() {
            let share = share.map_or_else(String::new, |share| format!("{:.0} % of the score", 100.0 * share));
            let shown = shown.map_or_else(String::new, |(what, value)| format!("{what} {value:.4}"));
            members.row([title.to_owned(), format!("{raw:.4}"), share, shown]);
        }
        let _ = write!(out, "\n{}\n{}", paint.bold("score members"), members.render(2));
        if !why.contributions.is_empty() {
            let mut table = Table::default();
            for c in &why.contributions {
                let value = format!("{} = {}", c.feature, (c.value * 100.0).round() / 100.0);
                table.row([format!("{:+.3}", c.contribution), value, paint.dim(self.text_of_feature(&c.feature))]);
            }
            let _ =
                write!(out, "\n{}\n{}", paint.bold("LightGBM: largest contributions to its log-odds"), table.render(2));
        }
        if let Some(error) = self.raw.ae.filter(|_| !why.residuals.is_empty()) {
            let mut table = Table::default();
            for r in &why.residuals {
                let percent = if error > 0.0 { 100.0 * r.residual / error } else { 0.0 };
                table.row([format!("{percent:.0} %"), r.feature.clone(), paint.dim(self.text_of_feature(&r.feature))]);
            }
            let _ = write!(out, "\n{}\n{}", paint.bold("autoencoder: largest parts of its error"), table.render(2));
        }
        if let Some(lines) = self.lines {
            let _ = writeln!(out, "\n{}", paint.bold("lines (those that stand out are marked)"));
            for (event, line) in lines.iter().enumerate() {
                let text = format!("{}:{}: {}", line.file, line.line, line.text.replace('\n', "\n    "));
                match self.odd(event) {
                    Some(odd) => {
                        // Lines may be long: why one stands out has a line of its own.
                        let _ = writeln!(out, "{} {}", paint.yellow(">"), paint.yellow(&text));
                        let _ = writeln!(out, "    {}", paint.dim(&format!("^ {}", says(odd))));
                    }
                    None => {
                        let _ = writeln!(out, "  {text}");
                    }
                }
            }
            let listed = why.odd.len() as u32;
            if why.odd_total > listed {
                let _ = writeln!(out, "  ({} more stand out)", why.odd_total - listed);
            }
        }
        out
    }

    /// The text of the template that a feature is named after.
    fn text_of_feature(&self, feature: &str) -> &str {
        feature.split_once(' ').map_or("", |(_, event_id)| self.text_of(event_id))
    }
}

/// Why a line stands out, for people.
fn says(odd: Odd) -> &'static str {
    match odd {
        Odd::Unseen => "never seen in a benign session",
        Odd::Extra => "more of these than in the nearest benign session",
        Odd::Missing => "after this something is missing",
        Odd::MissingBefore => "before this something is missing",
        Odd::Contribution => "a feature that speaks loudest to LightGBM",
        Odd::Residual => "a feature that the autoencoder does not expect",
        Odd::Order => "the order departs from the nearest benign session",
        Odd::Last => "the last line; nothing else is known to stand out",
    }
}

/// The files of the log as the run numbered its lines.
fn files(engine: &Engine, detail: &RunDetail) -> Result<Files, Failure> {
    let sessionize = only(detail, "sessionize").map_err(Failure::environment)?;
    let Some(output) = sessionize.outputs.get("summary") else { return Ok(Files::default()) };
    let path = engine.stored(output)?.remove("").ok_or_else(|| Failure::bug("a file has no place"))?;
    let text = fs::read(&path).map_err(Failure::environment)?;
    let summary: SessionSummary = serde_json::from_slice(&text).map_err(Failure::environment)?;
    Ok(Files::new(summary.files))
}

/// Places the models of a run below a folder, but for their largest files, which explanations do not need.
fn directories(engine: &Engine, detail: &RunDetail, folder: &Path) -> Result<Directories, Failure> {
    let fusion = only(detail, "fusion").ok();
    let model = |kind: &str, slot: &str| -> Option<(&StageOutcome, &OutputRecord)> {
        let of_fusion = fusion.and_then(|fusion| producer(detail, fusion, slot).ok());
        of_fusion.or_else(|| {
            let stage = only(detail, kind).ok()?;
            Some((stage, stage.outputs.get("model")?))
        })
    };
    let found =
        [("lgbm", "lightgbm"), ("ae", "autoencoder"), ("profile", "profile")].map(|(slot, kind)| model(kind, slot));
    let features = found.iter().flatten().find_map(|(stage, _)| producer(detail, stage, "features").ok());
    let place = |name: &str, output: Option<&OutputRecord>| -> Result<Option<PathBuf>, Failure> {
        let Some(output) = output else { return Ok(None) };
        let to = folder.join(name);
        fs::create_dir_all(&to).map_err(Failure::environment)?;
        for (path, object) in engine.stored(output)? {
            if path != "matrix.parquet" && path != "scores.parquet" && !path.is_empty() {
                fs::copy(&object, to.join(&path)).map_err(Failure::environment)?;
            }
        }
        Ok(Some(to))
    };
    let [lgbm, ae, profile] = found.map(|found| found.map(|(_, output)| output));
    Ok(Directories {
        features: place("features", features.map(|(_, output)| output))?,
        lgbm: place("lgbm", lgbm)?,
        ae: place("ae", ae)?,
        profile: place("profile", profile)?,
        fusion: place("fusion", fusion.and_then(|fusion| fusion.outputs.get("model")))?,
    })
}
