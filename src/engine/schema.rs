//! The JSON Schema of pipeline.yaml, for editors: the format, and for each built-in kind its slots and parameters.
//!
//! Made from the same shapes the file is read into, so it cannot fall behind. `${...}` may stand wherever a number or
//! truth value may.

use serde_json::{Map, Value, json};

use crate::spec::raw;
use crate::stage::{Arity, Registry, Slot, StageKind};

/// Returns the JSON Schema (draft 2020-12) of a pipeline that may use these kinds.
pub fn pipeline(registry: &Registry) -> Value {
    let mut schema = schemars::schema_for!(raw::RawSpec).to_value();
    schema["$id"] = json!("https://logweir.github.io/schema/pipeline.v1.json");
    let mut definitions = match schema["$defs"].take() {
        Value::Object(definitions) => definitions,
        _ => Map::new(),
    };
    for shape in ["Pool", "Stage", "Profile"] {
        if let Some(shape) = definitions.get_mut(shape) {
            allow_references(shape);
        }
    }
    for key in ["sandbox", "pools", "store", "executor", "lineage"] {
        if let Some(shape) = schema.pointer_mut(&format!("/properties/{key}")) {
            allow_references(shape);
        }
    }
    schema["required"] = json!(["version", "stages"]);
    let mut whole_stage = json!({
        "$ref": "#/$defs/Stage",
        "oneOf": [{"required": ["uses"]}, {"required": ["run"]}],
    });
    let kinds: Vec<&StageKind> = registry.iter().collect();
    if !kinds.is_empty() {
        let names: Vec<Value> =
            kinds.iter().map(|kind| json!({"const": kind.name, "description": kind.about})).collect();
        definitions.insert("Kind".to_owned(), json!({"oneOf": names}));
        // A profile may change a stage of any kind without naming it, so the kind's shape applies where it is named.
        let rules: Vec<Value> = kinds
            .iter()
            .map(|kind| {
                json!({
                    "if": {"required": ["uses"], "properties": {"uses": {"const": kind.name}}},
                    "then": {"$ref": format!("#/$defs/{}", kind_definition(kind))},
                })
            })
            .collect();
        whole_stage["allOf"] = Value::Array(rules);
        if let Some(uses) = definitions.get_mut("Stage").and_then(|stage| stage.pointer_mut("/properties/uses")) {
            *uses = json!({"description": "A built-in kind.", "$ref": "#/$defs/Kind"});
        }
        for kind in kinds {
            let shape = of_kind(kind, &mut definitions);
            definitions.insert(kind_definition(kind), shape);
        }
    }
    definitions.insert("WholeStage".to_owned(), whole_stage);
    schema["properties"]["stages"] = json!({
        "description": "What is to be done: a name for each stage.",
        "type": "object",
        // No `\p{L}`: editors' and Python's regular expressions do not know it.
        "propertyNames": {"pattern": r"^[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff-]*$"},
        "additionalProperties": {"$ref": "#/$defs/WholeStage"},
    });
    schema["$defs"] = Value::Object(definitions);
    schema
}

fn kind_definition(kind: &StageKind) -> String {
    format!("kind.{}", kind.name)
}

/// Slots and parameters of one kind. Definitions its parameters refer to move to the document, prefixed by its name.
fn of_kind(kind: &StageKind, definitions: &mut Map<String, Value>) -> Value {
    let mut with = (kind.schema)();
    let prefix = format!("{}.", kind.name);
    if let Some(object) = with.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
        let own = object.remove("$defs");
        for (name, mut definition) in own.and_then(|own| own.as_object().cloned()).unwrap_or_default() {
            rename_references(&mut definition, &prefix);
            allow_references(&mut definition);
            definitions.insert(format!("{prefix}{name}"), definition);
        }
    }
    rename_references(&mut with, &prefix);
    allow_references(&mut with);
    let mut properties = json!({
        "in": slots(kind.inputs, true),
        "out": slots(kind.outputs, false),
        "with": with,
    });
    let mut required = vec!["uses"];
    for (key, all) in [("in", kind.inputs), ("out", kind.outputs)] {
        if all.iter().any(|slot| !slot.optional) {
            required.push(key);
        }
    }
    properties["uses"] = json!({"const": kind.name, "description": kind.about});
    json!({"description": kind.about, "properties": properties, "required": required})
}

