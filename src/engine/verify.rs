//! Compares what is on disk with what was recorded: outputs, store, run log.

mod ledger;
mod lock;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::history::OutputRecord;
use crate::index::{Disagreements, Index};
use crate::lockfile::LockFile;
use crate::manifest::{FileFact, Manifest};
use crate::publish::{Placer, files_below, hash_directory, hash_file};
use crate::records::History;
use crate::runlog;
use crate::runmap;
use crate::sign::{PublicKey, Signatures};
use crate::spec::Link;
use crate::store::{Store, Take};
use ledger::Ledger;

/// What kind of difference was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An output is not there.
    OutputMissing,
    /// An output has another content than recorded.
    OutputChanged,
    /// An object of the store has another content than its name says.
    ObjectCorrupt,
    /// A recorded output is not in the store.
    ObjectMissing,
    /// A line of the run log was changed, removed or inserted.
    LogBroken,
    /// The end of the run log is missing: a head recorded elsewhere is not in it.
    LogCut,
    /// `pipeline.lock` disagrees with the run log.
    LockMismatch,
    /// `pipeline.lock` has no block of a stage that the run which wrote it brought up to date.
    LockStageMissing,
    /// `pipeline.lock` is what an older run wrote (a note: so it is after a checkout too).
    LockBehind,
    /// `pipeline.lock` speaks of another run log (a note: so it is after a checkout too).
    LockForeign,
    /// `pipeline.lock` is not there (a note: so it is after a checkout too).
    LockMissing,
    /// The action index, which is made from the run log, disagrees with it.
    IndexMismatch,
    /// What was recorded of an earlier run is not in the store.
    RecordMissing,
    /// A run is not signed though it should be.
    Unsigned,
    /// A signature is not one of the key over what it signs.
    SignatureWrong,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// Where: an output path, an object, a line of the run log.
    pub path: String,
    /// The stage concerned, if one is.
    pub stage: Option<String>,
    /// What is different, one line.
    pub detail: String,
}

/// An output that executions with one key gave with different bytes. No fault of the disk, so not a [`Finding`]; but
/// what was made of it cannot be made again for sure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotReproducible {
    /// The stage.
    pub stage: String,
    /// The output path.
    pub path: String,
    /// The key.
    pub key: Digest,
    /// The contents, in no order that means anything.
    pub contents: BTreeSet<Digest>,
}

/// What `verify` looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Outputs compared.
    pub outputs: usize,
    /// Objects of the store re-hashed.
    pub objects: usize,
    /// Bytes hashed.
    pub bytes: u64,
    /// Entries of the run log whose chain was checked.
    pub log_entries: usize,
    /// Runs with a good signature; `None` unless they were checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<usize>,
    /// Entries of the run log that no good signature vouches for, at its end; `None` unless signatures were checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_signed: Option<usize>,
    /// Every difference; empty when all is well.
    pub findings: Vec<Finding>,
    /// What was changed and may well be meant: it does not count as a difference.
    #[serde(default)]
    pub notes: Vec<Finding>,
    /// Outputs that are not reproducible, of stages that are not declared `always`.
    #[serde(default)]
    pub not_reproducible: Vec<NotReproducible>,
    /// Findings that were put right (only when asked to).
    pub repaired: Vec<Finding>,
}

impl VerifyReport {
    /// Returns the program's exit code: 0, or 1 when anything differs.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.findings.is_empty())
    }
}

/// What is to be verified.
pub(crate) struct Check<'a> {
    pub(crate) history: &'a History,
    pub(crate) lock: LockFile,
    pub(crate) lock_exists: bool,
    /// Why the lock file cannot be understood.
    pub(crate) lock_error: Option<String>,
    /// Output paths that the pipeline declares.
    pub(crate) declared: BTreeSet<String>,
    /// What signatures are checked with.
    pub(crate) key: Option<PublicKey>,
    /// The lock file as findings call it.
    pub(crate) lock_name: String,
    pub(crate) pipeline: String,
    /// Stages whose outputs are compared.
    pub(crate) stages: BTreeSet<String>,
    /// Store and run log too.
    pub(crate) everything: bool,
}

