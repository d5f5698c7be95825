//! Rules that tell types of anomalies apart by the templates of a session.

use logweir_engine::stage::ParamError;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::templates::Template;

/// A type of anomaly: it holds for a session if all of its clauses do.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TypeRule {
    /// The type.
    pub name: String,
    /// Regular expressions over template texts: every event matches one of them.
    pub only: Vec<String>,
    /// Some event matches one of them.
    pub any: Vec<String>,
    /// Each of them matches some event.
    pub all: Vec<String>,
    /// No event matches any of them.
    pub none: Vec<String>,
}

/// Returns what is wrong with rules.
pub(super) fn check(rules: &[TypeRule]) -> Vec<ParamError> {
    let mut errors = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        let at = |what: &str| format!("types.{i}.{what}");
        if rule.name.is_empty() {
            errors.push(ParamError::new(at("name"), "is missing"));
        }
        let clauses = [("only", &rule.only), ("any", &rule.any), ("all", &rule.all), ("none", &rule.none)];
        if clauses.iter().all(|(_, patterns)| patterns.is_empty()) {
            let error = ParamError::new(format!("types.{i}"), "has no clause");
            errors.push(error.help("add `only`, `any`, `all` or `none` with patterns over template texts"));
        }
        for (name, patterns) in clauses {
            for (k, pattern) in patterns.iter().enumerate() {
                if let Err(error) = Regex::new(pattern) {
                    errors.push(ParamError::new(at(&format!("{name}.{k}")), error.to_string()));
                }
            }
        }
    }
    errors
}

/// By template number: whether a pattern matches.
type Hits = Vec<bool>;

struct Compiled {
    name: String,
    only: Vec<Hits>,
    any: Vec<Hits>,
    all: Vec<Hits>,
    none: Vec<Hits>,
}

/// Rules compiled against the templates of a log.
pub struct Rules {
    rules: Vec<Compiled>,
    without_template: Vec<String>,
}

impl Rules {
    /// Compiles rules.
    ///
    /// # Errors
    /// A pattern is no regular expression; checked ones are.
    pub fn new(rules: &[TypeRule], templates: &[Template]) -> anyhow::Result<Self> {
        let mut without_template = Vec::new();
        let mut hits = |patterns: &[String]| -> anyhow::Result<Vec<Hits>> {
            let mut all = Vec::new();
            for pattern in patterns {
                let regex = Regex::new(pattern)?;
                let hits: Hits = templates.iter().map(|t| regex.is_match(&t.text)).collect();
                if !hits.contains(&true) {
                    without_template.push(pattern.clone());
                }
                all.push(hits);
            }
            Ok(all)
        };
        let mut compiled = Vec::new();
        for rule in rules {
            compiled.push(Compiled {
                name: rule.name.clone(),
                only: hits(&rule.only)?,
                any: hits(&rule.any)?,
                all: hits(&rule.all)?,
                none: hits(&rule.none)?,
            });
        }
        Ok(Self { rules: compiled, without_template })
    }

    /// Returns the patterns that match no template: perhaps a slip, perhaps a log without such events.
    pub fn without_template(&self) -> &[String] {
        &self.without_template
    }

    /// Returns the type of a session with these template numbers, if a rule holds for it.
    pub fn type_of(&self, events: &[u32]) -> Option<&str> {
        self.rules.iter().find(|rule| rule.holds(events)).map(|rule| rule.name.as_str())
    }
}

impl Compiled {
    fn holds(&self, events: &[u32]) -> bool {
        let hit = |hits: &Hits, event: &u32| hits.get(*event as usize).copied().unwrap_or(false);
        let some = |hits: &Hits| events.iter().any(|e| hit(hits, e));
        (self.only.is_empty() || events.iter().all(|e| self.only.iter().any(|h| hit(h, e))))
            && (self.any.is_empty() || self.any.iter().any(some))
            && self.all.iter().all(some)
            && !self.none.iter().any(some)
    }
}
