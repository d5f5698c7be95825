//! Tests of the simulator: what must hold of every log it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use regex::Regex;
use serde_json::{Value, json};

use super::*;

/// One log in memory.
struct Simulated {
    log: String,
    labels: BTreeMap<String, String>,
    summary: Summary,
}

fn simulate(params: &SimulateParams) -> Simulated {
    let folder = tempfile::tempdir().unwrap();
    let summary = write(params, folder.path(), &mut |_, _| Ok(())).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let about: Summary = serde_json::from_str(&read(ABOUT_FILE)).unwrap();
    assert_eq!(about, summary);
    let labels = read(LABELS_FILE);
    let mut rows = labels.lines();
    assert_eq!(rows.next(), Some("BlockId,Label"));
    let labels: BTreeMap<String, String> =
        rows.map(|row| row.split_once(',').unwrap()).map(|(id, label)| (id.to_owned(), label.to_owned())).collect();
    Simulated { log: read(LOG_FILE), labels, summary }
}

fn sized(sessions: u32) -> SimulateParams {
    SimulateParams { sessions, ..SimulateParams::default() }
}

/// The shape of each message, numbered as HDFS's templates; the last is the request to delete a batch.
const SHAPES: [&str; 30] = [
    r"WARN dfs\.DataBlockScanner: Adding an already existing block BLK",
    r"INFO dfs\.DataBlockScanner: Verification succeeded for BLK",
    r"INFO dfs\.DataNode\$DataXceiver: IP:50010 Served block BLK to /IP",
    r"WARN dfs\.DataNode\$DataXceiver: IP:50010:Got exception while serving BLK to /IP:",
    r"INFO dfs\.DataNode\$DataXceiver: Receiving block BLK src: /IP:\d{5} dest: /IP:50010",
    r"INFO dfs\.DataNode\$DataXceiver: Received block BLK src: /IP:\d{5} dest: /IP:50010 of size \d+",
    r"INFO dfs\.DataNode\$DataXceiver: writeBlock BLK received exception java\.io\.IOException: Could not read from stream",
    r"INFO dfs\.DataNode\$PacketResponder: PacketResponder [0-2] for block BLK Interrupted\.",
    r"INFO dfs\.DataNode\$PacketResponder: Received block BLK of size \d+ from /IP",
    r"WARN dfs\.DataNode\$PacketResponder: PacketResponder BLK [0-2] Exception java\.[\w.]+(: .+)?",
    r"INFO dfs\.DataNode\$PacketResponder: PacketResponder [0-2] for block BLK terminating",
    r"INFO dfs\.DataNode\$BlockReceiver: IP:50010:Exception writing block BLK to mirror IP:50010",
    r"INFO dfs\.DataNode\$BlockReceiver: Receiving empty packet for block BLK",
    r"INFO dfs\.DataNode\$BlockReceiver: Exception in receiveBlock for block BLK java\.[\w.]+(: .+)?",
    r"INFO dfs\.DataNode\$BlockReceiver: Changing block file offset of block BLK from 0 to \d+ meta file offset to \d+",
    r"INFO dfs\.DataNode\$DataTransfer: IP:50010:Transmitted block BLK to /IP:50010",
    r"WARN dfs\.DataNode\$DataTransfer: IP:50010:Failed to transfer BLK to IP:50010 got java\.[\w.]+(: .+)?",
    r"INFO dfs\.DataNode: IP:50010 Starting thread to transfer block BLK to IP:50010",
    r"INFO dfs\.FSDataset: Reopen Block BLK",
    r"WARN dfs\.FSDataset: Unexpected error trying to delete block BLK\. BlockInfo not found in volumeMap\.",
    r"INFO dfs\.FSDataset: Deleting block BLK file /mnt/hadoop/dfs/data/current/(subdir\d+/)?BLK",
    r"INFO dfs\.FSNamesystem: BLOCK\* NameSystem\.allocateBlock: /user/root/[\w/-]+\. BLK",
    r"INFO dfs\.FSNamesystem: BLOCK\* NameSystem\.delete: BLK is added to invalidSet of IP:50010",
    r"INFO dfs\.FSNamesystem: BLOCK\* Removing block BLK from neededReplications as it does not belong to any file\.",
    r"INFO dfs\.FSNamesystem: BLOCK\* ask IP:50010 to replicate BLK to datanode\(s\) IP:50010",
    r"INFO dfs\.FSNamesystem: BLOCK\* NameSystem\.addStoredBlock: blockMap updated: IP:50010 is added to BLK size \d+",
    r"WARN dfs\.FSNamesystem: BLOCK\* NameSystem\.addStoredBlock: Redundant addStoredBlock request received for BLK on IP:50010 size \d+",
    r"INFO dfs\.FSNamesystem: BLOCK\* NameSystem\.addStoredBlock: addStoredBlock request received for BLK on IP:50010 size \d+ But it does not belong to any file\.",
    r"WARN dfs\.PendingReplicationBlocks\$PendingReplicationMonitor: PendingReplicationMonitor timed out block BLK",
    r"INFO dfs\.FSNamesystem: BLOCK\* ask IP:50010 to delete ( BLK)+",
];

