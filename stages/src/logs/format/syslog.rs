//! Syslog: RFC 3164 (`<34>Oct 11 22:14:15 host su[7]: message`, the priority may lack, as in files; also with an ISO 8601
//! timestamp, as rsyslog writes) and RFC 5424 (`<34>1 2003-10-11T22:14:15.003Z host app 7 ID47 [data] message`).
//!
//! The component is the tag without `[pid]`, or the application. The level is the priority's severity by name.

use super::time::{TimeFormat, iso};
use super::{Clock, NO_TIME, Parts};

/// What besides level and component may name a session.
pub const FIELDS: &[&str] = &["host", "pid", "msgid"];

const LEVELS: [&[u8]; 8] = [b"emerg", b"alert", b"crit", b"err", b"warning", b"notice", b"info", b"debug"];

/// The line format of syslog.
#[derive(Clone, Debug)]
pub struct Syslog {
    /// `Oct 11 22:14:15`; `None` where no year was given, so that such lines cannot be used.
    old: Option<TimeFormat>,
    session: Option<usize>,
}

impl Syslog {
    /// Makes a format; without a year only lines that tell theirs can be read.
    ///
    /// # Panics
    /// Never: the format of RFC 3164 is known.
    pub fn new(with_year: bool) -> Self {
        let old = with_year.then(|| TimeFormat::new("%b %d %H:%M:%S").expect("a known format"));
        Self { old, session: None }
    }

    /// Takes the session of a line from a field, one of [`FIELDS`].
    ///
    /// # Errors
    /// There is no such field; the ones there are.
    pub fn session_field(&mut self, name: &str) -> Result<(), Vec<String>> {
        self.session = FIELDS.iter().position(|f| f.eq_ignore_ascii_case(name));
        let names = || FIELDS.iter().map(|f| (*f).to_owned()).collect();
        self.session.map(|_| ()).ok_or_else(names)
    }

    pub(super) fn parts<'a>(&self, line: &'a [u8], clock: &'a mut Clock) -> Result<Parts<'a>, &'static str> {
        let (level, rest) = priority(line)?;
        if let Some(rest) = rest.strip_prefix(b"1 ")
            && (!level.is_empty() || rest.first().is_some_and(|b| b.is_ascii_digit() || *b == b'-'))
        {
            return self.new_parts(level, rest, clock);
        }
        let (time, rest) = if rest.first().is_some_and(u8::is_ascii_digit) {
            let (text, rest) = word(rest);
            let time = clock.read_by(text, iso);
            if time == NO_TIME {
                return Err("does not start with a timestamp of syslog");
            }
            (time, rest)
        } else {
            let text = rest.get(..15).ok_or("shorter than a timestamp")?;
            let Some(format) = &self.old else { return Err("its date has no year: set `year`") };
            let time = clock.read(format, text);
            if time == NO_TIME {
                return Err("does not start with a timestamp of syslog");
            }
            (time, rest[15..].strip_prefix(b" ").ok_or("no host after the timestamp")?)
        };
        let (host, rest) = word(rest);
        if host.is_empty() {
            return Err("no host after the timestamp");
        }
        let rest = rest.trim_ascii_start();
        let (component, pid, message) = tag(rest);
        Ok(Parts { time, level, component, message, session: self.chosen([host, pid, b""]) })
    }

    fn chosen<'a>(&self, fields: [&'a [u8]; 3]) -> &'a [u8] {
        self.session.map_or(b"", |i| fields[i])
    }

    /// What follows the version of RFC 5424.
    fn new_parts<'a>(&self, level: &'a [u8], rest: &'a [u8], clock: &'a mut Clock) -> Result<Parts<'a>, &'static str> {
        let (text, rest) = word(rest);
        let time = if text == b"-" { NO_TIME } else { clock.read_by(text, iso) };
        if time == NO_TIME && text != b"-" {
            return Err("does not start with a timestamp of syslog");
        }
        let (host, rest) = word(rest);
        let (application, rest) = word(rest);
        let (pid, rest) = word(rest);
        let (id, rest) = word(rest);
        if id.is_empty() {
            return Err("lacks host, application, process id or message id");
        }
        let rest = structured_data(rest).ok_or("its structured data has no end")?;
        let message = rest.strip_prefix(b" ").unwrap_or(rest);
        let message = message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message);
        let session = nil(self.chosen([host, pid, id]));
        Ok(Parts { time, level, component: nil(application), message, session })
    }
}

/// `-` stands for nothing.
fn nil(field: &[u8]) -> &[u8] {
    if field == b"-" { b"" } else { field }
}

