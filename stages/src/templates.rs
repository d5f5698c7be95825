//! `templates`: local templates of all files to global ones, and the map between them.
//!
//! Templates that the user brought come first, under their own names and in their order, also when nothing matches
//! them. All other forms are mined together ([`crate::drain`]), in order of first appearance over the files, and are
//! numbered so. Counts are lines.
//!
//! The slot `known` takes templates of another run or of other origin. They come first and keep ids and numbers: either
//! they are gone on from (`known: extend`) or nothing is added (`known: frozen`), and a line that matches none is of the
//! template `unseen`. How they are matched depends on where they come from ([`Source`]).

mod files;
mod global;
mod known;
mod suspicions;

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::drain::Limits;
use crate::logs::given::GivenTemplates;
use crate::parse::{Part, read_parts, refuse_nothing, summary_of};
pub use files::{read_map, read_templates};
pub(crate) use global::KnownTemplates;
pub use global::{GlobalTemplates, Growth, globalize};
pub use known::{given_from_known, known_from_given};

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "templates",
        about: "local templates of all files to global templates (Drain over distinct message forms)",
        version: 1,
        code: crate::code("templates"),
        inputs: const {
            &[
                Slot::directory("events", "what `parse` wrote"),
                Slot::file(
                    "known",
                    "templates whose ids and numbers stay: a templates.csv of another run, or EventId,EventTemplate",
                )
                .optional(),
            ]
        },
        outputs: const {
            &[
                Slot::file("templates", "event_id,number,count,text,source: the global templates"),
                Slot::file("map", "part,template,number: local to global"),
            ]
        },
        schema: schema_of::<TemplatesParams>,
        make: make::<TemplatesParams, Templates>,
    }
}

/// Parameters of `templates`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TemplatesParams {
    /// When forms of messages share a template.
    pub drain: DrainParams,
    /// What the templates of the slot `known` are for: `extend` adds new ones behind them and may make one more general; `frozen` adds and changes nothing, and lines that match none are of the template `unseen`.
    pub known: Known,
}

/// What known templates are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// New templates are added behind them; a known one may become more general.
    #[default]
    Extend,
    /// No template is added or changed.
    Frozen,
}

impl TemplatesParams {
    /// Returns what becomes of new forms in logs that are scored with the templates of a run: the models know none
    /// that is more general, so known templates stay as they are.
    pub fn growth_when_scoring(&self) -> Growth {
        match self.known {
            Known::Extend => Growth::Beside,
            Known::Frozen => Growth::Frozen,
        }
    }
}

/// When forms of messages share a template.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrainParams {
    /// Levels of the tree, at least 3: number of words, `depth - 2` leading words, leaf.
    pub depth: usize,
    /// Least share of equal words, above 0 and at most 1 (1: only equal forms share a template).
    pub similarity: f64,
    /// Most children of a node of the tree, at least 2; further words share one child.
    pub max_children: usize,
    /// Fewest different words (at least 2) that make a position variable; with fewer they are words of templates of their own.
    pub min_values: usize,
}

impl Default for DrainParams {
    fn default() -> Self {
        let Limits { depth, similarity, max_children, min_values } = Limits::default();
        Self { depth, similarity, max_children, min_values }
    }
}

impl DrainParams {
    /// As the tree takes them.
    pub fn limits(&self) -> Limits {
        let Self { depth, similarity, max_children, min_values } = *self;
        Limits { depth, similarity, max_children, min_values }
    }
}

impl Params for TemplatesParams {
    fn check(&self) -> Vec<ParamError> {
        let drain = &self.drain;
        let mut errors = Vec::new();
        if drain.depth < 3 {
            errors.push(ParamError::new("drain.depth", "must be at least 3"));
        }
        if !(drain.similarity > 0.0 && drain.similarity <= 1.0) {
            errors.push(ParamError::new("drain.similarity", "must be above 0 and at most 1"));
        }
        if drain.max_children < 2 {
            errors.push(ParamError::new("drain.max_children", "must be at least 2"));
        }
        if drain.min_values < 2 {
            errors.push(ParamError::new("drain.min_values", "must be at least 2"));
        }
        errors
    }
}

/// A local template: a form of messages in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalTemplate {
    /// The form.
    pub text: String,
    /// Lines of this form.
    pub count: u64,
    /// The name of the given template its first message matches.
    pub name: Option<String>,
}

