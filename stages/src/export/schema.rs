//! The tables, as numbered migrations. Words in braces stand for the types of a database; where the two databases need
//! different statements, each has its own.
//!
//! A migration that was released is never edited: the next one changes what it made. The number of the last one applied
//! is in the table `schema_migrations`. What a migration of an older version leaves is what a new database has: a test
//! compares them.

/// A step from one version of the tables to the next.
pub(super) struct Migration {
    pub number: i32,
    pub name: &'static str,
    sql: Sql,
}

enum Sql {
    Both(&'static str),
    Each { postgresql: &'static str, sqlite: &'static str },
}

/// All migrations in order.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "tables of scores", sql: Sql::Both(TABLES) },
    Migration {
        number: 2,
        name: "scores of each export in a partition",
        sql: Sql::Each { postgresql: PARTITIONS, sqlite: CURRENT },
    },
    Migration { number: 3, name: "explained alerts, drift, lineage with parameters", sql: Sql::Both(EXPLAINED) },
    Migration {
        number: 4,
        name: "lines of alerts as rows",
        sql: Sql::Each { postgresql: LINES_POSTGRESQL, sqlite: LINES_SQLITE },
    },
];

impl Migration {
    /// Returns the statements of this migration in a dialect.
    pub(super) fn statements(&self, dialect: &Dialect) -> String {
        match self.sql {
            Sql::Both(sql) => dialect.write(sql),
            Sql::Each { postgresql, sqlite } => dialect.write(if dialect.partitions { postgresql } else { sqlite }),
        }
    }
}

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

/// The base table becomes one of partitions: an export is then loaded without looking at the others, its index is built
/// at the end, and what is no longer kept goes at once. Session ids compare by bytes: nobody sorts them by language.
const PARTITIONS: &str = r#"
DROP VIEW sessions;
ALTER TABLE session_scores RENAME TO session_scores_unpartitioned;
CREATE TABLE session_scores (
  action_key TEXT COLLATE "C" NOT NULL,
  session_id TEXT COLLATE "C" NOT NULL,
  "timestamp" {TIME},
  p_lgbm {REAL},
  z_ae {REAL},
  fusion_score {REAL} NOT NULL,
  is_alert {FLAG} NOT NULL,
  label {FLAG},
  fold TEXT
) PARTITION BY LIST (action_key);
DO $$
DECLARE
  run RECORD;
  part TEXT;
BEGIN
  FOR run IN SELECT action_key, number FROM runs ORDER BY number LOOP
    part := 'session_scores_' || run.number;
    EXECUTE format('CREATE TABLE %I (LIKE session_scores)', part);
    EXECUTE format('INSERT INTO %I SELECT * FROM session_scores_unpartitioned WHERE action_key = %L', part, run.action_key);
    EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (session_id)', part);
    EXECUTE format('ALTER TABLE session_scores ATTACH PARTITION %I FOR VALUES IN (%L)', part, run.action_key);
  END LOOP;
END $$;
DROP TABLE session_scores_unpartitioned;
CREATE VIEW sessions AS
  SELECT s.session_id, s."timestamp", s.p_lgbm, s.z_ae, s.fusion_score, s.is_alert, s.label
  FROM session_scores s WHERE s.action_key = (SELECT r.action_key FROM runs r WHERE r.is_current = 1);
"#;

const CURRENT: &str = r#"
DROP VIEW sessions;
CREATE VIEW sessions AS
  SELECT s.session_id, s."timestamp", s.p_lgbm, s.z_ae, s.fusion_score, s.is_alert, s.label
  FROM session_scores s WHERE s.action_key = (SELECT r.action_key FROM runs r WHERE r.is_current = 1);
"#;

