//! `stages` and `schema`: what a pipeline file may say.

use std::fmt::Write as _;

use anyhow::anyhow;
use logweir_engine::stage::{Arity, Slot, StageKind};
use logweir_engine::suggest::did_you_mean;
use serde_json::{Map, Value, json};

use crate::cli::StagesArgs;
use crate::commands::{Outcome, registry};
use crate::render::diagnostic::Failure;
use crate::render::table::Table;
use crate::render::{Paint, Screen};

pub(super) fn stages(args: &StagesArgs, screen: &Screen) -> Outcome {
    let registry = registry();
    match &args.kind {
        None if screen.json => screen.json(&json!({"kinds": registry.iter().map(document).collect::<Vec<_>>()}))?,
        None => {
            let mut table = Table::default();
            for kind in registry.iter() {
                table.row([screen.out.bold(kind.name), kind.about.to_owned()]);
            }
            table.row([screen.out.bold("run:"), "any shell command, in place of `uses:`".to_owned()]);
            screen.data(&table.render(0))?;
            screen.note("one with its slots and parameters: logweir stages KIND");
        }
        Some(name) => {
            let kind = registry.get(name).ok_or_else(|| {
                let known: Vec<&str> = registry.iter().map(|kind| kind.name).collect();
                Failure::usage(anyhow!("unknown kind of stage `{name}`")).help(did_you_mean(name, &known))
            })?;
            if screen.json {
                screen.json(&document(kind))?;
            } else {
                screen.data(&page(kind, screen.out))?;
            }
        }
    }
    Ok(0)
}

pub(super) fn schema(screen: &Screen) -> Outcome {
    screen.json(&logweir_engine::schema::pipeline(&registry()))?;
    Ok(0)
}

fn document(kind: &StageKind) -> Value {
    json!({
        "kind": kind.name,
        "about": kind.about,
        "version": kind.version,
        "inputs": kind.inputs,
        "outputs": kind.outputs,
        "defaults": defaults(kind),
        "parameters": (kind.schema)(),
    })
}

/// The parameters of a stage with an empty `with`; null where something must be given.
fn defaults(kind: &StageKind) -> Value {
    (kind.make)(&Value::Null).map(|made| made.params).unwrap_or_default()
}

fn page(kind: &StageKind, paint: Paint) -> String {
    let mut out = format!("{}: {}\n", paint.bold(kind.name), kind.about);
    for (title, slots) in [("in", kind.inputs), ("out", kind.outputs)] {
        if slots.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n{}:", paint.bold(title));
        let mut table = Table::default();
        for slot in slots {
            table.row([slot_name(slot), paint.dim(arity(slot)), slot.about.to_owned()]);
        }
        out.push_str(&table.render(2));
    }
    let schema = (kind.schema)();
    let mut rows = Vec::new();
    parameters(&schema, &schema, &defaults(kind), "", &mut rows);
    if !rows.is_empty() {
        let _ = writeln!(out, "\n{}:", paint.bold("with"));
        for row in rows {
            let default = match &row.default {
                Value::Null => String::new(),
                value => format!(" = {value}"),
            };
            let _ = writeln!(out, "  {}{default}  {}", paint.cyan(&row.path), paint.dim(&row.kind));
            for line in row.about.split('\n').filter(|line| !line.is_empty()) {
                let _ = writeln!(out, "      {line}");
            }
        }
    }
    out
}

fn slot_name(slot: &Slot) -> String {
    format!("{}{}", slot.name, if slot.optional { "?" } else { "" })
}

fn arity(slot: &Slot) -> &'static str {
    match slot.arity {
        Arity::File => "file",
        Arity::Directory => "directory/",
        Arity::Files => "files",
    }
}

/// One parameter of a kind.
struct Parameter {
    path: String,
    kind: String,
    default: Value,
    about: String,
}

/// Collects the parameters of a schema, nested ones by dotted path.
fn parameters(root: &Value, schema: &Value, defaults: &Value, at: &str, rows: &mut Vec<Parameter>) {
    let empty = Map::new();
    let properties = resolve(root, schema).get("properties").and_then(Value::as_object).unwrap_or(&empty);
    for (name, property) in properties {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let default = defaults.get(name).cloned().unwrap_or_default();
        let target = resolve(root, property);
        let about = property.get("description").or_else(|| target.get("description"));
        let about = about.and_then(Value::as_str).unwrap_or_default().to_owned();
        let nested = target.get("properties").is_some();
        let shown = if nested && !default.is_null() { Value::Null } else { default.clone() };
        rows.push(Parameter { path: path.clone(), kind: kind_of(root, property), default: shown, about });
        if nested {
            parameters(root, target, &default, &path, rows);
        }
    }
}

/// Follows a reference; of an optional struct (`anyOf: [{$ref}, null]`) to the struct.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema.get("$ref").or_else(|| {
        let variants = schema.get("anyOf")?.as_array()?;
        variants.iter().find_map(|variant| variant.get("$ref"))
    });
    target.and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#'))).unwrap_or(schema)
}

/// A type in a few words: `number`, `string or null`, `one of a | b`, `list of …`.
fn kind_of(root: &Value, schema: &Value) -> String {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return format!("one of {}", list(values));
    }
    if let Some(value) = schema.get("const") {
        return format!("one of {}", list(std::slice::from_ref(value)));
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(variants) = schema.get(key).and_then(Value::as_array) {
            let constants: Vec<Value> = variants.iter().filter_map(|v| v.get("const").cloned()).collect();
            if constants.len() == variants.len() {
                return format!("one of {}", list(&constants));
            }
            let kinds: Vec<String> = variants.iter().map(|variant| kind_of(root, variant)).collect();
            return kinds.join(" or ");
        }
    }
    if schema.get("$ref").is_some() {
        let target = resolve(root, schema);
        return if std::ptr::eq(target, schema) { "object".to_owned() } else { kind_of(root, target) };
    }
    let text = match schema.get("type") {
        Some(Value::String(one)) => one.clone(),
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => "any value".to_owned(),
    };
    match schema.get("items") {
        Some(items) if text.starts_with("array") => format!("list of {}", kind_of(root, items)),
        _ => text,
    }
}

fn list(values: &[Value]) -> String {
    let texts: Vec<String> =
        values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
    texts.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_parameters_appear_by_dotted_path_with_type_and_default() {
        let schema = json!({
            "properties": {
                "seed": {"type": "integer", "description": "Seed."},
                "threshold": {"$ref": "#/$defs/T", "description": "How."},
            },
            "$defs": {"T": {"type": "object", "properties": {
                "objective": {"oneOf": [{"const": "f_beta"}, {"const": "budget"}]},
                "names": {"type": "array", "items": {"type": "string"}},
            }}}
        });
        let defaults = json!({"seed": 42, "threshold": {"objective": "f_beta", "names": ["a"]}});
        let mut rows = Vec::new();
        parameters(&schema, &schema, &defaults, "", &mut rows);
        let texts: Vec<String> = rows.iter().map(|r| format!("{} {} {}", r.path, r.kind, r.default)).collect();
        assert_eq!(
            texts,
            [
                "seed integer 42",
                "threshold object null",
                "threshold.objective one of f_beta | budget \"f_beta\"",
                "threshold.names list of string [\"a\"]",
            ]
        );
    }
}
