//! Guesses on lines of many logs.

use super::*;
use crate::testing::real_data;

/// What is guessed: the format, how its time is written, and the first session key.
fn guess(log: &str) -> (String, String, String) {
    let found = detect(log.as_bytes(), 2008);
    let params = &found.params;
    (params.format.to_string(), params.timestamp_format.clone().unwrap_or_default(), inline(&params.session))
}

/// Lines of a pattern, `{i}`, `{j}` and `{s}` in it replaced by a counter, a third of it, and seconds.
fn lines(pattern: &str) -> String {
    (0..30u8)
        .map(|i| {
            let line = pattern.replace("{i}", &i.to_string()).replace("{j}", &(100 + i / 3).to_string());
            line.replace("{s}", &format!("{:02}", 10 + i)) + "\n"
        })
        .collect()
}

#[test]
fn formats_of_many_logs_are_recognised() {
    for (log, format, time, session) in [
        ("081109 2036{s} 1{j} INFO dfs.DataNode$X: got blk_{j} of {i}", "hdfs", "", r"'blk_-?\d+'"),
        (
            "2015-10-18 18:01:{s},978 INFO [main {j}] org.apache.hadoop.mapreduce.X: Created {i}",
            "<Date> <Time> <Level> [<Thread>] <Component>: <Content>",
            "%Y-%m-%d %H:%M:%S,%f",
            "{ field: 'Thread' }",
        ),
        (
            "2024-01-15 10:00:{s}.123 [http-{j}] WARN  c.e.Shop - order of session=a{j} {i}",
            "<Date> <Time> [<Thread>] <Level> <Component> - <Content>",
            "%Y-%m-%d %H:%M:%S.%f",
            r#"'(?i)\bsession[ _-]?(?:id)?["'']?\s?[=:]\s?["'']?([\w.-]+)'"#,
        ),
        (
            "2024-01-15 10:00:{s},123 - app.db - ERROR - lost {i} of request_id={j}",
            "<Date> <Time> - <Component> - <Level> - <Content>",
            "%Y-%m-%d %H:%M:%S,%f",
            r#"'(?i)\breq(?:uest)?[ _-]?(?:id)?["'']?\s?[=:]\s?["'']?([\w.-]+)'"#,
        ),
        (
            "2024-01-15T10:00:{s}.123Z  INFO 1 --- [nio-{j}] c.e.App : started {i}",
            "<Time> <Level> <Pid> --- [<Thread>] <Component> : <Content>",
            "%Y-%m-%dT%H:%M:%S.%f%z",
            "{ field: 'Thread' }",
        ),
        (
            "2015-07-29 17:41:{s},747 - INFO  [QuorumPeer[myid=1]/0:0:0:0:2181:Fast@{j}] - Notification {i}",
            "<Date> <Time> - <Level> [<Component>] - <Content>",
            "%Y-%m-%d %H:%M:%S,%f",
            "{ field: 'Component' }",
        ),
        (
            "17/06/09 20:10:{s} INFO storage.BlockManager: Running task {i}.0 in stage 1.0 (TID {j})",
            "<Date> <Time> <Level> <Component>: <Content>",
            "%y/%m/%d %H:%M:%S",
            r"'\bTID (\d+)'",
        ),
        (
            "03-17 16:13:{s}.811  1{j}  2{j} D PowerManagerService: release:lock={i}, flg=0x0",
            "<Date> <Time> <Pid> <Tid> <Level> <Component>: <Content>",
            "%m-%d %H:%M:%S.%f",
            "{ field: 'Pid' }",
        ),
        (
            "[Sun Dec 04 04:47:{s} 2005] [notice] jk2_init() Found child {i} of 10.0.0.{j}",
            "[<Time>] [<Level>] <Content>",
            "%a %b %d %H:%M:%S %Y",
            r"'\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b'",
        ),
        (
            "20171223-22:15:{s}:606|Step_LSC|3{j}|onStandStepChanged {i}",
            "<Time>|<Component>|<Pid>|<Content>",
            "%Y%m%d-%H:%M:%S:%f",
            "{ field: 'Pid' }",
        ),
        (
            "[10.30 16:49:{s}] chrome.exe *64 - proxy.cse.cuhk.edu.hk:{j} open through proxy {i}",
            "[<Time>] <Program> - <Content>",
            "%m.%d %H:%M:%S",
            "none",
        ),
        (
            "2016-09-28 04:30:{s}, Info                  CBS    Loaded Servicing Stack v6.{i} of {j}",
            "<Date> <Time>, <Level> <Component> <Content>",
            "%Y-%m-%d %H:%M:%S",
            "none",
        ),
        (
            "134{i} node-{j} unix.hw state_change.unavailable 10770048{s} 1 Component State Change {i}",
            "<LogId> <Node> <Component> <State> <Timestamp> <Flag> <Content>",
            "%s",
            "{ field: 'Node' }",
        ),
        (
            "- 11315664{s} 2005.11.09 dn{j} Nov 9 12:01:01 dn{j}/dn{j} crond(pam_unix)[2{j}]: session closed {i}",
            r"<Label> <Timestamp> <Day_of_log> <Host> <Mon> <Mday> <Clock> <Location> <Component>(\[<Pid>\])?: <Content>",
            "%s",
            "{ field: 'Pid' }",
        ),
        ("Dec 10 06:55:{s} LabSZ sshd[24{j}]: Received disconnect {i}", "syslog", "", "{ field: 'pid' }"),
        ("<34>1 2003-10-11T22:14:{s}Z h{j} app 7 ID{i} - got it {i}", "syslog", "", "{ field: 'host' }"),
        (
            "{\"ts\":17000000{s},\"level\":\"info\",\"msg\":\"got {i}\",\"trace\":{\"id\":\"t{j}\"}}",
            "json",
            "",
            "{ field: 'trace.id' }",
        ),
        (
            "10.0.0.{j} - - [17/Oct/2000:13:55:{s} -0700] \"GET /a{i} HTTP/1.0\" 200 2326",
            "<Host> <Ident> <User> [<Timestamp>] \"<Content>\" <Status> <Bytes>",
            "%d/%b/%Y:%H:%M:%S %z",
            "{ field: 'Host' }",
        ),
        ("just words {i} and no time", "plain", "", "none"),
    ] {
        assert_eq!(guess(&lines(log)), (format.to_owned(), time.to_owned(), session.to_owned()), "{log}");
    }
}

