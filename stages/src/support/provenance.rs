//! What a machine-readable report says of its own origin. It holds what enters the key of its action and nothing else:
//! no time, no run, no place of a file.

use std::collections::BTreeMap;

use logweir_engine::stage::StageContext;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a report comes from, so that any copy of it can be traced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// Key of the action that wrote the file: it stands for code, parameters and the content of every input.
    pub key: String,
    /// Kind of the stage that wrote it.
    pub stage: String,
    /// Logical paths of what the stage read, by input slot. Their content is in the key.
    pub inputs: BTreeMap<String, Vec<String>>,
    /// What to ask for the whole story.
    pub how: String,
}

impl Provenance {
    /// Returns the provenance of what a stage of this kind writes.
    pub fn of(cx: &StageContext<'_>, kind: &str) -> Self {
        Self {
            key: cx.key.to_string(),
            stage: kind.to_owned(),
            inputs: (cx.inputs.iter())
                .filter(|(_, files)| !files.is_empty())
                .map(|(slot, files)| (slot.clone(), files.iter().map(|file| file.logical.clone()).collect()))
                .collect(),
            how: "`logweir lineage FILE` prints everything that led to this file, for any copy of it".to_owned(),
        }
    }
}
