//! Where rows go, and how far: a row is numbered, and a stream that goes on after a kill writes none twice.
//!
//! A file is appended to in whole lines. Its length is part of the state, and what lies beyond is cut off when a stream
//! goes on: those rows come again. A database has the number of each row as part of its key, so that rows that come again
//! are there already.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::database;
use super::judge::{Line, ScoreRow};
use crate::export::{Address, Place, VARIABLE};

/// How rows are written into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With a header line.
    Csv,
    /// One object a line.
    JsonLines,
}

/// Where rows go.
#[derive(Clone, Debug)]
pub enum Target {
    /// The standard output, as CSV.
    Stdout,
    /// A file.
    File(PathBuf, Format),
    /// A database.
    Database(Database),
}

/// The address of a database.
#[derive(Clone, Debug)]
pub struct Database(pub(super) Address);

impl Target {
    /// Reads a target: `-`, a path that ends in `.csv` or `.jsonl`, `sqlite:PATH`, `postgres:` (what `LOGWEIR_POSTGRES` or
    /// the `PG*` variables name) or an address. Paths are relative to the working directory.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str, env: &std::collections::BTreeMap<String, String>) -> anyhow::Result<Self> {
        if text == "-" {
            return Ok(Self::Stdout);
        }
        let absolute = |path: &str| std::path::absolute(path).with_context(|| format!("`{path}` is no path"));
        if let Some(path) = text.strip_prefix("sqlite:") {
            ensure!(
                !path.trim_start_matches("//").is_empty(),
                "`sqlite:` needs a path, such as `sqlite:scores.sqlite`"
            );
            return Ok(Self::Database(Database(Address::Sqlite(absolute(path.trim_start_matches("//"))?))));
        }
        if ["postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme)) {
            let mut env = env.clone();
            let bare = text.split_once(':').is_some_and(|(_, rest)| rest.trim_matches('/').is_empty());
            // An address on the command line is the one that is meant.
            if !bare {
                env.remove(VARIABLE);
            }
            let address = if bare { "postgresql://" } else { text };
            return Ok(Self::Database(Database(Address::resolve(
                Place { url: address, schema: "public", password_from: None },
                &env,
            )?)));
        }
        let format = match Path::new(text).extension().and_then(|e| e.to_str()) {
            Some("csv") => Format::Csv,
            Some("jsonl" | "ndjson") => Format::JsonLines,
            _ => bail!("`{text}` tells no format"),
        };
        Ok(Self::File(absolute(text)?, format))
    }

    /// Names it, without credentials.
    pub fn name(&self) -> String {
        match self {
            Self::Stdout => "-".to_owned(),
            Self::File(path, _) => path.display().to_string(),
            Self::Database(Database(address)) => address.identity(),
        }
    }
}

/// What a stream is, for a database.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What tells its rows from those of others.
    pub stream: String,
    /// The run of the models.
    pub run: String,
    /// The threshold.
    pub threshold: f64,
}

/// Takes rows.
pub trait Sink: Send {
    /// Takes rows, of which the first has this number in the stream.
    ///
    /// # Errors
    /// They cannot be written.
    fn write(&mut self, first: u64, rows: &[ScoreRow]) -> anyhow::Result<()>;

    /// Makes what was written last; returns the length of a file, 0 of what has none.
    ///
    /// # Errors
    /// The disk or the database does not take it.
    fn commit(&mut self) -> anyhow::Result<u64>;

    /// Ends: a file that was in the making is in its place then.
    ///
    /// # Errors
    /// As [`Sink::commit`].
    fn finish(&mut self) -> anyhow::Result<()> {
        self.commit().map(drop)
    }
}

/// How a file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Anew, and in place only when it is whole.
    Whole,
    /// Behind what is there.
    Append,
    /// At this length: what lies beyond is cut off.
    At(u64),
}

