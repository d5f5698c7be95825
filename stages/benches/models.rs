//! Times the model libraries as this program uses them, and hands the same rows to `scripts/bench-models.py`, which times
//! their Python counterparts beside it.
//!
//! `cargo test --release --workspace --bench models -- FEATURES LABELS SPLIT OUT`: features directory, labels, split; what both sides learn from
//! is written into OUT as little-endian arrays with `bench.json`, which holds the seconds measured here too.

#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use logweir_stages::autoencoder::AutoencoderParams;
use logweir_stages::autoencoder::train::{Benign, optimise, scaler};
use logweir_stages::lightgbm::LightgbmParams;
use logweir_stages::lightgbm::sys::{Booster, Dataset, Training};
use logweir_stages::support::learning::{Rows, write_json};
use logweir_stages::support::metrics::average_precision;
use logweir_stages::support::sparse::{Csr, Repeated};
use logweir_stages::support::traces::Fold;
use serde_json::{Value, json};

/// Boosting rounds.
const ROUNDS: usize = 200;

/// Passes over the rows of the autoencoder.
const EPOCHS: u32 = 20;

fn main() -> anyhow::Result<()> {
    // cargo adds `--bench` by itself.
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).filter(|a| a != "--bench").map(PathBuf::from).collect();
    let [features, labels, split, out] = arguments.as_slice() else {
        println!("usage: cargo test --release --workspace --bench models -- FEATURES LABELS SPLIT OUT");
        return Ok(());
    };
    std::fs::create_dir_all(out)?;
    let report = json!({
        "lightgbm": boosting(features, labels, split, out)?,
        "autoencoder": network(features, labels, split, out)?,
    });
    write_json(&out.join("bench.json"), &report)
}

/// Writes an array for numpy's `fromfile`.
fn array<T: Copy, const N: usize>(out: &Path, name: &str, values: &[T], bytes: fn(T) -> [u8; N]) -> anyhow::Result<()> {
    let path = out.join(name);
    let all: Vec<u8> = values.iter().flat_map(|&v| bytes(v)).collect();
    std::fs::write(&path, all).with_context(|| format!("cannot write {}", path.display()))
}

fn sparse(out: &Path, name: &str, rows: &Csr) -> anyhow::Result<()> {
    let offsets: Vec<u64> = rows.offsets.iter().map(|&o| o as u64).collect();
    array(out, &format!("{name}.offsets"), &offsets, u64::to_le_bytes)?;
    array(out, &format!("{name}.indices"), &rows.indices, u32::to_le_bytes)?;
    array(out, &format!("{name}.values"), &rows.values, f32::to_le_bytes)
}

/// All labelled rows of train, each by itself, with a validation set evaluated after each round; then a prediction of all rows.
fn boosting(features: &Path, labels: &Path, split: &Path, out: &Path) -> anyhow::Result<Value> {
    let params = LightgbmParams::default();
    let rows = Rows::read(features, labels, split, &params.groups)?;
    let of = |fold: Fold| -> (Csr, Vec<f32>) {
        let known = rows.of(fold).into_iter().filter_map(|row| Some((row, f32::from(u8::from(rows.label(row)?)))));
        let (selected, labels): (Vec<usize>, Vec<f32>) = known.unzip();
        (rows.rows.select(selected).rows(), labels)
    };
    let ((train, y), (validation, truth)) = (of(Fold::Train), of(Fold::Validation));
    ensure!(y.contains(&1.0) && truth.contains(&1.0), "train and validation need both classes");
    let library = params.library();
    let ones = |n: usize| vec![1.0_f32; n];
    let start = Instant::now();
    let train_set = Dataset::new(&train, &y, &ones(y.len()), &library, None)?;
    let validation_set = Dataset::new(&validation, &truth, &ones(truth.len()), &library, Some(&train_set))?;
    let mut training = Training::new(&train_set, Some(&validation_set), &library)?;
    let mut curve = Vec::new();
    for _ in 0..ROUNDS {
        training.update()?;
        curve.push(training.evaluate()?);
    }
    let booster = Booster::from_text(&training.text(ROUNDS)?)?;
    let trained = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let whole = rows.rows.rows();
    let _ = booster.margins(&whole)?;
    let predicted = start.elapsed().as_secs_f64();
    let margins = booster.margins(&validation)?;
    let positive: Vec<bool> = truth.iter().map(|&t| t > 0.5).collect();
    for (name, of) in [("train", &train), ("validation", &validation), ("all", &whole)] {
        sparse(out, name, of)?;
    }
    array(out, "train.labels", &y, f32::to_le_bytes)?;
    array(out, "validation.labels", &truth, f32::to_le_bytes)?;
    Ok(json!({
        "parameters": library, "rounds": ROUNDS, "columns": train.columns,
        "rows": {"train": y.len(), "validation": truth.len(), "predicted": rows.rows.len()},
        "train_seconds": trained, "predict_seconds": predicted,
        "average_precision": average_precision(&margins, &positive), "last_of_curve": curve.last(),
    }))
}

/// A fixed number of epochs over the benign rows of train, each by itself.
fn network(features: &Path, labels: &Path, split: &Path, out: &Path) -> anyhow::Result<Value> {
    let defaults = AutoencoderParams::default();
    let params = AutoencoderParams { epochs: EPOCHS, patience: EPOCHS, min_batches: 1, batch: 256, ..defaults };
    let rows = Rows::read(features, labels, split, &params.groups)?;
    let of = |fold: Fold| {
        let benign = rows.of(fold).into_iter().filter(|&row| rows.label(row) == Some(false));
        rows.rows.select(benign)
    };
    let (all, held) = (of(Fold::Train), of(Fold::Validation));
    let scaler = scaler(&params, &all);
    // Not made distinct: the time of an epoch is what is compared.
    let plain = |rows: Repeated| Benign { weights: vec![1.0; rows.len()], rows: rows.rows() };
    let (train, stop_on) = (plain(all), plain(held));
    let start = Instant::now();
    let fitted = optimise(&params, &scaler, &train, &stop_on, || Ok(()), |_| {})?;
    let seconds = start.elapsed().as_secs_f64();
    sparse(out, "benign", &train.rows)?;
    sparse(out, "held", &stop_on.rows)?;
    array(out, "centre", &scaler.centre, f32::to_le_bytes)?;
    array(out, "scale", &scaler.scale, f32::to_le_bytes)?;
    Ok(json!({
        "hidden": params.hidden, "bottleneck": params.bottleneck, "batch": params.batch, "epochs": fitted.curve.len(),
        "learning_rate": params.learning_rate, "clip": params.clip, "columns": train.rows.columns,
        "rows": train.rows.len(), "seconds": seconds, "first_error": fitted.curve.first(), "last_error": fitted.curve.last(),
    }))
}
