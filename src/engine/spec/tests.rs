//! One pipeline for each diagnostic code, as the user sees it; and what a sound pipeline becomes.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::stage::{Made, Params, Registry, Slot, Stage, StageContext, make};

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Copying {
    /// How many rows at most.
    rows: u32,
    /// How much of them.
    share: f64,
}

impl Default for Copying {
    fn default() -> Self {
        Self { rows: 10, share: 0.5 }
    }
}

impl Params for Copying {
    fn check(&self) -> Vec<crate::stage::ParamError> {
        if self.share <= 1.0 { vec![] } else { vec![crate::stage::ParamError::new("share", "must be at most 1")] }
    }
}

struct Copy;

impl From<Copying> for Copy {
    fn from(_: Copying) -> Self {
        Self
    }
}

impl Stage for Copy {
    fn run(&self, _: &StageContext<'_>) -> anyhow::Result<()> {
        Ok(())
    }
}

const INPUTS: &[Slot] = &[
    Slot::file("table", "what is copied"),
    Slot::files("more", "more of it").optional(),
    Slot::directory("folder", "a folder of it").optional(),
];
const OUTPUTS: &[Slot] = &[Slot::file("copy", "the copy"), Slot::directory("parts", "in pieces").optional()];

pub(crate) fn registry() -> Registry {
    fn made(value: &Value) -> Result<Made, Vec<crate::stage::ParamError>> {
        make::<Copying, Copy>(value)
    }
    let mut registry = Registry::default();
    registry.add(StageKind {
        name: "copy",
        about: "copies a table",
        version: 1,
        code: [0; 32],
        inputs: INPUTS,
        outputs: OUTPUTS,
        schema: crate::stage::schema_of::<Copying>,
        make: made,
    });
    registry
}

fn try_load(text: &str, profile: Option<&str>, sets: &[&str]) -> Result<Spec, SpecErrors> {
    let env = |name: &str| match name {
        "NUMBER" => Some("7".to_owned()),
        "ZEROS" => Some("007".to_owned()),
        "EMPTY" => Some(String::new()),
        "URL" => Some("postgres://me:hidden@db/x".to_owned()),
        _ => None,
    };
    let options = LoadOptions {
        profile: profile.map(str::to_owned),
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        env: &env,
    };
    load(&SourceText { name: "pipeline.yaml".to_owned(), text: text.to_owned() }, &registry(), &options)
}

fn spec(text: &str) -> Spec {
    match try_load(text, None, &[]) {
        Ok(spec) => spec,
        Err(errors) => panic!("{}", render(&errors)),
    }
}

/// Every error as the terminal shows it, without colours.
fn render(errors: &SpecErrors) -> String {
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::none()).with_width(100);
    let mut out = String::new();
    for error in &errors.errors {
        handler.render_report(&mut out, error).unwrap();
    }
    // Lines of spaces only would be cut by editors.
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn shown(text: &str) -> String {
    render(&try_load(text, None, &[]).err().expect("the pipeline is wrong"))
}

fn shown_set(text: &str, sets: &[&str]) -> String {
    render(&try_load(text, None, sets).err().expect("the command line is wrong"))
}

const SMALL: &str = "\
version: 1
name: small
vars: { seed: 42 }
stages:
  first:
    uses: copy
    in: { table: data/a.csv }
    out: { copy: data/b.csv }
  second:
    run: \"sort ${in.b} > ${out.c}\"
    in: { b: data/b.csv }
    out: { c: data/c.csv }
    with: { n: 3 }
";

#[test]
fn errors_dump() {
    let cases = [
        "version: 1\nstages:\n  a: [1\n  b: 2\n",
        "version: 1\nname: x\nstages:\n\ta: 1\n",
        "version: 1\nname: x\n---\nversion: 1\n",
        "version: 1\nname: x\nstages:\n  a:\n    uses: copy\n    in: { table: x, table: y }\n    out: { copy: z }\nname: y\n",
        "version: 1\nname: x\nstagse: {}\nstages:\n  a:\n    uses: copy\n    retrise: 3\n    threads: -1\n    memory: 4X\n    in: { table: x }\n    out: { copy: z }\n",
        "version: 2\nstages: {}\n",
        "name: x\n",
        "version: 1\nstages:\n  a b:\n    uses: copy\n    in: { table: x }\n    out: { copy: z }\n",
        "version: 1\nstages:\n  a:\n    uses: copy\n    run: echo\n  b: {}\n  c:\n    uses: cpoy\n  d: 3\n",
        "version: 1\nstages:\n  a:\n    uses: copy\n    in: { tabel: x, more: d/ }\n    out: { parts: x, copy: y/ }\n    with: { rosw: 3, share: 2.0 }\n  b:\n    uses: copy\n    in: { table: [x, y] }\n    out: { copy: w }\n    with: { share: 1.5 }\n    needs: [aa]\n    pool: gpu\n",
        "version: 1\nstages:\n  a: { run: \"touch ${out.x}\", out: { x: d/x } }\n  b: { run: \"touch ${out.x}\", out: { x: d/x } }\n  c: { run: \"touch ${out.d}\", out: { d: d/ } }\n  m: { run: \"x ${matrix.n}\", out: { o: m.txt }, matrix: { n: [1, 2] } }\n",
        "version: 1\nstages:\n  a: { run: \"x\", in: { x: c.txt }, out: { o: a.txt } }\n  b: { run: \"x\", in: { x: a.txt }, out: { o: b.txt } }\n  c: { run: \"x\", needs: [b], out: { o: c.txt } }\n",
        "version: 1\nroots: { raw: /data }\nstages:\n  a: { run: \"x\", in: { a: /etc/passwd, b: ../x, c: \"rwa:x\" }, out: { o: \"raw:x\", p: \"*.csv\" } }\n",
        "version: 1\nvars: { seed: 1, b: \"${vars.c}\", c: \"${vars.b}\" }\nstages:\n  a:\n    run: |\n      echo start\n      echo ${vars.sede} ${env.NOPE} ${HOME} ${in.y}\n    in: { x: \"${in.z}\" }\n    with: { k: \"${matrix.n}\" }\n",
        "version: 1\nsandbox: strict\nexecutor: slurm\nstages:\n  a: { run: x, map: x, in: { x: y }, sandbox: warn }\n",
        "version: 1\nstages:\n  a: { uses: copy, in: { table: x }, out: { copy: y }, with: { url: \"postgres://me:secret@db/x\" } }\n  b: { run: x, with: { url: \"${env.URL}\" } }\n",
    ];
    for case in cases {
        println!("{}", shown(case));
    }
    for set in [
        "vars.sede=1",
        "stages.frist.with.rows=1",
        "stages.first.with.rosw=1",
        "stages.first.with.rows=many",
        "x",
        "stages.second.with.m=2",
        "vars.seed=*.csv",
        "vars.seed=postgres://a:b@c/d",
        "stages.first.retrise=1",
        "name.x=2",
    ] {
        println!("{}", shown_set(SMALL, &[set]));
    }
    println!("{}", render(&try_load(SMALL, Some("dmeo"), &[]).err().unwrap()));
}