/// Where a global template comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `parse` was given it; its text is matched against messages.
    Given,
    /// It was mined; its text is matched against forms, word for word.
    Mined,
    /// It came by the slot `known` from elsewhere; its text is matched against forms, its gaps stand for any text.
    Loaded,
    /// It stands for all that matches no other.
    Unseen,
}

/// A global template; its number is its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// `T1`, `T2`, … or the name the user gave.
    pub event_id: String,
    /// Global number, from 0.
    pub number: u32,
    /// Lines of this template.
    pub count: u64,
    /// Text with wildcards.
    pub text: String,
    /// Where it comes from.
    #[serde(default = "mined")]
    pub source: Source,
}

fn mined() -> Source {
    Source::Mined
}

/// Reads the local templates of every part of an events directory.
///
/// # Errors
/// A file is missing or malformed.
pub fn read_local(parts: &[Part]) -> anyhow::Result<Vec<Vec<LocalTemplate>>> {
    #[derive(Deserialize)]
    struct Row {
        count: u64,
        text: String,
        #[serde(default)]
        name: String,
    }
    let read = |part: &Part| -> anyhow::Result<Vec<LocalTemplate>> {
        let path = part.templates();
        let context = || format!("cannot read {}", path.display());
        let mut reader = csv::Reader::from_path(&path).with_context(context)?;
        let rows: Vec<Row> = reader.deserialize().collect::<Result<_, _>>().with_context(context)?;
        let local =
            |r: Row| LocalTemplate { text: r.text, count: r.count, name: Some(r.name).filter(|n| !n.is_empty()) };
        Ok(rows.into_iter().map(local).collect())
    };
    let mut local = parts.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    name_alike(&mut local);
    Ok(local)
}

/// Gives equal forms the name that the first of them has: the first message of a form decides which given template it
/// matches, in the first file that has one, so that it does not matter where a log was cut.
pub fn name_alike(parts: &mut [Vec<LocalTemplate>]) {
    let mut names: BTreeMap<String, Option<String>> = BTreeMap::new();
    for local in parts.iter_mut().flatten() {
        match names.get(&local.text) {
            Some(name) => local.name.clone_from(name),
            None => {
                names.insert(local.text.clone(), local.name.clone());
            }
        }
    }
}

/// The stage.
struct Templates {
    params: TemplatesParams,
}

impl From<TemplatesParams> for Templates {
    fn from(params: TemplatesParams) -> Self {
        Self { params }
    }
}

impl Stage for Templates {
    fn run(&self, cx: &StageContext<'_>) -> anyhow::Result<()> {
        let events = cx.input("events")?;
        let parts = read_parts(events)?;
        refuse_nothing(&summary_of(&parts))?;
        let given = parts.iter().map(Part::given).find(|path| path.is_file());
        let given = given.map(|path| GivenTemplates::read(&path)).transpose()?.unwrap_or_default();
        let growth = match self.params.known {
            Known::Extend => Growth::Extend,
            Known::Frozen => Growth::Frozen,
        };
        let listed = cx.optional("known").map(known::read_known).transpose()?;
        ensure!(
            listed.is_some() || growth != Growth::Frozen,
            "`known: frozen` needs the templates: there is no file in the input slot `known` (hint: copy a `templates.csv` of another run outside of the outputs and name it there, or set `known: extend`)"
        );
        let known = known::join(listed.unwrap_or_default(), &given, growth)?;
        let local = read_local(&parts)?;
        let global = globalize(&local, &known, self.params.drain.limits(), growth)?;
        cx.info(told(&global, &known));
        for warning in suspicions::of(&local, &global, &self.params) {
            cx.warn(warning);
        }
        files::write(&global, cx.output("templates")?, cx.output("map")?)
    }
}

/// Says how many templates there are, and what became of known ones.
fn told(global: &GlobalTemplates, known: &[Template]) -> String {
    let all = format!("{} templates", global.templates.len());
    if known.is_empty() {
        return all;
    }
    let new = global.templates[known.len()..].iter().filter(|t| t.source == Source::Mined).count();
    let pairs = || known.iter().zip(&global.templates);
    let wider = pairs().filter(|(before, now)| before.text != now.text).count();
    let unused = pairs().filter(|(_, now)| now.count == 0).count();
    format!("{all}: {} known ({unused} without a line, {wider} more general than before), {new} new", known.len())
}

#[cfg(test)]
mod accuracy;

#[cfg(test)]
mod tests;
