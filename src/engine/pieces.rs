//! Cuts a large file into pieces at line ends. Where a piece ends depends only on where it begins, so appending to the
//! file leaves all but the last piece as they were.
//!
//! The pieces of a content and their digests are kept in `cache/pieces/DIGEST-SIZE`, one line a piece: `END DIGEST`.
//! Losing one costs a reading of the file.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::digest::Digest;
use crate::error::EngineError;
use crate::manifest::FileFact;
use crate::map::Piece;

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// Returns the pieces of a file whose content is known, each of `size` bytes and the rest of its last line. An empty
/// file has none.
///
/// # Errors
/// The file cannot be read, or has another content by now.
pub fn of(cache: &Path, place: &Path, whole: FileFact, size: u64) -> Result<Vec<Piece>, EngineError> {
    let file = cache.join("pieces").join(format!("{}-{size}", whole.digest));
    if let Some(pieces) = fs::read_to_string(&file).ok().and_then(|text| parse(&text, whole.size)) {
        return Ok(pieces);
    }
    let (pieces, digest) = cut(place, size).map_err(EngineError::io("read", place))?;
    if digest != whole.digest {
        return Err(EngineError::Changing(place.to_path_buf()));
    }
    let text: String = pieces.iter().map(|piece| format!("{} {}\n", piece.end, piece.digest)).collect();
    // Without it the file is read again.
    let _ = keep(&file, &text);
    Ok(pieces)
}

fn keep(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().expect("made of a folder and a name");
    fs::create_dir_all(folder)?;
    let temp = file.with_extension(format!("{}.tmp", std::process::id()));
    File::create(&temp)?.write_all(text.as_bytes())?;
    fs::rename(&temp, file)
}

/// Reads what was kept; `None` unless it covers the whole file.
fn parse(text: &str, size: u64) -> Option<Vec<Piece>> {
    let (mut pieces, mut start) = (Vec::new(), 0);
    for line in text.lines() {
        let (end, digest) = line.split_once(' ')?;
        let piece = Piece { start, end: end.parse().ok()?, digest: digest.parse().ok()? };
        if piece.end <= start {
            return None;
        }
        start = piece.end;
        pieces.push(piece);
    }
    (start == size).then_some(pieces)
}

/// Returns the pieces of a file and the digest of all of it.
fn cut(place: &Path, size: u64) -> io::Result<(Vec<Piece>, Digest)> {
    let mut reader = BufReader::with_capacity(BUFFER, File::open(place)?);
    let (mut all, mut pieces, mut start) = (blake3::Hasher::new(), Vec::new(), 0);
    loop {
        let mut piece = blake3::Hasher::new();
        let mut length = 0;
        loop {
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let left = usize::try_from(size.saturating_sub(length)).unwrap_or(usize::MAX);
            // The line that the last byte of the size is in belongs to the piece.
            let line_end = bytes.get(left.saturating_sub(1)..).and_then(|rest| rest.iter().position(|b| *b == b'\n'));
            let take = line_end.map_or(bytes.len(), |at| left.saturating_sub(1) + at + 1);
            piece.update(&bytes[..take]);
            all.update(&bytes[..take]);
            reader.consume(take);
            length += take as u64;
            if line_end.is_some() {
                break;
            }
        }
        if length == 0 {
            return Ok((pieces, Digest::from(*all.finalize().as_bytes())));
        }
        pieces.push(Piece { start, end: start + length, digest: Digest::from(*piece.finalize().as_bytes()) });
        start += length;
    }
}

/// Copies a piece out of its file; `false` if the file has another content there by now.
///
/// # Errors
/// The file cannot be read or the copy not written.
pub fn copy(from: &Path, piece: &Piece, to: &Path) -> io::Result<bool> {
    let mut file = File::open(from)?;
    file.seek(SeekFrom::Start(piece.start))?;
    let mut out = File::create(to)?;
    let copied = io::copy(&mut file.take(piece.end - piece.start), &mut out)?;
    drop(out);
    Ok(copied == piece.end - piece.start && Digest::of_file(to)? == piece.digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fact(path: &Path) -> FileFact {
        crate::publish::hash_file(path).unwrap()
    }

    #[test]
    fn pieces_end_at_line_ends_and_are_remembered_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "aaaa\nbb\ncc\nd").unwrap();
        let ends = |size| -> Vec<u64> {
            of(dir.path(), &file, fact(&file), size).unwrap().into_iter().map(|piece| piece.end).collect()
        };
        assert_eq!(ends(1), [5, 8, 11, 12]);
        assert_eq!(ends(5), [5, 11, 12], "a line end at the size is the end");
        assert_eq!(ends(6), [8, 12]);
        assert_eq!(ends(100), [12]);
        let whole = fact(&file);
        fs::write(&file, "").unwrap();
        assert_eq!(of(dir.path(), &file, whole, 6).unwrap().len(), 2, "as it was remembered");
        assert!(of(dir.path(), &file, whole, 7).is_err(), "it has changed since it was hashed");
        assert_eq!(of(dir.path(), &file, fact(&file), 6).unwrap(), []);
    }

    proptest! {
        #[test]
        fn pieces_make_up_the_file_and_appending_keeps_all_but_the_last(
            text in "[a\n]{0,60}", more in "[a\n]{1,30}", size in 1u64..20,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("f");
            fs::write(&file, &text).unwrap();
            let before = of(dir.path(), &file, fact(&file), size).unwrap();
            let mut glued = String::new();
            for piece in &before {
                let to = dir.path().join("piece");
                prop_assert!(copy(&file, piece, &to).unwrap());
                let part = fs::read_to_string(&to).unwrap();
                prop_assert!(part.ends_with('\n') || piece.end == text.len() as u64);
                glued.push_str(&part);
            }
            prop_assert_eq!(&glued, &text);
            fs::write(&file, format!("{text}{more}")).unwrap();
            let after = of(dir.path(), &file, fact(&file), size).unwrap();
            let kept = before.len().saturating_sub(1);
            prop_assert_eq!(&before[..kept], &after[..kept]);
        }
    }
}