/// Opens a target.
///
/// # Errors
/// A file cannot be opened or is shorter than it was; a database cannot be reached.
pub fn open(target: &Target, begin: Begin, about: &About) -> anyhow::Result<Box<dyn Sink>> {
    Ok(match target {
        Target::Stdout => Box::new(Stdout { header: false }),
        Target::File(path, format) => Box::new(FileSink::open(path, *format, begin)?),
        Target::Database(Database(address)) => database::open(address, about)?,
    })
}

struct Stdout {
    header: bool,
}

impl Sink for Stdout {
    fn write(&mut self, _: u64, rows: &[ScoreRow]) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        if !self.header {
            self.header = true;
            bytes.extend_from_slice(HEADER);
        }
        encode(rows, Format::Csv, &mut bytes)?;
        let mut out = io::stdout().lock();
        out.write_all(&bytes)?;
        Ok(out.flush()?)
    }

    fn commit(&mut self) -> anyhow::Result<u64> {
        Ok(0)
    }
}

/// A file of rows.
struct FileSink {
    file: File,
    path: PathBuf,
    /// Where it is until it is whole.
    partial: Option<PathBuf>,
    format: Format,
    length: u64,
    /// Whether something was written since the last commit.
    dirty: bool,
}

impl FileSink {
    fn open(path: &Path, format: Format, begin: Begin) -> anyhow::Result<Self> {
        let partial = (begin == Begin::Whole).then(|| {
            path.with_file_name(format!(".{}.partial", path.file_name().unwrap_or_default().to_string_lossy()))
        });
        let place = partial.as_deref().unwrap_or(path);
        let context = || format!("cannot write `{}`", place.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(begin == Begin::Whole)
            .open(place)
            .with_context(context)?;
        let mut length = file.metadata().with_context(context)?.len();
        if let Begin::At(at) = begin {
            ensure!(
                length >= at,
                "`{}` has {length} bytes, but {at} were written to it: it was cut or replaced (hint: put it back, or begin \
                 anew without the state file)",
                path.display()
            );
            if length > at {
                file.set_len(at).with_context(context)?;
            }
            length = at;
        }
        file.seek(SeekFrom::Start(length)).with_context(context)?;
        Ok(Self { file, path: path.to_owned(), partial, format, length, dirty: false })
    }

    fn append(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write `{}`", self.path.display()))?;
        self.length += bytes.len() as u64;
        self.dirty = true;
        Ok(())
    }
}

impl Sink for FileSink {
    fn write(&mut self, _: u64, rows: &[ScoreRow]) -> anyhow::Result<()> {
        let mut bytes = if self.length == 0 && self.format == Format::Csv { HEADER.to_vec() } else { Vec::new() };
        encode(rows, self.format, &mut bytes)?;
        self.append(&bytes)
    }

    fn commit(&mut self) -> anyhow::Result<u64> {
        if std::mem::take(&mut self.dirty) {
            self.file.sync_data().with_context(|| format!("cannot write `{}`", self.path.display()))?;
        }
        Ok(self.length)
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        if self.length == 0 && self.format == Format::Csv {
            self.append(HEADER)?;
        }
        let Some(partial) = self.partial.take() else { return self.commit().map(drop) };
        fs::rename(&partial, &self.path).with_context(|| format!("cannot write `{}`", self.path.display()))
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // What cannot be removed is named `.partial`.
            let _ = fs::remove_file(partial);
        }
    }
}

const HEADER: &[u8] = b"session_id,timestamp,p_lgbm,z_ae,fusion_score,is_alert,events,censored,reason,state\n";

/// Writes rows as whole lines.
pub(crate) fn encode(rows: &[ScoreRow], format: Format, out: &mut Vec<u8>) -> anyhow::Result<()> {
    match format {
        Format::JsonLines => {
            for row in rows {
                serde_json::to_writer(&mut *out, &row.line())?;
                out.push(b'\n');
            }
        }
        Format::Csv => {
            let mut writer = csv::Writer::from_writer(out);
            for row in rows {
                record(&mut writer, &row.line())?;
            }
            writer.flush()?;
        }
    }
    Ok(())
}

