//! Parquet for the largest tables: rows of logs and sessions.
//!
//! A table is written from columns that are encoded already, one page each for a row group, so that encoding runs beside
//! the work that makes them, and numbers of a dictionary stay numbers: what a chunk of a log calls 3 is 3 in its pages,
//! and the dictionary before them says what 3 is in the file. Any reader of Parquet reads these files; [`Table`] reads
//! nothing but them, quickly.
//!
//! Encodings: times, line numbers and offsets as deltas, repeated strings and numbers as dictionaries, other strings as
//! lengths and bytes. Packed numbers are not compressed again: it costs more than it saves.
//!
//! Files, metadata, page headers, compressed pages and packed bits are those of `polars_parquet`, which Polars reads and
//! writes by. What pages hold is put together here: that crate keeps its deltas to itself, and a writer of columns
//! (its own, or that of the crate `parquet`) looks each value up in a dictionary that the parser has made already. The
//! rows of a log cost 151 ns a line by the column writers of `parquet` 60 (91 of them for the parameters), and some 75 ns
//! here (by sampling, the parser's share included), of some 330 ns that a line takes from the log to its sessions.

pub mod encoding;
mod page;
mod read;
mod write;

pub use page::{Lists, Page};
pub use read::{Data, Table, TextLists};
pub use write::TableWriter;

use polars_parquet::parquet::error::ParquetResult;
use polars_parquet::parquet::schema::Repetition;
use polars_parquet::parquet::schema::types::{
    GroupConvertedType, GroupLogicalType, IntegerType, ParquetType, PhysicalType, PrimitiveConvertedType as Converted,
    PrimitiveLogicalType as Logical, TimeUnit,
};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers of 32 bits, none negative.
    U32,
    /// Numbers of 64 bits, none negative.
    U64,
    /// Numbers of 64 bits.
    I64,
    /// Numbers with a fraction, 32 bits.
    F32,
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

    /// Returns its type as the schema has it.
    fn column(self) -> ParquetResult<ParquetType> {
        let (physical, converted, logical) = match self.kind {
            Kind::Flag => (PhysicalType::Boolean, None, None),
            Kind::U32 => (PhysicalType::Int32, Some(Converted::Uint32), Some(Logical::Integer(IntegerType::UInt32))),
            Kind::U64 => (PhysicalType::Int64, Some(Converted::Uint64), Some(Logical::Integer(IntegerType::UInt64))),
            Kind::I64 => (PhysicalType::Int64, None, None),
            Kind::F32 => (PhysicalType::Float, None, None),
            // No converted type: that of microseconds says UTC.
            Kind::Micros => {
                let time = Logical::Timestamp { unit: TimeUnit::Microseconds, is_adjusted_to_utc: false };
                (PhysicalType::Int64, None, Some(time))
            }
            Kind::Text => (PhysicalType::ByteArray, Some(Converted::Utf8), Some(Logical::String)),
        };
        let leaf = |name: &str, repetition| {
            ParquetType::try_from_primitive(name.into(), physical, repetition, converted, logical, None)
        };
        match self.shape {
            Shape::One => leaf(self.name, Repetition::Required),
            Shape::Optional => leaf(self.name, Repetition::Optional),
            Shape::List => {
                let element = vec![leaf("element", Repetition::Required)?];
                let items = ParquetType::from_group("list".into(), Repetition::Repeated, None, None, element, None);
                let list = (Some(GroupConvertedType::List), Some(GroupLogicalType::List));
                let required = Repetition::Required;
                Ok(ParquetType::from_group(self.name.into(), required, list.0, list.1, vec![items], None))
            }
        }
    }
}

#[cfg(test)]
mod tests;
