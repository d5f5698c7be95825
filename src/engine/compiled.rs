//! A checked pipeline, kept in `cache/` so that the next start need not read and check its text again.
//!
//! The file is trusted only if everything that decides what the text means is as it was: the text, the profile, the
//! program with its kinds, and every environment variable that was looked up while reading. `--set` is for one run, so
//! such runs read the text. Errors and their places always come from the text: what did not check is never kept.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::key::SCHEMA;
use crate::project::Project;
use crate::spec::{self, Action, LoadOptions, SourceText, Spec, SpecErrors, StageSpec};
use crate::stage::Registry;

/// Texts shorter than this are checked faster than another file is read.
const WORTH_KEEPING: usize = 32 << 10;

/// Everything that decides what a pipeline file means.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// The project and the file.
    pub project: &'a Project,
    /// Its text.
    pub text: &'a str,
    /// `--profile`.
    pub profile: Option<&'a str>,
    /// Every `--set`.
    pub sets: &'a [String],
    /// The kinds it may use.
    pub registry: &'a Registry,
    /// The environment of the process.
    pub env: &'a BTreeMap<String, String>,
}

/// Variables that were looked up, with the digest of the value found; `None` where unset.
pub type Lookups = Vec<(String, Option<Digest>)>;

impl Reading<'_> {
    /// Returns a digest of everything but the environment.
    pub fn identity(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("logweir pipeline identity v1");
        let mut add = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        };
        add(&SCHEMA.to_le_bytes());
        add(&program());
        add(self.project.file_name().as_bytes());
        add(self.text.as_bytes());
        add(self.profile.unwrap_or_default().as_bytes());
        add(&[u8::from(self.profile.is_some())]);
        self.sets.iter().for_each(|set| add(set.as_bytes()));
        for kind in self.registry.iter() {
            add(kind.name.as_bytes());
            add(&kind.version.to_le_bytes());
            add(&kind.code);
        }
        Digest::from(*hasher.finalize().as_bytes())
    }

    /// Returns where something about this pipeline under this profile is kept; `None` under `--set`.
    pub fn kept(&self, cache: &Path, what: &str) -> Option<PathBuf> {
        if !self.sets.is_empty() {
            return None;
        }
        let name = format!("{}\0{}", self.project.file_name(), self.profile.unwrap_or_default());
        Some(cache.join("pipelines").join(format!("{}.{what}", Digest::of_bytes(name.as_bytes()).short())))
    }

    /// Whether variables have the values they had.
    pub fn holds(&self, lookups: &[(String, Option<Digest>)]) -> bool {
        lookups.iter().all(|(name, value)| self.variable(name) == *value)
    }

    /// Returns the digest of a variable's value.
    pub fn variable(&self, name: &str) -> Option<Digest> {
        self.env.get(name).map(|value| Digest::of_bytes(value.as_bytes()))
    }

    /// Returns the checked pipeline and the variables it looked up: as it was kept, else from its text.
    ///
    /// # Errors
    /// Everything that is wrong with the text, at once.
    pub fn spec(&self, identity: &Digest) -> Result<(Spec, Lookups), SpecErrors> {
        let file = self.kept(&self.project.cache(), "spec").filter(|_| self.text.len() >= WORTH_KEEPING);
        if let Some(known) = file.as_deref().and_then(|file| self.read(file, identity)) {
            return Ok(known);
        }
        let seen = RefCell::new(BTreeMap::new());
        let env = |name: &str| {
            seen.borrow_mut().insert(name.to_owned(), self.variable(name));
            self.env.get(name).cloned()
        };
        let source = SourceText { name: self.project.file_name(), text: self.text.to_owned() };
        let options = LoadOptions { profile: self.profile.map(str::to_owned), sets: self.sets.to_vec(), env: &env };
        let spec = spec::load(&source, self.registry, &options)?;
        let lookups: Lookups = seen.into_inner().into_iter().collect();
        if let Some(file) = file {
            // Without it the next start takes longer, that is all.
            let _ = keep(&file, identity, &spec, &lookups);
        }
        Ok((spec, lookups))
    }

    fn read(&self, file: &Path, identity: &Digest) -> Option<(Spec, Lookups)> {
        let bytes = fs::read(file).ok()?;
        let body = unsealed(&bytes)?;
        let kept: Kept<'_> = postcard::from_bytes(body).ok()?;
        let lookups: Lookups = kept.lookups;
        if kept.identity != *identity.as_bytes() || !self.holds(&lookups) {
            return None;
        }
        let mut spec = kept.spec;
        for (stage, action) in spec.stages.iter_mut().zip(kept.actions) {
            stage.action = match action {
                KeptAction::Uses(name) => Action::Builtin { kind: *self.registry.get(name)? },
                KeptAction::Run(command) => Action::Shell { command: command.to_owned() },
            };
        }
        Some((spec, lookups))
    }
}

