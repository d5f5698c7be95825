//! Parameters that say how the lines of a log are written.

use std::borrow::Cow;
use std::fmt;

use logweir_engine::stage::ParamError;
use logweir_engine::suggest::did_you_mean;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::{Deserialize as DeriveDeserialize, Serialize, Serializer};

use super::ParseParams;
use crate::logs::format::header::Header;
use crate::logs::format::json::{Json, Keys};
use crate::logs::format::syslog::Syslog;
use crate::logs::format::{LineFormat, Pattern, TimeFormat};

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

impl ParseParams {
    /// Returns what the parameters about lines say.
    pub(super) fn line_format(&self) -> Result<LineFormat, ParamError> {
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
