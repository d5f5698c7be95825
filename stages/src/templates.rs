//! `templates`: local templates of all files to global ones, and the map between them.
//!
//! Templates that the user brought come first, under their own names and in their order, also when nothing matches
//! them. All other forms are mined together ([`crate::drain`]), in order of first appearance over the files, and are
//! numbered so. Counts are lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, bail};
use logweir_engine::stage::{ParamError, Params, Slot, Stage, StageContext, StageKind, make, schema_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::drain::{Limits, Matcher, mine};
use crate::logs::given::{GivenTemplate, GivenTemplates};
use crate::parse::{Part, read_parts, refuse_nothing, summary_of};

/// Returns the kind.
pub fn kind() -> StageKind {
    StageKind {
        name: "templates",
        about: "local templates of all files to global templates (Drain over distinct message forms)",
        version: 1,
        code: crate::code("templates"),
        inputs: const { &[Slot::directory("events", "what `parse` wrote")] },
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
    /// The user brought it; its text is matched against messages.
    Given,
    /// It was mined; its text is matched against forms.
    Mined,
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

/// Global templates, and the global number of each local template by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GlobalTemplates {
    /// By number.
    pub templates: Vec<Template>,
    /// `map[part][local]` is the global number.
    pub map: Vec<Vec<u32>>,
}

/// Gives local templates global numbers: those of `known` templates first, then new ones by first appearance.
///
/// # Errors
/// A local template is named after a given template that is not among the known ones.
pub fn globalize(parts: &[Vec<LocalTemplate>], known: &[Template], limits: Limits) -> anyhow::Result<GlobalTemplates> {
    let mut templates: Vec<Template> = known.iter().map(|t| Template { count: 0, ..t.clone() }).collect();
    let named: BTreeMap<&str, u32> = known.iter().map(|t| (t.event_id.as_str(), t.number)).collect();
    let mined_before: Vec<&Template> = known.iter().filter(|t| t.source == Source::Mined).collect();
    let matcher = Matcher::new(mined_before.iter().map(|t| t.text.as_str()));

    let find_known = |local: &LocalTemplate| -> anyhow::Result<Option<u32>> {
        if let Some(name) = &local.name {
            let number = named.get(name.as_str()).copied();
            return Ok(Some(number.with_context(|| format!("template `{name}` is used but not given"))?));
        }
        Ok(matcher.find(&local.text).map(|i| mined_before[i].number))
    };
    let mut numbers: Vec<Vec<Option<u32>>> = Vec::new();
    for part in parts {
        numbers.push(part.iter().map(find_known).collect::<anyhow::Result<_>>()?);
    }

    // The rest in order of first appearance, each form once.
    let mut seen = BTreeSet::new();
    let unknown: Vec<&str> = parts
        .iter()
        .zip(&numbers)
        .flat_map(|(part, found)| part.iter().zip(found))
        .filter(|(local, found)| found.is_none() && seen.insert(local.text.as_str()))
        .map(|(local, _)| local.text.as_str())
        .collect();
    let texts = mine(&unknown, limits);
    let matcher = Matcher::new(texts.iter().map(String::as_str));
    let mut number_of_text: BTreeMap<usize, u32> = BTreeMap::new();
    let mut taken: BTreeSet<String> = known.iter().map(|t| t.event_id.clone()).collect();
    let mut map = Vec::new();
    for (part, found) in parts.iter().zip(numbers) {
        let mut part_map = Vec::new();
        for (local, found) in part.iter().zip(found) {
            let number = match found {
                Some(number) => number,
                None => {
                    let text = matcher.find(&local.text).context("a mined form has no template (a bug)")?;
                    *number_of_text.entry(text).or_insert_with(|| {
                        let number = templates.len() as u32;
                        let event_id = free_name(number, &mut taken);
                        let (text, source) = (texts[text].clone(), Source::Mined);
                        templates.push(Template { event_id, number, count: 0, text, source });
                        number
                    })
                }
            };
            templates[number as usize].count += local.count;
            part_map.push(number);
        }
        map.push(part_map);
    }
    Ok(GlobalTemplates { templates, map })
}

/// `T` and number + 1, or the next that no given template has.
fn free_name(number: u32, taken: &mut BTreeSet<String>) -> String {
    let name = (number + 1..).map(|n| format!("T{n}")).find(|n| !taken.contains(n));
    let name = name.expect("names do not run out");
    taken.insert(name.clone());
    name
}

/// Returns given templates as known global ones.
pub fn known_from_given(given: &GivenTemplates) -> Vec<Template> {
    let template = |(number, t): (usize, &GivenTemplate)| Template {
        event_id: t.id.clone(),
        number: number as u32,
        count: 0,
        text: t.text.clone(),
        source: Source::Given,
    };
    given.all.iter().enumerate().map(template).collect()
}

/// Returns those of the known templates that are matched against messages.
pub fn given_from_known(known: &[Template]) -> GivenTemplates {
    let given = known.iter().filter(|t| t.source == Source::Given);
    GivenTemplates::new(given.map(|t| GivenTemplate::new(&t.event_id, &t.text)).collect())
}

/// Reads `templates.csv`, in order of number.
///
/// # Errors
/// The file is missing, malformed, or its numbers do not count up from 0.
pub fn read_templates(path: &Path) -> anyhow::Result<Vec<Template>> {
    let context = || format!("cannot read templates {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(context)?;
    let templates: Vec<Template> = reader.deserialize().collect::<Result<_, _>>().with_context(context)?;
    if let Some((at, t)) = templates.iter().enumerate().find(|(at, t)| *at != t.number as usize) {
        bail!("{}: template number {} stands in row {at}; numbers count up from 0", path.display(), t.number);
    }
    Ok(templates)
}

/// Reads the map of `templates`: the global number of each local template, by part.
///
/// # Errors
/// The file is missing or malformed, or a local template is missing.
pub fn read_map(path: &Path) -> anyhow::Result<Vec<Vec<u32>>> {
    #[derive(Deserialize)]
    struct Row {
        part: usize,
        template: usize,
        number: u32,
    }
    let context = || format!("cannot read template map {}", path.display());
    let mut map: Vec<Vec<u32>> = Vec::new();
    for row in csv::Reader::from_path(path).with_context(context)?.deserialize() {
        let row: Row = row.with_context(context)?;
        while map.len() <= row.part {
            map.push(Vec::new());
        }
        if map[row.part].len() != row.template {
            bail!("{}: part {} lacks template {}", path.display(), row.part, map[row.part].len());
        }
        map[row.part].push(row.number);
    }
    Ok(map)
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
        let global = globalize(&read_local(&parts)?, &known_from_given(&given), self.params.drain.limits())?;
        cx.info(format!("{} templates", global.templates.len()));
        write(&global, cx.output("templates")?, cx.output("map")?)
    }
}

fn write(global: &GlobalTemplates, templates: &Path, map: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", templates.display());
    let mut out = csv::Writer::from_path(templates).with_context(context)?;
    if global.templates.is_empty() {
        out.write_record(["event_id", "number", "count", "text", "source"]).with_context(context)?;
    }
    for template in &global.templates {
        out.serialize(template).with_context(context)?;
    }
    out.flush().with_context(context)?;

    let context = || format!("cannot write {}", map.display());
    let mut out = csv::Writer::from_path(map).with_context(context)?;
    out.write_record(["part", "template", "number"]).with_context(context)?;
    for (part, numbers) in global.map.iter().enumerate() {
        for (local, number) in numbers.iter().enumerate() {
            out.write_record([part.to_string(), local.to_string(), number.to_string()]).with_context(context)?;
        }
    }
    out.flush().with_context(context)
}

#[cfg(test)]
mod accuracy;

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str, count: u64) -> LocalTemplate {
        LocalTemplate { text: text.to_owned(), count, name: None }
    }

    fn ids(global: &GlobalTemplates) -> Vec<(&str, &str, u64)> {
        global.templates.iter().map(|t| (t.event_id.as_str(), t.text.as_str(), t.count)).collect()
    }

    #[test]
    fn templates_of_two_files_are_numbered_by_first_appearance() {
        let parts = [
            vec![local("got <id>", 3), local("lost <id> for good", 1)],
            vec![local("sent <id>", 2), local("got <id>", 4)],
        ];
        let global = globalize(&parts, &[], Limits::default()).unwrap();
        assert_eq!(ids(&global), [("T1", "got <id>", 7), ("T2", "lost <id> for good", 1), ("T3", "sent <id>", 2)]);
        assert_eq!(global.map, [vec![0, 1], vec![2, 0]]);
    }

    #[test]
    fn the_cut_into_files_changes_no_template() {
        let forms: Vec<LocalTemplate> = (0..12)
            .map(|i| local(&format!("the user name{} logged in", char::from(b'a' + i)), 1))
            .chain([local("bye", 2)])
            .collect();
        let whole = globalize(std::slice::from_ref(&forms), &[], Limits::default()).unwrap();
        assert_eq!(ids(&whole), [("T1", "the user <*> logged in", 12), ("T2", "bye", 2)]);
        for cut in 0..forms.len() {
            let (a, b) = forms.split_at(cut);
            let parts = globalize(&[a.to_vec(), b.to_vec()], &[], Limits::default()).unwrap();
            assert_eq!(parts.templates, whole.templates);
            assert_eq!(parts.map.concat(), whole.map.concat());
        }
    }

    #[test]
    fn given_templates_come_first_and_known_ones_keep_their_numbers() {
        let given =
            GivenTemplates::new(vec![GivenTemplate::new("E5", "[*]got[*]"), GivenTemplate::new("T3", "[*]never[*]")]);
        let known = known_from_given(&given);
        let named = LocalTemplate { name: Some("E5".to_owned()), ..local("got <id>", 2) };
        let parts = [vec![local("sent <id>", 1), named]];
        let global = globalize(&parts, &known, Limits::default()).unwrap();
        assert_eq!(ids(&global), [("E5", "<*>got<*>", 2), ("T3", "<*>never<*>", 0), ("T4", "sent <id>", 1)]);
        assert_eq!(global.map, [vec![2, 0]]);

        // A later log against these: nothing moves, what is new is added.
        let later =
            globalize(&[vec![local("new thing", 1), local("sent <id>", 9)]], &global.templates, Limits::default());
        let later = later.unwrap();
        assert_eq!(later.map, [vec![3, 2]]);
        assert_eq!(ids(&later)[2..], [("T4", "sent <id>", 9), ("T5", "new thing", 1)]);
        assert_eq!(given_from_known(&later.templates).all, given.all);
    }

    #[test]
    fn csv_files_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let (t, m) = (dir.path().join("t.csv"), dir.path().join("m.csv"));
        let parts = [vec![local("a, \"b\" <num>", 3)], vec![], vec![local("c", 1), local("a, \"b\" <num>", 1)]];
        let global = globalize(&parts, &[], Limits::default()).unwrap();
        write(&global, &t, &m).unwrap();
        assert_eq!(read_templates(&t).unwrap(), global.templates);
        assert_eq!(read_map(&m).unwrap(), global.map);
        write(&GlobalTemplates::default(), &t, &m).unwrap();
        assert_eq!(read_templates(&t).unwrap(), []);
    }
}