#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    identity: [u8; 32],
    #[serde(with = "lookups")]
    lookups: Lookups,
    #[serde(borrow)]
    actions: Vec<KeptAction<'a>>,
    spec: Spec,
}

/// What a stage does: kinds are found again by name.
#[derive(Serialize, Deserialize)]
enum KeptAction<'a> {
    Uses(&'a str),
    Run(&'a str),
}

/// Lookups without hexadecimal digits.
mod lookups {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{Digest, Lookups};

    type Plain = Vec<(String, Option<[u8; 32]>)>;

    pub(super) fn serialize<S: Serializer>(lookups: &Lookups, serializer: S) -> Result<S::Ok, S::Error> {
        let plain: Plain = lookups.iter().map(|(name, value)| (name.clone(), value.map(|v| *v.as_bytes()))).collect();
        plain.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lookups, D::Error> {
        let plain = Plain::deserialize(deserializer)?;
        Ok(plain.into_iter().map(|(name, value)| (name, value.map(Digest::from))).collect())
    }
}

fn keep(file: &Path, identity: &Digest, spec: &Spec, lookups: &Lookups) -> std::io::Result<()> {
    let action = |stage: &StageSpec| -> Vec<u8> {
        let action = match &stage.action {
            Action::Builtin { kind } => KeptAction::Uses(kind.name),
            Action::Shell { command } => KeptAction::Run(command),
        };
        postcard::to_stdvec(&action).unwrap_or_default()
    };
    // The fields of `Kept` one after the other: borrowing all of a large pipeline beats cloning it.
    let encode = || -> postcard::Result<Vec<u8>> {
        let mut bytes = postcard::to_stdvec(identity.as_bytes())?;
        let plain: Vec<(&str, Option<[u8; 32]>)> =
            lookups.iter().map(|(name, value)| (name.as_str(), value.map(|v| *v.as_bytes()))).collect();
        bytes.extend(postcard::to_stdvec(&plain)?);
        bytes.extend(postcard::to_stdvec(&spec.stages.len())?);
        spec.stages.iter().for_each(|stage| bytes.extend(action(stage)));
        bytes.extend(postcard::to_stdvec(spec)?);
        Ok(bytes)
    };
    let bytes = encode().map_err(std::io::Error::other)?;
    write_sealed(file, bytes)
}

/// Writes bytes and their digest, whole.
pub(crate) fn write_sealed(file: &Path, mut bytes: Vec<u8>) -> std::io::Result<()> {
    let check = Digest::of_bytes(&bytes);
    bytes.extend_from_slice(check.as_bytes());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let temp = file.with_extension(format!("{}.tmp", std::process::id()));
    let mut out = fs::File::create(&temp)?;
    std::io::Write::write_all(&mut out, &bytes)?;
    fs::rename(&temp, file)
}

/// Returns the bytes without their digest, if it is theirs.
pub(crate) fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    (Digest::of_bytes(body).as_bytes() == check).then_some(body)
}

/// What identifies the running program: its version, and the size and time of its file.
fn program() -> Vec<u8> {
    let mut text = env!("CARGO_PKG_VERSION").as_bytes().to_vec();
    if let Some(meta) = std::env::current_exe().ok().and_then(|path| fs::metadata(path).ok()) {
        text.extend(meta.len().to_le_bytes());
        text.extend(meta.mtime().to_le_bytes());
        text.extend(meta.mtime_nsec().to_le_bytes());
    }
    text
}

/// Parameters as JSON text: their shape is known only to their kind.
pub(crate) mod json_text {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use serde_json::Value;

    pub(crate) fn serialize<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        if text == "{}" {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_str(text).map_err(serde::de::Error::custom)
    }
}
