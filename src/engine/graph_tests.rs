use super::*;
use crate::spec::tests::try_load;

fn built(stages: &str) -> (Spec, Dag) {
    let text = format!("version: 1\nroots: {{ inner: data/in, outer: /data }}\nstages:\n{stages}");
    let spec = try_load(&text, None, &[]).unwrap_or_else(|errors| panic!("{}", errors.to_json()));
    let dag = Dag::build(&spec).unwrap();
    (spec, dag)
}

/// Edges as `a>b`, in order.
fn edges(stages: &str) -> Vec<String> {
    let (spec, dag) = built(stages);
    dag.edges().iter().map(|(a, b, _)| format!("{}>{}", spec.stages[*a].name, spec.stages[*b].name)).collect()
}

fn names(spec: &Spec, stages: &[usize]) -> Vec<String> {
    stages.iter().map(|stage| spec.stages[*stage].name.clone()).collect()
}

#[test]
fn edges_come_from_files_directories_patterns_lineage_and_needs() {
    let writers = "  f: { run: x, out: { o: d/sub/f.csv } }\n  dir: { run: x, out: { o: e/parts/ } }\n";
    let with = |input: &str| edges(&format!("{writers}  r: {{ run: x, in: {{ i: '{input}' }} }}\n"));
    for (input, from) in [
        ("d/sub/f.csv", "f"),
        ("d/", "f"),
        ("d/sub/", "f"),
        ("d/sub/*.csv", "f"),
        ("d/**/*.csv", "f"),
        ("{d,x}/sub/f.csv", "f"),
        ("lineage:d/sub/f.csv", "f"),
        ("e/parts/", "dir"),
        ("e/parts/one", "dir"),
        ("e/parts/deep/one", "dir"),
        ("e/", "dir"),
        ("e/parts/*.csv", "dir"),
        ("e/*/x.csv", "dir"),
        ("e/p*/**", "dir"),
        ("{x,e/{parts,y}}/z", "dir"),
    ] {
        assert_eq!(with(input), [format!("{from}>r")], "{input}");
    }
    for input in
        ["d/sub/f", "d/sub/f.csv/x", "d/*.csv", "d/su/", "e/part/", "e/*.csv", "x/e/parts/y", "e/q*/x.csv", "sub/f.csv"]
    {
        assert_eq!(with(input), Vec::<String>::new(), "{input}");
    }
    assert_eq!(edges(&format!("{writers}  r: {{ run: x, needs: [dir, f] }}\n")), ["f>r", "dir>r"]);
}

#[test]
fn a_root_inside_the_project_is_seen_through() {
    let writer = "  make: { run: x, out: { o: data/in/ } }\n";
    for input in ["inner:a.log", "inner:*.log", "inner:sub/"] {
        assert_eq!(edges(&format!("{writer}  r: {{ run: x, in: {{ i: '{input}' }} }}\n")), ["make>r"], "{input}");
    }
    assert_eq!(edges(&format!("{writer}  r: {{ run: x, in: {{ i: 'outer:in/a.log' }} }}\n")), Vec::<String>::new());
    let (_, dag) = built(writer);
    assert_eq!((dag.producer_of("inner:x"), dag.producer_of("outer:x")), (Some(0), None));
}

#[test]
fn names_that_sort_between_a_directory_and_its_content_do_not_hide_it() {
    let errors = try_load(
        "version: 1\nstages:\n  a: { run: x, out: { o: d/ } }\n  b: { run: x, out: { o: d-x } }\n  c: { run: x, out: { o: d/y } }\n",
        None,
        &[],
    );
    assert_eq!(errors.err().unwrap().errors.len(), 1);
}

#[test]
fn the_order_follows_the_text_where_nothing_waits() {
    let (spec, dag) = built(
        "  z: { run: x, in: { i: a.o }, out: { o: z.o } }\n  b: { run: x, out: { o: b.o } }\n  a: { run: x, out: { o: a.o } }\n  c: { run: x, in: { i: z.o } }\n",
    );
    assert_eq!(names(&spec, dag.order()), ["b", "a", "z", "c"]);
    assert_eq!((dag.dependencies(0), dag.dependents(0)), (&[2][..], &[3][..]));
}

