//! Forms of messages to templates, one at a time, by the rules of the stage `templates` when logs are scored.
//!
//! A form that a known template matches has its number at once. Others are kept in order of appearance, and are mined
//! together when a session that has one is scored: as the stage would, had the log ended then. So many are kept as
//! [`MOST_NEW`]; what is new beyond is all of one template.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use crate::drain::Limits;
use crate::logs::given::GivenTemplates;
use crate::logs::intern::Interner;
use crate::logs::rows::text;
use crate::sessionize::SessionizeParams;
use crate::support::traces::Templates;
use crate::templates::{Growth, KnownTemplates, LocalTemplate, Template, TemplatesParams, given_from_known, globalize};

/// Set in codes of forms that no known template matches; the rest is their place in order of appearance.
const NEW: u32 = 1 << 31;

/// Forms whose codes are remembered by text.
const CACHE: usize = 1 << 16;

/// New forms that are told apart.
pub(crate) const MOST_NEW: usize = 4096;

/// Stands for all new forms that are one too many.
const REST: &str = "<unseen>";

/// Templates as they would be, had the log ended.
pub(crate) struct Numbered {
    /// How many new forms there were.
    pub(crate) new: usize,
    /// By number.
    pub(crate) templates: Templates,
    /// Whether an event of the template closes its session.
    pub(crate) closing: Vec<bool>,
    /// Numbers of new forms.
    of_new: Vec<u32>,
}

impl Numbered {
    /// Returns the number of an event's template.
    pub(crate) fn number(&self, code: u32) -> u32 {
        if code & NEW == 0 { code } else { self.of_new[(code & !NEW) as usize] }
    }
}

/// Whether a code is of a form that no known template matches.
pub(crate) fn is_new(code: u32) -> bool {
    code & NEW != 0
}

/// Gives forms their codes.
pub(crate) struct Forms {
    known: Vec<Template>,
    finder: KnownTemplates,
    /// Templates that are matched against messages.
    pub(crate) given: GivenTemplates,
    growth: Growth,
    limits: Limits,
    params: SessionizeParams,
    closes: Vec<Regex>,
    /// By code: whether it closes its session; of known templates and of new forms.
    closing: Vec<bool>,
    closing_new: Vec<bool>,
    names: Interner,
    codes: Vec<u32>,
    new: Vec<LocalTemplate>,
    number_of_new: BTreeMap<String, u32>,
    last: Option<Arc<Numbered>>,
}

impl Forms {
    /// Takes the templates of a run.
    ///
    /// # Errors
    /// A pattern of `closes` is no regular expression.
    pub(crate) fn new(
        known: Vec<Template>,
        templates: &TemplatesParams,
        params: &SessionizeParams,
    ) -> anyhow::Result<Self> {
        let closes = params.closes.iter().map(|r| Regex::new(r)).collect::<Result<_, _>>()?;
        Ok(Self {
            finder: KnownTemplates::new(&known),
            given: given_from_known(&known),
            growth: templates.growth_when_scoring(),
            limits: templates.drain.limits(),
            params: params.clone(),
            closes,
            closing: params.closing(&known)?,
            closing_new: Vec::new(),
            names: Interner::default(),
            codes: Vec::new(),
            new: Vec::new(),
            number_of_new: BTreeMap::new(),
            last: None,
            known,
        })
    }

    /// Returns the code of a form, of which `message` is the first message.
    ///
    /// # Errors
    /// A given template is not among the known ones.
    pub(crate) fn code(&mut self, form: &[u8], message: &[u8]) -> anyhow::Result<u32> {
        if self.names.len() > CACHE {
            self.names.clear();
            self.codes.clear();
        }
        let number = self.names.number(form) as usize;
        if let Some(&code) = self.codes.get(number) {
            return Ok(code);
        }
        let code = self.find(form, message)?;
        self.codes.push(code);
        Ok(code)
    }

    fn find(&mut self, form: &[u8], message: &[u8]) -> anyhow::Result<u32> {
        let name = self.given.find(message).map(|i| self.given.all[i].id.clone());
        let local = LocalTemplate { text: text(form).into_owned(), count: 1, name };
        if let Some(number) = self.finder.find(&local)? {
            return Ok(number);
        }
        // `unseen` is one form to the stage; which one does not matter.
        let frozen = self.growth == Growth::Frozen;
        let whole = if frozen || self.new.len() >= MOST_NEW { REST.to_owned() } else { local.text };
        Ok(self.add_new(whole))
    }

    fn add_new(&mut self, text: String) -> u32 {
        if let Some(&number) = self.number_of_new.get(&text) {
            return NEW | number;
        }
        let number = self.new.len() as u32;
        self.closing_new.push(self.closes.iter().any(|p| p.is_match(&text)));
        self.number_of_new.insert(text.clone(), number);
        self.new.push(LocalTemplate { text, count: 1, name: None });
        NEW | number
    }

    /// Returns whether an event of this code closes its session.
    pub(crate) fn closes(&self, code: u32) -> bool {
        let list = if is_new(code) { &self.closing_new } else { &self.closing };
        list.get((code & !NEW) as usize).copied().unwrap_or(false)
    }

    /// Returns how many new forms there are.
    pub(crate) fn new_forms(&self) -> usize {
        self.new.len()
    }

    /// Returns how many known templates there are.
    pub(crate) fn known(&self) -> usize {
        self.known.len()
    }

    /// Returns the texts of new forms, in order.
    pub(crate) fn new_texts(&self) -> impl Iterator<Item = &str> {
        self.new.iter().map(|form| form.text.as_str())
    }

    /// Takes the new forms of an earlier stream.
    pub(crate) fn resume(&mut self, texts: Vec<String>) {
        for text in texts {
            self.add_new(text);
        }
    }

    /// Returns the templates as of the first `new` new forms; without, as is at hand: known templates are the same in all.
    ///
    /// # Errors
    /// A pattern of `closes` is no regular expression.
    pub(crate) fn numbered(&mut self, new: Option<usize>) -> anyhow::Result<Arc<Numbered>> {
        if let Some(last) = &self.last
            && new.is_none_or(|new| last.new == new)
        {
            return Ok(Arc::clone(last));
        }
        let new = new.unwrap_or(0);
        let forms = [self.new[..new].to_vec()];
        let global = globalize(&forms, &self.known, self.limits, self.growth)?;
        let numbered = Arc::new(Numbered {
            new,
            closing: self.params.closing(&global.templates)?,
            of_new: global.map.into_iter().next().unwrap_or_default(),
            templates: Templates {
                event_ids: global.templates.iter().map(|t| t.event_id.clone()).collect(),
                texts: global.templates.into_iter().map(|t| t.text).collect(),
            },
        });
        self.last = Some(Arc::clone(&numbered));
        Ok(numbered)
    }
}
