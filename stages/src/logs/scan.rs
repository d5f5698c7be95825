//! One log file from bytes to rows: chunks are parsed in parallel, and handed on in file order.

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use super::entries::{Cuts, Order};
use super::intern::Interner;
use super::keys::Keys;
use super::parser::LineParser;
use super::read::{Chunk, End, LogReader};
use super::rows::{FileTables, Rows};
use crate::support::turns::lock;

/// Parses a file. `rows` is called with the rows of each chunk, in file order, and with the tables of the file so far.
/// Works on as many threads as the rayon pool it is called from has.
///
/// # Errors
/// The file cannot be read, or `rows` fails.
pub fn scan_log(
    path: &Path,
    parser: &LineParser,
    mut rows: impl FnMut(Rows, &FileTables) -> anyhow::Result<()> + Send,
) -> anyhow::Result<(FileTables, End)> {
    scan(
        LogReader::open(path)?,
        parser,
        |_| Ok(()),
        |parsed, (), tables| {
            let mut parsed = std::mem::take(parsed);
            (parsed.names.forms, parsed.names.sessions) = (Interner::default(), Keys::default());
            rows(parsed, tables)
        },
    )
}

/// As [`scan_log`], from a reader. `prepare` is called on the thread that parsed a chunk, in no order, and before
/// [`FileTables::adopt`] settles times; what it makes is handed on with the rows, whose memory is used again unless they
/// are taken.
///
/// # Errors
/// As [`scan_log`], or `prepare` fails.
pub fn scan<T>(
    reader: LogReader,
    parser: &LineParser,
    prepare: impl Fn(&Rows) -> anyhow::Result<T> + Sync,
    mut hand_on: impl FnMut(&mut Rows, T, &FileTables) -> anyhow::Result<()> + Send,
) -> anyhow::Result<(FileTables, End)> {
    let mut tables = FileTables { order: Order::new(&parser.entries), ..FileTables::default() };
    let end = each_chunk(reader, parser, prepare, |rows, prepared| {
        tables.adopt(rows);
        hand_on(rows, prepared, &tables)
    })?;
    Ok((tables, end))
}

/// What the threads share: chunks are read one after the other, and handed on in the same order.
struct Turn<F> {
    next: usize,
    hand_on: F,
    failed: Option<anyhow::Error>,
}

/// As [`scan`], without tables of the file: numbers and times of rows stay those of their chunk, and nothing is kept.
///
/// # Errors
/// As [`scan`].
pub fn each_chunk<T>(
    mut reader: LogReader,
    parser: &LineParser,
    prepare: impl Fn(&Rows) -> anyhow::Result<T> + Sync,
    mut hand_on: impl FnMut(&mut Rows, T) -> anyhow::Result<()> + Send,
) -> anyhow::Result<End> {
    let threads = rayon::current_num_threads();
    reader.cut_at(Cuts::new(parser));
    let reader = Mutex::new((0, reader, Vec::<Vec<u8>>::new()));
    let turn = Mutex::new(Turn { next: 0, hand_on: &mut hand_on, failed: None });
    let (moved, spare) = (Condvar::new(), Mutex::new(Vec::<Rows>::new()));
    let read = || -> anyhow::Result<Option<(usize, Chunk)>> {
        let mut reader = lock(&reader);
        let (number, reader, spare) = &mut *reader;
        let Some(chunk) = reader.next_chunk(spare.pop().unwrap_or_default())? else { return Ok(None) };
        *number += 1;
        Ok(Some((*number - 1, chunk)))
    };
    let fail = |error: anyhow::Error| {
        lock(&turn).failed.get_or_insert(error);
        moved.notify_all();
    };
    let work = || {
        loop {
            let (number, chunk) = match read() {
                Ok(Some(next)) => next,
                Ok(None) => return,
                Err(error) => return fail(error),
            };
            let mut rows = lock(&spare).pop().unwrap_or_default();
            parser.parse_into(&chunk, &mut rows);
            lock(&reader).2.push(chunk.bytes);
            let prepared = match prepare(&rows) {
                Ok(prepared) => prepared,
                Err(error) => return fail(error),
            };
            let mut now = lock(&turn);
            while now.next != number && now.failed.is_none() {
                now = moved.wait(now).unwrap_or_else(PoisonError::into_inner);
            }
            if now.failed.is_some() {
                return;
            }
            if let Err(error) = (now.hand_on)(&mut rows, prepared) {
                now.failed = Some(error);
            }
            now.next += 1;
            drop(now);
            moved.notify_all();
            lock(&spare).push(rows);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let turn = turn.into_inner().unwrap_or_else(PoisonError::into_inner);
    match turn.failed {
        Some(error) => Err(error),
        None => Ok(lock(&reader).1.end()),
    }
}
