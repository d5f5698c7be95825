//! Grouping accuracy on real logs with known templates (loghub, 2,000 lines a set), and on lines of other known logs.
//!
//! Only what a user can write in a pipeline is used: a line format each, and for one set two masks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::{Growth, LocalTemplate, globalize};
use crate::drain::Limits;
use crate::logs::given::GivenTemplates;
use crate::logs::rows::text;
use crate::logs::scan::scan_log;
use crate::parse::ParseParams;
use crate::testing::real_data;

/// How lines were grouped, against the truth.
struct Grouping {
    /// Share of lines whose group is exactly a true one (Zhu et al., *Tools and Benchmarks for Automated Log Parsing*,
    /// ICSE 2019).
    accuracy: f64,
    /// F1 of groups (Jiang et al., *LOGPUB*, ISSTA 2024): each counts alike, however many lines it has.
    f1: f64,
}

/// The templates of lines by their numbers, as the stages `parse` and `templates` find them with these parameters.
fn templates_of(log: &Path, with: &Value) -> BTreeMap<u64, (u32, String)> {
    let params: ParseParams = logweir_engine::stage::read_params(with).unwrap();
    let parser = params.parser(&GivenTemplates::default()).unwrap();
    let mut lines = Vec::new();
    let (tables, _) = scan_log(log, &parser, |rows, _| {
        let numbered =
            |(&line, &form): (&u32, &u32)| (rows.lines_before + u64::from(line), rows.numbers.form[form as usize]);
        lines.extend(rows.line.iter().zip(&rows.form).map(numbered));
        Ok(())
    })
    .unwrap();
    let local = |form: &[u8]| LocalTemplate { text: text(form).into_owned(), count: 1, name: None };
    let local: Vec<LocalTemplate> = tables.names.forms.iter().map(local).collect();
    let global = globalize(&[local], &[], Limits::default(), Growth::Extend).unwrap();
    let number = |form: u32| global.map[0][form as usize];
    lines
        .into_iter()
        .map(|(line, form)| (line, (number(form), global.templates[number(form) as usize].text.clone())))
        .collect()
}

fn grouping(log: &Path, structured: &Path, with: &Value) -> Grouping {
    let templates = templates_of(log, with);
    let mut reader = csv::Reader::from_path(structured).unwrap();
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|h| h == name).unwrap();
    let (line, event) = (column("LineId"), column("EventId"));
    let mut found: BTreeMap<Option<u32>, BTreeSet<u64>> = BTreeMap::new();
    let mut wanted: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for record in reader.records() {
        let record = record.unwrap();
        let line: u64 = record[line].parse().unwrap();
        found.entry(templates.get(&line).map(|t| t.0)).or_default().insert(line);
        wanted.entry(record[event].to_owned()).or_default().insert(line);
    }
    let wanted: BTreeSet<&BTreeSet<u64>> = wanted.values().collect();
    let right: Vec<usize> = found.values().filter(|lines| wanted.contains(lines)).map(BTreeSet::len).collect();
    let all: usize = wanted.iter().map(|lines| lines.len()).sum();
    let (precision, recall) = (right.len() as f64 / found.len() as f64, right.len() as f64 / wanted.len() as f64);
    Grouping {
        accuracy: right.iter().sum::<usize>() as f64 / all as f64,
        f1: if right.is_empty() { 0.0 } else { 2.0 * precision * recall / (precision + recall) },
    }
}

