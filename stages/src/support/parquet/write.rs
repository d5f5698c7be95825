//! Writes row groups and, behind them, what they are.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::page::{Dictionary, Page};
use super::thrift::Struct;
use super::{Field, PLAIN, RLE, Shape};

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
