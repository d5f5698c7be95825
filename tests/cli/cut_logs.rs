//! A log is one log however it is cut: in one file, rotated, read at once or by a stage mapped over files or pieces.

use std::fmt::Write as _;

use crate::support::Project;

const REST: &str = r#"
  templates:
    uses: templates
    in: { events: data/events/ }
    out: { templates: data/templates.csv, map: data/map.csv }
  sessionize:
    uses: sessionize
    in: { events: data/events/, templates: data/templates.csv, map: data/map.csv }
    out: { sessions: data/sessions.parquet, summary: data/sessions.json }
  label:
    uses: label
    in: { sessions: data/sessions.parquet, templates: data/templates.csv }
    out: { labels: data/labels.csv, types: data/types.csv }
  split:
    uses: split
    in: { sessions: data/sessions.parquet, labels: data/labels.csv }
    out: { split: data/split.parquet }
  featurize:
    uses: featurize
    in: { sessions: data/sessions.parquet, templates: data/templates.csv, split: data/split.parquet }
    out: { features: data/features/ }
"#;

/// The pipeline, reading `logs`, with more keys for `parse`.
fn pipeline(logs: &str, more: &str) -> String {
    format!(
        "version: 1\nname: cut\nstages:\n  parse:\n    uses: parse\n    in: {{ log: \"{logs}\" }}\n    out: {{ events: data/events/ }}\n{more}{REST}"
    )
}

fn log(lines: usize) -> String {
    let mut text = String::new();
    for i in 0..lines {
        let (second, block) = (i / 20, (i / 30 + (i * 7919) % 40) as i64 - 20);
        let message = match i % 9 {
            0 => format!("BLOCK* NameSystem.allocateBlock: /user/root/part-{i:05}. blk_{block}"),
            1 => format!("PacketResponder {} for block blk_{block} terminating", i % 3),
            2 => format!("BLOCK* ask 10.0.0.{}:50010 to delete blk_{block} blk_{}", i % 9, block + 1),
            3 => format!("Received block blk_{block} of size {i} from /10.0.0.{}", i % 200),
            _ => format!("Receiving block blk_{block} src: /10.0.0.{}:{i} dest: /10.0.0.9:50010", i % 7),
        };
        writeln!(
            text,
            "081109 {:02}{:02}{:02} {} INFO dfs.X{}: {message}",
            second / 3600,
            second / 60 % 60,
            second % 60,
            i % 99,
            i % 2
        )
        .unwrap();
        if i % 97 == 0 {
            text.push_str("no line of this log\n");
        }
    }
    text
}

fn made(project: &Project) -> Vec<(&'static str, Vec<u8>)> {
    let files = [
        "sessions.parquet",
        "templates.csv",
        "labels.csv",
        "types.csv",
        "features/matrix.parquet",
        "features/features.csv",
    ];
    files.map(|name| (name, std::fs::read(project.path(&format!("data/{name}"))).unwrap())).to_vec()
}

/// A log, and what `parse` has to know of it.
struct Cut<'a> {
    text: &'a str,
    with: &'a str,
    /// Lines before which the rotated files are cut.
    lines: &'a [usize],
    /// Sizes of pieces.
    sizes: &'a [&'a str],
}