/// Recognises a line by its full shape.
struct Shapes {
    shapes: Vec<Regex>,
    id: Regex,
}

impl Shapes {
    fn new() -> Self {
        let whole = |shape: &&str| {
            let shape = shape.replace("BLK", "blk_-?[0-9]+").replace("IP", r"10\.[0-9.]+").replace(r"\d", "[0-9]");
            Regex::new(&format!("^[0-9]{{6}} [0-9]{{6}} [1-9][0-9]* {shape}$")).unwrap()
        };
        Self { shapes: SHAPES.iter().map(whole).collect(), id: Regex::new("blk_-?[0-9]+").unwrap() }
    }

    /// Returns the template of a line, 1 to 30, and the blocks it names, each once.
    fn read<'l>(&self, line: &'l str) -> (usize, Vec<&'l str>) {
        let event = calibration::event(line);
        assert!(self.shapes[event - 1].is_match(line), "not the shape of E{event}: `{line}`");
        let mut ids: Vec<&str> = Vec::new();
        for id in self.id.find_iter(line) {
            if !ids.contains(&id.as_str()) {
                ids.push(id.as_str());
            }
        }
        (event, ids)
    }

    fn sessions<'l>(&self, log: &'l str) -> BTreeMap<&'l str, Vec<usize>> {
        let mut sessions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for line in log.lines() {
            let (event, ids) = self.read(line);
            for id in ids {
                sessions.entry(id).or_default().push(event);
            }
        }
        sessions
    }
}

/// The rules by which types of HDFS anomalies are told apart; the first that holds.
fn type_of(events: &[usize]) -> &'static str {
    let has = |event: usize| events.contains(&event);
    match () {
        () if events.iter().all(|e| [5, 22].contains(e)) => "failed_at_the_beginning",
        () if has(7) && !has(26) => "write_exception",
        () if has(13) => "empty_packet",
        () if has(14) || has(10) || has(8) => "receive_exception",
        () if has(29) => "replication_timed_out",
        () if has(28) => "belongs_to_no_file",
        () if has(27) => "redundant_report",
        () if has(18) || has(25) => "replication",
        () if has(20) => "delete_of_a_missing_block",
        () => "other",
    }
}

#[test]
fn the_seed_decides_every_byte() {
    let one = simulate(&sized(1_500));
    let same = simulate(&sized(1_500));
    let other = simulate(&SimulateParams { seed: 43, ..sized(1_500) });
    assert_eq!((&one.log, &one.labels), (&same.log, &same.labels));
    assert_ne!(one.log, other.log);
}

#[test]
fn every_line_has_the_shape_of_one_message_and_lines_are_in_the_collectors_order() {
    let mix = Mix { receive_exception: 3_000.0, replication_timed_out: 2_000.0, ..Mix::default() };
    let run = simulate(&SimulateParams { anomaly_share: 0.2, mix, ..sized(5_000) });
    let shapes = Shapes::new();
    let mut seen = BTreeSet::new();
    let mut last: Option<(&str, String)> = None;
    for line in run.log.lines() {
        seen.insert(shapes.read(line).0);
        let (time, rest) = line.split_at(14);
        let key: String = rest.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        if let Some((before, earlier)) = &last {
            assert!(*before <= time, "time runs back at `{line}`");
            assert!(*before < time || *earlier <= key, "out of order within the second: `{line}`");
        }
        last = Some((time, key));
    }
    assert_eq!(run.log.lines().count() as u64, run.summary.lines);
    let missing: Vec<usize> = (1..=30).filter(|e| !seen.contains(e)).collect();
    assert!(missing.iter().all(|e| [17, 24].contains(e)), "messages never seen: {missing:?}");
}

