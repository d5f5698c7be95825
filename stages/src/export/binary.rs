//! PostgreSQL's binary COPY format: rows to bytes, in pieces of some kilobytes.

use std::borrow::Cow;

use super::table::Cell;

/// Bytes sent at a time.
const PIECE: usize = 1 << 16;

/// From 1970, where times here count from, to 2000, where PostgreSQL's do; microseconds.
const EPOCH: i64 = 946_684_800_000_000;

/// Rows on their way.
pub(super) struct Rows {
    bytes: Vec<u8>,
}

impl Rows {
    /// Begins with the header of the format.
    pub(super) fn new() -> Self {
        let mut bytes = Vec::with_capacity(PIECE + (PIECE >> 2));
        bytes.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
        bytes.extend_from_slice(&[0; 8]);
        Self { bytes }
    }

    /// Returns the bytes when there are enough of them to send; call [`Self::sent`] then.
    pub(super) fn full(&self) -> Option<&[u8]> {
        (self.bytes.len() >= PIECE).then_some(self.bytes.as_slice())
    }

    /// Forgets what was sent.
    pub(super) fn sent(&mut self) {
        self.bytes.clear();
    }

    /// Ends with the trailer; returns what is left to send.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&(-1i16).to_be_bytes());
        self.bytes
    }

    /// Begins a row of so many columns.
    pub(super) fn row(&mut self, columns: i16) {
        self.bytes.extend_from_slice(&columns.to_be_bytes());
    }

    fn field(&mut self, bytes: &[u8]) {
        let length = i32::try_from(bytes.len()).expect("a field is shorter than 2 GB");
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes NULL.
    fn null(&mut self) {
        self.bytes.extend_from_slice(&(-1i32).to_be_bytes());
    }

    /// Writes a TEXT.
    pub(super) fn text(&mut self, text: &str) {
        self.field(storable(text).as_bytes());
    }

    /// Writes a BIGINT.
    fn int(&mut self, value: i64) {
        self.field(&value.to_be_bytes());
    }

    /// Writes a SMALLINT 0 or 1.
    pub(super) fn flag(&mut self, value: bool) {
        self.field(&i16::from(value).to_be_bytes());
    }

    /// Writes a DOUBLE PRECISION.
    pub(super) fn real(&mut self, value: f64) {
        self.field(&value.to_be_bytes());
    }

    /// Writes a TIMESTAMPTZ from microseconds since 1970 UTC.
    fn time(&mut self, micros: i64) {
        self.field(&micros.saturating_sub(EPOCH).to_be_bytes());
    }
}

impl Rows {
    /// Writes a value of any kind.
    pub(super) fn cell(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Text(Some(text)) => self.text(text),
            Cell::Int(Some(value)) => self.int(value),
            Cell::Real(Some(value)) => self.real(value),
            Cell::Flag(Some(value)) => self.flag(value),
            Cell::Time(Some(micros)) => self.time(micros),
            Cell::Text(None) | Cell::Int(None) | Cell::Real(None) | Cell::Flag(None) | Cell::Time(None) => self.null(),
        }
    }
}

/// A text as PostgreSQL can hold it: it has no NUL, which a damaged log may.
fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_by_hand() {
        let mut rows = Rows::new();
        rows.row(5);
        rows.text("a\0b");
        rows.null();
        rows.flag(true);
        rows.time(946_684_800_000_001);
        rows.real(1.0);
        let bytes = rows.end();
        let expected: &[&[u8]] = &[
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0",
            &[0, 5],
            &[0, 0, 0, 5],
            "a\u{fffd}b".as_bytes(),
            &[0xff; 4],
            &[0, 0, 0, 2, 0, 1],
            &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, 8, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0],
            &[0xff, 0xff],
        ];
        assert_eq!(bytes, expected.concat());
    }
}
