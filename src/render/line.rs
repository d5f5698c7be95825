//! One line of text per event: what a log file shows, and what a terminal keeps above the stages that run.

use logweir_engine::event::{Decision, Event, Level, Reason};

use crate::render::{Paint, text};

/// Said of a stage that ran and gave the bytes it gave before: what follows it need not run.
const SAME: &str = "same result as before";

/// Returns the line or lines for an event in a log file, without a line end; `None` where there is nothing to keep.
pub(crate) fn of(event: &Event, paint: Paint, verbose: bool) -> Option<String> {
    Some(match event {
        Event::StageStarted { stage, attempt, reasons, .. } => {
            let again = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            let why = text::reasons(reasons, verbose);
            format!("{} {stage}{again}{}", paint.cyan("▸"), paint.dim(&prefixed(": ", &why)))
        }
        Event::StageFinished { decision: Decision::Restore, stage, seconds, reasons, .. } => {
            let why = prefixed(": ", &text::reasons(reasons, verbose));
            format!("{} {stage} restored in {}{}", paint.cyan("↺"), text::seconds(*seconds), paint.dim(&why))
        }
        Event::StageFinished { decision: Decision::Run, stage, seconds, cutoff, .. } => {
            let same = if *cutoff { format!(", {SAME}") } else { String::new() };
            format!("{} {stage} done in {}{same}", paint.green("✓"), text::seconds(*seconds))
        }
        other => return kept(other, paint, verbose, 0),
    })
}

/// The same for a terminal that shows running stages otherwise: their start needs no line, their end says why they ran.
/// Names are padded to `name_width`.
pub(crate) fn kept(event: &Event, paint: Paint, verbose: bool, name_width: usize) -> Option<String> {
    let columns = |sign: String, stage: &str, seconds: f64, why: Vec<String>| {
        let why = paint.dim(&prefixed("  ", &why.join(" · ")));
        format!("{sign} {stage:<name_width$}  {:>7}{why}", text::seconds(seconds))
    };
    let why = |reasons: &[Reason]| Some(text::reasons(reasons, verbose)).filter(|why| !why.is_empty());
    Some(match event {
        Event::RunStarted { .. }
        | Event::StageExpanded { .. }
        | Event::StageProgress { .. }
        | Event::RunFinished { .. }
        | Event::StageStarted { .. } => return None,
        Event::StageMessage { stage, level: Level::Info, text } => format!("{} {stage}: {text}", paint.dim("·")),
        Event::StageMessage { stage, level: Level::Warning, text } => {
            format!("{} {stage}: {text}", paint.yellow("warning:"))
        }
        Event::StageFinished { decision: Decision::Fresh, stage, .. } => {
            if !verbose {
                return None;
            }
            format!("{} {stage} is up to date", paint.dim("="))
        }
        Event::StageFinished { decision: Decision::Restore, stage, seconds, reasons, .. } => {
            let why = std::iter::once("restored".to_owned()).chain(why(reasons));
            columns(paint.cyan("↺"), stage, *seconds, why.collect())
        }
        Event::StageFinished { stage, seconds, reasons, cutoff, .. } => {
            let why = why(reasons).into_iter().chain(cutoff.then(|| SAME.to_owned()));
            columns(paint.green("✓"), stage, *seconds, why.collect())
        }
        Event::StageFailed { stage, error, log, log_file, retry, internal } => {
            failed(stage, error, log, log_file.as_deref(), *retry, *internal, paint)
        }
        Event::StageSkipped { stage, needs: Some(needs) } => {
            format!("{} {stage} skipped (needs `{needs}`)", paint.dim("–"))
        }
        Event::StageSkipped { stage, needs: None } => format!("{} {stage} not finished", paint.dim("–")),
        Event::Warning { text } => format!("{} {text}", paint.yellow("warning:")),
    })
}

fn failed(
    stage: &str,
    error: &str,
    log: &[String],
    log_file: Option<&str>,
    retry: bool,
    internal: bool,
    paint: Paint,
) -> String {
    let what = match (retry, internal) {
        (true, _) => "failed, trying again",
        (_, true) => "failed: a bug in logweir",
        _ => "failed",
    };
    let sign = if retry { paint.yellow("↻") } else { paint.red("✗") };
    let mut out = format!("{sign} {} {what}", paint.bold(stage));
    for line in error.lines() {
        out.push_str(&format!("\n    {line}"));
    }
    if !log.is_empty() {
        out.push_str(&format!("\n    {}", paint.dim("its last lines:")));
        for line in log {
            out.push_str(&format!("\n    {} {line}", paint.dim("│")));
        }
    }
    if let Some(file) = log_file {
        out.push_str(&format!("\n    {} {file}", paint.dim("all of them:")));
    }
    out
}

fn prefixed(prefix: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{prefix}{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logweir_engine::digest::Digest;
    use logweir_engine::event::ReasonKind;

    #[test]
    fn a_failure_shows_its_error_once_with_the_end_of_its_log() {
        let event = Event::StageFailed {
            stage: "shell".into(),
            error: "exit code 3".into(),
            log: vec!["boom".into()],
            log_file: Some("cache/logs/x".into()),
            retry: false,
            internal: false,
        };
        let line = of(&event, Paint(false), false).unwrap();
        assert_eq!(
            line,
            "✗ shell failed\n    exit code 3\n    its last lines:\n    │ boom\n    all of them: cache/logs/x"
        );
    }

    #[test]
    fn reasons_appear_once_in_a_log_and_on_a_terminal() {
        let reasons = vec![Reason::plain(ReasonKind::New, "a")];
        let key = Digest::of_bytes(b"");
        let started = Event::StageStarted {
            stage: "a".into(),
            key,
            threads: 1,
            attempt: 1,
            expected: None,
            reasons: reasons.clone(),
        };
        let finished = Event::StageFinished {
            stage: "a".into(),
            decision: Decision::Run,
            key,
            seconds: 1.0,
            storing: 0.0,
            reasons,
            cutoff: false,
        };
        let events = [&started, &finished];
        let plain: Vec<String> = events.iter().filter_map(|e| of(e, Paint(false), false)).collect();
        assert_eq!(plain, ["▸ a: never run before", "✓ a done in 1.0 s"]);
        let terminal: Vec<String> = events.iter().filter_map(|e| kept(e, Paint(false), false, 4)).collect();
        assert_eq!(terminal, ["✓ a       1.0 s  never run before"]);
    }
}