impl Cut<'_> {
    /// The log in one file.
    fn whole(&self) -> Project {
        let whole = Project::new(&pipeline("raw/a.log", self.with));
        whole.write("raw/a.log", self.text);
        whole.run(&["-j", "1"]).ok();
        whole
    }

    /// Makes the same of the log however it is cut, on one thread and on two.
    fn changes_nothing(&self, whole: &Project) {
        let expected = made(whole);
        let same = |project: &Project, how: &str| {
            for ((name, whole), (_, cut)) in expected.iter().zip(made(project)) {
                assert!(*whole == cut, "{how}: {name}");
            }
        };
        let ends: Vec<usize> = self.text.match_indices('\n').map(|(at, _)| at + 1).collect();
        let inner = self.lines.iter().map(|line| ends[line - 1]);
        let cuts: Vec<usize> = [0].into_iter().chain(inner).chain([self.text.len()]).collect();
        let names =
            (0..=self.lines.len()).rev().map(|n| if n == 0 { "a.log".to_owned() } else { format!("a.log.{n}") });
        let names: Vec<String> = names.collect();
        for threads in ["1", "2"] {
            for more in ["", "    map: log\n"] {
                let rotated = Project::new(&pipeline("raw/a.log*", &format!("{}{more}", self.with)));
                for (name, cut) in names.iter().zip(cuts.windows(2)) {
                    rotated.write(&format!("raw/{name}"), &self.text[cut[0]..cut[1]]);
                }
                rotated.run(&["-j", threads]).ok();
                same(&rotated, &format!("rotated, {more:?}, {threads} threads"));
                for folder in &names {
                    for file in ["rows.parquet", "sessions.parquet", "templates.csv", "parse.json"] {
                        assert!(rotated.path(&format!("data/events/{folder}/{file}")).is_file(), "{folder}/{file}");
                    }
                }
            }
            for size in self.sizes {
                let more = format!("{}    map: {{ slot: log, split: {size} }}\n", self.with);
                let pieces = Project::new(&pipeline("raw/a.log", &more));
                pieces.write("raw/a.log", self.text);
                let ran = pieces.run(&["-j", threads]).ok();
                let items = ran.executed().iter().filter(|name| name.starts_with("parse[")).count();
                assert!(items > 2, "{:?}", ran.executed());
                same(&pieces, &format!("pieces of {size}, {threads} threads"));
                assert_eq!(whole.read("data/sessions.json"), pieces.read("data/sessions.json"), "{size}");
            }
        }
    }
}

#[test]
fn sessions_and_features_do_not_depend_on_how_a_log_is_cut() {
    let text = log(9000);
    let cut = Cut { text: &text, with: "", lines: &[3000, 6001], sizes: &["200KiB"] };
    cut.changes_nothing(&cut.whole());
}

/// A log of two years whose lines do not tell the year: from December over 29 February of the year after the next one,
/// with lines that are late by most of a day, also over New Year.
fn undated(lines: usize) -> String {
    const DAYS: [(&str, u32); 12] = [
        ("Dec", 31),
        ("Jan", 31),
        ("Feb", 28),
        ("Mar", 31),
        ("Apr", 30),
        ("May", 31),
        ("Jun", 30),
        ("Jul", 31),
        ("Aug", 31),
        ("Sep", 30),
        ("Oct", 31),
        ("Nov", 30),
    ];
    // 2022-12-01 to 2024-11-30: 2024 is a leap year.
    let days: Vec<(&str, u32)> = [false, true]
        .iter()
        .flat_map(|leap| DAYS.iter().map(|&(month, days)| (month, days + u32::from(*leap && month == "Feb"))))
        .flat_map(|(month, days)| (1..=days).map(move |day| (month, day)))
        .collect();
    let mut text = String::new();
    for i in 0..lines {
        let hour = (i * days.len() * 24 / lines).saturating_sub(if i % 5 == 0 { 20 } else { 0 });
        let ((month, day), block) = (days[hour / 24], (i / 30 + (i * 7919) % 40) as i64 - 20);
        let what = ["Receiving block", "Received block", "Deleting block"][i % 3];
        writeln!(text, "{month} {day:2} {:02}:{:02}:{:02} host dfs[7]: {what} blk_{block}", hour % 24, i % 60, i % 59)
            .unwrap();
    }
    text
}