#[test]
fn days_and_months_are_told_apart_and_stack_traces_are_no_obstacle() {
    let days: String = (1..=20).map(|d| format!("{d:02}/03/2024 10:00:00 INFO a: x {d}\n")).collect();
    assert_eq!(guess(&days).1, "%d/%m/%Y %H:%M:%S");
    let trace = "\tat java.lang.Thread.run(Thread.java:745)\n".repeat(3);
    let log: String = (10..40)
        .map(|s| format!("2024-03-01 10:00:{s} ERROR a.B: failed {s}\njava.io.IOException: x\n{trace}"))
        .collect();
    let found = detect(log.as_bytes(), 2008);
    assert_eq!(found.params.format.to_string(), "<Date> <Time> <Level> <Component>: <Content>");
    assert_eq!((found.lines, found.parsed, found.continued, found.rejected), (150, 30, 120, 0));
    assert!(found.yaml().contains("120 lines continue"), "{}", found.yaml());
    assert_eq!(detect(b"", 2008).params.format, LogFormat::Plain);
    detect(&[0, 255, b'\n', 0xef, 0xbb, 0xbf, b'<', b'\n'], 2008);
}

#[test]
fn the_first_lines_are_shown_as_they_are_parsed() {
    let found =
        detect(lines("Dec 10 06:55:{s} LabSZ sshd[24{j}]: Received disconnect from 10.0.0.{i}").as_bytes(), 2015);
    let row = Row {
        time: Some("2015-12-10T06:55:10Z".to_owned()),
        level: String::new(),
        component: "sshd".to_owned(),
        sessions: vec!["24100".to_owned()],
        template: "Received disconnect from <ip>".to_owned(),
    };
    assert_eq!(found.rows[0], row);
    assert_eq!(found.rows.len(), 10);
}

#[test]
fn five_real_logs_are_recognised() {
    let Some(data) = real_data() else { return };
    for (set, format, session) in [
        ("HDFS", "hdfs", r"'blk_-?\d+'"),
        (
            "BGL",
            "<Label> <Epoch> <Day_of_log> <Node> <Timestamp> <Location> <Type> <Component> <Level> <Content>",
            "{ field: 'Node' }",
        ),
        ("Hadoop", "<Date> <Time> <Level> [<Thread>] <Component>: <Content>", "{ field: 'Thread' }"),
        ("Linux", "syslog", "{ field: 'pid' }"),
        (
            "OpenStack",
            "<File> <Date> <Time> <Pid> <Level> <Component> [<Request>] <Content>",
            r"'req-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'",
        ),
    ] {
        let head = read_head(&data.join(format!("loghub2k/{set}_2k.log"))).unwrap();
        let found = detect(&head, 2005);
        assert_eq!(found.params.format.to_string(), format);
        assert_eq!(found.parsed, 2000, "{set}");
        assert_eq!(inline(&found.params.session), session, "{set}");
    }
}