#[test]
fn grouping_accuracy_on_five_real_logs() {
    let Some(data) = real_data() else { return };
    let (mut accuracy, mut f1) = (0.0, 0.0);
    let sets = [
        ("HDFS", 1.0, json!({})),
        (
            "BGL",
            0.98,
            json!({
                "format": "<Label> <Epoch> <Day> <Node> <Timestamp> <Location> <Type> <Component> <Level> <Content>",
                "timestamp_format": "%Y-%m-%d-%H.%M.%S.%f",
            }),
        ),
        (
            "Hadoop",
            0.97,
            json!({
                "format": "<Date> <Time> <Level> [<Thread>] <Component>: <Content>",
                "timestamp_format": "%Y-%m-%d %H:%M:%S,%f",
            }),
        ),
        (
            "Linux",
            0.95,
            json!({
                "format": "syslog",
                "year": 2005,
                "masks": {"custom": [
                    {"name": "user", "regex": r"session (?:opened|closed) for user (\w+)"},
                    {"name": "host", "regex": r"rhost=(\S+)"},
                ]},
            }),
        ),
        (
            "OpenStack",
            1.0,
            json!({
                "format": "<File> <Date> <Time> <Pid> <Level> <Component> [<Request>] <Content>",
                "timestamp_format": "%Y-%m-%d %H:%M:%S.%f",
            }),
        ),
    ];
    for (set, least, with) in &sets {
        let place = |end: &str| data.join(format!("loghub2k/{set}_2k.log{end}"));
        let found = grouping(&place(""), &place("_structured.csv"), with);
        eprintln!("{set}: grouping accuracy {:.4}, F1 of groups {:.4}", found.accuracy, found.f1);
        assert!(found.accuracy >= *least, "{set}: {}", found.accuracy);
        accuracy += found.accuracy;
        f1 += found.f1;
    }
    let count = sets.len() as f64;
    eprintln!("mean: grouping accuracy {:.4}, F1 of groups {:.4}", accuracy / count, f1 / count);
    assert!(accuracy / count > 0.98 && f1 / count > 0.9);
}

