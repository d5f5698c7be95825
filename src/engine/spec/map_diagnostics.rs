//! What the user sees when something is wrong with `map`.

use super::tests::{shown, try_load};

/// Loads a text with errors and compares all that is shown with what is expected.
fn assert_shown(stages: &str, expected: &str) {
    let seen = shown(&format!("version: 1\nstages:\n{stages}"));
    let plain = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n");
    assert_eq!(plain(seen.trim()), plain(expected.trim()), "\n{seen}");
}

#[test]
fn a_slot_that_is_none() {
    assert_shown(
        "  m: { run: x, in: { text: a/ }, out: { o: b/ }, map: txet }\n",
        r###"
spec::unknown_slot

  x unknown input slot `txet` of this stage
   ,-[pipeline.yaml:3:55]
 2 | stages:
 3 |   m: { run: x, in: { text: a/ }, out: { o: b/ }, map: txet }
   :                                                       ^^^^
   `----
  help: did you mean `text`?
"###,
    );
}

#[test]
fn an_output_that_is_no_directory_and_none_at_all() {
    assert_shown(
        "  m: { run: x, in: { t: a/ }, out: { o: b }, map: t }\n  n: { run: x, in: { t: a/ }, map: t }\n",
        r###"
spec::slot_arity

  x output slot `o` takes the files of all items, not one file
   ,-[pipeline.yaml:3:41]
 2 | stages:
 3 |   m: { run: x, in: { t: a/ }, out: { o: b }, map: t }
   :                                         ^
 4 |   n: { run: x, in: { t: a/ }, map: t }
   `----
  help: write a directory with a trailing slash: each item writes one file in it
spec::bad_value

  x a stage with `map` needs an output directory
   ,-[pipeline.yaml:4:31]
 3 |   m: { run: x, in: { t: a/ }, out: { o: b }, map: t }
 4 |   n: { run: x, in: { t: a/ }, map: t }
   :                               ^^^
   `----
  help: add `out: { SLOT: DIRECTORY/ }`: each item writes one file in it
"###,
    );
}

#[test]
fn an_item_without_a_map_and_a_part_it_does_not_have() {
    let stages = "  a: { run: 'echo ${item}', out: { o: a } }\n  b: { run: 'echo ${item.name}', in: { t: t/ }, out: { o: b/ }, map: t }\n  c: { run: x, in: { t: '${item}' }, out: { o: c/ }, map: t }\n";
    assert_shown(
        stages,
        r###"
spec::bad_interpolation

  x `${item}` has a meaning only in `run` and `out` of a stage with `map`
   ,-[pipeline.yaml:3:19]
 2 | stages:
 3 |   a: { run: 'echo ${item}', out: { o: a } }
   :                   ^^^^^^^
 4 |   b: { run: 'echo ${item.name}', in: { t: t/ }, out: { o: b/ }, map: t }
   `----
  help: add `map: SLOT`; for a plain text write `$${item}`
spec::unknown_reference

  x unknown part of an item `name`
   ,-[pipeline.yaml:4:19]
 3 |   a: { run: 'echo ${item}', out: { o: a } }
 4 |   b: { run: 'echo ${item.name}', in: { t: t/ }, out: { o: b/ }, map: t }
   :                   ^^^^^^^^^^^^
 5 |   c: { run: x, in: { t: '${item}' }, out: { o: c/ }, map: t }
   `----
  help: `${item}` is its relative path, `${item.stem}` that without its last extension
spec::bad_interpolation

  x `${item}` has a meaning only in `run` and `out` of a stage with `map`
   ,-[pipeline.yaml:5:26]
 4 |   b: { run: 'echo ${item.name}', in: { t: t/ }, out: { o: b/ }, map: t }
 5 |   c: { run: x, in: { t: '${item}' }, out: { o: c/ }, map: t }
   :                          ^^^^^^^
   `----
  help: add `map: SLOT`; for a plain text write `$${item}`
"###,
    );
}

