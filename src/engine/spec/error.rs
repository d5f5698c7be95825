//! What can be wrong with a pipeline, each with its place: [`SpecErrors`] holds all of it at once.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde_json::json;

/// What is wrong. One variant, one diagnostic code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The text is no YAML, or uses a part of YAML that has no meaning here (a tag, several documents).
    #[error("{0}")]
    Syntax(String),
    /// A key occurs twice in one mapping.
    #[error("the key `{0}` is given twice")]
    DuplicateKey(String),
    /// A key that nothing reads.
    #[error("unknown key `{key}` in {place}")]
    UnknownKey {
        /// The key.
        key: String,
        /// What it was found in.
        place: String,
    },
    /// A value of the wrong type or out of range.
    #[error("{0}")]
    BadValue(String),
    /// `version` is missing or not one this program reads.
    #[error("{0}")]
    BadVersion(String),
    /// A name with characters that would make it ambiguous.
    #[error("`{name}` cannot be the name of {what}")]
    BadName {
        /// The name.
        name: String,
        /// What it should name.
        what: &'static str,
    },
    /// Neither or both of `uses` and `run`.
    #[error("stage `{stage}` {what}")]
    BadAction {
        /// The stage.
        stage: String,
        /// What is wrong.
        what: &'static str,
    },
    /// `uses` names no kind.
    #[error("unknown kind of stage `{0}`")]
    UnknownKind(String),
    /// `needs` or `--set` names no stage.
    #[error("unknown stage `{0}`")]
    UnknownStage(String),
    /// `--profile` names no profile.
    #[error("unknown profile `{0}`")]
    UnknownProfile(String),
    /// `root:path` with an undeclared root.
    #[error("unknown root `{0}`")]
    UnknownRoot(String),
    /// `pool` names no pool.
    #[error("unknown pool `{0}`")]
    UnknownPool(String),
    /// A slot the kind does not have, or `metrics` names no output.
    #[error("unknown {side} slot `{slot}` of {owner}")]
    UnknownSlot {
        /// `input` or `output`.
        side: &'static str,
        /// The slot.
        slot: String,
        /// The kind or stage.
        owner: String,
    },
    /// A required slot is not given.
    #[error("stage `{stage}` lacks the {side} slot `{slot}` of kind `{kind}`")]
    MissingSlot {
        /// The stage.
        stage: String,
        /// `input` or `output`.
        side: &'static str,
        /// The slot.
        slot: String,
        /// The kind.
        kind: String,
    },
    /// A slot is given something it does not take.
    #[error("{side} slot `{slot}` takes {takes}, not {given}")]
    SlotArity {
        /// `input` or `output`.
        side: &'static str,
        /// The slot.
        slot: String,
        /// What it takes.
        takes: &'static str,
        /// What it was given.
        given: &'static str,
    },
    /// A parameter its kind refuses.
    #[error("{parameter}: {message}")]
    BadParameter {
        /// Dotted path with `with`.
        parameter: String,
        /// What is wrong.
        message: String,
    },
    /// Two stages write one path, or one inside the other's.
    #[error("{0}")]
    DuplicateOutput(String),
    /// Stages that wait for each other: `a → b → a`.
    #[error("stages wait for each other: {0}")]
    Cycle(String),
    /// A path outside the project and its roots, or no path at all.
    #[error("{0}")]
    BadPath(String),
    /// `${vars.x}` and the like name nothing.
    #[error("unknown {what} `{name}`")]
    UnknownReference {
        /// `variable`, `parameter`, `matrix axis`, ...
        what: &'static str,
        /// The name.
        name: String,
    },
    /// `${env.X}` without a default, and X is not set.
    #[error("environment variable `{0}` is not set")]
    MissingEnv(String),
    /// `${...}` that cannot be read or used where it stands.
    #[error("{0}")]
    BadInterpolation(String),
    /// A `--set` that cannot be applied.
    #[error("{0}")]
    BadSet(String),
    /// A password where everyone who reads the pipeline sees it.
    #[error("a password does not belong in {0}")]
    Password(&'static str),
    /// Understood, but this version cannot do it.
    #[error("{0} is not available yet")]
    NotAvailable(String),
}

