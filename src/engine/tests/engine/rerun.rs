//! `verify --rerun`: what is executed again gives the recorded bytes, or the first difference is named.

use std::fs;
use std::sync::atomic::AtomicBool;

use logweir_engine::difference::Plain;
use logweir_engine::rerun::{RerunOptions, RerunOutcome, RerunReport};

use crate::support::{Lab, walk};

const YAML: &str = "
stages:
  a: { uses: concat, in: { in: src/a.txt }, out: { out: out/a } }
  d: { uses: spread, in: { in: out/a }, out: { out: out/d/ } }
  m: { run: 'tr a-z A-Z < ${in.t} > ${out.o}/${item}', in: { t: out/d/ }, out: { o: out/m/ }, map: t }
  x: { run: 'cat ${in.d}/first.txt > out/x', in: { d: out/d/ }, out: { o: out/x } }
  l: { run: 'cp ${in.o} ${out.o}', in: { o: 'lineage:out/x' }, out: { o: out/l.json } }
  now: { run: 'date +%N > ${out.o}', out: { o: out/now.txt }, always: true }
";

fn rerun(lab: &Lab, targets: &[&str], jobs: usize) -> RerunReport {
    let options = RerunOptions { targets: targets.iter().map(|t| (*t).to_owned()).collect(), jobs };
    lab.engine().rerun(&options, &Plain, &|_| {}, &AtomicBool::new(false)).unwrap()
}

/// Name, outcome and everything said of each stage.
fn told(report: &RerunReport) -> Vec<String> {
    let row = |stage: &logweir_engine::rerun::RerunStage| {
        let first = stage.differences.iter().map(|d| format!(" {}: {}", d.path, d.first));
        format!("{} {:?}{}", stage.stage, stage.outcome, first.collect::<String>())
    };
    report.stages.iter().map(row).collect()
}

/// Every file of the project but the lock, with its bytes.
fn files(lab: &Lab) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = walk(lab.dir.path());
    all.sort();
    all.retain(|path| !path.ends_with("cache/lock"));
    all.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn what_is_executed_again_gives_the_same_and_nothing_is_touched() {
    let lab = Lab::new(YAML);
    lab.write("src/a.txt", "one\ntwo\n");
    lab.run();
    let before = files(&lab);
    for jobs in [1, 2] {
        let report = rerun(&lab, &[], jobs);
        assert_eq!((report.count(RerunOutcome::Same), report.count(RerunOutcome::Skipped)), (6, 1), "{report:?}");
        assert_eq!(report.exit_code(), 0);
        let now = report.stages.iter().find(|stage| stage.stage == "now").unwrap();
        assert!(now.why.as_ref().unwrap().contains("runs at every run"));
    }
    assert!(files(&lab) == before, "nothing of the project is changed");
    assert_eq!(told(&rerun(&lab, &["m"], 2)), ["m[first.txt] Same", "m[sub/1.txt] Same"]);
    assert_eq!(told(&rerun(&lab, &["out/x"], 2)), ["x Same"]);
    // An input that was changed in place is taken from the store.
    lab.write("out/a", "tampered");
    let report = rerun(&lab, &["d"], 1);
    assert_eq!((told(&report), &*report.stages[0].from_store), (vec!["d Same".to_owned()], &["out/a".to_owned()][..]));
    assert_eq!(lab.read("out/a"), "tampered");
    // A source is not in the store.
    lab.write("src/a.txt", "other\n");
    let report = rerun(&lab, &["a"], 1);
    assert_eq!(report.stages[0].outcome, RerunOutcome::Skipped);
    assert!(report.stages[0].why.as_ref().unwrap().contains("input in: src/a.txt"), "{report:?}");
}

