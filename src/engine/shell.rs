//! Shell stages: `bash -euo pipefail`, the project root as working directory, a clean environment, one log file.
//!
//! The command runs in a process group of its own, which is ended as a whole: when the command is over (nothing it left
//! in the background outlives its stage), on a timeout, and when the run is interrupted. What it prints goes through a
//! pipe to the log file, line by line with the values of secrets masked; the last lines also go into the failure. (Were
//! the log file handed to the command itself, `echo … > /dev/stderr` would empty it.) A command that prints nothing and
//! works has no log file.

mod escaped;
mod output;
mod tracer;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::error::Environment;
use crate::memory::peak_of;
use crate::sandbox::{Rules, Undeclared};
use output::Output;
use tracer::Tracer;

/// PATH where the environment has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// How long a process group may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How often a running command is looked after (interruption, timeout, memory).
const TICK: Duration = Duration::from_millis(50);

/// The shortest time between two looks at its memory: each reads a few files of `/proc`.
const LOOK: Duration = Duration::from_millis(10);

/// A command ready to run.
pub struct ShellJob<'a> {
    /// The command, all slots replaced.
    pub command: &'a str,
    /// Working directory; a path without links.
    pub root: &'a Path,
    /// HOME and TMPDIR.
    pub home: &'a Path,
    /// PATH of the program.
    pub path: Option<&'a str>,
    /// Declared variables and secrets.
    pub env: BTreeMap<String, String>,
    /// Values to mask in everything the command prints.
    pub masked: Vec<String>,
    /// Where its output goes.
    pub log: PathBuf,
    /// When it is ended.
    pub timeout: Option<Duration>,
    /// Set when the run is interrupted.
    pub cancelled: &'a AtomicBool,
    /// What it may touch, if that is watched.
    pub(crate) fence: Option<Fence>,
}

/// What a command may touch.
pub(crate) struct Fence {
    pub(crate) rules: Rules,
    /// Whether it is held to that, or only watched.
    pub(crate) strict: bool,
}

/// What is known of a command that worked.
#[derive(Debug, Default)]
pub struct Ran {
    /// The most memory its process group was seen to have, in bytes.
    pub peak: Option<u64>,
    /// What it touched without declaring it.
    pub undeclared: Undeclared,
    /// Why it was not watched, though it was to be.
    pub untraced: Option<String>,
}

/// How a command failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ShellFailure {
    /// What happened.
    pub message: String,
    /// The last lines it printed.
    pub tail: Vec<String>,
}

/// Replaces `${in.SLOT}` and `${out.SLOT}` by quoted words.
pub fn expand(template: &str, inputs: &BTreeMap<String, Vec<String>>, outputs: &BTreeMap<String, String>) -> String {
    let mut command = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("${") {
        command.push_str(&rest[..at]);
        let after = &rest[at + 2..];
        let name = after.split('}').next().unwrap_or(after);
        let words = match name.split_once('.') {
            Some(("in", slot)) => inputs.get(slot).map(|paths| {
                let words: Vec<String> = paths.iter().map(|path| quoted(path)).collect();
                words.join(" ")
            }),
            Some(("out", slot)) => outputs.get(slot).map(|path| quoted(path)),
            _ => None,
        };
        match words {
            Some(words) => {
                command.push_str(&words);
                rest = &after[(name.len() + 1).min(after.len())..];
            }
            None => {
                command.push_str("${");
                rest = after;
            }
        }
    }
    command.push_str(rest);
    command
}

/// Returns whether a command template names an output slot.
pub fn names_output(template: &str, slot: &str) -> bool {
    template.contains(&format!("${{out.{slot}}}"))
}

/// Quotes a word for bash, if it needs it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Returns the words of a command that look like relative paths: candidates for undeclared inputs.
pub fn path_words(command: &str) -> Vec<&str> {
    let breaks = |c: char| c.is_whitespace() || "'\"`;|&<>()=$".contains(c);
    let pathlike = |w: &&str| (w.contains('/') || w.contains('.')) && !w.starts_with('-') && !w.starts_with('/');
    let mut words: Vec<&str> = command.split(breaks).filter(pathlike).collect();
    words.sort_unstable();
    words.dedup();
    words
}

