//! What about templates hints at a parameter that does not suit the log. The bounds are such that the logs of
//! `accuracy.rs` draw no warning with the defaults.

use std::collections::{BTreeMap, BTreeSet};

use super::{DrainParams, GlobalTemplates, LocalTemplate, Source, Template, TemplatesParams};

/// Lines and forms from which on shares of them tell something.
const LINES: u64 = 1_000;
const FORMS: usize = 100;

/// Returns a warning for each: what was seen, which parameter it may come from, and what to try.
pub(super) fn of(parts: &[Vec<LocalTemplate>], global: &GlobalTemplates, params: &TemplatesParams) -> Vec<String> {
    let seen = Seen::new(parts, global);
    let drain = &params.drain;
    [seen.unseen(), seen.too_many(drain), seen.too_few(drain), seen.without_words(drain), seen.one_for_all(drain)]
        .into_iter()
        .flatten()
        .collect()
}

struct Seen<'a> {
    templates: &'a [Template],
    lines: u64,
    /// Lines by form.
    forms: BTreeMap<&'a str, u64>,
    /// Different forms by template.
    forms_of: Vec<BTreeSet<&'a str>>,
}

impl<'a> Seen<'a> {
    fn new(parts: &'a [Vec<LocalTemplate>], global: &'a GlobalTemplates) -> Self {
        let mut forms: BTreeMap<&str, u64> = BTreeMap::new();
        let mut forms_of = vec![BTreeSet::new(); global.templates.len()];
        for (part, numbers) in parts.iter().zip(&global.map) {
            for (local, &number) in part.iter().zip(numbers) {
                *forms.entry(&local.text).or_default() += local.count;
                forms_of[number as usize].insert(local.text.as_str());
            }
        }
        Self { templates: &global.templates, lines: forms.values().sum(), forms, forms_of }
    }

    fn used(&self) -> usize {
        self.templates.iter().filter(|t| t.count > 0 && t.source != Source::Unseen).count()
    }

    fn share(&self, lines: u64) -> f64 {
        100.0 * lines as f64 / self.lines.max(1) as f64
    }

    fn unseen(&self) -> Option<String> {
        let template = self.templates.iter().find(|t| t.source == Source::Unseen && t.count > 0)?;
        let forms = &self.forms_of[template.number as usize];
        let most = forms.iter().max_by_key(|form| (self.forms[**form], std::cmp::Reverse(**form)))?;
        Some(format!(
            "{} of {} lines ({:.1} %) match no known template and are of `{}`: {} forms of messages, most often `{most}`; `known: extend` gives them templates of their own",
            template.count,
            self.lines,
            self.share(template.count),
            template.event_id,
            forms.len(),
        ))
    }

    fn too_many(&self, drain: &DrainParams) -> Option<String> {
        let (used, forms) = (self.used(), self.forms.len());
        let of_lines = self.lines >= LINES && used as u64 * 4 > self.lines;
        let of_forms = forms >= FORMS && used * 10 > forms * 9 && drain.similarity >= 0.9;
        if !(of_lines || of_forms) {
            return None;
        }
        let defaults = DrainParams::default();
        let hint = if drain.similarity > 0.8 {
            format!("try a lower `drain.similarity` than {} (default {})", drain.similarity, defaults.similarity)
        } else if drain.min_values > 4 * defaults.min_values {
            format!("try a lower `drain.min_values` than {} (default {})", drain.min_values, defaults.min_values)
        } else if drain.depth > 2 * defaults.depth {
            format!("try a lower `drain.depth` than {} (default {})", drain.depth, defaults.depth)
        } else {
            "mask what varies in messages: `masks` of the stage that parses, also of your own (`masks.custom`)"
                .to_owned()
        };
        Some(format!("{} lines of {forms} forms have {used} templates, so hardly any share one; {hint}", self.lines))
    }

    fn too_few(&self, drain: &DrainParams) -> Option<String> {
        let (template, forms) = self.templates.iter().zip(&self.forms_of).max_by_key(|(_, forms)| forms.len())?;
        let joins = forms.len() >= 20 && forms.len() * 2 > self.forms.len();
        (joins && template.source == Source::Mined && drain.similarity < 0.3).then(|| {
            format!(
                "template {} `{}` joins {} of {} forms of messages with `drain.similarity: {}`; try a higher one (default {})",
                template.event_id,
                template.text,
                forms.len(),
                self.forms.len(),
                drain.similarity,
                DrainParams::default().similarity
            )
        })
    }

    fn without_words(&self, drain: &DrainParams) -> Option<String> {
        let blank = |t: &&Template| t.source == Source::Mined && t.text.split(' ').all(|w| w == crate::drain::ANY);
        let found = self.templates.iter().filter(blank).find(|t| self.forms_of[t.number as usize].len() > 1)?;
        Some(format!(
            "template {} `{}` spells out no word: {} forms of messages have nothing in common but their length; try a higher `drain.similarity` than {} or a higher `drain.min_values` than {}",
            found.event_id,
            found.text,
            self.forms_of[found.number as usize].len(),
            drain.similarity,
            drain.min_values
        ))
    }

    fn one_for_all(&self, drain: &DrainParams) -> Option<String> {
        let most = self.templates.iter().filter(|t| t.source != Source::Unseen).max_by_key(|t| t.count)?;
        let share = self.share(most.count);
        if self.lines < LINES || share < 95.0 {
            return None;
        }
        let forms = self.forms_of[most.number as usize].len();
        let hint = if forms > 1 {
            format!("if it stands for different things, try a higher `drain.similarity` than {}", drain.similarity)
        } else {
            "if it stands for different things, masks hide what tells them apart: `masks` of the stage that parses"
                .to_owned()
        };
        Some(format!(
            "template {} `{}` has {} of {} lines ({share:.1} %); {hint}",
            most.event_id, most.text, most.count, self.lines
        ))
    }
}