#[test]
fn years_that_dates_lack_do_not_depend_on_how_a_log_is_cut() {
    let text = undated(6000);
    let lines: Vec<&str> = text.lines().collect();
    let leap_day = lines.iter().rposition(|line| line.starts_with("Feb 29")).unwrap();
    assert!(lines[leap_day + 1].starts_with("Mar  1"));
    // Before 29 February, in the middle of it and behind it; a late line of December begins a file.
    let new_year =
        lines.windows(2).position(|two| two[0].starts_with("Jan  1") && two[1].starts_with("Dec 31")).unwrap();
    let cut = Cut {
        text: &text,
        with: "    with: { format: syslog, year: 2022 }\n",
        lines: &[new_year + 1, leap_day - 3, leap_day + 1],
        sizes: &["10KiB", "70KiB"],
    };
    let whole = cut.whole();
    let about: serde_json::Value = serde_json::from_str(&whole.read("data/sessions.json")).unwrap();
    let [first, last] = ["first", "last"].map(|name| about[name].as_str().unwrap());
    assert!(first.starts_with("2022-12-01") && last.starts_with("2024-11-30"), "{first} {last}");
    cut.changes_nothing(&whole);
}

/// Entries of several lines, one of them of 40 KiB: some keys stand in lines behind the first alone.
fn traces(entries: usize) -> String {
    let mut text = "\tat the.end(of.a.trace) blk_99999\n\n\tat its.last(line)\n".to_owned();
    for i in 0..entries {
        let (second, block) = (i / 5, i / 10 + (i * 7919) % 40);
        let what = ["Receiving", "Received", "Served", "Deleting"][i % 4];
        let place = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
        writeln!(text, "2008-11-09 {place},{:03} INFO dfs.X{}: {what} block blk_{block}", i % 1000, i % 3).unwrap();
        let lines = if i == entries / 2 {
            1000
        } else if i % 5 == 0 {
            i % 11
        } else {
            0
        };
        for line in 0..lines {
            match line % 7 {
                3 => text.push_str(" \n\n"),
                5 => writeln!(text, "Caused by: java.io.IOException: blk_{} is lost", 50_000 + block + line).unwrap(),
                _ => writeln!(text, "\tat org.apache.hadoop.X.y{line}(X.java:{i}) blk_{}", block + line % 3).unwrap(),
            }
        }
    }
    text
}

#[test]
fn an_entry_of_several_lines_may_be_cut_anywhere() {
    let text = traces(3000);
    let lines: Vec<&str> = text.lines().collect();
    let long = lines.iter().position(|line| line.contains("y800(")).unwrap();
    let blank = lines[long..].iter().position(|line| line.is_empty()).unwrap() + long;
    let with = "    with: { format: '<Date> <Time> <Level> <Component>: <Content>', timestamp_format: '%Y-%m-%d %H:%M:%S,%3f' }\n";
    // In the long entry four times, so that files have lines of no other; before and behind a blank line.
    let cut =
        Cut { text: &text, with, lines: &[1, long - 700, long - 20, blank, blank + 1], sizes: &["7KiB", "90KiB"] };
    let whole = cut.whole();
    let labels = whole.read("data/labels.csv");
    assert!(labels.contains("\nblk_50") && !labels.contains("blk_99999"), "{labels}");
    cut.changes_nothing(&whole);
}

#[test]
fn a_new_rotated_log_is_parsed_alone() {
    let text = log(600);
    let (head, tail) = text.split_at(text.match_indices('\n').nth(300).unwrap().0 + 1);
    let project = Project::new(&pipeline("raw/a.log*", "    map: log\n"));
    project.write("raw/a.log.1", head);
    // A log that was just rotated away is empty.
    project.write("raw/a.log", "");
    project.run(&[]).ok();
    project.write("raw/a.log", tail);
    let ran = project.run(&[]).ok();
    let parsed: Vec<String> = ran.executed().into_iter().filter(|name| name.starts_with("parse")).collect();
    assert_eq!(parsed, ["parse[a.log]"]);
    assert_eq!(project.run(&[]).ok().counts().executed, 0);
}

