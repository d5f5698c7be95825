//! The safetensors format, f32 tensors only: written with sorted names, so that equal tensors give equal bytes (the
//! general library keeps its metadata in an unordered map).
//!
//! Format: u64 little-endian length of a JSON header, the header (`{name: {dtype, shape, data_offsets}}`), the data.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

/// A named tensor: shape and values in row-major order.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Writes tensors.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, tensors: &Tensors) -> anyhow::Result<()> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, (shape, values)) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    let mut text = serde_json::to_string(&header)?;
    // The data must begin at a multiple of 8.
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(&data);
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads tensors.
///
/// # Errors
/// The file is missing, cut off, malformed, or holds other types than f32.
pub fn read(path: &Path) -> anyhow::Result<Tensors> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot open {}", path.display()))?;
    parse(&bytes).with_context(|| format!("{} is not a safetensors file", path.display()))
}

fn parse(bytes: &[u8]) -> anyhow::Result<Tensors> {
    let (length, rest) = bytes.split_at_checked(8).context("cut off")?;
    let length = u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize;
    let (header, data) = rest.split_at_checked(length).context("cut off")?;
    let header: BTreeMap<String, Value> = serde_json::from_slice(header)?;
    let mut tensors = Tensors::new();
    for (name, entry) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
        ensure!(entry["dtype"] == "F32", "tensor `{name}` is not f32");
        let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone())?;
        let (from, to): (usize, usize) = serde_json::from_value(entry["data_offsets"].clone())?;
        let raw = data.get(from..to).with_context(|| format!("tensor `{name}` is cut off"))?;
        ensure!(raw.len() == 4 * shape.iter().product::<usize>(), "tensor `{name}` has another size than its shape");
        let values = raw.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().expect("4 bytes"))).collect();
        tensors.insert(name, (shape, values));
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_survive_and_a_cut_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let mut tensors = Tensors::new();
        tensors.insert("b".into(), (vec![2], vec![1.5, -2.0]));
        tensors.insert("a".into(), (vec![2, 1], vec![0.1, f32::MIN_POSITIVE]));
        write(&path, &tensors).unwrap();
        assert_eq!(read(&path).unwrap(), tensors);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            assert!(parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
