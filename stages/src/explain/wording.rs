//! What is said of an alert: a sentence, and a signature that alike ones share.
//!
//! A signature is made of what the session itself shows against the models, never of other sessions: the sets of
//! templates that are unseen, extra or missing against the nearest benign session, without counts; where the counts are
//! those of a benign session, the feature that speaks loudest. For people it has the ids of templates. Ids are given by
//! order of appearance, so that another log may number templates anew: [`Said::signature_id`] is a digest over their
//! texts instead, and means the same in every run.

use logweir_engine::digest::Digest;

use super::alert::{Contribution, Residual, Shares};
use super::columns::Columns;
use crate::profile::{Deviation, Difference};

/// A model's part in the decision from which on the sentence speaks of it beside the difference to a benign session.
const SPEAKS: f64 = 1.0 / 3.0;

/// Contributions that a sentence names.
const NAMED: usize = 2;

/// Characters of a template's text that a sentence shows.
const SHOWN: usize = 60;

/// Hexadecimal digits of [`Said::signature_id`].
const DIGITS: usize = 12;

/// What is known of a session, as far as words are made of it.
pub(super) struct Known<'a> {
    /// Its id.
    pub(super) id: &'a str,
    /// Against the nearest benign session; `None` without a profile.
    pub(super) difference: Option<&'a Difference>,
    /// All contributions to the supervised margin that speak for an anomaly, largest first.
    pub(super) contributions: &'a [Contribution],
    /// All residuals of the autoencoder that are not zero, largest first.
    pub(super) residuals: &'a [Residual],
    /// Each model's part in the decision.
    pub(super) shares: Shares,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// A sentence; never empty.
    pub(super) reason: String,
    /// The signature for people.
    pub(super) signature: String,
    /// The signature by the texts of templates.
    pub(super) signature_id: String,
}

impl Known<'_> {
    /// The difference, if there is one.
    pub(super) fn differs(&self) -> Option<&Difference> {
        self.difference.filter(|difference| !difference.is_none())
    }

    /// Whether the supervised model, not the autoencoder, speaks for the session.
    pub(super) fn supervised(&self) -> bool {
        let larger = self.shares.lgbm.unwrap_or(0.0) >= self.shares.ae.unwrap_or(0.0);
        !self.contributions.is_empty() && (larger || self.residuals.is_empty())
    }

    /// Says it.
    pub(super) fn said(&self, columns: &Columns) -> Said {
        let (signature, lasting) = self.signature(columns);
        let signature_id = Digest::of_bytes(lasting.as_bytes()).to_string()[..DIGITS].to_owned();
        Said { reason: self.reason(columns), signature, signature_id }
    }

    /// The signature for people, and what its digest is made of.
    fn signature(&self, columns: &Columns) -> (String, String) {
        if let Some(difference) = self.differs() {
            let kinds =
                [("unseen", &difference.unseen), ("extra", &difference.extra), ("missing", &difference.missing)];
            let (mut parts, mut lasting) = (Vec::new(), String::new());
            for (what, deviations) in kinds.into_iter().filter(|(_, deviations)| !deviations.is_empty()) {
                let mut sorted: Vec<&Deviation> = deviations.iter().collect();
                sorted.sort_by_key(|d| (d.number.unwrap_or(u32::MAX), d.event_id.as_str()));
                let ids: Vec<&str> = sorted.iter().map(|d| d.event_id.as_str()).collect();
                parts.push(format!("{what} {}", ids.join("+")));
                sorted.sort_by_key(|d| d.text.as_str());
                lasting.push_str(what);
                for deviation in sorted {
                    lasting.push('\n');
                    lasting.push_str(&deviation.text);
                }
                lasting.push('\n');
            }
            return (parts.join(", "), lasting);
        }
        let (what, feature) = match (self.contributions.first(), self.residuals.first()) {
            (Some(first), _) if self.supervised() => ("contribution", &first.feature),
            (_, Some(first)) => ("residual", &first.feature),
            _ => return ("scores alone".to_owned(), String::new()),
        };
        (format!("{what} {feature}"), format!("{what}\n{}", columns.lasting(feature)))
    }

    fn reason(&self, columns: &Columns) -> String {
        let mut parts = Vec::new();
        let differs = self.differs().is_some();
        if let Some(difference) = self.difference {
            match (differs, &difference.nearest) {
                (true, _) => parts.push(difference.sentence()),
                (false, Some(nearest)) if nearest == self.id => {
                    parts.push("it is one of the benign sessions of the profile".to_owned());
                }
                (false, Some(nearest)) => parts.push(format!("event counts are those of benign session {nearest}")),
                (false, None) => parts.push("event counts are those of a benign session".to_owned()),
            }
        }
        let speaks = |share: Option<f64>| share.is_some_and(|share| share >= SPEAKS);
        if !self.contributions.is_empty() && (speaks(self.shares.lgbm) || (!differs && self.supervised())) {
            let mut texts = Vec::new();
            let said: Vec<String> = self
                .contributions
                .iter()
                .take(NAMED)
                .map(|c| {
                    // What templates say is said once, and the difference has said it already.
                    let text = if differs { String::new() } else { shown(columns, &c.feature) };
                    let text = if texts.contains(&text) { String::new() } else { text };
                    texts.push(text.clone());
                    format!("{} = {}{text} adds {:.2}", c.feature, short(c.value), c.contribution)
                })
                .collect();
            parts.push(format!("LightGBM: {}", said.join(", ")));
        }
        if let Some(first) = self.residuals.first()
            && (speaks(self.shares.ae) || (!differs && !self.supervised()))
        {
            let error: f64 = self.residuals.iter().map(|r| r.residual).sum();
            let percent = (100.0 * first.residual / error).round();
            let text = if differs { String::new() } else { shown(columns, &first.feature) };
            parts.push(format!("autoencoder: {}{text} is {percent} % of the error", first.feature));
        }
        if parts.is_empty() {
            parts.push("its scores together are unusual; no model says more".to_owned());
        }
        parts.join("; ")
    }
}

