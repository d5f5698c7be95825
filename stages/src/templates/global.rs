//! Local templates to global ones.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;

use super::{LocalTemplate, Source, Template};
use crate::drain::{Extended, Limits, Matcher, extend, mine};
use crate::logs::given::{GivenTemplate, GivenTemplates};

/// What becomes of forms that no known template matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// They make new templates, which follow the known ones; these stay as they are.
    Beside,
    /// They make new templates, or make a known one more general.
    Extend,
    /// They are of the one template whose source is [`Source::Unseen`], which follows the known ones.
    Frozen,
}

/// Global templates, and the global number of each local template by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GlobalTemplates {
    /// By number.
    pub templates: Vec<Template>,
    /// `map[part][local]` is the global number.
    pub map: Vec<Vec<u32>>,
}

/// The known templates, to find that of a form.
pub(crate) struct KnownTemplates {
    named: BTreeMap<String, u32>,
    loaded: GivenTemplates,
    numbers_of_loaded: Vec<u32>,
    mined: Matcher,
    numbers_of_mined: Vec<u32>,
}

impl KnownTemplates {
    /// Takes the templates; their numbers are their places.
    pub(crate) fn new(known: &[Template]) -> Self {
        let of = |source: Source| known.iter().filter(move |t| t.source == source);
        let numbers = |source: Source| of(source).map(|t| t.number).collect();
        let loaded = of(Source::Loaded).map(|t| GivenTemplate::new(&t.event_id, &t.text)).collect();
        Self {
            named: known.iter().map(|t| (t.event_id.clone(), t.number)).collect(),
            loaded: GivenTemplates::new(loaded),
            numbers_of_loaded: numbers(Source::Loaded),
            mined: Matcher::new(of(Source::Mined).map(|t| t.text.as_str())),
            numbers_of_mined: numbers(Source::Mined),
        }
    }

    /// Returns the number of a form's template.
    ///
    /// # Errors
    /// The form is named after a given template that is not among the known ones.
    pub(crate) fn find(&self, local: &LocalTemplate) -> anyhow::Result<Option<u32>> {
        if let Some(name) = &local.name {
            let number = self.named.get(name.as_str()).copied();
            return Ok(Some(number.with_context(|| format!("template `{name}` is used but not given"))?));
        }
        if let Some(at) = self.loaded.find(local.text.as_bytes()) {
            return Ok(Some(self.numbers_of_loaded[at]));
        }
        Ok(self.mined.find(&local.text).map(|at| self.numbers_of_mined[at]))
    }
}

/// Gives local templates global numbers: those of `known` templates first, then new ones by first appearance.
///
/// # Errors
/// A local template is named after a given template that is not among the known ones.
pub fn globalize(
    parts: &[Vec<LocalTemplate>],
    known: &[Template],
    limits: Limits,
    growth: Growth,
) -> anyhow::Result<GlobalTemplates> {
    let mut templates: Vec<Template> = known.iter().map(|t| Template { count: 0, ..t.clone() }).collect();
    let mut taken: BTreeSet<String> = known.iter().map(|t| t.event_id.clone()).collect();
    let unseen = (growth == Growth::Frozen).then(|| unseen_among(&mut templates, &mut taken));
    let finder = KnownTemplates::new(known);
    let mut numbers: Vec<Vec<Option<u32>>> = Vec::new();
    for part in parts {
        numbers.push(part.iter().map(|local| Ok(finder.find(local)?.or(unseen))).collect::<anyhow::Result<_>>()?);
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
    let of_known = &finder.numbers_of_mined;
    let texts: Vec<&str> = of_known.iter().map(|&number| known[number as usize].text.as_str()).collect();
    let Extended { known: texts, new } = match growth {
        Growth::Extend => extend(&texts, &unknown, limits),
        _ => Extended { known: texts.into_iter().map(str::to_owned).collect(), new: mine(&unknown, limits) },
    };
    let matcher = Matcher::new(texts.iter().chain(&new).map(String::as_str));
    for (&number, text) in of_known.iter().zip(&texts) {
        templates[number as usize].text.clone_from(text);
    }
    let mut number_of_new: BTreeMap<usize, u32> = BTreeMap::new();
    let mut map = Vec::new();
    for (part, found) in parts.iter().zip(numbers) {
        let mut part_map = Vec::new();
        for (local, found) in part.iter().zip(found) {
            let number = match found {
                Some(number) => number,
                None => {
                    let at = matcher.find(&local.text).context("a mined form has no template (a bug)")?;
                    match at.checked_sub(texts.len()) {
                        None => of_known[at],
                        Some(at) => *number_of_new.entry(at).or_insert_with(|| {
                            let number = templates.len() as u32;
                            let event_id = free_name(number, &mut taken);
                            let (text, source) = (new[at].clone(), Source::Mined);
                            templates.push(Template { event_id, number, count: 0, text, source });
                            number
                        }),
                    }
                }
            };
            templates[number as usize].count += local.count;
            part_map.push(number);
        }
        map.push(part_map);
    }
    Ok(GlobalTemplates { templates, map })
}

/// Returns the number of the template of what matches none, which is added if it is not there.
fn unseen_among(templates: &mut Vec<Template>, taken: &mut BTreeSet<String>) -> u32 {
    if let Some(unseen) = templates.iter().find(|t| t.source == Source::Unseen) {
        return unseen.number;
    }
    let number = templates.len() as u32;
    let mut names = std::iter::once("unseen".to_owned()).chain((2..).map(|n| format!("unseen{n}")));
    let event_id = names.find(|name| !taken.contains(name)).expect("names do not run out");
    taken.insert(event_id.clone());
    templates.push(Template { event_id, number, count: 0, text: "<unseen>".to_owned(), source: Source::Unseen });
    number
}

/// `T` and number + 1, or the next that no given template has.
fn free_name(number: u32, taken: &mut BTreeSet<String>) -> String {
    let name = (number + 1..).map(|n| format!("T{n}")).find(|n| !taken.contains(n));
    let name = name.expect("names do not run out");
    taken.insert(name.clone());
    name
}
