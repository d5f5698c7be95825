//! Parquet for the largest tables: rows of logs and sessions.
//!
//! A table is written from columns that are encoded already, one page each for a row group, so that encoding runs beside
//! the work that makes them, and numbers of a dictionary stay numbers: what a chunk of a log calls 3 is 3 in its pages,
//! and the dictionary before them says what 3 is in the file. Any reader of Parquet reads these files; [`Table`] reads
//! nothing but them, quickly.
//!
//! Encodings: times, line numbers and offsets as deltas, repeated strings and numbers as dictionaries, other strings as
//! lengths and bytes. Packed numbers are not compressed again: it costs more than it saves.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::pages::{Bits, Levels, delta_start, deltas, numbers, take_deltas, take_levels, take_numbers};
use super::thrift::{Struct, Value};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers of 32 bits, none negative.
    U32,
    /// Numbers of 64 bits, none negative.
    U64,
    /// Numbers of 64 bits.
    I64,
    /// Microseconds since 1970, of no zone.
    Micros,
    /// UTF-8.
    Text,
    /// True or false.
    Flag,
}

/// How many values a row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One.
    One,
    /// One or none.
    Optional,
    /// A list, maybe empty.
    List,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// How many values a row has.
    pub shape: Shape,
}

impl Field {
    /// Makes a column of one value a row.
    pub const fn one(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, shape: Shape::One }
    }

    /// Makes a column of lists.
    pub const fn list(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, shape: Shape::List }
    }

    fn physical(self) -> i32 {
        match self.kind {
            Kind::Flag => 0,
            Kind::U32 => 1,
            Kind::U64 | Kind::I64 | Kind::Micros => 2,
            Kind::Text => 6,
        }
    }

    /// Appends the elements of the schema and returns their number.
    fn schema(self, out: &mut Vec<u8>) -> usize {
        let leaf = |out: &mut Vec<u8>, name: &str, repetition: i32| {
            let mut s = Struct::new(out);
            s.i32(1, self.physical());
            s.i32(3, repetition);
            s.bytes(4, name.as_bytes());
            let integer = |s: &mut Struct<'_>, converted: Option<i32>, bits: u8, signed: bool| {
                if let Some(converted) = converted {
                    s.i32(6, converted);
                }
                s.inner(10, |s| {
                    s.inner(10, |s| {
                        s.byte(1, bits);
                        s.flag(2, signed);
                    });
                });
            };
            match self.kind {
                Kind::Flag | Kind::I64 => {}
                Kind::U32 => integer(&mut s, Some(13), 32, false),
                Kind::U64 => integer(&mut s, Some(14), 64, false),
                // No converted type: that of microseconds says UTC.
                Kind::Micros => s.inner(10, |s| {
                    s.inner(8, |s| {
                        s.flag(1, false);
                        s.inner(2, |s| s.inner(2, |_| {}));
                    });
                }),
                Kind::Text => {
                    s.i32(6, 0);
                    s.inner(10, |s| s.inner(1, |_| {}));
                }
            }
            s.end();
        };
        if self.shape != Shape::List {
            leaf(out, self.name, i32::from(self.shape == Shape::Optional));
            return 1;
        }
        let mut s = Struct::new(out);
        s.i32(3, 0);
        s.bytes(4, self.name.as_bytes());
        s.i32(5, 1);
        s.i32(6, 3);
        s.inner(10, |s| s.inner(3, |_| {}));
        s.end();
        let mut s = Struct::new(out);
        s.i32(3, 2);
        s.bytes(4, b"list");
        s.i32(5, 1);
        s.end();
        leaf(out, "element", 0);
        3
    }
}

const PLAIN: i32 = 0;
const RLE: i32 = 3;
const DELTA: i32 = 5;
const DELTA_LENGTH: i32 = 6;
const DICTIONARY: i32 = 8;

const LZ4: i32 = 7;

/// A column of a row group, encoded.
#[derive(Clone, Debug, Default)]
pub struct Page {
    encoding: i32,
    codec: i32,
    /// Values, and one for each empty list or null.
    count: usize,
    nulls: usize,
    /// Length before compression.
    length: usize,
    bytes: Vec<u8>,
    dictionary: Option<Dictionary>,
    span: Option<(i64, i64)>,
}