const EXPLAINED: &str = r#"
ALTER TABLE runs ADD COLUMN alert_budget {REAL};
DROP VIEW current_alerts;
ALTER TABLE alerts ADD COLUMN ended {TIME};
ALTER TABLE alerts ADD COLUMN type TEXT;
ALTER TABLE alerts ADD COLUMN signature TEXT;
ALTER TABLE alerts ADD COLUMN signature_id TEXT;
ALTER TABLE alerts ADD COLUMN nearest TEXT;
ALTER TABLE alerts ADD COLUMN share_lgbm {REAL};
ALTER TABLE alerts ADD COLUMN share_ae {REAL};
ALTER TABLE alerts ADD COLUMN share_profile {REAL};
ALTER TABLE alerts ADD COLUMN events {INT};
ALTER TABLE alerts ADD COLUMN odd_lines {INT};
ALTER TABLE alerts ADD COLUMN first_file TEXT;
ALTER TABLE alerts ADD COLUMN first_line {INT};
ALTER TABLE alerts ADD COLUMN last_file TEXT;
ALTER TABLE alerts ADD COLUMN last_line {INT};
CREATE INDEX alerts_by_score ON alerts (action_key, fusion_score);
CREATE INDEX alerts_by_signature ON alerts (action_key, signature_id);
CREATE TABLE alert_lines (
  action_key TEXT NOT NULL,
  session_id TEXT NOT NULL,
  lines TEXT NOT NULL,
  PRIMARY KEY (action_key, session_id)
);
CREATE TABLE signatures (
  action_key TEXT NOT NULL,
  signature_id TEXT NOT NULL,
  signature TEXT NOT NULL,
  reason TEXT NOT NULL,
  alerts {INT} NOT NULL,
  anomalous {INT} NOT NULL,
  normal {INT} NOT NULL,
  unknown {INT} NOT NULL,
  first_seen {TIME},
  last_seen {TIME},
  highest_score {REAL} NOT NULL,
  example TEXT,
  PRIMARY KEY (action_key, signature_id)
);
CREATE TABLE drift (
  action_key TEXT PRIMARY KEY,
  verdict TEXT,
  reason TEXT NOT NULL,
  reference TEXT NOT NULL,
  reference_sessions {INT} NOT NULL,
  reference_first {TIME},
  reference_last {TIME},
  new TEXT NOT NULL,
  new_sessions {INT} NOT NULL,
  new_first {TIME},
  new_last {TIME}
);
CREATE TABLE drift_measures (
  action_key TEXT NOT NULL,
  measure TEXT NOT NULL,
  title TEXT NOT NULL,
  verdict TEXT NOT NULL,
  divergence {REAL} NOT NULL,
  chance {REAL} NOT NULL,
  p {REAL} NOT NULL,
  p_adjusted {REAL} NOT NULL,
  history {REAL} NOT NULL,
  psi {REAL} NOT NULL,
  PRIMARY KEY (action_key, measure)
);
CREATE TABLE drift_templates (
  action_key TEXT NOT NULL,
  change TEXT NOT NULL,
  event_id TEXT NOT NULL,
  text TEXT NOT NULL,
  reference_share {REAL} NOT NULL,
  new_share {REAL} NOT NULL,
  bits {REAL} NOT NULL,
  p {REAL} NOT NULL,
  PRIMARY KEY (action_key, change, event_id)
);
CREATE TABLE lineage_actions (
  action_key TEXT NOT NULL,
  stage_key TEXT NOT NULL,
  stage TEXT NOT NULL,
  kind TEXT NOT NULL,
  parameters TEXT NOT NULL,
  PRIMARY KEY (action_key, stage_key)
);
CREATE TABLE lineage_edges (
  action_key TEXT NOT NULL,
  source TEXT NOT NULL,
  target TEXT NOT NULL,
  PRIMARY KEY (action_key, source, target)
);
CREATE VIEW current_alerts AS
  SELECT s.* FROM alerts s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_signatures AS
  SELECT s.* FROM signatures s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_drift AS
  SELECT s.* FROM drift s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_drift_measures AS
  SELECT s.* FROM drift_measures s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_drift_templates AS
  SELECT s.* FROM drift_templates s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_lineage_actions AS
  SELECT s.* FROM lineage_actions s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
CREATE VIEW current_lineage_edges AS
  SELECT s.* FROM lineage_edges s JOIN runs r ON r.action_key = s.action_key WHERE r.is_current = 1;
"#;

/// The text of a line is that of its template.
const LINES_POSTGRESQL: &str = r#"
CREATE VIEW alert_events AS
  SELECT a.action_key, a.session_id, e.position, a."timestamp" + ((e.line->>0) || ' milliseconds')::interval AS "timestamp",
    e.line->>1 AS event_id, t.text, e.line->>2 AS file, (e.line->>3)::bigint AS line, e.line->>4 AS why
  FROM alerts a
  JOIN alert_lines l ON l.action_key = a.action_key AND l.session_id = a.session_id
  CROSS JOIN LATERAL json_array_elements(l.lines::json) WITH ORDINALITY AS e (line, position)
  LEFT JOIN templates t ON t.action_key = a.action_key AND t.event_id = e.line->>1;
"#;

const LINES_SQLITE: &str = r#"
CREATE VIEW alert_events AS
  SELECT a.action_key, a.session_id, e.key + 1 AS position,
    strftime('%Y-%m-%d %H:%M:%f', a."timestamp", (e.value->>0) / 1000.0 || ' seconds') AS "timestamp",
    e.value->>1 AS event_id, t.text, e.value->>2 AS file, e.value->>3 AS line, e.value->>4 AS why
  FROM alerts a
  JOIN alert_lines l ON l.action_key = a.action_key AND l.session_id = a.session_id
  JOIN json_each(l.lines) e
  LEFT JOIN templates t ON t.action_key = a.action_key AND t.event_id = e.value->>1;
"#;

/// What the words in braces mean to a database.
pub(super) struct Dialect {
    /// Whether tables can have partitions, as PostgreSQL's.
    pub partitions: bool,
    pub int: &'static str,
    pub real: &'static str,
    pub flag: &'static str,
    pub time: &'static str,
    pub now: &'static str,
}

impl Dialect {
    fn write(&self, sql: &str) -> String {
        sql.replace("{INT}", self.int)
            .replace("{REAL}", self.real)
            .replace("{FLAG}", self.flag)
            .replace("{TIME}", self.time)
            .replace("{NOW}", self.now)
    }
}

/// SQL to make the table that counts migrations.
pub(super) const COUNTER: &str =
    "CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL)";

/// Returns the migrations still to apply to a database that has applied those up to `applied`.
///
/// # Errors
/// The database is newer than this program.
pub(super) fn pending(applied: i32) -> anyhow::Result<&'static [Migration]> {
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
