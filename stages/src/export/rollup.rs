//! Scores per minute and per hour, so that a dashboard over all sessions reads hundreds of rows, not all of them.

use super::ensemble::SessionRow;

/// The sessions that started within one interval.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bucket {
    /// Start of the interval: microseconds since 1970 UTC.
    pub start: i64,
    pub count: i64,
    /// Median, 90th and 99th percentile (nearest rank) and maximum of the fused score.
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
    pub alerts: i64,
    /// Decisions against labels; sessions without a label are in none of the four.
    pub tp: i64,
    pub fp: i64,
    pub fn_: i64,
    pub tn: i64,
}

/// Groups sessions by intervals of `seconds`, in time order; sessions without a time are left out.
pub(super) fn rollup(sessions: &[SessionRow], seconds: i64) -> Vec<Bucket> {
    let width = seconds * 1_000_000;
    let mut order: Vec<(i64, &SessionRow)> =
        sessions.iter().filter_map(|s| Some((s.timestamp?.div_euclid(width) * width, s))).collect();
    order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.fusion_score.total_cmp(&b.1.fusion_score)));
    order.chunk_by(|a, b| a.0 == b.0).map(bucket).collect()
}

/// One interval; its sessions are sorted by score.
fn bucket(sessions: &[(i64, &SessionRow)]) -> Bucket {
    let rank = |q: f64| {
        let place = (q * sessions.len() as f64 - 1e-9).ceil() as usize;
        sessions[place.clamp(1, sessions.len()) - 1].1.fusion_score
    };
    let count = |alert: bool, label: bool| {
        sessions.iter().filter(|(_, s)| s.is_alert == alert && s.label == Some(label)).count() as i64
    };
    Bucket {
        start: sessions[0].0,
        count: sessions.len() as i64,
        p50: rank(0.5),
        p90: rank(0.9),
        p99: rank(0.99),
        max: rank(1.0),
        alerts: sessions.iter().filter(|(_, s)| s.is_alert).count() as i64,
        tp: count(true, true),
        fp: count(true, false),
        fn_: count(false, true),
        tn: count(false, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(seconds: i64, score: f64, is_alert: bool, label: Option<bool>) -> SessionRow {
        SessionRow {
            timestamp: Some(seconds * 1_000_000),
            fusion_score: score,
            is_alert,
            label,
            ..SessionRow::default()
        }
    }

    #[test]
    fn minutes_by_hand() {
        let sessions = [
            session(59, 0.9, true, Some(true)),
            session(0, 0.1, false, Some(false)),
            session(60, 0.7, true, None),
            session(30, 0.2, false, Some(true)),
            session(-1, 0.3, true, Some(false)),
            SessionRow::default(),
        ];
        let buckets = rollup(&sessions, 60);
        let starts: Vec<i64> = buckets.iter().map(|b| b.start / 1_000_000).collect();
        assert_eq!(starts, [-60, 0, 60]);
        let first = &buckets[1];
        assert_eq!((first.count, first.alerts, first.tp, first.fp, first.fn_, first.tn), (3, 1, 1, 0, 1, 1));
        assert_eq!((first.p50, first.p90, first.p99, first.max), (0.2, 0.9, 0.9, 0.9));
        assert_eq!((buckets[2].tp, buckets[2].fp, buckets[2].alerts), (0, 0, 1));
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sessions: Vec<SessionRow> = (1..=100).map(|i| session(i, f64::from(i as i32), false, None)).collect();
        let hour = &rollup(&sessions, 3600)[0];
        assert_eq!((hour.p50, hour.p90, hour.p99, hour.max), (50.0, 90.0, 99.0, 100.0));
    }
}
