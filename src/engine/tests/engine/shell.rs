//! The contract of shell stages, clause by clause.

use std::fs;

use logweir_engine::engine::RunOptions;

use crate::support::Lab;

fn one(stage: &str) -> Lab {
    let lab = Lab::new(&format!("stages:\n  s:\n{stage}"));
    lab.write("src/a.txt", "a");
    lab
}

#[test]
fn slots_are_quoted_words_relative_to_the_project() {
    let lab = one("    run: 'printf \"%s\\n\" ${in.one} ${in.many} > ${out.o}'
    in: { one: 'src/it''s.txt', many: 'src/many/*' }
    out: { o: 'out/o o.txt' }
");
    for path in ["src/it's.txt", "src/many/2 2", "src/many/1"] {
        lab.write(path, "x");
    }
    lab.run();
    assert_eq!(lab.read("out/o o.txt"), "src/it's.txt\nsrc/many/1\nsrc/many/2 2\n");
    lab.settled();
}

#[test]
fn the_environment_is_declared_and_secrets_are_neither_keyed_nor_shown() {
    let mut lab = one("    run: 'echo \"$FLAG $TOKEN\"; env | cut -d= -f1 | sort | tr \"\\n\" \" \" > ${out.o}'
    in: { i: src/a.txt }
    out: { o: out/o }
    env: [FLAG]
    secrets: [TOKEN]
");
    lab.env.insert("FLAG".into(), "on".into());
    lab.env.insert("TOKEN".into(), "hunter2".into());
    lab.env.insert("OTHER".into(), "x".into());
    lab.run();
    assert_eq!(lab.read("out/o"), "FLAG HOME LANG PATH PWD SHLVL TMPDIR TOKEN TZ _ ");
    let everything: String = crate::support::walk(&lab.path("cache"))
        .iter()
        .map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned())
        .collect();
    assert!(!everything.contains("hunter2") && everything.contains("on ***"));
    lab.env.insert("TOKEN".into(), "other".into());
    lab.settled();
    lab.env.insert("FLAG".into(), "off".into());
    assert_eq!(lab.planned(), ["s: run env FLAG"]);
    lab.run();
    lab.settled();
}

#[test]
fn a_command_that_writes_the_declared_path_is_adopted_and_its_failure_leaves_the_old_file() {
    let lab = one("    run: 'test ! -e out/o; cat src/a.txt > out/o; grep -q good src/a.txt'
    in: { i: src/a.txt }
    out: { o: out/o }
");
    lab.write("src/a.txt", "good");
    lab.run();
    assert_eq!(lab.read("out/o"), "good");
    lab.settled();
    lab.write("src/a.txt", "bad");
    let ran = lab.run_with(&RunOptions::default());
    assert_eq!(ran.counts(), [0, 0, 0, 1, 0], "{}", ran.errors());
    assert_eq!(lab.read("out/o"), "good", "the old file is back");
    lab.write("src/a.txt", "good");
    lab.settled();
}

#[test]
fn a_failing_command_shows_its_last_lines_and_where_all_of_them_are() {
    let lab = one("    run: 'seq 100; echo half > ${out.o}; exit 3'
    in: { i: src/a.txt }
    out: { o: out/o }
");
    let ran = lab.run_with(&RunOptions::default());
    let errors = ran.errors();
    assert!(errors.contains("the command ended with exit status 3"), "{errors}");
    assert!(errors.contains("\n81\n") && errors.contains("\n100\n") && !errors.contains("\n80\n"), "{errors}");
    assert!(!lab.path("out/o").exists());
    let log = format!("cache/logs/{}/s.log", ran.summary.info.run);
    assert_eq!(lab.read(&log).lines().count(), 100);
}

#[test]
fn a_project_file_in_the_command_that_is_no_input_draws_a_warning() {
    let lab = one("    run: 'cat tools/x.sh ${in.i} > ${out.o}'
    in: { i: src/a.txt }
    out: { o: out/o }
");
    lab.write("tools/x.sh", "echo");
    let warnings = lab.run().warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("add `x: tools/x.sh` under `in`"), "{warnings:?}");
}

#[test]
fn what_a_tool_prints_is_in_the_key() {
    let lab = one("    run: 'cp ${in.i} ${out.o}'
    in: { i: src/a.txt }
    out: { o: out/o }
    tools: ['cat tool.version']
");
    lab.write("tool.version", "1.0");
    lab.run();
    lab.settled();
    lab.write("tool.version", "1.1");
    assert_eq!(lab.planned(), ["s: run tool cat tool.version"]);
    assert_eq!(lab.run().executed(), ["s"]);
    fs::remove_file(lab.path("tool.version")).unwrap();
    let ran = lab.run_with(&RunOptions::default());
    assert_eq!(ran.summary.exit_code(), 3);
}

#[test]
fn a_timeout_ends_the_command() {
    let lab = one("    run: 'sleep 30; cp ${in.i} ${out.o}'
    in: { i: src/a.txt }
    out: { o: out/o }
    timeout: 1s
");
    let ran = lab.run_with(&RunOptions::default());
    assert!(ran.errors().contains("took longer than its timeout of 1s"), "{}", ran.errors());
    assert!(ran.summary.info.seconds < 10.0);
}

#[test]
fn an_executable_output_stays_executable_through_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = one("    run: 'cp ${in.i} ${out.o}; chmod +x ${out.o}'
    in: { i: src/a.txt }
    out: { o: out/o }
");
    lab.run();
    fs::remove_file(lab.path("out/o")).unwrap();
    assert_eq!(lab.run().counts(), [0, 1, 0, 0, 0]);
    assert!(fs::metadata(lab.path("out/o")).unwrap().permissions().mode() & 0o111 != 0);
    lab.settled();
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_started_without_bash_sees_what_bash_would_show_it() {
    let yaml = |run: &str| {
        format!(
            "    run: {run}
    in: {{ i: src/a.txt, t: tools/see }}
    out: {{ o: out/o }}
    env: [FLAG]
"
        )
    };
    let mut seen = Vec::new();
    // `command` is a builtin, so the second goes through bash.
    for run in ["'${in.t} ${out.o} ${in.i}'", "'command ${in.t} ${out.o} ${in.i}'"] {
        let mut lab = one(&yaml(run));
        lab.env.insert("FLAG".into(), "on it's".into());
        lab.write(
            "tools/see",
            "#!/bin/sh\n{ echo \"$0 $2 $(pwd)\"; tr '\\0' '\\n' < /proc/$$/environ | sort; } > $1\n",
        );
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(lab.path("tools/see"), fs::Permissions::from_mode(0o755)).unwrap();
        lab.run();
        let root = lab.dir.path().to_string_lossy().into_owned();
        let run = fs::read_dir(lab.path("cache/logs")).into_iter().flatten().count();
        assert_eq!(run, 0, "nothing was printed");
        let scratch = |line: &str| {
            if line.starts_with("HOME") || line.starts_with("TMPDIR") {
                line.split('=').next().unwrap_or_default().to_owned()
            } else {
                line.replace(&root, "ROOT")
            }
        };
        seen.push(lab.read("out/o").lines().map(scratch).collect::<Vec<_>>());
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].contains(&"FLAG=on it's".to_owned()) && seen[0].contains(&"_=tools/see".to_owned()), "{seen:?}");
}

#[test]
fn what_cannot_be_started_is_left_to_bash() {
    for (run, status, says) in [
        ("no-such-program ${in.i} ${out.o}", "127", "no-such-program: command not found"),
        ("${in.i} ${out.o}", "126", "Permission denied"),
    ] {
        let lab = one(&format!("    run: '{run}'\n    in: {{ i: src/a.txt }}\n    out: {{ o: out/o }}\n"));
        let errors = lab.run_with(&RunOptions::default()).errors();
        assert!(errors.contains(&format!("exit status {status}")) && errors.contains(says), "{errors}");
    }
    let lab = one("    run: '${in.t} ${out.o}'\n    in: { t: tools/bare }\n    out: { o: out/o }\n");
    lab.write("tools/bare", "echo \"${BASH_VERSION:+bash}\" > $1\n");
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(lab.path("tools/bare"), fs::Permissions::from_mode(0o755)).unwrap();
    lab.run();
    assert_eq!(lab.read("out/o"), "bash\n", "a script without a first line is run by bash, as bash does");
}

#[test]
fn the_wait_before_another_attempt_can_be_interrupted() {
    use logweir_engine::event::Event;
    let lab = one("    run: 'echo x >> count; false'
    in: { i: src/a.txt }
    out: { o: out/o }
    retries: 5
");
    let cancel = std::sync::atomic::AtomicBool::new(false);
    let look = |event: &Event| {
        if matches!(event, Event::StageFailed { retry: true, .. }) {
            cancel.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    };
    let ran = lab.run_until(&RunOptions::default(), &cancel, look).unwrap();
    assert_eq!(ran.summary.exit_code(), 130);
    assert_eq!(lab.read("count"), "x\n");
}

#[test]
fn a_command_is_run_by_bash_with_errors_unset_variables_and_pipes_that_fail() {
    for (run, fails) in [
        ("false; cp ${in.i} ${out.o}", true),
        ("echo $NOT_SET; cp ${in.i} ${out.o}", true),
        ("false | cp ${in.i} ${out.o}", true),
        ("[[ -n ${BASH_VERSION} ]] && cp ${in.i} ${out.o}", false),
    ] {
        let text = run.replace("${BASH", "$${BASH");
        let lab = one(&format!("    run: '{text}'\n    in: {{ i: src/a.txt }}\n    out: {{ o: out/o }}\n"));
        let ran = lab.run_with(&RunOptions::default());
        assert_eq!(ran.summary.exit_code(), u8::from(fails), "{run}: {}", ran.errors());
        assert_eq!(lab.path("out/o").exists(), !fails, "{run}");
    }
}

#[test]
fn the_working_directory_is_the_project_and_scratch_is_private_and_dropped() {
    let lab =
        one("    run: 'pwd > ${out.o}; echo $HOME >> ${out.o}; echo x > \"$HOME/x\"; test \"$HOME\" = \"$TMPDIR\"'
    in: { i: src/a.txt }
    out: { o: out/o }
");
    lab.run();
    let text = lab.read("out/o");
    let (cwd, home) = text.trim_end().split_once('\n').unwrap();
    assert_eq!(std::path::Path::new(cwd), lab.dir.path().canonicalize().unwrap());
    assert!(home.contains("/cache/tmp/") && !std::path::Path::new(home).exists(), "{home}");
}

#[test]
fn what_a_command_leaves_in_the_background_ends_with_it() {
    let lab = one("    run: '(sleep 2; echo late > late) & cp ${in.i} ${out.o}'
    in: { i: src/a.txt }
    out: { o: out/o }
");
    lab.run();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert!(!lab.path("late").exists());
}

#[test]
fn a_partial_result_at_the_declared_path_is_removed_and_one_after_a_kill_is_not_trusted() {
    let lab = one("    run: 'echo half > out/o; grep -q good src/a.txt; cat src/a.txt > out/o'
    in: { i: src/a.txt }
    out: { o: out/o }
");
    lab.write("src/a.txt", "bad");
    assert_eq!(lab.run_with(&RunOptions::default()).summary.exit_code(), 1);
    assert!(!lab.path("out/o").exists(), "the partial result is gone");
    lab.write("src/a.txt", "good");
    lab.run();
    // What a run that was killed half-way leaves: other bytes at the path, and no record of them.
    lab.write("out/o", "half");
    lab.run();
    assert_eq!(lab.read("out/o"), "good");
    lab.settled();
}

#[test]
fn a_scratch_folder_that_another_stage_had_before_is_empty() {
    let lab = Lab::new(
        "
stages:
  a: { run: 'cd \"$TMPDIR\"; mkdir d; touch d/x ../junk; chmod 500 .; cd - ; echo a > ${out.o}; echo b > ${out.o}.more', out: { o: out/a } }
  b: { run: 'touch \"$TMPDIR/mine\"; ls -A \"$TMPDIR\" \"$TMPDIR/..\" \"$(dirname ${out.o})\" > ${out.o}', in: { i: out/a }, out: { o: out/b } }
  c: { run: 'ls -A \"$TMPDIR\" ${out.d} > list; mv list ${out.d}/', in: { i: out/b }, out: { d: out/c/ } }
",
    );
    let ran = lab.run_with(&RunOptions { jobs: 1, ..RunOptions::default() });
    assert_eq!(ran.counts(), [3, 0, 0, 0, 0], "{}", ran.errors());
    let seen = lab.read("out/b");
    for junk in ["junk", "more", "d\n", "x\n"] {
        assert!(!seen.contains(junk), "{junk} in {seen}");
    }
    assert!(seen.contains("mine"));
    assert!(!lab.read("out/c/list").contains("mine"));
    lab.settled();
}
