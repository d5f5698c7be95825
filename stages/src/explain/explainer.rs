//! Why sessions score as they do: what the models say of them, put together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;

use super::ExplainParams;
use super::alert::{Contribution, Deviant, Explanation, Odd, OddLine, Residual, Shares};
use super::chosen::{Chosen, Files};
use super::columns::Columns;
use super::decision::shares;
use super::odd::stand_out;
use super::wording::{Known, Said};
use crate::featurize::Features;
use crate::featurize::parameters::read_stored;
use crate::featurize::vectorizer::Vectorizer;
use crate::profile::{Deviation, Difference, Differences};
use crate::support::traces::{Templates, Traces};
use crate::{autoencoder, fusion, lightgbm, profile};

/// Where the models are; those that are not there do not speak.
#[derive(Clone, Debug, Default)]
pub struct Directories {
    /// Features directory; without it neither LightGBM nor the autoencoder speaks.
    pub features: Option<PathBuf>,
    /// Model directory of `lightgbm`.
    pub lgbm: Option<PathBuf>,
    /// Model directory of `autoencoder`.
    pub ae: Option<PathBuf>,
    /// Model directory of `profile`.
    pub profile: Option<PathBuf>,
    /// Model directory of `fusion`; without it nobody's part in the decision is known.
    pub fusion: Option<PathBuf>,
}

/// Raw scores of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Raw {
    /// Margin of the supervised model.
    pub lgbm: Option<f64>,
    /// Error of the autoencoder.
    pub ae: Option<f64>,
    /// Distance to the nearest benign session.
    pub profile: Option<f64>,
}

impl Raw {
    /// The raw scores of the inputs of a fusion; `None` where one is not known.
    fn inputs(&self, fusion: &fusion::Model) -> Option<Vec<f64>> {
        let of = |name: &str| match name {
            "lgbm" => self.lgbm,
            "ae" => self.ae,
            "profile" => self.profile,
            _ => None,
        };
        fusion.inputs.iter().map(|input| of(&input.name)).collect()
    }
}

/// Models that explain sessions of a log.
pub struct Explainer<'a> {
    vectorizer: Option<Vectorizer>,
    features: Option<PathBuf>,
    lgbm: Option<lightgbm::Model>,
    ae: Option<autoencoder::Model>,
    profile: Option<profile::Model>,
    teller: Teller<'a>,
}

/// Puts together what models say; unlike a booster it is for all threads.
struct Teller<'a> {
    params: &'a ExplainParams,
    templates: &'a Templates,
    files: Files,
    columns: Columns,
    fusion: Option<fusion::Model>,
}

/// What the models that see features say of sessions; sessions alike are heard once.
#[derive(Default)]
pub struct Heard {
    /// Raw scores by session; empty without such models.
    raw: Vec<Raw>,
    /// All contributions, largest first by size.
    contributions: Shared<Contribution>,
    /// All residuals, largest first.
    residuals: Shared<Residual>,
}

/// Lists by session, of which many are equal.
struct Shared<T> {
    distinct: Vec<Vec<T>>,
    of: Vec<u32>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { distinct: Vec::new(), of: Vec::new() }
    }
}

impl<T> Shared<T> {
    fn of(&self, session: usize) -> &[T] {
        self.of.get(session).map_or(&[], |&distinct| &self.distinct[distinct as usize])
    }
}

impl<'a> Explainer<'a> {
    /// Loads models for sessions of a log with these templates and files.
    ///
    /// # Errors
    /// A file of a directory is missing or malformed.
    pub fn load(
        directories: &Directories,
        templates: &'a Templates,
        files: Files,
        params: &'a ExplainParams,
    ) -> anyhow::Result<Self> {
        let Directories { features, lgbm, ae, profile, fusion } = directories;
        let fusion = fusion.as_deref().map(fusion::Model::load).transpose()?;
        let mut explainer = Self {
            vectorizer: None,
            features: features.clone(),
            lgbm: None,
            ae: None,
            profile: profile.as_deref().map(profile::Model::load).transpose()?.flatten(),
            teller: Teller { params, templates, files, columns: Columns::default(), fusion },
        };
        if let Some(directory) = features {
            let names = Features::read(directory)?;
            explainer.lgbm = lgbm.as_deref().map(|d| lightgbm::Model::load(d, &names)).transpose()?.flatten();
            explainer.ae = ae.as_deref().map(|d| autoencoder::Model::load(d, &names)).transpose()?.flatten();
            let vectorizer = Vectorizer::read(directory)?;
            explainer.teller.columns = Columns::new(&vectorizer, templates);
            explainer.vectorizer = Some(vectorizer);
        }
        Ok(explainer)
    }

