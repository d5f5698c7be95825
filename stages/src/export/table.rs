//! The small tables of an export as values that any database takes: all but the scores of sessions, which are many.

use super::explained::AlertRow;
use super::rollup::Bucket;
use super::rows::{Load, Rest};

/// A value of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Text(Option<&'a str>),
    Int(Option<i64>),
    Real(Option<f64>),
    Flag(Option<bool>),
    /// Microseconds since 1970 UTC.
    Time(Option<i64>),
}

/// Rows of a table without the first column, which is the key of the export.
pub(super) struct Table<'a> {
    pub name: &'static str,
    /// Columns after `action_key`, in order.
    pub columns: &'static [&'static str],
    pub rows: Box<dyn Iterator<Item = Vec<Cell<'a>>> + 'a>,
}

impl Table<'_> {
    /// Names all columns, quoted, the key first.
    pub(super) fn column_list(&self) -> String {
        let quoted = self.columns.iter().map(|name| format!(", \"{name}\""));
        std::iter::once("action_key".to_owned()).chain(quoted).collect()
    }
}

fn text(text: &str) -> Cell<'_> {
    Cell::Text(Some(text))
}

fn count(n: i64) -> Cell<'static> {
    Cell::Int(Some(n))
}

fn number(n: f64) -> Cell<'static> {
    Cell::Real(Some(n))
}

const BUCKET: &[&str] = &["timestamp", "sessions", "p50", "p90", "p99", "max", "alerts", "tp", "fp", "fn", "tn"];

fn bucket(b: &Bucket) -> Vec<Cell<'_>> {
    let numbers = [b.p50, b.p90, b.p99, b.max].map(number);
    let counts = [b.alerts, b.tp, b.fp, b.fn_, b.tn].map(count);
    [Cell::Time(Some(b.start)), count(b.count)].into_iter().chain(numbers).chain(counts).collect()
}

/// Columns of `alerts`.
pub(super) const ALERT: &[&str] = &[
    "session_id",
    "timestamp",
    "p_lgbm",
    "z_ae",
    "fusion_score",
    "label",
    "fold",
    "reason",
    "ended",
    "type",
    "signature",
    "signature_id",
    "nearest",
    "share_lgbm",
    "share_ae",
    "share_profile",
    "events",
    "odd_lines",
    "first_file",
    "first_line",
    "last_file",
    "last_line",
];

fn alert<'a>(load: &'a Load, a: &'a AlertRow) -> Vec<Cell<'a>> {
    let s = &load.sessions[a.session];
    let optional = |text: &'a Option<String>| Cell::Text(text.as_deref());
    vec![
        text(&s.session_id),
        Cell::Time(s.timestamp),
        Cell::Real(s.p_lgbm),
        Cell::Real(s.z_ae),
        number(s.fusion_score),
        Cell::Flag(s.label),
        Cell::Text(s.fold),
        text(&a.reason),
        Cell::Time(a.ended),
        optional(&a.kind),
        optional(&a.signature),
        optional(&a.signature_id),
        optional(&a.nearest),
        Cell::Real(a.shares[0]),
        Cell::Real(a.shares[1]),
        Cell::Real(a.shares[2]),
        Cell::Int(a.events),
        Cell::Int(a.odd_lines),
        optional(&a.first.0),
        Cell::Int(a.first.1),
        optional(&a.last.0),
        Cell::Int(a.last.1),
    ]
}

