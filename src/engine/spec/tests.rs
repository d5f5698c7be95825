//! What a sound pipeline becomes.

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

pub(super) fn try_load(text: &str, profile: Option<&str>, sets: &[&str]) -> Result<Spec, SpecErrors> {
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
pub(super) fn render(errors: &SpecErrors) -> String {
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::none()).with_width(100);
    let mut out = String::new();
    for error in &errors.errors {
        handler.render_report(&mut out, error).unwrap();
    }
    // Lines of spaces only would be cut by editors.
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

pub(super) fn shown(text: &str) -> String {
    render(&try_load(text, None, &[]).err().expect("the pipeline is wrong"))
}

pub(super) fn shown_set(text: &str, sets: &[&str]) -> String {
    render(&try_load(text, None, sets).err().expect("the command line is wrong"))
}

pub(super) const SMALL: &str = "\
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
fn picture_dump() {
    let text = std::fs::read_to_string("/tmp/demo.yaml").unwrap();
    let spec = spec(&text);
    let dag = crate::graph::Dag::build(&spec).unwrap();
    for (artifacts, name) in [(false, "stages"), (true, "artifacts")] {
        let picture = crate::draw::Picture::of(&spec, &dag, artifacts);
        std::fs::write(format!("/tmp/{name}.svg"), picture.svg()).unwrap();
    }
}
