//! The action index: key → result, derived from the run log and rebuildable from it at any time.
//!
//! File `cache/index`: a header (how much of the log it covers, and the digest of the last line covered), a table of
//! results sorted by key, the last action of every stage, the runs, and a checksum. It is read whole and searched in
//! place, so opening costs one read whatever its size. Entries the log has beyond it are replayed into memory; a large
//! file is rewritten only when there are many of them, so a run that does little writes little. What the log reached is
//! also noted after every run in the small file `cache/head`, so that a cut of lines the index has not covered shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::failpoint;
use crate::fast::FastMap;
use crate::history::OutputRecord;
use crate::manifest::FileFact;
use crate::runlog::{self, ActionEntry, Entry, RunEntry};

const MAGIC: &[u8; 8] = b"LWINDX1\n";
/// Replaying fewer bytes than this at every start is cheaper than writing a large index at every end.
const REWRITE_FROM: u64 = 256 << 10;

/// One output of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultOutput {
    /// Content; of a directory: its manifest's digest and the bytes of all files.
    pub fact: FileFact,
    /// Whether it is a directory.
    pub directory: bool,
}

impl From<&OutputRecord> for ResultOutput {
    fn from(output: &OutputRecord) -> Self {
        let OutputRecord { digest, size, executable, .. } = *output;
        Self { fact: FileFact { digest, size, executable }, directory: output.is_directory() }
    }
}

/// What an executed action gave.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionResult {
    /// Where its entry begins in the run log.
    pub at: u64,
    /// Wall-clock seconds it took.
    pub seconds: f64,
    /// Outputs by slot.
    pub outputs: BTreeMap<String, ResultOutput>,
}

/// The last run of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// Where its entry begins in the run log.
    pub at: u64,
    /// Root object of its map.
    pub map: Digest,
}

/// The index of a project.
pub struct Index {
    file: PathBuf,
    base: Base,
    actions: FastMap<Digest, ActionResult>,
    /// By digest of a stage's name: where its last action is; and more by digests of the name and another word.
    stages: FastMap<Digest, u64>,
    runs: Vec<u64>,
    last: BTreeMap<String, LastRun>,
    covered: Covered,
    /// Digest and end of the last line the file on disk had covered when it was opened.
    promised: Option<Covered>,
    /// How far the log had come after the last run, where that is further.
    reached: Option<Covered>,
    /// The log did not fit: what was found is recorded once, not at every start.
    damaged: bool,
}

/// How much of the log is in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// Bytes.
    pub len: u64,
    /// Lines.
    pub lines: u64,
    /// Where the last line begins.
    pub last: u64,
    /// Digest of the last line.
    pub head: Digest,
}

impl Covered {
    fn nothing() -> Self {
        Self { len: 0, lines: 0, last: 0, head: runlog::genesis() }
    }
}

impl Index {
    /// Opens the index of a cache folder and brings it up to the log. Returns what is wrong with the log as lines for
    /// people: an index that was ahead of it, lines that do not fit.
    ///
    /// # Errors
    /// The log exists but cannot be read.
    pub fn open(cache: &Path) -> Result<(Self, Vec<String>), EngineError> {
        let file = cache.join("index");
        let mut damage = Vec::new();
        let mut index = Self::empty(file.clone());
        if let Some((base, covered, runs, last)) = fs::read(&file).ok().and_then(Base::read) {
            let promised = Some(covered);
            if covered.len == 0 || runlog::ends_with(cache, &covered) {
                index = Self { base, covered, runs, last, promised, ..index };
            } else {
                index.promised = promised;
                damage.push(cut(&covered));
            }
        }
        let noted = noted_head(cache).filter(|noted| noted.len > index.promised.map_or(0, |promised| promised.len));
        if let Some(noted) = noted {
            if damage.is_empty() && !runlog::ends_with(cache, &noted) {
                damage.push(cut(&noted));
            }
            index.reached = Some(noted);
        }
        for line in runlog::lines(cache, index.covered.len)? {
            let line = line.map_err(EngineError::io("read", &runlog::path_in(cache)))?;
            let number = index.covered.lines + 1;
            match Entry::parse(&line.bytes) {
                Ok((prev, entry)) => {
                    if prev != index.covered.head {
                        damage.push(format!("line {number} of the run log does not follow the line before it"));
                    }
                    match entry {
                        Entry::Action(action) => index.add_action(line.offset, &action),
                        Entry::Run(run) => index.add_run(line.offset, &run),
                    }
                }
                Err(e) => damage.push(format!("line {number} of the run log is no entry: {e}")),
            }
            let len = line.offset + line.bytes.len() as u64 + 1;
            index.covered = Covered { len, lines: number, last: line.offset, head: line.digest() };
        }
        index.damaged = !damage.is_empty();
        Ok((index, damage))
    }