/// The text of the template that a column speaks of, to follow its name.
fn shown(columns: &Columns, feature: &str) -> String {
    columns.text(feature).map_or_else(String::new, |text| {
        let text: String = text.chars().take(SHOWN).collect();
        format!(" `{}`", text.trim())
    })
}

/// A value of a feature: whole numbers as such, others with two decimals.
fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deviation(id: &str, number: u32, count: u32, benign: u32) -> Deviation {
        Deviation {
            event_id: id.to_owned(),
            text: format!("text of {id}"),
            number: Some(number),
            count,
            benign,
            weight: 1.0,
        }
    }

    fn contribution(feature: &str, value: f64, contribution: f64) -> Contribution {
        Contribution { feature: feature.to_owned(), value, contribution }
    }

    fn said(
        difference: Option<&Difference>,
        contributions: &[Contribution],
        residuals: &[Residual],
        shares: Shares,
    ) -> Said {
        Known { id: "a", difference, contributions, residuals, shares }.said(&Columns::default())
    }

    #[test]
    fn alike_sessions_share_a_signature_whatever_their_counts() {
        let difference = |count| Difference {
            distance: 3.0,
            nearest: Some("b".to_owned()),
            unseen: vec![deviation("T31", 30, 1, 0)],
            extra: vec![deviation("T10", 9, count, 1), deviation("T9", 8, count, 2)],
            missing: vec![deviation("T26", 25, 0, 1)],
            ..Difference::default()
        };
        let one = said(Some(&difference(3)), &[], &[], Shares::default());
        let other = said(Some(&difference(7)), &[contribution("last T9", 3.0, 1.0)], &[], Shares::default());
        assert_eq!(one.signature, "unseen T31, extra T9+T10, missing T26");
        assert_eq!((&one.signature, &one.signature_id), (&other.signature, &other.signature_id));
        assert!(one.reason != other.reason && one.reason.contains("T31 (1)"), "{one:?}");
        assert_eq!(one.signature_id.len(), DIGITS);
        // Another run numbers templates anew.
        let mut anew = difference(3);
        (anew.unseen[0].event_id, anew.unseen[0].number) = ("T4".to_owned(), Some(3));
        let anew = said(Some(&anew), &[], &[], Shares::default());
        assert_ne!(anew.signature, one.signature);
        assert_eq!(anew.signature_id, one.signature_id);
        // What is extra there is missing here.
        let mut turned = difference(3);
        std::mem::swap(&mut turned.extra, &mut turned.missing);
        assert_ne!(said(Some(&turned), &[], &[], Shares::default()).signature_id, one.signature_id);
    }

    #[test]
    fn where_counts_are_benign_the_loudest_feature_speaks_and_something_is_always_said() {
        let same = Difference { nearest: Some("b7".to_owned()), ..Difference::default() };
        let contributions = [contribution("last T5", 3.0, 2.5), contribution("first T2", 0.5, 1.0)];
        let residuals =
            [("count T1", 3.0), ("count T2", 1.0)].map(|(f, r)| Residual { feature: f.to_owned(), residual: r });
        let shares = |lgbm, ae| Shares { lgbm: Some(lgbm), ae: Some(ae), profile: Some(0.0) };
        let supervised = said(Some(&same), &contributions, &residuals, shares(0.8, 0.2));
        assert_eq!(supervised.signature, "contribution last T5");
        assert_eq!(
            supervised.reason,
            "event counts are those of benign session b7; LightGBM: last T5 = 3 adds 2.50, first T2 = 0.50 adds 1.00"
        );
        let other = said(Some(&same), &contributions, &residuals, shares(0.2, 0.8));
        assert_eq!(other.signature, "residual count T1");
        assert!(other.reason.ends_with("autoencoder: count T1 is 75 % of the error"), "{}", other.reason);
        let own = Difference { nearest: Some("a".to_owned()), ..Difference::default() };
        let own = said(Some(&own), &[], &[], Shares::default());
        assert_eq!(own.reason, "it is one of the benign sessions of the profile");
        let nothing = said(None, &[], &[], Shares::default());
        assert_eq!(nothing.signature, "scores alone");
        assert!(!nothing.reason.is_empty());
    }
}
