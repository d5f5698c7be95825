//! Random edits of what is mapped over and of what was made: afterwards the outputs are those of a clean run, and another
//! run executes nothing.

use std::collections::BTreeMap;
use std::fs;

use logweir_engine::engine::RunOptions;
use proptest::prelude::*;

use crate::support::Lab;

const PIPELINE: &str = "
stages:
  up: { run: 'tr a-z A-Z < ${in.f} > ${out.o}/${item}.up', in: { f: src/ }, out: { o: out/up/ }, map: f }
  twice: { uses: concat, in: { in: out/up/, more?: extra }, out: { out: out/twice/ }, map: in }
  cut: { run: 'cp ${in.l} ${out.o}', in: { l?: big }, out: { o: out/cut/ }, map: { slot: l, split: 4 } }
  all: { run: 'find ${in.d} ${in.c} -type f -print0 | sort -z | xargs -0r cat > ${out.o}', in: { d: out/twice/, c: out/cut/ }, out: { o: out/all } }
";
const NAMES: [&str; 6] = ["a", "b", "c d", "s/a", "s/t/b", "e'é"];

#[derive(Clone, Debug)]
enum Edit {
    Write(usize, u8),
    Remove(usize),
    Rename(usize, usize),
    Append(u8),
    Extra(Option<u8>),
    Tamper(usize, u8),
    Lose(usize),
    Stray(usize),
    LoseObjects,
    OneItem(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = 0..NAMES.len();
    prop_oneof![
        4 => (name.clone(), 0u8..3).prop_map(|(name, text)| Edit::Write(name, text)),
        2 => name.clone().prop_map(Edit::Remove),
        2 => (name.clone(), name.clone()).prop_map(|(from, to)| Edit::Rename(from, to)),
        2 => (0u8..3).prop_map(Edit::Append),
        1 => prop::option::of(0u8..2).prop_map(Edit::Extra),
        1 => (0usize..20, 0u8..3).prop_map(|(which, text)| Edit::Tamper(which, text)),
        1 => (0usize..20).prop_map(Edit::Lose),
        1 => name.clone().prop_map(Edit::Stray),
        1 => Just(Edit::LoseObjects),
        1 => name.prop_map(Edit::OneItem),
    ]
}

fn text(number: u8) -> String {
    format!("{}\n", ["x", "yy", "zzz"][usize::from(number)])
}

fn outputs(lab: &Lab) -> BTreeMap<String, String> {
    let files = crate::support::walk(&lab.path("out"));
    let relative = |path: &std::path::Path| path.strip_prefix(lab.dir.path()).unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

fn apply(lab: &Lab, edit: &Edit) {
    let made = || crate::support::walk(&lab.path("out"));
    match edit {
        Edit::Write(name, number) => lab.write(&format!("src/{}", NAMES[*name]), &text(*number)),
        Edit::Remove(name) => drop(fs::remove_file(lab.path(&format!("src/{}", NAMES[*name])))),
        Edit::Rename(from, to) => {
            let to = lab.path(&format!("src/{}", NAMES[*to]));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            drop(fs::rename(lab.path(&format!("src/{}", NAMES[*from])), to));
        }
        Edit::Append(number) => {
            let before = fs::read_to_string(lab.path("big")).unwrap_or_default();
            lab.write("big", &(before + &text(*number)));
        }
        Edit::Extra(Some(number)) => lab.write("extra", &text(*number)),
        Edit::Extra(None) => drop(fs::remove_file(lab.path("extra"))),
        Edit::Tamper(which, number) => {
            let made = made();
            if let Some(path) = made.get(which % made.len().max(1)) {
                fs::write(path, text(*number)).unwrap();
            }
        }
        Edit::Lose(which) => {
            let made = made();
            if let Some(path) = made.get(which % made.len().max(1)) {
                fs::remove_file(path).unwrap();
            }
        }
        Edit::Stray(name) => lab.write(&format!("out/up/stray/{}", NAMES[*name]), "stray"),
        Edit::LoseObjects => drop(fs::remove_dir_all(lab.path("cache/objects"))),
        Edit::OneItem(name) => {
            let targets = vec![format!("up[{}]", NAMES[*name])];
            lab.run_with(&RunOptions { targets, ..RunOptions::default() });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn any_edits_of_mapped_files_and_outputs_end_as_a_clean_run(
        steps in prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..5),
    ) {
        let lab = Lab::new(PIPELINE);
        fs::create_dir_all(lab.path("src")).unwrap();
        lab.run();
        for edits in steps {
            edits.iter().for_each(|edit| apply(&lab, edit));
            lab.run();
            lab.settled();
            let clean = Lab::new(PIPELINE);
            fs::create_dir_all(clean.path("src")).unwrap();
            for name in NAMES.map(|name| format!("src/{name}")).iter().map(String::as_str).chain(["big", "extra"]) {
                if let Ok(text) = fs::read_to_string(lab.path(name)) {
                    clean.write(name, &text);
                }
            }
            clean.run();
            prop_assert_eq!(outputs(&lab), outputs(&clean), "after {:?}", edits);
        }
    }
}
