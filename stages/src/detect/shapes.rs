//! Line formats to try.

use crate::logs::format::header::Header;
use crate::logs::format::json::{Json, Keys};
use crate::logs::format::syslog::Syslog;
use crate::logs::format::{Clock, LineFormat, NO_TIME, TimeFormat};
use crate::parse::{LogFormat, ParseParams};

/// Most lines that a candidate is tried on.
const TRIED: usize = 500;

/// Where a line begins with its time: the pattern of that part, and how times are written there.
const HEADS: &[(&str, &[&str])] = &[
    (
        "<Date> <Time>",
        &[
            "%Y-%m-%d %H:%M:%S,%f",
            "%Y-%m-%d %H:%M:%S.%f",
            "%Y-%m-%d %H:%M:%S",
            "%Y-%m-%d %H:%M:%S%z",
            "%Y-%m-%d %H:%M:%S.%f%z",
            "%Y/%m/%d %H:%M:%S",
            "%Y/%m/%d %H:%M:%S.%f",
            "%Y.%m.%d %H:%M:%S",
            "%y/%m/%d %H:%M:%S",
            "%y/%m/%d %H:%M:%S.%f",
            "%d/%m/%Y %H:%M:%S",
            "%m/%d/%Y %H:%M:%S",
            "%d.%m.%Y %H:%M:%S",
            "%d-%m-%Y %H:%M:%S",
            "%d-%b-%Y %H:%M:%S",
            "%d-%b-%Y %H:%M:%S.%f",
            "%y%m%d %H%M%S",
            "%Y%m%d %H:%M:%S",
            "%m-%d %H:%M:%S.%f",
            "%m-%d %H:%M:%S",
            "%m/%d %H:%M:%S",
        ],
    ),
    (
        "<Time>",
        &[
            "%Y-%m-%dT%H:%M:%S.%f%z",
            "%Y-%m-%dT%H:%M:%S%z",
            "%Y-%m-%dT%H:%M:%S,%f%z",
            "%Y-%m-%dT%H:%M:%S.%f",
            "%Y-%m-%dT%H:%M:%S,%f",
            "%Y-%m-%dT%H:%M:%S",
            "%Y-%m-%d-%H.%M.%S.%f",
            "%Y-%m-%d_%H:%M:%S",
            "%Y%m%d-%H:%M:%S:%f",
            "%s",
            "%s.%f",
        ],
    ),
    ("<Month> <Day> <Time>", &["%b %d %H:%M:%S", "%b %d %H:%M:%S.%f"]),
    ("<Month> <Day> <Year> <Time>", &["%b %d %Y %H:%M:%S"]),
    ("<Day> <Month> <Year> <Time>", &["%d %b %Y %H:%M:%S", "%d %b %Y %H:%M:%S,%f", "%d %b %Y %H:%M:%S.%f"]),
    ("<Date> <Month> <Day> <Time> <Year>", &["%a %b %d %H:%M:%S %Y"]),
    (
        "[<Time>]",
        &[
            "%a %b %d %H:%M:%S %Y",
            "%a %b %d %H:%M:%S.%f %Y",
            "%Y-%m-%d %H:%M:%S",
            "%Y-%m-%d %H:%M:%S,%f",
            "%Y-%m-%d %H:%M:%S.%f",
            "%Y-%m-%dT%H:%M:%S.%f%z",
            "%Y-%m-%dT%H:%M:%S%z",
            "%Y-%m-%dT%H:%M:%S",
            "%Y-%m-%dT%H:%M:%S,%f",
            "%d/%b/%Y:%H:%M:%S %z",
            "%d/%b/%Y %H:%M:%S",
            "%Y/%m/%d %H:%M:%S",
            "%m.%d %H:%M:%S",
            "%s",
            "%s.%f",
        ],
    ),
];

/// What may stand before the time.
const BEFORE: &[&str] = &["", "<File> "];

