//! What is kept over a restart: the place in the log, open sessions, and how far rows were written.
//!
//! The file is a line of JSON (see [`Header`]), the sessions in numbers of variable length, and the blake3 digest of all
//! that. It is written beside the old one, made durable and moved over it: whatever kills the process, one of both is
//! there. Rows are durable before the state that counts them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::open::{Queue, Session};
use super::tail::Position;
use super::{Clocks, Counts, Ending, Stream};

const MAGIC: u32 = 1;

/// What a state says before its sessions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format.
    pub logweir_state: u32,
    /// The run whose models are used.
    pub run: String,
    /// Digest of those models.
    pub models: String,
    /// The log.
    pub log: String,
    /// Where rows go.
    pub out: String,
    /// What tells the rows of this stream from others in a database.
    pub stream: String,
    /// The place in the log.
    pub position: Position,
    /// Rows written.
    pub rows: u64,
    /// Length of the file that they are in.
    pub length: u64,
    /// The log has been silent: its sessions are about to be ended.
    pub silent: bool,
    /// When sessions end.
    pub ending: Ending,
    /// What was counted.
    pub counts: Counts,
    clocks: Clocks,
    new_forms: Vec<String>,
    sessions: u64,
}

/// What a state is of.
#[derive(Clone, Debug)]
pub struct Identity {
    /// See [`Header`].
    pub run: String,
    /// See [`Header`].
    pub models: String,
    /// See [`Header`].
    pub log: String,
    /// See [`Header`].
    pub out: String,
    /// See [`Header`].
    pub stream: String,
}

/// How far a stream has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The place in the log.
    pub position: Position,
    /// Rows written.
    pub rows: u64,
    /// Length of their file.
    pub length: u64,
    /// See [`Header::silent`].
    pub silent: bool,
}

/// A state that was read.
pub struct State {
    /// What it says of itself.
    pub header: Header,
    sessions: Vec<Session>,
}

impl State {
    /// Reads a state; `None` where there is no such file.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read the state `{}`", path.display())),
        };
        Self::decode(&bytes).map(Some).with_context(|| format!("`{}` is no state of this program", path.display()))
    }

    fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        let (body, digest) = bytes.split_last_chunk::<32>().context("it is too short")?;
        ensure!(blake3::hash(body).as_bytes() == digest, "it is damaged");
        let at = memchr::memchr(b'\n', body).context("it has no first line")?;
        let header: Header = serde_json::from_slice(&body[..at])?;
        ensure!(header.logweir_state == MAGIC, "it is of version {}", header.logweir_state);
        let mut rest = Reader(&body[at + 1..]);
        let mut sessions = Vec::new();
        for _ in 0..header.sessions {
            sessions.push(rest.session()?);
        }
        ensure!(rest.0.is_empty(), "it has more than its sessions");
        Ok(Self { header, sessions })
    }

    /// Has a stream that was just begun go on from here.
    ///
    /// # Errors
    /// The stream ends sessions otherwise.
    pub(crate) fn resume(self, stream: &mut Stream) -> anyhow::Result<()> {
        let Header { ending, counts, clocks, new_forms, .. } = self.header;
        if ending != stream.ending {
            bail!(
                "the state was written with other settings of when sessions end (hint: give the same, or begin anew)"
            );
        }
        stream.clocks = clocks;
        stream.counts = counts;
        stream.forms.resume(new_forms);
        for session in self.sessions {
            stream.open.add(session);
        }
        Ok(())
    }
}

/// Writes states.
pub struct StateFile {
    path: PathBuf,
    identity: Identity,
}

impl StateFile {
    /// Writes to a path.
    pub fn new(path: &Path, identity: Identity) -> Self {
        Self { path: path.to_owned(), identity }
    }

    /// Writes the state of a stream of which no session waits to be scored.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn save(&self, stream: &Stream, progress: &Progress) -> anyhow::Result<()> {
        let Identity { run, models, log, out, stream: id } = self.identity.clone();
        let Progress { position, rows, length, silent } = progress.clone();
        let header = Header {
            logweir_state: MAGIC,
            run,
            models,
            log,
            out,
            stream: id,
            position,
            rows,
            length,
            silent,
            ending: stream.ending.clone(),
            counts: stream.counts.clone(),
            clocks: stream.clocks.clone(),
            new_forms: stream.forms.new_texts().map(str::to_owned).collect(),
            sessions: stream.open.len() as u64,
        };
        let bytes = encode(&header, stream)?;
        let context = || format!("cannot write the state `{}`", self.path.display());
        let temp =
            self.path.with_file_name(format!(".{}.new", self.path.file_name().unwrap_or_default().to_string_lossy()));
        let mut file = File::create(&temp).with_context(context)?;
        file.write_all(&bytes).with_context(context)?;
        file.sync_all().with_context(context)?;
        fs::rename(&temp, &self.path).with_context(context)?;
        // The name is durable with its folder.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(context)
    }
}

fn encode(header: &Header, stream: &Stream) -> anyhow::Result<Vec<u8>> {
    let mut out = serde_json::to_vec(header)?;
    out.push(b'\n');
    // In the order in which they were last active, which is part of what decides.
    for place in stream.open.all(Queue::Open).chain(stream.open.all(Queue::Closing)) {
        let Session { key, events, active, instance, closing, alerted, .. } = stream.open.at(place);
        number(&mut out, key.len() as u64);
        out.extend_from_slice(key);
        signed(&mut out, *active);
        number(&mut out, *instance);
        out.push(u8::from(*closing) | u8::from(*alerted) << 1);
        number(&mut out, events.len() as u64);
        let mut before = 0i64;
        for (time, code) in events {
            signed(&mut out, time.wrapping_sub(before));
            before = *time;
            number(&mut out, u64::from(*code));
        }
    }
    let digest = blake3::hash(&out);
    out.extend_from_slice(digest.as_bytes());
    Ok(out)
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, value: i64) {
    number(out, ((value << 1) ^ (value >> 63)) as u64);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> anyhow::Result<u8> {
        let (&byte, rest) = self.0.split_first().context("it ends early")?;
        self.0 = rest;
        Ok(byte)
    }

    fn number(&mut self) -> anyhow::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number is too long")
    }

    fn signed(&mut self) -> anyhow::Result<i64> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn session(&mut self) -> anyhow::Result<Session> {
        let length = self.number()? as usize;
        let key = self.0.get(..length).context("it ends early")?.to_vec();
        self.0 = &self.0[length..];
        let (active, instance, flags) = (self.signed()?, self.number()?, self.byte()?);
        let (mut events, mut before) = (Vec::new(), 0i64);
        for _ in 0..self.number()? {
            before = before.wrapping_add(self.signed()?);
            events.push((before, self.number()? as u32));
        }
        let (closing, alerted) = (flags & 1 != 0, flags & 2 != 0);
        Ok(Session { key, events, active, instance, closing, alerted, ..Session::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(values: Vec<i64>) {
            let mut out = Vec::new();
            for value in &values {
                signed(&mut out, *value);
                number(&mut out, *value as u64);
            }
            let mut reader = Reader(&out);
            for value in values {
                prop_assert_eq!(reader.signed().unwrap(), value);
                prop_assert_eq!(reader.number().unwrap(), value as u64);
            }
            prop_assert!(reader.0.is_empty() && reader.number().is_err());
        }
    }

    #[test]
    fn what_was_changed_or_cut_is_no_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(State::read(&path).unwrap().is_none());
        for bytes in [&b"{}"[..], &[b'x'; 99]] {
            fs::File::create(&path).unwrap().write_all(bytes).unwrap();
            assert!(State::read(&path).is_err());
        }
    }
}
