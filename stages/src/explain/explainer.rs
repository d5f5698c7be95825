//! Why sessions score as they do: what the models say of them, put together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::ensure;

use super::ExplainParams;
use super::alert::{Contribution, Deviant, Explanation, Odd, OddLine, Residual, Shares};
use super::chosen::{Chosen, Files};
use super::columns::Columns;
use super::decision::{parts, shares};
use super::odd::stand_out;
use super::wording::{Known, Said};
use crate::featurize::Features;
use crate::featurize::vectorizer::Vectorizer;
use crate::profile::{Deviation, Difference, Differences};
use crate::support::traces::Templates;
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
    params: &'a ExplainParams,
    templates: &'a Templates,
    files: Files,
    vectorizer: Option<Vectorizer>,
    columns: Columns,
    lgbm: Option<lightgbm::Model>,
    ae: Option<autoencoder::Model>,
    profile: Option<profile::Model>,
    fusion: Option<fusion::Model>,
}

/// What the models that see features say of sessions, by session.
#[derive(Default)]
struct Spoken {
    raw: Vec<Raw>,
    /// All contributions, largest first by size.
    contributions: Vec<Vec<Contribution>>,
    /// All residuals, largest first.
    residuals: Vec<Vec<Residual>>,
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
        let mut explainer = Self {
            params,
            templates,
            files,
            vectorizer: None,
            columns: Columns::default(),
            lgbm: None,
            ae: None,
            profile: profile.as_deref().map(profile::Model::load).transpose()?.flatten(),
            fusion: fusion.as_deref().map(fusion::Model::load).transpose()?,
        };
        if let Some(directory) = features {
            let names = Features::read(directory)?;
            explainer.lgbm = lgbm.as_deref().map(|d| lightgbm::Model::load(d, &names)).transpose()?.flatten();
            explainer.ae = ae.as_deref().map(|d| autoencoder::Model::load(d, &names)).transpose()?.flatten();
            let vectorizer = Vectorizer::read(directory)?;
            explainer.columns = Columns::new(&vectorizer, templates);
            explainer.vectorizer = Some(vectorizer);
        }
        Ok(explainer)
    }

    /// The fused score of raw ones; `None` without a fusion, or if it uses a model that is not there.
    pub fn fused(&self, raw: &Raw) -> Option<f64> {
        let fusion = self.fusion.as_ref()?;
        Some(fusion.score(&raw.inputs(fusion)?))
    }

    /// How sessions differ from their nearest benign ones; `None` without a profile. On the current rayon pool.
    pub fn differences(&self, sessions: &Chosen) -> Option<Differences> {
        self.profile.as_ref().map(|profile| profile.differences(&sessions.traces, self.templates))
    }

    /// Explains sessions; their differences are those from number `first` on. `benign` has the events of nearest benign
    /// sessions by id, as far as they are known. On the current rayon pool.
    ///
    /// # Errors
    /// An event has no template, or a library fails.
    pub fn explain(
        &self,
        sessions: &Chosen,
        differences: Option<(&Differences, usize)>,
        benign: &BTreeMap<String, Vec<u32>>,
    ) -> anyhow::Result<Vec<(Raw, Explanation)>> {
        let mut spoken = self.spoken(sessions)?;
        let explain = |row: usize| {
            let difference = differences.map(|(all, first)| all.of(first + row));
            let raw = Raw { profile: difference.map(|d| d.distance), ..spoken.raw[row] };
            let contributions = std::mem::take(&mut spoken.contributions[row]);
            let residuals = std::mem::take(&mut spoken.residuals[row]);
            let near = difference.and_then(|d| {
                let events = benign.get(d.nearest.as_ref()?)?;
                events.get(..d.events)
            });
            let mut explanation = self.together(sessions, row, &raw, difference, near, &contributions, &residuals);
            explanation.contributions = first_of(contributions, self.params.contributions);
            explanation.residuals = first_of(residuals, self.params.residuals);
            (raw, explanation)
        };
        Ok((0..sessions.len()).map(explain).collect())
    }

    /// What the models that see features say of sessions.
    fn spoken(&self, sessions: &Chosen) -> anyhow::Result<Spoken> {
        let n = sessions.len();
        let mut spoken =
            Spoken { raw: vec![Raw::default(); n], contributions: vec![Vec::new(); n], residuals: vec![Vec::new(); n] };
        let Some(vectorizer) = self.vectorizer.as_ref().filter(|_| self.lgbm.is_some() || self.ae.is_some()) else {
            return Ok(spoken);
        };
        let matrix = vectorizer.transform(&sessions.traces, self.templates)?;
        let (ids, session) = matrix.sessions();
        ensure!(ids == sessions.traces.ids, "a session has no features");
        if let Some(model) = &self.lgbm {
            let margins = model.score(&matrix.rows)?.0;
            let loudest = loudest(&session, n, &margins);
            let added = model.contributions(&matrix.rows.select(&loudest))?;
            for (row, added) in added.rows.into_iter().enumerate() {
                spoken.raw[row].lgbm = Some(margins[loudest[row]]);
                let named = added.into_iter().map(|(column, value, contribution)| {
                    let feature = model.names()[column as usize].clone();
                    Contribution { feature, value: f64::from(value), contribution }
                });
                let mut all: Vec<Contribution> = named.collect();
                // Of equal ones that of the first column stays first.
                all.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
                spoken.contributions[row] = all;
            }
        }
        if let Some(model) = &self.ae {
            let errors = model.score(&matrix.rows).error;
            let loudest = loudest(&session, n, &errors);
            for (row, parts) in model.residuals(&matrix.rows.select(&loudest)).into_iter().enumerate() {
                spoken.raw[row].ae = Some(errors[loudest[row]]);
                let parts = parts.into_iter().zip(model.names()).filter(|(residual, _)| *residual > 0.0);
                let mut all: Vec<Residual> =
                    parts.map(|(residual, name)| Residual { feature: name.clone(), residual }).collect();
                all.sort_by(|a, b| b.residual.total_cmp(&a.residual));
                spoken.residuals[row] = all;
            }
        }
        Ok(spoken)
    }

    /// Each model's part in the decision.
    fn shares(&self, raw: &Raw) -> Shares {
        let Some((fusion, scores)) = self.fusion.as_ref().and_then(|f| Some((f, raw.inputs(f)?))) else {
            return Shares::default();
        };
        let shares = shares(&parts(fusion, &scores));
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
fn loudest(session: &[usize], sessions: usize, values: &[f64]) -> Vec<usize> {
    let mut rows = vec![None::<usize>; sessions];
    for (row, &s) in session.iter().enumerate() {
        if rows[s].is_none_or(|known| values[row] > values[known]) {
            rows[s] = Some(row);
        }
    }
    rows.into_iter().map(|row| row.expect("every session has a row")).collect()
}

fn first_of<T>(mut all: Vec<T>, most: usize) -> Vec<T> {
    all.truncate(most);
    all
}
