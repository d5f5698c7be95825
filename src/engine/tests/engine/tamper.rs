//! Whatever is changed of outputs, store, run log, lock file or index is found and named; what is not changed is not.
//!
//! A project with several kinds of stages and of runs is changed in one place at a time, looked at, and put back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use logweir_engine::digest::Digest;
use logweir_engine::engine::{RunOptions, VerifyOptions};
use logweir_engine::event::Quiet;
use logweir_engine::runlog;
use logweir_engine::verify::{FindingKind, VerifyReport};

use crate::support::{Lab, quick_folder, walk};

const YAML: &str = "
lineage: { sign: '${env.KEY:-}' }
stages:
  a: { uses: concat, in: { in: src/a.txt }, out: { out: out/a } }
  d: { uses: spread, in: { in: out/a }, out: { out: out/d/ } }
  m: { run: 'tr a-z A-Z < ${in.t} > ${out.o}/${item}', in: { t: src/m/ }, out: { o: out/m/ }, map: t }
  x: { run: 'echo ${with.n} | cat - ${in.a} > ${out.o}; chmod +x ${out.o}', in: { a: out/a }, out: { o: 'out/x${matrix.n}' }, with: { n: '${matrix.n}' }, matrix: { n: [1, 2] } }
";

/// Keys as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";