#[test]
fn a_split_of_a_directory_and_of_nothing() {
    let stages = "  a: { run: x, in: { t: t/ }, out: { o: a/ }, map: { slot: t, split: 1M } }\n  b: { run: x, in: { t: t }, out: { o: b/ }, map: { slot: t, split: 0 } }\n";
    assert_shown(
        stages,
        r###"
spec::bad_value

  x `split` cuts files, but input slot `t` takes a directory
   ,-[pipeline.yaml:3:25]
 2 | stages:
 3 |   a: { run: x, in: { t: t/ }, out: { o: a/ }, map: { slot: t, split: 1M } }
   :                         ^^
 4 |   b: { run: x, in: { t: t }, out: { o: b/ }, map: { slot: t, split: 0 } }
   `----
  help: write `t/*` to cut each file in it, or leave `split` out to map over its files
spec::bad_value

  x `map`: must be an input slot, or `{ slot: SLOT, split: 256MiB }` with at least one byte
   ,-[pipeline.yaml:4:51]
 3 |   a: { run: x, in: { t: t/ }, out: { o: a/ }, map: { slot: t, split: 1M } }
 4 |   b: { run: x, in: { t: t }, out: { o: b/ }, map: { slot: t, split: 0 } }
   :                                                   ^^^^^^^^^^^^^^^^^^^^^
   `----
"###,
    );
}

#[test]
fn names_of_outputs_that_are_none() {
    let stages = "  a: { run: 'x > ${out.o}/$(date)', in: { t: t/ }, out: { o: a/ }, map: t }\n  b: { run: 'x > ${out.o}/same', in: { t: t/ }, out: { o: b/ }, map: t }\n  c: { run: 'x > ${out.o}/${item}; y > ${out.o}', in: { t: t/ }, out: { o: c/ }, map: t }\n  d: { run: x, in: { t: 'lineage:a' }, out: { o: d/ }, map: t }\n";
    assert_shown(
        stages,
        r###"
spec::bad_value

  x `${out.o}/$` does not name the file that an item writes
   ,-[pipeline.yaml:3:18]
 2 | stages:
 3 |   a: { run: 'x > ${out.o}/$(date)', in: { t: t/ }, out: { o: a/ }, map: t }
   :                  ^^^^^^^^^^
 4 |   b: { run: 'x > ${out.o}/same', in: { t: t/ }, out: { o: b/ }, map: t }
   `----
  help: the name is made of plain characters, `${item}` and `${item.stem}`
spec::bad_value

  x `${out.o}/same` is the same file for every item
   ,-[pipeline.yaml:4:18]
 3 |   a: { run: 'x > ${out.o}/$(date)', in: { t: t/ }, out: { o: a/ }, map: t }
 4 |   b: { run: 'x > ${out.o}/same', in: { t: t/ }, out: { o: b/ }, map: t }
   :                  ^^^^^^^^^^^^^
 5 |   c: { run: 'x > ${out.o}/${item}; y > ${out.o}', in: { t: t/ }, out: { o: c/ }, map: t }
   `----
  help: put `${item}` or `${item.stem}` into the name
spec::bad_value

  x an item writes one file in `${out.o}`, but here are `${out.o}/${item}` and `${out.o}`
   ,-[pipeline.yaml:5:18]
 4 |   b: { run: 'x > ${out.o}/same', in: { t: t/ }, out: { o: b/ }, map: t }
 5 |   c: { run: 'x > ${out.o}/${item}; y > ${out.o}', in: { t: t/ }, out: { o: c/ }, map: t }
   :                  ^^^^^^^^
 6 |   d: { run: x, in: { t: 'lineage:a' }, out: { o: d/ }, map: t }
   `----
  help: give each file an output slot of its own
spec::bad_value

  x `map` goes over files, but input slot `t` takes a lineage document
   ,-[pipeline.yaml:6:25]
 5 |   c: { run: 'x > ${out.o}/${item}; y > ${out.o}', in: { t: t/ }, out: { o: c/ }, map: t }
 6 |   d: { run: x, in: { t: 'lineage:a' }, out: { o: d/ }, map: t }
   :                         ^^^^^^^^^^^
   `----
  help: read it in a slot of its own
"###,
    );
}

#[test]
fn a_map_is_read_with_its_names() {
    let text = "version: 1\nstages:\n  m: { run: 'x > ${out.a}/s/${item.stem}.csv; y > ${out.b}', in: { t?: 'src/*' }, out: { a: a/, b: b/, c: 'c/${item}.d/' }, map: { slot: t, split: 2K } }\n";
    let spec = try_load(text, None, &[]).unwrap();
    let map = spec.stages[0].map.as_ref().unwrap();
    assert_eq!((map.slot.as_str(), map.split), ("t", Some(2048)));
    let names: Vec<&str> = map.names.values().map(String::as_str).collect();
    assert_eq!(names, ["s/${item.stem}.csv", "${item}", "${item}.d/"]);
    assert!(spec.stages[0].outputs.values().all(|output| output.directory));
}