impl Check<'_> {
    /// Compares everything with its record. Nothing is taken from the stat memo: all is hashed again.
    pub(crate) fn run(&self) -> Result<VerifyReport, EngineError> {
        let mut report = VerifyReport::default();
        let recorded = self.recorded();
        self.outputs(&recorded, &mut report);
        if self.everything {
            self.objects(&recorded, &mut report)?;
        }
        self.log(&mut report)?;
        report.findings.sort();
        report.findings.dedup();
        Ok(report)
    }

    /// Returns the outputs that the last run of the pipeline left, with their stage.
    fn recorded(&self) -> Vec<(String, OutputRecord)> {
        let last = self.history.last_of(&self.pipeline);
        let actions = last.and_then(|run| run.map_or(Ok(Vec::new()), |run| self.history.actions(&run)));
        let Ok(actions) = actions else {
            // The map of that run or an entry is lost, which is a finding of its own: the lock file knows the outputs.
            let locked = self.lock.stages.iter().filter(|(stage, _)| self.stages.contains(*stage));
            let outputs = locked.flat_map(|(stage, l)| l.outputs.values().map(|o| (stage.clone(), o.clone())));
            return outputs.collect();
        };
        let mut outputs = Vec::new();
        let stage_of = |name: &str| name.match_indices('[').any(|(at, _)| self.stages.contains(&name[..at]));
        let selected = |name: &str| self.stages.contains(name) || (name.ends_with(']') && stage_of(name));
        for action in actions.into_iter().filter(|action| selected(&action.stage)) {
            outputs.extend(action.outputs.into_values().map(|output| (action.stage.clone(), output)));
        }
        outputs
    }

    fn outputs(&self, recorded: &[(String, OutputRecord)], report: &mut VerifyReport) {
        let made: BTreeSet<&str> = recorded.iter().map(|(_, output)| output.path.as_str()).collect();
        let looked: Vec<(u64, Vec<Finding>)> =
            recorded.par_iter().map(|(stage, output)| self.output(stage, output, &made)).collect();
        report.outputs += recorded.len();
        for (bytes, findings) in looked {
            report.bytes += bytes;
            report.findings.extend(findings);
        }
    }

    fn output(&self, stage: &str, output: &OutputRecord, made: &BTreeSet<&str>) -> (u64, Vec<Finding>) {
        let finding = |kind, path: &str, detail: String| Finding {
            kind,
            path: path.to_owned(),
            stage: Some(stage.to_owned()),
            detail,
        };
        let place = self.history.root.join(output.path.trim_end_matches('/'));
        let unreadable =
            |e: std::io::Error| finding(FindingKind::OutputChanged, &output.path, format!("cannot be read: {e}"));
        if output.is_directory() {
            if !place.is_dir() {
                return (0, vec![finding(FindingKind::OutputMissing, &output.path, "is not there".to_owned())]);
            }
            // In the directory of a mapped stage each file is compared with what its item made, and only there.
            let by_item = |relative: &str| {
                let path = format!("{}{relative}", output.path);
                let mut outer =
                    path.match_indices('/').map(|(at, _)| &path[..=at]).filter(|outer| *outer != output.path);
                made.contains(path.as_str())
                    || outer.any(|outer| outer.len() > output.path.len() && made.contains(outer))
            };
            let now = match hash_but(&place, &by_item) {
                Ok(now) => now,
                Err(e) => return (0, vec![unreadable(e)]),
            };
            if now.digest() == output.digest {
                return (now.size(), Vec::new());
            }
            let Ok(mut then) = self.history.store.manifest(&output.digest) else {
                return (
                    now.size(),
                    vec![finding(FindingKind::OutputChanged, &output.path, "holds other files".to_owned())],
                );
            };
            then.files.retain(|relative, _| !by_item(relative));
            if then == now {
                return (now.size(), Vec::new());
            }
            let different = then.differences(&now).into_iter().map(|(path, then, now)| {
                let path = format!("{}{path}", output.path);
                match (then, now) {
                    (Some(_), None) => finding(FindingKind::OutputMissing, &path, "is not there".to_owned()),
                    (None, _) => finding(FindingKind::OutputChanged, &path, "was not made by the stage".to_owned()),
                    (Some(then), Some(now)) => finding(FindingKind::OutputChanged, &path, differs(&then, &now)),
                }
            });
            let mut findings: Vec<Finding> = different.collect();
            if findings.is_empty() {
                findings.push(finding(FindingKind::OutputChanged, &output.path, "file modes differ".to_owned()));
            }
            return (now.size(), findings);
        }
        if !place.is_file() {
            return (0, vec![finding(FindingKind::OutputMissing, &output.path, "is not there".to_owned())]);
        }
        match hash_file(&place) {
            Ok(now) if now.digest == output.digest && now.executable == output.executable => (now.size, Vec::new()),
            Ok(now) if now.digest == output.digest => {
                let mode = if now.executable { "is executable, recorded is not" } else { "is not executable any more" };
                (now.size, vec![finding(FindingKind::OutputChanged, &output.path, mode.to_owned())])
            }
            Ok(now) => (
                now.size,
                vec![finding(FindingKind::OutputChanged, &output.path, differs(&output.digest, &now.digest))],
            ),
            Err(e) => (0, vec![unreadable(e)]),
        }
    }

    fn objects(&self, recorded: &[(String, OutputRecord)], report: &mut VerifyReport) -> Result<(), EngineError> {
        let store = &self.history.store;
        let folder = store.folder();
        let files =
            if folder.is_dir() { files_below(folder).map_err(EngineError::io("read", folder))? } else { Vec::new() };
        let looked: Vec<(u64, Option<Finding>)> = files.par_iter().map(|(name, path)| object(name, path)).collect();
        report.objects = files.len();
        for (bytes, finding) in looked {
            report.bytes += bytes;
            report.findings.extend(finding);
        }
        for (stage, output) in recorded {
            for (digest, _) in missing_objects(store, output) {
                let path = object_name(&digest);
                let detail = format!("of output `{}` is not in the store", output.path);
                let stage = Some(stage.clone());
                report.findings.push(Finding { kind: FindingKind::ObjectMissing, path, stage, detail });
            }
        }
        for run in self.history.index.last_runs().values() {
            if let Err(e) = runmap::load(&run.map, store) {
                let detail = format!("the stage map of the last run: {e}");
                let path = object_name(&run.map);
                report.findings.push(Finding { kind: FindingKind::ObjectMissing, path, stage: None, detail });
            }
        }
        report.findings.dedup();
        Ok(())
    }

    /// Reads the log once, for everything that is compared with it: the chain, the index, signatures, the lock file.
    fn log(&self, report: &mut VerifyReport) -> Result<(), EngineError> {
        if !self.everything && self.key.is_none() {
            return Ok(());
        }
        let cache = &self.history.cache;
        let mut whole = self.everything.then(|| (Ledger::of(&self.pipeline), Disagreements::begin(cache)));
        let mut signatures = self.key.as_ref().map(Signatures::of);
        let damage = runlog::check(cache, |checked| {
            if let Some(signatures) = &mut signatures {
                signatures.take(&checked);
            }
            let Some((ledger, index)) = &mut whole else { return };
            if let Some(entry) = &checked.entry {
                index.take(checked.line.offset, entry);
            }
            ledger.take(checked);
        })?;
        if let Some(signatures) = signatures {
            report.signed = Some(signatures.good);
            report.after_signed = Some(signatures.after);
            report.findings.extend(signatures.finish());
        }
        let Some((mut ledger, index)) = whole else { return Ok(()) };
        report.log_entries = usize::try_from(ledger.entries).unwrap_or(usize::MAX);
        report.not_reproducible = ledger.not_reproducible();
        for damage in damage {
            let path = format!("cache/runlog.jsonl:{}", damage.line);
            report.findings.push(Finding { kind: FindingKind::LogBroken, path, stage: None, detail: damage.what });
        }
        for (file, detail) in index.finish() {
            let path = format!("cache/{file}");
            report.findings.push(Finding { kind: FindingKind::IndexMismatch, path, stage: None, detail });
        }
        self.entries(&ledger, report);
        self.lock_file(&ledger, report);
        Ok(())
    }

    /// Compares what the log says with the store and with what is known of its end.
    fn entries(&self, ledger: &Ledger, report: &mut VerifyReport) {
        let log = || "cache/runlog.jsonl".to_owned();
        let finding = |kind, path: String, detail: String| Finding { kind, path, stage: None, detail };
        for (line, stage) in &ledger.other_keys {
            let (path, stage) = (format!("cache/runlog.jsonl:{line}"), Some(stage.clone()));
            let detail = "its key is not that of its record".to_owned();
            report.findings.push(Finding { kind: FindingKind::LogBroken, path, stage, detail });
        }
        let last: BTreeSet<Digest> = self.history.index.last_runs().values().map(|run| run.map).collect();
        for (map, run) in ledger.maps.iter().filter(|(map, _)| !last.contains(map)) {
            let store = &self.history.store;
            let whole = runmap::objects(map, store).is_ok_and(|all| all.iter().all(|o| store.path(o).is_file()));
            if !whole {
                let detail = format!("the stage map of run {run} is lost, and with it what `show` says of that run");
                report.findings.push(finding(FindingKind::RecordMissing, object_name(map), detail));
            }
        }
        for what in &ledger.noted {
            report.findings.push(finding(FindingKind::LogBroken, log(), what.clone()));
        }
        if let Some(promised) = self.history.index.promised()
            && promised.len > 0
            && !ledger.lines.contains_key(&promised.head)
        {
            let detail = format!(
                "the index knows {} entries up to {}, which is not in the log",
                promised.lines,
                promised.head.short()
            );
            report.findings.push(finding(FindingKind::LogCut, log(), detail));
        }
    }

    /// Puts right what can be: outputs from the store, objects from outputs. The run log is never touched.
    pub(crate) fn repair(&self, report: &mut VerifyReport, temp: &Path) -> Result<(), EngineError> {
        let store = Store::new(&self.history.cache, temp, Link::Auto);
        let placer = Placer { store: &store, root: &self.history.root, temp, take: Take::Shared };
        for finding in report.findings.iter().filter(|f| f.kind == FindingKind::ObjectCorrupt) {
            let path = self.history.cache.join("objects").join(&finding.path);
            fs::remove_file(&path).map_err(EngineError::io("remove", &path))?;
        }
        for finding in report.findings.iter().filter(|f| f.kind == FindingKind::IndexMismatch) {
            // Also where the other file is all right it is written anew from the log.
            let path = self.history.root.join(&finding.path);
            if path.exists() {
                fs::remove_file(&path).map_err(EngineError::io("remove", &path))?;
            }
            Index::open(&self.history.cache)?.0.save()?;
        }
        for (_, output) in self.recorded() {
            for (digest, relative) in missing_objects(&store, &output) {
                let place = match &relative {
                    Some(relative) => self.history.root.join(&output.path).join(relative),
                    None => self.history.root.join(&output.path),
                };
                if place.is_file() {
                    let fact = hash_file(&place).map_err(EngineError::io("read", &place))?;
                    if fact.digest == digest {
                        store.copy_in(&place, &fact)?;
                    }
                } else if place.is_dir() {
                    let manifest = hash_directory(&place).map_err(EngineError::io("read", &place))?;
                    if manifest.digest() == digest {
                        // Which files it had was not known without it, so none of them was looked for.
                        for (relative, fact) in &manifest.files {
                            store.copy_in(&place.join(relative), fact)?;
                        }
                        store.put(manifest.text().as_bytes())?;
                    }
                }
            }
            // What the store cannot give back stays a finding.
            let _ = placer.place(&output, None);
        }
        let before = std::mem::take(&mut report.findings);
        let after = self.run()?;
        report.repaired = before.into_iter().filter(|finding| !after.findings.contains(finding)).collect();
        report.not_reproducible = after.not_reproducible;
        report.notes = after.notes;
        report.findings = after.findings;
        Ok(())
    }
}