    fn empty(file: PathBuf) -> Self {
        Self {
            file,
            base: Base::default(),
            actions: FastMap::default(),
            stages: FastMap::default(),
            runs: Vec::new(),
            last: BTreeMap::new(),
            covered: Covered::nothing(),
            promised: None,
            reached: None,
            damaged: false,
        }
    }

    /// Returns how much of the log is in the index.
    pub fn covered(&self) -> &Covered {
        &self.covered
    }

    /// Returns how far the log is known to have come: what the index file had covered, or what was noted after the
    /// last run.
    pub fn promised(&self) -> Option<&Covered> {
        self.reached.as_ref().or(self.promised.as_ref())
    }

    /// Returns the latest result of a key.
    pub fn get(&self, key: &Digest) -> Option<ActionResult> {
        self.actions.get(key).cloned().or_else(|| self.base.action(key))
    }

    /// Returns where the last executed action of a stage is in the run log.
    pub fn last_action(&self, pipeline: &str, stage: &str) -> Option<u64> {
        let name = stage_digest(pipeline, stage);
        self.stages.get(&name).copied().or_else(|| self.base.stage(&name))
    }

    /// Returns where the last action is that gave this stage this key's outputs at this stage's paths.
    pub fn action_of(&self, pipeline: &str, stage: &str, key: &Digest) -> Option<u64> {
        let name = action_digest(pipeline, stage, key);
        self.stages.get(&name).copied().or_else(|| self.base.stage(&name))
    }

    /// Returns how long the last executed action of a stage took, in seconds.
    pub fn last_seconds(&self, pipeline: &str, stage: &str) -> Option<f64> {
        let name = seconds_digest(pipeline, stage);
        self.stages.get(&name).copied().or_else(|| self.base.stage(&name)).map(f64::from_bits)
    }

    /// Returns where the runs are in the run log, oldest first.
    pub fn runs(&self) -> &[u64] {
        &self.runs
    }

    /// Returns the last run of a pipeline.
    pub fn last_run(&self, pipeline: &str) -> Option<LastRun> {
        self.last.get(pipeline).copied()
    }

    /// Returns the last run of every pipeline, by pipeline file.
    pub fn last_runs(&self) -> &BTreeMap<String, LastRun> {
        &self.last
    }

    /// Returns the latest result of every key, in no order that means anything but always the same.
    pub fn results(&self) -> Vec<(Digest, ActionResult)> {
        let mut all: BTreeMap<Digest, ActionResult> = self.base.actions().collect();
        all.extend(self.actions.iter().map(|(key, result)| (*key, result.clone())));
        all.into_iter().collect()
    }

    /// Adds an action just appended to the log at `at`.
    pub fn add_action(&mut self, at: u64, action: &ActionEntry) {
        let outputs = action.outputs.iter().map(|(slot, o)| (slot.clone(), o.into())).collect();
        self.actions.insert(action.key, ActionResult { at, seconds: action.seconds, outputs });
        let (pipeline, stage) = (&action.pipeline, &action.stage);
        self.stages.insert(stage_digest(pipeline, stage), at);
        self.stages.insert(action_digest(pipeline, stage, &action.key), at);
        self.stages.insert(seconds_digest(pipeline, stage), action.seconds.to_bits());
    }

    /// Adds a run just appended to the log at `at`.
    pub fn add_run(&mut self, at: u64, run: &RunEntry) {
        self.runs.push(at);
        self.last.insert(run.info.pipeline.clone(), LastRun { at, map: run.map });
    }

