//! Scalars with a unit (`4G`, `10m`), and the forgiving shapes of text and lists.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// An amount of memory: bytes, or a number with a binary unit (`512M`, `4G`, `1.5GiB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory(pub(crate) u64);

/// A time span: seconds, or numbers with units (`90s`, `10m`, `1h30m`, `500ms`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// Thread tokens: a count, or `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threads(pub(crate) usize);

/// One text or a list of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OneOrMany {
    pub(super) items: Vec<String>,
    /// Written as a list: an item's pointer then ends in its number.
    pub(super) list: bool,
}

pub(super) fn memory(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let power = match text[digits..].trim() {
        "" | "B" => 0,
        "K" | "KB" | "KiB" => 1,
        "M" | "MB" | "MiB" => 2,
        "G" | "GB" | "GiB" => 3,
        "T" | "TB" | "TiB" => 4,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(power);
    (1.0..1e18).contains(&bytes).then_some(bytes as u64)
}

pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                // A bare number is seconds, but `1h30` is a slip.
                "" if digits == text.trim().len() => 1.0,
                _ => return None,
            };
        rest = rest[unit..].trim_start();
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|span| !span.is_zero())
}

struct Scalar<T> {
    expected: &'static str,
    read: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::custom(format!("`{text}` is not {}", self.expected)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! scalar {
    ($type:ident, $name:literal, $expected:literal, $read:expr, $schema:tt) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Scalar { expected: $expected, read: $read })
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

scalar!(Memory, "Memory", "an amount of memory such as `4G`", |text| memory(text).map(Memory), {
    "description": "Bytes, or a number with a binary unit: 512M, 4G",
    "type": ["integer", "string"],
    "minimum": 1,
    "pattern": r"^[0-9.]+\s*([KMGT](iB|B)?|B)?$|\$\{",
});
scalar!(Span, "Duration", "a duration such as `90s`, `10m` or `1h30m`", |text| duration(text).map(Span), {
    "description": "Seconds, or numbers with units: 500ms, 90s, 10m, 1h30m",
    "type": ["number", "string"],
    "exclusiveMinimum": 0,
    "pattern": r"^([0-9.]+\s*(ms|s|m|min|h|d)\s*)+$|^[0-9.]+$|\$\{",
});
scalar!(Threads, "Threads", "a number of threads or `all`", |text| match text {
    "all" => Some(Threads(0)),
    text => text.parse().ok().filter(|n| *n > 0).map(Threads),
}, {
    "description": "Thread tokens it takes: a count, or `all` that the run was given",
    "type": ["integer", "string"],
    "minimum": 1,
    "pattern": r"^all$|\$\{",
});

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany { items: vec![text.to_owned()], list: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(OneOrMany { items, list: true })
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

impl JsonSchema for OneOrMany {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_binary_units() {
        assert_eq!(memory("4G"), Some(4 << 30));
        assert_eq!(memory("1.5 KiB"), Some(1536));
        assert_eq!(memory("77"), Some(77));
        assert_eq!(memory("4X"), None);
        assert_eq!(memory("-1G"), None);
        assert_eq!(memory("0"), None);
    }

    #[test]
    fn durations_add_up_and_bare_numbers_are_seconds() {
        assert_eq!(duration("10m"), Some(Duration::from_secs(600)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("7"), Some(Duration::from_secs(7)));
        for wrong in ["", "1h30", "ten", "3 weeks", "0s", "m"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