fn prepared(command: &str, root: &Path, home: &Path, path: Option<&str>, env: &BTreeMap<String, String>) -> Command {
    // With the place of bash known there is no search in the child, which can then be started the quick way.
    let bash = words::found("bash", path.unwrap_or(DEFAULT_PATH), root).unwrap_or_else(|| "bash".into());
    let mut child = Command::new(bash);
    child.arg0("bash").args(["-euo", "pipefail", "-c", command]);
    surround(&mut child, root, home, path, env);
    child
}

/// Gives a program its folder, its environment and nothing to read.
fn surround(child: &mut Command, root: &Path, home: &Path, path: Option<&str>, env: &BTreeMap<String, String>) {
    child.current_dir(root).env_clear();
    child.env("PATH", path.unwrap_or(DEFAULT_PATH)).env("HOME", home).env("TMPDIR", home);
    child.env("LANG", "C.UTF-8").env("TZ", "UTC").envs(env).stdin(Stdio::null());
}

/// Runs a short command (a declared tool) and returns what it prints, without the white space around.
///
/// # Errors
/// It cannot be started or fails.
pub fn output_of(command: &str, root: &Path, home: &Path, path: Option<&str>) -> Result<String, String> {
    let output = prepared(command, root, home, path, &BTreeMap::new())
        .output()
        .map_err(|e| format!("cannot start bash: {e}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let text = text.trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(format!("{}: {text}", how(output.status))) }
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be started, fails, takes too long, or the run is interrupted.
pub fn run(job: &ShellJob<'_>) -> anyhow::Result<Ran> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    let Started { mut child, tracer, untraced } = start(job, &writer)?;
    drop(writer);
    let mut output = Output::new(reader, &job.log, &job.masked);
    let mut group = Group { child: &mut child, peak: None, next_look: LOOK };
    let outcome = group.wait(job, &mut output);
    group.end();
    let peak = group.peak;
    output.drain();
    // Whoever still holds the pipe is not of the group; of a command that was stopped someone silent may be left too.
    if output.is_open() || outcome.is_err() {
        escaped::end(job.home);
    }
    let traced = tracer.map_or(Ok(Undeclared::default()), Tracer::end);
    let undeclared = traced.as_ref().cloned().unwrap_or_default();
    // A name that was kept from the command cannot have reached its outputs.
    let listing = |path: &String| path.ends_with('/');
    let refused = job.fence.as_ref().is_some_and(|fence| fence.strict)
        && !(undeclared.written.is_empty() && undeclared.read.iter().all(listing));
    let failed = refused || traced.is_err() || !matches!(&outcome, Ok(status) if status.success());
    let tail = output.finish(failed);
    let message = match (outcome, traced) {
        (_, Err(e)) => format!("the tracer of `sandbox` failed: {e}"),
        (Ok(_), _) if refused => {
            format!("touched what it does not declare (`sandbox: strict`)\n{}", undeclared.sentences().join("\n"))
        }
        (Ok(status), _) if status.success() => return Ok(Ran { peak, undeclared, untraced }),
        (Ok(status), _) => {
            let strict = job.fence.as_ref().is_some_and(|fence| fence.strict);
            let refused = if strict { undeclared.sentences() } else { Vec::new() };
            let hints = refused.iter().map(|text| format!("\n`sandbox: strict` refused: {text}"));
            format!("the command {}{}", how(status), hints.collect::<String>())
        }
        (Err(message), _) => message,
    };
    Err(ShellFailure { message, tail }.into())
}

struct Started {
    child: Child,
    tracer: Option<Tracer>,
    untraced: Option<String>,
}

/// Starts the command: the program itself where bash would do no more, else bash.
fn start(job: &ShellJob<'_>, output: &PipeWriter) -> anyhow::Result<Started> {
    let launch = |mut command: Command| {
        command.stdout(output.try_clone()?).stderr(output.try_clone()?).process_group(0);
        let Some(fence) = &job.fence else {
            return Ok(Started { child: command.spawn()?, tracer: None, untraced: None });
        };
        let (child, tracer) = tracer::spawn(command, fence)?;
        Ok(Started { child, tracer: Some(tracer), untraced: None })
    };
    let cannot = |e: tracer::CannotStart| match e {
        tracer::CannotStart::Program(e) => anyhow::Error::new(e).context("cannot start the command"),
        tracer::CannotStart::Watch(why) => Environment::new(format!(
            "`sandbox: strict` cannot be kept here: {why}; use `sandbox: warn` or `off`, or another machine"
        ))
        .into(),
    };
    if let Some(command) = direct(job)
        && let Ok(started) = launch(command)
    {
        return Ok(started);
    }
    // What bash says of a program that it cannot start either is the error that users know.
    let bash = || prepared(job.command, job.root, job.home, job.path, &job.env);
    match launch(bash()) {
        Err(tracer::CannotStart::Watch(why)) if job.fence.as_ref().is_some_and(|fence| !fence.strict) => {
            let mut command = bash();
            let piped = output.try_clone().and_then(|out| Ok((out, output.try_clone()?)));
            let (out, err) = piped.context("cannot make a pipe")?;
            let child = command.stdout(out).stderr(err).process_group(0).spawn().context("cannot start the command")?;
            let text = format!("nothing that the command touches is watched here (`sandbox: warn`): {why}");
            Ok(Started { child, tracer: None, untraced: Some(text) })
        }
        other => other.map_err(cannot),
    }
}

/// Returns the command as a program with its words and the environment that bash would give it.
fn direct(job: &ShellJob<'_>) -> Option<Command> {
    let words = words::plain(job.command).filter(|_| words::harmless(&job.env))?;
    let program = words::found(&words[0], job.path.unwrap_or(DEFAULT_PATH), job.root)?;
    // Elsewhere it is not promised that a relative program is looked up in the folder the child changes to.
    if program.is_relative() && !cfg!(target_os = "linux") {
        return None;
    }
    let mut command = Command::new(&program);
    command.arg0(&words[0]).args(&words[1..]);
    surround(&mut command, job.root, job.home, job.path, &job.env);
    command.env("PWD", job.root).env("SHLVL", "0").env("_", program);
    Some(command)
}

/// A child and everything it started.
struct Group<'a> {
    child: &'a mut Child,
    peak: Option<u64>,
    /// When to look at its memory again, after its start.
    next_look: Duration,
}

impl Group<'_> {
    /// Waits until the command is over, interrupted or late.
    fn wait(&mut self, job: &ShellJob<'_>, output: &mut Output<'_>) -> Result<ExitStatus, String> {
        let began = Instant::now();
        let mut tick = Duration::from_millis(2);
        let watch = watch(self.child);
        loop {
            let was_open = output.is_open();
            let over = output.attend(watch.as_ref().map(AsFd::as_fd), tick);
            if watch.is_none() || over {
                match self.child.try_wait() {
                    Ok(Some(status)) => return Ok(status),
                    Ok(None) => {}
                    Err(e) => return Err(format!("cannot wait for the command: {e}")),
                }
            }
            // The end of its output is the usual sign that a command is over.
            let closed = was_open && !output.is_open();
            tick = if closed && watch.is_none() { Duration::from_micros(100) } else { (tick * 2).min(TICK) };
            if began.elapsed() >= self.next_look {
                self.look();
                self.next_look = began.elapsed() + tick.max(LOOK);
            }
            if job.cancelled.load(Ordering::Relaxed) {
                self.stop();
                return Err("interrupted".to_owned());
            }
            if job.timeout.is_some_and(|limit| began.elapsed() >= limit) {
                self.stop();
                return Err(format!("took longer than its timeout of {:?}", job.timeout.unwrap_or_default()));
            }
        }
    }

    /// Asks the group to end, then makes it.
    fn stop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < GRACE {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.signal(rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }

    /// Ends what the command left in the background.
    fn end(&mut self) {
        self.signal(rustix::process::Signal::KILL);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // The group may be gone already; that is what was wanted.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }

    /// Notes how much memory the command has now (Linux only; short peaks are missed).
    fn look(&mut self) {
        let pid = self.child.id();
        let Ok(processes) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) else { return };
        let mut pending: Vec<u32> = processes.split_whitespace().filter_map(|p| p.parse().ok()).collect();
        let resident = |pid: u32| peak_of(&pid.to_string()).unwrap_or(0);
        let mut sum = resident(pid);
        while let Some(child) = pending.pop() {
            sum += resident(child);
            if let Ok(more) = fs::read_to_string(format!("/proc/{child}/task/{child}/children")) {
                pending.extend(more.split_whitespace().filter_map(|p| p.parse::<u32>().ok()));
            }
        }
        self.peak = self.peak.max(Some(sum));
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(127), _) => "ended with exit status 127: a program it names was not found".to_owned(),
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// Returns what becomes readable when a child ends, where the system has such a thing.
#[cfg(target_os = "linux")]
fn watch(child: &Child) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn watch(_: &Child) -> Option<OwnedFd> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(job: &ShellJob<'_>) -> ShellFailure {
        run(job).unwrap_err().downcast().unwrap()
    }

    fn job<'a>(command: &'a str, dir: &'a Path, cancelled: &'a AtomicBool) -> ShellJob<'a> {
        ShellJob {
            command,
            root: dir,
            home: dir,
            path: None,
            env: BTreeMap::new(),
            masked: vec!["hunter2".to_owned()],
            log: dir.join("logs/log"),
            timeout: Some(Duration::from_secs(20)),
            cancelled,
            fence: None,
        }
    }

    #[test]
    fn slots_become_quoted_words_and_the_rest_stays() {
        let inputs = BTreeMap::from([
            ("one".to_owned(), vec!["a b".to_owned()]),
            ("many".to_owned(), vec!["x".to_owned(), "it's".to_owned()]),
        ]);
        let outputs = BTreeMap::from([("o".to_owned(), "tmp/o.csv".to_owned())]);
        let expanded = expand("cat ${in.many} ${in.one} ${HOME} ${in.other} > ${out.o}; ${", &inputs, &outputs);
        assert_eq!(expanded, r"cat x 'it'\''s' 'a b' ${HOME} ${in.other} > tmp/o.csv; ${");
        assert_eq!(
            path_words("python3 tools/x.py --n=5 <data.csv 'a/b' /usr/bin/true"),
            ["a/b", "data.csv", "tools/x.py"]
        );
    }

    #[test]
    fn the_environment_is_clean_and_a_failing_pipe_fails() {
        let dir = tempfile::tempdir().unwrap();
        let cancelled = AtomicBool::new(false);
        run(&job("env | sort > env.txt; pwd > pwd.txt", dir.path(), &cancelled)).unwrap();
        let env = fs::read_to_string(dir.path().join("env.txt")).unwrap();
        let names: Vec<&str> = env.lines().filter_map(|l| l.split('=').next()).collect();
        assert_eq!(names, ["HOME", "LANG", "PATH", "PWD", "SHLVL", "TMPDIR", "TZ", "_"]);
        let failed = failure(&job("echo secret hunter2; false | cat; echo no", dir.path(), &cancelled));
        assert_eq!(failed.message, "the command ended with exit status 1");
        assert_eq!(failed.tail, ["secret ***"]);
        assert_eq!(fs::read_to_string(dir.path().join("logs/log")).unwrap(), "secret ***\n");
        assert!(run(&job("echo $UNSET", dir.path(), &cancelled)).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_left_the_group_ends_with_its_command() {
        let dir = tempfile::tempdir().unwrap();
        let cancelled = AtomicBool::new(false);
        let runs = |pid: &str| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
        };
        let mut silent = job(
            "setsid sleep 30 >/dev/null 2>&1 & echo $! > pid; trap '' TERM; sleep 30 & wait; wait",
            dir.path(),
            &cancelled,
        );
        silent.timeout = Some(Duration::from_millis(500));
        assert!(failure(&silent).message.contains("timeout"));
        let first = fs::read_to_string(dir.path().join("pid")).unwrap();
        run(&job("setsid sleep 30 & echo $! > pid", dir.path(), &cancelled)).unwrap();
        let second = fs::read_to_string(dir.path().join("pid")).unwrap();
        for pid in [first.trim(), second.trim()] {
            let began = Instant::now();
            while runs(pid) && began.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(!runs(pid), "{pid}");
        }
    }

    #[test]
    fn the_whole_group_ends_with_its_command_and_on_a_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let cancelled = AtomicBool::new(false);
        let began = Instant::now();
        run(&job("sleep 30 & echo $! > pid", dir.path(), &cancelled)).unwrap();
        let mut late = job("sleep 30", dir.path(), &cancelled);
        late.timeout = Some(Duration::from_millis(100));
        let ended = failure(&late);
        assert!(ended.message.contains("timeout"), "{ended}");
        let stop = AtomicBool::new(true);
        assert_eq!(failure(&job("sleep 30", dir.path(), &stop)).message, "interrupted");
        assert!(began.elapsed() < Duration::from_secs(15));
    }
}
