//! Shell stages: `bash -euo pipefail`, the project root as working directory, a clean environment, one log file.
//!
//! The command runs in a process group of its own, which is ended as a whole: when the command is over (nothing it left
//! in the background outlives its stage), on a timeout, and when the run is interrupted. What it prints goes to the log
//! file line by line with the values of secrets masked; the last lines also go into the failure.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::memory::peak_of;

/// How many lines of the log a failure shows.
const TAIL: usize = 20;
/// How long a process group may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How often a running command is looked after (interruption, timeout, memory).
const TICK: Duration = Duration::from_millis(50);

/// A command ready to run.
pub struct ShellJob<'a> {
    /// The command, all slots replaced.
    pub command: &'a str,
    /// Working directory.
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
fn quoted(word: &str) -> String {
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
    let mut child = Command::new("bash");
    child.args(["-euo", "pipefail", "-c", command]).current_dir(root).env_clear();
    child.env("PATH", path.unwrap_or("/usr/local/bin:/usr/bin:/bin")).env("HOME", home).env("TMPDIR", home);
    child.env("LANG", "C.UTF-8").env("TZ", "UTC").envs(env).stdin(Stdio::null());
    child
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

/// Runs a command to its end. Returns the most memory its process group was seen to have, in bytes.
///
/// # Errors
/// It cannot be started, fails, takes too long, or the run is interrupted.
pub fn run(job: &ShellJob<'_>) -> Result<Option<u64>, ShellFailure> {
    let plain = |message: String| ShellFailure { message, tail: Vec::new() };
    if let Some(folder) = job.log.parent() {
        fs::create_dir_all(folder).map_err(|e| plain(format!("cannot make `{}`: {e}", folder.display())))?;
    }
    let log = File::create(&job.log).map_err(|e| plain(format!("cannot write `{}`: {e}", job.log.display())))?;
    let (reader, writer) = io::pipe().map_err(|e| plain(format!("cannot make a pipe: {e}")))?;
    let mut command = prepared(job.command, job.root, job.home, job.path, &job.env);
    let stderr = writer.try_clone().map_err(|e| plain(format!("cannot make a pipe: {e}")))?;
    command.stdout(writer).stderr(stderr).process_group(0);
    let mut child = command.spawn().map_err(|e| plain(format!("cannot start bash: {e}")))?;
    drop(command);

    let (done, ended) = mpsc::channel();
    let masked = job.masked.clone();
    let printer = std::thread::spawn(move || {
        let tail = copy_lines(BufReader::new(reader), log, &masked);
        // The receiver is gone only if the stage's thread died.
        let _ = done.send(());
        tail
    });
    let mut group = Group { child: &mut child, peak: None };
    let outcome = group.wait(job, &ended);
    group.end();
    let peak = group.peak;
    let tail = printer.join().unwrap_or_default();
    match outcome {
        Ok(status) if status.success() => Ok(peak),
        Ok(status) => Err(ShellFailure { message: format!("the command {}", how(status)), tail }),
        Err(message) => Err(ShellFailure { message, tail }),
    }
}

/// A child and everything it started.
struct Group<'a> {
    child: &'a mut Child,
    peak: Option<u64>,
}

impl Group<'_> {
    /// Waits until the command is over, interrupted or late.
    fn wait(&mut self, job: &ShellJob<'_>, ended: &mpsc::Receiver<()>) -> Result<ExitStatus, String> {
        let began = Instant::now();
        let mut tick = Duration::from_millis(2);
        loop {
            // The end of its output is the usual sign that a command is over, and wakes at once.
            match ended.recv_timeout(tick) {
                Ok(()) => tick = Duration::from_micros(100),
                Err(mpsc::RecvTimeoutError::Timeout) => self.look(),
                Err(mpsc::RecvTimeoutError::Disconnected) => std::thread::sleep(tick),
            }
            tick = (tick * 2).min(TICK);
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                Err(e) => return Err(format!("cannot wait for the command: {e}")),
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

/// Copies what a command prints to its log, secrets masked; returns the last lines.
fn copy_lines(mut reader: impl io::BufRead, log: File, masked: &[String]) -> Vec<String> {
    let mut log = BufWriter::new(log);
    let mut tail = VecDeque::with_capacity(TAIL);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        // A command that prints a megabyte without a newline must not fill the memory.
        match io::Read::take(&mut reader, 1 << 20).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let mut line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
        for secret in masked.iter().filter(|s| !s.is_empty()) {
            line = line.replace(secret.as_str(), "***");
        }
        // A full disk must not stop the command: its log is then incomplete.
        let _ = writeln!(log, "{line}");
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    let _ = log.flush();
    tail.into()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let failure = run(&job("echo secret hunter2; false | cat; echo no", dir.path(), &cancelled)).unwrap_err();
        assert_eq!(failure.message, "the command ended with exit status 1");
        assert_eq!(failure.tail, ["secret ***"]);
        assert_eq!(fs::read_to_string(dir.path().join("logs/log")).unwrap(), "secret ***\n");
        assert!(run(&job("echo $UNSET", dir.path(), &cancelled)).is_err());
    }

    #[test]
    fn the_whole_group_ends_with_its_command_and_on_a_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let cancelled = AtomicBool::new(false);
        let began = Instant::now();
        run(&job("sleep 30 & echo $! > pid", dir.path(), &cancelled)).unwrap();
        let mut late = job("sleep 30", dir.path(), &cancelled);
        late.timeout = Some(Duration::from_millis(100));
        let failure = run(&late).unwrap_err();
        assert!(failure.message.contains("timeout"), "{failure}");
        let stop = AtomicBool::new(true);
        assert_eq!(run(&job("sleep 30", dir.path(), &stop)).unwrap_err().message, "interrupted");
        assert!(began.elapsed() < Duration::from_secs(15));
    }
}
