//! A log that grows and is rotated, read in whole lines.
//!
//! A log is rotated by renaming it, or by copying it and cutting it to nothing. Either way the rest of the old file is
//! found among its siblings (`app.log.1`, `app.log-20260101`, also `.gz` and `.zst`): by its inode, or by the bytes before
//! the place that was reached, which must be the same. It is read to its end, then the files after it in the order of
//! rotation, then the log from its beginning. If there is no such file the rest is lost, and that is said.
//!
//! A last line without its end waits for it; only the end of a file that was rotated away ends its last line.
//!
//! Known holes: a log that is cut and written to with the same bytes up to the same place looks as if nothing happened.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::logs::entries::{Cuts, MOST};
use crate::logs::parser::LineParser;
use crate::logs::read::{self, Chunk};
use crate::parse::reading_order;

/// Bytes before a place that tell one file from another.
const MARK: usize = 256;

/// Looks without news after which a file that was rotated away is at its end, and an entry of several lines is whole.
const PATIENCE: u32 = 3;

/// A place in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Device and inode of the file.
    pub device: u64,
    /// See `device`.
    pub inode: u64,
    /// Bytes of the file that were read.
    pub offset: u64,
    /// The last of them, in hexadecimal digits.
    pub mark: String,
}

/// A log that is followed.
pub struct Tail {
    path: PathBuf,
    source: Option<Source>,
    /// The end of the file before the one that is read; that of the newest sibling where reading began. What comes after
    /// it is to be read, however often the log was rotated before anybody looked.
    previous: Position,
    cuts: Option<Cuts>,
    /// Looks without news.
    quiet: u32,
    notes: Vec<String>,
}

/// A file that is read.
struct Source {
    reader: Box<dyn Read + Send>,
    /// Device and inode.
    identity: (u64, u64),
    /// Where the bytes that wait begin.
    offset: u64,
    /// What was read and not handed out.
    waiting: Vec<u8>,
    /// Bytes left out of a line that is too long; the line is cut short in `waiting`.
    dropped: u64,
    /// Bytes before `offset`.
    mark: Vec<u8>,
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

impl Source {
    fn open(path: &Path, position: &Position) -> anyhow::Result<Self> {
        let context = || format!("cannot open log {}", path.display());
        let mark = unhex(&position.mark);
        let (reader, identity): (Box<dyn Read + Send>, _) = if is_packed(path) {
            let identity = identity(&fs::metadata(path).with_context(context)?);
            let mut reader = read::open(path)?;
            io::copy(&mut reader.by_ref().take(position.offset), &mut io::sink()).with_context(context)?;
            (reader, identity)
        } else {
            let mut file = File::open(path).with_context(context)?;
            file.seek(SeekFrom::Start(position.offset)).with_context(context)?;
            let identity = identity(&file.metadata().with_context(context)?);
            (Box::new(file), identity)
        };
        Ok(Self { reader, identity, offset: position.offset, waiting: Vec::new(), dropped: 0, mark })
    }

    /// The place behind all that was handed out.
    fn position(&self) -> Position {
        let (device, inode) = self.identity;
        Position { device, inode, offset: self.offset, mark: hex(&self.mark) }
    }

    /// Where the next byte is read.
    fn end(&self) -> u64 {
        self.offset + self.waiting.len() as u64 + self.dropped
    }

    /// The bytes before `end`.
    fn last_bytes(&self) -> Vec<u8> {
        if self.dropped > 0 {
            return Vec::new();
        }
        let from = self.waiting.len().saturating_sub(MARK);
        let more = MARK - (self.waiting.len() - from);
        let mut bytes = self.mark[self.mark.len().saturating_sub(more)..].to_vec();
        bytes.extend_from_slice(&self.waiting[from..]);
        bytes
    }

    /// Reads more; returns whether there was anything.
    fn read(&mut self, most: usize) -> io::Result<bool> {
        let before = self.waiting.len();
        self.reader.by_ref().take(most as u64).read_to_end(&mut self.waiting)?;
        let new = self.waiting.len() - before;
        if self.dropped > 0 {
            // Within a line that is too long: up to its end nothing is kept.
            let end = memchr::memchr(b'\n', &self.waiting[before..]).unwrap_or(new);
            self.waiting.drain(before..before + end);
            self.dropped += end as u64;
        } else if self.waiting.len() > MOST + 2 && memchr::memchr(b'\n', &self.waiting).is_none() {
            self.dropped = (self.waiting.len() - MOST - 2) as u64;
            self.waiting.truncate(MOST + 2);
        }
        Ok(new > 0)
    }