/// Which rows the values of a list column belong to: whether a value goes on with the row before, and whether there is one.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    again: Bits,
    there: Bits,
}

impl Lists {
    /// Adds a row with `count` values.
    pub fn push(&mut self, count: usize) {
        if count < 32 {
            let values = count.max(1) as u32;
            let ones = (1u64 << values) - 1;
            self.again.push_bits(ones & !1, values);
            self.there.push_bits(if count == 0 { 0 } else { ones }, values);
        } else {
            self.push(31);
            self.again.push_all(true, count - 31);
            self.there.push_all(true, count - 31);
        }
    }

    /// Makes them of the ends of rows in the values.
    pub fn of_ends(ends: &[u32]) -> Self {
        let mut lists = Self::default();
        let mut before = 0;
        for &end in ends {
            lists.push((end - before) as usize);
            before = end;
        }
        lists
    }

    fn begin(&self, page: &mut Page) {
        page.count = self.again.count();
        page.nulls = page.count - self.there.ones();
        self.again.write(&mut page.bytes);
        self.there.write(&mut page.bytes);
    }
}

impl Page {
    fn of(encoding: i32, lists: Option<&Lists>, count: usize) -> Self {
        let mut page = Self { encoding, count, ..Self::default() };
        if let Some(lists) = lists {
            lists.begin(&mut page);
        }
        page
    }

    fn done(mut self) -> Self {
        self.length = self.bytes.len();
        self
    }

    /// Encodes numbers as deltas.
    pub fn of_numbers(lists: Option<&Lists>, values: impl ExactSizeIterator<Item = i64> + Clone) -> Self {
        let mut page = Self::of(DELTA, lists, values.len());
        delta_start(values.len(), values.clone().next().unwrap_or(0), &mut page.bytes);
        deltas(values.clone(), &mut page.bytes);
        if lists.is_none() {
            page.span = values.fold(None, |span, v| {
                let (least, most) = span.unwrap_or((v, v));
                Some((v.min(least), v.max(most)))
            });
        }
        page.done()
    }

    /// Encodes numbers whose deltas are encoded already; the first and the last one are the extremes.
    pub fn of_deltas(count: usize, first: i64, last: i64, deltas: &[u8]) -> Self {
        let mut page = Self::of(DELTA, None, count);
        delta_start(count, first, &mut page.bytes);
        page.bytes.extend_from_slice(deltas);
        page.span = Some((first, last));
        page.done()
    }

    /// Encodes numbers of which some lack.
    pub fn of_optional(values: &[i64], none: i64) -> Self {
        let mut there = Bits::default();
        values.iter().for_each(|&v| there.push(v != none));
        let mut page = Self::of(DELTA, None, values.len());
        there.write(&mut page.bytes);
        page.nulls = values.len() - there.ones();
        let kept: Vec<i64>;
        let values = if page.nulls == 0 {
            values
        } else {
            kept = values.iter().copied().filter(|&v| v != none).collect();
            &kept
        };
        delta_start(values.len(), values.first().copied().unwrap_or(0), &mut page.bytes);
        deltas(values.iter().copied(), &mut page.bytes);
        page.span = values.iter().min().copied().zip(values.iter().max().copied());
        page.done()
    }

    /// Encodes numbers of a dictionary of `size` entries, which [`Page::with_texts`] or [`Page::with_numbers`] gives.
    pub fn of_dictionary(lists: Option<&Lists>, values: &[u32], size: usize) -> Self {
        let mut page = Self::of(DICTIONARY, lists, values.len());
        numbers(values, size, &mut page.bytes);
        page.done()
    }

    /// Gives the dictionary: strings.
    pub fn with_texts<'a>(mut self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut count, mut bytes) = (0, Vec::new());
        for text in texts {
            count += 1;
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        self.dictionary = Some(Dictionary { count, length: bytes.len(), bytes });
        self
    }

