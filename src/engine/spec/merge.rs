//! What is laid over pipeline.yaml before it is read: a profile, then each `--set`.

use serde_json::{Map, Value};

use super::error::Problem;
use super::secret;
use super::source::Sources;
use super::spans::join;
use super::{SpecError, raw};
use crate::suggest::did_you_mean;

/// Lays the selected profile over the document and takes `profiles` out of it.
pub(super) fn apply_profile(document: &mut Map<String, Value>, selected: Option<&str>, sources: &mut Sources) {
    let profiles = document.shift_remove("profiles");
    let mut profiles = match profiles {
        Some(Value::Object(profiles)) => profiles,
        None | Some(Value::Null) => Map::new(),
        Some(_) => {
            let problem = Problem::BadValue("`profiles` must map names to partial documents".to_owned());
            sources.fail("/profiles", super::source::Part::Value, "", problem);
            return;
        }
    };
    let schema = schemars::schema_for!(raw::RawProfile).to_value();
    for (name, profile) in &profiles {
        let pointer = join("/profiles", name);
        let mut unknown = Vec::new();
        raw::unknown_keys(&schema, &schema, profile, "", &mut |at, key, known| {
            unknown.push((format!("{pointer}{at}"), key.to_owned(), did_you_mean(key, known)));
        });
        for (at, key, help) in unknown {
            let problem = Problem::UnknownKey { key, place: format!("profile `{name}`") };
            sources.fail(&at, super::source::Part::Key, "", problem).help = Some(help);
        }
        if !profile.is_object() && !profile.is_null() {
            let problem = Problem::BadValue(format!("profile `{name}` must be a partial document"));
            sources.fail(&pointer, super::source::Part::Value, "", problem);
        }
    }
    let Some(selected) = selected else { return };
    match profiles.shift_remove(selected) {
        Some(profile) => overlay(document, profile, 0),
        None => {
            let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
            let place = sources.in_line(sources.profile_argument.clone());
            let problem = Problem::UnknownProfile(selected.to_owned());
            let help = match known.is_empty() {
                true => "this pipeline has no `profiles`".to_owned(),
                false => did_you_mean(selected, &known),
            };
            sources.fail_at(Some(place), problem).help = Some(help);
        }
    }
}