    /// Hands out what waits up to a place.
    fn hand_out(&mut self, at: usize) -> Chunk {
        let rest = self.waiting.split_off(at);
        let bytes = std::mem::replace(&mut self.waiting, rest);
        let chunk = Chunk { offset: self.offset, bytes };
        let dropped = std::mem::take(&mut self.dropped);
        self.offset += at as u64 + dropped;
        let keep = chunk.bytes.len().saturating_sub(MARK);
        self.mark.extend_from_slice(&chunk.bytes[keep..]);
        let surplus = self.mark.len().saturating_sub(MARK);
        self.mark.drain(..surplus);
        if dropped > 0 {
            // What was cut short is not what the file has there.
            self.mark.clear();
        }
        chunk
    }
}

fn is_packed(path: &Path) -> bool {
    matches!(path.extension().and_then(|e| e.to_str()), Some("gz" | "zst" | "zstd"))
}

impl Tail {
    /// Follows a log from its beginning, or from a place in it that was reached before. A log that is not there yet is
    /// waited for.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, parser: &LineParser, from: Option<&Position>) -> anyhow::Result<Self> {
        let mut tail = Self {
            path: path.to_owned(),
            source: None,
            previous: Position::default(),
            cuts: Cuts::new(parser),
            quiet: 0,
            notes: Vec::new(),
        };
        match from {
            Some(position) => {
                if position.offset == 0 {
                    tail.previous = position.clone();
                }
                tail.find(position)?;
            }
            None => tail.previous = tail.newest(),
        }
        Ok(tail)
    }

