//! Parquet for the largest tables: rows of logs and sessions.
//!
//! A table is written from columns that are encoded already, one page each for a row group, so that encoding runs beside
//! the work that makes them, and numbers of a dictionary stay numbers: what a chunk of a log calls 3 is 3 in its pages,
//! and the dictionary before them says what 3 is in the file. Any reader of Parquet reads these files; [`Table`] reads
//! nothing but them, quickly.
//!
//! Encodings: times, line numbers and offsets as deltas, repeated strings and numbers as dictionaries, other strings as
//! lengths and bytes. Packed numbers are not compressed again: it costs more than it saves.

pub mod encoding;
mod page;
mod read;
mod thrift;
mod write;

pub use page::{Lists, Page};
pub use read::{Data, Table};
pub use write::TableWriter;

use thrift::Struct;

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

#[cfg(test)]
mod tests;
