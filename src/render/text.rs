//! Small pieces of text for people: durations, sizes, counts, values, reasons.

use logweir_engine::event::{Reason, ReasonKind};
use serde_json::Value;

use crate::render::width;

/// Longest value shown in one line without `-v`, in characters.
const VALUE_WIDTH: usize = 60;

/// `0.04 s`, `3.2 s`, `2 min 05 s`, `1 h 02 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 0.095 => format!("{s:.2} s"),
        s if s < 99.95 => format!("{s:.1} s"),
        _ if whole < 3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Seconds while they pass: `4.2 s`, `42 s`, `2 min 05 s`.
pub(crate) fn clock(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        s => self::seconds(s),
    }
}

/// `a → b → c`; in little room the middle is left out: `a → … → c`.
pub(crate) fn chain<S: AsRef<str>>(links: &[S], columns: usize) -> String {
    const ARROW: &str = " → ";
    let all: Vec<&str> = links.iter().map(AsRef::as_ref).collect();
    let room = |links: &[&str]| links.iter().map(|link| width(link) + width(ARROW)).sum::<usize>();
    // The last link has no arrow after it.
    let columns = columns.saturating_add(width(ARROW));
    if room(&all) <= columns {
        return all.join(ARROW);
    }
    // From both ends inwards, as far as there is room.
    let (mut head, mut tail) = (all.len().min(1), all.len());
    let fits = |head: usize, tail: usize| room(&all[..head]) + room(&["…"]) + room(&all[tail..]) <= columns;
    loop {
        let before = (head, tail);
        if head < tail && fits(head, tail - 1) {
            tail -= 1;
        }
        if head < tail && fits(head + 1, tail) {
            head += 1;
        }
        if before == (head, tail) {
            break;
        }
    }
    let mut parts = all[..head].to_vec();
    if head < tail {
        parts.push("…");
    }
    parts.extend(&all[tail..]);
    parts.join(ARROW)
}

/// `812 B`, `1.2 kB`, `3.4 MB`: powers of 1000.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// `11,175,629`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 stage`, `2 stages`.
pub(crate) fn plural(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{} {noun}s", count(n as u64)) }
}

/// A digest or key as people see it: 12 digits, all with `-v`.
pub(crate) fn digest(text: &str, verbose: bool) -> &str {
    if verbose { text } else { text.get(..12).unwrap_or(text) }
}

/// A parameter or digest in one line, long ones shortened unless `verbose`.
pub(crate) fn value(value: &Value, verbose: bool) -> String {
    let text = in_one_line(value, verbose);
    if verbose { text } else { window(&text, 0) }
}

/// Two values to be compared: of long ones the part where they begin to differ.
pub(crate) fn values(old: &Value, new: &Value, verbose: bool) -> (String, String) {
    let (old, new) = (in_one_line(old, verbose), in_one_line(new, verbose));
    if verbose || old.chars().count().max(new.chars().count()) <= VALUE_WIDTH {
        return (old, new);
    }
    let same = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count();
    let from = if same < VALUE_WIDTH / 2 { 0 } else { same - VALUE_WIDTH / 3 };
    (window(&old, from), window(&new, from))
}

fn in_one_line(value: &Value, verbose: bool) -> String {
    match value {
        Value::String(s) if is_digest(s) => digest(s, verbose).to_owned(),
        Value::String(s) => s.replace('\n', "⏎"),
        other => other.to_string(),
    }
}

