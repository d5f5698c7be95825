//! `ensemble_sessions.csv`: score and decision of every session.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context as _;

use crate::support::repeats::{Distinct, mix};
use crate::support::scoretable::ScoreTable;
use crate::support::time::rfc3339;

/// Writes seven columns, one row per session; `fused` are the scores of the stored models.
pub(super) fn write(path: &Path, scores: &ScoreTable, fused: &[f64], cut: f64) -> anyhow::Result<()> {
    let place = || format!("cannot write {}", path.display());
    let file = File::create(path).with_context(place)?;
    let mut out = csv::Writer::from_writer(BufWriter::with_capacity(1 << 18, file));
    out.write_record(["session_id", "timestamp", "p_lgbm", "z_ae", "fusion_score", "is_alert", "label"])?;
    let (p_lgbm, z_ae) = (Texts::of(&scores.p_lgbm), Texts::of(&scores.z_ae));
    let shown = Texts::of(&fused.iter().copied().map(Some).collect::<Vec<_>>());
    // Sessions are in order of their starts, many of which are the same second.
    let (mut last, mut time) = (None, String::new());
    for (row, fused) in fused.iter().enumerate() {
        if last != scores.start[row] || row == 0 {
            last = scores.start[row];
            time = last.map_or_else(String::new, rfc3339);
        }
        out.write_record([
            scores.ids[row].as_str(),
            &time,
            p_lgbm.at(row),
            z_ae.at(row),
            shown.at(row),
            if *fused >= cut { "1" } else { "0" },
            scores.label[row].map_or("", |l| if l { "1" } else { "0" }),
        ])?;
    }
    out.flush().with_context(place)
}

/// Numbers as texts; sessions alike have one score, which is written once.
struct Texts {
    of: Vec<u32>,
    distinct: Vec<String>,
}

impl Texts {
    fn of(values: &[Option<f64>]) -> Self {
        let bits: Vec<Option<u64>> = values.iter().map(|value| value.map(f64::to_bits)).collect();
        let hashes: Vec<u64> = bits.iter().map(|bits| bits.map_or(0, |bits| mix(1, bits))).collect();
        let found = Distinct::by(&hashes, |a, b| bits[a] == bits[b]);
        let text = |&row: &usize| values[row].map_or_else(String::new, |value| value.to_string());
        Self { distinct: found.first.iter().map(text).collect(), of: found.groups }
    }

    fn at(&self, row: usize) -> &str {
        &self.distinct[self.of[row] as usize]
    }
}