#[test]
fn labels_follow_the_rules_and_every_session_is_labelled() {
    let run = simulate(&sized(20_000));
    let shapes = Shapes::new();
    let sessions = shapes.sessions(&run.log);
    assert_eq!(sessions.len(), 20_000);
    assert_eq!(run.labels.len(), 20_000);
    let mut types: BTreeMap<String, u64> = BTreeMap::new();
    let mut excused = 0;
    for (id, events) in &sessions {
        let kind = type_of(events);
        if run.labels[*id] == "Anomaly" {
            *types.entry(kind.to_owned()).or_default() += 1;
        } else {
            match kind {
                "other" => {}
                // A copy is no anomaly while the data set lives.
                "replication" => assert!(!events.contains(&23), "{id}: {events:?}"),
                "delete_of_a_missing_block" => excused += 1,
                // Being written when the log ends.
                "failed_at_the_beginning" => assert!(events.len() <= 4, "{id}: {events:?}"),
                _ => panic!("{id} is {kind} and labelled normal: {events:?}"),
            }
        }
    }
    types.retain(|_, n| *n > 0);
    let mut told = run.summary.anomalies_by_type.clone();
    told.retain(|_, n| *n > 0);
    assert_eq!(types, told);
    assert!((1..=30).contains(&excused), "{excused} of some 160 sessions of the kind are labelled normal");
}

#[test]
fn the_share_and_the_mix_of_anomalies_are_as_asked() {
    let share = |run: &Simulated| run.summary.anomalies as f64 / run.summary.sessions as f64;
    let real = simulate(&sized(20_000));
    assert!((share(&real) - 0.0293).abs() < 0.0012, "{}", share(&real));
    let by_type = |name: &str| real.summary.anomalies_by_type[name] as f64 / 20_000.0;
    // Counts among the 575,061 sessions of the reference.
    for (name, count) in [
        ("failed_at_the_beginning", 2_950.0),
        ("write_exception", 3_225.0),
        ("belongs_to_no_file", 1_240.0),
        ("redundant_report", 953.0),
        ("delete_of_a_missing_block", 4_500.0),
    ] {
        let expected = count / 575_061.0;
        assert!((by_type(name) / expected - 1.0).abs() < 0.12, "{name}: {} for {expected}", by_type(name));
    }
    let none = simulate(&SimulateParams { anomaly_share: 0.0, ..sized(4_000) });
    assert_eq!(none.summary.anomalies, 0);
    let zero = Mix {
        failed_at_the_beginning: 0.0,
        write_exception: 1.0,
        empty_packet: 0.0,
        receive_exception: 0.0,
        replication_timed_out: 0.0,
        belongs_to_no_file: 0.0,
        redundant_report: 0.0,
        replication: 0.0,
        delete_of_a_missing_block: 0.0,
    };
    let writes = simulate(&SimulateParams { anomaly_share: 0.1, mix: zero, ..sized(4_000) });
    assert_eq!(writes.summary.anomalies, writes.summary.anomalies_by_type["write_exception"]);
    assert!((share(&writes) - 0.1).abs() < 0.01, "{}", share(&writes));
}

#[test]
fn late_sessions_are_still_open_when_the_log_ends() {
    let run = simulate(&sized(8_000));
    let shapes = Shapes::new();
    let mut order: Vec<&str> = Vec::new();
    let mut deleted: BTreeSet<&str> = BTreeSet::new();
    for line in run.log.lines() {
        let (event, ids) = shapes.read(line);
        match event {
            22 if run.labels[ids[0]] == "Normal" => order.push(ids[0]),
            23 => {
                deleted.insert(ids[0]);
            }
            _ => {}
        }
    }
    let share = |part: &[&str]| part.iter().filter(|id| deleted.contains(*id)).count() as f64 / part.len() as f64;
    let shares: Vec<f64> = order.chunks(order.len() / 5).take(5).map(share).collect();
    assert!(shares[0] > 0.98, "{shares:?}");
    assert!((0.28..0.45).contains(&shares[4]), "{shares:?}");
    assert!(shares[2] < shares[1], "{shares:?}");
}

