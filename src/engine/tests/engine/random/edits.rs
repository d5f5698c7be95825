//! What happens between two runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use logweir_engine::error::EngineError;
use logweir_engine::failpoint;
use logweir_engine::gc::{GcOptions, GcReport};
use logweir_engine::verify::FindingKind;
use proptest::prelude::*;
use proptest::sample::Index;

use super::Trial;
use super::world::{Seed, seed};
use crate::crash::{Order, commands_ended, was_killed};
use crate::support::walk;

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Harm {
    Flip(u16),
    Cut(u16),
    Delete,
}

#[derive(Clone, Debug)]
pub(super) enum Edit {
    Source(u8, u8),
    Touch(u8),
    Suffix(Index, u8),
    Version(u32),
    Flag(Option<u8>),
    Tool(u8),
    DeleteOutput(Index),
    TamperOutput(Index, bool),
    ExtraFile(Index),
    HarmObject(Index, Harm),
    DropObjects,
    HarmCache(Index, Harm),
    HarmLog(Harm),
    TornLog(u16),
    Add(Seed),
    Remove(Index),
    Rename(Index),
    Second,
    Interrupt(usize),
    Kill(Index, usize),
    KillAnywhere(u16),
    FullDisk(u64),
    DropCache,
    Gc(usize),
    RestoreRun(Index),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![any::<u16>().prop_map(Harm::Flip), any::<u16>().prop_map(Harm::Cut), Just(Harm::Delete)]
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    prop_oneof![
        12 => (0u8..3, 0u8..3).prop_map(|(source, text)| Edit::Source(source, text)),
        3 => (0u8..3).prop_map(Edit::Touch),
        12 => (index(), 0u8..3).prop_map(|(stage, suffix)| Edit::Suffix(stage, suffix)),
        3 => (1u32..3).prop_map(Edit::Version),
        3 => prop::option::of(0u8..2).prop_map(Edit::Flag),
        1 => (0u8..2).prop_map(Edit::Tool),
        6 => index().prop_map(Edit::DeleteOutput),
        6 => (index(), any::<bool>()).prop_map(|(stage, same)| Edit::TamperOutput(stage, same)),
        2 => index().prop_map(Edit::ExtraFile),
        5 => (index(), harm()).prop_map(|(object, harm)| Edit::HarmObject(object, harm)),
        1 => Just(Edit::DropObjects),
        8 => (index(), harm()).prop_map(|(file, harm)| Edit::HarmCache(file, harm)),
        2 => harm().prop_map(Edit::HarmLog),
        4 => any::<u16>().prop_map(Edit::TornLog),
        4 => seed().prop_map(Edit::Add),
        3 => index().prop_map(Edit::Remove),
        3 => index().prop_map(Edit::Rename),
        5 => Just(Edit::Second),
        3 => (0usize..8).prop_map(Edit::Interrupt),
        5 => (index(), 1usize..4).prop_map(|(name, hit)| Edit::Kill(name, hit)),
        2 => any::<u16>().prop_map(Edit::KillAnywhere),
        6 => (0u64..40).prop_map(Edit::FullDisk),
        1 => Just(Edit::DropCache),
        4 => (0usize..4).prop_map(Edit::Gc),
        4 => index().prop_map(Edit::RestoreRun),
    ]
}

impl Edit {
    /// Returns what kind it is.
    pub(super) fn name(&self) -> String {
        let text = format!("{self:?}");
        text.split(['(', ' ']).next().unwrap_or_default().to_owned()
    }

