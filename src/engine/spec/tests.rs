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

pub(crate) fn try_load(text: &str, profile: Option<&str>, sets: &[&str]) -> Result<Spec, SpecErrors> {
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
fn slots_parameters_and_policy_are_read() {
    let spec = spec(
        "
version: 1
roots: { raw: '${env.NOPE:-data/raw}' }
pools: { gpu: 2 }
store: { link: hard }
stages:
  a:
    about: one line
    uses: copy
    in: { table: 'raw:x*.log', 'more?': [a.csv, ./b//c.csv], folder: d/ }
    out: { copy: out/a.csv, parts: out/parts/ }
    with: { rows: 3 }
    env: [A]
    secrets: TOKEN
    tools: [python3 --version]
    threads: all
    memory: 4G
    pool: gpu
    retries: 2
    timeout: 10m
    frozen: true
    always: true
    metrics: [copy]
    sandbox: off
",
    );
    assert_eq!((spec.name.as_str(), spec.link, spec.pools["gpu"]), ("pipeline", Link::Hard, 2));
    assert_eq!(spec.roots["raw"], std::path::Path::new("data/raw"));
    let stage = &spec.stages[0];
    let path = |root: Option<&str>, path: &str| ProjectPath { root: root.map(str::to_owned), path: path.to_owned() };
    assert_eq!(stage.inputs["table"].refs, [InputRef::Glob(path(Some("raw"), "x*.log"))]);
    assert_eq!(stage.inputs["table"].arity, Arity::File);
    assert!(stage.inputs["more"].optional && !stage.inputs["table"].optional);
    assert_eq!(stage.inputs["more"].refs, [InputRef::File(path(None, "a.csv")), InputRef::File(path(None, "b/c.csv"))]);
    assert_eq!(stage.inputs["folder"].refs, [InputRef::Directory(path(None, "d"))]);
    assert!(stage.outputs["parts"].directory && !stage.outputs["copy"].directory);
    assert_eq!(stage.params, json!({"rows": 3, "share": 0.5}), "defaults are filled in");
    assert_eq!((stage.env[0].as_str(), stage.secrets[0].as_str(), stage.metrics[0].as_str()), ("A", "TOKEN", "copy"));
    let policy = &stage.policy;
    assert_eq!((policy.threads, policy.memory, policy.retries), (0, Some(4 << 30), 2));
    assert_eq!(policy.timeout, Some(Duration::from_secs(600)));
    assert!(policy.frozen && policy.always && policy.pool.as_deref() == Some("gpu"));
}

#[test]
fn references_keep_their_types_and_lists_are_spliced() {
    let spec = spec(
        "
version: 1
vars: { n: 3, x: 0.5, twice: '${vars.n}${vars.n}', files: [a, b], deep: { list: [7, 8] }, late: '${vars.twice}' }
stages:
  s:
    run: 'echo ${with.n} ${with.list} ${with.text} $${HOME} $HOME ${in.f} ${out.o}'
    in: { f: ['${vars.files}', c] }
    out: { o: 'out-${with.n}.csv' }
    with:
      n: '${vars.n}'
      x: '${vars.x}'
      late: '${vars.late}'
      number: '${env.NUMBER}'
      zeros: '${env.ZEROS}'
      default: '${env.NOPE:-8}'
      empty: '${env.EMPTY:-unset}'
      nested: '${env.NOPE:-${vars.n}-x}'
      item: '${vars.deep.list.1}'
      list: ['${vars.files}', 'it''s']
      text: 'n=${with.n}'
",
    );
    let stage = &spec.stages[0];
    assert_eq!(
        stage.params,
        json!({
            "n": 3, "x": 0.5, "late": "33", "number": 7, "zeros": "007", "default": 8, "empty": "unset",
            "nested": "3-x", "item": 8, "list": ["a", "b", "it's"], "text": "n=3",
        })
    );
    let Action::Shell { command } = &stage.action else { panic!("a shell stage") };
    assert_eq!(command, r"echo 3 a b 'it'\''s' n=3 ${HOME} $HOME ${in.f} ${out.o}");
    assert_eq!(stage.inputs["f"].refs.len(), 3);
    assert_eq!(stage.outputs["o"].path.path, "out-3.csv");
}

#[test]
fn paths_can_speak_of_default_parameters() {
    let text = "version: 1\nstages: { a: { uses: copy, in: { table: t }, out: { copy: 'c-${with.rows}' } } }\n";
    assert_eq!(spec(text).stages[0].outputs["copy"].path.path, "c-10");
}

#[test]
fn a_matrix_makes_a_stage_of_each_combination() {
    let spec = spec(
        "
version: 1
stages:
  m: { run: 'echo ${matrix.a}', out: { o: 'm/${matrix.a}-${matrix.b}' }, with: { a: '${matrix.a}' }, matrix: { a: [1, 2], b: [x, y] } }
  all: { run: x, needs: [m], out: { o: all } }
  one: { run: x, needs: 'm[a=2,b=x]', out: { o: one } }
",
    );
    let names: Vec<&str> = spec.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["m[a=1,b=x]", "m[a=1,b=y]", "m[a=2,b=x]", "m[a=2,b=y]", "all", "one"]);
    assert_eq!(spec.stages[2].outputs["o"].path.path, "m/2-x");
    assert_eq!((spec.stages[2].base.as_str(), &spec.stages[2].params), ("m", &json!({"a": 2})));
    assert_eq!(spec.stages[4].needs, names[..4]);
    assert_eq!(spec.stages[5].needs, ["m[a=2,b=x]"]);
}

#[test]
fn a_profile_is_merged_and_overrides_come_last() {
    let text = "
version: 1
vars: { seed: 1, other: 2 }
roots: { raw: real }
profiles:
  demo:
    roots: { raw: made }
    vars: { seed: 7 }
    stages:
      make: { run: x, out: { o: made/x } }
      a: { with: { rows: 5 }, in: { more: [p] } }
      gone: ~
stages:
  a: { uses: copy, in: { table: 'raw:x', more: [q, r] }, out: { copy: y }, with: { rows: '${vars.seed}', share: 0.25 } }
  gone: { run: x, out: { o: z } }
";
    let loaded = |profile, sets: &[&str]| try_load(text, profile, sets).map_err(|e| render(&e)).unwrap();
    let plain = loaded(None, &[]);
    assert_eq!(plain.stages[0].params, json!({"rows": 1, "share": 0.25}));
    assert_eq!(plain.stages.len(), 2);
    let demo = loaded(Some("demo"), &["stages.a.with.share=1", "vars.seed=9"]);
    let names: Vec<&str> = demo.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["a", "make"]);
    assert_eq!(demo.stages[0].params, json!({"rows": 5, "share": 1.0}));
    assert_eq!(demo.stages[0].inputs["more"].refs.len(), 1, "lists are replaced");
    assert_eq!(demo.roots["raw"], std::path::Path::new("made"));
    assert_eq!(demo.overrides, ["stages.a.with.share=1", "vars.seed=9"]);
    assert_eq!(demo.profile.as_deref(), Some("demo"));
    assert_eq!(loaded(None, &["vars.seed=9"]).stages[0].params["rows"], 9);
    assert_eq!(loaded(None, &["stages.a.in.more.1=s"]).stages[0].inputs["more"].refs.len(), 2);
}

#[test]
fn aliases_are_resolved_and_errors_in_them_have_a_place() {
    let text = "version: 1\nstages:\n  a: { uses: copy, in: &i { table: t }, out: { copy: c } }\n  b: { uses: copy, in: *i, out: { copy: d } }\n";
    assert_eq!(spec(text).stages[1].inputs["table"].refs.len(), 1);
    let errors = try_load(&text.replace("table: t", "tabel: t"), None, &[]).err().unwrap();
    assert!(errors.errors.iter().all(|error| error.place.as_ref().is_some_and(|place| place.span.start > 0)));
}

#[test]
fn places_count_characters_in_text_that_is_not_ascii() {
    let text = "version: 1\nname: größer → ß\nstages:\n  a: { run: 'ö ${vars.x}' }\n";
    let errors = try_load(text, None, &[]).err().unwrap();
    let place = errors.errors[0].place.clone().unwrap();
    assert_eq!(&text[place.span.clone()], "${vars.x}");
    assert_eq!(place.line_column(), (4, 16));
    assert_eq!(errors.to_json()[0]["column"], 16);
    assert_eq!(errors.to_json()[0]["code"], "spec::unknown_reference");
}

/// Cuts, repeats and scrambles a good file in every place: an answer each time, never a panic.
#[test]
fn no_damage_to_the_text_makes_it_panic() {
    let text = SMALL.replace("small", "größe");
    for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
        let (before, after) = text.split_at(at);
        let _ = try_load(before, None, &[]);
        for damage in ["\"", "{", "]", ": ", "\n", "\t", "${", "*", "!x ", "- ", "~", "\u{0}", "0", "? "] {
            let _ = try_load(&format!("{before}{damage}{after}"), None, &["vars.seed=3"]);
        }
        let next = after.char_indices().nth(1).map_or(after.len(), |(next, _)| next);
        let _ = try_load(&format!("{before}{}", &after[next..]), None, &["stages.first.with.rows=3"]);
    }
}

/// The example of the reference is sound, and the schema agrees.
#[test]
fn the_documented_example_loads() {
    let page = include_str!("../../../docs/pipeline-yaml.md");
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let spec = spec(example);
    let names: Vec<&str> = spec.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["count", "top[n=10]", "top[n=100]"]);
    let document = raw::parse(example).ok().unwrap().value;
    assert!(jsonschema::is_valid(&crate::schema::pipeline(&registry()), &document));
    // Every code a user can meet is explained.
    for code in include_str!("error.rs").split('"').filter_map(|text| text.strip_prefix("spec::")) {
        assert!(page.contains(&format!("`{code}`")) || page.contains(&format!("`spec::{code}`")), "{code}");
    }
}
