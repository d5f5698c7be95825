//! How a session differs from its nearest benign one, template by template.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::index::{Index, Query, Site};
use crate::support::traces::Templates;

/// Templates of each kind that a sentence names.
const NAMED: usize = 4;

/// Characters of a template's text that a sentence shows.
const SHOWN: usize = 60;

/// A template that occurs more or less often than in the nearest benign session.
#[derive(Clone, Debug, PartialEq)]
pub struct Deviation {
    /// Its id for people.
    pub event_id: String,
    /// Its text.
    pub text: String,
    /// Its number in the table of templates; `None` where the table does not have it.
    pub number: Option<u32>,
    /// How often the session has it.
    pub count: u32,
    /// How often the nearest benign session has it.
    pub benign: u32,
    /// What it adds to the distance.
    pub weight: f64,
}

/// A session against its nearest benign one. Deviations are in order of their weight, heaviest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Distance of the count vectors.
    pub distance: f64,
    /// Id of the nearest benign session; `None` where there is none, or the model does not say.
    pub nearest: Option<String>,
    /// How many events of that session were compared, from its first: fewer than it has where its beginning is nearest.
    pub events: usize,
    /// Whether the beginning of a benign session is nearest.
    pub beginning: bool,
    /// Templates that no benign session has.
    pub unseen: Vec<Deviation>,
    /// Templates that occur more often.
    pub extra: Vec<Deviation>,
    /// Templates that occur less often.
    pub missing: Vec<Deviation>,
}

/// The differences of many sessions, of which many are equal.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    pub(super) distinct: Vec<Difference>,
    /// The difference of each session.
    pub(super) of: Vec<u32>,
}

impl Differences {
    /// The difference of a session.
    ///
    /// # Panics
    /// There is no such session.
    pub fn of(&self, session: usize) -> &Difference {
        &self.distinct[self.of[session] as usize]
    }

    /// Ids of all nearest benign sessions.
    pub fn nearest(&self) -> BTreeSet<String> {
        self.distinct.iter().filter_map(|difference| difference.nearest.clone()).collect()
    }
}

/// What templates are called.
pub(super) struct Names<'a> {
    index: &'a Index,
    templates: &'a Templates,
    /// Number in the table of each template that the index knows.
    numbers: Vec<Option<u32>>,
}

impl<'a> Names<'a> {
    pub(super) fn new(index: &'a Index, templates: &'a Templates) -> Self {
        let mut numbers = vec![None; index.templates.len()];
        for (number, local) in index.bind(templates).into_iter().enumerate().rev() {
            if let Some(known) = numbers.get_mut(local as usize) {
                *known = Some(number as u32);
            }
        }
        Self { index, templates, numbers }
    }
}

impl Difference {
    /// Compares a query with what was found for it.
    pub(super) fn of(names: &Names<'_>, query: &Query, (distance, site): (f64, Option<Site>)) -> Self {
        let Names { index, templates, numbers } = names;
        let near: &[(u32, u32)] = site.map_or(&[], |site| index.at(site));
        let known = index.event_ids.len();
        let deviation = |local: u32, count: u32, benign: u32| {
            let weight = index.difference(local, count, benign);
            let (event_id, text, number) = match local as usize {
                known_as if known_as < known => {
                    (&index.event_ids[known_as], &index.templates[known_as], numbers[known_as])
                }
                other => {
                    let number = other - known;
                    (&templates.event_ids[number], &templates.texts[number], Some(number as u32))
                }
            };
            Deviation { event_id: event_id.clone(), text: text.clone(), number, count, benign, weight }
        };
        let count = |of: &[(u32, u32)], local: u32| of.iter().find(|e| e.0 == local).map_or(0, |e| e.1);
        let (mut missing, mut extra, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
        for &(local, n) in &query.counts {
            let benign = count(near, local);
            if local as usize >= known {
                unseen.push((local, deviation(local, n, 0)));
            } else if n > benign {
                extra.push((local, deviation(local, n, benign)));
            }
        }
        for &(local, benign) in near {
            let n = count(&query.counts, local);
            if n < benign {
                missing.push((local, deviation(local, n, benign)));
            }
        }
        let sorted = |mut all: Vec<(u32, Deviation)>| -> Vec<Deviation> {
            all.sort_by(|a, b| b.1.weight.total_cmp(&a.1.weight).then(a.0.cmp(&b.0)));
            all.into_iter().map(|d| d.1).collect()
        };
        Self {
            distance,
            nearest: site.and_then(|site| index.example(site)).map(str::to_owned),
            events: near.iter().map(|n| n.1 as usize).sum(),
            beginning: matches!(site, Some(Site::Prefix(_))),
            unseen: sorted(unseen),
            extra: sorted(extra),
            missing: sorted(missing),
        }
    }

    /// Whether the session has the counts of a benign one.
    pub fn is_none(&self) -> bool {
        self.unseen.is_empty() && self.extra.is_empty() && self.missing.is_empty()
    }

    /// Says it in words: at most four templates of each kind; empty where nothing differs.
    pub fn sentence(&self) -> String {
        let mut text = String::new();
        let kinds = [
            ("never seen in a benign session", &self.unseen, false),
            ("extra", &self.extra, true),
            ("missing", &self.missing, true),
        ];
        for (what, deviations, against) in kinds {
            if deviations.is_empty() {
                continue;
            }
            let shown: Vec<String> = deviations
                .iter()
                .take(NAMED)
                .map(|d| {
                    let template: String = d.text.chars().take(SHOWN).collect();
                    let (id, n, template) = (&d.event_id, d.count, template.trim());
                    if against {
                        format!("{id} ({n} instead of {}) `{template}`", d.benign)
                    } else {
                        format!("{id} ({n}) `{template}`")
                    }
                })
                .collect();
            let separator = if text.is_empty() { "" } else { "; " };
            write!(text, "{separator}{what}: {}", shown.join(", ")).expect("a string takes all");
            if deviations.len() > NAMED {
                write!(text, " and {} more", deviations.len() - NAMED).expect("a string takes all");
            }
        }
        text
    }
}
