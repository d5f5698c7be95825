//! Real against simulated: the statistics the model was fitted to, side by side.
//!
//! Needs the real sample (`LOGWEIR_SHARED`, else `../shared` beside the workspace); is skipped, visibly, without it.
//! `cargo test --release -p logweir-stages simulate::calibration -- --nocapture` prints the table of `docs/simulator.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;

/// What tells each message from the others: two parts of it, in order, by its number among the 29 templates; 30 is the
/// request to delete a batch.
const MARKS: [(&str, &str); 30] = [
    ("Adding an already existing block", ""),
    ("Verification succeeded for", ""),
    ("Served block", ""),
    ("Got exception while serving", ""),
    ("Receiving block", " src: "),
    ("Received block", " src: "),
    ("writeBlock", "received exception"),
    ("PacketResponder", "Interrupted"),
    ("Received block", " from "),
    ("PacketResponder blk_", " Exception "),
    ("PacketResponder", "terminating"),
    ("Exception writing block", "to mirror"),
    ("Receiving empty packet", ""),
    ("Exception in receiveBlock", ""),
    ("Changing block file offset", ""),
    ("Transmitted block", ""),
    ("Failed to transfer", ""),
    ("Starting thread to transfer", ""),
    ("Reopen Block", ""),
    ("Unexpected error trying to delete", ""),
    ("Deleting block", ""),
    ("allocateBlock", ""),
    ("is added to invalidSet", ""),
    ("from neededReplications", ""),
    ("BLOCK* ask", "to replicate"),
    ("blockMap updated", ""),
    ("Redundant addStoredBlock", ""),
    ("But it does not belong to any file", ""),
    ("timed out block", ""),
    ("BLOCK* ask", "to delete"),
];

/// Returns the number of a line's template.
pub(super) fn event(line: &str) -> usize {
    let found = MARKS.iter().position(|(a, b)| line.find(a).is_some_and(|at| line[at + a.len()..].contains(b)));
    found.unwrap_or_else(|| panic!("unknown message: `{line}`")) + 1
}

/// Seconds and template of each event.
type Session = Vec<(i64, usize)>;

/// Splits a log into sessions. Requests to delete a batch are left out: the real sample has none of them.
fn sessions(log: &str) -> BTreeMap<&str, Session> {
    let mut sessions: BTreeMap<&str, Session> = BTreeMap::new();
    for line in log.lines() {
        let event = event(line);
        if event == 30 {
            continue;
        }
        let number = |at: usize| line[at..at + 2].parse::<i64>().unwrap();
        let time = ((number(4) * 24 + number(7)) * 60 + number(9)) * 60 + number(11);
        let id = &line[line.find("blk_").unwrap()..];
        let end = id[4..].find(|c: char| !c.is_ascii_digit() && c != '-').map_or(id.len(), |n| n + 4);
        let events = sessions.entry(&id[..end]).or_default();
        events.push((time, event));
    }
    sessions
}

/// Named numbers, in order.
#[derive(Default)]
struct Table(Vec<(String, f64)>);

impl Table {
    fn put(&mut self, name: impl Into<String>, value: f64) {
        self.0.push((name.into(), value));
    }

    /// Puts the mean and some quantiles.
    fn spread(&mut self, name: &str, mut values: Vec<f64>, quantiles: &[f64]) {
        values.sort_by(f64::total_cmp);
        self.put(format!("{name}, mean"), values.iter().sum::<f64>() / values.len() as f64);
        for q in quantiles {
            self.put(format!("{name}, p{}", (q * 100.0).round()), values[(q * (values.len() - 1) as f64) as usize]);
        }
    }

    fn get(&self, name: &str) -> f64 {
        self.0.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no row `{name}`")).1
    }
}

fn statistics(log: &str, labels: &BTreeMap<String, bool>) -> Table {
    let all = sessions(log);
    let mut table = Table::default();
    let of = |anomalous: bool| -> Vec<&Session> {
        all.iter().filter(|(id, _)| labels[**id] == anomalous).map(|(_, session)| session).collect()
    };
    let lines: usize = all.values().map(Vec::len).sum();
    table.put("events a session", lines as f64 / all.len() as f64);
    table.put("anomalous sessions", of(true).len() as f64 / all.len() as f64);
    for (name, group) in [("normal", of(false)), ("anomalous", of(true))] {
        let n = group.len() as f64;
        let tails: &[f64] = if name == "normal" { &[0.5, 0.9, 0.99] } else { &[0.25, 0.5, 0.9] };
        table.spread(&format!("{name}: events"), group.iter().map(|s| s.len() as f64).collect(), tails);
        let mut sequences: BTreeMap<Vec<usize>, f64> = BTreeMap::new();
        for session in &group {
            *sequences.entry(session.iter().map(|e| e.1).collect()).or_default() += 1.0;
        }
        table.put(format!("{name}: distinct sequences a session"), sequences.len() as f64 / n);
        let mut top: Vec<f64> = sequences.into_values().collect();
        top.sort_by(|a, b| b.total_cmp(a));
        table.put(format!("{name}: share of the most frequent sequence"), top[0] / n);
        table.put(format!("{name}: share of the ten most frequent"), top.iter().take(10).sum::<f64>() / n);
        for event in 1..=29 {
            let count = group.iter().flat_map(|s| s.iter()).filter(|e| e.1 == event).count() as f64;
            if count > 0.0 {
                table.put(format!("{name}: E{event} a session"), count / n);
            }
        }
        let seconds = |session: &Session| (session[session.len() - 1].0 - session[0].0) as f64;
        table.spread(&format!("{name}: seconds"), group.iter().map(|s| seconds(s)).collect(), &[0.1, 0.5, 0.9]);
    }
    phases(&mut table, &of(false));
    let mut normal: Vec<(i64, bool)> = of(false).iter().map(|s| (s[0].0, s.iter().any(|e| e.1 == 23))).collect();
    normal.sort_unstable();
    for (i, part) in normal.chunks(normal.len().div_ceil(5)).enumerate() {
        let deleted = part.iter().filter(|s| s.1).count() as f64;
        table.put(format!("normal: deleted, quintile {}", i + 1), deleted / part.len() as f64);
    }
    table
}