/// How a line goes on after its time, from the most to the least telling.
const TAILS: &[&str] = &[
    " <Level> <Pid> --- [<Thread>] <Component> : <Content>",
    " <Pid> <Level> <Component> [<Request>] <Content>",
    " <Pid> <Tid> <Level> <Component>: <Content>",
    " <Level> [<Thread>] <Component>: <Content>",
    " <Level> [<Thread>] <Component> - <Content>",
    " [<Thread>] <Level> <Component>: <Content>",
    " [<Thread>] <Level> <Component> - <Content>",
    " [<Level>] [<Thread>] <Component>: <Content>",
    " [<Level>] [<Thread>] [<Component>] <Content>",
    " - <Level> [<Component>] - <Content>",
    " - <Component> - <Level> - <Content>",
    " <Pid> <Level> <Component>: <Content>",
    " <Level> <Component>: <Content>",
    " <Level> <Component> - <Content>",
    " [<Level>] <Component>: <Content>",
    " [<Level>] [<Component>] <Content>",
    " [<Component>] [<Level>] <Content>",
    ", <Level> <Component> <Content>",
    " [<Level>] <Content>",
    " <Level>: <Content>",
    " <Level> - <Content>",
    " <Level> <Content>",
    "|<Component>|<Pid>|<Content>",
    "|<Level>|<Component>|<Content>",
    " <Program> - <Content>",
    " <Component>[<Pid>]: <Content>",
    " <Component>: <Content>",
    ": <Content>",
    " - <Content>",
    " <Content>",
];

/// Lines whose time is not at their beginning.
const WHOLE: &[(&str, &str, &str)] = &[
    (
        "lines of a Blue Gene/L system log",
        "<Label> <Epoch> <Day_of_log> <Node> <Timestamp> <Location> <Type> <Component> <Level> <Content>",
        "%Y-%m-%d-%H.%M.%S.%f",
    ),
    (
        "syslog lines with label and seconds before them",
        r"<Label> <Timestamp> <Day_of_log> <Host> <Mon> <Mday> <Clock> <Location> <Component>(\[<Pid>\])?: <Content>",
        "%s",
    ),
    ("lines of a cluster's event log", "<LogId> <Node> <Component> <State> <Timestamp> <Flag> <Content>", "%s"),
    (
        "lines of a web server's access log",
        r#"<Host> <Ident> <User> [<Timestamp>] "<Content>" <Status> <Bytes> "<Referer>" "<Agent>""#,
        "%d/%b/%Y:%H:%M:%S %z",
    ),
    (
        "lines of a web server's access log",
        r#"<Host> <Ident> <User> [<Timestamp>] "<Content>" <Status> <Bytes>"#,
        "%d/%b/%Y:%H:%M:%S %z",
    ),
];

/// A candidate and how well it did.
struct Candidate {
    what: String,
    params: ParseParams,
    matched: usize,
    steps_back: usize,
}

/// Returns what lines look like, and the parameters of `parse` for them.
pub(super) fn guess(lines: &[&[u8]], year: i32) -> (String, ParseParams) {
    let step = lines.len().div_ceil(TRIED).max(1);
    let lines: Vec<&[u8]> = lines.iter().step_by(step).copied().collect();
    let lines = lines.as_slice();
    let mut candidates = named(lines);
    for &(what, pattern, format) in WHOLE {
        candidates.extend(header(what, pattern, format, lines, year));
    }
    candidates.extend(syslog(lines, year));
    candidates.extend(timed(lines, year));
    let most = candidates.iter().map(|c| c.matched).max().unwrap_or(0);
    // Many lines may continue others; but where hardly one fits, the format is another.
    if most * 5 < lines.len() || most == 0 {
        let what = "lines of no known format, each of which is a message without a time".to_owned();
        return (what, ParseParams { format: LogFormat::Plain, ..ParseParams::default() });
    }
    let best = candidates.into_iter().find(|c| c.matched * 50 >= most * 49);
    let best = best.expect("one of them has most");
    (best.what, best.params)
}

/// `hdfs` and `json`.
fn named(lines: &[&[u8]]) -> Vec<Candidate> {
    let json = LineFormat::Json(Box::new(Json::new(&Keys::default(), None)));
    let mut candidates = Vec::new();
    for (what, name, format) in
        [("JSON lines", LogFormat::Json, json), ("lines of HDFS", LogFormat::Hdfs, LineFormat::Hdfs)]
    {
        let matched = lines.iter().filter(|l| format.parts(l, &mut Clock::default()).is_ok()).count();
        let params = ParseParams { format: name, ..ParseParams::default() };
        candidates.push(Candidate { what: what.to_owned(), params, matched, steps_back: 0 });
    }
    candidates
}

fn syslog(lines: &[&[u8]], year: i32) -> Option<Candidate> {
    let mut format = Syslog::new(true);
    format.session_field("host").ok()?;
    let format = LineFormat::Syslog(Box::new(format));
    let (mut matched, mut tagged, mut new, mut old) = (0, 0, 0, 0);
    for line in lines {
        let mut clock = Clock::default();
        let Ok(parts) = format.parts(line, &mut clock) else { continue };
        if is_level(parts.session) {
            continue;
        }
        matched += 1;
        tagged += usize::from(!parts.component.is_empty());
        new += usize::from(line.starts_with(b"<") && line.windows(3).take(5).any(|w| w == b">1 "));
        old += usize::from(parts.time < 0);
    }
    if tagged * 2 < matched {
        return None;
    }
    let what = if new * 2 > matched { "syslog lines (RFC 5424)" } else { "syslog lines (RFC 3164)" };
    let year = (old > 0).then_some(year);
    let params = ParseParams { format: LogFormat::Syslog, year, ..ParseParams::default() };
    Some(Candidate { what: what.to_owned(), params, matched, steps_back: 0 })
}

