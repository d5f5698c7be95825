//! The files of one log: rows as Parquet, one row group a chunk, and the strings their numbers stand for.
//!
//! Rows are encoded and written on a thread of their own while the next chunks are parsed, unless one thread is all
//! there is. Row groups follow the chunks of the reader, which are cut at fixed sizes: bytes do not depend on threads.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    Column, DataFrame, DataType, Field, IdxCa, Int64Chunked, IntoColumn, IntoSeries, ListBuilderTrait,
    ListStringChunkedBuilder, NamedFrom, NewChunkedArray, ParquetCompression, ParquetWriter, Schema, Series, TimeUnit,
    UInt32Chunked, UInt32Type, UInt64Chunked,
};

use crate::logs::format::NO_TIME;
use crate::logs::given::GivenTemplates;
use crate::logs::intern::Interner;
use crate::logs::rows::{FileTables, Rows, text};
use crate::support::table::{list_column, write_parquet};

use super::{ROWS, SESSIONS, TEMPLATES};

/// Rows are written once and read once, so speed counts for more than size.
const COMPRESSION: ParquetCompression = ParquetCompression::Zstd(None);

/// Strings of a column by number.
type Dictionary = Arc<Vec<String>>;
type Job = (Rows, Dictionary, Dictionary);

/// Writes the files of one log.
pub(super) struct PartWriter {
    folder: PathBuf,
    levels: Dictionary,
    components: Dictionary,
    how: How,
}

enum How {
    Here(Box<Encoder>),
    Thread { sender: mpsc::SyncSender<Job>, handle: JoinHandle<anyhow::Result<()>> },
}

impl PartWriter {
    /// Starts the files of a log in its folder.
    pub(super) fn start(folder: &Path, parameters: bool) -> anyhow::Result<Self> {
        let mut encoder = Encoder::create(&folder.join(ROWS), parameters)?;
        let how = if rayon::current_num_threads() == 1 {
            How::Here(Box::new(encoder))
        } else {
            let (sender, receiver) = mpsc::sync_channel::<Job>(4);
            let handle = std::thread::spawn(move || {
                for (rows, levels, components) in receiver {
                    encoder.write(&rows, &levels, &components)?;
                }
                encoder.finish()
            });
            How::Thread { sender, handle }
        };
        let (levels, components) = (Arc::default(), Arc::default());
        Ok(Self { folder: folder.to_owned(), levels, components, how })
    }

    /// Takes the rows of the next chunk.
    pub(super) fn write(&mut self, rows: Rows, tables: &FileTables) -> anyhow::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        refresh(&mut self.levels, &tables.names.levels);
        refresh(&mut self.components, &tables.names.components);
        match &mut self.how {
            How::Here(encoder) => encoder.write(&rows, &self.levels, &self.components),
            How::Thread { sender, .. } => {
                // A send fails only when the thread has stopped with an error, which `finish` returns.
                let _ = sender.send((rows, self.levels.clone(), self.components.clone()));
                Ok(())
            }
        }
    }

    /// Completes the rows and writes the strings behind its numbers.
    pub(super) fn finish(self, tables: &FileTables, given: &GivenTemplates) -> anyhow::Result<()> {
        match self.how {
            How::Here(encoder) => encoder.finish()?,
            How::Thread { sender, handle } => {
                drop(sender);
                handle.join().expect("the writer does not panic")?;
            }
        }
        let ids: Vec<String> = tables.names.sessions.iter().map(|s| text(s).into_owned()).collect();
        let mut sessions = DataFrame::new_infer_height(vec![Column::new("session_id".into(), ids)])?;
        write_parquet(&self.folder.join(SESSIONS), &mut sessions)?;
        write_templates(&self.folder.join(TEMPLATES), tables, given)
    }
}

/// Brings a dictionary up to date; strings are only ever added.
fn refresh(dictionary: &mut Dictionary, names: &Interner) {
    if dictionary.len() != names.len() {
        *dictionary = Arc::new(names.iter().map(|n| text(n).into_owned()).collect());
    }
}

struct Encoder {
    writer: BatchedWriter<File>,
    path: PathBuf,
    parameters: bool,
}