#[test]
fn batches_name_several_blocks_and_only_known_ones() {
    let run = simulate(&sized(8_000));
    let shapes = Shapes::new();
    let (mut several, mut widest) = (0, 0);
    for line in run.log.lines() {
        let (event, ids) = shapes.read(line);
        assert!(ids.iter().all(|id| run.labels.contains_key(*id)), "{line}");
        if ids.len() > 1 {
            assert_eq!(event, 30, "{line}");
            several += 1;
            widest = widest.max(ids.len());
        }
    }
    assert_eq!(several, run.summary.lines_of_several_blocks);
    assert!(several > 1_000 && (8..=100).contains(&widest), "{several} lines, at most {widest} blocks");
}

#[test]
fn any_length_number_of_nodes_and_start_give_all_sessions() {
    for (sessions, duration, nodes) in [(1, 139_002, 203), (700, 3_600, 8), (3_000, 600_000, 40)] {
        let params = SimulateParams {
            sessions,
            duration,
            nodes,
            start: "2026-02-28T23:59:50".to_owned(),
            ..SimulateParams::default()
        };
        let run = simulate(&params);
        assert_eq!(run.labels.len(), sessions as usize, "{params:?}");
        let shapes = Shapes::new();
        assert_eq!(shapes.sessions(&run.log).len(), sessions as usize, "{params:?}");
        let (first, last) = (run.log.lines().next().unwrap(), run.log.lines().last().unwrap());
        assert!(sessions == 1 || first.starts_with("260228 2359") || first.starts_with("260301 0000"), "{first}");
        let end = params.first_second().unwrap() + TimeDelta::seconds(i64::from(duration));
        assert!(last[..13] < *end.format("%y%m%d %H%M%S").to_string(), "{last}");
    }
}

#[test]
fn wrong_parameters_are_all_named() {
    let errors = (kind().make)(&json!({
        "sessions": 0, "duration": 10, "anomaly_share": 0.9, "nodes": 2, "start": "yesterday", "mix": {"replication": -1.0}
    }));
    let mut paths: Vec<String> = errors.err().unwrap().into_iter().map(|e| e.path).collect();
    paths.sort();
    assert_eq!(paths, ["anomaly_share", "duration", "mix.replication", "nodes", "sessions", "start"]);
    let errors = (kind().make)(&json!({
        "change": {"drift": -1, "since": {"replication": 2}, "reword": {"messages": 7}}, "noise": {"late": 0.6, "late_by": 0}
    }));
    let mut paths: Vec<String> = errors.err().unwrap().into_iter().map(|e| e.path).collect();
    paths.sort();
    let wanted = ["change.drift", "change.reword.messages", "change.since.replication", "noise.late", "noise.late_by"];
    assert_eq!(paths, wanted);
    let errors = (kind().make)(&json!({"session": 5})).err().unwrap();
    assert_eq!(errors[0].path, "session");
    assert!((kind().make)(&Value::Null).is_ok());
}

/// Lines before and after a moment of the log.
fn halves(simulated: &Simulated, moment: f64) -> (String, String) {
    let params = &simulated.summary.parameters;
    let seconds = (f64::from(params.duration) * moment) as i64;
    let at = (params.first_second().unwrap() + TimeDelta::seconds(seconds)).format("%y%m%d %H%M%S").to_string();
    let (before, after): (Vec<&str>, Vec<&str>) = simulated.log.lines().partition(|line| line[..13] < *at);
    (before.join("\n"), after.join("\n"))
}

#[test]
fn a_type_of_anomaly_is_unseen_until_it_begins() {
    let since = Since { empty_packet: 0.4, write_exception: 0.4, ..Since::default() };
    let params = SimulateParams { change: Change { since, ..Change::default() }, ..sized(4000) };
    let changed = simulate(&params);
    let (before, after) = halves(&changed, 0.4);
    for (message, usual) in [("Receiving empty packet", true), ("received exception", true), ("to replicate", false)] {
        assert!(after.contains(message), "{message}");
        assert_eq!(!before.contains(message), usual, "{message}");
    }
    assert!(changed.summary.anomalies_by_type["empty_packet"] > 0);
    let plain = simulate(&sized(4000));
    assert!(halves(&plain, 0.4).0.contains("received exception"));
}