fn record(writer: &mut csv::Writer<&mut Vec<u8>>, line: &Line<'_>) -> anyhow::Result<()> {
    let number = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
    let bit = |x: bool| if x { "1" } else { "0" };
    let cells = [
        line.session_id,
        &line.timestamp,
        &number(line.p_lgbm),
        &number(line.z_ae),
        &line.fusion_score.to_string(),
        bit(line.is_alert),
        &line.events.to_string(),
        bit(line.censored),
        line.reason,
        line.state.name(),
    ];
    Ok(writer.write_record(cells)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Why;

    fn rows() -> [ScoreRow; 2] {
        let row = ScoreRow {
            session_id: "a".to_owned(),
            start: 0,
            p_lgbm: Some(0.5),
            z_ae: Some(1.25),
            fusion_score: 0.75,
            is_alert: true,
            events: 3,
            censored: false,
            reason: "unseen T9".to_owned(),
            state: Why::Early,
        };
        let other = ScoreRow {
            session_id: "b,c".to_owned(),
            start: 86_400_000_000,
            p_lgbm: None,
            z_ae: Some(-3.0),
            fusion_score: 0.25,
            is_alert: false,
            events: 4,
            censored: true,
            reason: String::new(),
            state: Why::End,
        };
        [row, other]
    }

    const CSV: &str = "session_id,timestamp,p_lgbm,z_ae,fusion_score,is_alert,events,censored,reason,state\n\
        a,1970-01-01T00:00:00Z,0.5,1.25,0.75,1,3,0,unseen T9,early\n\
        \"b,c\",1970-01-02T00:00:00Z,,-3,0.25,0,4,1,,end\n";

    #[test]
    fn a_whole_file_is_there_when_it_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        let target = Target::File(path.clone(), Format::Csv);
        let mut sink = open(&target, Begin::Whole, &About::default()).unwrap();
        sink.write(0, &rows()).unwrap();
        assert!(!path.exists());
        sink.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), CSV);
        drop(open(&target, Begin::Whole, &About::default()).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "what was not finished is gone");
    }

    #[test]
    fn what_lies_beyond_the_known_length_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        let target = Target::File(path.clone(), Format::JsonLines);
        let about = About::default();
        let mut sink = open(&target, Begin::Append, &about).unwrap();
        sink.write(0, &rows()[..1]).unwrap();
        let length = sink.commit().unwrap();
        sink.write(1, &rows()).unwrap();
        drop(sink);
        let mut sink = open(&target, Begin::At(length), &about).unwrap();
        sink.write(1, &rows()[1..]).unwrap();
        sink.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((&lines[0]["session_id"], &lines[1]["p_lgbm"]), (&"a".into(), &serde_json::Value::Null));
        assert_eq!((lines.len(), &lines[0]["state"]), (2, &"early".into()));
        assert!(open(&target, Begin::At(length * 9), &about).is_err());
    }

    #[test]
    fn targets_are_told_apart() {
        let env = std::collections::BTreeMap::from([(VARIABLE.to_owned(), "host=db user=ann dbname=logs".to_owned())]);
        let name = |text: &str| Target::parse(text, &env).map(|target| target.name());
        assert_eq!(name("-").unwrap(), "-");
        assert!(name("x.csv").unwrap().ends_with("/x.csv"));
        assert!(name("sqlite:x.db").unwrap().ends_with("/x.db"));
        assert_eq!(name("postgres:").unwrap(), "postgresql://db:5432/logs?schema=public");
        let given = "postgresql://bob:secret@other:7/them";
        assert_eq!(name(given).unwrap(), "postgresql://other:7/them?schema=public");
        assert!(name("x.pdf").is_err() && name("sqlite:").is_err());
    }
}