/// A project after a run, an edit, a way back (results restored), a run with nothing to do, and another edit.
fn project(signed: bool) -> Lab {
    let mut lab = Lab::new_in(&quick_folder(), YAML);
    if signed {
        lab.write("key.pem", KEY);
        lab.write("public.pem", PUBLIC);
        fs::set_permissions(lab.path("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        lab.env.insert("KEY".to_owned(), "key.pem".to_owned());
    }
    for name in ["p.txt", "q.txt", "sub/r.txt"] {
        lab.write(&format!("src/m/{name}"), &format!("item {name}\n"));
    }
    for text in ["one\ntwo\n", "three\n", "one\ntwo\n"] {
        lab.write("src/a.txt", text);
        lab.run();
    }
    lab.settled();
    lab.write("src/a.txt", "four\nfive\n");
    lab.run();
    lab
}

fn verify(lab: &Lab, key: bool) -> VerifyReport {
    let key = key.then(|| lab.path("public.pem"));
    lab.engine().verify(&VerifyOptions { key, ..VerifyOptions::default() }, &Quiet).unwrap()
}

/// Every file that matters, with its bytes.
fn all_files(lab: &Lab) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = walk(&lab.path("out"));
    files.extend(walk(&lab.path("cache/objects")));
    files.extend(["cache/runlog.jsonl", "cache/index", "cache/head", "pipeline.lock"].map(|name| lab.path(name)));
    files.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

fn put(path: &Path, bytes: &[u8]) {
    let mode = fs::metadata(path).map(|meta| meta.permissions()).ok();
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
    mode.into_iter().for_each(|mode| fs::set_permissions(path, mode).unwrap());
}

/// Counts by class: changes made, found, alarms after they were put back.
#[derive(Default)]
struct Table(BTreeMap<String, [usize; 3]>);

impl Table {
    /// Makes a change, expects that a finding names the place, puts everything back and expects silence.
    fn change(&mut self, lab: &Lab, class: &str, path: &Path, to: Option<&[u8]>, named: &[&str], key: bool) {
        let before = fs::read(path).unwrap();
        assert!(to != Some(&*before), "{class}: nothing was changed in {}", path.display());
        let mode = fs::metadata(path).unwrap().permissions();
        match to {
            Some(bytes) => put(path, bytes),
            None => fs::remove_file(path).unwrap(),
        }
        let report = verify(lab, key);
        let row = self.0.entry(class.to_owned()).or_default();
        row[0] += 1;
        let fits = |path: &str| named.iter().any(|name| path.contains(name));
        let found = report.exit_code() == 1 && report.findings.iter().any(|finding| fits(&finding.path));
        row[1] += usize::from(found);
        put(path, &before);
        fs::set_permissions(path, mode).unwrap();
        assert!(found, "{class}: {} changed, expected {named:?}: {:?}", path.display(), report.findings);
    }

    fn quiet(&mut self, lab: &Lab, class: &str, key: bool) {
        let VerifyReport { mut findings, notes, .. } = verify(lab, key);
        findings.extend(notes);
        self.0.entry(class.to_owned()).or_default()[2] += findings.len();
        assert_eq!(findings, [], "{class}");
    }

    /// Puts another lock file there, expects just this kind of finding or note, and puts it back.
    fn lock(&mut self, lab: &Lab, class: &str, text: Option<&str>, expected: &[FindingKind]) -> VerifyReport {
        let (path, before) = (lab.path("pipeline.lock"), lab.read("pipeline.lock"));
        assert_ne!(text, Some(&*before), "{class}");
        match text {
            Some(text) => put(&path, text.as_bytes()),
            None => fs::remove_file(&path).unwrap(),
        }
        let report = verify(lab, false);
        put(&path, before.as_bytes());
        let row = self.0.entry(class.to_owned()).or_default();
        row[0] += 1;
        let all = || report.findings.iter().chain(&report.notes);
        let found = all().count() > 0 && all().all(|f| f.path == "pipeline.lock" && expected.contains(&f.kind));
        row[1] += usize::from(found);
        assert!(found, "{class}: expected {expected:?}: {report:?}");
        report
    }

    /// Flips bits of some bytes of a region.
    fn flip(&mut self, lab: &Lab, class: &str, path: &Path, region: impl Iterator<Item = usize>, named: &[&str]) {
        let whole = fs::read(path).unwrap();
        for (number, at) in region.enumerate() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (number % 8);
            self.change(lab, class, path, Some(&bytes), named, false);
        }
        self.quiet(lab, class, false);
    }

    #[expect(clippy::print_stdout, reason = "the table is asked for")]
    fn print(&self) {
        println!("{:<44} changes  found  false alarms", "class");
        for (class, [changes, found, alarms]) in &self.0 {
            println!("{class:<44} {changes:>7} {found:>6} {alarms:>13}");
        }
        let sum = |n: usize| self.0.values().map(|row| row[n]).sum::<usize>();
        println!("{:<44} {:>7} {:>6} {:>13}", "all", sum(0), sum(1), sum(2));
    }
}

/// First, middle, last and some bytes in between.
fn spread(len: usize, count: usize) -> impl Iterator<Item = usize> {
    let mut at: Vec<usize> = (0..count).map(|n| n * (len - 1) / (count - 1).max(1)).collect();
    at.dedup();
    at.into_iter()
}

fn relative(lab: &Lab, path: &Path) -> String {
    path.strip_prefix(lab.dir.path()).unwrap().to_string_lossy().into_owned()
}

/// Lines with a chain computed anew from the beginning.
fn rechained(lines: &[String]) -> String {
    let mut prev = runlog::genesis();
    let mut text = String::new();
    for line in lines {
        let rest = line.split_once(',').unwrap().1;
        let line = format!("{{\"prev\":\"{prev}\",{rest}");
        prev = Digest::of_bytes(line.as_bytes());
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn lines(lab: &Lab) -> Vec<String> {
    lab.read("cache/runlog.jsonl").lines().map(str::to_owned).collect()
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_change_of_outputs_and_objects_is_found_and_named() {
    let lab = project(false);
    let mut table = Table::default();
    table.quiet(&lab, "nothing changed", false);
    for path in walk(&lab.path("out")) {
        let name = relative(&lab, &path);
        let class = match &*name {
            _ if name.starts_with("out/d/") => "output: file of a directory",
            _ if name.starts_with("out/m/") => "output: file of a map",
            _ if name.starts_with("out/x") => "output: executable, of a matrix",
            _ => "output: file",
        };
        let bytes = fs::read(&path).unwrap();
        table.flip(&lab, class, &path, 0..bytes.len(), &[&name]);
        table.change(&lab, "output: cut by a byte", &path, Some(&bytes[..bytes.len() - 1]), &[&name], false);
        table.change(&lab, "output: a byte more", &path, Some(&[&*bytes, b"x"].concat()), &[&name], false);
        table.change(&lab, "output: removed", &path, None, &[&name], false);
    }
    lab.write("out/d/stray", "x");
    assert!(verify(&lab, false).findings.iter().any(|f| f.path == "out/d/stray"));
    fs::remove_file(lab.path("out/d/stray")).unwrap();
    let mode = fs::Permissions::from_mode;
    for (path, changed, back) in [("out/a", 0o755, 0o644), ("out/x1", 0o644, 0o755)] {
        fs::set_permissions(lab.path(path), mode(changed)).unwrap();
        assert!(verify(&lab, false).findings.iter().any(|f| f.path == path), "mode of {path}");
        fs::set_permissions(lab.path(path), mode(back)).unwrap();
    }
    table.quiet(&lab, "output: removed", false);

    let runs = lab.read("cache/runlog.jsonl");
    let objects = walk(&lab.path("cache/objects"));
    let of_a_run = |path: &&PathBuf| {
        let name = relative(&lab, path).trim_start_matches("cache/objects/").replace('/', "");
        runs.contains(&format!("\"map\":\"{name}\""))
    };
    let roots: Vec<String> = objects.iter().filter(of_a_run).map(|path| fs::read_to_string(path).unwrap()).collect();
    for path in walk(&lab.path("cache/objects")) {
        let name = relative(&lab, &path).trim_start_matches("cache/objects/").to_owned();
        let digest = name.replace('/', "");
        let bytes = fs::read(&path).unwrap();
        let class = if bytes.starts_with(b"{\"chunks\"") {
            "object: root of a run map"
        } else if bytes.starts_with(b"{") {
            "object: chunk of a run map"
        } else if bytes.windows(3).any(|part| part == b" - " || part == b" x ") {
            "object: manifest of a directory"
        } else {
            "object: content"
        };
        table.flip(&lab, class, &path, spread(bytes.len(), 9), &[&name]);
        table.change(&lab, "object: cut by a byte", &path, Some(&bytes[..bytes.len() - 1]), &[&name], false);
        table.change(&lab, "object: emptied", &path, Some(b""), &[&name], false);
        // The map of a run in which all is fresh is made ahead; until there is such a run nothing needs it.
        let reached = runs.contains(&digest) || roots.iter().any(|root| root.contains(&digest));
        if class.contains("run map") && reached {
            // A chunk is named by the root of the run it is of.
            let root = runs.contains(&format!("\"map\":\"{digest}\""));
            let named: &[&str] = if root { &[&name] } else { &[""] };
            table.change(&lab, "object: of a run map, removed", &path, None, named, false);
        }
    }
    table.quiet(&lab, "object: cut by a byte", false);
    table.print();
}

#[test]
fn every_change_of_the_log_is_found_and_named() {
    let lab = project(false);
    let mut table = Table::default();
    let log = lab.path("cache/runlog.jsonl");
    let all = lines(&lab);
    let anywhere: &[&str] = &["runlog.jsonl", "pipeline.lock"];
    let mut offset = 0;
    for line in &all {
        let kind = if line.contains("\"entry\":\"run\"") { "run" } else { "action" };
        let last = if offset + line.len() + 1 == fs::read(&log).unwrap().len() { " (last line)" } else { "" };
        let members =
            ["prev", "entry", "key", "record", "outputs", "stage", "run", "started", "seconds", "host", "map"];
        for member in members {
            let Some(at) = line.find(&format!("\"{member}\":")) else { continue };
            let end = line[at..].find(",\"").map_or(line.len(), |end| at + end);
            let region = spread(end - at, 5).map(|n| offset + at + n);
            table.flip(&lab, &format!("log: {member} of {kind}{last}"), &log, region, anywhere);
        }
        let every = (offset..offset + line.len()).step_by(41);
        table.flip(&lab, &format!("log: every 41st byte, {kind}{last}"), &log, every, anywhere);
        table.flip(&lab, "log: newline", &log, std::iter::once(offset + line.len()), anywhere);
        offset += line.len() + 1;
    }
    let mut edit = |class: &str, lines: &[String]| {
        table.change(&lab, class, &log, Some(text(lines).as_bytes()), anywhere, false);
    };
    for at in 0..all.len() {
        let mut removed = all.clone();
        removed.remove(at);
        edit("log: line removed", &removed);
        let mut twice = all.clone();
        twice.insert(at, all[at].clone());
        edit("log: line twice", &twice);
        if at > 0 {
            edit("log: cut tail", &all[..at]);
            let mut swapped = all.clone();
            swapped.swap(at - 1, at);
            edit("log: two lines swapped", &swapped);
        }
    }
    let mut forge = |class: &str, lines: &[String]| {
        table.change(&lab, class, &log, Some(rechained(lines).as_bytes()), anywhere, false);
    };
    for at in 0..all.len() {
        let mut inserted = all.clone();
        inserted.insert(at, all[0].replace("\"stage\":\"a\"", "\"stage\":\"forged\""));
        forge("log: line inserted, chain computed anew", &inserted);
        let mut changed = all.clone();
        changed[at] = changed[at].replace("\"seconds\":", "\"seconds\":1");
        forge("log: line changed, chain computed anew", &changed);
        let mut removed = all.clone();
        removed.remove(at);
        forge("log: line removed, chain computed anew", &removed);
    }
    table.change(&lab, "log: removed", &log, None, anywhere, false);
    table.quiet(&lab, "log: removed", false);
    table.print();
}

#[test]
fn a_record_with_another_key_is_found_though_the_chain_holds() {
    let lab = project(false);
    let mut all = lines(&lab);
    let at = all.iter().position(|line| line.contains("\"n\":1")).unwrap();
    all[at] = all[at].replace("\"n\":1", "\"n\":7");
    lab.write("cache/runlog.jsonl", &rechained(&all));
    for file in ["cache/index", "cache/head", "pipeline.lock"] {
        fs::remove_file(lab.path(file)).unwrap();
    }
    let report = verify(&lab, false);
    let place = format!("cache/runlog.jsonl:{}", at + 1);
    let named = report.findings.iter().any(|f| f.path == place && f.detail.contains("its key is not that"));
    assert!(named, "{:?}", report.findings);
}

#[test]
fn every_change_of_lock_file_and_index_is_found_and_named() {
    let lab = project(false);
    let mut table = Table::default();
    let lock = lab.path("pipeline.lock");
    let text = lab.read("pipeline.lock");
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let class = match line.split(" = ").next().unwrap_or_default() {
            "log" => "lock: which log",
            "head" => "lock: head of the log",
            "key" => "lock: key",
            "output" => "lock: output",
            "name" => "lock: stage",
            _ => "",
        };
        if !class.is_empty() {
            table.flip(&lab, class, &lock, spread(line.len() - 1, 13).map(|at| offset + at), &["pipeline.lock"]);
        }
        offset += line.len();
    }
    // A digest changed into another digest.
    for (at, _) in text.match_indices('"').filter(|(at, _)| text[at + 1..].find('"') == Some(64)) {
        for n in [0, 31, 63] {
            let mut bytes = text.clone().into_bytes();
            let digit = &mut bytes[at + 1 + n];
            *digit = if *digit == b'0' { b'1' } else { b'0' };
            table.change(&lab, "lock: digit of a digest", &lock, Some(&bytes), &["pipeline.lock"], false);
        }
    }
    for name in ["index", "head"] {
        let path = lab.path(&format!("cache/{name}"));
        let len = fs::read(&path).unwrap().len();
        let class = format!("cache/{name}");
        table.flip(&lab, &class, &path, spread(len - 1, 61), &[&class]);
    }
    // An index that fits itself, but not the log.
    let index = lab.path("cache/index");
    let bytes = fs::read(&index).unwrap();
    for at in (72..bytes.len() - 32).step_by(23) {
        let mut forged = bytes[..bytes.len() - 32].to_vec();
        forged[at] ^= 1;
        forged.extend_from_slice(Digest::of_bytes(&forged).as_bytes());
        table.change(&lab, "cache/index: sealed again", &index, Some(&forged), &["cache/index"], false);
    }
    table.quiet(&lab, "cache/index: sealed again", false);
    table.print();
    // What is made from the log is made from it again.
    fs::write(&index, b"no index").unwrap();
    let repair = VerifyOptions { repair: true, ..VerifyOptions::default() };
    let repaired = lab.engine().verify(&repair, &Quiet).unwrap();
    assert_eq!((repaired.findings.len(), repaired.repaired[0].kind), (0, FindingKind::IndexMismatch));
    assert_eq!(fs::read(&index).unwrap(), bytes);
}

/// The blocks of a lock file, by stage, and what is above them.
fn blocks(text: &str) -> (&str, BTreeMap<&str, &str>) {
    let (top, rest) = text.split_once("\n[[stage]]\n").unwrap();
    let name = |block: &'_ str| block.lines().next().unwrap().len();
    (top, rest.split("\n[[stage]]\n").map(|block| (&block[8..name(block) - 1], block)).collect())
}

fn lock_of(top: &str, blocks: &BTreeMap<&str, &str>) -> String {
    let blocks = blocks.values().map(|block| format!("\n[[stage]]\n{}\n", block.trim_end()));
    format!("{}\n{}", top.trim_end(), blocks.collect::<String>())
}

#[test]
fn a_lock_file_that_no_run_wrote_is_found_and_one_of_an_older_run_is_noted() {
    use FindingKind::{LockBehind, LockForeign, LockMismatch, LockMissing, LockStageMissing};
    let lab = project(false);
    let mut table = Table::default();
    // Lock files as runs wrote them: another result, nothing to do, the first result restored.
    let mut written = vec![lab.read("pipeline.lock")];
    lab.write("src/a.txt", "six\n");
    lab.run();
    written.push(lab.read("pipeline.lock"));
    lab.settled();
    written.push(lab.read("pipeline.lock"));
    lab.write("src/a.txt", "four\nfive\n");
    lab.run();
    let now = lab.read("pipeline.lock");
    table.quiet(&lab, "lock: as the last run wrote it", false);

    let (top, last) = blocks(&now);
    assert_eq!((lock_of(top, &last), last.len()), (now.clone(), 8));
    for stage in last.keys() {
        let mut fewer = last.clone();
        fewer.remove(stage);
        let report = table.lock(&lab, "lock: a stage removed", Some(&lock_of(top, &fewer)), &[LockStageMissing]);
        assert_eq!((report.exit_code(), report.findings.len()), (1, 1));
        assert_eq!(report.findings[0].stage.as_deref(), Some(*stage));
    }
    table.lock(&lab, "lock: all stages removed", Some(&lock_of(top, &BTreeMap::new())), &[LockStageMissing]);
    for older in &written[1..] {
        let (_, older) = blocks(older);
        for stage in ["a", "d", "x[n=1]", "x[n=2]"] {
            let mixed = last.clone().into_iter().chain([(stage, older[stage])]).collect();
            let report =
                table.lock(&lab, "lock: a stage of an older run", Some(&lock_of(top, &mixed)), &[LockMismatch]);
            assert_eq!((report.exit_code(), report.findings[0].stage.as_deref()), (1, Some(stage)));
        }
    }
    // With the head alone set back, the lock file is one that no run wrote, or just one that an older run wrote.
    let all = lines(&lab);
    let mut noted = 0;
    for line in &all[..all.len() - 1] {
        let digest = Digest::of_bytes(line.as_bytes());
        let head = top.rsplit_once("head = ").unwrap().0.to_owned() + &format!("head = \"{digest}\"\n");
        let text = lock_of(&head, &last);
        let report = table.lock(&lab, "lock: head set back to an older line", Some(&text), &[LockMismatch, LockBehind]);
        assert_eq!(report.findings.is_empty(), written.contains(&text));
        noted += usize::from(report.exit_code() == 0);
        // With a block removed too, that is found.
        let mut fewer = last.clone();
        fewer.remove("m");
        let text = lock_of(&head, &fewer);
        let kinds = [LockMismatch, LockBehind, LockStageMissing];
        let report = table.lock(&lab, "lock: head set back, a stage removed", Some(&text), &kinds);
        assert_eq!(report.exit_code(), 1);
    }
    // The run with these very inputs before the others is the one that may have been checked out.
    assert_eq!(noted, 1);

    // What `git checkout` leaves is told, and is no difference.
    for older in &written {
        let report = table.lock(&lab, "lock: an older one checked out", Some(older), &[LockBehind]);
        assert_eq!((report.exit_code(), report.findings), (0, vec![]));
    }
    let other = project(false);
    let foreign = other.read("pipeline.lock");
    let report = table.lock(&lab, "lock: of another machine", Some(&foreign), &[LockForeign]);
    assert_eq!((report.exit_code(), report.findings), (0, vec![]));
    let report = table.lock(&lab, "lock: removed", None, &[LockMissing]);
    assert_eq!((report.exit_code(), report.findings), (0, vec![]));
    for text in ["", &lock_of("version = 1", &last)] {
        let report = table.lock(&lab, "lock: without a head", Some(text), &[LockMismatch]);
        assert_eq!(report.exit_code(), 1);
    }
    table.quiet(&lab, "lock: as the last run wrote it", false);
    table.print();
}

#[test]
fn no_run_and_no_checkout_is_taken_for_tampering() {
    let mut lab = project(false);
    let quiet = |lab: &Lab| {
        let report = verify(lab, false);
        assert_eq!((report.findings, report.notes), (vec![], vec![]));
    };
    let first = lab.read("pipeline.lock");
    // Some stages only, overrides, another pipeline, a failure, a stage more and a stage less.
    lab.write("src/a.txt", "six\n");
    lab.run_with(&RunOptions { targets: vec!["a".to_owned()], ..RunOptions::default() });
    quiet(&lab);
    lab.sets = vec!["stages.a.with.suffix=x".to_owned()];
    lab.run();
    lab.sets.clear();
    quiet(&lab);
    lab.run();
    quiet(&lab);
    lab.file = "other.yaml".to_owned();
    lab.pipeline("stages:\n  o: { uses: concat, in: { in: src/a.txt }, out: { out: other/o } }\n");
    lab.run();
    quiet(&lab);
    lab.file = "pipeline.yaml".to_owned();
    quiet(&lab);
    lab.pipeline(&format!("{YAML}  f: {{ uses: fail, out: {{ out: out/f }} }}\n"));
    assert_eq!(lab.run_with(&RunOptions::default()).summary.exit_code(), 1);
    quiet(&lab);
    lab.pipeline(&YAML.replace("n: [1, 2]", "n: [2, 3]"));
    lab.run();
    quiet(&lab);
    fs::remove_file(lab.path("src/m/q.txt")).unwrap();
    lab.run();
    quiet(&lab);
    // A run that brings some stages up to date in an older lock file keeps the rest of it.
    lab.write("pipeline.lock", &first);
    lab.run_with(&RunOptions { targets: vec!["a".to_owned()], ..RunOptions::default() });
    quiet(&lab);
}

#[test]
fn what_is_frozen_in_a_clone_is_compared_with_the_lock_file_alone() {
    let there = Lab::new("stages:\n  f: { uses: concat, in: { in: src/f }, out: { out: out/f } }\n");
    there.write("src/f", "frozen\n");
    there.run();
    let clone = Lab::new(
        "stages:
  f: { uses: concat, in: { in: src/f }, out: { out: out/f }, frozen: true }
  g: { uses: concat, in: { in: out/f }, out: { out: out/g } }
",
    );
    for path in ["src/f", "out/f", "pipeline.lock"] {
        clone.write(path, &there.read(path));
    }
    clone.run();
    let report = verify(&clone, false);
    assert_eq!((report.findings, report.notes), (vec![], vec![]));
    clone.write("out/f", "melted\n");
    let report = verify(&clone, false);
    assert!(report.findings.iter().any(|f| f.path == "out/f" && f.kind == FindingKind::OutputChanged), "{report:?}");
}

#[test]
fn a_whole_log_made_anew_is_told_from_the_signed_one() {
    let lab = project(true);
    let whole = verify(&lab, true);
    assert_eq!((whole.findings.len(), whole.signed, whole.after_signed), (0, Some(5), Some(0)));
    // With the private key too.
    let private = VerifyOptions { key: Some(lab.path("key.pem")), ..VerifyOptions::default() };
    assert_eq!(lab.engine().verify(&private, &Quiet).unwrap().signed, Some(5));
    let mut table = Table::default();
    let forge = |table: &mut Table, class: &str, lines: &[String]| {
        let forged = Lab::new_in(&quick_folder(), YAML);
        let before = all_files(&lab);
        lab.write("cache/runlog.jsonl", &rechained(lines));
        for file in ["cache/index", "cache/head", "pipeline.lock"] {
            fs::remove_file(lab.path(file)).unwrap();
        }
        drop(forged);
        let report = verify(&lab, true);
        let kinds = [FindingKind::SignatureWrong, FindingKind::Unsigned];
        let found = report.findings.iter().any(|f| kinds.contains(&f.kind));
        let row = table.0.entry(class.to_owned()).or_default();
        row[0] += 1;
        row[1] += usize::from(found);
        assert!(found, "{class}: {:?}", report.findings);
        before.iter().for_each(|(path, bytes)| put(path, bytes));
        table.quiet(&lab, class, true);
    };
    let all = lines(&lab);
    for at in 0..all.len() - 1 {
        let mut changed = all.clone();
        changed[at] = changed[at].replace("\"seconds\":", "\"seconds\":1");
        forge(&mut table, "signed: line changed, all made anew", &changed);
        let mut removed = all.clone();
        removed.remove(at);
        forge(&mut table, "signed: line removed, all made anew", &removed);
        let mut inserted = all.clone();
        inserted.insert(at, all[0].replace("\"stage\":\"a\"", "\"stage\":\"forged\""));
        forge(&mut table, "signed: line inserted, all made anew", &inserted);
    }
    let stripped: Vec<String> = all
        .iter()
        .map(|line| line.split_once(",\"signature\"").map_or(line.clone(), |(rest, _)| format!("{rest}}}")))
        .collect();
    forge(&mut table, "signed: all signatures removed", &stripped);
    let log = lab.path("cache/runlog.jsonl");
    let bytes = fs::read(&log).unwrap();
    let last = bytes.len() - 1 - all.last().unwrap().len();
    for at in (last..bytes.len() - 1).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        table.change(&lab, "signed: bytes of the last line", &log, Some(&flipped), &["runlog.jsonl"], true);
    }
    table.quiet(&lab, "signed: bytes of the last line", true);
    table.print();
}

#[test]
fn runs_are_signed_with_the_key_of_the_environment_first_and_bad_keys_stop_a_run() {
    let mut lab = project(true);
    let secret = KEY.lines().nth(1).unwrap();
    for (path, bytes) in all_files(&lab) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains(secret) && !text.contains("PRIVATE"), "{}", path.display());
    }
    // A run without a signature after signed ones.
    let signed = lab.env.remove("KEY");
    lab.settled();
    let report = verify(&lab, true);
    assert_eq!(report.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [FindingKind::Unsigned], "{report:?}");
    lab.env.extend(signed.map(|path| ("KEY".to_owned(), path)));

    // The environment wins; errors come before anything runs, and say nothing of the key.
    lab.write("other", "-----BEGIN PRIVATE KEY-----\nsecret0\n-----END PRIVATE KEY-----\n");
    lab.write("src/a.txt", "changed\n");
    let before = lab.read("cache/runlog.jsonl");
    for (path, code, what) in [("none.pem", 3, "none.pem"), ("other", 2, "does not hold an ed25519 private key")] {
        lab.env.insert("LOGWEIR_SIGNING_KEY".to_owned(), path.to_owned());
        let error = lab.try_run(&RunOptions::default()).err().expect("no key");
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().contains(what) && !error.to_string().contains("secret0"), "{error}");
        assert!(error.help().is_some());
    }
    assert_eq!((lab.read("cache/runlog.jsonl"), lab.read("out/a")), (before, "four\nfive\n".to_owned()));
    // A key that others may read is used, with a warning, by runs with something to do and by those without.
    lab.write("open.pem", KEY);
    fs::set_permissions(lab.path("open.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    lab.env.insert("LOGWEIR_SIGNING_KEY".to_owned(), "open.pem".to_owned());
    for _ in 0..2 {
        assert!(lab.run().warnings().iter().any(|text| text.contains("can be read by others")));
    }
    assert!(
        lines(&lab)
            .iter()
            .rev()
            .take(2)
            .all(|line| !line.contains("\"entry\":\"run\"") || line.contains("\"signature\""))
    );
}

#[test]
fn nothing_signed_is_a_finding_with_a_key() {
    let lab = project(false);
    lab.write("public.pem", PUBLIC);
    let report = verify(&lab, true);
    assert_eq!(report.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [FindingKind::Unsigned]);
    assert_eq!((report.signed, report.exit_code()), (Some(0), 1));
}