#[test]
fn targets_are_names_paths_folders_and_bring_what_they_need() {
    let (spec, dag) = built(
        "  a: { run: x, out: { o: d/a } }\n  m: { run: x, in: { i: d/a }, out: { o: 'm/${matrix.n}' }, matrix: { n: [1, 2] } }\n  z: { run: x, in: { i: m/1 }, out: { o: z/ } }\n  other: { run: x, out: { o: other } }\n",
    );
    let select = |target: &str| dag.select(&[target.to_owned()]).map(|stages| names(&spec, &stages));
    assert_eq!(select("m").unwrap(), ["a", "m[n=1]", "m[n=2]"]);
    assert_eq!(select("m[n=2]").unwrap(), ["a", "m[n=2]"]);
    for path in ["z/", "z/inside/deep", "./z"] {
        assert_eq!(select(path).unwrap(), ["a", "m[n=1]", "z"], "{path}");
    }
    assert_eq!(select("m/").unwrap(), ["a", "m[n=1]", "m[n=2]"]);
    assert_eq!(dag.select(&[]).unwrap().len(), 5);
    let error = select("othr").unwrap_err();
    assert_eq!(
        (error.message.as_str(), error.help.as_str()),
        ("no stage or artifact is named `othr`", "did you mean `other`?")
    );
    assert_eq!(select("d/aa").unwrap_err().help, "did you mean `d/a`?");
}

/// A pipeline of shell stages made by hand, stage by stage: its inputs and its output.
fn by_hand(stages: impl Iterator<Item = (Vec<String>, String)>) -> Spec {
    let empty = try_load("version: 1\nstages: { a: { run: x } }\n", None, &[]).ok().unwrap();
    let template = empty.stages[0].clone();
    let at = |path: String| ProjectPath { root: None, path };
    let stages = stages.enumerate().map(|(i, (inputs, output))| {
        let refs = inputs.into_iter().map(|path| InputRef::File(at(path))).collect();
        let mut stage = template.clone();
        stage.name = format!("s{i}");
        stage.base.clone_from(&stage.name);
        let input = crate::spec::Input { refs, optional: false, arity: crate::stage::Arity::Files };
        stage.inputs = [("i".to_owned(), input)].into_iter().collect();
        stage.outputs =
            [("o".to_owned(), crate::spec::Output { path: at(output), directory: false })].into_iter().collect();
        stage
    });
    Spec { stages: stages.collect(), ..empty }
}

#[test]
fn a_chain_of_a_hundred_thousand_stages_is_no_matter() {
    let count = 100_000;
    // Written backwards, so that the order is not the one of the text.
    let spec = by_hand((0..count).map(|i| (vec![format!("o/{}", i + 1)], format!("o/{i}"))));
    let dag = Dag::build(&spec).unwrap();
    assert_eq!(dag.order()[0], count - 1);
    assert_eq!(dag.select(&["s0".to_owned()]).unwrap().len(), count);
}

#[test]
fn a_circle_of_a_hundred_thousand_stages_is_found_and_told_in_short() {
    let count = 100_000;
    let spec = by_hand((0..count).map(|i| (vec![format!("o/{}", (i + 1) % count)], format!("o/{i}"))));
    let errors = Dag::build(&spec).err().unwrap();
    let message = errors.errors[0].problem.to_string();
    assert!(message.starts_with("stages wait for each other: s0 → ") && message.len() < 200, "{message}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Any choice of earlier stages as inputs is a DAG; its order puts each stage after all it reads, and selecting one
    /// stage selects exactly what can be reached from it.
    #[test]
    fn random_dags_are_ordered_and_selected_soundly(
        reads in proptest::collection::vec(proptest::collection::vec(0usize..1000, 0..4), 1..40)
    ) {
        let reads: Vec<Vec<usize>> = reads
            .into_iter()
            .enumerate()
            .map(|(i, from)| from.into_iter().filter(|_| i > 0).map(|from| from % i.max(1)).collect())
            .collect();
        let count = reads.len();

        let spec = by_hand(reads.iter().enumerate().map(|(i, from)| {
            (from.iter().map(|from| format!("o/{from}")).collect(), format!("o/{i}"))
        }));
        let dag = Dag::build(&spec).unwrap();
        let place: BTreeMap<usize, usize> = dag.order().iter().enumerate().map(|(at, stage)| (*stage, at)).collect();
        proptest::prop_assert_eq!(place.len(), count);
        for (stage, from) in reads.iter().enumerate() {
            for before in from {
                proptest::prop_assert!(place[before] < place[&stage]);
                proptest::prop_assert!(dag.dependencies(stage).contains(before));
                proptest::prop_assert!(dag.dependents(*before).contains(&stage));
            }
        }
        let mut reached = vec![false; count];
        reached[count - 1] = true;
        for stage in (0..count).rev() {
            if reached[stage] {
                reads[stage].iter().for_each(|before| reached[*before] = true);
            }
        }
        let expected: Vec<usize> = (0..count).filter(|stage| reached[*stage]).collect();
        proptest::prop_assert_eq!(dag.select(&[format!("s{}", count - 1)]).unwrap(), expected);
    }
}