    /// The fused score of raw ones; `None` without a fusion, or if it uses a model that is not there.
    pub fn fused(&self, raw: &Raw) -> Option<f64> {
        let fusion = self.teller.fusion.as_ref()?;
        Some(fusion.score(&raw.inputs(fusion)?))
    }

    /// How sessions differ from their nearest benign ones; `None` without a profile. On the current rayon pool.
    pub fn differences(&self, sessions: &Chosen) -> Option<Differences> {
        self.profile.as_ref().map(|profile| profile.differences(&sessions.traces, self.teller.templates))
    }

    /// Explains sessions, of which `differences` are. `benign` has the events of nearest benign sessions by id, as far as they are
    /// known. On the current rayon pool.
    ///
    /// # Errors
    /// An event has no template, or a library fails.
    pub fn explain(
        &self,
        sessions: &Chosen,
        differences: Option<&Differences>,
        benign: &BTreeMap<String, Vec<u32>>,
    ) -> anyhow::Result<Vec<(Raw, Explanation)>> {
        Ok(self.tell(sessions, 0, &self.hear(sessions)?, differences, benign))
    }

    /// Explains the sessions from number `first` on; what is `heard` of the models, and differences, are those of all. `benign` has
    /// the events of nearest benign sessions by id, as far as they are known. On the current rayon pool.
    pub fn tell(
        &self,
        sessions: &Chosen,
        first: usize,
        heard: &Heard,
        differences: Option<&Differences>,
        benign: &BTreeMap<String, Vec<u32>>,
    ) -> Vec<(Raw, Explanation)> {
        let teller = &self.teller;
        let explain = |row: usize| {
            let difference = differences.map(|all| all.of(first + row));
            let raw = heard.raw.get(first + row).copied().unwrap_or_default();
            let raw = Raw { profile: difference.map(|d| d.distance), ..raw };
            let (contributions, residuals) = (heard.contributions.of(first + row), heard.residuals.of(first + row));
            let near = difference.and_then(|d| {
                let events = benign.get(d.nearest.as_ref()?)?;
                events.get(..d.events)
            });
            let mut explanation = teller.together(sessions, row, &raw, difference, near, contributions, residuals);
            explanation.contributions = first_of(contributions, teller.params.contributions);
            explanation.residuals = first_of(residuals, teller.params.residuals);
            (raw, explanation)
        };
        (0..sessions.len()).into_par_iter().map(explain).collect()
    }

    /// Hears what the models that see features say of sessions. On the current rayon pool.
    ///
    /// # Errors
    /// An event has no template, or a library fails.
    pub fn hear(&self, sessions: &Chosen) -> anyhow::Result<Heard> {
        let n = sessions.len();
        let mut heard = Heard::default();
        let Some(vectorizer) = self.vectorizer.as_ref().filter(|_| self.lgbm.is_some() || self.ae.is_some()) else {
            return Ok(heard);
        };
        heard.raw = vec![Raw::default(); n];
        let stored = match &self.features {
            Some(directory) if !vectorizer.parameters.is_empty() => read_stored(directory, &sessions.traces.ids)?,
            _ => None,
        };
        let matrix = match stored {
            Some(values) => {
                vectorizer.transform(&Traces { values, ..sessions.traces.clone() }, self.teller.templates)?
            }
            None => vectorizer.transform(&sessions.traces, self.teller.templates)?,
        };
        let session = &matrix.origins.session;
        if let Some(model) = &self.lgbm {
            let margins = model.score_matrix(&matrix)?.0;
            let loudest = loudest(session, n, &margins);
            heard.raw.iter_mut().zip(&loudest).for_each(|(raw, &row)| raw.lgbm = Some(margins[row]));
            let (added, of) = model.contributions(&matrix, &loudest)?;
            let named = |added: Vec<(u32, f32, f64)>| {
                let named = added.into_iter().map(|(column, value, contribution)| {
                    let feature = model.names()[column as usize].clone();
                    Contribution { feature, value: f64::from(value), contribution }
                });
                let mut all: Vec<Contribution> = named.collect();
                // Of equal ones that of the first column stays first.
                all.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
                all
            };
            heard.contributions = Shared { distinct: added.rows.into_iter().map(named).collect(), of };
        }
        if let Some(model) = &self.ae {
            let errors = model.score_matrix(&matrix).error;
            let loudest = loudest(session, n, &errors);
            heard.raw.iter_mut().zip(&loudest).for_each(|(raw, &row)| raw.ae = Some(errors[row]));
            let (parts, of) = model.residuals_of_matrix(&matrix, &loudest);
            let named = |parts: Vec<f64>| {
                let parts = parts.into_iter().zip(model.names()).filter(|(residual, _)| *residual > 0.0);
                let mut all: Vec<Residual> =
                    parts.map(|(residual, name)| Residual { feature: name.clone(), residual }).collect();
                all.sort_by(|a, b| b.residual.total_cmp(&a.residual));
                all
            };
            heard.residuals = Shared { distinct: parts.into_iter().map(named).collect(), of };
        }
        Ok(heard)
    }
}

