//! The tables, as numbered migrations. One text serves both databases; words in braces stand for their types.
//!
//! A migration that was released is never edited: the next one changes what it made. The number of the last one applied
//! is in the table `schema_migrations`.

/// A step from one version of the tables to the next.
pub(crate) struct Migration {
    pub number: i32,
    pub name: &'static str,
    pub sql: &'static str,
}

/// All migrations in order.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration { number: 1, name: "tables of scores", sql: TABLES }];

/// The tables that hold rows of an export, each with a column `action_key`; `runs` last.
pub(crate) const TABLES_OF_A_RUN: &[&str] =
    &["session_scores", "alerts", "metrics", "score_minutes", "score_hours", "lineage", "templates", "runs"];

const TABLES: &str = r#"
CREATE TABLE runs (
  action_key TEXT PRIMARY KEY,
  number {INT} NOT NULL UNIQUE,
  is_current {FLAG} NOT NULL,
  dataset TEXT NOT NULL,
  source TEXT NOT NULL,
  split TEXT NOT NULL,
  lines {INT},
  sessions {INT} NOT NULL,
  alerts {INT} NOT NULL,
  anomalies {INT} NOT NULL,
  objective TEXT NOT NULL,
  threshold {REAL} NOT NULL,
  first_start {TIME},
  last_start {TIME},
  metrics_key TEXT NOT NULL,
  loaded_at {TIME} NOT NULL DEFAULT {NOW}
);
CREATE UNIQUE INDEX runs_one_current ON runs (is_current) WHERE is_current = 1;
CREATE TABLE session_scores (
  action_key TEXT NOT NULL,
  session_id TEXT NOT NULL,
  "timestamp" {TIME},
  p_lgbm {REAL},
  z_ae {REAL},
  fusion_score {REAL} NOT NULL,
  is_alert {FLAG} NOT NULL,
  label {FLAG},
  fold TEXT,
  PRIMARY KEY (action_key, session_id)
);
CREATE TABLE alerts (
  action_key TEXT NOT NULL,
  session_id TEXT NOT NULL,
  "timestamp" {TIME},
  p_lgbm {REAL},
  z_ae {REAL},
  fusion_score {REAL} NOT NULL,
  label {FLAG},
  fold TEXT,
  reason TEXT NOT NULL,
  PRIMARY KEY (action_key, session_id)
);
CREATE INDEX alerts_by_time ON alerts (action_key, "timestamp");
CREATE TABLE metrics (
  action_key TEXT NOT NULL,
  model TEXT NOT NULL,
  metric TEXT NOT NULL,
  value {REAL} NOT NULL,
  ci95_low {REAL},
  ci95_high {REAL},
  PRIMARY KEY (action_key, model, metric)
);
CREATE TABLE score_minutes (
  action_key TEXT NOT NULL,
  "timestamp" {TIME} NOT NULL,
  sessions {INT} NOT NULL,
  p50 {REAL} NOT NULL,
  p90 {REAL} NOT NULL,
  p99 {REAL} NOT NULL,
  max {REAL} NOT NULL,
  alerts {INT} NOT NULL,
  tp {INT} NOT NULL,
  fp {INT} NOT NULL,
  fn {INT} NOT NULL,
  tn {INT} NOT NULL,
  PRIMARY KEY (action_key, "timestamp")
);
CREATE TABLE score_hours (
  action_key TEXT NOT NULL,
  "timestamp" {TIME} NOT NULL,
  sessions {INT} NOT NULL,
  p50 {REAL} NOT NULL,
  p90 {REAL} NOT NULL,
  p99 {REAL} NOT NULL,
  max {REAL} NOT NULL,
  alerts {INT} NOT NULL,
  tp {INT} NOT NULL,
  fp {INT} NOT NULL,
  fn {INT} NOT NULL,
  tn {INT} NOT NULL,
  PRIMARY KEY (action_key, "timestamp")
);
CREATE TABLE lineage (
  action_key TEXT NOT NULL,
  path TEXT NOT NULL,
  digest TEXT NOT NULL,
  stage TEXT NOT NULL,
  stage_key TEXT NOT NULL,
  PRIMARY KEY (action_key, path)
);
CREATE TABLE templates (
  action_key TEXT NOT NULL,
  event_id TEXT NOT NULL,
  text TEXT NOT NULL,
  events {INT} NOT NULL,
  sessions {INT} NOT NULL,
  first_seen {TIME},
  last_seen {TIME},
  in_training {FLAG} NOT NULL,
  PRIMARY KEY (action_key, event_id)
);
CREATE VIEW sessions AS
  SELECT s.session_id, s."timestamp", s.p_lgbm, s.z_ae, s.fusion_score, s.is_alert, s.label
  FROM session_scores s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_alerts AS
  SELECT s.* FROM alerts s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_metrics AS
  SELECT s.* FROM metrics s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_score_minutes AS
  SELECT s.* FROM score_minutes s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_score_hours AS
  SELECT s.* FROM score_hours s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_lineage AS
  SELECT s.* FROM lineage s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_templates AS
  SELECT s.* FROM templates s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
"#;

/// What the words in braces mean to a database.
pub(crate) struct Dialect {
    pub int: &'static str,
    pub real: &'static str,
    pub flag: &'static str,
    pub time: &'static str,
    pub now: &'static str,
}

impl Dialect {
    /// Returns a migration in this dialect.
    pub(crate) fn write(&self, sql: &str) -> String {
        sql.replace("{INT}", self.int)
            .replace("{REAL}", self.real)
            .replace("{FLAG}", self.flag)
            .replace("{TIME}", self.time)
            .replace("{NOW}", self.now)
    }
}

/// SQL to make the table that counts migrations.
pub(crate) const COUNTER: &str =
    "CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL)";

/// Returns the migrations still to apply to a database that has applied those up to `applied`.
///
/// # Errors
/// The database is newer than this program.
pub(crate) fn pending(applied: i32) -> anyhow::Result<&'static [Migration]> {
    let last = MIGRATIONS[MIGRATIONS.len() - 1].number;
    anyhow::ensure!(
        applied <= last,
        "its tables have version {applied}, this program knows versions up to {last}: use a newer logweir, or another schema"
    );
    let done = MIGRATIONS.iter().take_while(|m| m.number <= applied).count();
    Ok(&MIGRATIONS[done..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_from_one_without_gaps() {
        let numbers: Vec<i32> = MIGRATIONS.iter().map(|m| m.number).collect();
        assert_eq!(numbers, (1..=i32::try_from(MIGRATIONS.len()).unwrap()).collect::<Vec<_>>());
        assert_eq!(pending(0).unwrap().len(), MIGRATIONS.len());
        assert!(pending(numbers[numbers.len() - 1]).unwrap().is_empty());
        assert!(pending(99).err().unwrap().to_string().contains("newer"));
    }
}