    pub(super) fn apply(&self, trial: &mut Trial<'_>) {
        match self {
            Self::Source(source, text) => trial.world.sources[usize::from(*source)] = *text,
            Self::Touch(source) => {
                trial.lab.write(&format!("src/{source}"), &trial.world.source_text(usize::from(*source)));
            }
            Self::Suffix(stage, suffix) => trial.world.set_suffix(stage, *suffix),
            Self::Version(version) => trial.lab.version = *version,
            Self::Flag(flag) => {
                trial.world.flag = *flag;
                match flag {
                    Some(flag) => drop(trial.lab.env.insert("FLAG".to_owned(), flag.to_string())),
                    None => drop(trial.lab.env.remove("FLAG")),
                }
            }
            Self::Tool(tool) => trial.world.tool = *tool,
            Self::DeleteOutput(stage) => delete(&output(trial, stage)),
            Self::TamperOutput(stage, same_length) => {
                for path in files(&output(trial, stage)) {
                    let text = fs::read_to_string(&path).unwrap();
                    fs::write(&path, if *same_length { "~".repeat(text.len()) } else { format!("{text}~") }).unwrap();
                }
            }
            Self::ExtraFile(stage) => {
                let place = output(trial, stage);
                if place.is_dir() {
                    fs::write(place.join("extra.txt"), "extra").unwrap();
                }
            }
            Self::HarmObject(object, harm) => {
                let objects = sorted(&trial.lab.path("cache/objects"));
                if !objects.is_empty() && harm.apply(&objects[object.index(objects.len())]) {
                    (trial.store_damaged, trial.objects_lost) = (true, true);
                    // Another length or other content under a name that is a digest; a missing one may not be needed.
                    let report = trial.verify();
                    let found = report.findings.iter().any(|f| f.kind == FindingKind::ObjectCorrupt);
                    assert!(found || matches!(harm, Harm::Delete), "{report:?}");
                }
            }
            Self::DropObjects => {
                let _ = fs::remove_dir_all(trial.lab.path("cache/objects"));
                (trial.store_damaged, trial.objects_lost) = (true, true);
            }
            Self::HarmCache(file, harm) => {
                let cache = trial.lab.path("cache");
                let left_out = ["objects", "tmp", "logs", "runlog.jsonl", "collected"];
                let mut files = sorted(&cache);
                files.retain(|path| !left_out.iter().any(|name| path.starts_with(cache.join(name))));
                if !files.is_empty() {
                    harm.apply(&files[file.index(files.len())]);
                }
            }
            Self::HarmLog(harm) => {
                let log = trial.lab.path("cache/runlog.jsonl");
                let before = trial.vouched();
                if harm.apply(&log) {
                    trial.tampered = true;
                }
                // What no finished run vouches for yet may go unnoticed: a torn end, entries of a run that was killed.
                if trial.vouched() != before {
                    let report = trial.verify();
                    let found = report.findings.iter().any(|f| {
                        matches!(f.kind, FindingKind::LogBroken | FindingKind::LogCut | FindingKind::LockMismatch)
                    });
                    assert!(found, "{report:?}");
                }
            }
            Self::TornLog(at) => {
                // An entry whose writing was cut off: nothing but the log knows of it.
                let log = trial.lab.path("cache/runlog.jsonl");
                let text = fs::read_to_string(&log).unwrap_or_default();
                if let Some(last) = text.lines().last() {
                    let bytes = last.as_bytes();
                    let part = &bytes[..1 + usize::from(*at) % bytes.len()];
                    fs::write(&log, [text.as_bytes(), part].concat()).unwrap();
                }
            }
            Self::Add(seed) => {
                if trial.world.nodes.len() < 9 {
                    trial.world.add(seed);
                }
            }
            Self::Remove(stage) => trial.world.remove(stage),
            Self::Rename(stage) => trial.world.rename(stage),
            Self::Second => trial.second(),
            Self::Gc(keep_runs) => gc(trial, *keep_runs),
            Self::RestoreRun(run) => restore(trial, run),
            Self::DropCache => {
                let _ = fs::remove_dir_all(trial.lab.path("cache"));
                trial.log_len = 0;
            }
            Self::Interrupt(_) | Self::Kill(..) | Self::KillAnywhere(_) | Self::FullDisk(_) => {
                // There has to be something to do meanwhile.
                for source in &mut trial.world.sources {
                    *source = (*source + 1) % 3;
                }
            }
        }
        trial.write_project();
        match self {
            Self::Interrupt(after) => interrupt(trial, *after),
            Self::Kill(name, hit) => {
                let before = trial.outputs();
                let name = format!("{}:{hit}", failpoint::NAMES[name.index(failpoint::NAMES.len())]);
                was_killed(Order::of(&trial.lab).start(Some(&name)));
                commands_ended(&trial.lab.path(""));
                trial.nothing_half(&before, true);
            }
            Self::KillAnywhere(after) => {
                let before = trial.outputs();
                let mut child = Order::of(&trial.lab).start(None);
                std::thread::sleep(std::time::Duration::from_micros(u64::from(*after) / 2));
                child.kill().unwrap();
                was_killed(child);
                commands_ended(&trial.lab.path(""));
                trial.nothing_half(&before, true);
            }
            Self::FullDisk(blocks) => full_disk(trial, *blocks),
            _ => {}
        }
    }
}

