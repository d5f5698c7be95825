//! Runs a kind on files in a temporary directory, for tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use logweir_engine::digest::Digest;
use logweir_engine::stage::{InputFile, StageContext, StageKind, StageMessage};
use serde_json::Value;

/// What a stage wrote and said.
pub(crate) struct Run {
    dir: tempfile::TempDir,
    /// Its warnings.
    pub(crate) warnings: Vec<String>,
}

impl Run {
    /// Where an output slot was written.
    pub(crate) fn path(&self, slot: &str) -> PathBuf {
        self.dir.path().join(slot)
    }

    /// The text of an output slot.
    pub(crate) fn text(&self, slot: &str) -> String {
        std::fs::read_to_string(self.path(slot)).unwrap()
    }

    /// All files written, with their bytes.
    pub(crate) fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut pending = vec![self.dir.path().to_path_buf()];
        while let Some(dir) = pending.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    let relative = path.strip_prefix(self.dir.path()).unwrap().to_owned();
                    files.insert(relative, std::fs::read(&path).unwrap());
                }
            }
        }
        files
    }
}

/// Runs a kind: inputs as (slot, logical path, place), outputs as slot names with `/` behind directories.
pub(crate) fn run(
    kind: &StageKind,
    with: &Value,
    inputs: &[(&str, &str, &Path)],
    outputs: &[&str],
    threads: usize,
) -> anyhow::Result<Run> {
    let made = (kind.make)(with).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let dir = tempfile::tempdir()?;
    let mut slots: BTreeMap<String, Vec<InputFile>> = BTreeMap::new();
    for (slot, logical, path) in inputs {
        let file = InputFile { logical: (*logical).to_owned(), path: path.to_path_buf() };
        slots.entry((*slot).to_owned()).or_default().push(file);
    }
    let mut places = BTreeMap::new();
    for output in outputs {
        let slot = output.trim_end_matches('/');
        let path = dir.path().join(slot);
        if output.ends_with('/') {
            std::fs::create_dir(&path)?;
        }
        places.insert(slot.to_owned(), path);
    }
    let warnings = Mutex::new(Vec::new());
    let messages = |message: StageMessage| {
        if let StageMessage::Warning { text } = message {
            warnings.lock().unwrap().push(text);
        }
    };
    let scratch = tempfile::tempdir()?;
    let cancelled = AtomicBool::new(false);
    let cx = StageContext {
        inputs: slots,
        outputs: places,
        scratch: scratch.path().to_owned(),
        env: BTreeMap::new(),
        threads,
        key: Digest::of_bytes(b"test"),
        messages: &messages,
        cancelled: &cancelled,
    };
    made.stage.run(&cx)?;
    Ok(Run { dir, warnings: warnings.into_inner().unwrap() })
}

/// The folder of real logs: `$LOGWEIR_SHARED`, else `../shared` beside the workspace; `None`, said aloud, without it.
pub(crate) fn real_data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("LOGWEIR_SHARED").map_or(beside, PathBuf::from);
    let data = shared.join("data");
    if !data.is_dir() {
        eprintln!("SKIPPED: no real logs at {}", data.display());
        return None;
    }
    Some(data)
}