    /// Leaves only these results and forgets the names of actions (pipeline, stage, key) that are gone, unless an
    /// action of the same name stays; writes the file.
    ///
    /// # Errors
    /// The cache folder is not writable.
    pub(crate) fn compact<'n>(
        &mut self,
        results: BTreeMap<Digest, ActionResult>,
        gone: impl Iterator<Item = (&'n str, &'n str, &'n Digest)>,
        staying: impl Iterator<Item = (&'n str, &'n str, &'n Digest)>,
    ) -> Result<(), EngineError> {
        let name = |(pipeline, stage, key): (&str, &str, &Digest)| action_digest(pipeline, stage, key);
        let mut forget: BTreeSet<Digest> = gone.map(name).collect();
        for action in staying {
            forget.remove(&name(action));
        }
        let old = std::mem::take(&mut self.base);
        let newer = std::mem::take(&mut self.stages);
        self.stages = old.stages().chain(newer).filter(|(name, _)| !forget.contains(name)).collect();
        self.actions = results.into_iter().collect();
        self.promised = None;
        self.save()
    }

    /// Takes note of how far the log goes now.
    pub fn cover(&mut self, covered: Covered) {
        self.covered = covered;
    }

    /// Writes the index if it is small or the log has grown much beyond the file.
    ///
    /// # Errors
    /// The cache folder is not writable.
    pub fn save(&mut self) -> Result<(), EngineError> {
        let behind = match &self.promised {
            Some(promised) if promised.len <= self.covered.len && self.base.covered == promised.len => {
                self.covered.len - promised.len
            }
            _ => u64::MAX,
        };
        note_head(self.file.parent().unwrap_or(Path::new(".")), &self.covered)?;
        let large = self.base.bytes.len() as u64 >= REWRITE_FROM;
        if behind < REWRITE_FROM && large && !self.damaged {
            return Ok(());
        }
        let temp = self.file.with_extension(format!("{}.tmp", std::process::id()));
        failpoint::write("index_half", &temp, &self.encode()).map_err(EngineError::io("write", &temp))?;
        failpoint::hit("index_written");
        fs::rename(&temp, &self.file).map_err(EngineError::io("write", &self.file))?;
        failpoint::hit("index_saved");
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let (mut rows, mut blob) = (Vec::new(), Vec::new());
        let results = self.results();
        for (key, result) in &results {
            rows.extend_from_slice(key.as_bytes());
            rows.extend_from_slice(&(blob.len() as u64).to_le_bytes());
            write_result(result, &mut blob);
        }
        let mut stages: BTreeMap<Digest, u64> = self.base.stages().collect();
        stages.extend(self.stages.iter().map(|(name, at)| (*name, *at)));

        let mut bytes = Vec::with_capacity(rows.len() + blob.len() + stages.len() * ROW + 4096);
        bytes.extend_from_slice(MAGIC);
        for number in [self.covered.len, self.covered.lines, self.covered.last] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(self.covered.head.as_bytes());
        for count in [results.len(), blob.len(), stages.len(), self.runs.len(), self.last.len()] {
            bytes.extend_from_slice(&(count as u64).to_le_bytes());
        }
        bytes.extend_from_slice(&rows);
        bytes.extend_from_slice(&blob);
        for (name, at) in &stages {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&at.to_le_bytes());
        }
        for at in &self.runs {
            bytes.extend_from_slice(&at.to_le_bytes());
        }
        for (pipeline, run) in &self.last {
            write_text(pipeline, &mut bytes);
            bytes.extend_from_slice(&run.at.to_le_bytes());
            bytes.extend_from_slice(run.map.as_bytes());
        }
        let check = Digest::of_bytes(&bytes);
        bytes.extend_from_slice(check.as_bytes());
        bytes
    }
}

