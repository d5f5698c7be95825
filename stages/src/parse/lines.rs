//! Parameters that say how the lines of a log are written.

use std::borrow::Cow;
use std::fmt;

use logweir_engine::stage::ParamError;
use logweir_engine::suggest::did_you_mean;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize, Serializer};

use super::ParseParams;
use crate::logs::byte_regex;
use crate::logs::entries::Multiline;
use crate::logs::format::header::Header;
use crate::logs::format::json::{Json, Keys};
use crate::logs::format::syslog::Syslog;
use crate::logs::format::{LineFormat, Pattern, TimeFormat};
use crate::logs::session::{Field, SessionFinder};

/// How the lines of a log are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `YYMMDD HHMMSS pid LEVEL component: message`.
    #[default]
    Hdfs,
    /// An object a line.
    Json,
    /// RFC 3164 and RFC 5424.
    Syslog,
    /// What `regex` and `timestamp_format` say.
    Regex,
    /// The whole line is the message; no times.
    Plain,
    /// A pattern such as `<Date> <Time> <Level> <Component>: <Content>`.
    Header(String),
}

const NAMES: [(&str, LogFormat); 5] = [
    ("hdfs", LogFormat::Hdfs),
    ("json", LogFormat::Json),
    ("syslog", LogFormat::Syslog),
    ("regex", LogFormat::Regex),
    ("plain", LogFormat::Plain),
];

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(pattern) => f.write_str(pattern),
            named => f.write_str(NAMES.iter().find(|(_, format)| format == named).map_or("", |(name, _)| name)),
        }
    }
}

impl Serialize for LogFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some((_, format)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(format.clone());
        }
        if text.contains('<') {
            return Ok(Self::Header(text));
        }
        let known = NAMES.map(|(name, _)| name);
        Err(serde::de::Error::custom(format!(
            "unknown format `{text}`: {}, or give a pattern such as `<Date> <Time> <Level> <Component>: <Content>`",
            did_you_mean(&text, &known)
        )))
    }
}

impl JsonSchema for LogFormat {
    fn schema_name() -> Cow<'static, str> {
        "LogFormat".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How the lines of a log are written.",
            "anyOf": [
                {"type": "string", "enum": NAMES.map(|(name, _)| name)},
                {"type": "string", "pattern": "<[A-Za-z0-9_]+>", "description": "A header pattern: `<Date> <Time> <Level> <Component>: <Content>`."},
            ],
        })
    }
}

/// Keys of JSON lines; a dot goes into objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, DeriveDeserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JsonKeys {
    /// The time; else the first there is of `@timestamp`, `timestamp`, `time`, `ts`, …
    pub timestamp: Option<String>,
    /// The severity; else `level`, `severity`, `log.level`, …
    pub level: Option<String>,
    /// Who wrote the line; else `logger`, `log.logger`, `logger_name`, `component`, …
    pub component: Option<String>,
    /// The message; else `message`, `msg`, … (a line without any is its own message).
    pub content: Option<String>,
}

/// What tells sessions apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionKey {
    /// Every match of a regular expression in a line, or of its first group.
    Pattern(String),
    /// The value of a field: a line belongs to one session or none.
    Field(String),
    /// Nothing: all lines are one session.
    All,
}

/// The name for [`SessionKey::All`].
const NONE: &str = "none";

#[derive(Serialize, DeriveDeserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
}

impl Serialize for SessionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Pattern(pattern) => serializer.serialize_str(pattern),
            Self::Field(field) => Chosen { field: Some(field.clone()), all: None }.serialize(serializer),
            Self::All => serializer.serialize_str(NONE),
        }
    }
}

impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = SessionKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a regular expression, `none`, or a mapping `{field: NAME}`")
            }

            fn visit_str<E>(self, text: &str) -> Result<SessionKey, E> {
                Ok(if text == NONE { SessionKey::All } else { SessionKey::Pattern(text.to_owned()) })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SessionKey, A::Error> {
                let chosen = Chosen::deserialize(MapAccessDeserializer::new(map))?;
                match (chosen.field, chosen.all) {
                    (Some(field), None) => Ok(SessionKey::Field(field)),
                    (None, Some(true)) => Ok(SessionKey::All),
                    _ => Err(serde::de::Error::custom("needs `field: NAME` or `all: true`")),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for SessionKey {
    fn schema_name() -> Cow<'static, str> {
        "SessionKey".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What tells sessions apart.",
            "anyOf": [
                {"type": "string", "description": "A regular expression, or `none`: all lines are one session."},
                {
                    "type": "object",
                    "additionalProperties": false,
                    "minProperties": 1,
                    "maxProperties": 1,
                    "properties": {
                        "field": {"type": "string", "description": "A field of `format`, a named group, a JSON key; `component` or `level`."},
                        "all": {"const": true, "description": "All lines are one session."},
                    },
                },
            ],
        })
    }
}

/// Which lines continue the entry before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultilineKey {
    /// Those that the format does not match, or none.
    Unmatched(bool),
    /// Those that do not match a regular expression.
    Start(String),
}

#[derive(Serialize, DeriveDeserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    start: String,
}

