//! What shell stages touch beyond what they declare: named under `warn`, kept from them under `strict`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::AtomicBool;

use logweir_engine::engine::RunOptions;

use crate::support::{Lab, Ran};

fn lab(mode: &str, run: &str) -> Lab {
    let lab = Lab::new(&format!(
        "sandbox: {mode}
stages:
  s:
    run: {}
    in: {{ i: src/a.txt, t: tools/ }}
    out: {{ o: out/o }}
",
        serde_json::to_string(run).unwrap()
    ));
    lab.write("src/a.txt", "b\na\n");
    lab.write("src/b.txt", "secret");
    lab.write("tools/x.sh", "cat src/b.txt\n");
    fs::set_permissions(lab.path("tools/x.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    lab
}

/// What the one action of the run log touched: read, written.
fn recorded(lab: &Lab) -> [Vec<String>; 2] {
    let log = crate::support::walk(&lab.path("cache"))
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find(|text| text.starts_with("{\"prev\""))
        .unwrap();
    let action: serde_json::Value = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .rfind(|entry: &serde_json::Value| entry["entry"] == "action")
        .unwrap();
    ["read", "written"].map(|member| {
        let paths = action["undeclared"][member].as_array().cloned().unwrap_or_default();
        paths.iter().filter_map(|path| Some(path.as_str()?.to_owned())).collect()
    })
}

fn refused(lab: &Lab) -> Ran {
    let ran = lab.run_with(&RunOptions::default());
    assert_eq!(ran.counts(), [0, 0, 0, 1, 0], "{}", ran.errors());
    assert!(!lab.path("out/o").exists());
    ran
}

#[test]
fn declared_work_draws_no_warning_in_either_mode() {
    for mode in ["warn", "strict"] {
        for run in [
            "cp ${in.i} ${out.o}",
            "sort ${in.i} | uniq -c | sed s/a/b/ > ${out.o}",
            "cat > ${out.o} <<< here; echo x > \"$TMPDIR/t\"; mv \"$TMPDIR/t\" \"$HOME/u\"; ls tools > /dev/null; cd /; ls /usr > /dev/null",
            "mkdir -p out; sort -S 1k ${in.i} > out/o; chmod 755 out/o",
            "/usr/bin/python3 -c 'import json, sys, threading; open(sys.argv[1], \"w\").write(json.dumps(1))' ${out.o} || cp ${in.i} ${out.o}",
        ] {
            let lab = lab(mode, run);
            let ran = lab.run();
            // Python looks for modules in the current folder.
            let listing = |text: &String| !text.contains("lists the project's folder");
            let warnings: Vec<String> = ran.warnings().into_iter().filter(listing).collect();
            assert_eq!(warnings, [""; 0], "{mode}: {run}");
            lab.settled();
        }
    }
}

#[test]
fn warn_names_exactly_what_is_undeclared_and_the_stage_runs() {
    for (run, read, written) in [
        ("cat src/b.txt > ${out.o}", &["src/b.txt"][..], &[][..]),
        ("cat tools/../src/./b.txt > ${out.o}", &["src/b.txt"], &[]),
        ("ln -s \"$PWD/src/b.txt\" \"$TMPDIR/l\"; cat \"$TMPDIR/l\" > ${out.o}", &["src/b.txt"], &[]),
        ("( ( tools/x.sh ) & wait ) > ${out.o}", &["src/b.txt"], &[]),
        ("cp ${in.i} ${out.o}; cd src; cat b.txt", &["src/b.txt"], &[]),
        ("cp ${in.i} ${out.o}; cat /proc/self/cwd/src/b.txt", &["src/b.txt"], &[]),
        ("cp ${in.i} ${out.o}; ls . pipelines", &["./", "pipelines/"], &[]),
        ("cp ${in.i} ${out.o}; test -e src/b.txt; cat src/absent || true", &[], &[]),
        ("cp ${in.i} ${out.o}; echo x > other; cat other", &[], &["other"]),
        ("cp ${in.i} ${out.o}; echo x >> ${in.i}", &[], &["src/a.txt"]),
        ("cp ${in.i} ${out.o}; mv src/b.txt src/c.txt", &[], &["src/b.txt", "src/c.txt"]),
        ("cp ${in.i} ${out.o}; mkdir made; rm src/b.txt", &[], &["made", "src/b.txt"]),
        ("for i in $(seq 200); do /bin/true; done; cat src/b.txt > ${out.o}", &["src/b.txt"], &[]),
    ] {
        let lab = lab("warn", run);
        lab.write("pipelines/p.yaml", "");
        let ran = lab.run_with(&RunOptions::default());
        let [seen, made] = recorded_or_failed(&lab, &ran);
        assert_eq!((seen.as_slice(), made.as_slice()), (&owned(read)[..], &owned(written)[..]), "{run}");
        let warnings = ran.warnings().join("\n");
        for path in read.iter().chain(written).filter(|path| **path != "./") {
            assert!(warnings.contains(&format!("`{path}`")), "{run}: {warnings}");
        }
    }
}

fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// A stage that changes its own input fails for that reason after it ran.
fn recorded_or_failed(lab: &Lab, ran: &Ran) -> [Vec<String>; 2] {
    if ran.summary.exit_code() == 0 {
        return recorded(lab);
    }
    assert!(ran.errors().contains("`src/a.txt` changed while"), "{}", ran.errors());
    [Vec::new(), owned(&["src/a.txt"])]
}

#[test]
fn strict_keeps_undeclared_paths_from_a_command_and_leaves_nothing() {
    for (run, line) in [
        ("cat src/b.txt > ${out.o}", "add `b: src/b.txt` under `in`"),
        ("cat src/b.txt > ${out.o} || cp ${in.i} ${out.o}", "add `b: src/b.txt` under `in`"),
        ("cp ${in.i} ${out.o}; echo x > other", "add `other: other` under `out`"),
        ("cp ${in.i} out/o; echo x > out/beside", "add `beside: out/beside` under `out`"),
        ("cp ${in.i} ${out.o}; echo x >> ${in.i}", "writes `src/a.txt`"),
        ("cp ${in.i} ${out.o}; mv src/b.txt src/c.txt", "writes `src/b.txt`"),
        ("cp ${in.i} ${out.o}; ln src/b.txt \"$TMPDIR/l\"; cat \"$TMPDIR/l\"", "add `b: src/b.txt` under `in`"),
    ] {
        let lab = lab("strict", run);
        let errors = refused(&lab).errors();
        assert!(errors.contains(line), "{run}: {errors}");
        assert!(!errors.contains("hunter2"));
        for path in ["other", "src/c.txt", "out/beside"] {
            assert!(!lab.path(path).exists(), "{run}");
        }
        assert_eq!([lab.read("src/a.txt"), lab.read("src/b.txt")], ["b\na\n", "secret"], "{run}");
    }
}

#[test]
fn strict_keeps_a_file_outside_the_project_and_names_the_root_to_add() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.csv"), "x").unwrap();
    let path = outside.path().canonicalize().unwrap();
    let lab = lab("strict", &format!("cat {}/x.csv > ${{out.o}}", path.display()));
    let errors = refused(&lab).errors();
    assert!(errors.contains(&format!("add `outside: {}` under `roots`", path.display())), "{errors}");
    assert!(errors.contains("`x: \"outside:x.csv\"` under `in`"), "{errors}");
}

#[test]
fn the_mode_is_no_part_of_the_key_and_a_stage_may_differ() {
    let lab = lab("off", "cat src/b.txt ${in.i} > ${out.o}");
    lab.run();
    let text = lab.read("pipeline.yaml");
    lab.write("pipeline.yaml", &text.replace("sandbox: off", "sandbox: strict"));
    lab.settled();
    lab.write("pipeline.yaml", &text.replace("    in:", "    sandbox: strict\n    in:"));
    lab.settled();
    lab.write("src/a.txt", "new");
    assert_eq!(lab.run_with(&RunOptions::default()).counts(), [0, 0, 0, 1, 0]);
}

#[test]
fn a_traced_stage_that_is_ended_leaves_no_process_and_does_not_hang() {
    let lab = lab("warn", "setsid sleep 60 & cp ${in.i} ${out.o}; sleep 60");
    let cancel = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            cancel.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let ran = lab.run_until(&RunOptions::default(), &cancel, |_| {}).unwrap();
        assert_eq!(ran.summary.exit_code(), 130);
        assert!(ran.summary.info.seconds < 30.0);
    });
}

#[test]
fn what_a_thread_of_a_python_program_reads_is_named() {
    // Where there is no Python nothing can be shown.
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return;
    }
    let lab = lab("warn", "/usr/bin/python3 tools/t.py ${in.i} ${out.o}");
    lab.write(
        "tools/t.py",
        "import json, sys, threading
def work(): open(sys.argv[2], 'w').write(json.dumps(open(sys.argv[1]).read() + open('src/b.txt').read()))
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
",
    );
    lab.run();
    assert_eq!(recorded(&lab), [owned(&["src/b.txt"]), Vec::new()]);
}