#[test]
fn the_whole_entry_is_printed_however_it_is_cut() {
    let text = traces(400);
    let long = text.find("y501(").unwrap();
    let caused = |from: usize| {
        let line = &text[from + text[from..].find("Caused by").unwrap()..];
        line.split_whitespace().find(|word| word.starts_with("blk_")).unwrap()
    };
    // Of the first entry with such lines, and of the long one behind its last cut.
    let keys = [caused(0), caused(long + 11_000)];
    let places = [long - 15_000, long + 10_000].map(|at| at + text[at..].find('\n').unwrap() + 1);
    let with = "    with: { format: '<Date> <Time> <Level> <Component>: <Content>', timestamp_format: '%Y-%m-%d %H:%M:%S,%3f' }\n";
    let printed = |project: &Project| -> Vec<String> {
        project.logweir(&["run"]).ok();
        let mut texts = Vec::new();
        for key in keys {
            let said = project.logweir(&["--json", "lines", key]).ok().json();
            let lines = said["sessions"][0]["lines"].as_array().unwrap();
            assert!(lines.iter().all(|line| line["text"].as_str().unwrap().contains(key)));
            texts.extend(lines.iter().map(|line| line["text"].as_str().unwrap().to_owned()));
        }
        texts
    };
    let whole = Project::new(&pipeline("logs/a.log", with));
    whole.write("logs/a.log", &text);
    let expected = printed(&whole);
    assert!(expected.iter().any(|text| text.len() > 30_000));
    for more in ["", "    map: log\n"] {
        let rotated = Project::new(&pipeline("logs/a.log*", &format!("{with}{more}")));
        rotated.write("logs/a.log.2", &text[..places[0]]);
        rotated.write("logs/a.log.1", &text[places[0]..places[1]]);
        rotated.write("logs/a.log", &text[places[1]..]);
        assert!(printed(&rotated) == expected, "{more}");
    }
    let pieces = Project::new(&pipeline("logs/a.log", &format!("{with}    map: {{ slot: log, split: 9KiB }}\n")));
    pieces.write("logs/a.log", &text);
    assert!(printed(&pieces) == expected);
}

#[test]
fn the_raw_lines_of_a_session_are_found_however_the_log_is_cut() {
    let text = log(3000);
    let wanted: Vec<String> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.split_whitespace().any(|word| word == "blk_77"))
        .map(|(at, line)| format!("logs/a.log:{}: {line}", at + 1))
        .collect();
    assert!(wanted.len() > 3);
    for more in ["", "    map: log\n", "    map: { slot: log, split: 20KiB }\n"] {
        let project = Project::new(&pipeline("logs/*.log", more));
        project.write("logs/a.log", &text);
        project.logweir(&["run"]).ok();
        let said = project.logweir(&["lines", "blk_77"]).ok();
        let mut lines: Vec<&str> = said.out.lines().collect();
        lines.sort_by_key(|line| line.split(':').nth(1).unwrap().parse::<u64>().unwrap());
        assert_eq!(lines, wanted, "{more}");
        let json = project.logweir(&["--json", "lines", "blk_77", "blk_76", "--run", "last"]).ok().json();
        let sessions = &json["sessions"];
        assert_eq!((&sessions[0]["session_id"], &sessions[1]["session_id"]), (&"blk_77".into(), &"blk_76".into()));
        assert_eq!(sessions[0]["lines"].as_array().unwrap().len(), wanted.len());
        assert!(sessions[0]["lines"][0]["event_id"].as_str().unwrap().starts_with('T'));

        let none = project.logweir(&["lines", "blk_77x"]).exits(2);
        assert!(
            none.err.contains("no session `blk_77x`") && none.err.contains("did you mean `blk_77`"),
            "{}",
            none.err
        );
        project.write("logs/a.log", &text[5..]);
        let changed = project.logweir(&["lines", "blk_77"]).exits(3);
        assert!(changed.err.contains("was changed after it was parsed"), "{}", changed.err);
    }
}