impl Serialize for MultilineKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unmatched(on) => serializer.serialize_bool(*on),
            Self::Start(start) => Start { start: start.clone() }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MultilineKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = MultilineKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false`, or a mapping `{start: REGEX}`")
            }

            fn visit_bool<E>(self, on: bool) -> Result<MultilineKey, E> {
                Ok(MultilineKey::Unmatched(on))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MultilineKey, A::Error> {
                Start::deserialize(MapAccessDeserializer::new(map)).map(|start| MultilineKey::Start(start.start))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for MultilineKey {
    fn schema_name() -> Cow<'static, str> {
        "MultilineKey".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Which lines continue the entry before.",
            "anyOf": [
                {"type": "boolean"},
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["start"],
                    "properties": {
                        "start": {"type": "string", "description": "A regular expression that matches lines that start an entry."},
                    },
                },
            ],
        })
    }
}

impl ParseParams {
    fn multiline(&self, format: &LineFormat) -> Result<Multiline, ParamError> {
        Ok(match &self.multiline {
            None if format.is_timed() => Multiline::Unmatched,
            Some(MultilineKey::Unmatched(true)) => Multiline::Unmatched,
            None | Some(MultilineKey::Unmatched(false)) => Multiline::Off,
            Some(MultilineKey::Start(start)) => {
                let regex = byte_regex(start).map_err(|e| ParamError::new("multiline.start", e))?;
                if regex.is_match(b"") {
                    return Err(ParamError::new(
                        "multiline.start",
                        "matches the empty text, so every line starts an entry",
                    ));
                }
                Multiline::Start(regex)
            }
        })
    }

    /// Returns how lines are written, what finds their sessions, and which of them belong together.
    pub(super) fn lines(&self) -> Result<(LineFormat, SessionFinder, Multiline), Vec<ParamError>> {
        let format = self.line_format();
        let sessions = match &self.session {
            SessionKey::All => Ok(SessionFinder::all()),
            SessionKey::Pattern(pattern) => SessionFinder::new(pattern).map_err(|error| {
                ParamError::new("session", error).help("a regular expression such as 'blk_-?\\d+' or 'req=(\\w+)'")
            }),
            SessionKey::Field(name) if name == "component" => Ok(SessionFinder::of_field(Field::Component)),
            SessionKey::Field(name) if name == "level" => Ok(SessionFinder::of_field(Field::Level)),
            SessionKey::Field(_) => Ok(SessionFinder::of_field(Field::Chosen)),
        };
        let (mut format, sessions) = match (format, sessions) {
            (Ok(format), Ok(sessions)) => (format, sessions),
            (format, sessions) => return Err(sessions.err().into_iter().chain(format.err()).collect()),
        };
        if let SessionKey::Field(name) = &self.session
            && !["component", "level"].contains(&name.as_str())
            && let Err(names) = format.session_field(name)
        {
            let names: Vec<&str> = ["component", "level"].into_iter().chain(names.iter().map(String::as_str)).collect();
            let error = ParamError::new("session.field", format!("`format` has no field `{name}`"));
            return Err(vec![error.help(did_you_mean(name, &names))]);
        }
        let multiline = self.multiline(&format).map_err(|error| vec![error])?;
        Ok((format, sessions, multiline))
    }

    fn line_format(&self) -> Result<LineFormat, ParamError> {
        self.refuse_unused()?;
        let time = self.timestamp_format.as_deref().map(TimeFormat::new).transpose();
        let time =
            time.map_err(|e| ParamError::new("timestamp_format", e).help("strftime fields: `%Y-%m-%d %H:%M:%S`"))?;
        if self.year.is_none() && time.as_ref().is_some_and(TimeFormat::lacks_year) {
            return Err(ParamError::new("timestamp_format", "has no year").help("say with `year` when the log starts"));
        }
        let timed = time.is_some();
        let fits = |has_time: bool, where_: &str| match (has_time, timed) {
            (true, false) => {
                let error = ParamError::new("timestamp_format", "is missing");
                Err(error.help(format!("{where_}; how is it written? `%Y-%m-%d %H:%M:%S` for 2008-11-09 20:35:30")))
            }
            (false, true) => Err(ParamError::new("timestamp_format", "has no effect: nothing in `format` is the time")),
            _ => Ok(()),
        };
        Ok(match &self.format {
            LogFormat::Hdfs => LineFormat::Hdfs,
            LogFormat::Plain => LineFormat::Plain,
            LogFormat::Syslog => LineFormat::Syslog(Box::new(Syslog::new(self.year.is_some()))),
            LogFormat::Json => {
                let JsonKeys { timestamp, level, component, content } = &self.json;
                let [timestamp, level, component, content] =
                    [timestamp, level, component, content].map(Option::as_deref);
                LineFormat::Json(Box::new(Json::new(&Keys { timestamp, level, component, content }, time)))
            }
            LogFormat::Header(pattern) => {
                let header = Header::new(pattern, time).map_err(|e| {
                    ParamError::new("format", e).help("such as `<Date> <Time> <Level> <Component>: <Content>`")
                })?;
                fits(header.has_time(), "`format` has fields of the time")?;
                LineFormat::Header(Box::new(header))
            }
            LogFormat::Regex => {
                let regex = self.regex.as_deref().ok_or_else(|| {
                    ParamError::new("regex", "is missing")
                        .help("`format: regex` needs an expression with a group `content`")
                })?;
                let pattern = Pattern::new(regex, time).map_err(|e| ParamError::new("regex", e))?;
                fits(pattern.has_time(), "`regex` has a group `timestamp`")?;
                LineFormat::Pattern(Box::new(pattern))
            }
        })
    }

    fn refuse_unused(&self) -> Result<(), ParamError> {
        let (header, json) = (matches!(self.format, LogFormat::Header(_)), self.format == LogFormat::Json);
        let regex = self.format == LogFormat::Regex;
        for (name, given, used, with) in [
            ("regex", self.regex.is_some(), regex, "set `format: regex`"),
            (
                "timestamp_format",
                self.timestamp_format.is_some(),
                regex || header || json,
                "it is for a pattern, `regex` or `json`",
            ),
            (
                "year",
                self.year.is_some(),
                regex || header || json || self.format == LogFormat::Syslog,
                "it is for timestamps without a year",
            ),
            ("json", self.json != JsonKeys::default(), json, "set `format: json`"),
        ] {
            if given && !used {
                return Err(ParamError::new(name, "has no effect with this `format`").help(with));
            }
        }
        Ok(())
    }
}