/// Lines that begin with their time, or with a word and their time.
fn timed(lines: &[&[u8]], year: i32) -> Option<Candidate> {
    let mut best: Option<(usize, usize, String, &str)> = None;
    for before in BEFORE {
        for (head, formats) in HEADS {
            for format in *formats {
                // Whatever follows: a space, a comma, a colon, a bar.
                let tries = [" <Content>", ", <Content>", ": <Content>", "|<Content>"];
                let tries = tries.iter().filter_map(|t| header("", &format!("{before}{head}{t}"), format, lines, year));
                let Some(found) = tries.max_by_key(|c| c.matched) else { continue };
                let better = |(matched, back, ..): &(usize, usize, String, &str)| {
                    found.matched > *matched || (found.matched == *matched && found.steps_back < *back)
                };
                if found.matched > 0 && best.as_ref().is_none_or(better) {
                    best = Some((found.matched, found.steps_back, format!("{before}{head}"), format));
                }
            }
        }
    }
    let (most, _, head, format) = best?;
    let tails = TAILS.iter().filter_map(|tail| {
        let pattern = format!("{head}{tail}");
        header(&format!("lines such as `{pattern}`"), &pattern, format, lines, year)
    });
    tails.into_iter().find(|c| c.matched * 10 >= most * 9)
}

/// Tries a header pattern.
fn header(what: &str, pattern: &str, format: &str, lines: &[&[u8]], year: i32) -> Option<Candidate> {
    let time = TimeFormat::new(format).ok()?;
    let yearless = time.lacks_year();
    let header = Header::new(pattern, Some(time)).ok()?;
    let line_format = LineFormat::Header(Box::new(header.clone()));
    let (mut matched, mut steps_back, mut before) = (0, 0, NO_TIME);
    for line in lines {
        let mut clock = Clock::default();
        let Ok(parts) = line_format.parts(line, &mut clock) else { continue };
        let time = parts.time;
        if !yearless && !(PLAUSIBLE.0..PLAUSIBLE.1).contains(&time) {
            continue;
        }
        if !header.fields(line)?.iter().all(|(name, value)| is_plausible(name, value)) {
            continue;
        }
        matched += 1;
        steps_back += usize::from(time < before);
        before = time;
    }
    let params = ParseParams {
        format: LogFormat::Header(pattern.to_owned()),
        timestamp_format: Some(format.to_owned()),
        year: yearless.then_some(year),
        ..ParseParams::default()
    };
    (matched > 0).then(|| Candidate { what: what.to_owned(), params, matched, steps_back })
}

/// From 1980 to 2100, in microseconds since 1970.
const PLAUSIBLE: (i64, i64) = (315_532_800_000_000, 4_102_444_800_000_000);

/// Whether a field may have this value.
fn is_plausible(name: &str, value: &[u8]) -> bool {
    let word = !value.is_empty() && !value.contains(&b' ') && value.len() <= 120;
    match name {
        "Level" => is_level(value),
        "Pid" | "Tid" => value.iter().all(u8::is_ascii_digit),
        "Component" => word && !is_level(value),
        "Host" | "Node" | "File" | "Label" | "Type" | "Location" => word,
        "Program" | "Thread" | "Request" => !value.is_empty() && value.len() <= 200,
        "Content" => true,
        _ => !value.is_empty() && value.len() <= 200,
    }
}

/// Whether a word is a severity.
fn is_level(word: &[u8]) -> bool {
    const LEVELS: &[&str] = &[
        "trace",
        "debug",
        "info",
        "information",
        "notice",
        "warn",
        "warning",
        "error",
        "err",
        "severe",
        "fatal",
        "critical",
        "crit",
        "alert",
        "emerg",
        "emergency",
        "panic",
        "failure",
        "fine",
        "finer",
        "finest",
        "config",
        "verbose",
        "audit",
        "v",
        "d",
        "i",
        "w",
        "e",
        "f",
        "s",
    ];
    LEVELS.iter().any(|l| l.as_bytes().eq_ignore_ascii_case(word))
}
