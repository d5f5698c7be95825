//! One log file from bytes to rows: chunks are read ahead, parsed in parallel, and handed on in file order.

use std::path::Path;
use std::sync::mpsc;

use rayon::prelude::*;

use super::entries::{Cuts, Order};
use super::read::{Chunk, End, LogReader};
use super::rows::{FileTables, LineParser, Rows};

/// Parses a file. `rows` is called with the rows of each chunk, in file order, with the numbers of the file, and with
/// the tables those numbers belong to. Works on the rayon pool it is called from.
///
/// # Errors
/// The file cannot be read, or `rows` fails.
pub fn scan_log(
    path: &Path,
    parser: &LineParser,
    rows: impl FnMut(Rows, &FileTables) -> anyhow::Result<()>,
) -> anyhow::Result<(FileTables, End)> {
    scan(LogReader::open(path)?, parser, rows)
}

/// As [`scan_log`], from a reader.
///
/// # Errors
/// As [`scan_log`].
pub fn scan(
    mut reader: LogReader,
    parser: &LineParser,
    mut rows: impl FnMut(Rows, &FileTables) -> anyhow::Result<()>,
) -> anyhow::Result<(FileTables, End)> {
    let mut tables = FileTables { order: Order::new(&parser.entries), ..FileTables::default() };
    reader.cut_at(Cuts::new(parser));
    let threads = rayon::current_num_threads();
    if threads == 1 {
        while let Some(chunk) = reader.next_chunk()? {
            let mut parsed = parser.parse(&chunk);
            tables.adopt(&mut parsed);
            rows(parsed, &tables)?;
        }
        return Ok((tables, reader.end()));
    }
    // Two chunks a thread, so that an uneven pair does not leave a thread idle; as many again are read ahead.
    let batch = 2 * threads;
    let (sender, receiver) = mpsc::sync_channel::<anyhow::Result<Chunk>>(batch);
    let end = std::thread::scope(|scope| -> anyhow::Result<End> {
        let ahead = scope.spawn(move || {
            loop {
                let next = match reader.next_chunk() {
                    Ok(Some(chunk)) => Ok(chunk),
                    Ok(None) => break,
                    Err(error) => Err(error),
                };
                let failed = next.is_err();
                // The receiver is gone when the other side failed: then nobody asks for more.
                if sender.send(next).is_err() || failed {
                    break;
                }
            }
            reader.end()
        });
        // Moved in here, so that an early return closes the channel and the reader stops.
        let receiver = receiver;
        loop {
            let chunks = receiver.iter().take(batch).collect::<anyhow::Result<Vec<Chunk>>>()?;
            if chunks.is_empty() {
                break;
            }
            let parsed: Vec<Rows> = chunks.into_par_iter().with_max_len(1).map(|chunk| parser.parse(&chunk)).collect();
            for mut part in parsed {
                tables.adopt(&mut part);
                rows(part, &tables)?;
            }
        }
        Ok(ahead.join().expect("the reader does not panic"))
    })?;
    Ok((tables, end))
}
