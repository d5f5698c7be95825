//! `run --watch`: runs, waits until the pipeline file or a source changes, runs again.
//!
//! A pipeline with errors is shown with them and waited for: the next save may mend it. What stages write, the cache and
//! the lock file are no reason to run. Changes that arrive together, as an editor or a checkout makes them, are one.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use logweir_engine::engine::{Engine, RunOptions};
use logweir_engine::error::EngineError;
use logweir_engine::reads::{Pattern, Source};
use notify::{Config, EventKind, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::json;

use crate::cli::Global;
use crate::commands::follow::{self, Follower};
use crate::commands::{Outcome, find, open};
use crate::render::diagnostic::Failure;
use crate::render::json::JsonLines;
use crate::render::{Screen, text};

/// A change counts once nothing has changed for so long.
const QUIET: Duration = Duration::from_millis(150);
/// What keeps changing is run after so long anyway.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often the user's wish to stop is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How often files are looked at where the system cannot tell; their times are told apart by the second.
const POLL: Duration = Duration::from_millis(500);
/// Most changed files named.
const MOST_NAMED: usize = 4;

/// Runs until the user stops it: 130 while something runs, else 0.
pub(super) fn watch(global: &Global, options: &RunOptions, screen: &Screen, cancel: &Arc<AtomicBool>) -> Outcome {
    let project = find(global)?;
    // A run enters the project; what was given relative to the current directory must not be looked for from there.
    let global = Global {
        directory: Some(project.root().to_path_buf()),
        file: Some(project.file().to_path_buf()),
        ..global.clone()
    };
    let mut options = options.clone();
    let mut eyes = Eyes::new();
    eyes.look_at(vec![Source::File(project.file().to_path_buf())], screen);
    let mut last: Option<Arc<Engine>> = None;
    for first in std::iter::once(true).chain(std::iter::repeat(false)) {
        match once(&global, &options, &mut eyes, &mut last, screen, cancel) {
            Ok(130) => return Ok(130),
            Ok(_) => {}
            Err(failure) if first && !is_mendable(&failure) => return Err(failure),
            Err(failure) => failure.show(screen),
        }
        // What was forced once is not forced by every change.
        options.force.clear();
        options.rehash = false;
        waiting(&eyes, screen);
        let Some(changed) = eyes.wait(last.as_deref(), cancel) else {
            // After the `^C` of the terminal.
            screen.note("");
            return Ok(0);
        };
        tell(&changed, project.root(), screen);
    }
    Ok(0)
}

fn once(
    global: &Global,
    options: &RunOptions,
    eyes: &mut Eyes,
    last: &mut Option<Arc<Engine>>,
    screen: &Screen,
    cancel: &Arc<AtomicBool>,
) -> Outcome {
    let engine = Arc::new(open(global)?);
    eyes.look_at(engine.sources(&options.targets)?, screen);
    *last = Some(Arc::clone(&engine));
    follow::carry_out(Follower::new(options, screen, cancel), &engine, None)
}

/// Whether the next save may mend it: then it is worth waiting even if nothing ran yet.
fn is_mendable(failure: &Failure) -> bool {
    matches!(failure, Failure::Spec(_) | Failure::Engine(EngineError::MissingInputs(_)))
}

fn waiting(eyes: &Eyes, screen: &Screen) {
    let (files, folders) = (eyes.files.len(), eyes.folders.len() + eyes.patterns.len());
    if screen.json {
        JsonLines::default().line(&json!({"event": "watch_waiting", "files": files, "folders": folders}));
    }
    let below = if folders > 0 { format!(" and {}", text::plural(folders, "folder")) } else { String::new() };
    screen.note(&screen.err.dim(&format!("watching {}{below}; Ctrl-C ends", text::plural(files, "file"))));
}

fn tell(changed: &BTreeSet<PathBuf>, root: &Path, screen: &Screen) {
    let name = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    let names: Vec<String> = changed.iter().map(name).collect();
    if screen.json {
        JsonLines::default().line(&json!({"event": "watch_changed", "paths": names}));
    }
    let more = names.len().saturating_sub(MOST_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let few = names[..names.len().min(MOST_NAMED)].join(", ");
    screen.note(&format!("\n{} {few}{more}", screen.err.cyan("changed:")));
}

/// Watches files and folders: by the system, or by looking where it cannot.
struct Eyes {
    watcher: Box<dyn Watcher>,
    by_looking: bool,
    sender: Sender<notify::Event>,
    inbox: Receiver<notify::Event>,
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
    patterns: BTreeSet<Pattern>,
    watched: BTreeSet<(PathBuf, bool)>,
}

impl Eyes {
    fn new() -> Self {
        let (sender, inbox) = mpsc::channel();
        let native = RecommendedWatcher::new(hand_to(&sender), Config::default());
        let by_looking = native.is_err();
        let watcher: Box<dyn Watcher> = match native {
            Ok(watcher) => Box::new(watcher),
            Err(_) => polling(&sender),
        };
        let (files, folders, patterns, watched) = Default::default();
        Self { watcher, by_looking, sender, inbox, files, folders, patterns, watched }
    }

    /// Watches these places and no others.
    fn look_at(&mut self, sources: Vec<Source>, screen: &Screen) {
        self.files.clear();
        self.folders.clear();
        self.patterns.clear();
        for source in sources {
            match source {
                Source::File(path) => self.files.insert(path),
                Source::Folder(path) => self.folders.insert(path),
                Source::Matching(pattern) => self.patterns.insert(pattern),
            };
        }
        if let Err(error) = self.arrange() {
            if !self.by_looking {
                screen.note(
                    &screen.err.dim(&format!("the system cannot watch all files ({error}): looking at them instead")),
                );
                self.watcher = polling(&self.sender);
                self.by_looking = true;
                self.watched.clear();
            }
            // What cannot be watched even so is not there, or not readable: a run says so.
            let _ = self.arrange();
        }
    }

    /// Adds and removes watches. A file is watched through its folder: editors replace files.
    fn arrange(&mut self) -> notify::Result<()> {
        let mut wanted = BTreeSet::new();
        for file in &self.files {
            wanted.extend(nearest(file.parent().unwrap_or(file)).map(|folder| (folder, false)));
        }
        for folder in self.folders.iter().cloned().chain(self.patterns.iter().map(Pattern::folder)) {
            wanted.extend(nearest(&folder).map(|found| (found.clone(), found == folder)));
        }
        // A folder that is watched with all below it needs no second watch.
        let twice = |(folder, below): &(PathBuf, bool)| !below && wanted.contains(&(folder.clone(), true));
        let wanted: BTreeSet<_> = wanted.iter().filter(|watch| !twice(watch)).cloned().collect();
        for gone in self.watched.difference(&wanted) {
            // It may have been removed, and its watch with it.
            let _ = self.watcher.unwatch(&gone.0);
        }
        self.watched = self.watched.intersection(&wanted).cloned().collect();
        for watch in wanted {
            if !self.watched.contains(&watch) {
                let mode = if watch.1 { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
                self.watcher.watch(&watch.0, mode)?;
                self.watched.insert(watch);
            }
        }
        Ok(())
    }

    /// Waits for a change and until it is over; `None` when the user wants to stop.
    fn wait(&self, engine: Option<&Engine>, cancel: &AtomicBool) -> Option<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        let mut first = None;
        loop {
            let wait = if changed.is_empty() { LOOK } else { QUIET };
            match self.inbox.recv_timeout(wait) {
                Ok(event) => {
                    let matters = |path: &PathBuf| self.concerns(path) && !engine.is_some_and(|e| e.makes(path));
                    changed.extend(event.paths.into_iter().filter(matters));
                    first = first.or_else(|| (!changed.is_empty()).then(Instant::now));
                }
                Err(RecvTimeoutError::Timeout) if !changed.is_empty() => return Some(changed),
                Err(_) => {}
            }
            if cancel.load(Ordering::Relaxed) {
                return None;
            }
            if first.is_some_and(|first| first.elapsed() > LONGEST_WAIT) {
                return Some(changed);
            }
        }
    }

    /// Whether a path is a watched file, matches a pattern, lies in a watched folder, or holds one of these.
    fn concerns(&self, path: &Path) -> bool {
        let holds = |set: &BTreeSet<PathBuf>| {
            let mut from = set.range::<Path, _>((Bound::Included(path), Bound::Unbounded));
            from.next().is_some_and(|found| found.starts_with(path))
        };
        // A folder that comes or goes below that of a pattern may hold files that match.
        let matches = |pattern: &Pattern| {
            let folder = pattern.folder();
            pattern.matches(path) || folder.starts_with(path) || (path.starts_with(folder) && path.is_dir())
        };
        holds(&self.files)
            || holds(&self.folders)
            || path.ancestors().any(|folder| self.folders.contains(folder))
            || self.patterns.iter().any(matches)
    }
}

/// Returns the folder, or the nearest above it that is there.
fn nearest(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|folder| folder.is_dir()).map(Path::to_path_buf)
}

/// Hands on what changes files; that they are read is nobody's business.
fn hand_to(sender: &Sender<notify::Event>) -> impl FnMut(notify::Result<notify::Event>) + Send + 'static {
    let sender = sender.clone();
    move |event| {
        if let Ok(event) = event
            && matches!(event.kind, EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_))
        {
            // Nobody listens once the command ends.
            let _ = sender.send(event);
        }
    }
}

