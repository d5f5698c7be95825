//! The end of a run: what was done, what made it last, where to look, what to do next.

use logweir_engine::critical::CriticalPath;

use crate::render::{Paint, text, width};

/// The shortest critical path worth showing, in seconds.
const WORTH_SHOWING: f64 = 0.5;
/// A run that lasts so much longer than its critical path was short of threads.
const SHORT_OF_THREADS: f64 = 1.3;
/// Most failed stages listed.
const MOST_FAILED: usize = 8;

/// The counts of a finished run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) executed: usize,
    pub(crate) restored: usize,
    pub(crate) fresh: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) seconds: f64,
}

/// A finished run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    pub(crate) counts: Counts,
    /// Its id.
    pub(crate) run: String,
    pub(crate) interrupted: bool,
    /// Thread tokens it had.
    pub(crate) jobs: usize,
    pub(crate) path: CriticalPath,
    /// Failed stages and where all they said is kept.
    pub(crate) failed: Vec<(String, Option<String>)>,
    /// A page to look at.
    pub(crate) page: Option<String>,
}

/// Returns the lines, `columns` wide where they can be.
pub(crate) fn of(ending: &Ending, columns: usize, paint: Paint) -> Vec<String> {
    let (mut lines, run) = (vec![head(ending, paint)], paint.dim(&format!("(run {})", ending.run)));
    if width(&lines[0]) + width(&run) < columns {
        lines[0].push_str(&format!(" {run}"));
    }
    let mut say = |what: &str, text: String| lines.push(format!("  {}  {text}", paint.dim(&format!("{what:<13}"))));
    let path = &ending.path;
    if path.stages.len() > 1 && path.seconds >= WORTH_SHOWING {
        let link = |step: &logweir_engine::critical::Step| format!("{} {}", step.stage, text::seconds(step.seconds));
        let links: Vec<String> = path.stages.iter().map(link).collect();
        let waited = if ending.counts.seconds > path.seconds * SHORT_OF_THREADS {
            format!(", the rest waited for one of {}", text::plural(ending.jobs, "thread"))
        } else {
            String::new()
        };
        say("critical path", format!("{}{waited}", text::seconds(path.seconds)));
        say("", text::chain(&links, columns.saturating_sub(18)));
        if let Some(step) = path.dearest() {
            say("", paint.dim(&format!("{} if {} took no time", text::seconds(step.if_free), step.stage)));
        }
    }
    for (stage, log) in ending.failed.iter().take(MOST_FAILED) {
        let log = log.as_ref().map(|log| paint.dim(&format!("  {log}"))).unwrap_or_default();
        say("failed", format!("{}{log}", paint.bold(stage)));
    }
    if ending.failed.len() > MOST_FAILED {
        say("", format!("and {} more: logweir show {}", ending.failed.len() - MOST_FAILED, ending.run));
    }
    match (&ending.page, ending.failed.first()) {
        _ if ending.interrupted => say("next", "logweir run goes on from here: what is finished is kept".to_owned()),
        (_, Some((stage, _))) => {
            say("next", "mend it and run again: what is finished is kept".to_owned());
            say("", format!("logweir why {stage} shows why it ran"));
        }
        (Some(page), None) => say("look at", paint.bold(page)),
        (None, None) => {}
    }
    lines
}

fn head(ending: &Ending, paint: Paint) -> String {
    let counts = &ending.counts;
    let count = |n: usize| text::count(n as u64);
    let mut parts = Vec::new();
    if counts.failed > 0 {
        parts.push(paint.red(&format!("{} failed", count(counts.failed))));
    }
    if counts.skipped > 0 {
        parts.push(format!("{} skipped", count(counts.skipped)));
    }
    parts.push(format!("{} executed", count(counts.executed)));
    if counts.restored > 0 {
        parts.push(format!("{} restored", count(counts.restored)));
    }
    parts.push(format!("{} fresh", count(counts.fresh)));
    let head = match (ending.interrupted, counts.failed) {
        (true, _) => paint.yellow("interrupted"),
        (_, 0) if counts.executed + counts.restored == 0 => paint.green("up to date"),
        (_, 0) => paint.green("done"),
        _ => paint.red("failed"),
    };
    format!("{head}: {} in {}", parts.join(", "), text::seconds(counts.seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use logweir_engine::critical::Step;

    fn shown(ending: &Ending) -> String {
        of(ending, 80, Paint(false)).join("\n")
    }

    fn ending(counts: Counts) -> Ending {
        Ending { counts, run: "r1".into(), jobs: 2, ..Ending::default() }
    }

    #[test]
    fn says_what_was_done_and_leaves_out_what_was_not() {
        let base = Counts { fresh: 3, seconds: 0.05, ..Counts::default() };
        assert_eq!(shown(&ending(base)), "up to date: 0 executed, 3 fresh in 0.05 s (run r1)");
        let counts = Counts { failed: 1, skipped: 2, executed: 1, ..base };
        let failed = vec![("a".to_owned(), Some("cache/logs/r1/a.log".to_owned()))];
        assert_eq!(
            shown(&Ending { failed, ..ending(counts) }),
            "failed: 1 failed, 2 skipped, 1 executed, 3 fresh in 0.05 s (run r1)\n  \
               failed         a  cache/logs/r1/a.log\n  \
               next           mend it and run again: what is finished is kept\n                 \
               logweir why a shows why it ran"
        );
        let stopped = shown(&Ending { interrupted: true, ..ending(base) });
        assert!(stopped.starts_with("interrupted: ") && stopped.contains("logweir run goes on"), "{stopped}");
    }

    #[test]
    fn the_critical_path_is_shown_with_what_would_shorten_it() {
        let step = |stage: &str, seconds, if_free| Step { stage: stage.into(), seconds, if_free };
        let path = CriticalPath { seconds: 9.0, stages: vec![step("train", 8.0, 4.0), step("report", 1.0, 8.0)] };
        let counts = Counts { executed: 3, seconds: 20.0, ..Counts::default() };
        assert_eq!(
            shown(&Ending { path: path.clone(), ..ending(counts) }),
            "done: 3 executed, 0 fresh in 20.0 s (run r1)\n  \
               critical path  9.0 s, the rest waited for one of 2 threads\n                 \
               train 8.0 s → report 1.0 s\n                 \
               4.0 s if train took no time"
        );
        let quick = CriticalPath { seconds: 0.1, ..path };
        assert!(!shown(&Ending { path: quick, ..ending(counts) }).contains("critical"), "not worth a line");
    }
}
