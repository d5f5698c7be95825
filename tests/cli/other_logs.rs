//! Logs of other systems through pipeline files of their own: synthetic ones, and real samples where they are.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::support::{Project, Said, real_logs, said};

/// A pipeline: its name, text, variable of its root, file of the log.
struct Other {
    name: &'static str,
    text: &'static str,
    root: &'static str,
    log: &'static str,
}

const BGL: Other =
    Other { name: "bgl", text: include_str!("../../pipelines/bgl.yaml"), root: "LOGWEIR_BGL", log: "BGL_2k.log" };
const OPENSTACK: Other = Other {
    name: "openstack",
    text: include_str!("../../pipelines/openstack.yaml"),
    root: "LOGWEIR_OPENSTACK",
    log: "OpenStack_2k.log",
};
const HADOOP: Other = Other {
    name: "hadoop",
    text: include_str!("../../pipelines/hadoop.yaml"),
    root: "LOGWEIR_HADOOP",
    log: "Hadoop_2k.log",
};

impl Other {
    fn project(&self) -> Project {
        let project = Project::toy();
        project.write(&format!("pipelines/{}.yaml", self.name), self.text);
        project
    }

    fn logweir(&self, project: &Project, logs: &Path, arguments: &[&str]) -> Said {
        let file = format!("pipelines/{}.yaml", self.name);
        let arguments = [&["-f", file.as_str()], arguments].concat();
        said(&project.command(&arguments).env(self.root, logs).output().unwrap())
    }

    /// Runs it on logs, twice, and returns the metrics.
    fn run(&self, project: &Project, logs: &Path) -> Value {
        let first = self.logweir(project, logs, &["run", "--json", "-j", "2"]).ok().counts();
        assert_eq!((first.failed, first.skipped), (0, 0));
        let again = self.logweir(project, logs, &["run", "--json"]).ok().counts();
        assert_eq!((again.executed, again.fresh), (0, first.executed));
        // Other logs are not spoken of as if they were HDFS.
        let page = project.read(&format!("reports/{}/index.html", self.name));
        let words = page.split("<script type=\"application/json\"").next().unwrap();
        // Letters of pictures may spell anything.
        let pictures = regex::Regex::new("base64,[A-Za-z0-9+/=]+").unwrap();
        let words = pictures.replace_all(words, "").to_lowercase();
        for word in ["hdfs", "blk_", "block id"] {
            assert!(!words.contains(word), "{word}");
        }
        serde_json::from_str(&project.read(&format!("reports/{}/metrics.json", self.name))).unwrap()
    }

    /// As [`Other::run`], on a log with this text.
    fn run_on(&self, text: &str) -> (Project, Value) {
        let project = self.project();
        project.write(&format!("raw/{}", self.log), text);
        let metrics = self.run(&project, &project.path("raw"));
        (project, metrics)
    }

    /// As [`Other::run`], on the real sample; nothing where there is none.
    fn run_on_sample(&self) -> Option<(Project, Value)> {
        let logs = real_logs()?;
        let project = self.project();
        let metrics = self.run(&project, &logs.join("../loghub2k"));
        assert_eq!((&metrics["dataset"]["lines"], &metrics["dataset"]["source"]), (&2000.into(), &"real".into()));
        assert_eq!(metrics["dataset"]["rejected"], 0);
        Some((project, metrics))
    }
}