/// What the files of the index, `index` and `head`, do not have as the log has it. It is handed the log line by line.
pub(crate) struct Disagreements {
    found: Vec<(&'static str, String)>,
    /// The file, as far as it can be compared.
    file: Option<Opened>,
    /// An index made from the lines the file covers.
    log: Index,
    /// Every result of the log by where it is: the file may have an earlier one of a key.
    results: FastMap<u64, (Digest, ActionResult)>,
    /// Whether nothing was left out of the file by `gc`.
    complete: bool,
}

impl Disagreements {
    /// Reads the files of a cache folder. A lost file is nothing wrong: the next run makes it from the log.
    pub(crate) fn begin(cache: &Path) -> Self {
        let mut found = Vec::new();
        let changed = || "was changed: its check digest does not fit".to_owned();
        if cache.join("head").exists() && noted_head(cache).is_none() {
            found.push(("head", changed()));
        }
        let file = fs::read(cache.join("index")).ok().and_then(|bytes| {
            let opened = Base::read(bytes);
            if opened.is_none() {
                found.push(("index", changed()));
            }
            // Where the log was cut or changed that is said of the log.
            opened.filter(|(_, covered, ..)| covered.len == 0 || runlog::ends_with(cache, covered))
        });
        let complete = !cache.join("collected").exists();
        Self { found, file, log: Index::empty(PathBuf::new()), results: FastMap::default(), complete }
    }

    /// Takes the entry that begins at `at`.
    pub(crate) fn take(&mut self, at: u64, entry: &Entry) {
        if self.file.as_ref().is_none_or(|(_, covered, ..)| at >= covered.len) {
            return;
        }
        match entry {
            Entry::Action(action) => {
                self.log.add_action(at, action);
                self.results.insert(at, (action.key, self.log.actions[&action.key].clone()));
            }
            Entry::Run(run) => self.log.add_run(at, run),
        }
    }

    /// Returns the file and what is wrong with it, for each disagreement.
    pub(crate) fn finish(self) -> Vec<(&'static str, String)> {
        let Self { mut found, file, log, results, complete } = self;
        let Some((base, _, runs, last)) = file else { return found };
        let mut wrong = |what: String| found.push(("index", what));
        if runs != log.runs || last != log.last {
            wrong("does not list the runs that the log has".to_owned());
        }
        // `gc` leaves out results, and then an earlier one of a key may stand for a later.
        let mut count = 0;
        for (key, result) in base.actions() {
            count += 1;
            let at = result.at;
            if results.get(&at) != Some(&(key, result)) {
                wrong(format!("has a result of key {} that the log does not have at byte {at}", key.short()));
            }
        }
        if complete && count != log.actions.len() {
            wrong(format!("has {count} results, the log {}", log.actions.len()));
        }
        if base.stages().any(|(name, at)| log.stages.get(&name) != Some(&at)) {
            wrong("places the last action of a stage elsewhere than the log".to_owned());
        }
        found
    }
}

fn cut(covered: &Covered) -> String {
    let Covered { lines, head, .. } = covered;
    format!("the run log was cut or changed: line {lines} with digest {} is no longer where it was", head.short())
}

/// Notes how far the log has come; what it says is durable already.
///
/// # Errors
/// The cache folder is not writable.
pub(crate) fn note_head(cache: &Path, covered: &Covered) -> Result<(), EngineError> {
    let (path, temp) = (cache.join("head"), cache.join(format!("head.{}.tmp", std::process::id())));
    let Covered { len, lines, last, head } = covered;
    let text = format!("{len} {lines} {last} {head}");
    // With a check of its own: a byte that flips here must not pass for a log that was cut.
    let text = format!("{text} {}\n", Digest::of_bytes(text.as_bytes()).short());
    let write = || failpoint::write("head_half", &temp, text.as_bytes()).and_then(|()| fs::rename(&temp, &path));
    write().map_err(EngineError::io("write", &path))?;
    failpoint::hit("head_saved");
    Ok(())
}

fn noted_head(cache: &Path) -> Option<Covered> {
    let text = fs::read_to_string(cache.join("head")).ok()?;
    let (text, check) = text.trim_end().rsplit_once(' ')?;
    if Digest::of_bytes(text.as_bytes()).short() != check {
        return None;
    }
    let mut words = text.split_whitespace();
    let mut number = || words.next()?.parse().ok();
    let (len, lines, last) = (number()?, number()?, number()?);
    Some(Covered { len, lines, last, head: words.next()?.parse().ok()? })
}

fn stage_digest(pipeline: &str, stage: &str) -> Digest {
    Digest::of_bytes(format!("{pipeline}\0{stage}").as_bytes())
}

fn action_digest(pipeline: &str, stage: &str, key: &Digest) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes()).update(pipeline.as_bytes()).update(b"\0").update(stage.as_bytes());
    Digest::from(*hasher.finalize().as_bytes())
}

