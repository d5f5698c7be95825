//! Logs of different formats in one pipeline: a stage parses each, one makes templates and sessions of all.

use crate::support::Project;

const PIPELINE: &str = r#"version: 1
name: formats
stages:
  parse-hdfs:
    uses: parse
    in: { log: "raw/hdfs.log*" }
    out: { events: data/events/hdfs/ }
    with: { masks: { custom: [{ name: user, regex: 'user=(\w+)' }] } }
  parse-shop:
    uses: parse
    in: { log: raw/shop.log }
    out: { events: data/events/shop/ }
    with:
      format: '<Date> <Time> <Level> <Component>: <Content>'
      timestamp_format: '%Y-%m-%d %H:%M:%S'
      masks: { custom: [{ name: order, regex: 'order (\S+)' }] }
  templates:
    uses: templates
    in: { events: data/events/ }
    out: { templates: data/templates.csv, map: data/map.csv }
  sessionize:
    uses: sessionize
    in: { events: data/events/, templates: data/templates.csv, map: data/map.csv }
    out: { sessions: data/sessions.parquet, summary: data/sessions.json }
"#;

#[test]
fn every_format_has_its_own_masks_and_all_share_templates_and_sessions() {
    let project = Project::new(PIPELINE);
    project.write("raw/hdfs.log.1", "081109 203530 1 INFO a: user=ann opened blk_1\n");
    project.write("raw/hdfs.log", "081109 203532 1 INFO a: user=bob opened blk_2 of order 7a\n");
    let shop = "2008-11-09 20:35:29 INFO s: order 7-a of user=ann\n\tat blk_1\n2008-11-09 20:35:31 INFO s: order 8-b of user=ann\nblk_2\n";
    project.write("raw/shop.log", shop);
    project.run(&[]).ok();
    // The masks of the other format hide nothing: `order 7a` is no order, `user=ann` is spelt out.
    let expected = "event_id,number,count,text,source\n\
        T1,0,1,user=<user> opened <id>,mined\n\
        T2,1,1,user=<user> opened <id> of order <num>a,mined\n\
        T3,2,2,order <order> of user=ann,mined\n";
    assert_eq!(project.read("data/templates.csv"), expected);
    let said = project.logweir(&["--json", "lines", "blk_1", "blk_2"]).ok().json();
    let lines = |session: usize| -> Vec<(String, String)> {
        let lines = said["sessions"][session]["lines"].as_array().unwrap();
        let text = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap().to_owned();
        lines.iter().map(|line| (text(line, "event_id"), text(line, "text"))).collect()
    };
    let line = |id: &str, text: &str| (id.to_owned(), text.to_owned());
    assert_eq!(
        lines(0),
        [
            line("T3", "2008-11-09 20:35:29 INFO s: order 7-a of user=ann\n\tat blk_1"),
            line("T1", "081109 203530 1 INFO a: user=ann opened blk_1"),
        ]
    );
    assert_eq!(
        lines(1),
        [
            line("T3", "2008-11-09 20:35:31 INFO s: order 8-b of user=ann\nblk_2"),
            line("T2", "081109 203532 1 INFO a: user=bob opened blk_2 of order 7a"),
        ]
    );

    // A mask of one format parses that one again.
    project.write("pipeline.yaml", &PIPELINE.replace(r"'order (\S+)'", r"'order (\d-\w)'"));
    assert_eq!(project.run(&[]).ok().executed(), ["parse-shop"]);
    assert_eq!(project.run(&[]).ok().counts().executed, 0);
}