/// A number that looks random and is not.
fn dice(i: u64, sides: u64) -> u64 {
    (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % sides
}

/// Three months of a supercomputer: harmless lines, and now and then an alert of one of two kinds.
fn supercomputer() -> String {
    let mut text = String::new();
    for i in 0..1600u64 {
        let second = 1_117_756_800 + i * 4_800 + dice(i, 600);
        let at = chrono::DateTime::from_timestamp(second as i64, 0).unwrap();
        let node = format!("R{:02}-M{}-N{}", dice(i, 8), dice(i + 7, 2), dice(i + 9, 4));
        let (label, message) = match dice(i * 31 + 5, 40) {
            0 => ("KERNDTLB", format!("FATAL data TLB error interrupt at 0x{:08x}", dice(i, 1 << 30))),
            1 => ("KERNSTOR", "FATAL data storage interrupt".to_owned()),
            n if n < 12 => ("-", format!("INFO generating core.{}", dice(i, 9000))),
            n if n < 26 => ("-", "INFO instruction cache parity error corrected".to_owned()),
            _ => ("-", format!("INFO {} double-hummer alignment exceptions", dice(i, 90_000))),
        };
        let (day, time) = (at.format("%Y.%m.%d"), at.format("%Y-%m-%d-%H.%M.%S"));
        let micros = dice(i, 1_000_000);
        writeln!(text, "{label} {second} {day} {node} {time}.{micros:06} {node} RAS KERNEL {message}").unwrap();
    }
    text
}

/// The lives of virtual machines, one of which in ten never resumes.
fn cloud() -> String {
    let mut lines: Vec<(u64, String)> = Vec::new();
    for i in 0..80u64 {
        let id = format!("{:08x}-8848-49cc-933e-{:012x}", dice(i, 1 << 31), i * 7919);
        let steps = [
            ("nova.compute.claims", "Attempting claim: memory 2048 MB, disk 20 GB, vcpus 1 CPU"),
            ("nova.virt.libvirt.driver", "Creating image"),
            ("nova.compute.manager", "VM Started (Lifecycle Event)"),
            ("nova.compute.manager", "VM Resumed (Lifecycle Event)"),
            ("nova.virt.libvirt.driver", "Instance spawned successfully."),
            ("nova.compute.manager", "Terminating instance"),
            ("nova.virt.libvirt.driver", "Deletion of /var/lib/nova/instances/gone_del complete"),
        ];
        for (k, (component, message)) in steps.into_iter().enumerate() {
            if !(i % 10 == 9 && message.starts_with("VM Resumed")) {
                let line = format!("INFO {component} [req-{:08x}-a - - - - -] [instance: {id}] {message}", dice(i, 99));
                lines.push((i * 40 + k as u64 * 5, line));
            }
        }
    }
    lines.sort();
    let line = |(at, text): &(u64, String)| {
        format!(
            "nova-compute.log.1 2017-05-16 {:02}:{:02}:{:02}.{:03} 2931 {text}\n",
            at / 3600,
            at / 60 % 60,
            at % 60,
            at % 1000
        )
    };
    lines.iter().map(line).collect()
}

/// A job whose network breaks down near its end.
fn job() -> String {
    let mut text = String::new();
    for i in 0..1500u64 {
        let at = i * 2 / 5;
        let message = match (i > 1350, dice(i, 4)) {
            (true, 0 | 1) => {
                "ERROR [RMCommunicator Allocator] a.RMContainerAllocator: ERROR IN CONTACTING RM.".to_owned()
            }
            (true, _) => format!("WARN [LeaseRenewer] a.LeaseRenewer: Failed to renew lease for {i} seconds."),
            (_, 0) => format!(
                "INFO [IPC Server handler {}] a.TaskAttemptListenerImpl: Progress of TaskAttempt attempt_1_0020_m_{:06}_0 is : 0.{i}",
                i % 29,
                i % 10
            ),
            (_, 1) => format!(
                "INFO [AsyncDispatcher] a.TaskAttemptImpl: attempt_1_0020_m_{:06}_0 TaskAttempt Transitioned from NEW to ASSIGNED",
                i % 10
            ),
            (_, _) => format!("INFO [ContainerLauncher #{}] a.ContainerLauncherImpl: Processing the event", i % 9),
        };
        let (level, rest) = message.split_once(' ').unwrap();
        writeln!(text, "2015-10-18 18:{:02}:{:02},{:03} {level} {rest}", at / 60, at % 60, i % 1000).unwrap();
    }
    text
}

#[test]
fn labels_that_stand_in_the_lines_train_a_supervised_model_for_windows() {
    let (project, metrics) = BGL.run_on(&supercomputer());
    assert_eq!(metrics["dataset"]["name"], "BGL");
    assert_eq!((&metrics["dataset"]["unlabelled"], &metrics["lgbm"]["trained"]), (&0.into(), &true.into()));
    let types: Vec<&String> = metrics["by_anomaly_type"].as_object().unwrap().keys().collect();
    assert_eq!(types, ["KERNDTLB", "KERNSTOR"]);
    // The alerts have templates of their own, so nothing about this is hard once they were seen.
    let precision = metrics["fusion"]["average_precision"].as_f64().unwrap();
    assert!(precision > 0.99, "{precision}");
    let features = project.read("data/bgl/features/features.csv");
    assert!(!features.contains("KERN"), "the label is no feature");
    let first = project.read("reports/bgl/ensemble_sessions.csv");
    assert!(first.lines().nth(1).unwrap().starts_with("@2005060"), "sessions are windows");
}

#[test]
fn instances_without_labels_are_ranked_by_the_unsupervised_members() {
    let (project, metrics) = OPENSTACK.run_on(&cloud());
    assert_eq!((&metrics["dataset"]["sessions"], &metrics["dataset"]["unlabelled"]), (&80.into(), &80.into()));
    assert_eq!(
        (&metrics["lgbm"]["trained"], &metrics["threshold"]["objective"]),
        (&false.into(), &"alert_budget".into())
    );
    let ensemble = project.read("reports/openstack/ensemble_sessions.csv");
    assert!(ensemble.lines().nth(1).unwrap().ends_with(','), "no label");
}

#[test]
fn windows_over_all_threads_need_no_key() {
    let (_, metrics) = HADOOP.run_on(&job());
    assert_eq!(metrics["dataset"]["sessions"], 60);
    // The breakdown lies in the last fold, where most windows are unlike all before.
    assert!(metrics["alerts"]["test"].as_u64().unwrap() > 0, "{}", metrics["alerts"]);
}

#[test]
fn the_real_bgl_sample_is_labelled_by_its_alert_column() {
    let Some((_, metrics)) = BGL.run_on_sample() else { return };
    assert_eq!(metrics["dataset"]["unlabelled"], 0);
    assert!(metrics["dataset"]["anomalies"].as_u64().unwrap() > 30, "{}", metrics["dataset"]);
    assert_eq!(metrics["lgbm"]["trained"], true);
    assert!(metrics["fusion"]["average_precision"].as_f64().unwrap() > 0.35, "{}", metrics["fusion"]);
}

#[test]
fn the_real_openstack_sample_runs_by_instance_and_by_request() {
    let Some((project, metrics)) = OPENSTACK.run_on_sample() else { return };
    assert_eq!(metrics["dataset"]["sessions"], 22);
    let logs = real_logs().unwrap().join("../loghub2k");
    let by_request = "stages.parse.with.session=(req-[0-9a-f-]{36})";
    OPENSTACK.logweir(&project, &logs, &["run", "-q", "--set", by_request]).ok();
    let metrics: Value = serde_json::from_str(&project.read("reports/openstack/metrics.json")).unwrap();
    assert!(metrics["dataset"]["sessions"].as_u64().unwrap() > 900, "{}", metrics["dataset"]);
}

#[test]
fn the_real_hadoop_sample_runs_by_windows_and_by_task() {
    let Some((project, metrics)) = HADOOP.run_on_sample() else { return };
    assert!(metrics["dataset"]["sessions"].as_u64().unwrap() > 40, "{}", metrics["dataset"]);
    let logs = real_logs().unwrap().join("../loghub2k");
    let by_task = "stages.sessionize.with={within: key, closes: []}";
    HADOOP.logweir(&project, &logs, &["run", "-q", "--set", by_task]).ok();
}
