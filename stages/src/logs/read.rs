//! Log files as chunks of whole lines: plain, gzip (`.gz`, several members) and Zstandard (`.zst`, several frames).
//!
//! A plain file is read up to the size it had when it was opened: a log that grows meanwhile is cut there, and its last
//! line may be incomplete (a log that is being written). A compressed file that ends early yields what could be
//! unpacked. Both are reported in [`End`], not as errors. Files are read, never mapped: a log that another process
//! truncates must not kill this one.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::Context as _;

use super::entries::{Cuts, MOST};

/// Bytes a chunk aims for. Results do not depend on it.
pub const CHUNK: usize = 4 << 20;

/// Whole lines of a file.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Offset of the first byte in the decompressed file.
    pub offset: u64,
    /// The lines with their ends; only the file's last line may lack one. A line of more than a mebibyte may be cut
    /// short, and is then the last one.
    pub bytes: Vec<u8>,
}

/// How a file ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Why the file counts as truncated, if it does.
    pub truncated: Option<String>,
    /// Whether the file grew while it was read.
    pub grew: bool,
}

/// Reads a log chunk by chunk.
pub struct LogReader {
    source: Box<dyn Read + Send>,
    plain: Option<(File, u64)>,
    offset: u64,
    rest: Vec<u8>,
    size: usize,
    end: Option<End>,
    cuts: Option<Cuts>,
}

/// Whether the ending of a name says that the file is compressed.
fn packed(path: &Path) -> bool {
    matches!(path.extension().and_then(|e| e.to_str()), Some("gz" | "zst" | "zstd"))
}

/// Unpacks a file by the ending of its name.
fn unpack(path: &Path, file: File) -> anyhow::Result<Box<dyn Read + Send>> {
    if path.extension().is_some_and(|e| e == "gz") {
        return Ok(Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(1 << 18, file))));
    }
    let mut decoder = zstd::Decoder::new(file).with_context(|| format!("cannot unpack {}", path.display()))?;
    decoder.window_log_max(31).with_context(|| format!("cannot unpack {}", path.display()))?;
    Ok(Box::new(decoder))
}

/// Opens a file to be read from its beginning to its end; the ending of the name says how it is compressed.
///
/// # Errors
/// The file cannot be opened, or its compression not be set up.
pub fn open(path: &Path) -> anyhow::Result<Box<dyn Read + Send>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    if packed(path) { unpack(path, file) } else { Ok(Box::new(BufReader::new(file))) }
}