/// Returns the small tables of an export, those without rows too.
pub(super) fn tables<'a>(load: &'a Load, rest: &'a Rest) -> Vec<Table<'a>> {
    fn table<'a, T: 'a>(
        name: &'static str,
        columns: &'static [&'static str],
        items: &'a [T],
        row: impl Fn(&'a T) -> Vec<Cell<'a>> + 'a,
    ) -> Table<'a> {
        Table { name, columns, rows: Box::new(items.iter().map(row)) }
    }
    let drift = rest.drift.as_ref();
    vec![
        table("alerts", ALERT, &rest.alerts, move |a| alert(load, a)),
        Table {
            name: "alert_lines",
            columns: &["session_id", "lines"],
            rows: Box::new(
                rest.alerts
                    .iter()
                    .filter(|a| !a.lines.is_empty())
                    .map(move |a| vec![text(&load.sessions[a.session].session_id), text(&a.lines)]),
            ),
        },
        table("metrics", &["model", "metric", "value", "ci95_low", "ci95_high"], &rest.numbers, |n| {
            let ends = [n.interval.map(|i| i[0]), n.interval.map(|i| i[1])].map(Cell::Real);
            vec![text(&n.model), text(&n.metric), number(n.value), ends[0], ends[1]]
        }),
        table("score_minutes", BUCKET, &rest.minutes, bucket),
        table("score_hours", BUCKET, &rest.hours, bucket),
        table("lineage", &["path", "digest", "stage", "stage_key"], &rest.origins.artifacts, |o| {
            [&o.path, &o.digest, &o.stage, &o.stage_key].map(|t| text(t)).to_vec()
        }),
        table("lineage_actions", &["stage_key", "stage", "kind", "parameters"], &rest.origins.actions, |a| {
            [&a.key, &a.stage, &a.kind, &a.parameters].map(|t| text(t)).to_vec()
        }),
        table("lineage_edges", &["source", "target"], &rest.origins.edges, |(from, to)| vec![text(from), text(to)]),
        table(
            "templates",
            &["event_id", "text", "events", "sessions", "first_seen", "last_seen", "in_training"],
            &rest.templates,
            |t| {
                let times = [t.first_seen, t.last_seen].map(Cell::Time);
                let training = Cell::Flag(Some(t.in_training));
                vec![text(&t.event_id), text(&t.text), count(t.events), count(t.sessions), times[0], times[1], training]
            },
        ),
        table(
            "signatures",
            &[
                "signature_id",
                "signature",
                "reason",
                "alerts",
                "anomalous",
                "normal",
                "unknown",
                "first_seen",
                "last_seen",
                "highest_score",
                "example",
            ],
            &rest.signatures,
            |s| {
                let labels = [s.anomalous, s.normal, s.unknown].map(count);
                let times = [s.first, s.last].map(Cell::Time);
                let head = [text(&s.id), text(&s.signature), text(&s.reason), count(s.alerts)];
                let tail = [number(s.highest_score), Cell::Text(s.example.as_deref())];
                head.into_iter().chain(labels).chain(times).chain(tail).collect()
            },
        ),
        table(
            "drift",
            &[
                "verdict",
                "reason",
                "reference",
                "reference_sessions",
                "reference_first",
                "reference_last",
                "new",
                "new_sessions",
                "new_first",
                "new_last",
            ],
            drift.map(std::slice::from_ref).unwrap_or_default(),
            |d| {
                let group = |g: &'_ super::drifted::Side| [count(g.sessions), Cell::Time(g.first), Cell::Time(g.last)];
                let mut row = vec![Cell::Text(d.verdict.as_deref()), text(&d.reason)];
                for side in [&d.reference, &d.new] {
                    row.push(text(&side.of));
                    row.extend(group(side));
                }
                row
            },
        ),
        table(
            "drift_measures",
            &["measure", "title", "verdict", "divergence", "chance", "p", "p_adjusted", "history", "psi"],
            drift.map_or(&[][..], |d| &d.measures),
            |m| {
                let numbers = [m.divergence, m.chance, m.p, m.p_adjusted, m.history, m.psi].map(number);
                [text(&m.name), text(&m.title), text(&m.verdict)].into_iter().chain(numbers).collect()
            },
        ),
        table(
            "drift_templates",
            &["change", "event_id", "text", "reference_share", "new_share", "bits", "p"],
            drift.map_or(&[][..], |d| &d.templates),
            |t| {
                let numbers = [t.reference, t.new, t.bits, t.p].map(number);
                [text(t.change), text(&t.event_id), text(&t.text)].into_iter().chain(numbers).collect()
            },
        ),
    ]
}

/// The tables of an export but `session_scores`, `runs` last: all have a column `action_key`.
pub(super) const TABLES_OF_A_RUN: &[&str] = &[
    "alerts",
    "alert_lines",
    "metrics",
    "score_minutes",
    "score_hours",
    "lineage",
    "lineage_actions",
    "lineage_edges",
    "templates",
    "signatures",
    "drift",
    "drift_measures",
    "drift_templates",
    "runs",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_known_to_what_removes_exports() {
        let (load, rest) = (Load::default(), Rest::default());
        let names: Vec<&str> = tables(&load, &rest).iter().map(|table| table.name).collect();
        assert_eq!(names, TABLES_OF_A_RUN[..TABLES_OF_A_RUN.len() - 1]);
        for table in tables(&load, &rest) {
            let list = table.column_list();
            assert!(
                list.starts_with("action_key, \"") && list.matches('"').count() == 2 * table.columns.len(),
                "{list}"
            );
        }
    }
}