impl Encoder {
    fn create(path: &Path, parameters: bool) -> anyhow::Result<Self> {
        let mut fields = vec![
            Field::new("line".into(), DataType::UInt64),
            Field::new("offset".into(), DataType::UInt64),
            Field::new("timestamp".into(), DataType::Datetime(TimeUnit::Microseconds, None)),
            Field::new("level".into(), DataType::String),
            Field::new("component".into(), DataType::String),
            Field::new("template".into(), DataType::UInt32),
            Field::new("sessions".into(), DataType::List(Box::new(DataType::UInt32))),
        ];
        if parameters {
            fields.push(Field::new("parameters".into(), DataType::List(Box::new(DataType::String))));
        }
        let schema = Schema::from_iter(fields);
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let writer = ParquetWriter::new(file).with_compression(COMPRESSION).set_parallel(false).batched(&schema)?;
        Ok(Self { writer, path: path.to_owned(), parameters })
    }

    fn write(&mut self, rows: &Rows, levels: &[String], components: &[String]) -> anyhow::Result<()> {
        let frame = frame(rows, levels, components, self.parameters)?;
        self.writer.write_batch(&frame).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn finish(self) -> anyhow::Result<()> {
        self.writer.finish().with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(())
    }
}

fn frame(rows: &Rows, levels: &[String], components: &[String], parameters: bool) -> anyhow::Result<DataFrame> {
    let time = if rows.time.contains(&NO_TIME) {
        Int64Chunked::from_iter_options("timestamp".into(), rows.time.iter().map(|&t| (t != NO_TIME).then_some(t)))
    } else {
        Int64Chunked::from_slice("timestamp".into(), &rows.time)
    };
    let ends: Vec<usize> = std::iter::once(0).chain(rows.session_ends.iter().map(|&e| e as usize)).collect();
    let mut columns = vec![
        UInt64Chunked::from_slice("line".into(), &rows.line).into_column(),
        UInt64Chunked::from_slice("offset".into(), &rows.offset).into_column(),
        time.into_datetime(TimeUnit::Microseconds, None).into_column(),
        strings("level", levels, &rows.level)?,
        strings("component", components, &rows.component)?,
        UInt32Chunked::from_slice("template".into(), &rows.form).into_column(),
        list_column::<UInt32Type>("sessions", &ends, &rows.sessions),
    ];
    if parameters {
        columns.push(parameter_lists(rows));
    }
    Ok(DataFrame::new_infer_height(columns)?)
}

/// Spreads a dictionary over rows; the strings themselves are shared, not copied.
fn strings(name: &str, dictionary: &[String], numbers: &[u32]) -> anyhow::Result<Column> {
    let dictionary = Series::new(name.into(), dictionary);
    Ok(dictionary.take(&IdxCa::from_slice("row".into(), numbers))?.into())
}

fn parameter_lists(rows: &Rows) -> Column {
    let mut builder = ListStringChunkedBuilder::new("parameters".into(), rows.len(), rows.value_ends.len());
    let (mut value, mut at) = (0, 0);
    let mut row = Vec::new();
    for &end in &rows.row_values {
        row.clear();
        for &stop in &rows.value_ends[value..end as usize] {
            row.push(text(&rows.values[at..stop as usize]));
            at = stop as usize;
        }
        value = end as usize;
        builder.append_values_iter(row.iter().map(AsRef::as_ref));
    }
    builder.finish().into_series().into()
}

fn write_templates(path: &Path, tables: &FileTables, given: &GivenTemplates) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut out = csv::Writer::from_path(path).with_context(context)?;
    out.write_record(["template", "count", "first_line", "text", "name"]).with_context(context)?;
    for (number, (form, used)) in tables.names.forms.iter().zip(&tables.names.uses).enumerate() {
        let name = given.find(&used.message).map_or("", |i| given.all[i].id.as_str());
        let row = [&number.to_string(), &used.count.to_string(), &used.first_line.to_string(), &*text(form), name];
        out.write_record(row).with_context(context)?;
    }
    out.flush().with_context(context)
}

/// Writes the user's templates beside the rows, for the stage that gives global numbers.
pub(super) fn write_given(path: &Path, given: &GivenTemplates) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut out = csv::Writer::from_path(path).with_context(context)?;
    out.write_record(["EventId", "EventTemplate"]).with_context(context)?;
    for template in &given.all {
        out.write_record([&template.id, &template.text]).with_context(context)?;
    }
    out.flush().with_context(context)
}