/// Takes `<34>` off and returns the name of its severity.
fn priority(line: &[u8]) -> Result<(&'static [u8], &[u8]), &'static str> {
    let Some(rest) = line.strip_prefix(b"<") else { return Ok((b"", line)) };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > 3 || rest.get(digits) != Some(&b'>') {
        return Err("the priority is no number in angles");
    }
    let value = rest[..digits].iter().fold(0usize, |v, b| v * 10 + usize::from(b - b'0'));
    Ok((LEVELS[value % 8], &rest[digits + 1..]))
}

/// Returns the text up to a space, and what follows the space.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b' ', text) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b""),
    }
}

/// Returns tag, process id and message of `su[7]: message`. A tag is one word, or more if `[pid]` ends it.
fn tag(text: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b':', &text[from..]) {
        let end = from + at;
        from = end + 1;
        if text.get(end + 1).is_some_and(|b| *b != b' ') {
            continue;
        }
        let name = &text[..end];
        let message = text[end + 1..].strip_prefix(b" ").unwrap_or(&text[end + 1..]);
        if let Some(inner) = name.strip_suffix(b"]")
            && let Some(open) = memchr::memrchr(b'[', inner)
            && open > 0
            && inner[open + 1..].iter().all(u8::is_ascii_digit)
            && open < 64
        {
            return (&name[..open], &inner[open + 1..], message);
        }
        if !name.is_empty() && !name.contains(&b' ') {
            return (name, b"", message);
        }
        break;
    }
    (b"", b"", text)
}

/// Skips `-` or `[id name="value"]…`.
fn structured_data(text: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = text.strip_prefix(b"-") {
        return Some(rest);
    }
    let (mut at, mut quoted) = (0, false);
    while text.get(at) == Some(&b'[') {
        loop {
            match text.get(at)? {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                b']' if !quoted => break,
                _ => {}
            }
            at += 1;
        }
        at += 1;
    }
    Some(&text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::rows::text;

    fn read(line: &str) -> Result<(i64, [String; 4]), &'static str> {
        let mut syslog = Syslog::new(true);
        syslog.session_field("PID").unwrap();
        let mut clock = Clock::default();
        let p = syslog.parts(line.as_bytes(), &mut clock)?;
        Ok((p.time, [p.level, p.component, p.message, p.session].map(|p| text(p).into_owned())))
    }

    #[test]
    fn lines_of_both_standards() {
        // The year of the first is settled later.
        let old = TimeFormat::new("%F %T").unwrap().read(b"0000-10-11 22:14:15").unwrap();
        let new = 1_065_910_455_003_000;
        for (line, time, expected) in [
            ("<34>Oct 11 22:14:15 mymachine su: 'su root' failed", old, ["crit", "su", "'su root' failed", ""]),
            (
                "Oct 11 22:14:15 combo sshd(pam_unix)[19939]: check: pass",
                old,
                ["", "sshd(pam_unix)", "check: pass", "19939"],
            ),
            ("Oct 11 22:14:15 mac Microsoft Word[14463]: crashed", old, ["", "Microsoft Word", "crashed", "14463"]),
            ("Oct 11 22:14:15 host last message repeated 2 times", old, ["", "", "last message repeated 2 times", ""]),
            ("Oct 11 22:14:15 host kernel: PCI: Using ACPI", old, ["", "kernel", "PCI: Using ACPI", ""]),
            ("2003-10-11T22:14:15.003Z host cron[2]: run", new, ["", "cron", "run", "2"]),
            (
                "<165>1 2003-10-11T22:14:15.003Z host evntslog - ID47 [a@1 b=\"x]\\\"\"][c] \u{feff}An event",
                new,
                ["notice", "evntslog", "An event", ""],
            ),
            ("<13>1 2003-10-11T23:14:15.003+01:00 h app 8 - - x", new, ["notice", "app", "x", "8"]),
            ("<13>1 - - - - - -", NO_TIME, ["notice", "", "", ""]),
        ] {
            assert_eq!(read(line), Ok((time, expected.map(str::to_owned))), "{line}");
        }
        for line in [
            "",
            "Oct 11",
            "Okt 11 22:14:15 a b: c",
            "<x>Oct 11 22:14:15 a",
            "<13>1 2003-10-11T22:14:15Z h a 8",
            "<13>1 noon h a 8 - - x",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
        let error = Syslog::new(false).parts(b"Oct 11 22:14:15 h a: b", &mut Clock::default()).map(|_| ()).unwrap_err();
        assert!(error.contains("set `year`"));
    }
}