/// As much of a text as one line shows, from its character number `from`.
fn window(text: &str, from: usize) -> String {
    let head = if from > 0 { "…" } else { "" };
    let rest: Vec<char> = text.chars().skip(from).collect();
    if head.len().min(1) + rest.len() <= VALUE_WIDTH {
        return format!("{head}{}", rest.into_iter().collect::<String>());
    }
    let shown: String = rest.into_iter().take(VALUE_WIDTH - 1 - head.len().min(1)).collect();
    format!("{head}{shown}…")
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// One reason: `param threshold.beta: 1.5 → 2`, `input raw:HDFS.log changed`.
pub(crate) fn reason(reason: &Reason, verbose: bool) -> String {
    let kind = reason.kind.name();
    let subject = &reason.subject;
    match reason.kind {
        ReasonKind::New => "never run before".to_owned(),
        ReasonKind::Forced => "forced".to_owned(),
        ReasonKind::Upstream => format!("`{subject}` runs first"),
        _ => match (&reason.old, &reason.new) {
            (Value::Null, Value::Null) if subject.is_empty() => kind.to_owned(),
            (Value::Null, Value::Null) => format!("{kind} {subject}"),
            (Value::Null, new) if !verbose && holds_digest(new) => format!("{kind} {subject} is new"),
            (Value::Null, new) => format!("{kind} {subject}: new, {}", value(new, verbose)),
            (old, Value::Null) if !verbose && holds_digest(old) => format!("{kind} {subject} is gone"),
            (old, Value::Null) => format!("{kind} {subject}: gone, was {}", value(old, verbose)),
            (old, new) if !verbose && holds_digest(old) && holds_digest(new) && kind == subject => {
                format!("{kind} changed")
            }
            (old, new) if !verbose && holds_digest(old) && holds_digest(new) => format!("{kind} {subject} changed"),
            (old, new) => {
                let (old, new) = values(old, new, verbose);
                format!("{kind} {subject}: {old} → {new}")
            }
        },
    }
}

fn holds_digest(value: &Value) -> bool {
    value.as_str().is_some_and(is_digest)
}

/// The first reasons, and how many more there are.
pub(crate) fn reasons(reasons: &[Reason], verbose: bool) -> String {
    let shown = if verbose { reasons.len() } else { 2 };
    let mut parts: Vec<String> = reasons.iter().take(shown).map(|r| reason(r, verbose)).collect();
    if reasons.len() > shown {
        parts.push(format!("{} more", reasons.len() - shown));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_sizes_and_counts_read_well() {
        let texts: Vec<String> = [0.004, 0.3, 12.34, 125.0, 3720.0].into_iter().map(seconds).collect();
        assert_eq!(texts, ["0.00 s", "0.3 s", "12.3 s", "2 min 05 s", "1 h 02 min"]);
        assert_eq!([bytes(812), bytes(1234), bytes(3_400_000)], ["812 B", "1.2 kB", "3.4 MB"]);
        assert_eq!([count(7), count(1000), count(11_175_629)], ["7", "1,000", "11,175,629"]);
        assert_eq!([plural(1, "stage"), plural(0, "stage")], ["1 stage", "0 stages"]);
    }

    #[test]
    fn a_chain_keeps_its_ends() {
        let links = ["parse", "sessionize", "featurize", "train", "report"];
        assert_eq!(chain(&links, 100), "parse → sessionize → featurize → train → report");
        assert_eq!(chain(&links, 45), "parse → sessionize → … → train → report");
        assert_eq!(chain(&links, 26), "parse → … → train → report");
        assert_eq!(chain(&links, 25), "parse → … → report");
        assert_eq!(chain(&links, 5), "parse → …");
        assert_eq!(chain::<&str>(&[], 5), "");
    }

    #[test]
    fn a_reason_names_what_changed_from_what_to_what() {
        let of = |kind, old, new| reason(&Reason { kind, subject: "threshold.beta".into(), old, new }, false);
        assert_eq!(of(ReasonKind::Param, json!(1.5), json!(2)), "param threshold.beta: 1.5 → 2");
        assert_eq!(of(ReasonKind::Param, Value::Null, json!(2)), "param threshold.beta: new, 2");
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(of(ReasonKind::Input, json!(a), json!(b)), "input threshold.beta changed");
        assert_eq!(of(ReasonKind::Input, json!(a), Value::Null), "input threshold.beta is gone");
        assert_eq!(of(ReasonKind::New, Value::Null, Value::Null), "never run before");
    }

    #[test]
    fn long_values_are_shown_where_they_differ() {
        let (old, new) = (format!("{}1{}", "a".repeat(90), "z".repeat(90)), format!("{}22", "a".repeat(90)));
        let (old, new) = values(&json!(old), &json!(new), false);
        assert_eq!(old, format!("…{}1{}…", "a".repeat(20), "z".repeat(37)));
        assert_eq!(new, format!("…{}22", "a".repeat(20)));
        assert_eq!(values(&json!(1), &json!("b"), false), ("1".to_owned(), "b".to_owned()));
    }

    #[test]
    fn long_values_are_shortened_unless_asked_for() {
        let long = json!("x".repeat(100));
        assert_eq!(value(&long, false).chars().count(), VALUE_WIDTH);
        assert_eq!(value(&long, true).len(), 100);
    }
}