impl Problem {
    /// Returns the diagnostic code, for instance `spec::unknown_stage`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "spec::yaml_syntax",
            Self::DuplicateKey(_) => "spec::duplicate_key",
            Self::UnknownKey { .. } => "spec::unknown_key",
            Self::BadValue(_) => "spec::bad_value",
            Self::BadVersion(_) => "spec::bad_version",
            Self::BadName { .. } => "spec::bad_name",
            Self::BadAction { .. } => "spec::bad_action",
            Self::UnknownKind(_) => "spec::unknown_kind",
            Self::UnknownStage(_) => "spec::unknown_stage",
            Self::UnknownProfile(_) => "spec::unknown_profile",
            Self::UnknownRoot(_) => "spec::unknown_root",
            Self::UnknownPool(_) => "spec::unknown_pool",
            Self::UnknownSlot { .. } => "spec::unknown_slot",
            Self::MissingSlot { .. } => "spec::missing_slot",
            Self::SlotArity { .. } => "spec::slot_arity",
            Self::BadParameter { .. } => "spec::bad_parameter",
            Self::DuplicateOutput(_) => "spec::duplicate_output",
            Self::Cycle(_) => "spec::cycle",
            Self::BadPath(_) => "spec::bad_path",
            Self::UnknownReference { .. } => "spec::unknown_reference",
            Self::MissingEnv(_) => "spec::missing_env",
            Self::BadInterpolation(_) => "spec::bad_interpolation",
            Self::BadSet(_) => "spec::bad_set",
            Self::Password(_) => "spec::password",
            Self::NotAvailable(_) => "spec::not_available",
        }
    }
}

/// A text that errors point into: pipeline.yaml, or the command line.
#[derive(Debug)]
pub struct Text {
    /// How it is called in messages: the file as the user named it, or `command line`.
    pub name: String,
    named: NamedSource<String>,
}

impl Text {
    /// Names a text.
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), named: NamedSource::new(name, text.to_owned()) }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        self.named.inner()
    }
}

/// A byte range of a [`Text`].
#[derive(Clone, Debug)]
pub struct Place {
    /// Where.
    pub text: Arc<Text>,
    /// Which bytes.
    pub span: Range<usize>,
}

impl Place {
    /// Returns line and column, both from 1; the column counts characters.
    pub fn line_column(&self) -> (usize, usize) {
        let text = self.text.as_str();
        let before = text.get(..self.span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug)]
pub struct SpecError {
    /// What is wrong.
    pub problem: Problem,
    /// Where, if it has one place.
    pub place: Option<Place>,
    /// What stands at the caret; empty for a bare caret.
    pub label: String,
    /// Other places of the same text that belong to it, each with a note.
    pub related: Vec<(Place, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl SpecError {
    /// Makes an error without a place.
    pub fn new(problem: Problem) -> Self {
        Self { problem, place: None, label: String::new(), related: Vec::new(), help: None }
    }

    /// Returns the error as JSON: `code`, `message`, `file`, `line`, `column`, `help`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = json!({"code": self.problem.code(), "message": self.problem.to_string()});
        if let Some(place) = &self.place {
            let (line, column) = place.line_column();
            object["file"] = json!(place.text.name);
            object["line"] = json!(line);
            object["column"] = json!(column);
        }
        if let Some(help) = &self.help {
            object["help"] = json!(help);
        }
        object
    }
}

/// `file:line:column: message`, on one line.
impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.problem, f)
    }
}

impl std::error::Error for SpecError {}

impl Diagnostic for SpecError {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.problem.code()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|place| &place.text.named as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        let label = Some(self.label.clone()).filter(|label| !label.is_empty());
        let primary = LabeledSpan::new_primary_with_span(label, place.span.clone());
        let related = self
            .related
            .iter()
            .filter(|(other, _)| Arc::ptr_eq(&other.text, &place.text))
            .map(|(other, note)| LabeledSpan::new_with_span(Some(note.clone()), other.span.clone()));
        Some(Box::new(std::iter::once(primary).chain(related)))
    }
}

/// Everything that is wrong with a pipeline (exit code 2): at least one entry, in the order of the places.
#[derive(Clone, Debug)]
pub struct SpecErrors {
    /// The errors.
    pub errors: Vec<SpecError>,
    /// The file's name.
    pub file: String,
}

impl SpecErrors {
    /// Returns all errors as a JSON array of [`SpecError::to_json`].
    pub fn to_json(&self) -> serde_json::Value {
        self.errors.iter().map(SpecError::to_json).collect()
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elsewhere = |error: &SpecError| error.place.as_ref().is_some_and(|place| place.text.name != self.file);
        let file = if self.errors.iter().all(elsewhere) { "the command line" } else { self.file.as_str() };
        match self.errors.len() {
            1 => write!(f, "{file} has an error"),
            n => write!(f, "{file} has {n} errors"),
        }
    }
}

impl std::error::Error for SpecErrors {}

impl Diagnostic for SpecErrors {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.errors.iter().map(|error| error as &dyn Diagnostic)))
    }
}
