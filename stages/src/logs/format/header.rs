//! Lines given as a header pattern, as the loghub data sets write theirs:
//! `<Date> <Time> <Pid> <Level> <Component>: <Content>`.
//!
//! | in the pattern | stands for |
//! |---|---|
//! | `<Name>` | a field: what stands up to where the rest of the pattern, up to the next field, is found first; the last one takes all that is left |
//! | white space | one or more spaces or tabs |
//! | `( … )?` | what may be absent: `<Component>(\[<Pid>\])?: <Content>` |
//! | `\c` | the character itself |
//! | anything else | itself |
//!
//! Names count in any case. `Content` (or `Message`) is the message and must be there; `Level` (or `Severity`), which is
//! one word, and `Component` (or `Logger`, `Program`) are what they say. `Timestamp` is the time; without such a field
//! `Date`, `Time`, `Year`, `Month` and `Day` together are, as they stand in the line if no other field lies between
//! them, else joined by spaces. Other fields may name sessions. A line whose time cannot be read is malformed.

use super::time::TimeFormat;
use super::{Clock, Parts};

/// Most fields of a pattern.
const MOST: usize = 16;

/// A line format given as a header pattern.
#[derive(Clone, Debug)]
pub struct Header {
    elements: Vec<Element>,
    names: Vec<String>,
    level: Option<usize>,
    component: Option<usize>,
    content: usize,
    session: Option<usize>,
    /// Fields of the time, and whether no other field lies between them.
    time: Vec<usize>,
    adjacent: bool,
    format: Option<TimeFormat>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    Field(usize),
    Space,
    Literal(Vec<u8>),
    Optional(Vec<Element>),
}

/// Start and end of each field.
type Spans = [(usize, usize); MOST];

impl Header {
    /// Makes a format from a pattern; `format` says how its time is written.
    ///
    /// # Errors
    /// The pattern is malformed, has no message, or names a field twice.
    pub fn new(pattern: &str, format: Option<TimeFormat>) -> Result<Self, String> {
        let mut names = Vec::new();
        let mut rest = pattern.trim().as_bytes();
        let elements = read_elements(&mut rest, &mut names, false)?;
        if names.len() > MOST {
            return Err(format!("has more than {MOST} fields"));
        }
        for (i, name) in names.iter().enumerate() {
            if names[..i].iter().any(|n| n.eq_ignore_ascii_case(name)) {
                return Err(format!("has the field `<{name}>` twice"));
            }
        }
        check_ends(&elements)?;
        let find = |wanted: &[&str]| wanted.iter().find_map(|w| names.iter().position(|n| n.eq_ignore_ascii_case(w)));
        let content = find(&["Content", "Message"]).ok_or("has no field `<Content>` for the message")?;
        let time: Vec<usize> = match find(&["Timestamp"]) {
            Some(field) => vec![field],
            None => (0..names.len())
                .filter(|&i| ["Date", "Time", "Year", "Month", "Day"].iter().any(|n| names[i].eq_ignore_ascii_case(n)))
                .collect(),
        };
        let adjacent = time.windows(2).all(|w| w[0] + 1 == w[1]);
        let (level, component) = (find(&["Level", "Severity"]), find(&["Component", "Logger", "Program"]));
        Ok(Self { elements, names, level, component, content, session: None, time, adjacent, format })
    }

    /// Returns whether fields of the pattern say the time.
    pub fn has_time(&self) -> bool {
        !self.time.is_empty()
    }

    /// How the time is written, if that is known.
    pub fn time_format(&self) -> Option<&TimeFormat> {
        self.format.as_ref()
    }

    /// Takes the session of a line from a field.
    ///
    /// # Errors
    /// There is no such field; the ones there are.
    pub fn session_field(&mut self, name: &str) -> Result<(), Vec<String>> {
        self.session = self.names.iter().position(|n| n.eq_ignore_ascii_case(name));
        if self.session.is_some() { Ok(()) } else { Err(self.names.clone()) }
    }