/// A set, how it is parsed, and its lines with numbers of their templates.
type Lines = (&'static str, Value, &'static [(&'static str, u32)]);

/// Lines of logs whose shape is well known, and how their messages should be grouped: same number, same template.
#[test]
fn lines_of_other_known_logs_are_grouped_as_people_would() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let timed = |format: &str, time: &str| json!({"format": format, "timestamp_format": time, "year": 2015});
    let sets: [Lines; 11] = [
        (
            "Android",
            timed("<Date> <Time> <Pid> <Tid> <Level> <Component>: <Content>", "%m-%d %H:%M:%S.%f"),
            &[
                (
                    "03-17 16:13:38.819  1702  8671 D PowerManagerService: release:lock=166121161, flg=0x0, tag=\"RILJ\", name=com.android.phone\"",
                    1,
                ),
                (
                    "03-17 16:13:38.839  1702  2113 V WindowManager: Skipping AppWindowToken{2df0798e token=Token{178af589 ActivityRecord{33b04890 u0 com.tencent.qt.qtl/com.tencent.video.player.activity.PlayerActivity t761}}} -- going to hide",
                    2,
                ),
                (
                    "03-17 16:13:38.859  1702  2113 V WindowManager: Skipping AppWindowToken{11f0798a token=Token{7a8af581 ActivityRecord{4b048911 u0 com.tencent.qt.qtl/com.tencent.video.player.activity.PlayerActivity t764}}} -- going to hide",
                    2,
                ),
                (
                    "03-17 16:13:38.899  1702  8671 D PowerManagerService: release:lock=62617001, flg=0x1, tag=\"RILJ\", name=com.android.phone\"",
                    1,
                ),
            ],
        ),
        (
            "Apache",
            json!({"format": "[<Time>] [<Level>] <Content>", "timestamp_format": "%a %b %d %H:%M:%S %Y"}),
            &[
                ("[Sun Dec 04 04:47:44 2005] [notice] workerEnv.init() ok /etc/httpd/conf/workers2.properties", 1),
                ("[Sun Dec 04 04:47:44 2005] [error] mod_jk child workerEnv in error state 6", 2),
                ("[Sun Dec 04 04:51:08 2005] [notice] jk2_init() Found child 6725 in scoreboard slot 10", 3),
                ("[Sun Dec 04 04:51:09 2005] [error] mod_jk child workerEnv in error state 7", 2),
                ("[Sun Dec 04 04:51:18 2005] [notice] jk2_init() Found child 6 in scoreboard slot 9", 3),
                (
                    "[Sun Dec 04 05:15:09 2005] [error] [client 222.166.160.184] Directory index forbidden by rule: /var/www/html/",
                    4,
                ),
                (
                    "[Sun Dec 04 07:45:45 2005] [error] [client 63.13.186.196] Directory index forbidden by rule: /var/www/x/",
                    4,
                ),
            ],
        ),
        (
            "HPC",
            timed("<LogId> <Node> <Component> <State> <Timestamp> <Flag> <Content>", "%s"),
            &[
                (
                    "134681 node-246 unix.hw state_change.unavailable 1077804742 1 Component State Change: Component \\042alt0\\042 is in the unavailable state (HWID=3180)",
                    1,
                ),
                (
                    "350766 node-109 unix.hw state_change.unavailable 1084680778 1 Component State Change: Component \\042alt0\\042 is in the unavailable state (HWID=3182)",
                    1,
                ),
                ("2567 gige1 gige temperature 1097608712 1 Temperature (41C) exceeds warning threshold", 2),
                ("2568 gige7 gige temperature 1097608713 1 Temperature (38C) exceeds warning threshold", 2),
                ("3011 node-1 node psu 1097608714 1 ambient=29", 3),
                ("3012 node-7 node psu 1097608715 1 ambient=31", 3),
            ],
        ),
        (
            "HealthApp",
            timed("<Time>|<Component>|<Pid>|<Content>", "%Y%m%d-%H:%M:%S:%f"),
            &[
                ("20171223-22:15:29:606|Step_LSC|30002312|onStandStepChanged 3579", 1),
                ("20171223-22:15:29:615|Step_LSC|30002312|onExtend:1514038530000 14 0 4", 2),
                (
                    "20171223-22:15:29:633|Step_StandReportReceiver|30002312|onReceive action: android.intent.action.SCREEN_ON",
                    3,
                ),
                (
                    "20171223-22:15:29:635|Step_LSC|30002312|processHandleBroadcastAction action:android.intent.action.SCREEN_ON",
                    4,
                ),
                ("20171223-22:15:29:635|Step_StandStepCounter|30002312|flush sensor data", 5),
                (
                    "20171223-22:15:29:737|Step_SPUtils|30002312|getTodayTotalDetailSteps = 1514038440000##6993##548365##8661##12266##27164404",
                    6,
                ),
                ("20171223-22:15:30:737|Step_LSC|30002312|onStandStepChanged 3586", 1),
                ("20171223-22:15:30:738|Step_LSC|30002312|onExtend:1514038531000 3 0 4", 2),
                (
                    "20171223-22:15:30:739|Step_SPUtils|30002312|getTodayTotalDetailSteps = 1514038440000##7007##548365##8661##12361##27173954",
                    6,
                ),
            ],
        ),
        (
            "Mac",
            json!({"format": "syslog", "year": 2017}),
            &[
                (
                    "Jul  1 09:00:55 calvisitor-10-105-160-95 kernel[0]: ARPT: 620701.011328: AirPort_Brcm43xx::syncPowerState: WWEN[enabled]",
                    1,
                ),
                (
                    "Jul  1 09:01:05 calvisitor-10-105-160-95 com.apple.CDScheduler[43]: Thermal pressure state: 1 Memory pressure state: 0",
                    2,
                ),
                ("Jul  1 09:01:06 calvisitor-10-105-160-95 QQ[10018]: FA||Url||taskID[2019352994] dealloc", 3),
                (
                    "Jul  1 09:02:26 calvisitor-10-105-160-95 kernel[0]: ARPT: 620749.901374: AirPort_Brcm43xx::syncPowerState: WWEN[enabled]",
                    1,
                ),
                ("Jul  1 09:03:13 calvisitor-10-105-160-95 QQ[10018]: FA||Url||taskID[2019352999] dealloc", 3),
                ("Jul  1 09:04:37 authorMacBook-Pro kernel[0]: en0: BSSID changed to 5c:50:15:4c:18:13", 4),
                ("Jul  1 09:06:19 authorMacBook-Pro kernel[0]: en0: BSSID changed to 64:d9:89:6b:b5:33", 4),
            ],
        ),
        (
            "OpenSSH",
            json!({"format": "syslog", "year": 2015}),
            &[
                (
                    "Dec 10 06:55:46 LabSZ sshd[24200]: Received disconnect from 173.234.31.186: 11: Bye Bye [preauth]",
                    1,
                ),
                ("Dec 10 07:02:47 LabSZ sshd[24203]: Connection closed by 212.47.254.145 [preauth]", 2),
                (
                    "Dec 10 07:07:45 LabSZ sshd[24206]: Failed password for invalid user test9 from 52.80.34.196 port 36060 ssh2",
                    3,
                ),
                (
                    "Dec 10 07:08:28 LabSZ sshd[24208]: Received disconnect from 173.234.31.187: 11: Bye Bye [preauth]",
                    1,
                ),
                ("Dec 10 07:11:42 LabSZ sshd[24224]: Connection closed by 202.100.179.208 [preauth]", 2),
                ("Dec 10 07:13:43 LabSZ sshd[24227]: Failed password for root from 5.36.59.76 port 42393 ssh2", 4),
                ("Dec 10 07:13:56 LabSZ sshd[24227]: Failed password for root from 5.36.59.77 port 4 ssh2", 4),
            ],
        ),
        (
            "Proxifier",
            timed("[<Time>] <Program> - <Content>", "%m.%d %H:%M:%S"),
            &[
                (
                    "[10.30 16:49:06] chrome.exe - proxy.cse.cuhk.edu.hk:5070 open through proxy proxy.cse.cuhk.edu.hk:5070 HTTPS",
                    1,
                ),
                (
                    "[10.30 16:49:06] chrome.exe *64 - proxy.cse.cuhk.edu.hk:5070 close, 403 bytes sent, 426 bytes received, lifetime 00:01",
                    2,
                ),
                (
                    "[10.30 16:49:07] chrome.exe - proxy.cse.cuhk.edu.hk:5070 close, 1165 bytes (1.13 KB) sent, 815 bytes received, lifetime 00:01",
                    3,
                ),
                (
                    "[10.30 16:49:08] chrome.exe *64 - proxy.cse.cuhk.edu.hk:5070 close, 0 bytes sent, 0 bytes received, lifetime 00:09",
                    2,
                ),
                (
                    "[10.30 16:49:09] chrome.exe - proxy.cse.cuhk.edu.hk:5070 close, 1165000 bytes (1.11 MB) sent, 8 bytes received, lifetime 10:01",
                    3,
                ),
            ],
        ),
        (
            "Spark",
            timed("<Date> <Time> <Level> <Component>: <Content>", "%y/%m/%d %H:%M:%S"),
            &[
                ("17/06/09 20:10:40 INFO executor.Executor: Running task 0.0 in stage 0.0 (TID 0)", 1),
                (
                    "17/06/09 20:10:40 INFO storage.MemoryStore: Block broadcast_9 stored as values in memory (estimated size 384.0 B, free 317.5 KB)",
                    2,
                ),
                ("17/06/09 20:10:41 INFO storage.BlockManager: Found block rdd_42_20 locally", 3),
                ("17/06/09 20:10:42 INFO executor.Executor: Running task 39.0 in stage 25.0 (TID 1234)", 1),
                (
                    "17/06/09 20:10:43 INFO storage.MemoryStore: Block broadcast_7 stored as values in memory (estimated size 5.2 KB, free 1.5 MB)",
                    2,
                ),
                ("17/06/09 20:10:44 INFO storage.BlockManager: Found block rdd_2_3 locally", 3),
                (
                    "17/06/09 20:10:45 INFO storage.MemoryStore: Block broadcast_7 stored as values in memory (estimated size 5.2 KB, free 317.5 KB)",
                    2,
                ),
            ],
        ),
        (
            "Thunderbird",
            timed(
                r"<Label> <Timestamp> <Day> <Host> <Month> <Mday> <Clock> <Location> <Component>(\[<Pid>\])?: <Content>",
                "%s",
            ),
            &[
                (
                    "- 1131566461 2005.11.09 dn228 Nov 9 12:01:01 dn228/dn228 crond(pam_unix)[2915]: session closed for user root",
                    1,
                ),
                (
                    "- 1131566461 2005.11.09 tbird-admin1 Nov 9 12:01:01 local@tbird-admin1 /apps/x86_64/system/ganglia-3.0.1/sbin/gmetad[1682]: data_thread() got not answer from any [Thunderbird_A8] datasource",
                    2,
                ),
                (
                    "- 1131566463 2005.11.09 dn3 Nov 9 12:01:03 dn3/dn3 ntpd[2915]: synchronized to 10.100.16.250, stratum 3",
                    3,
                ),
                (
                    "- 1131566464 2005.11.09 tbird-admin1 Nov 9 12:01:01 local@tbird-admin1 /apps/x86_64/system/ganglia-3.0.1/sbin/gmetad[1682]: data_thread() got not answer from any [Thunderbird_A5] datasource",
                    2,
                ),
                (
                    "- 1131566465 2005.11.09 dn7 Nov 9 12:01:05 dn7/dn7 ntpd[2917]: synchronized to 10.100.18.250, stratum 2",
                    3,
                ),
            ],
        ),
        (
            "Windows",
            timed("<Date> <Time>, <Level> <Component> <Content>", "%Y-%m-%d %H:%M:%S"),
            &[
                (
                    "2016-09-28 04:30:30, Info                  CBS    Loaded Servicing Stack v6.1.7601.23505 with Core: cbscore.dll",
                    1,
                ),
                (
                    "2016-09-28 04:30:31, Info                  CSI    00000001@2016/9/27:20:30:31.455 WcpInitialize (wcp.dll version 0.0.0.6) called (stack @0x7fed806eb5d @0x7fef9fb9b6d)",
                    2,
                ),
                (
                    "2016-09-28 04:30:31, Info                  CBS    Session: 30546173_4261722401 initialized by client WindowsUpdateAgent.",
                    3,
                ),
                (
                    "2016-09-28 04:30:32, Info                  CSI    00000002@2016/9/27:20:30:31.458 WcpInitialize (wcp.dll version 0.0.0.6) called (stack @0x7fed806eb5d @0x7fef9f86d0f)",
                    2,
                ),
                (
                    "2016-09-28 04:30:33, Info                  CBS    Session: 30546174_4261722 initialized by client WindowsUpdateAgent.",
                    3,
                ),
                (
                    "2016-09-28 04:30:34, Info                  CBS    Loaded Servicing Stack v6.1.1.2 with Core: cbscore.dll",
                    1,
                ),
            ],
        ),
        (
            "Zookeeper",
            timed("<Date> <Time> - <Level> [<Component>] - <Content>", "%Y-%m-%d %H:%M:%S,%f"),
            &[
                (
                    "2015-07-29 17:41:44,747 - INFO  [QuorumPeer[myid=1]/0:0:0:0:0:0:0:0:2181:FastLeaderElection@774] - Notification time out: 3200",
                    1,
                ),
                (
                    "2015-07-29 19:04:12,394 - INFO  [/10.10.34.11:3888:QuorumCnxManager$Listener@493] - Received connection request /10.10.34.11:45307",
                    2,
                ),
                (
                    "2015-07-29 19:04:29,071 - WARN  [SendWorker:188978561024:QuorumCnxManager$SendWorker@688] - Send worker leaving thread",
                    3,
                ),
                (
                    "2015-07-29 19:04:29,079 - WARN  [SendWorker:188978561024:QuorumCnxManager$SendWorker@679] - Interrupted while waiting for message on queue",
                    4,
                ),
                (
                    "2015-07-29 19:13:17,524 - INFO  [NIOServerCxn.Factory:0.0.0.0/0.0.0.0:2181:ZooKeeperServer@595] - Established session 0x14ed93111f20027 with negotiated timeout 10000 for client /10.10.34.13:37177",
                    5,
                ),
                (
                    "2015-07-29 19:13:24,282 - INFO  [/10.10.34.12:3888:QuorumCnxManager$Listener@493] - Received connection request /10.10.34.12:7",
                    2,
                ),
                (
                    "2015-07-29 19:13:25,524 - INFO  [NIOServerCxn.Factory:0.0.0.0/0.0.0.0:2181:ZooKeeperServer@595] - Established session 0x14ed93111f2 with negotiated timeout 100 for client /10.10.34.1:1",
                    5,
                ),
            ],
        ),
    ];
    let mut wrong = Vec::new();
    for (set, with, lines) in sets {
        let log: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), log.as_bytes()).unwrap();
        let templates = templates_of(&path, &with);
        assert_eq!(templates.len(), lines.len(), "{set}: lines that do not match");
        for (i, (_, a)) in lines.iter().enumerate() {
            for (j, (line, b)) in lines.iter().enumerate().skip(i) {
                let (mine, other) = (&templates[&(i as u64 + 1)], &templates[&(j as u64 + 1)]);
                if (mine.0 == other.0) != (a == b) {
                    wrong.push(format!("{set}: `{}` and `{}` of {line}", mine.1, other.1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
