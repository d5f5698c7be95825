//! What the page shows, each value with its place: the file and where in it, the exact value, how it is written.
//! A value can only be shown through its place, so the two cannot part.

use serde::Serialize;
use serde_json::Value;

use crate::plots::grouped;

/// A piece of text; a value when it has an origin.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Piece {
    /// As shown.
    pub text: String,
    /// `FILE#/json/pointer` or `FILE#cell=ROW,COLUMN`; empty for plain text.
    pub origin: String,
    /// The second place of a value that is the sum of two.
    pub plus: String,
    /// The value as it is in the file.
    pub exact: String,
    /// How the text was made of it.
    pub how: String,
}

/// How a value is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// As it is.
    Plain,
    /// A whole number with commas.
    Count,
    /// A number with so many decimals.
    Decimals(usize),
    /// The same with its sign.
    Signed(usize),
    /// A share as a percentage with so many decimals.
    Percent(usize),
    /// A share as a percentage, no more decimals than it needs.
    PlainPercent,
    /// Four decimals, or three significant ones where those say nothing.
    Short,
    /// A time without `T` and `Z`.
    Time,
}

impl Form {
    fn text(self, value: &Value) -> String {
        let plain = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let number = |write: &dyn Fn(f64) -> String| value.as_f64().map_or_else(plain, write);
        match self {
            Self::Plain => plain(),
            Self::Count => value.as_u64().map_or_else(plain, grouped),
            Self::Decimals(n) => number(&|x| format!("{x:.n$}")),
            Self::Signed(n) => number(&|x| format!("{x:+.n$}")),
            Self::Percent(n) => number(&|x| format!("{:.n$} %", x * 100.0)),
            Self::PlainPercent => number(&|x| format!("{} %", x * 100.0)),
            Self::Short => number(&|x| {
                if x == 0.0 || (0.001..1e6).contains(&x.abs()) { format!("{x:.4}") } else { format!("{x:.3e}") }
            }),
            Self::Time => plain().replace('T', " ").replace('Z', ""),
        }
    }

    fn how(self) -> String {
        match self {
            Self::Plain | Self::Count => String::new(),
            Self::Decimals(n) | Self::Signed(n) => format!("rounded to {n} decimals"),
            Self::Percent(n) => format!("value × 100, rounded to {n} decimals, as a percentage"),
            Self::PlainPercent => "value × 100, as a percentage".to_owned(),
            Self::Short => "rounded to four decimals or three significant ones".to_owned(),
            Self::Time => "UTC".to_owned(),
        }
    }
}

/// A JSON document that values are shown from.
#[derive(Clone, Copy)]
pub(super) struct Document<'a> {
    /// Logical path of the file.
    pub path: &'a str,
    /// Its content.
    pub json: &'a Value,
}

impl Document<'_> {
    /// Returns the value at a pointer; a dash where there is none.
    pub(super) fn at(&self, pointer: &str, form: Form) -> Piece {
        match self.json.pointer(pointer) {
            None | Some(Value::Null) => plain("–"),
            Some(value) => Piece {
                text: form.text(value),
                origin: format!("{}#{pointer}", self.path),
                plus: String::new(),
                exact: value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                how: form.how(),
            },
        }
    }

    /// Returns the sum of two counts.
    pub(super) fn sum(&self, one: &str, other: &str) -> Piece {
        let value = |pointer| self.json.pointer(pointer).and_then(Value::as_u64);
        let (Some(a), Some(b)) = (value(one), value(other)) else { return plain("–") };
        Piece {
            text: grouped(a + b),
            origin: format!("{}#{one}", self.path),
            plus: format!("{}#{other}", self.path),
            exact: format!("{a} + {b}"),
            how: "computed on this page: the sum of two members".to_owned(),
        }
    }

    /// Returns `low – high` of an interval at a pointer; nothing where there is none.
    pub(super) fn interval(&self, pointer: &str, form: Form) -> Vec<Piece> {
        if self.json.pointer(pointer).is_none_or(Value::is_null) {
            return Vec::new();
        }
        vec![self.at(&format!("{pointer}/0"), form), plain(" – "), self.at(&format!("{pointer}/1"), form)]
    }

    /// Whether a count is one.
    pub(super) fn is_one(&self, pointer: &str) -> bool {
        self.json.pointer(pointer).and_then(Value::as_u64) == Some(1)
    }

    /// Whether there is a value at a pointer.
    pub(super) fn has(&self, pointer: &str) -> bool {
        !self.json.pointer(pointer).unwrap_or(&Value::Null).is_null()
    }
}

/// Text that is no value.
pub(super) fn plain(text: impl Into<String>) -> Piece {
    Piece { text: text.into(), ..Piece::default() }
}

/// A member's name as a step of a JSON pointer.
pub(super) fn step(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A value of a Parquet table, its `row` from 0: shown as `text`, `exact` in the file.
pub(super) fn of_row(path: &str, row: usize, column: &str, text: &str, exact: &str) -> Piece {
    Piece {
        text: text.to_owned(),
        origin: format!("{path}#row={};column={column}", row + 1),
        exact: exact.to_owned(),
        ..Piece::default()
    }
}

/// A cell of a CSV file, `row` and `column` from 1 with the header as row 1 (RFC 7111). An empty one has no origin.
pub(super) fn cell(path: &str, row: usize, column: usize, exact: &str, form: Form) -> Piece {
    if exact.is_empty() {
        return plain("–");
    }
    let value = exact.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
    let value = value.map_or_else(|| Value::from(exact), Value::Number);
    Piece {
        text: if matches!(form, Form::Plain) { exact.to_owned() } else { form.text(&value) },
        origin: format!("{path}#cell={row},{column}"),
        plus: String::new(),
        exact: exact.to_owned(),
        how: form.how(),
    }
}
