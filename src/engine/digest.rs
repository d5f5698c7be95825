//! Content digests and the canonical encoding that keys are hashed over.
//!
//! Owns: the [`Digest`] newtype, hashing of bytes, files and JSON values. Does not own: deciding when a file must be
//! hashed again (that is `statcache`).

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Files at least this long are hashed by all cores through a memory map.
const PARALLEL_FROM: u64 = 1 << 20;

static HASHED: AtomicU64 = AtomicU64::new(0);

/// Returns how many files this process has hashed: what a run costs is told by counting, not by a clock.
pub fn files_hashed() -> u64 {
    HASHED.load(Ordering::Relaxed)
}

/// A blake3 digest; shown and stored as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Returns the digest of the canonical encoding of `value` in the given derivation context.
    pub fn of_json(context: &str, value: &Value) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(canonical_json(value).as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// Returns the digest of a file's content.
    ///
    /// # Errors
    /// The file cannot be opened, mapped or read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        HASHED.fetch_add(1, Ordering::Relaxed);
        let mut hasher = blake3::Hasher::new();
        if file.metadata()?.len() >= PARALLEL_FROM {
            hasher.update_mmap_rayon(path)?;
        } else {
            hasher.update_reader(file)?;
        }
        Ok(Self(*hasher.finalize().as_bytes()))
    }

    /// Returns the raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first twelve hexadecimal digits, for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = blake3::HexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(*blake3::Hash::from_hex(text)?.as_bytes()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

/// Reads a digest where its text lies: a `String` or `Cow` would be a copy of every one.
struct Text;

impl Visitor<'_> for Text {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hexadecimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
        text.parse().map_err(E::custom)
    }
}

/// Encodes a JSON value with sorted object keys and no white space: equal values give equal bytes.
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(item, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_values_in_another_order_have_one_encoding() {
        let a = json!({"b": [1, 2.5, null], "a": {"y": true, "x": "é\n"}});
        let b = json!({"a": {"x": "é\n", "y": true}, "b": [1, 2.5, null]});
        assert_eq!(canonical_json(&a), canonical_json(&b));
        assert_eq!(canonical_json(&a), r#"{"a":{"x":"é\n","y":true},"b":[1,2.5,null]}"#);
    }

    #[test]
    fn a_file_hashes_like_its_bytes_on_both_sides_of_the_parallel_threshold() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0usize, 10, (1 << 20) + 7] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let path = dir.path().join("f");
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(Digest::of_file(&path).unwrap(), Digest::of_bytes(&bytes));
        }
    }

    #[test]
    fn a_digest_survives_its_text() {
        let digest = Digest::of_bytes(b"x");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!("xyz".parse::<Digest>().is_err());
    }
}