    /// Gives the dictionary: numbers.
    pub fn with_numbers(mut self, values: &[u32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.dictionary = Some(Dictionary { count: values.len(), length: bytes.len(), bytes });
        self
    }

    /// Encodes strings: where each ends in `bytes`, which is UTF-8.
    pub fn of_texts(lists: Option<&Lists>, ends: &[u32], bytes: &[u8]) -> Self {
        let mut page = Self::of(DELTA_LENGTH, lists, ends.len());
        let starts = std::iter::once(&0).chain(ends);
        let lengths: Vec<u32> = starts.zip(ends).map(|(start, end)| end - start).collect();
        delta_start(lengths.len(), lengths.first().copied().unwrap_or(0).into(), &mut page.bytes);
        deltas(lengths.iter().map(|&l| i64::from(l)), &mut page.bytes);
        page.bytes.extend_from_slice(bytes);
        page.done()
    }

    /// Encodes truths.
    pub fn of_flags(values: &[bool]) -> Self {
        let mut page = Self::of(PLAIN, None, values.len());
        page.bytes = values.chunks(8).map(|b| b.iter().rev().fold(0, |all, &b| all << 1 | u8::from(b))).collect();
        page.done()
    }

    /// Gives the dictionary: strings, each with its length before it (four bytes, the lowest first).
    pub fn with_dictionary(mut self, count: usize, texts: &[u8]) -> Self {
        self.dictionary = Some(Dictionary { count, length: texts.len(), bytes: texts.to_vec() });
        self
    }

    /// Compresses the page and its dictionary by LZ4, quickly.
    ///
    /// # Errors
    /// It is too large (2 GB).
    pub fn compressed(mut self) -> anyhow::Result<Self> {
        self.bytes = packed(&self.bytes)?;
        if let Some(dictionary) = &mut self.dictionary {
            dictionary.bytes = packed(&dictionary.bytes)?;
        }
        self.codec = LZ4;
        Ok(self)
    }
}

fn packed(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    use lz4::block::{CompressionMode, compress_bound, compress_to_buffer};
    let mut packed = vec![0; compress_bound(bytes.len())?];
    let length = compress_to_buffer(bytes, Some(CompressionMode::FAST(ACCELERATION)), false, &mut packed)?;
    packed.truncate(length);
    Ok(packed)
}

/// The dictionary of a page.
#[derive(Clone, Debug, Default)]
struct Dictionary {
    count: usize,
    /// Length before compression.
    length: usize,
    bytes: Vec<u8>,
}

/// How much LZ4 hurries.
const ACCELERATION: i32 = 4;

/// Writes a table.
pub struct TableWriter {
    out: BufWriter<File>,
    path: PathBuf,
    fields: Vec<Field>,
    at: u64,
    rows: u64,
    groups: usize,
    described: Vec<u8>,
}

impl TableWriter {
    /// Creates the file.
    ///
    /// # Errors
    /// It cannot be created or written.
    pub fn create(path: &Path, fields: &[Field]) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut writer = Self {
            out: BufWriter::with_capacity(1 << 16, file),
            path: path.to_owned(),
            fields: fields.to_vec(),
            at: 0,
            rows: 0,
            groups: 0,
            described: Vec::new(),
        };
        writer.put(b"PAR1")?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Writes a row group: a page for each column.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, rows: usize, pages: &[Page]) -> anyhow::Result<()> {
        assert_eq!(pages.len(), self.fields.len(), "a page for each column");
        let start = self.at;
        let mut columns = Vec::new();
        let mut head = Vec::new();
        for (index, page) in pages.iter().enumerate() {
            let field = self.fields[index];
            let begin = self.at;
            let mut length = 0;
            if let Some(Dictionary { count, length: unpacked, bytes }) = &page.dictionary {
                head.clear();
                let mut s = Struct::new(&mut head);
                s.i32(1, 2);
                s.i32(2, *unpacked as i32);
                s.i32(3, bytes.len() as i32);
                s.inner(7, |s| {
                    s.i32(1, *count as i32);
                    s.i32(2, PLAIN);
                });
                s.end();
                length += head.len() + unpacked;
                self.put(&head)?;
                self.put(bytes)?;
            }
            let data = self.at;
            head.clear();
            let mut s = Struct::new(&mut head);
            s.i32(1, 0);
            s.i32(2, page.length as i32);
            s.i32(3, page.bytes.len() as i32);
            s.inner(5, |s| {
                s.i32(1, page.count as i32);
                s.i32(2, page.encoding);
                s.i32(3, RLE);
                s.i32(4, RLE);
            });
            s.end();
            length += head.len() + page.length;
            self.put(&head)?;
            self.put(&page.bytes)?;

            let mut s = Struct::new(&mut columns);
            s.i64(2, begin as i64);
            s.inner(3, |s| {
                s.i32(1, field.physical());
                match page.dictionary {
                    Some(_) => s.i32s(2, &[PLAIN, RLE, page.encoding]),
                    None => s.i32s(2, &[RLE, page.encoding]),
                }
                match field.shape {
                    Shape::List => s.texts(3, &[field.name, "list", "element"]),
                    _ => s.texts(3, &[field.name]),
                }
                s.i32(4, page.codec);
                s.i64(5, page.count as i64);
                s.i64(6, length as i64);
                s.i64(7, (self.at - begin) as i64);
                s.i64(9, data as i64);
                if page.dictionary.is_some() {
                    s.i64(11, begin as i64);
                }
                if let Some((least, most)) = page.span {
                    s.inner(12, |s| {
                        s.i64(3, page.nulls as i64);
                        s.bytes(5, &most.to_le_bytes());
                        s.bytes(6, &least.to_le_bytes());
                    });
                }
            });
            s.end();
        }
        let mut s = Struct::new(&mut self.described);
        s.encoded(1, pages.len(), &columns);
        s.i64(2, (self.at - start) as i64);
        s.i64(3, rows as i64);
        s.end();
        self.groups += 1;
        self.rows += rows as u64;
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let mut schema = Vec::new();
        let mut s = Struct::new(&mut schema);
        s.bytes(4, b"root");
        s.i32(5, self.fields.len() as i32);
        s.end();
        let elements = 1 + self.fields.iter().map(|f| f.schema(&mut schema)).sum::<usize>();
        let mut orders = Vec::new();
        for _ in &self.fields {
            let mut s = Struct::new(&mut orders);
            s.inner(1, |_| {});
            s.end();
        }
        let mut footer = Vec::new();
        let mut s = Struct::new(&mut footer);
        s.i32(1, 2);
        s.encoded(2, elements, &schema);
        s.i64(3, self.rows as i64);
        s.encoded(4, self.groups, &self.described);
        s.bytes(6, b"logweir");
        s.encoded(7, self.fields.len(), &orders);
        s.end();
        let length = footer.len() as u32;
        footer.extend_from_slice(&length.to_le_bytes());
        footer.extend_from_slice(b"PAR1");
        self.put(&footer)?;
        self.out.flush().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Reads a table that [`TableWriter`] wrote.
pub struct Table {
    file: File,
    path: PathBuf,
    names: Vec<String>,
    groups: Vec<Group>,
}

struct Group {
    rows: usize,
    columns: Vec<Place>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    at: u64,
    length: usize,
    values: usize,
    codec: i64,
    span: Option<(i64, i64)>,
}

/// A column of a row group as it lies in the file, decompressed.
#[derive(Debug, Default)]
pub struct Data {
    count: usize,
    bytes: Vec<u8>,
    dictionary: Vec<u8>,
}

impl Data {
    /// Calls `value` with each number of a column of one number a row.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn numbers(&self, value: impl FnMut(i64)) -> anyhow::Result<()> {
        take_deltas(&self.bytes, value)?;
        Ok(())
    }

    /// Returns the numbers of a column where some lack, which are `none`.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn optional(&self, none: i64) -> anyhow::Result<Vec<i64>> {
        let mut bytes = &self.bytes[..];
        let there = take_levels(&mut bytes)?;
        let mut values = Vec::with_capacity(self.count);
        take_deltas(bytes, |v| values.push(v))?;
        if values.len() == self.count {
            return Ok(values);
        }
        let mut kept = values.into_iter();
        Ok((0..self.count).map(|i| if there.get(i) { kept.next().unwrap_or(none) } else { none }).collect())
    }