fn polling(sender: &Sender<notify::Event>) -> Box<dyn Watcher> {
    let config = Config::default().with_poll_interval(POLL);
    Box::new(PollWatcher::new(hand_to(sender), config).expect("looking at files needs nothing of the system"))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn only_what_is_read_concerns_and_folders_not_yet_there_too() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let mut eyes = Eyes::new();
        eyes.look_at(vec![Source::File(at("src/deep/a.txt")), Source::Folder(at("conf"))], &Screen::PLAIN);
        let found: Vec<bool> = ["src/deep/a.txt", "src/deep", "src", "src/deep/b.txt", "conf/x/y", "conf", "other"]
            .into_iter()
            .map(|path| eyes.concerns(&at(path)))
            .collect();
        assert_eq!(found, [true, true, true, false, true, true, false]);
        assert_eq!(eyes.watched, BTreeSet::from([(dir.path().to_path_buf(), false)]), "nothing is there yet");
        std::fs::create_dir_all(at("conf")).unwrap();
        eyes.look_at(vec![Source::Folder(at("conf"))], &Screen::PLAIN);
        assert_eq!(eyes.watched, BTreeSet::from([(at("conf"), true)]));
    }

    /// Both ways of watching see a file that is replaced, as editors do.
    #[test]
    fn a_replaced_file_is_a_change() {
        for poll in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("a.txt");
            std::fs::write(&file, "1").unwrap();
            // Looking tells times apart by the second.
            let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(86_400);
            std::fs::File::options().append(true).open(&file).unwrap().set_modified(long_ago).unwrap();
            let mut eyes = Eyes::new();
            if poll {
                eyes.watcher = polling(&eyes.sender);
            }
            eyes.look_at(vec![Source::File(file.clone())], &Screen::PLAIN);
            std::fs::write(dir.path().join("b.txt"), "22").unwrap();
            std::fs::rename(dir.path().join("b.txt"), &file).unwrap();
            let changed = eyes.wait(None, &AtomicBool::new(false)).unwrap();
            assert_eq!(changed, BTreeSet::from([file]), "polling: {poll}");
        }
    }
}