/// Durations between the phases of a block's life.
fn phases(table: &mut Table, normal: &[&Session]) {
    let mut spans: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for session in normal {
        let times = |events: &[usize], most: usize| -> Vec<f64> {
            session.iter().filter(|e| events.contains(&e.1)).take(most).map(|e| e.0 as f64).collect()
        };
        let (begun, closed, stored) = (times(&[5, 22], 4), times(&[9, 11], 6), times(&[26], 3));
        let (marked, purged, read) = (times(&[23], 9), times(&[21], 9), times(&[3, 4], 99));
        let mut put = |name: &'static str, value: f64| spans.entry(name).or_default().push(value);
        if let ([first, .., last], [done, .., end]) = (&begun[..], &closed[..]) {
            put("gap: first to last of allocate and receive", last - first);
            put("gap: receive to close", done - first);
            put("gap: first to last close", end - done);
            put("gap: close to the last report", stored.last().unwrap_or(done) - done);
        }
        if let (Some(marked), [first, .., last]) = (marked.first(), &purged[..]) {
            put("gap: delete to the first purge", first - marked);
            put("gap: delete to the last purge", last - marked);
        }
        for pair in read.windows(2) {
            put("gap: between reads", pair[1] - pair[0]);
        }
    }
    for (name, values) in spans {
        table.spread(name, values, &[0.25, 0.5, 0.75, 0.9, 0.99]);
    }
}

/// The folder of real data, if there is one.
fn real_data() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "tests look for data that is not in the repository")]
    let named = std::env::var("LOGWEIR_SHARED").ok().map(PathBuf::from);
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = named.unwrap_or(beside).join("data/hdfs");
    folder.join("HDFS_sample.log.zst").exists().then_some(folder)
}

fn labels(text: &str) -> BTreeMap<String, bool> {
    text.lines().skip(1).filter_map(|row| row.split_once(',')).map(|(id, l)| (id.to_owned(), l == "Anomaly")).collect()
}

#[test]
fn a_simulated_log_resembles_the_real_sample() {
    let Some(folder) = real_data() else {
        eprintln!("skipped: no real sample; set LOGWEIR_SHARED to the folder that holds `data/hdfs`");
        return;
    };
    let packed = std::fs::File::open(folder.join("HDFS_sample.log.zst")).unwrap();
    let log = String::from_utf8(zstd::decode_all(packed).unwrap()).unwrap();
    let real = statistics(&log, &labels(&std::fs::read_to_string(folder.join(LABELS_FILE)).unwrap()));

    let made = tempfile::tempdir().unwrap();
    let params = SimulateParams { sessions: 8_104, ..SimulateParams::default() };
    write(&params, made.path(), &mut |_, _| Ok(())).unwrap();
    let read = |name: &str| std::fs::read_to_string(made.path().join(name)).unwrap();
    let simulated = statistics(&read(LOG_FILE), &labels(&read(LABELS_FILE)));

    eprintln!("| statistic | real | simulated |\n|---|---|---|");
    for (name, value) in &real.0 {
        let other = simulated.0.iter().find(|(n, _)| n == name).map_or(f64::NAN, |row| row.1);
        eprintln!("| {name} | {value:.3} | {other:.3} |");
    }
    for (name, tolerance) in [
        ("events a session", 0.4),
        ("anomalous sessions", 0.003),
        ("normal: events, p90", 1.0),
        ("normal: events, p99", 3.0),
        ("normal: distinct sequences a session", 0.02),
        ("normal: share of the most frequent sequence", 0.03),
        ("normal: share of the ten most frequent", 0.06),
        ("normal: E2 a session", 0.03),
        ("normal: E3 a session", 0.07),
        ("normal: E4 a session", 0.07),
        ("normal: E26 a session", 0.01),
        ("anomalous: events, mean", 1.2),
        ("anomalous: distinct sequences a session", 0.1),
        ("gap: receive to close, p50", 3.0),
        ("gap: delete to the last purge, p50", 25.0),
        ("normal: deleted, quintile 1", 0.01),
        ("normal: deleted, quintile 3", 0.04),
        ("normal: deleted, quintile 5", 0.04),
    ] {
        let (real, simulated) = (real.get(name), simulated.get(name));
        assert!((real - simulated).abs() <= tolerance, "{name}: real {real}, simulated {simulated}");
    }
}