/// Hashes a directory but for some of its files.
fn hash_but(place: &Path, left_out: &dyn Fn(&str) -> bool) -> std::io::Result<Manifest> {
    let mut manifest = Manifest::default();
    for (relative, path) in files_below(place)?.into_iter().filter(|(relative, _)| !left_out(relative)) {
        manifest.files.insert(relative, hash_file(&path)?);
    }
    Ok(manifest)
}

/// Returns the objects of an output that are not in the store, with the file in it for those of a directory.
fn missing_objects(store: &Store, output: &OutputRecord) -> Vec<(Digest, Option<PathBuf>)> {
    if !output.is_directory() {
        let missing = !store.holds(&output.digest, output.size);
        return missing.then_some((output.digest, None)).into_iter().collect();
    }
    let Ok(manifest) = store.manifest(&output.digest) else { return vec![(output.digest, None)] };
    let missing = |(path, fact): (String, FileFact)| {
        (!store.holds(&fact.digest, fact.size)).then(|| (fact.digest, Some(PathBuf::from(path))))
    };
    manifest.files.into_iter().filter_map(missing).collect()
}

fn object_name(digest: &Digest) -> String {
    let name = digest.to_string();
    format!("{}/{}", &name[..2], &name[2..])
}

fn object(name: &str, path: &Path) -> (u64, Option<Finding>) {
    let finding =
        |detail| Some(Finding { kind: FindingKind::ObjectCorrupt, path: name.to_owned(), stage: None, detail });
    match hash_file(path) {
        Ok(fact) if name.replace('/', "") == fact.digest.to_string() => (fact.size, None),
        Ok(fact) => (fact.size, finding(format!("has content {}", fact.digest.short()))),
        Err(e) => (0, finding(format!("cannot be read: {e}"))),
    }
}

fn differs(then: &Digest, now: &Digest) -> String {
    format!("has content {}, recorded is {}", now.short(), then.short())
}