    /// Returns all fields of a line by name; one in a part that is absent is empty. The time is not read.
    pub fn fields<'h, 'l>(&'h self, line: &'l [u8]) -> Option<Vec<(&'h str, &'l [u8])>> {
        let mut spans: Spans = [(0, 0); MOST];
        let end = follow(&self.elements, line, 0, Some(&mut spans))?;
        let values = spans.iter().map(|&(start, end)| &line[start..end]);
        (end == line.len()).then(|| self.names.iter().map(String::as_str).zip(values).collect())
    }

    pub(super) fn parts<'a>(&self, line: &'a [u8], clock: &'a mut Clock) -> Result<Parts<'a>, &'static str> {
        let mut spans: Spans = [(0, 0); MOST];
        let end = follow(&self.elements, line, 0, Some(&mut spans)).ok_or("does not match the pattern of `format`")?;
        if end != line.len() {
            return Err("goes on after the pattern of `format`");
        }
        let field = |i: usize| &line[spans[i].0..spans[i].1];
        let part = |i: Option<usize>| i.map_or(&b""[..], field);
        let level = part(self.level);
        if level.contains(&b' ') {
            return Err("the level is more than a word");
        }
        let mut time = super::NO_TIME;
        if let (Some(format), [first, .., last] | [first @ last]) = (&self.format, self.time.as_slice()) {
            time = if self.adjacent {
                clock.read(format, &line[spans[*first].0..spans[*last].1])
            } else {
                let mut text = std::mem::take(&mut clock.scratch);
                text.clear();
                for &i in &self.time {
                    if !text.is_empty() {
                        text.push(b' ');
                    }
                    text.extend_from_slice(field(i));
                }
                let time = clock.read(format, &text);
                clock.scratch = text;
                time
            };
            if time == super::NO_TIME {
                return Err("the time is not as `timestamp_format` says");
            }
        }
        let session = part(self.session);
        Ok(Parts { time, level, component: part(self.component), message: field(self.content), session })
    }
}

/// Reads elements up to the end, or, in an optional part, up to its `)?`.
fn read_elements(rest: &mut &[u8], names: &mut Vec<String>, optional: bool) -> Result<Vec<Element>, String> {
    let mut elements = Vec::new();
    let literal = |elements: &mut Vec<Element>, byte: u8| match elements.last_mut() {
        Some(Element::Literal(bytes)) => bytes.push(byte),
        _ => elements.push(Element::Literal(vec![byte])),
    };
    while let [first, after @ ..] = *rest {
        match first {
            b'<' => {
                let end = after.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(after.len());
                if end == 0 || after.get(end) != Some(&b'>') {
                    literal(&mut elements, b'<');
                    *rest = after;
                    continue;
                }
                elements.push(Element::Field(names.len()));
                names.push(String::from_utf8_lossy(&after[..end]).into_owned());
                *rest = &after[end + 1..];
            }
            b'(' if closes(after) => {
                *rest = after;
                let inner = read_elements(rest, names, true)?;
                let open = |e: Option<&Element>| matches!(e, None | Some(Element::Field(_) | Element::Optional(_)));
                if open(inner.first()) || open(inner.last()) {
                    return Err("has a part `(…)?` that does not begin and end with a space or a character".to_owned());
                }
                check_ends(&inner)?;
                elements.push(Element::Optional(inner));
            }
            b')' if optional && after.first() == Some(&b'?') => {
                *rest = &after[1..];
                return Ok(elements);
            }
            b'\\' if !after.is_empty() => {
                literal(&mut elements, after[0]);
                *rest = &after[1..];
            }
            _ if first.is_ascii_whitespace() => {
                if elements.last() != Some(&Element::Space) {
                    elements.push(Element::Space);
                }
                *rest = after;
            }
            _ => {
                literal(&mut elements, *first);
                *rest = after;
            }
        }
    }
    Ok(elements)
}

