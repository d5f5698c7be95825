//! What the user sees for each diagnostic code.

use insta::assert_snapshot;

use super::tests::{SMALL, render, shown, shown_set, try_load};

const SMALL_WITH_PROFILE: &str = "\
version: 1
profiles: { demo: { stages: { first: { with: { rows: many } } } } }
stages:
  first:
    uses: copy
    in: { table: data/a.csv }
    out: { copy: data/b.csv }
";

#[test]
fn yaml_syntax_a_list_that_is_not_closed() {
    let seen = shown(
        "\
version: 1
stages:
  a: [1
  b: 2
",
    );
    assert_snapshot!(seen, @r##"
    spec::yaml_syntax

      x did not find expected ',' or ']', while parsing a flow sequence
       ,-[pipeline.yaml:4:4]
     3 |   a: [1
     4 |   b: 2
       :    ^
       `----
    "##);
}

#[test]
fn yaml_syntax_a_tab() {
    let seen = shown(
        "\
version: 1
stages:
\ta: 1
",
    );
    assert_snapshot!(seen, @r##"
    spec::yaml_syntax

      x found character that cannot start any token, while scanning for the next token
       ,-[pipeline.yaml:3:1]
     2 | stages:
     3 |     a: 1
       : ^^^^
       `----
      help: YAML is indented with spaces, never with tabs
    "##);
}

#[test]
fn yaml_syntax_a_second_document() {
    let seen = shown(
        "\
version: 1
stages: {}
---
version: 1
",
    );
    assert_snapshot!(seen, @r##"
    spec::yaml_syntax

      x one file holds one pipeline, but here a second document begins
       ,-[pipeline.yaml:3:1]
     2 | stages: {}
     3 | ---
       : ^
     4 | version: 1
       `----
    "##);
}

#[test]
fn yaml_syntax_a_tag() {
    let seen = shown(
        "\
version: 1
stages: {}
vars: { x: !secret y }
",
    );
    assert_snapshot!(seen, @r##"
    spec::yaml_syntax

      x vars.x: tags such as `!name` have no meaning here
       ,-[pipeline.yaml:3:12]
     2 | stages: {}
     3 | vars: { x: !secret y }
       :            ^
       `----
    "##);
}

#[test]
fn yaml_syntax_an_empty_file() {
    let seen = shown(
        "\
# nothing
",
    );
    assert_snapshot!(seen, @r##"
    spec::yaml_syntax

      x there is no pipeline in this file
       ,-[pipeline.yaml:1:1]
     1 | # nothing
       : ^
       `----
      help: `logweir init` writes a small one to begin with
    "##);
}

#[test]
fn duplicate_key_near_and_far() {
    let seen = shown(
        "\
version: 1
name: x
stages:
  a:
    uses: copy
    in: { table: x, table: y }
    out: { copy: z }
name: y
",
    );
    assert_snapshot!(seen, @r##"
    spec::duplicate_key

      x the key `table` is given twice
       ,-[pipeline.yaml:6:21]
     5 |     uses: copy
     6 |     in: { table: x, table: y }
       :           ^^|^^     ^^|^^
       :             |         `-- again
       :             `-- first given here
     7 |     out: { copy: z }
       `----
      help: only one of them would count: remove one, or merge the two
    spec::duplicate_key

      x the key `name` is given twice
       ,-[pipeline.yaml:2:1]
     1 | version: 1
     2 | name: x
       : ^^|^
       :   `-- first given here
     3 | stages:
       `----
       ,-[pipeline.yaml:8:1]
     7 |     out: { copy: z }
     8 | name: y
       : ^^|^
       :   `-- again
       `----
      help: only one of them would count: remove one, or merge the two
    "##);
}

#[test]
fn unknown_key_at_each_level() {
    let seen = shown(
        "\
version: 1
stagse: {}
store: { links: hard }
profiles: { p: { stages: { a: { thread: 2 } } } }
stages:
  a:
    uses: copy
    retrise: 3
    in: { table: x }
    out: { copy: z }
",
    );
    assert_snapshot!(seen, @r##"
    spec::unknown_key

      x unknown key `stagse` in the pipeline
       ,-[pipeline.yaml:2:1]
     1 | version: 1
     2 | stagse: {}
       : ^^^^^^
     3 | store: { links: hard }
       `----
      help: did you mean `stages`?
    spec::unknown_key

      x unknown key `links` in `store` of the pipeline
       ,-[pipeline.yaml:3:10]
     2 | stagse: {}
     3 | store: { links: hard }
       :          ^^^^^
     4 | profiles: { p: { stages: { a: { thread: 2 } } } }
       `----
      help: did you mean `link`?
    spec::unknown_key

      x unknown key `thread` in profile `p`
       ,-[pipeline.yaml:4:33]
     3 | store: { links: hard }
     4 | profiles: { p: { stages: { a: { thread: 2 } } } }
       :                                 ^^^^^^
     5 | stages:
       `----
      help: did you mean `threads`?
    spec::unknown_key

      x unknown key `retrise` in stage `a`
       ,-[pipeline.yaml:8:5]
     7 |     uses: copy
     8 |     retrise: 3
       :     ^^^^^^^
     9 |     in: { table: x }
       `----
      help: did you mean `retries`?
    "##);
}

#[test]
fn bad_value_wrong_types_and_units() {
    let seen = shown(
        "\
version: 1
stages:
  a:
    uses: copy
    threads: -1
    memory: 4X
    timeout: soon
    frozen: maybe
    in: { table: x }
    out: { copy: z }
  b:
    run: x
    env: [A]
    secrets: [A]
  m: { run: x, matrix: { n: [1, 1] } }
  c: 3
",
    );
    assert_snapshot!(seen, @r##"
    spec::bad_value

      x `threads`: `-1` is not a number of threads or `all`
       ,-[pipeline.yaml:5:14]
     4 |     uses: copy
     5 |     threads: -1
       :              ^^
     6 |     memory: 4X
       `----
    spec::bad_value

      x `memory`: `4X` is not an amount of memory such as `4G`
       ,-[pipeline.yaml:6:13]
     5 |     threads: -1
     6 |     memory: 4X
       :             ^^
     7 |     timeout: soon
       `----
    spec::bad_value

      x `timeout`: `soon` is not a duration such as `90s`, `10m` or `1h30m`
       ,-[pipeline.yaml:7:14]
     6 |     memory: 4X
     7 |     timeout: soon
       :              ^^^^
     8 |     frozen: maybe
       `----
    spec::bad_value

      x `frozen`: invalid type: string "maybe", expected a boolean
       ,-[pipeline.yaml:8:13]
     7 |     timeout: soon
     8 |     frozen: maybe
       :             ^^^^^
     9 |     in: { table: x }
       `----
    spec::bad_value

      x `A` is in both `env` and `secrets`
        ,-[pipeline.yaml:14:15]
     13 |     env: [A]
     14 |     secrets: [A]
        :               ^
     15 |   m: { run: x, matrix: { n: [1, 1] } }
        `----
      help: `env` is part of the key and of the record, `secrets` of neither
    spec::bad_value

      x axis `n` has 1 twice
        ,-[pipeline.yaml:15:33]
     14 |     secrets: [A]
     15 |   m: { run: x, matrix: { n: [1, 1] } }
        :                                 ^
     16 |   c: 3
        `----
    spec::bad_value

      x stage `c` must be a mapping with `uses` or `run`
        ,-[pipeline.yaml:16:3]
     15 |   m: { run: x, matrix: { n: [1, 1] } }
     16 |   c: 3
        :   ^
        `----
    "##);
}

#[test]
fn bad_version_of_the_future() {
    let seen = shown(
        "\
version: 2
stages: {}
",
    );
    assert_snapshot!(seen, @r##"
    spec::bad_version

      x version 2 of pipeline.yaml is not known
       ,-[pipeline.yaml:1:10]
     1 | version: 2
       :          ^
     2 | stages: {}
       `----
      help: this program reads `version: 1`
    "##);
}

#[test]
fn bad_version_missing() {
    let seen = shown(
        "\
name: x
",
    );
    assert_snapshot!(seen, @r##"
    spec::bad_version

      x `version` is missing
       ,-[pipeline.yaml:1:1]
     1 | name: x
       : ^
       `----
      help: this program reads `version: 1`
    "##);
}

#[test]
fn bad_name_of_a_stage_a_slot_a_variable() {
    let seen = shown(
        "\
version: 1
stages:
  a b:
    run: x
    in: { a.b: x }
    env: [A=1]
",
    );
    assert_snapshot!(seen, @r##"
    spec::bad_name

      x `a b` cannot be the name of a stage
       ,-[pipeline.yaml:3:3]
     2 | stages:
     3 |   a b:
       :   ^^^
     4 |     run: x
       `----
      help: letters, digits, `_` and `-`, beginning with a letter or `_`
    spec::bad_name

      x `a.b` cannot be the name of a slot
       ,-[pipeline.yaml:5:11]
     4 |     run: x
     5 |     in: { a.b: x }
       :           ^^^
     6 |     env: [A=1]
       `----
      help: letters, digits, `_` and `-`, beginning with a letter or `_`
    spec::bad_name

      x `A=...` cannot be the name of an environment variable
       ,-[pipeline.yaml:6:11]
     5 |     in: { a.b: x }
     6 |     env: [A=1]
       :           ^^^
       `----
      help: give the name alone; its value is taken from the environment
    "##);
}

#[test]
fn bad_action_both_and_neither() {
    let seen = shown(
        "\
version: 1
stages:
  a:
    uses: copy
    run: echo
  b: {}
",
    );
    assert_snapshot!(seen, @r##"
    spec::bad_action

      x stage `a` has both `uses` and `run`
       ,-[pipeline.yaml:5:5]
     4 |     uses: copy
     5 |     run: echo
       :     ^^^
     6 |   b: {}
       `----
    spec::bad_action

      x stage `b` has neither `uses` nor `run`
       ,-[pipeline.yaml:6:3]
     5 |     run: echo
     6 |   b: {}
       :   ^
       `----
      help: give a built-in kind (`uses: NAME`) or a shell command (`run: "..."`)
    "##);
}

#[test]
fn unknown_kind() {
    let seen = shown(
        "\
version: 1
stages:
  a:
    uses: cpoy
    in: { table: x }
",
    );
    assert_snapshot!(seen, @r##"
    spec::unknown_kind

      x unknown kind of stage `cpoy`
       ,-[pipeline.yaml:4:11]
     3 |   a:
     4 |     uses: cpoy
       :           ^^^^
     5 |     in: { table: x }
       `----
      help: did you mean `copy`?
    "##);
}

#[test]
fn unknown_stage_in_needs() {
    let seen = shown(
        "\
version: 1
stages:
  parse: { run: x, matrix: { n: [1, 2] } }
  b: { run: x, needs: [prase] }
  c: { run: x, needs: [parse, \"parse[n=3]\"] }
",
    );
    assert_snapshot!(seen, @r##"
    spec::unknown_stage

      x unknown stage `prase`
       ,-[pipeline.yaml:4:24]
     3 |   parse: { run: x, matrix: { n: [1, 2] } }
     4 |   b: { run: x, needs: [prase] }
       :                        ^^^^^
     5 |   c: { run: x, needs: [parse, "parse[n=3]"] }
       `----
      help: did you mean `parse`?
    spec::unknown_stage

      x unknown stage `parse[n=3]`
       ,-[pipeline.yaml:5:32]
     4 |   b: { run: x, needs: [prase] }
     5 |   c: { run: x, needs: [parse, "parse[n=3]"] }
       :                                ^^^^^^^^^^
       `----
      help: did you mean `parse[n=1]`?
    "##);
}

#[test]
fn unknown_root() {
    let seen = shown(
        "\
version: 1
roots: { raw: /data }
stages:
  a: { run: x, in: { c: \"rwa:x\" } }
",
    );
    assert_snapshot!(seen, @r##"
    spec::unknown_root

      x unknown root `rwa`
       ,-[pipeline.yaml:4:25]
     3 | stages:
     4 |   a: { run: x, in: { c: "rwa:x" } }
       :                         ^^^^^^^
       `----
      help: did you mean `raw`?
    "##);
}

#[test]
fn unknown_pool() {
    let seen = shown(
        "\
version: 1
pools: { gpu: 1 }
stages:
  a: { run: x, pool: gpus }
",
    );
    assert_snapshot!(seen, @r##"
    spec::unknown_pool

      x unknown pool `gpus`
       ,-[pipeline.yaml:4:22]
     3 | stages:
     4 |   a: { run: x, pool: gpus }
       :                      ^^^^
       `----
      help: did you mean `gpu`?
    "##);
}

#[test]
fn unknown_slot_inputs_outputs_metrics() {
    let seen = shown(
        "\
version: 1
stages:
  a:
    uses: copy
    in: { table: x, moer: y }
    out: { copy: z, part: y/ }
    metrics: [cpoy]
",
    );
    assert_snapshot!(seen, @r##"
    spec::unknown_slot

      x unknown input slot `moer` of kind `copy`
       ,-[pipeline.yaml:5:21]
     4 |     uses: copy
     5 |     in: { table: x, moer: y }
       :                     ^^^^
     6 |     out: { copy: z, part: y/ }
       `----
      help: did you mean `more`?
    spec::unknown_slot

      x unknown output slot `part` of kind `copy`
       ,-[pipeline.yaml:6:21]
     5 |     in: { table: x, moer: y }
     6 |     out: { copy: z, part: y/ }
       :                     ^^^^
     7 |     metrics: [cpoy]
       `----
      help: did you mean `parts`?
    spec::unknown_slot

      x unknown output slot `cpoy` of this stage
       ,-[pipeline.yaml:7:15]
     6 |     out: { copy: z, part: y/ }
     7 |     metrics: [cpoy]
       :               ^^^^
       `----
      help: did you mean `copy`?
    "##);
}

#[test]
fn missing_slot() {
    let seen = shown(
        "\
version: 1
stages:
  a:
    uses: copy
    in: { table: x }
",
    );
    assert_snapshot!(seen, @r##"
    spec::missing_slot

      x stage `a` lacks the output slot `copy` of kind `copy`
       ,-[pipeline.yaml:3:3]
     2 | stages:
     3 |   a:
       :   ^
     4 |     uses: copy
       `----
      help: add `out: { copy: PATH }` (the copy)
    "##);
}

#[test]
fn slot_arity() {
    let seen = shown(
        "\
version: 1
stages:
  a:
    uses: copy
    in: { table: [x, y], more: d/, folder: f }
    out: { copy: y/, parts: z }
",
    );
    assert_snapshot!(seen, @r##"
    spec::slot_arity

      x input slot `table` takes one file, not a list
       ,-[pipeline.yaml:5:18]
     4 |     uses: copy
     5 |     in: { table: [x, y], more: d/, folder: f }
       :                  ^^^^^^
     6 |     out: { copy: y/, parts: z }
       `----
    spec::slot_arity

      x input slot `more` takes files, not a directory
       ,-[pipeline.yaml:5:32]
     4 |     uses: copy
     5 |     in: { table: [x, y], more: d/, folder: f }
       :                                ^^
     6 |     out: { copy: y/, parts: z }
       `----
      help: to take the files in it write `directory/*`
    spec::slot_arity

      x input slot `folder` takes one directory, not a file
       ,-[pipeline.yaml:5:44]
     4 |     uses: copy
     5 |     in: { table: [x, y], more: d/, folder: f }
       :                                            ^
     6 |     out: { copy: y/, parts: z }
       `----
      help: write it with a trailing slash
    spec::slot_arity

      x output slot `copy` takes one file, not a directory
       ,-[pipeline.yaml:6:18]
     5 |     in: { table: [x, y], more: d/, folder: f }
     6 |     out: { copy: y/, parts: z }
       :                  ^^
       `----
      help: write it without the trailing slash
    spec::slot_arity

      x output slot `parts` takes a directory, not a file
       ,-[pipeline.yaml:6:29]
     5 |     in: { table: [x, y], more: d/, folder: f }
     6 |     out: { copy: y/, parts: z }
       :                             ^
       `----
      help: write it with a trailing slash
    "##);
}

#[test]
fn bad_parameter_name_and_value() {
    let seen = shown(
        "\
version: 1
stages:
  a:
    uses: copy
    in: { table: x }
    out: { copy: y }
    with:
      rosw: 3
      share: 1.5
",
    );
    assert_snapshot!(seen, @r##"
    spec::bad_parameter

      x with.rosw: unknown parameter `rosw`
       ,-[pipeline.yaml:8:7]
     7 |     with:
     8 |       rosw: 3
       :       ^^^^
     9 |       share: 1.5
       `----
      help: did you mean `rows`?
    spec::bad_parameter

      x with.share: must be at most 1
       ,-[pipeline.yaml:9:14]
     8 |       rosw: 3
     9 |       share: 1.5
       :              ^^^
       `----
      help: `logweir stages copy` shows every parameter and its default
    "##);
}

#[test]
fn duplicate_output_the_same_inside_and_a_matrix() {
    let seen = shown(
        "\
version: 1
stages:
  a: { run: x, out: { x: d/x } }
  b: { run: x, out: { x: d/x } }
  c: { run: x, out: { d: d/ } }
  m: { run: x, out: { o: m.txt }, matrix: { n: [1, 2] } }
",
    );
    assert_snapshot!(seen, @r##"
    spec::duplicate_output

      x stages `a` and `b` both write `d/x`
       ,-[pipeline.yaml:4:26]
     2 | stages:
     3 |   a: { run: x, out: { x: d/x } }
       :                          ^|^
       :                           `-- first written here
     4 |   b: { run: x, out: { x: d/x } }
       :                          ^^^
     5 |   c: { run: x, out: { d: d/ } }
       `----
      help: a path is owned by one stage: give one of them another
    spec::duplicate_output

      x stage `c` writes `d/`, which conflicts with `d/x` of `a`
       ,-[pipeline.yaml:5:26]
     2 | stages:
     3 |   a: { run: x, out: { x: d/x } }
       :                          ^|^
       :                           `-- first written here
     4 |   b: { run: x, out: { x: d/x } }
     5 |   c: { run: x, out: { d: d/ } }
       :                          ^^
     6 |   m: { run: x, out: { o: m.txt }, matrix: { n: [1, 2] } }
       `----
      help: a path is owned by one stage: give one of them another
    spec::duplicate_output

      x stages `m[n=1]` and `m[n=2]` both write `m.txt`
       ,-[pipeline.yaml:6:26]
     5 |   c: { run: x, out: { d: d/ } }
     6 |   m: { run: x, out: { o: m.txt }, matrix: { n: [1, 2] } }
       :                          ^^^^^
       `----
      help: put the axes in the path: `${matrix.NAME}`
    "##);
}

#[test]
fn cycle() {
    let seen = shown(
        "\
version: 1
stages:
  a: { run: x, in: { x: c.txt }, out: { o: a.txt } }
  b: { run: x, in: { x: a.txt }, out: { o: b.txt } }
  c: { run: x, needs: [b], out: { o: c.txt } }
  self: { run: x, in: { s: s/* }, out: { s: s/ } }
",
    );
    assert_snapshot!(seen, @r##"
    spec::cycle

      x stages wait for each other: a → b → c → a
       ,-[pipeline.yaml:4:25]
     2 | stages:
     3 |   a: { run: x, in: { x: c.txt }, out: { o: a.txt } }
       :                         ^^|^^
       :                           `-- `a` reads what `c` writes
     4 |   b: { run: x, in: { x: a.txt }, out: { o: b.txt } }
       :                         ^^|^^
       :                           `-- `b` reads what `a` writes
     5 |   c: { run: x, needs: [b], out: { o: c.txt } }
       :                       ^|^
       :                        `-- `c` needs `b`
     6 |   self: { run: x, in: { s: s/* }, out: { s: s/ } }
       `----
    spec::cycle

      x stages wait for each other: self → self
       ,-[pipeline.yaml:6:28]
     5 |   c: { run: x, needs: [b], out: { o: c.txt } }
     6 |   self: { run: x, in: { s: s/* }, out: { s: s/ } }
       :                            ^|^
       :                             `-- `self` reads what `self` writes
       `----
    "##);
}

#[test]
fn bad_path() {
    let seen = shown(
        "\
version: 1
roots: { raw: /data }
stages:
  a:
    run: x
    in: { a: /etc/passwd, b: [ok, ../x], c: \"a[b\" }
    out: { o: \"raw:x\", p: \"*.csv\", q: cache/x }
",
    );
    assert_snapshot!(seen, @r##"
    spec::bad_path

      x `/etc/passwd` lies outside the project
       ,-[pipeline.yaml:6:14]
     5 |     run: x
     6 |     in: { a: /etc/passwd, b: [ok, ../x], c: "a[b" }
       :              ^^^^^^^^^^^
     7 |     out: { o: "raw:x", p: "*.csv", q: cache/x }
       `----
      help: paths are relative to the project; name the place under `roots` and write `root:path`
    spec::bad_path

      x `../x` leads out of the project through `..`
       ,-[pipeline.yaml:6:35]
     5 |     run: x
     6 |     in: { a: /etc/passwd, b: [ok, ../x], c: "a[b" }
       :                                   ^^^^
     7 |     out: { o: "raw:x", p: "*.csv", q: cache/x }
       `----
      help: name the place under `roots` and write `root:path`
    spec::bad_path

      x `a[b` is no pattern: unclosed character class; missing ']'
       ,-[pipeline.yaml:6:45]
     5 |     run: x
     6 |     in: { a: /etc/passwd, b: [ok, ../x], c: "a[b" }
       :                                             ^^^^^
     7 |     out: { o: "raw:x", p: "*.csv", q: cache/x }
       `----
    spec::bad_path

      x `raw:x` lies in a root, which is only read
       ,-[pipeline.yaml:7:15]
     6 |     in: { a: /etc/passwd, b: [ok, ../x], c: "a[b" }
     7 |     out: { o: "raw:x", p: "*.csv", q: cache/x }
       :               ^^^^^^^
       `----
      help: outputs lie in the project
    spec::bad_path

      x `*.csv` is a pattern, not an output
       ,-[pipeline.yaml:7:27]
     6 |     in: { a: /etc/passwd, b: [ok, ../x], c: "a[b" }
     7 |     out: { o: "raw:x", p: "*.csv", q: cache/x }
       :                           ^^^^^^^
       `----
      help: an output is one path, or a directory with a trailing slash
    spec::bad_path

      x `cache/x` lies in `cache/`, which stages do not write to
       ,-[pipeline.yaml:7:39]
     6 |     in: { a: /etc/passwd, b: [ok, ../x], c: "a[b" }
     7 |     out: { o: "raw:x", p: "*.csv", q: cache/x }
       :                                       ^^^^^^^
       `----
    "##);
}

#[test]
fn unknown_reference() {
    let seen = shown(
        "\
version: 1
vars: { seed: 1 }
stages:
  a:
    run: |
      echo start
      echo ${vars.sede} ${with.m}
    in: { x: \"${matrix.n}/${varz.x}\" }
    with: { n: 3 }
",
    );
    assert_snapshot!(seen, @r##"
    spec::unknown_reference

      x unknown variable `sede`
       ,-[pipeline.yaml:7:12]
     6 |       echo start
     7 |       echo ${vars.sede} ${with.m}
       :            ^^^^^^^^^^^^
     8 |     in: { x: "${matrix.n}/${varz.x}" }
       `----
      help: did you mean `seed`?
    spec::unknown_reference

      x unknown parameter `m`
       ,-[pipeline.yaml:7:25]
     6 |       echo start
     7 |       echo ${vars.sede} ${with.m}
       :                         ^^^^^^^^^
     8 |     in: { x: "${matrix.n}/${varz.x}" }
       `----
      help: did you mean `n`?
    spec::unknown_reference

      x unknown matrix axis `n`
       ,-[pipeline.yaml:8:15]
     7 |       echo ${vars.sede} ${with.m}
     8 |     in: { x: "${matrix.n}/${varz.x}" }
       :               ^^^^^^^^^^^
     9 |     with: { n: 3 }
       `----
      help: this stage has no `matrix`
    spec::unknown_reference

      x unknown namespace `varz`
       ,-[pipeline.yaml:8:27]
     7 |       echo ${vars.sede} ${with.m}
     8 |     in: { x: "${matrix.n}/${varz.x}" }
       :                           ^^^^^^^^^
     9 |     with: { n: 3 }
       `----
      help: did you mean `vars`?
    "##);
}

#[test]
fn missing_env() {
    let seen = shown(
        "\
version: 1
roots: { raw: \"${env.NOPE}\" }
stages: {}
",
    );
    assert_snapshot!(seen, @r##"
    spec::missing_env

      x environment variable `NOPE` is not set
       ,-[pipeline.yaml:2:16]
     1 | version: 1
     2 | roots: { raw: "${env.NOPE}" }
       :                ^^^^^^^^^^^
     3 | stages: {}
       `----
      help: set it, or give a default: `${env.NOPE:-...}`
    "##);
}

#[test]
fn bad_interpolation() {
    let seen = shown(
        "\
version: 1
vars: { b: \"${vars.c}\", c: \"${vars.b}\", list: [1] }
stages:
  a:
    run: echo ${HOME} ${open
    in: { x: \"${in.y}\", y: \"x-${vars.list}\" }
  b: { run: \"echo ${HOME}\" }
",
    );
    assert_snapshot!(seen, @r##"
    spec::bad_interpolation

      x these refer to each other: b, c
       ,-[pipeline.yaml:2:12]
     1 | version: 1
     2 | vars: { b: "${vars.c}", c: "${vars.b}", list: [1] }
       :            ^^^^^^^^^^^
     3 | stages:
       `----
    spec::bad_interpolation

      x `${` without its `}`
       ,-[pipeline.yaml:5:23]
     4 |   a:
     5 |     run: echo ${HOME} ${open
       :                       ^^^^^^
     6 |     in: { x: "${in.y}", y: "x-${vars.list}" }
       `----
      help: `$${` stands for a plain `${`
    spec::bad_interpolation

      x `${in.y}` is a path that only a command can use
       ,-[pipeline.yaml:6:15]
     5 |     run: echo ${HOME} ${open
     6 |     in: { x: "${in.y}", y: "x-${vars.list}" }
       :               ^^^^^^^
     7 |   b: { run: "echo ${HOME}" }
       `----
      help: `${in.*}` and `${out.*}` belong in `run`
    spec::bad_interpolation

      x `${vars.list}` is no plain value, so it cannot be part of a text
       ,-[pipeline.yaml:6:31]
     5 |     run: echo ${HOME} ${open
     6 |     in: { x: "${in.y}", y: "x-${vars.list}" }
       :                               ^^^^^^^^^^^^
     7 |   b: { run: "echo ${HOME}" }
       `----
    spec::bad_interpolation

      x `${HOME}` is no reference such as `${vars.seed}`
       ,-[pipeline.yaml:7:19]
     6 |     in: { x: "${in.y}", y: "x-${vars.list}" }
     7 |   b: { run: "echo ${HOME}" }
       :                   ^^^^^^^
       `----
      help: for a plain text, or a variable of the shell, write `$${HOME}`
    "##);
}

#[test]
fn not_available() {
    let seen = shown(
        "\
version: 1
sandbox: strict
executor: slurm
stages:
  a: { run: x, in: { x: y }, sandbox: warn }
",
    );
    assert_snapshot!(seen, @r##"
    spec::not_available

      x the executor `slurm` is not available yet
       ,-[pipeline.yaml:3:11]
     2 | sandbox: strict
     3 | executor: slurm
       :           ^^^^^
     4 | stages:
       `----
      help: only `local` is available so far
    "##);
}

#[test]
fn password_in_a_parameter_written_or_from_the_environment() {
    let seen = shown(
        "\
version: 1
stages:
  a: { run: x, with: { url: \"postgres://me:secret@db/x\" } }
  b: { run: x, with: { url: \"${env.URL}\" } }
  c: { run: \"psql postgres://me:$PW@db\" }
",
    );
    assert_snapshot!(seen, @r##"
    spec::password

      x a password does not belong in pipeline.yaml
       ,-[pipeline.yaml:3:29]
     2 | stages:
     3 |   a: { run: x, with: { url: "postgres://me:******@db/x" } }
       :                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^
     4 |   b: { run: x, with: { url: "${env.URL}" } }
       `----
      help: credentials come from LOGWEIR_POSTGRES, the PG* variables or a name in `secrets`
    spec::password

      x a password does not belong in a parameter
       ,-[pipeline.yaml:4:29]
     3 |   a: { run: x, with: { url: "postgres://me:******@db/x" } }
     4 |   b: { run: x, with: { url: "${env.URL}" } }
       :                             ^^^^^^^^^^^^
     5 |   c: { run: "psql postgres://me:$PW@db" }
       `----
      help: credentials come from LOGWEIR_POSTGRES, the PG* variables or a name in `secrets`
    "##);
}

#[test]
fn overrides_point_at_the_command_line() {
    let seen = [
        "stages.frist.with.rows=1",
        "stages.first.retrise=1",
        "stages.first.with.rosw=1",
        "stages.first.with.rows=many",
        "vars.seed",
        "vars.sede=1",
        "stages.second.with.m=2",
        "vars.seed=*.csv",
        "name.x=2",
        "vars.seed=postgres://me:secret@db/x",
    ]
    .map(|set| shown_set(SMALL, &[set]))
    .concat();
    assert_snapshot!(seen, @r##"
    spec::unknown_stage

      x unknown stage `frist`
       ,-[command line:1:7]
     1 | --set stages.frist.with.rows=1
       :       ^^^^^^^^^^^^^^^^^^^^^^
       `----
      help: did you mean `first`?
    spec::unknown_key

      x unknown key `retrise` in stage `first`
       ,-[command line:1:7]
     1 | --set stages.first.retrise=1
       :       ^^^^^^^^^^^^^^^^^^^^
       `----
      help: did you mean `retries`?
    spec::bad_parameter

      x with.rosw: unknown parameter `rosw`
       ,-[command line:1:7]
     1 | --set stages.first.with.rosw=1
       :       ^^^^^^^^^^^^^^^^^^^^^^
       `----
      help: did you mean `rows`?
    spec::bad_parameter

      x with.rows: invalid type: string "many", expected u32
       ,-[command line:1:30]
     1 | --set stages.first.with.rows=many
       :                              ^^^^
       `----
      help: `logweir stages copy` shows every parameter and its default
    spec::bad_set

      x `--set vars.seed` has no `=`
       ,-[command line:1:7]
     1 | --set vars.seed
       :       ^^^^^^^^^
       `----
      help: write `--set stages.NAME.with.PARAMETER=VALUE` or `--set vars.NAME=VALUE`
    spec::bad_set

      x `vars.sede` does not exist, so setting it would do nothing
       ,-[command line:1:7]
     1 | --set vars.sede=1
       :       ^^^^^^^^^
       `----
      help: did you mean `seed`?
    spec::bad_set

      x `stages.second.with.m` does not exist, so setting it would do nothing
       ,-[command line:1:7]
     1 | --set stages.second.with.m=2
       :       ^^^^^^^^^^^^^^^^^^^^
       `----
      help: did you mean `n`?
    spec::bad_set

      x the value of `vars.seed` is not YAML: did not find expected alphabetic or numeric character,
      | while scanning an alias
       ,-[command line:1:17]
     1 | --set vars.seed=*.csv
       :                 ^^^^^
       `----
      help: quote a text with special characters: `--set "vars.x='*.csv'"`
    spec::bad_set

      x `name` holds a plain value, so there is no `name.x`
       ,-[command line:1:7]
     1 | --set name.x=2
       :       ^^^^^^
       `----
    spec::password

      x a password does not belong in `--set`
       ,-[command line:1:17]
     1 | --set vars.seed=postgres://me:******@db/x
       :                 ^^^^^^^^^^^^^^^^^^^^^^^^^
       `----
      help: credentials come from LOGWEIR_POSTGRES, the PG* variables or a name in `secrets`
    "##);
}

#[test]
fn unknown_profile() {
    let seen = render(&try_load(SMALL_WITH_PROFILE, Some("dmeo"), &[]).err().unwrap());
    assert_snapshot!(seen, @r##"
    spec::unknown_profile

      x unknown profile `dmeo`
       ,-[command line:1:11]
     1 | --profile dmeo
       :           ^^^^
       `----
      help: did you mean `demo`?
    "##);
}

#[test]
fn values_of_a_profile_point_at_it_and_overrides_at_themselves() {
    let seen = render(&try_load(SMALL_WITH_PROFILE, Some("demo"), &["stages.first.with.rows=-1"]).err().unwrap());
    assert_snapshot!(seen, @r##"
    spec::bad_parameter

      x with.rows: invalid value: integer `-1`, expected u32
       ,-[command line:1:45]
     1 | --profile demo --set stages.first.with.rows=-1
       :                                             ^^
       `----
      help: `logweir stages copy` shows every parameter and its default
    "##);
}