fn slots(slots: &[Slot], input: bool) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for slot in slots {
        let shape = match (slot.arity, input) {
            (Arity::Directory, _) => json!({"type": "string", "pattern": r"/$|\$\{", "description": slot.about}),
            (Arity::File, _) => json!({"type": "string", "not": {"pattern": "/$"}, "description": slot.about}),
            (Arity::Files, true) => json!({"$ref": "#/$defs/OneOrMany", "description": slot.about}),
            (Arity::Files, false) => json!({"type": "string", "description": slot.about}),
        };
        if slot.optional {
            if input {
                properties.insert(format!("{}?", slot.name), shape.clone());
            }
        } else {
            required.push(slot.name);
        }
        properties.insert(slot.name.to_owned(), shape);
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// Points `#/$defs/X` to `#/$defs/PREFIX.X`.
fn rename_references(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get_mut("$ref")
                && let Some(name) = target.strip_prefix("#/$defs/")
            {
                *target = format!("#/$defs/{prefix}{name}");
            }
            map.values_mut().for_each(|inner| rename_references(inner, prefix));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| rename_references(inner, prefix)),
        _ => {}
    }
}

/// Lets `${...}` stand for the value of every property and list item.
fn allow_references(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for (key, inner) in map.iter_mut() {
        match (key.as_str(), inner) {
            ("properties", Value::Object(properties)) => {
                for property in properties.values_mut() {
                    allow_references(property);
                    or_reference(property);
                }
            }
            ("items" | "additionalProperties", inner @ Value::Object(_)) => {
                allow_references(inner);
                or_reference(inner);
            }
            ("anyOf" | "oneOf" | "allOf", Value::Array(choices)) => choices.iter_mut().for_each(allow_references),
            _ => {}
        }
    }
}

fn or_reference(schema: &mut Value) {
    let takes_text =
        |kind: &Value| kind == "string" || kind.as_array().is_some_and(|all| all.iter().any(|k| k == "string"));
    let Some(map) = schema.as_object() else { return };
    if map.is_empty() || (map.get("type").is_some_and(takes_text) && !map.contains_key("enum")) {
        return;
    }
    // What an editor shows stays outside.
    let mut outer = Map::new();
    let mut inner = map.clone();
    for key in ["description", "default", "title"] {
        if let Some(value) = inner.shift_remove(key) {
            outer.insert(key.to_owned(), value);
        }
    }
    outer.insert("anyOf".to_owned(), json!([inner, {"type": "string", "pattern": r"\$\{"}]));
    *schema = Value::Object(outer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::registry;

    fn faults(document: &Value) -> Vec<String> {
        let validator = jsonschema::validator_for(&pipeline(&registry())).unwrap();
        validator.iter_errors(document).map(|error| error.instance_path().to_string()).collect()
    }

    fn good() -> Value {
        json!({
            "version": 1,
            "name": "x",
            "roots": {"raw": "${env.RAW:-data/raw}"},
            "vars": {"seed": 42},
            "profiles": {"demo": {"roots": {"raw": "data/sim"}, "stages": {"a": {"with": {"rows": 3}}, "old": null}}},
            "sandbox": "off",
            "pools": {"gpu": 1},
            "store": {"link": "hard"},
            "stages": {
                "a": {
                    "uses": "copy",
                    "in": {"table": "raw:x*", "more?": ["a", "b"]},
                    "out": {"copy": "b", "parts": "c/"},
                    "with": {"rows": "${vars.seed}", "share": 0.5},
                    "threads": "${vars.seed}",
                    "memory": "4G",
                    "timeout": "1h30m",
                },
                "b": {
                    "run": "x ${matrix.n}", "in": {"x": "y"}, "out": {"o": "o${matrix.n}"},
                    "matrix": {"n": [1, "two"]}, "needs": "a", "env": ["A"], "retries": 2, "always": true,
                },
            },
        })
    }

    #[test]
    fn the_schema_is_valid_and_so_is_a_good_pipeline() {
        let schema = pipeline(&registry());
        assert!(jsonschema::meta::is_valid(&schema));
        assert_eq!(faults(&good()), Vec::<String>::new());
    }

    #[test]
    fn a_bad_pipeline_is_not() {
        let wrong = |pointer: &str, value: Value| {
            let mut document = good();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[key] = value;
            assert!(!faults(&document).is_empty(), "{pointer} passes");
        };
        wrong("/version", json!(2));
        wrong("/stagse", json!({}));
        wrong("/stages/a b", json!({"run": "x"}));
        wrong("/stages/a/uses", json!("cpoy"));
        wrong("/stages/a/run", json!("both"));
        wrong("/stages/a/in/tabel", json!("x"));
        wrong("/stages/a/in/table", json!("x/"));
        wrong("/stages/a/out/parts", json!("no-slash"));
        wrong("/stages/a/with/rows", json!("many"));
        wrong("/stages/a/with/rosw", json!(1));
        wrong("/stages/a/threads", json!(0));
        wrong("/stages/a/retrise", json!(1));
        wrong("/stages/b/matrix/n", json!(3));
        wrong("/profiles/demo/stagse", json!({}));
        wrong("/profiles/demo/stages/a/retrise", json!(1));
        wrong("/sandbox", json!("loose"));
    }
}