fn seconds_digest(pipeline: &str, stage: &str) -> Digest {
    Digest::of_bytes(format!("{pipeline}\0{stage}\0seconds").as_bytes())
}

/// Bytes of a table row: a digest and a number.
const ROW: usize = 40;

/// The file as read: tables searched in place.
#[derive(Default)]
struct Base {
    bytes: Vec<u8>,
    rows: std::ops::Range<usize>,
    blob: std::ops::Range<usize>,
    stages: std::ops::Range<usize>,
    covered: u64,
}

type Opened = (Base, Covered, Vec<u64>, BTreeMap<String, LastRun>);

impl Base {
    fn read(bytes: Vec<u8>) -> Option<Opened> {
        let body = bytes.len().checked_sub(32)?;
        if Digest::of_bytes(&bytes[..body]).as_bytes() != &bytes[body..] {
            return None;
        }
        let mut reader = Reader { bytes: &bytes[..body], at: 0 };
        if &reader.take::<8>()? != MAGIC {
            return None;
        }
        let (len, lines, last) = (reader.number()?, reader.number()?, reader.number()?);
        let covered = Covered { len, lines, last, head: Digest::from(reader.take::<32>()?) };
        let counts = [reader.number()?, reader.number()?, reader.number()?, reader.number()?, reader.number()?];
        let [actions, blob, stages, runs, pipelines] = counts.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let rows = reader.skip(actions.checked_mul(ROW)?)?;
        let blob = reader.skip(blob)?;
        let stages = reader.skip(stages.checked_mul(ROW)?)?;
        let runs = (0..runs).map(|_| reader.number()).collect::<Option<Vec<u64>>>()?;
        let mut last_runs = BTreeMap::new();
        for _ in 0..pipelines {
            let pipeline = reader.text()?;
            let at = reader.number()?;
            last_runs.insert(pipeline, LastRun { at, map: Digest::from(reader.take::<32>()?) });
        }
        Some((Self { rows, blob, stages, covered: len, bytes }, covered, runs, last_runs))
    }

    fn find(&self, table: &std::ops::Range<usize>, key: &Digest) -> Option<u64> {
        let rows: &[[u8; ROW]] = self.bytes[table.clone()].as_chunks().0;
        let row = rows.binary_search_by(|row| row[..32].cmp(key.as_bytes())).ok()?;
        rows[row].last_chunk().map(|number| u64::from_le_bytes(*number))
    }

    fn table(&self, table: &std::ops::Range<usize>) -> impl Iterator<Item = (Digest, u64)> + '_ {
        let rows: &[[u8; ROW]] = self.bytes[table.clone()].as_chunks().0;
        rows.iter().map(|row| {
            let key: [u8; 32] = *row.first_chunk().expect("a row begins with a digest");
            let number: [u8; 8] = *row.last_chunk().expect("a row ends with a number");
            (Digest::from(key), u64::from_le_bytes(number))
        })
    }

    fn action(&self, key: &Digest) -> Option<ActionResult> {
        self.result_at(self.find(&self.rows, key)?)
    }

    fn stage(&self, name: &Digest) -> Option<u64> {
        self.find(&self.stages, name)
    }

    fn actions(&self) -> impl Iterator<Item = (Digest, ActionResult)> + '_ {
        self.table(&self.rows).filter_map(|(key, at)| Some((key, self.result_at(at)?)))
    }

    fn stages(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        self.table(&self.stages)
    }

    fn result_at(&self, at: u64) -> Option<ActionResult> {
        let mut reader = Reader { bytes: &self.bytes[self.blob.clone()], at: usize::try_from(at).ok()? };
        let at = reader.number()?;
        let seconds = f64::from_le_bytes(reader.take()?);
        let count = reader.number()?;
        let mut outputs = BTreeMap::new();
        for _ in 0..count {
            let slot = reader.text()?;
            let size = reader.number()?;
            let [flags] = reader.take()?;
            let digest = Digest::from(reader.take::<32>()?);
            let fact = FileFact { digest, size, executable: flags & 1 != 0 };
            outputs.insert(slot, ResultOutput { fact, directory: flags & 2 != 0 });
        }
        Some(ActionResult { at, seconds, outputs })
    }
}