impl Teller<'_> {
    /// Each model's part in the decision.
    fn shares(&self, raw: &Raw) -> Shares {
        let Some((fusion, scores)) = self.fusion.as_ref().and_then(|f| Some((f, raw.inputs(f)?))) else {
            return Shares::default();
        };
        let shares = shares(&fusion.parts(&scores));
        let of = |name: &str| fusion.inputs.iter().position(|input| input.name == name).map(|at| shares[at]);
        Shares { lgbm: of("lgbm"), ae: of("ae"), profile: of("profile") }
    }

    /// Puts together what is known of a session, but for what models say by feature.
    #[expect(clippy::too_many_arguments, reason = "all that is known of one session")]
    fn together(
        &self,
        sessions: &Chosen,
        row: usize,
        raw: &Raw,
        difference: Option<&Difference>,
        near: Option<&[u32]>,
        contributions: &[Contribution],
        residuals: &[Residual],
    ) -> Explanation {
        let trace = sessions.traces.trace(row, 0);
        let lines = sessions.lines_of(row);
        let place = |at: usize| lines.get(at).map(|&line| self.files.place(line));
        let against: Vec<Contribution> = contributions.iter().filter(|c| c.contribution > 0.0).cloned().collect();
        let id = sessions.traces.ids[row].as_str();
        let known = Known { id, difference, contributions: &against, residuals, shares: self.shares(raw) };
        let Said { reason, signature, signature_id } = known.said(&self.columns);
        let odd = stand_out(&trace, &known, near, &self.columns);
        let odd_total = odd.len() as u32;
        let mut listed: Vec<(Odd, usize)> = odd.into_iter().map(|(at, why)| (why, at)).collect();
        // Where there are too many, the weightiest stay.
        listed.sort_unstable();
        listed.truncate(self.params.lines);
        listed.sort_unstable_by_key(|(_, at)| *at);
        let odd = listed.into_iter().map(|(why, at)| OddLine {
            event: at as u32,
            event_id: self.templates.event_ids[trace.events[at] as usize].clone(),
            why,
            place: place(at),
        });
        let deviants = |of: fn(&Difference) -> &[Deviation]| -> Vec<Deviant> {
            let all = difference.map_or(&[][..], of).iter();
            all.map(|d| Deviant { event_id: d.event_id.clone(), count: d.count, benign: d.benign }).collect()
        };
        Explanation {
            reason,
            signature,
            signature_id,
            nearest: difference.and_then(|d| d.nearest.clone()),
            unseen: deviants(|d| &d.unseen),
            extra: deviants(|d| &d.extra),
            missing: deviants(|d| &d.missing),
            shares: known.shares,
            odd: odd.collect(),
            odd_total,
            events: trace.events.len() as u32,
            first: place(0),
            last: trace.events.len().checked_sub(1).and_then(place),
            ..Explanation::default()
        }
    }
}

/// The row of each session with the largest value, the first of equal ones.
fn loudest(session: &[u32], sessions: usize, values: &[f64]) -> Vec<usize> {
    let mut rows = vec![None::<usize>; sessions];
    for (row, &s) in session.iter().enumerate() {
        let s = s as usize;
        if rows[s].is_none_or(|known| values[row] > values[known]) {
            rows[s] = Some(row);
        }
    }
    rows.into_iter().map(|row| row.expect("every session has a row")).collect()
}

fn first_of<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    all[..all.len().min(most)].to_vec()
}