/// Mappings are merged key by key, all else is replaced; `null` removes a whole stage.
fn overlay(base: &mut Map<String, Value>, over: Value, depth: usize) {
    let Value::Object(over) = over else { return };
    for (key, value) in over {
        if depth == 0 && key == "stages" {
            let stages = base.entry(key).or_insert_with(|| Value::Object(Map::new()));
            let (Value::Object(stages), Value::Object(over)) = (stages, value) else { continue };
            let (removed, changed): (Map<_, _>, Map<_, _>) = over.into_iter().partition(|(_, stage)| stage.is_null());
            for name in removed.keys() {
                stages.shift_remove(name);
            }
            overlay(stages, Value::Object(changed), depth + 1);
            continue;
        }
        match (base.get_mut(&key), value) {
            (Some(Value::Object(inner)), value @ Value::Object(_)) => overlay(inner, value, depth + 1),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Applies every `--set K=V` in order; V is read as YAML.
pub(super) fn apply_sets(document: &mut Map<String, Value>, sets: &[String], sources: &mut Sources) {
    for (index, set) in sets.iter().enumerate() {
        let argument = sources.sets[index].clone();
        let mut fail = |span, problem, help: Option<String>| -> () {
            let place = sources.in_line(span);
            let error: &mut SpecError = sources.fail_at(Some(place), problem);
            error.help = help;
        };
        let Some((key, text)) = set.split_once('=') else {
            let help = "write `--set stages.NAME.with.PARAMETER=VALUE` or `--set vars.NAME=VALUE`".to_owned();
            fail(argument.key, Problem::BadSet(format!("`--set {}` has no `=`", secret::masked(set))), Some(help));
            continue;
        };
        if secret::password_in(text).is_some() {
            let help = "credentials come from LOGWEIR_POSTGRES, the PG* variables or a name in `secrets`".to_owned();
            fail(argument.value, Problem::Password("`--set`"), Some(help));
            continue;
        }
        let value = match raw::parse(text) {
            Ok(read) => read.value,
            Err(error) => {
                let problem = Problem::BadSet(format!("the value of `{key}` is not YAML: {}", error.message));
                let help = "quote a text with special characters: `--set \"vars.x='*.csv'\"`".to_owned();
                fail(argument.value, problem, Some(help));
                continue;
            }
        };
        match place_for(document, key) {
            Ok((slot, pointer)) => {
                *slot = value;
                sources.sets[index].pointer = pointer;
            }
            Err((problem, help)) => fail(argument.key, problem, help),
        }
    }
}

type Refusal = (Problem, Option<String>);

/// Finds the value that a dotted key names, making mappings on the way where a new entry can mean something.
fn place_for<'a>(document: &'a mut Map<String, Value>, key: &str) -> Result<(&'a mut Value, String), Refusal> {
    let segments: Vec<&str> = key.split('.').collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        return Err((Problem::BadSet(format!("`{key}` is no dotted path such as `vars.seed`")), None));
    }
    if matches!(segments.as_slice(), ["version" | "profiles", ..] | ["stages" | "vars" | "roots"]) {
        return Err((Problem::BadSet(format!("`{key}` cannot be set from the command line")), None));
    }
    // A name that nothing reads would be ignored without a word: variables, roots, stages, and what a shell command
    // is given. Parameters of kinds are checked by the kind, all other keys by the format.
    let shell = match segments.as_slice() {
        ["stages", stage, "with", ..] => {
            document.get("stages").and_then(|s| s.get(stage)).is_some_and(|stage| stage.get("run").is_some())
        }
        _ => false,
    };
    let mut pointer = String::new();
    let mut first = Some(document);
    let mut at: Option<&mut Value> = None;
    for (depth, segment) in segments.iter().enumerate() {
        let must_exist = match segments[0] {
            "vars" | "roots" => depth == 1,
            "stages" => depth == 1 || (depth == 3 && shell),
            _ => false,
        };
        let map = match (first.take(), at.take()) {
            (Some(map), _) => map,
            (None, Some(Value::Array(items))) => {
                let length = items.len();
                let found = segment.parse::<usize>().ok().filter(|index| *index < length);
                let Some(index) = found else {
                    let problem = format!("`{segment}` in `{key}` is no position in a list of {length}");
                    return Err((Problem::BadSet(problem), Some("positions count from 0".to_owned())));
                };
                pointer = format!("{pointer}/{index}");
                at = items.get_mut(index);
                continue;
            }
            (None, Some(value)) => {
                if value.is_null() {
                    *value = Value::Object(Map::new());
                }
                let Value::Object(map) = value else {
                    let parent = segments[..depth].join(".");
                    return Err((
                        Problem::BadSet(format!("`{parent}` holds a plain value, so there is no `{key}`")),
                        None,
                    ));
                };
                map
            }
            (None, None) => unreachable!("every round leaves a place"),
        };
        // `templates?` is set as `templates`.
        let optional = format!("{segment}?");
        let name =
            if !map.contains_key(*segment) && map.contains_key(&optional) { optional } else { (*segment).to_owned() };
        if must_exist && !map.contains_key(&name) {
            let known: Vec<&str> = map.keys().map(String::as_str).collect();
            let help = Some(did_you_mean(segment, &known));
            return Err(match segments[0] {
                "stages" if depth == 1 => (Problem::UnknownStage((*segment).to_owned()), help),
                _ => (Problem::BadSet(format!("`{key}` does not exist, so setting it would do nothing")), help),
            });
        }
        pointer = join(&pointer, &name);
        at = Some(map.entry(name).or_insert(Value::Null));
    }
    match at {
        Some(value) => Ok((value, pointer)),
        None => Err((Problem::BadSet(format!("`{key}` is no dotted path such as `vars.seed`")), None)),
    }
}
