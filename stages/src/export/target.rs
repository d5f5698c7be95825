//! What every database can do for an export.

use std::collections::BTreeMap;
use std::sync::Arc;

use logweir_engine::stage::StageContext;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::{Address, Place};
use super::rows::{Later, Load};
use super::{postgresql, sqlite};

/// What becomes of the exports before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They stay beside it, as many as `keep` says; one is shown at a time.
    #[default]
    Beside,
    /// They go, in the same transaction.
    Replace,
    /// Sessions of the current export that this one does not have are taken over; those that both have are as they are now.
    /// Rollups are of all of them; metrics, templates and lineage of this one.
    Upsert,
}

/// How to load.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub mode: Mode,
    /// Exports that are kept, the newest ones; 0 = all.
    pub keep: u32,
}

/// Statements that take over what belongs to sessions of the export before (`{OLD}`) that are now in this one (`{NEW}`), after
/// this one's own rows are there. Lines first: what has no alert yet is what is taken over.
pub(super) const CARRY: &[&str] = &[
    "INSERT INTO alert_lines (action_key, session_id, lines)
     SELECT s.action_key, l.session_id, l.lines FROM alert_lines l
     JOIN session_scores s ON s.action_key = {NEW} AND s.session_id = l.session_id AND s.is_alert = 1
     WHERE l.action_key = {OLD}
       AND NOT EXISTS (SELECT 1 FROM alerts n WHERE n.action_key = s.action_key AND n.session_id = l.session_id)",
    "INSERT INTO alerts (action_key, session_id, \"timestamp\", p_lgbm, z_ae, fusion_score, label, fold, reason, ended, type,
       signature, signature_id, nearest, share_lgbm, share_ae, share_profile, events, odd_lines, first_file, first_line, last_file,
       last_line)
     SELECT s.action_key, a.session_id, a.\"timestamp\", a.p_lgbm, a.z_ae, a.fusion_score, a.label, a.fold, a.reason, a.ended, a.type,
       a.signature, a.signature_id, a.nearest, a.share_lgbm, a.share_ae, a.share_profile, a.events, a.odd_lines, a.first_file,
       a.first_line, a.last_file, a.last_line FROM alerts a
     JOIN session_scores s ON s.action_key = {NEW} AND s.session_id = a.session_id AND s.is_alert = 1
     WHERE a.action_key = {OLD}
       AND NOT EXISTS (SELECT 1 FROM alerts n WHERE n.action_key = s.action_key AND n.session_id = a.session_id)",
    "INSERT INTO signatures (action_key, signature_id, signature, reason, alerts, anomalous, normal, unknown, first_seen, last_seen,
       highest_score, example)
     SELECT n.action_key, o.signature_id, o.signature, o.reason, o.alerts, o.anomalous, o.normal, o.unknown, o.first_seen, o.last_seen,
       o.highest_score, o.example FROM signatures o JOIN runs n ON n.action_key = {NEW}
     WHERE o.action_key = {OLD}
       AND NOT EXISTS (SELECT 1 FROM signatures s WHERE s.action_key = n.action_key AND s.signature_id = o.signature_id)
       AND EXISTS (SELECT 1 FROM alerts a WHERE a.action_key = n.action_key AND a.signature_id = o.signature_id)",
    "UPDATE signatures SET
       alerts = (SELECT count(*) FROM alerts a WHERE a.action_key = signatures.action_key AND a.signature_id = signatures.signature_id),
       anomalous = (SELECT count(*) FROM alerts a WHERE a.action_key = signatures.action_key AND a.signature_id = signatures.signature_id
         AND a.label = 1),
       normal = (SELECT count(*) FROM alerts a WHERE a.action_key = signatures.action_key AND a.signature_id = signatures.signature_id
         AND a.label = 0),
       unknown = (SELECT count(*) FROM alerts a WHERE a.action_key = signatures.action_key AND a.signature_id = signatures.signature_id
         AND a.label IS NULL),
       first_seen = (SELECT min(a.\"timestamp\") FROM alerts a WHERE a.action_key = signatures.action_key
         AND a.signature_id = signatures.signature_id),
       last_seen = (SELECT max(a.\"timestamp\") FROM alerts a WHERE a.action_key = signatures.action_key
         AND a.signature_id = signatures.signature_id),
       highest_score = (SELECT max(a.fusion_score) FROM alerts a WHERE a.action_key = signatures.action_key
         AND a.signature_id = signatures.signature_id)
     WHERE action_key = {NEW} AND action_key <> {OLD}",
];

/// A database that holds exports, each under the key of the action that made it; one of them is the current one.
pub(super) trait Target {
    /// Returns whether the current export is `key` and complete. Changes nothing.
    fn is_current(&mut self, key: &str) -> anyhow::Result<bool>;

    /// Loads everything and makes it current, in one transaction; exports that are no longer kept go. An export that is
    /// complete already is only made current. `later` is waited for when the scores of sessions are there.
    fn load(
        &mut self,
        load: &Arc<Load>,
        later: &Arc<Later>,
        how: How,
        cx: &StageContext<'_>,
    ) -> anyhow::Result<Outcome>;
}

/// What a load did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Rows were written.
    Loaded,
    /// They were there; at most the current export changed.
    Present,
}

/// Opens the database of an address for loading.
///
/// # Errors
/// It cannot be reached.
pub(super) fn open(address: &Address, cancelled: impl Fn() -> bool) -> anyhow::Result<Box<dyn Target>> {
    Ok(match address {
        Address::Sqlite(path) => Box::new(sqlite::Sqlite::open(path)?),
        Address::Postgres(server) => Box::new(postgresql::Postgresql::open(server, cancelled)?),
    })
}

/// Resolves an address and asks its database whether `key` is current, without creating anything; the body of the effect's
/// check.
///
/// # Errors
/// As [`Address::resolve`], or the database cannot be reached.
pub(super) fn holds(place: Place<'_>, key: &str, env: &BTreeMap<String, String>) -> anyhow::Result<bool> {
    let address = Address::resolve(place, env)?;
    if let Address::Sqlite(path) = &address
        && !path.exists()
    {
        return Ok(false);
    }
    open(&address, || false)?.is_current(key)
}