    /// Returns the end of a log as it is now, behind its last whole line.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn end_of(path: &Path) -> anyhow::Result<Position> {
        let context = || format!("cannot read log {}", path.display());
        let file = File::open(path).with_context(context)?;
        let meta = file.metadata().with_context(context)?;
        let mut end = meta.len();
        let mut bytes = vec![0; 1 << 16];
        while end > 0 {
            let from = end.saturating_sub(bytes.len() as u64);
            let part = &mut bytes[..(end - from) as usize];
            file.read_exact_at(part, from).with_context(context)?;
            if let Some(at) = memchr::memrchr(b'\n', part) {
                end = from + at as u64 + 1;
                break;
            }
            end = from;
        }
        let mut mark = vec![0; (end as usize).min(MARK)];
        let from = end - mark.len() as u64;
        file.read_exact_at(&mut mark, from).with_context(context)?;
        let (device, inode) = identity(&meta);
        Ok(Position { device, inode, offset: end, mark: hex(&mark) })
    }

    /// Returns the place behind all that was handed out.
    pub fn position(&self) -> Position {
        match &self.source {
            Some(source) if source.offset > 0 => source.position(),
            _ => self.previous.clone(),
        }
    }

    /// Returns what there is to say since the last time.
    pub fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Returns the next whole lines, read in pieces of at most `most` bytes; `None` where there are none now.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn next(&mut self, most: usize) -> anyhow::Result<Option<Chunk>> {
        let context = format!("cannot read log {}", self.path.display());
        if self.source.is_none() && !self.advance()? {
            return Ok(None);
        }
        let here = match fs::metadata(&self.path) {
            Ok(meta) => Some(meta),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).context(context),
        };
        let Some(source) = &mut self.source else { return Ok(None) };
        let current = here.as_ref().is_some_and(|meta| identity(meta) == source.identity);
        if current && let Some(meta) = &here {
            let end = source.end();
            if meta.len() < end || meta.len() > end && !is_marked(&self.path, end, &source.last_bytes()) {
                return self.was_cut();
            }
        }
        loop {
            let Some(source) = &mut self.source else { return Ok(None) };
            let more = source.read(most).context(context.clone())?;
            // It may have been cut and written to since it was looked at: what was read is in its copy then, or is not
            // what comes next.
            if more && current && !is_marked(&self.path, source.end(), &source.last_bytes()) {
                return self.was_cut();
            }
            if more && current && source.offset == 0 && !self.after_previous().is_empty() {
                self.advance()?;
                return Ok(None);
            }
            self.quiet = if more { 0 } else { self.quiet.saturating_add(1) };
            if let Some(chunk) = self.whole_lines() {
                return Ok(Some(chunk));
            }
            if !more {
                break;
            }
        }
        // A log that is not there may have been moved away, to be written to for a while.
        let over = !current && self.quiet >= PATIENCE && (here.is_some() || !self.after_previous().is_empty());
        if !over {
            return Ok(None);
        }
        let Some(mut source) = self.source.take() else { return Ok(None) };
        let all = source.waiting.len();
        let last = (all > 0).then(|| source.hand_out(all));
        self.quiet = 0;
        self.previous = source.position();
        if last.is_some() {
            // The place is told of the file that it is in; the next one is begun with the next look.
            self.source = Some(Source { reader: Box::new(io::empty()), ..source });
            self.quiet = PATIENCE;
            return Ok(last);
        }
        self.advance()?;
        self.next(most)
    }

    /// Takes whole lines from what waits; of entries of several lines, whole ones.
    fn whole_lines(&mut self) -> Option<Chunk> {
        let source = self.source.as_mut()?;
        let lines = memchr::memrchr(b'\n', &source.waiting)? + 1;
        let at = match &mut self.cuts {
            Some(cuts) if self.quiet < PATIENCE => cuts.place(&source.waiting, source.offset == 0)?,
            _ => lines,
        };
        (at > 0).then(|| source.hand_out(at))
    }

    /// Opens the next file; returns whether there is one.
    fn advance(&mut self) -> anyhow::Result<bool> {
        self.source = None;
        loop {
            let next = self.after_previous().into_iter().next();
            let next = next.or_else(|| self.path.is_file().then(|| self.path.clone()));
            let Some(path) = next else { return Ok(false) };
            let Ok(source) = Source::open(&path, &Position::default()) else {
                // Moved just now; what cannot be read at all is named when it is opened again.
                if path.is_file() {
                    Source::open(&path, &Position::default())?;
                }
                continue;
            };
            // Files may have moved on between the look and the opening.
            let still = self.after_previous().into_iter().next();
            if still.as_ref().is_none_or(|path| is_file(path, source.identity)) {
                self.source = Some(source);
                return Ok(true);
            }
        }
    }

    /// The newest sibling, as the file that was read before.
    fn newest(&self) -> Position {
        let meta = self.siblings().last().and_then(|path| fs::metadata(path).ok());
        let (device, inode) = meta.as_ref().map_or((0, 0), identity);
        Position { device, inode, ..Position::default() }
    }

    /// The log was cut to nothing: the rest of what it was may be in a copy.
    fn was_cut(&mut self) -> anyhow::Result<Option<Chunk>> {
        let Some(source) = self.source.take() else { return Ok(None) };
        // The copy has what waits, too.
        let position = Position { device: 0, inode: 0, offset: source.offset, mark: hex(&source.mark) };
        self.find(&position)?;
        Ok(None)
    }

    /// The files after the one that was read before, if that is still there.
    fn after_previous(&self) -> Vec<PathBuf> {
        let siblings = self.siblings();
        let Position { device, inode, offset, mark } = &self.previous;
        if self.previous == Position::default() {
            return siblings;
        }
        let mark = unhex(mark);
        let same = siblings.iter().position(|path| is_file(path, (*device, *inode)));
        let at = same.or_else(|| siblings.iter().rposition(|path| *offset > 0 && is_marked(path, *offset, &mark)));
        at.map(|at| siblings[at + 1..].to_vec()).unwrap_or_default()
    }

    /// Opens the file that a place is in, there.
    fn find(&mut self, position: &Position) -> anyhow::Result<()> {
        self.quiet = 0;
        let (mark, offset) = (unhex(&position.mark), position.offset);
        let wanted = (position.device, position.inode);
        if offset == 0 {
            // Nothing was read yet.
            return self.advance().map(drop);
        }
        let fits = |path: &Path| is_marked(path, offset, &mark);
        if wanted != (0, 0) && is_file(&self.path, wanted) && fits(&self.path) {
            self.source = Some(Source::open(&self.path, position)?);
            return Ok(());
        }
        let siblings = self.siblings();
        let same = siblings.iter().position(|path| is_file(path, wanted) && fits(path));
        let at = same.or_else(|| siblings.iter().rposition(|path| offset > 0 && fits(path)));
        let Some(at) = at else {
            self.notes.push(format!(
                "{} is another file than before, and none beside it goes on where it was left (byte {offset}): what followed there is not scored",
                self.path.display()
            ));
            self.previous = self.newest();
            return self.advance().map(drop);
        };
        self.source = Some(Source::open(&siblings[at], position)?);
        Ok(())
    }

    /// The files that the log was rotated into, oldest first; of a plain one and its compressed copy the plain one.
    fn siblings(&self) -> Vec<PathBuf> {
        let Some(name) = self.path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
        let base = reading_order(name).0;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut found: Vec<String> = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(other) = entry.file_name().into_string() else { continue };
            if other != name && reading_order(&other).0 == base {
                found.push(other);
            }
        }
        let plain: Vec<String> = found.iter().filter(|name| !is_packed(Path::new(name))).cloned().collect();
        let unpacked = |name: &str| Path::new(name).with_extension("").to_string_lossy().into_owned();
        found.retain(|name| !is_packed(Path::new(name)) || !plain.contains(&unpacked(name)));
        found.sort_by_cached_key(|name| reading_order(name));
        found.into_iter().map(|name| folder.join(name)).collect()
    }
}

fn is_file(path: &Path, wanted: (u64, u64)) -> bool {
    wanted != (0, 0) && fs::metadata(path).is_ok_and(|meta| identity(&meta) == wanted)
}

/// Whether a file has these bytes before a place.
fn is_marked(path: &Path, end: u64, mark: &[u8]) -> bool {
    let from = end.saturating_sub(mark.len() as u64);
    let mut bytes = vec![0; mark.len()];
    let mut read = || -> anyhow::Result<bool> {
        if is_packed(path) {
            let mut reader = read::open(path)?;
            io::copy(&mut reader.by_ref().take(from), &mut io::sink())?;
            reader.read_exact(&mut bytes)?;
        } else {
            let file = File::open(path)?;
            // Where nothing is compared, the file is long enough all the same.
            if file.metadata()?.len() < end {
                return Ok(false);
            }
            file.read_exact_at(&mut bytes, from)?;
        }
        Ok(bytes == mark)
    };
    read().unwrap_or(false)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|i| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests;