#[test]
fn a_new_release_has_other_words_for_the_same_sessions() {
    let reword = Reword { since: 0.5, messages: 2 };
    let params = SimulateParams { change: Change { reword, ..Change::default() }, ..sized(500) };
    let changed = simulate(&params);
    let (before, after) = halves(&changed, 0.5);
    assert!(before.contains("Served block") && !before.contains("Sent block"));
    assert!(after.contains("Sent block") && !after.contains("Served block") && after.contains("Verified blk_"));
    assert!(after.contains("terminating"), "the third is as it was");
    assert_eq!(changed.labels, simulate(&sized(500)).labels);
}

#[test]
fn drift_makes_late_writes_slower() {
    let write_time = |drift: f64| -> f64 {
        let change = Change { drift, ..Change::default() };
        let simulated = simulate(&SimulateParams { change, ..sized(2000) });
        let (_, late) = halves(&simulated, 0.5);
        let mut begun = BTreeMap::new();
        let (mut total, mut count) = (0.0, 0.0);
        for line in late.lines() {
            let id = line.split(|c: char| c.is_whitespace()).find(|word| word.starts_with("blk_"));
            let time = NaiveDateTime::parse_from_str(&line[..13], "%y%m%d %H%M%S").unwrap();
            if line.contains("allocateBlock") {
                begun.insert(id, time);
            } else if line.contains("PacketResponder 2 for block")
                && let Some(begun) = begun.remove(&id)
            {
                total += (time - begun).as_seconds_f64();
                count += 1.0;
            }
        }
        total / count
    };
    let ratio = write_time(2.0) / write_time(0.0);
    assert!((2.0..3.2).contains(&ratio), "{ratio}");
}

#[test]
fn noise_moves_and_repeats_lines_and_loses_none() {
    let plain = simulate(&sized(500));
    let noise = Noise { duplicates: 0.1, late: 0.2, late_by: 60 };
    let noisy = simulate(&SimulateParams { noise, ..sized(500) });
    assert_eq!(noisy.labels, plain.labels);
    let count = |log: &str| {
        let mut lines: BTreeMap<String, u64> = BTreeMap::new();
        for line in log.lines() {
            *lines.entry(line.to_owned()).or_default() += 1;
        }
        lines
    };
    let (before, after) = (count(&plain.log), count(&noisy.log));
    assert!(before.keys().eq(after.keys()));
    let repeated: u64 = after.iter().map(|(line, n)| n - before[line]).sum();
    let Summary { lines, duplicates, late, .. } = noisy.summary;
    assert_eq!((repeated, lines), (duplicates, plain.summary.lines + duplicates));
    let share = |n: u64| n as f64 / plain.summary.lines as f64;
    assert!((0.08..0.12).contains(&share(duplicates)) && (0.17..0.23).contains(&share(late)), "{duplicates} {late}");
    let steps_back = |log: &str| log.lines().zip(log.lines().skip(1)).filter(|(a, b)| a[..13] > b[..13]).count();
    assert_eq!(steps_back(&plain.log), 0);
    assert!(steps_back(&noisy.log) > 100);
}

fn run_stage(folder: &Path, threads: usize) -> Vec<String> {
    let made = (kind().make)(&json!({"sessions": 300})).ok().unwrap();
    let heard = Mutex::new(0);
    let messages = |_| *heard.lock().unwrap() += 1;
    let files = [("log", "l.log"), ("labels", "l.csv"), ("about", "a.json")];
    let cx = StageContext {
        inputs: BTreeMap::new(),
        outputs: files.map(|(slot, name)| (slot.to_owned(), folder.join(name))).into(),
        scratch: folder.to_owned(),
        env: BTreeMap::new(),
        threads,
        key: logweir_engine::digest::Digest::of_bytes(b"key"),
        messages: &messages,
        cancelled: &AtomicBool::new(false),
    };
    made.stage.run(&cx).unwrap();
    assert!(*heard.lock().unwrap() > 10);
    files.iter().map(|(_, name)| std::fs::read_to_string(folder.join(name)).unwrap()).collect()
}

#[test]
fn the_stage_writes_its_slots_the_same_at_any_thread_count() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = run_stage(one.path(), 1);
    assert_eq!(files, run_stage(two.path(), 2));
    assert_eq!(serde_json::from_str::<Value>(&files[2]).unwrap()["simulated"], true);
}

#[test]
fn progress_can_stop_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let stopped = write(&sized(100), folder.path(), &mut |done, _| {
        if done < 1_000 { Ok(()) } else { anyhow::bail!("interrupted") }
    });
    assert_eq!(stopped.unwrap_err().to_string(), "interrupted");
}
