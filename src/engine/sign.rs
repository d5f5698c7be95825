//! Signatures of runs: the entry of a run is signed with a key of the user's, over its line and so, through `prev`, over
//! all that was recorded before it. Whoever rewrites the log with a new chain cannot make them again.
//!
//! The key file is PKCS#8 PEM as `openssl genpkey -algorithm ed25519` writes it. Nothing of it enters a key, the log, a
//! lineage document or an error.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::runlog::{Checked, Entry};
use crate::verify::{Finding, FindingKind};

/// The environment variable that names the key file; it wins over the pipeline file.
pub const VARIABLE: &str = "LOGWEIR_SIGNING_KEY";

/// What is signed begins with this, so that a signature made for something else never fits.
const CONTEXT: &[u8] = b"logweir run entry v1\n";

/// A signature as it stands in the run log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The key's id: the beginning of the digest of the public key.
    pub key: String,
    /// 64 bytes, hexadecimal.
    pub value: String,
}

/// A private key, ready to sign.
pub struct Signer {
    key: SigningKey,
    id: String,
}

impl Signer {
    /// Reads a key file; returns a warning too if others may read it.
    ///
    /// # Errors
    /// It is not there, cannot be read, or holds no ed25519 private key.
    pub fn read(path: &Path) -> Result<(Self, Option<String>), EngineError> {
        let text = read(path)?;
        let Ok(key) = SigningKey::from_pkcs8_pem(&text) else {
            return Err(not_a_key(path, "an ed25519 private key in PKCS#8 PEM"));
        };
        let open = fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o077 != 0);
        let warning = || {
            let path = path.display();
            format!("the signing key `{path}` can be read by others; `chmod 600 {path}` keeps it yours")
        };
        let id = id_of(&key.verifying_key());
        Ok((Self { key, id }, open.then(warning)))
    }

    /// Returns a line of the log (a JSON object) with its signature as the last member.
    pub(crate) fn signed(&self, line: &str) -> String {
        let value = self.key.sign(&[CONTEXT, line.as_bytes()].concat());
        let signature = Signature { key: self.id.clone(), value: hex::encode(value.to_bytes()) };
        format!("{}{}", line.strip_suffix('}').unwrap_or(line), tail(&signature))
    }
}

/// Returns the signer a run is to use, if one is configured: the environment wins over the pipeline file; a relative path
/// is one in the project.
///
/// # Errors
/// As [`Signer::read`].
pub(crate) fn configured(
    root: &Path,
    env: &BTreeMap<String, String>,
    declared: Option<&str>,
) -> Result<Option<(Signer, Option<String>)>, EngineError> {
    let path = env.get(VARIABLE).map(String::as_str).filter(|path| !path.is_empty()).or(declared);
    path.map(|path| Signer::read(&root.join(path))).transpose()
}

/// A public key to check signatures with.
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a public key (`openssl pkey -pubout`), or a private one, of which the public part is taken.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is no such key.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let text = read(path)?;
        if let Ok(key) = VerifyingKey::from_public_key_pem(&text) {
            return Ok(Self(key));
        }
        let private = SigningKey::from_pkcs8_pem(&text);
        private.map(|key| Self(key.verifying_key())).map_err(|_| not_a_key(path, "an ed25519 public key in PEM"))
    }

    /// Whether a line carries a signature of this key over all the rest of it.
    fn signed(&self, line: &[u8], signature: &Signature) -> bool {
        let Some(body) = line.strip_suffix(tail(signature).as_bytes()) else { return false };
        let mut value = [0; 64];
        if hex::decode_to_slice(&signature.value, &mut value).is_err() {
            return false;
        }
        let value = ed25519_dalek::Signature::from_bytes(&value);
        self.0.verify_strict(&[CONTEXT, body, b"}"].concat(), &value).is_ok()
    }
}

/// What became of the signatures of a log. It is handed the log line by line.
pub(crate) struct Signatures<'k> {
    key: &'k PublicKey,
    id: String,
    /// A run is signed.
    any: bool,
    /// How many are good.
    pub(crate) good: usize,
    /// Entries of the log after the last good one.
    pub(crate) after: usize,
    findings: Vec<Finding>,
}

impl<'k> Signatures<'k> {
    /// Checks against a key.
    pub(crate) fn of(key: &'k PublicKey) -> Self {
        Self { key, id: id_of(&key.0), any: false, good: 0, after: 0, findings: Vec::new() }
    }

    /// Takes the next line.
    pub(crate) fn take(&mut self, checked: &Checked) {
        self.after += 1;
        let Some(Entry::Run(run)) = &checked.entry else { return };
        let (kind, detail) = match &run.signature {
            None if self.any => {
                (FindingKind::Unsigned, format!("run {} is not signed, earlier ones are", run.info.run))
            }
            None => return,
            Some(signature) => {
                self.any = true;
                let kind = FindingKind::SignatureWrong;
                if signature.key != self.id {
                    (kind, format!("run {} is signed with key {}, not {}", run.info.run, signature.key, self.id))
                } else if self.key.signed(&checked.line.bytes, signature) {
                    (self.good, self.after) = (self.good + 1, 0);
                    return;
                } else {
                    (kind, format!("the signature of run {} does not fit what it signs", run.info.run))
                }
            }
        };
        let path = format!("cache/runlog.jsonl:{}", checked.number);
        self.findings.push(Finding { kind, path, stage: None, detail });
    }

    /// Returns what is wrong with them.
    pub(crate) fn finish(mut self) -> Vec<Finding> {
        if !self.any {
            let (kind, path) = (FindingKind::Unsigned, "cache/runlog.jsonl".to_owned());
            self.findings.push(Finding { kind, path, stage: None, detail: "no run in it is signed".to_owned() });
        }
        self.findings
    }
}

fn read(path: &Path) -> Result<String, EngineError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(not_a_key(path, "a key in PEM")),
        Err(source) => Err(EngineError::io("read the key", path)(source)),
    }
}

fn not_a_key(path: &Path, wanted: &'static str) -> EngineError {
    EngineError::KeyFile { path: PathBuf::from(path), wanted }
}

fn tail(signature: &Signature) -> String {
    format!(",\"signature\":{{\"key\":\"{}\",\"value\":\"{}\"}}}}", signature.key, signature.value)
}

fn id_of(key: &VerifyingKey) -> String {
    Digest::of_bytes(key.as_bytes()).short()
}