#[test]
fn the_first_difference_is_named() {
    // What each stage writes depends on a file that it does not declare.
    let lab = Lab::new(
        "
stages:
  json: { run: 'printf ''{\"a\": {\"b\": [1, %s]}}'' $(cat \"$MARK\") > ${out.o}', env: [], secrets: [MARK], out: { o: out/o.json } }
  csv: { run: 'printf ''id,score\\n1,2\\n2,%s\\n'' $(cat \"$MARK\") > ${out.o}', secrets: [MARK], out: { o: out/o.csv } }
  text: { run: 'printf ''one\\n%s\\n'' $(cat \"$MARK\") > ${out.o}', secrets: [MARK], out: { o: out/o.txt } }
  dir: { run: 'echo same > ${out.o}/same; cat \"$MARK\" > ${out.o}/b; touch ${out.o}/$(cat \"$MARK\")', secrets: [MARK], out: { o: out/d/ } }
  stable: { run: 'echo 1 > ${out.o}', out: { o: out/s } }
  date: { run: 'date +%N > ${out.o}', out: { o: out/date } }
",
    );
    let mut lab = lab;
    let mark = lab.path("mark");
    lab.env.insert("MARK".to_owned(), mark.to_string_lossy().into_owned());
    lab.write("mark", "7");
    lab.run();
    lab.write("mark", "8");
    let report = rerun(&lab, &[], 2);
    let told = told(&report);
    assert_eq!(told[0], "json Different out/o.json: /a/b/1: recorded 7, now 8");
    assert_eq!(told[1], "csv Different out/o.csv: line 3: recorded 2,7, now 2,8");
    assert_eq!(told[2], "text Different out/o.txt: line 2: recorded 7, now 8");
    let dir =
        "dir Different out/d/7: was not made again out/d/b: line 1: recorded 7, now 8 out/d/8: was not made before";
    assert_eq!(told[3], dir);
    assert_eq!(told[4], "stable Same");
    assert!(told[5].starts_with("date Different out/date: line 1: recorded "), "{}", told[5]);
    assert_eq!((report.exit_code(), report.count(RerunOutcome::Different)), (1, 5));
}

#[test]
fn a_stage_whose_source_has_changed_is_skipped_and_the_others_decide_the_exit_code() {
    let lab = Lab::new(
        "
stages:
  a: { uses: concat, in: { in: src/a.txt }, out: { out: out/a } }
  b: { uses: concat, in: { in: out/a }, out: { out: out/b } }
  c: { uses: concat, in: { in: src/c.txt }, out: { out: out/c } }
  date: { run: 'date +%N > ${out.o}', out: { o: out/date } }
",
    );
    lab.write("src/a.txt", "one\n");
    lab.write("src/c.txt", "two\n");
    lab.run();
    lab.write("src/a.txt", "changed\n");
    let report = rerun(&lab, &["a", "b", "c"], 2);
    assert_eq!(
        (told(&report), report.exit_code()),
        (["a Skipped", "b Skipped", "c Same"].map(str::to_owned).to_vec(), 0)
    );
    let why = |stage: usize| report.stages[stage].why.as_deref().unwrap_or_default();
    assert_eq!(why(0), "was never executed with what it has now (input in: src/a.txt)");
    assert_eq!(why(1), "takes what `a` makes, which is not up to date");
    // A skipped stage hides nothing of another, and counts as nothing by itself.
    let report = rerun(&lab, &[], 2);
    assert_eq!((report.count(RerunOutcome::Skipped), report.exit_code()), (2, 1), "{report:?}");
    let report = rerun(&lab, &["a"], 1);
    assert_eq!((report.count(RerunOutcome::Skipped), report.stages.len(), report.exit_code()), (1, 1, 0));
    // With its source as it was it is executed again.
    lab.write("src/a.txt", "one\n");
    assert_eq!(told(&rerun(&lab, &["a", "b"], 2)), ["a Same", "b Same"]);
}

#[test]
fn what_is_cancelled_stops_and_leaves_nothing() {
    let mut lab = Lab::new(
        "
stages:
  slow: { run: 'echo 1 > ${out.o}; touch \"$BEGAN\"; sleep \"$NAP\"', secrets: [NAP, BEGAN], out: { o: out/slow } }
  next: { uses: concat, in: { in: out/slow }, out: { out: out/next } }
",
    );
    let began = lab.path("began");
    lab.env.insert("BEGAN".to_owned(), began.to_string_lossy().into_owned());
    lab.env.insert("NAP".to_owned(), "0".to_owned());
    lab.run();
    fs::remove_file(&began).unwrap();
    lab.env.insert("NAP".to_owned(), "60".to_owned());
    let (cancel, since) = (AtomicBool::new(false), std::time::Instant::now());
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !began.exists() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let options = RerunOptions { targets: Vec::new(), jobs: 1 };
        lab.engine().rerun(&options, &Plain, &|_| {}, &cancel).unwrap()
    });
    assert!(since.elapsed().as_secs() < 30);
    assert_eq!((told(&report), report.exit_code()), (vec!["slow Skipped".to_owned(), "next Skipped".to_owned()], 130));
    assert!(report.interrupted && report.stages.iter().all(|stage| stage.why.as_deref() == Some("interrupted")));
    assert_eq!(fs::read_dir(lab.path("cache/tmp")).unwrap().count(), 0);
}