fn write_result(result: &ActionResult, blob: &mut Vec<u8>) {
    blob.extend_from_slice(&result.at.to_le_bytes());
    blob.extend_from_slice(&result.seconds.to_le_bytes());
    blob.extend_from_slice(&(result.outputs.len() as u64).to_le_bytes());
    for (slot, output) in &result.outputs {
        write_text(slot, blob);
        blob.extend_from_slice(&output.fact.size.to_le_bytes());
        blob.push(u8::from(output.fact.executable) | (u8::from(output.directory) << 1));
        blob.extend_from_slice(output.fact.digest.as_bytes());
    }
}

fn write_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self, len: usize) -> Option<std::ops::Range<usize>> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len())?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let range = self.skip(N)?;
        self.bytes[range].first_chunk().copied()
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.number()?).ok()?;
        let range = self.skip(len)?;
        String::from_utf8(self.bytes[range].to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runlog::tests::action;

    fn write_log(cache: &Path, count: u64) {
        let (mut writer, _) = runlog::Writer::open(cache, runlog::genesis(), 0).unwrap();
        for n in 0..count {
            writer.append(&Entry::Action(Box::new(action(&format!("s{n}"), n)))).unwrap();
        }
    }

    fn force_save(index: &mut Index) {
        index.promised = None;
        index.save().unwrap();
    }

    #[test]
    fn the_index_from_its_file_is_the_index_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), 50);
        let (mut replayed, damage) = Index::open(dir.path()).unwrap();
        assert!(damage.is_empty());
        force_save(&mut replayed);
        let (read, damage) = Index::open(dir.path()).unwrap();
        assert!(damage.is_empty() && read.actions.is_empty(), "nothing had to be replayed");
        assert_eq!(read.results(), replayed.results());
        assert_eq!(read.covered, replayed.covered);
        for n in 0..50 {
            let wanted = action(&format!("s{n}"), n);
            let found = read.get(&wanted.key).unwrap();
            assert_eq!(found.outputs["o"].fact.digest, wanted.outputs["o"].digest);
            assert_eq!(read.last_action("pipeline.yaml", &wanted.stage), Some(found.at));
            assert_eq!(runlog::action_at(dir.path(), found.at).unwrap(), wanted);
        }
        assert_eq!(read.get(&Digest::of_bytes(b"no")), None);
        assert_eq!(read.last_action("other.yaml", "s1"), None);
    }

    #[test]
    fn a_damaged_index_is_rebuilt_and_a_cut_log_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), 5);
        let (mut index, _) = Index::open(dir.path()).unwrap();
        let wanted = index.results();
        force_save(&mut index);
        let file = dir.path().join("index");
        let bytes = fs::read(&file).unwrap();
        for at in (0..bytes.len()).step_by(11) {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            fs::write(&file, &broken).unwrap();
            let (index, damage) = Index::open(dir.path()).unwrap();
            assert_eq!((index.results(), damage.len()), (wanted.clone(), 0), "byte {at}");
        }
        fs::write(&file, &bytes).unwrap();
        let log = fs::read(runlog::path_in(dir.path())).unwrap();
        let cut = log[..log.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        fs::write(runlog::path_in(dir.path()), &log[..cut]).unwrap();
        let (index, damage) = Index::open(dir.path()).unwrap();
        assert_eq!((index.results().len(), damage.len()), (4, 1));
        assert_eq!(index.promised().unwrap().lines, 5);
    }
}
