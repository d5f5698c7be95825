//! Compares what is on disk with what was recorded: outputs, store, run log.

use serde::{Deserialize, Serialize};

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
    /// Every difference; empty when all is well.
    pub findings: Vec<Finding>,
    /// Findings that were put right (only when asked to).
    pub repaired: Vec<Finding>,
}

impl VerifyReport {
    /// Returns the program's exit code: 0, or 1 when anything differs.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.findings.is_empty())
    }
}
