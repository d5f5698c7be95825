//! Which test sessions repeat an event sequence: a model that has seen the exact sequence in training need not have
//! learnt anything to score it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, ensure};
use rayon::prelude::*;

use crate::support::scoretable::{Fold, ScoreTable};
use crate::support::traces::Events;

/// A fingerprint of each session's event sequence, in the order of the score table: the first 128 bits of blake3.
pub(crate) struct Sequences(Vec<u128>);

impl Sequences {
    /// Reads the sequences of the sessions of `table`.
    ///
    /// # Errors
    /// The file cannot be read, or lacks a scored session.
    pub(crate) fn read(path: &Path, scores: &ScoreTable) -> anyhow::Result<Self> {
        let sessions = Events::read(path)?;
        let rows = 0..sessions.ids.len();
        let prints: Vec<u128> = rows.into_par_iter().map(|row| fingerprint(sessions.of(row))).collect();
        if sessions.ids == scores.ids {
            return Ok(Self(prints));
        }
        let by_id: BTreeMap<&str, u128> = sessions.ids.iter().map(String::as_str).zip(prints).collect();
        let prints = scores.ids.iter().enumerate().map(|(row, id)| {
            let found = by_id.get(id.as_str()).copied();
            found.with_context(|| format!("session {id} (row {} of the scores) is not in {}", row + 1, path.display()))
        });
        Ok(Self(prints.collect::<anyhow::Result<_>>()?))
    }

    /// Returns the labelled rows of `test` whose sequence no training session has.
    pub(crate) fn unseen(&self, scores: &ScoreTable, test: &[usize]) -> Vec<usize> {
        let train = (0..scores.len()).filter(|&row| scores.fold[row] == Fold::Train);
        let mut seen: Vec<u128> = train.map(|row| self.0[row]).collect();
        seen.sort_unstable();
        seen.dedup();
        test.iter().copied().filter(|&row| seen.binary_search(&self.0[row]).is_err()).collect()
    }

    /// Returns the rows of `test` without repeats: the first of each distinct sequence and label.
    pub(crate) fn distinct(&self, scores: &ScoreTable, test: &[usize]) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        test.iter().copied().filter(|&row| seen.insert((self.0[row], scores.label[row]))).collect()
    }
}

fn fingerprint(events: &[u32]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    let mut block = [0u8; 256];
    for chunk in events.chunks(64) {
        for (bytes, event) in block.chunks_exact_mut(4).zip(chunk) {
            bytes.copy_from_slice(&event.to_le_bytes());
        }
        hasher.update(&block[..4 * chunk.len()]);
    }
    let bytes: [u8; 16] = hasher.finalize().as_bytes()[..16].try_into().expect("a digest has 32 bytes");
    u128::from_le_bytes(bytes)
}

/// Reads `types.csv`: the type of each anomalous session.
///
/// # Errors
/// The file cannot be read or lacks a column.
pub(crate) fn read_types(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let place = || format!("in {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(place)?;
    let header = reader.headers().with_context(place)?.clone();
    let column = |name: &str| header.iter().position(|h| h == name);
    let (Some(id), Some(kind)) = (column("session_id"), column("type")) else {
        anyhow::bail!("{}: columns `session_id` and `type` are needed, found {header:?}", path.display());
    };
    let mut types = BTreeMap::new();
    for row in reader.records() {
        let row = row.with_context(place)?;
        ensure!(row.len() == header.len(), "{}: a row of {} fields", path.display(), row.len());
        types.insert(row[id].to_owned(), row[kind].to_owned());
    }
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::scoretable::tests::frame;
    use crate::support::table::{list_column, write_parquet};
    use polars::prelude::*;

    #[test]
    fn unseen_and_distinct_sequences_in_any_order_of_the_file() {
        let scores = ScoreTable::from_frame(&frame(&[
            ("train", Some(0), 0.1),
            ("test", Some(0), 0.1),
            ("test", Some(1), 0.9),
            ("test", Some(1), 0.8),
            ("test", Some(0), 0.2),
        ]))
        .unwrap();
        // s0 = s1 = [1, 2]; s2 = s3 = [1, 3]; s4 = [2, 1]; the file lists them backwards.
        let sequences: [(&str, &[u32]); 5] =
            [("s4", &[2, 1]), ("s3", &[1, 3]), ("s2", &[1, 3]), ("s1", &[1, 2]), ("s0", &[1, 2])];
        let values: Vec<u32> = sequences.iter().flat_map(|s| s.1.iter().copied()).collect();
        let mut frame = DataFrame::new_infer_height(vec![
            Column::new("session_id".into(), sequences.map(|s| s.0)),
            list_column::<UInt32Type>("events", &[0, 2, 4, 6, 8, 10], &values),
        ])
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.parquet");
        write_parquet(&path, &mut frame).unwrap();
        let sequences = Sequences::read(&path, &scores).unwrap();
        let test = scores.rows_of(Fold::Test);
        assert_eq!(sequences.unseen(&scores, &test), [2, 3, 4]);
        assert_eq!(sequences.distinct(&scores, &test), [1, 2, 4]);
    }

    #[test]
    fn a_scored_session_without_a_sequence_is_named() {
        let scores = ScoreTable::from_frame(&frame(&[("test", None, 0.1)])).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.parquet");
        let mut other = DataFrame::new_infer_height(vec![
            Column::new("session_id".into(), ["x"]),
            list_column::<UInt32Type>("events", &[0, 1], &[7]),
        ])
        .unwrap();
        write_parquet(&path, &mut other).unwrap();
        let error = Sequences::read(&path, &scores).err().unwrap();
        assert!(error.to_string().contains("session s0 (row 1"), "{error}");
    }

    #[test]
    fn long_sequences_that_differ_late_have_other_fingerprints() {
        let mut a: Vec<u32> = (0..1000).collect();
        let before = fingerprint(&a);
        a[999] = 0;
        assert_ne!(before, fingerprint(&a));
        assert_ne!(fingerprint(&[1]), fingerprint(&[1, 0]));
    }
}
