//! From the name of a feature column to the events of a session that it speaks of.

use std::collections::BTreeMap;

use crate::featurize::vectorizer::Vectorizer;
use crate::featurize::{Group, Numeric};
use crate::support::traces::{Templates, Trace};

/// Which events of its templates a column speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    /// All of them.
    All,
    /// The first of each.
    First,
    /// The last of each.
    Last,
    /// The event after the longest gap among so many from the start.
    Gap(usize),
    /// No event in particular.
    Nothing,
}

/// What a column speaks of.
#[derive(Clone, Debug)]
struct Column {
    speaks: Speaks,
    /// Numbers of its templates in the table of templates.
    numbers: Vec<u32>,
    /// Name with texts of templates for ids: the same in every run.
    lasting: String,
    /// Text of its only template.
    text: Option<String>,
}

/// The columns of a features directory, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns(BTreeMap<String, Column>);

impl Columns {
    /// Ties the columns of a vectoriser to the templates of a run.
    pub(super) fn new(vectorizer: &Vectorizer, templates: &Templates) -> Self {
        let by_text: BTreeMap<&str, u32> =
            templates.texts.iter().enumerate().rev().map(|(number, text)| (text.as_str(), number as u32)).collect();
        let (mut columns, mut names) = (BTreeMap::new(), vectorizer.names().into_iter());
        for (group, n) in vectorizer.layout() {
            for i in 0..n {
                let Some((name, _)) = names.next() else { break };
                let locals = match group {
                    Group::Tfidf => vectorizer.terms[i].clone(),
                    Group::Hashing | Group::Numeric => Vec::new(),
                    Group::Parameter => {
                        vec![vectorizer.sources[vectorizer.parameters[i].source as usize].template]
                    }
                    _ => vec![i as u32],
                };
                let texts: Vec<&str> =
                    locals.iter().map(|&local| vectorizer.templates[local as usize].as_str()).collect();
                let speaks = match group {
                    Group::Hashing => Speaks::Nothing,
                    Group::First => Speaks::First,
                    Group::Last => Speaks::Last,
                    Group::Numeric => match vectorizer.params.numerics[i] {
                        Numeric::MaxGap => Speaks::Gap(usize::MAX),
                        Numeric::HeadMaxGap => Speaks::Gap(vectorizer.params.head as usize),
                        _ => Speaks::Nothing,
                    },
                    _ => Speaks::All,
                };
                let column = Column {
                    speaks,
                    numbers: texts.iter().filter_map(|text| by_text.get(text).copied()).collect(),
                    lasting: if texts.is_empty() {
                        name.clone()
                    } else if group == Group::Parameter {
                        // Several columns are made of one template.
                        let id = &vectorizer.event_ids[locals[0] as usize];
                        name.replacen(&format!(" of {id} "), &format!(" of {} ", texts[0]), 1)
                    } else {
                        format!("{} {}", group.name(), texts.join("\n"))
                    },
                    text: match texts.as_slice() {
                        [one] => Some((*one).to_owned()),
                        _ => None,
                    },
                };
                columns.insert(name, column);
            }
        }
        Self(columns)
    }

    /// Positions of the events that a column speaks of, ascending.
    pub(super) fn positions(&self, name: &str, trace: &Trace<'_>) -> Vec<usize> {
        let Some(column) = self.0.get(name) else { return Vec::new() };
        let mut all = (0..trace.events.len()).filter(|&at| column.numbers.contains(&trace.events[at]));
        match column.speaks {
            Speaks::All => all.collect(),
            Speaks::First => all.next().into_iter().collect(),
            Speaks::Last => all.next_back().into_iter().collect(),
            Speaks::Gap(head) => {
                let gaps = trace.gaps.iter().enumerate().take(head).skip(1).filter(|(_, gap)| **gap > 0);
                // Of equal gaps the first.
                gaps.rev().max_by_key(|(_, gap)| **gap).map(|(at, _)| at).into_iter().collect()
            }
            Speaks::Nothing => Vec::new(),
        }
    }

    /// The name with texts for ids, which no other run changes.
    pub(super) fn lasting<'a>(&'a self, name: &'a str) -> &'a str {
        self.0.get(name).map_or(name, |column| &column.lasting)
    }

    /// The text of the one template that a column speaks of.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.text.as_deref()
    }
}