    fn dictionary(&self) -> Vec<u32> {
        self.dictionary.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
    }

    /// Returns the numbers of a column of one number a row, `change`d in the dictionary.
    ///
    /// # Errors
    /// The page is damaged, or `change` fails.
    pub fn changed(&self, change: impl Fn(u32) -> anyhow::Result<u32>) -> anyhow::Result<Vec<u32>> {
        self.changed_from(&self.bytes, self.count, change)
    }

    fn changed_from(
        &self,
        bytes: &[u8],
        count: usize,
        change: impl Fn(u32) -> anyhow::Result<u32>,
    ) -> anyhow::Result<Vec<u32>> {
        let dictionary = self.dictionary().into_iter().map(change).collect::<anyhow::Result<Vec<u32>>>()?;
        let (mut values, mut wrong) = (Vec::with_capacity(count), false);
        take_numbers(bytes, count, |n| match dictionary.get(n as usize) {
            Some(&value) => values.push(value),
            None => wrong = true,
        })?;
        anyhow::ensure!(!wrong, "a number is not in its dictionary");
        Ok(values)
    }

    /// Returns lists of numbers, `change`d in the dictionary: where each row ends, and the numbers.
    ///
    /// # Errors
    /// As [`Data::changed`].
    pub fn lists(&self, change: impl Fn(u32) -> anyhow::Result<u32>) -> anyhow::Result<(Vec<u32>, Vec<u32>)> {
        let mut bytes = &self.bytes[..];
        let (again, there) = (take_levels(&mut bytes)?, take_levels(&mut bytes)?);
        let mut ends = Vec::with_capacity(self.count);
        let mut values = 0u32;
        if let (Levels::All(false), Levels::All(true)) = (&again, &there) {
            values = self.count as u32;
            ends.extend(1..=values);
        } else {
            for i in 0..self.count {
                if i > 0 && !again.get(i) {
                    ends.push(values);
                }
                values += u32::from(there.get(i));
            }
            if self.count > 0 {
                ends.push(values);
            }
        }
        Ok((ends, self.changed_from(bytes, values as usize, change)?))
    }

