//! Templates that are known before any line is seen: those that `parse` was given, and those of the slot `known`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::{Growth, Source, Template, read_templates};
use crate::logs::given::{GivenTemplate, GivenTemplates};

/// Reads the slot `known`: a `templates.csv` of another run, or `EventId,EventTemplate` of other origin.
///
/// # Errors
/// The file is unreadable or malformed, or one id stands for two templates.
pub(super) fn read_known(path: &Path) -> anyhow::Result<Vec<Template>> {
    let context = || format!("cannot read templates {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(context)?;
    let own = reader.headers().with_context(context)?.iter().any(|h| h == "number");
    if !own {
        let listed = GivenTemplates::read(path)?;
        return Ok(listed.all.iter().enumerate().map(|(at, t)| template(at, t, Source::Loaded)).collect());
    }
    let known = read_templates(path)?;
    let mut seen = BTreeSet::new();
    for (at, template) in known.iter().enumerate() {
        if template.event_id.is_empty() || template.text.is_empty() {
            bail!("{} line {}: a template needs an id and a text", path.display(), at + 2);
        }
        if !seen.insert(&template.event_id) {
            bail!("{} line {}: template `{}` is there twice", path.display(), at + 2, template.event_id);
        }
    }
    Ok(known)
}

fn template(at: usize, given: &GivenTemplate, source: Source) -> Template {
    Template { event_id: given.id.clone(), number: at as u32, count: 0, text: given.text.clone(), source }
}

/// Puts the templates that `parse` was given among those of the slot `known`, whose numbers stay.
///
/// # Errors
/// An id stands for two templates, or a given one would be new where nothing may be.
pub(super) fn join(mut known: Vec<Template>, given: &GivenTemplates, growth: Growth) -> anyhow::Result<Vec<Template>> {
    // What `parse` was not given no message was compared with.
    for template in known.iter_mut().filter(|t| t.source == Source::Given) {
        template.source = Source::Loaded;
    }
    for one in &given.all {
        match known.iter_mut().find(|t| t.event_id == one.id) {
            Some(same) if same.text == one.text => same.source = Source::Given,
            Some(other) => bail!(
                "template `{}` is `{}` in the slot `known`, but `{}` in the templates given to `parse` (hint: rename one of them)",
                one.id,
                other.text,
                one.text
            ),
            None if growth == Growth::Frozen => bail!(
                "template `{}` was given to `parse` but is not in the slot `known`, to which nothing is added (hint: `known: extend`, or give both the same file)",
                one.id
            ),
            None => known.push(template(known.len(), one, Source::Given)),
        }
    }
    Ok(known)
}

/// Returns given templates as known global ones.
pub fn known_from_given(given: &GivenTemplates) -> Vec<Template> {
    given.all.iter().enumerate().map(|(at, one)| template(at, one, Source::Given)).collect()
}

/// Returns those of the known templates that are matched against messages.
pub fn given_from_known(known: &[Template]) -> GivenTemplates {
    let given = known.iter().filter(|t| t.source == Source::Given);
    GivenTemplates::new(given.map(|t| GivenTemplate::new(&t.event_id, &t.text)).collect())
}
