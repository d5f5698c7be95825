//! Logs that are written to, rotated and cut while they are read, and while they are not.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::parse::ParseParams;

fn parser() -> LineParser {
    let params: ParseParams = serde_json::from_value(serde_json::json!({"format": "plain"})).unwrap();
    params.parser(&Default::default()).unwrap()
}

struct Log {
    dir: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path("a.log")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn tail(&self, from: Option<&Position>) -> Tail {
        Tail::open(&self.path("a.log"), &parser(), from).unwrap()
    }
}

/// Reads until there was nothing for a while.
fn read(tail: &mut Tail) -> String {
    let (mut all, mut quiet) = (Vec::new(), 0);
    while quiet < 8 {
        match tail.next(7).unwrap() {
            Some(chunk) => {
                all.extend(chunk.bytes);
                quiet = 0;
            }
            None => quiet += 1,
        }
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn a_last_line_waits_for_its_end_and_a_log_that_is_not_there_is_waited_for() {
    let log = Log::new();
    let mut tail = log.tail(None);
    assert_eq!((read(&mut tail), tail.position()), (String::new(), Position::default()));
    log.append("one\ntw");
    assert_eq!(read(&mut tail), "one\n");
    assert_eq!(tail.position().offset, 4);
    log.append("o\nthree\n");
    assert_eq!(read(&mut tail), "two\nthree\n");
}

#[test]
fn rotated_files_are_read_to_their_ends_in_order() {
    for restart in [false, true] {
        let log = Log::new();
        let mut tail = log.tail(None);
        log.append("one\n");
        assert_eq!(read(&mut tail), "one\n");
        log.append("two\nno end");
        log.rename("a.log", "a.log.1");
        log.append("three\n");
        log.rename("a.log.1", "a.log.2");
        log.rename("a.log", "a.log.1");
        log.append("four\n");
        if restart {
            tail = log.tail(Some(&tail.position()));
        }
        assert_eq!(read(&mut tail), "two\nno endthree\nfour\n", "restart: {restart}");
        assert!(tail.notes().is_empty());
        log.append("five\n");
        assert_eq!(read(&mut tail), "five\n");
    }
}

#[test]
fn what_was_in_a_log_that_is_cut_is_read_from_its_copy() {
    for (restart, packed) in [(false, false), (true, false), (true, true)] {
        let log = Log::new();
        let mut tail = log.tail(None);
        log.append("one\n");
        assert_eq!(read(&mut tail), "one\n");
        log.append("two\n");
        fs::copy(log.path("a.log"), log.path("a.log.1")).unwrap();
        File::create(log.path("a.log")).unwrap();
        // Longer than it was: only the bytes tell that it is another.
        log.append("three and more than there was\n");
        if packed {
            let out = File::create(log.path("a.log.1.gz")).unwrap();
            let mut gz = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
            gz.write_all(&fs::read(log.path("a.log.1")).unwrap()).unwrap();
            gz.finish().unwrap();
            fs::remove_file(log.path("a.log.1")).unwrap();
        }
        if restart {
            tail = log.tail(Some(&tail.position()));
        }
        assert_eq!(read(&mut tail), "two\nthree and more than there was\n", "{restart} {packed}");
        assert!(tail.notes().is_empty());
    }
}

#[test]
fn what_is_lost_is_said() {
    let log = Log::new();
    let mut tail = log.tail(None);
    log.append("one\ntwo\n");
    read(&mut tail);
    File::create(log.path("a.log")).unwrap();
    log.append("x\n");
    assert_eq!(read(&mut tail), "x\n");
    assert!(tail.notes()[0].contains("is not scored"));
}

#[test]
fn every_place_goes_on_with_the_next_line() {
    let log = Log::new();
    let lines: Vec<String> = (0..40).map(|i| format!("line {i} {}\n", "x".repeat(i * 7 % 30))).collect();
    let mut tail = log.tail(None);
    let (mut places, mut all) = (vec![tail.position()], String::new());
    for (number, line) in lines.iter().enumerate() {
        log.append(line);
        if number % 9 == 8 {
            for old in (1..8).rev().filter(|old| log.path(&format!("a.log.{old}")).exists()) {
                log.rename(&format!("a.log.{old}"), &format!("a.log.{}", old + 1));
            }
            log.rename("a.log", "a.log.1");
        }
        all += &read(&mut tail);
        places.push(tail.position());
    }
    log.append("last\n");
    all += &read(&mut tail);
    assert_eq!(all, lines.concat() + "last\n");
    for (number, place) in places.iter().enumerate().skip(1) {
        let rest = read(&mut log.tail(Some(place)));
        assert_eq!(rest, lines[number..].concat() + "last\n", "after {number} lines, {place:?}");
    }
}

#[test]
fn a_line_that_is_too_long_is_cut_short() {
    let log = Log::new();
    let mut tail = log.tail(None);
    log.append("one\n");
    log.append(&"x".repeat(3 * MOST));
    log.append("\ntwo\n");
    let mut all = Vec::new();
    for _ in 0..20 {
        if let Some(chunk) = tail.next(1 << 19).unwrap() {
            all.push((chunk.offset, chunk.bytes.len()));
        }
    }
    let end = 4 + 3 * MOST as u64 + 1;
    assert_eq!(tail.position().offset, end + 4);
    assert!(all.iter().all(|(_, bytes)| *bytes <= 2 * MOST), "{all:?}");
    log.append("three\n");
    assert_eq!(read(&mut tail), "three\n");
    assert_eq!(Tail::end_of(&log.path("a.log")).unwrap().offset, end + 10);
}

#[test]
fn an_entry_of_several_lines_waits_until_the_next_starts_or_nothing_comes() {
    let params = serde_json::json!({"format": "plain", "multiline": {"start": "^[a-z]"}});
    let params: ParseParams = serde_json::from_value(params).unwrap();
    let parser = params.parser(&Default::default()).unwrap();
    let log = Log::new();
    log.append("one\n 1\ntwo\n 2\n");
    let mut tail = Tail::open(Path::new(&log.path("a.log")), &parser, None).unwrap();
    let mut chunks = Vec::new();
    for _ in 0..10 {
        chunks.extend(tail.next(1 << 10).unwrap().map(|chunk| String::from_utf8(chunk.bytes).unwrap()));
    }
    assert_eq!(chunks, ["one\n 1\n", "two\n 2\n"]);
}