    /// Calls `value` with each text of a column of one text a row.
    ///
    /// # Errors
    /// The page is damaged.
    pub fn texts(&self, mut value: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let mut lengths = Vec::with_capacity(self.count);
        let mut rest = take_deltas(&self.bytes, |length| lengths.push(length as usize))?;
        for length in lengths.into_iter().take(self.count) {
            let (text, after) = rest.split_at_checked(length).context("a text is cut off")?;
            value(text);
            rest = after;
        }
        Ok(())
    }
}

impl Table {
    /// Opens a table.
    ///
    /// # Errors
    /// The file cannot be read, or is none of a [`TableWriter`].
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot read {}", path.display());
        let file = File::open(path).with_context(context)?;
        let (names, groups) = Self::footer(&file).with_context(context)?;
        Ok(Self { file, path: path.to_owned(), names, groups })
    }

    fn footer(file: &File) -> anyhow::Result<(Vec<String>, Vec<Group>)> {
        let size = file.metadata()?.len();
        let mut tail = [0; 8];
        file.read_exact_at(&mut tail, size.checked_sub(8).context("it is too short")?)?;
        let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        if &tail[4..] != b"PAR1" || length + 12 > size {
            bail!("it is no Parquet");
        }
        let mut footer = vec![0; length as usize];
        file.read_exact_at(&mut footer, size - 8 - length)?;
        let meta = Value::take(&mut &footer[..])?;
        let mut names = Vec::new();
        let mut groups = Vec::new();
        for group in meta.list(4) {
            let mut columns = Vec::new();
            names.clear();
            for column in group.list(1) {
                let meta = column.get(3).context("a column is not described")?;
                let name = match meta.list(3).first() {
                    Some(Value::Bytes(name)) => String::from_utf8_lossy(name).into_owned(),
                    _ => bail!("a column has no name"),
                };
                names.push(name);
                let bound = |id| -> Option<i64> { Some(i64::from_le_bytes(meta.get(12)?.bytes(id)?.try_into().ok()?)) };
                columns.push(Place {
                    at: meta.number(11).or(meta.number(9)).context("a column has no place")? as u64,
                    codec: meta.number(4).unwrap_or(0),
                    values: meta.number(5).context("a column has no count")? as usize,
                    length: meta.number(7).context("a column has no length")? as usize,
                    span: bound(6).zip(bound(5)),
                });
            }
            groups.push(Group { rows: group.number(3).context("a row group has no rows")? as usize, columns });
        }
        Ok((names, groups))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how many row groups there are.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Returns how many rows a row group has.
    pub fn rows(&self, group: usize) -> usize {
        self.groups[group].rows
    }

    /// Returns how many values a column has in a row group, empty lists and nulls included.
    pub fn values(&self, group: usize, column: usize) -> usize {
        self.groups[group].columns[column].values
    }

    /// Returns the least and the greatest number of a column in a row group, if the file says so.
    pub fn span(&self, group: usize, column: usize) -> Option<(i64, i64)> {
        self.groups[group].columns[column].span
    }

    /// Returns which column has a name.
    ///
    /// # Errors
    /// None has.
    pub fn column(&self, name: &str) -> anyhow::Result<usize> {
        if self.groups.is_empty() {
            return Ok(0);
        }
        let at = self.names.iter().position(|n| n == name);
        at.with_context(|| format!("{} has no column `{name}`", self.path.display()))
    }

    /// Reads a column of a row group.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn read(&self, group: usize, column: usize) -> anyhow::Result<Data> {
        let context = || format!("cannot read {}", self.path.display());
        let place = self.groups[group].columns[column];
        let mut bytes = vec![0; place.length];
        self.file.read_exact_at(&mut bytes, place.at).with_context(context)?;
        Self::pages(&bytes, place.codec).with_context(context)
    }

    fn pages(mut rest: &[u8], codec: i64) -> anyhow::Result<Data> {
        let mut data = Data::default();
        while !rest.is_empty() {
            let head = Value::take(&mut rest)?;
            let [kind, length, packed] = [1, 2, 3].map(|id| head.number(id));
            let (length, packed) = (length.context("no length")? as usize, packed.context("no length")? as usize);
            let (bytes, after) = rest.split_at_checked(packed).context("a page is cut off")?;
            rest = after;
            let bytes = match codec {
                0 => bytes.to_vec(),
                _ => lz4::block::decompress(bytes, Some(length as i32))?,
            };
            match kind {
                Some(2) => data.dictionary = bytes,
                _ => {
                    data.count = head.get(5).and_then(|h| h.number(1)).context("a page without count")? as usize;
                    data.bytes = bytes;
                }
            }
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::{DataType, UInt32Type, UInt64Type};

    use super::*;
    use crate::support::table::{lists, read_parquet};

    #[test]
    fn any_reader_reads_what_is_written_and_so_does_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let fields = [
            Field::one("line", Kind::U64),
            Field { name: "time", kind: Kind::Micros, shape: Shape::Optional },
            Field::one("level", Kind::Text),
            Field::one("template", Kind::U32),
            Field::list("sessions", Kind::U32),
            Field::list("parameters", Kind::Text),
            Field::one("flag", Kind::Flag),
            Field::list("gaps", Kind::I64),
            Field::list("lines", Kind::U64),
        ];
        let rows = 3000usize;
        let ends = |count: &dyn Fn(usize) -> usize| -> Vec<u32> {
            (0..rows)
                .scan(0, |end, i| {
                    *end += count(i) as u32;
                    Some(*end)
                })
                .collect()
        };
        let mut writer = TableWriter::create(&path, &fields).unwrap();
        for group in 0..2u64 {
            let line: Vec<i64> = (0..rows as i64).map(|i| i * i + group as i64).collect();
            let time: Vec<i64> =
                (0..rows as i64).map(|i| if i % 7 == 3 { i64::MIN } else { 1_226_262_930_000_000 - i }).collect();
            let level: Vec<u32> = (0..rows as u32).map(|i| u32::from(i > 5)).collect();
            let session_ends = ends(&|i| if group == 0 { 1 } else { [0, 1, 2, 40][i % 4] });
            let sessions: Vec<u32> = (0..session_ends[rows - 1]).map(|i| i % 900).collect();
            let value_ends = ends(&|i| i % 4);
            let texts: Vec<String> = (0..value_ends[rows - 1]).map(|i| "v".repeat(i as usize % 40)).collect();
            let text_ends: Vec<u32> = texts
                .iter()
                .scan(0, |end, t| {
                    *end += t.len() as u32;
                    Some(*end)
                })
                .collect();
            let lists = Lists::of_ends(&session_ends);
            let gaps: Vec<i64> = sessions.iter().map(|&s| i64::from(s) * 1000 - 5).collect();
            let dictionary: Vec<u32> = (0..900).map(|i| i * 3).collect();
            let flags: Vec<bool> = (0..rows).map(|i| i % 3 == 0).collect();
            let pages = [
                Page::of_numbers(None, line.iter().copied()),
                Page::of_optional(&time, i64::MIN),
                Page::of_dictionary(None, &level, 2).with_texts(["INFO", "WARN"]),
                Page::of_dictionary(None, &level, 2).with_numbers(&[7, 9]),
                Page::of_dictionary(Some(&lists), &sessions, 900).with_numbers(&dictionary),
                Page::of_texts(Some(&Lists::of_ends(&value_ends)), &text_ends, texts.concat().as_bytes())
                    .compressed()
                    .unwrap(),
                Page::of_flags(&flags),
                Page::of_numbers(Some(&lists), gaps.iter().copied()),
                Page::of_numbers(Some(&lists), sessions.iter().map(|&s| i64::from(s) + 1)),
            ];
            writer.write(rows, &pages).unwrap();
        }
        writer.finish().unwrap();

        let frame = read_parquet(&path, None).unwrap();
        assert_eq!(frame.height(), 2 * rows);
        let column = |name: &str| frame.column(name).unwrap().clone();
        assert_eq!(column("line").u64().unwrap().get(rows + 9), Some(82));
        let time = column("time").cast(&DataType::Int64).unwrap();
        assert_eq!((time.i64().unwrap().get(3), time.i64().unwrap().get(4)), (None, Some(1_226_262_929_999_996)));
        assert_eq!(
            (column("level").str().unwrap().get(5), column("level").str().unwrap().get(6)),
            (Some("INFO"), Some("WARN"))
        );
        assert_eq!(column("template").u32().unwrap().get(6), Some(9));
        let (offsets, values) = lists::<UInt32Type>(&frame, "sessions").unwrap();
        assert_eq!(offsets[rows..rows + 5], [0, 0, 1, 3, 43].map(|o| o + rows));
        assert_eq!(values[rows + 2], 6);
        let texts = column("parameters");
        let texts = texts.as_materialized_series().list().unwrap().clone();
        assert_eq!(texts.get_as_series(3).unwrap().str().unwrap().get(2), Some("vvvvv"));
        assert_eq!(texts.get_as_series(4).unwrap().len(), 0);
        assert_eq!(column("flag").bool().unwrap().get(9), Some(true));
        assert_eq!(lists::<UInt64Type>(&frame, "lines").unwrap().1[rows + 2], 3);

        let table = Table::open(&path).unwrap();
        assert_eq!((table.groups(), table.rows(1)), (2, rows));
        let at = |name| table.column(name).unwrap();
        assert_eq!(table.span(1, at("line")), Some((1, 2999 * 2999 + 1)));
        let mut line = Vec::new();
        table.read(1, at("line")).unwrap().numbers(|v| line.push(v)).unwrap();
        assert_eq!((line.len(), line[9]), (rows, 82));
        assert_eq!(
            table.read(0, at("time")).unwrap().optional(-1).unwrap()[2..5],
            [1_226_262_929_999_998, -1, 1_226_262_929_999_996]
        );
        let (ends, sessions) = table.read(1, at("sessions")).unwrap().lists(|n| Ok(n + 1)).unwrap();
        assert_eq!((&ends[..5], sessions[2]), (&[0, 1, 3, 43, 43][..], 7));
        assert_eq!(table.read(0, at("sessions")).unwrap().lists(Ok).unwrap().0[..2], [1, 2]);
        assert_eq!(table.read(0, at("template")).unwrap().changed(Ok).unwrap()[5..7], [7, 9]);
        assert!(table.column("nope").is_err());
    }
}