impl LogReader {
    /// Opens a log; the ending of the name says how it is compressed.
    ///
    /// # Errors
    /// The file cannot be opened, or its compression not be set up.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Self::with_chunk(path, CHUNK)
    }

    /// As [`LogReader::open`], with another chunk size.
    ///
    /// # Errors
    /// As [`LogReader::open`].
    pub fn with_chunk(path: &Path, size: usize) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open log {}", path.display()))?;
        let length = file.metadata().with_context(|| format!("cannot stat log {}", path.display()))?.len();
        let mut plain = None;
        let source = if packed(path) {
            unpack(path, file)?
        } else {
            let watch = file.try_clone().with_context(|| format!("cannot read log {}", path.display()))?;
            plain = Some((watch, length));
            Box::new(file.take(length))
        };
        Ok(Self { source, plain, offset: 0, rest: Vec::new(), size: size.max(1), end: None, cuts: None })
    }

    /// Takes a log from somewhere else than a file, such as a pipe.
    pub fn of(source: Box<dyn Read + Send>) -> Self {
        Self { source, plain: None, offset: 0, rest: Vec::new(), size: CHUNK, end: None, cuts: None }
    }

    /// Cuts only where entries start.
    pub fn cut_at(&mut self, cuts: Option<Cuts>) {
        self.cuts = cuts;
    }

    /// Returns the next chunk, `None` at the end. It is put into `bytes`, whatever was in there before: a buffer that is
    /// used again costs no new memory.
    ///
    /// # Errors
    /// The file cannot be read (a compressed one that ends early or is damaged is no error, see [`End`]).
    pub fn next_chunk(&mut self, mut bytes: Vec<u8>) -> anyhow::Result<Option<Chunk>> {
        if self.end.is_some() && self.rest.is_empty() {
            return Ok(None);
        }
        bytes.clear();
        bytes.reserve_exact(self.size + self.size / 4);
        bytes.extend_from_slice(&self.rest);
        self.rest.clear();
        let (mut dropped, mut from, mut lines) = (0, 0, false);
        while self.end.is_none() {
            let want = (bytes.len() + self.size.div_ceil(4)).max(self.size);
            self.end = self.fill(&mut bytes, want)?;
            if self.end.is_some() {
                break;
            }
            let last = memchr::memrchr(b'\n', &bytes[from..]).map(|at| from + at + 1);
            (from, lines) = (bytes.len(), lines || last.is_some());
            let place = match &mut self.cuts {
                Some(cuts) if lines => cuts.place(&bytes, self.offset == 0),
                _ => last,
            };
            if let Some(at) = place {
                self.rest.extend_from_slice(&bytes[at..]);
                bytes.truncate(at);
                break;
            }
            // One more than the longest line with its `\r`: nobody reads the rest.
            if bytes.len() > MOST + 1 && !lines {
                dropped = self.skip_line(&mut bytes)?;
                break;
            }
        }
        let chunk = Chunk { offset: self.offset, bytes };
        self.offset += chunk.bytes.len() as u64 + dropped;
        Ok(if chunk.bytes.is_empty() { None } else { Some(chunk) })
    }

    /// Cuts a line short that is longer than any that is parsed, and reads up to its end; returns how much is left out.
    fn skip_line(&mut self, line: &mut Vec<u8>) -> anyhow::Result<u64> {
        let mut dropped = (line.len() - MOST - 2) as u64;
        line.truncate(MOST + 2);
        let mut more = Vec::new();
        while self.end.is_none() {
            more.clear();
            self.end = self.fill(&mut more, self.size)?;
            if let Some(at) = memchr::memchr(b'\n', &more) {
                self.rest.extend_from_slice(&more[at + 1..]);
                line.push(b'\n');
                return Ok(dropped + at as u64);
            }
            dropped += more.len() as u64;
        }
        Ok(dropped)
    }

    /// Returns how the file ended; call it when there are no more chunks.
    pub fn end(&self) -> End {
        let mut end = self.end.clone().unwrap_or_default();
        if let Some((file, length)) = &self.plain {
            let now = file.metadata().map_or(*length, |m| m.len());
            end.grew = now > *length;
            if self.end.is_some() && self.offset < *length {
                end.truncated =
                    Some(format!("the file shrank from {length} to {} bytes while it was read", self.offset));
            }
        }
        end
    }

    /// Fills `bytes` up to `want`; returns the end of the file if it comes first.
    fn fill(&mut self, bytes: &mut Vec<u8>, want: usize) -> anyhow::Result<Option<End>> {
        let missing = want - bytes.len();
        // `read_to_end` keeps what was read before an error, and fills memory that was never written to.
        match self.source.by_ref().take(missing as u64).read_to_end(bytes) {
            Ok(_) if bytes.len() < want => Ok(Some(End::default())),
            Ok(_) => Ok(None),
            Err(e) if self.plain.is_none() => Ok(Some(End { truncated: Some(e.to_string()), grew: false })),
            Err(e) => Err(e).context("cannot read the log"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::path::PathBuf;

    fn read(path: &Path, size: usize) -> (Vec<u8>, usize, End) {
        let mut reader = LogReader::with_chunk(path, size).unwrap();
        let (mut all, mut chunks) = (Vec::new(), 0);
        while let Some(chunk) = reader.next_chunk(Vec::new()).unwrap() {
            assert_eq!(chunk.offset, all.len() as u64);
            all.extend(chunk.bytes);
            chunks += 1;
        }
        (all, chunks, reader.end())
    }

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        (dir, path)
    }

    fn text() -> Vec<u8> {
        (0..500).flat_map(|i| format!("line {i} {}\n", "x".repeat(i % 50)).into_bytes()).collect()
    }

    #[test]
    fn chunks_are_whole_lines_at_every_size() {
        let mut text = text();
        text.extend(b"no end");
        let (_dir, path) = file("a.log", &text);
        for size in [1, 7, 64, 1000, 1 << 20] {
            let mut reader = LogReader::with_chunk(&path, size).unwrap();
            let mut all: Vec<u8> = Vec::new();
            while let Some(chunk) = reader.next_chunk(Vec::new()).unwrap() {
                all.extend(&chunk.bytes);
                assert!(chunk.bytes.ends_with(b"\n") || all.len() == text.len());
            }
            assert_eq!(all, text);
            assert_eq!(reader.end(), End::default());
        }
    }

    #[test]
    fn compressed_files_of_several_members_read_as_one() {
        let text = text();
        let (a, b) = text.split_at(777);
        let zst: Vec<u8> = [a, b].iter().flat_map(|part| zstd::encode_all(*part, 1).unwrap()).collect();
        let gz = |part: &[u8]| {
            let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            e.write_all(part).unwrap();
            e.finish().unwrap()
        };
        let gz: Vec<u8> = [a, b].iter().flat_map(|part| gz(part)).collect();
        for (name, bytes) in [("a.zst", &zst), ("a.gz", &gz)] {
            let (_dir, path) = file(name, bytes);
            assert_eq!(read(&path, 100).0, text, "{name}");
            let (_dir, path) = file(name, &bytes[..bytes.len() - 20]);
            let (got, _, end) = read(&path, 100);
            assert!(text.starts_with(&got) && got.len() >= 777, "{name}: {} bytes", got.len());
            assert!(end.truncated.is_some(), "{name}");
        }
    }

    #[test]
    fn a_log_that_grows_is_cut_at_the_size_it_had() {
        let (_dir, path) = file("a.log", b"one\ntwo");
        let mut reader = LogReader::open(&path).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b" and a half\nthree\n").unwrap();
        assert_eq!(reader.next_chunk(Vec::new()).unwrap().unwrap().bytes, b"one\ntwo");
        assert!(reader.next_chunk(Vec::new()).unwrap().is_none());
        assert_eq!(reader.end(), End { truncated: None, grew: true });
    }

    #[test]
    fn a_line_of_any_length_takes_little_memory_and_the_next_one_is_where_it_is() {
        let long = MOST + 5_000_000;
        let mut text = b"one\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', long));
        text.extend(b"\ntwo\nthree");
        let (_dir, path) = file("a.log", &text);
        for size in [7, 4096, 1 << 20, 1 << 23] {
            let mut reader = LogReader::with_chunk(&path, size).unwrap();
            let mut lines = Vec::new();
            while let Some(chunk) = reader.next_chunk(Vec::new()).unwrap() {
                assert!(chunk.bytes.len() <= 2 * MOST.max(size), "{} bytes", chunk.bytes.len());
                let mut offset = chunk.offset;
                for line in chunk.bytes.split_inclusive(|b| *b == b'\n') {
                    lines.push((offset, line.len().min(MOST + 2)));
                    offset += line.len() as u64;
                }
            }
            let end = (4 + long + 1) as u64;
            assert_eq!(lines, [(0, 4), (4, MOST + 2), (end, 4), (end + 4, 5)], "size {size}");
            assert_eq!(reader.end(), End::default());
        }
    }

    #[test]
    fn garbage_after_a_compressed_log_ends_it() {
        let text = text();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&text).unwrap();
        for (name, mut bytes) in [("a.gz", gz.finish().unwrap()), ("a.zst", zstd::encode_all(&text[..], 1).unwrap())] {
            bytes.extend(b"no member of anything");
            let (_dir, path) = file(name, &bytes);
            let (got, _, end) = read(&path, 1000);
            assert_eq!(got, text, "{name}");
            assert!(end.truncated.is_some(), "{name}");
        }
    }

    #[test]
    fn an_empty_file_has_no_chunk_and_a_missing_one_is_named() {
        let (_dir, path) = file("a.log", b"");
        assert_eq!(read(&path, 10), (Vec::new(), 0, End::default()));
        let error = LogReader::open(Path::new("no/such.log")).err().unwrap();
        assert!(error.to_string().contains("no/such.log"));
    }
}
