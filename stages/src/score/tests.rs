//! The five kinds one after the other, on a toy log and (where it is) on the real sample.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Mutex;

use logweir_engine::digest::Digest;
use logweir_engine::stage::{InputFile, StageContext, StageMessage};
use polars::prelude::{Column, DataType, Int64Type, TimeUnit, UInt32Type};
use serde_json::{Value, json};

use super::*;
use crate::support::learning::read_json;
use crate::support::metrics::{Confusion, average_precision, steps};
use crate::support::table::{list_column, read_parquet, write_parquet};

/// Runs a kind with input and output paths below `root`; directories end in `/`.
pub(crate) fn run(
    root: &Path,
    kind: &str,
    params: Value,
    inputs: &[(&str, &str)],
    outputs: &[(&str, &str)],
    threads: usize,
) -> anyhow::Result<Vec<StageMessage>> {
    let registry = crate::registry();
    let made = (registry.get(kind).expect("a kind").make)(&params).map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let messages = Mutex::new(Vec::new());
    let sink = |m: StageMessage| messages.lock().unwrap().push(m);
    let file = |path: &str| {
        let at = root.join(path);
        if at.exists() { vec![InputFile { logical: path.to_owned(), path: at }] } else { vec![] }
    };
    for (_, path) in outputs {
        let at = root.join(path);
        std::fs::create_dir_all(if path.ends_with('/') { &at } else { at.parent().unwrap() })?;
    }
    let cx = StageContext {
        inputs: inputs.iter().map(|(slot, path)| ((*slot).to_owned(), file(path))).collect(),
        outputs: outputs.iter().map(|(slot, path)| ((*slot).to_owned(), root.join(path))).collect(),
        scratch: root.to_path_buf(),
        env: BTreeMap::new(),
        threads,
        key: Digest::of_bytes(b"test"),
        messages: &sink,
        cancelled: &AtomicBool::new(false),
    };
    made.stage.run(&cx)?;
    Ok(messages.into_inner().unwrap())
}