impl Harm {
    /// Harms a file; returns whether its content is another now.
    fn apply(self, path: &Path) -> bool {
        let Ok(mut bytes) = fs::read(path) else { return false };
        let before = bytes.clone();
        match self {
            Self::Delete => {
                fs::remove_file(path).unwrap();
                return true;
            }
            Self::Flip(at) if !bytes.is_empty() => {
                let at = usize::from(at) % bytes.len();
                bytes[at] ^= 1 << (at % 8);
            }
            Self::Flip(_) => {}
            Self::Cut(at) => bytes.truncate(usize::from(at) % (bytes.len() + 1)),
        }
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o644));
        fs::write(path, &bytes).unwrap();
        bytes != before
    }
}

fn interrupt(trial: &Trial<'_>, after: usize) {
    let (cancel, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    let look = |_: &_| cancel.store(seen.fetch_add(1, Ordering::SeqCst) >= after, Ordering::SeqCst);
    let before = trial.outputs();
    let ran = trial.lab.run_until(&trial.options, &cancel, look).unwrap();
    let code = ran.summary.exit_code();
    assert!(code == 0 || code == 130, "{code}: {}", ran.errors());
    trial.nothing_half(&before, false);
}

fn full_disk(trial: &Trial<'_>, blocks: u64) {
    let Some(disk) = trial.disk else { return };
    let before = trial.outputs();
    let shell = trial.world.yaml().contains("run: ");
    disk.nearly_full(blocks, || match trial.lab.try_run(&trial.options) {
        Ok(ran) => {
            let code = ran.summary.exit_code();
            // A command that finds the disk full only fails.
            assert!(code == 0 || code == 3 || (code == 1 && shell), "{code}: {}", ran.errors());
        }
        Err(error) => assert_eq!(error.exit_code(), 3, "{error}"),
    });
    trial.nothing_half(&before, false);
}

fn gc(trial: &Trial<'_>, keep_runs: usize) {
    let (before, fresh) = (trial.outputs(), trial.fresh());
    let would = trial.lab.engine().gc(&GcOptions { keep_runs, delete: false }).unwrap();
    let did = trial.lab.engine().gc(&GcOptions { keep_runs, delete: true }).unwrap();
    assert_eq!(GcReport { dry_run: true, ..did }, would);
    assert_eq!(trial.outputs(), before);
    // What needed no work needs none now.
    let still = trial.fresh();
    assert!(fresh.iter().all(|name| still.contains(name)), "{fresh:?} {still:?}");
}

/// Either all of a run is put back, or it is said why not and nothing is.
fn restore(trial: &Trial<'_>, run: &Index) {
    let engine = trial.lab.engine();
    // A damaged log may not tell.
    let runs = engine.runs().unwrap_or_default();
    if runs.is_empty() {
        return;
    }
    let before = trial.outputs();
    let run = &runs[run.index(runs.len())].run;
    match engine.restore_run(run) {
        Ok(_) => assert!(trial.tampered || engine.restore_run(run).unwrap().is_empty()),
        Err(EngineError::Collected { .. } | EngineError::MissingObject(_)) => {
            // A damaged object shows only when it is read.
            assert!(trial.store_damaged || trial.outputs() == before);
        }
        Err(error) => assert!(trial.tampered, "{error}"),
    }
}

fn output(trial: &Trial<'_>, stage: &Index) -> PathBuf {
    let node = &trial.world.nodes[stage.index(trial.world.nodes.len())];
    trial.lab.path(node.output().trim_end_matches('/'))
}

fn files(place: &Path) -> Vec<PathBuf> {
    match place {
        place if place.is_dir() => walk(place),
        place if place.is_file() => vec![place.to_path_buf()],
        _ => Vec::new(),
    }
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut all = files(folder);
    all.sort();
    all
}

fn delete(place: &Path) {
    let _ = if place.is_dir() { fs::remove_dir_all(place) } else { fs::remove_file(place) };
}