/// Fails where it could not be told where a field ends.
fn check_ends(elements: &[Element]) -> Result<(), String> {
    for (i, element) in elements.iter().enumerate() {
        if matches!(element, Element::Field(_)) {
            let certain = elements[i + 1..].iter().find(|e| !matches!(e, Element::Optional(_)));
            let last = i + 1 == elements.len();
            if !last && matches!(certain, None | Some(Element::Field(_))) {
                return Err("has a field with nothing certain between it and what follows".to_owned());
            }
        }
    }
    Ok(())
}

/// Whether the `(` before this text begins an optional part.
fn closes(text: &[u8]) -> bool {
    let mut depth = 1;
    let mut i = 0;
    while i < text.len() {
        match text[i] {
            b'\\' => i += 1,
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return text.get(i + 1) == Some(&b'?');
                }
            }
            _ => {}
        }
        i += 1;
    }
    false
}

/// Follows elements from `at` and returns where they end. Without `spans` a first field is taken as found.
fn follow(elements: &[Element], line: &[u8], mut at: usize, mut spans: Option<&mut Spans>) -> Option<usize> {
    for (i, element) in elements.iter().enumerate() {
        match element {
            Element::Space => {
                let spaces = line[at..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                if spaces == 0 {
                    return None;
                }
                at += spaces;
            }
            Element::Literal(bytes) => {
                if !line[at..].starts_with(bytes) {
                    return None;
                }
                at += bytes.len();
            }
            Element::Optional(inner) => {
                if let Some(end) = follow(inner, line, at, spans.as_deref_mut()) {
                    at = end;
                }
            }
            Element::Field(number) => {
                // While a field's end is sought, reaching the next field is enough.
                let spans = spans.as_deref_mut()?;
                let rest = &elements[i + 1..];
                let stop = rest.iter().position(|e| matches!(e, Element::Field(_))).unwrap_or(rest.len());
                let end = if rest.is_empty() { line.len() } else { field_end(&rest[..stop], line, at)? };
                spans[*number] = (at, end);
                at = end;
            }
        }
    }
    Some(at)
}

/// Returns where the text is first followed by these elements.
fn field_end(follows: &[Element], line: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at <= line.len() {
        at += match follows.first() {
            Some(Element::Space) => memchr::memchr2(b' ', b'\t', &line[at..])?,
            Some(Element::Literal(bytes)) => memchr::memchr(bytes[0], &line[at..])?,
            _ => 0,
        };
        if reaches(follows, line, at) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Whether the elements, which hold no field but in optional parts, are at this place.
fn reaches(elements: &[Element], line: &[u8], at: usize) -> bool {
    match elements {
        [] => true,
        [Element::Optional(inner), rest @ ..] => {
            let begins = follow(&inner[..1], line, at, None).is_some();
            let with = begins && {
                let mut spans: Spans = [(0, 0); MOST];
                follow(inner, line, at, Some(&mut spans)).is_some_and(|end| reaches(rest, line, end))
            };
            with || reaches(rest, line, at)
        }
        [element, rest @ ..] => match follow(std::slice::from_ref(element), line, at, None) {
            Some(end) => reaches(rest, line, end),
            None => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::rows::text;

    fn header(pattern: &str, format: Option<&str>) -> Header {
        Header::new(pattern, format.map(|f| TimeFormat::new(f).unwrap())).unwrap()
    }

    /// Level, component, message, and the session by a field.
    fn read(pattern: &str, session: &str, line: &str) -> Result<[String; 4], &'static str> {
        let mut header = header(pattern, None);
        header.session_field(session).unwrap();
        let mut clock = Clock::default();
        let parts = header.parts(line.as_bytes(), &mut clock)?;
        Ok([parts.level, parts.component, parts.message, parts.session].map(|p| text(p).into_owned()))
    }

    #[test]
    fn header_lines_of_many_logs() {
        for (pattern, session, line, expected) in [
            (
                "<Date> <Time> <Pid> <Level> <Component>: <Content>",
                "pid",
                "081109 203615 148 INFO dfs.DataNode$X: Receiving block: blk_3",
                ["INFO", "dfs.DataNode$X", "Receiving block: blk_3", "148"],
            ),
            (
                "<Date> <Time> <Level> [<Thread>] <Component>: <Content>",
                "Thread",
                "2015-10-18 18:01:47,978  INFO [RMComm Allocator] org.a.B: got 3",
                ["INFO", "org.a.B", "got 3", "RMComm Allocator"],
            ),
            (
                r"<Month> <Day> <Time> <Host> <Component>(\[<Pid>\])?: <Content>",
                "pid",
                "Jun  9 06:06:01 combo sshd(pam_unix)[77]: check pass; user unknown",
                ["", "sshd(pam_unix)", "check pass; user unknown", "77"],
            ),
            (
                r"<Month> <Day> <Time> <Host> <Component>(\[<Pid>\])?: <Content>",
                "pid",
                "Jun 19 04:08:57 combo logrotate: ALERT [x]: 1",
                ["", "logrotate", "ALERT [x]: 1", ""],
            ),
            (
                "<Time>|<Component>|<Pid>|<Content>",
                "Pid",
                "20171223-22:15:29:606|Step_LSC|30002312|onStandStepChanged 3579",
                ["", "Step_LSC", "onStandStepChanged 3579", "30002312"],
            ),
            (
                "[<Time>] <Program> - <Content>",
                "program",
                "[10.30 16:49:06] chrome.exe *64 - proxy.cse.cuhk.edu.hk:5070 open through proxy - x",
                ["", "chrome.exe *64", "proxy.cse.cuhk.edu.hk:5070 open through proxy - x", "chrome.exe *64"],
            ),
            (
                r#"<Host> <User> \[<Time>\] "<Message>" <Status> <Bytes>"#,
                "Status",
                "10.0.0.1 - [17/Oct/2000:13:55:36 -0700] \"GET /a HTTP/1.0\" 200 2326",
                ["", "", "GET /a HTTP/1.0", "200"],
            ),
        ] {
            assert_eq!(read(pattern, session, line), Ok(expected.map(str::to_owned)), "{line}");
        }
        let malformed = |line| read("<Date> <Level> <Component>: <Content>", "date", line).is_err();
        assert!(malformed("") && malformed("a b c") && malformed("a b") && !malformed("a b c: "));
        assert!(read("<A> <Content>x", "A", "1 2xx").unwrap_err().contains("goes on"));
    }

    #[test]
    fn the_time_is_one_field_or_several() {
        let mut clock = Clock::default();
        let mut time = |pattern, format, line: &str| {
            header(pattern, Some(format)).parts(line.as_bytes(), &mut clock).map(|p| p.time)
        };
        let start = 1_226_262_975_000_000;
        assert_eq!(time("<Date> <Time> <Content>", "%y%m%d %H%M%S", "081109 203615 x"), Ok(start));
        assert_eq!(time("<Time> of <Date>: <Content>", "%T of %F", "20:36:15 of 2008-11-09: x"), Ok(start));
        assert_eq!(time("<Time> <Host> <Date> <Content>", "%T %F", "20:36:15 a 2008-11-09 x"), Ok(start));
        assert_eq!(time("<Date> <Timestamp> <Content>", "%s", "y 1226262975 x"), Ok(start));
        assert!(time("<Time> <Content>", "%F", "noon x").unwrap_err().contains("timestamp_format"));
    }

    #[test]
    fn a_wrong_pattern_says_what_is_wrong() {
        for (pattern, why) in [
            ("<Date> <Level>", "no field `<Content>`"),
            ("<A><Content>", "nothing certain"),
            ("<A>( x)?<Content>", "nothing certain"),
            ("<Content>( x)?", "nothing certain"),
            ("<A> <a> <Content>", "twice"),
            ("<A>(<B>)?: <Content>", "begin and end"),
            (&(0..20).map(|i| format!("<A{i}> ")).collect::<String>(), "more than 16"),
        ] {
            let error = Header::new(pattern, None).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
        assert_eq!(header("<A> <Content>", None).session_field("b"), Err(vec!["A".to_owned(), "Content".to_owned()]));
    }
}
