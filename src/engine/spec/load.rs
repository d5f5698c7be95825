//! From a text to a [`Spec`]: the order of the steps, and everything above the stages.

use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::check::{self, Head};
use super::error::{Problem, SpecErrors};
use super::interpolate::{self, Mode, Scope};
use super::source::{Part, Sources};
use super::spans::join;
use super::{Spec, links, merge, raw, secret};
use crate::graph::{self, Dag};
use crate::stage::Registry;
use crate::suggest::did_you_mean;

/// A pipeline file that has been read.
#[derive(Clone, Debug)]
pub struct SourceText {
    /// How messages call it: the path as the user knows it, `pipeline.yaml`.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// What is laid over the file, and the environment that `${env.X}` sees.
pub struct LoadOptions<'a> {
    /// `--profile`.
    pub profile: Option<String>,
    /// Every `--set`, as given: `vars.seed=7`.
    pub sets: Vec<String>,
    /// Looks up an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// Reads and checks a pipeline.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(source: &SourceText, registry: &Registry, options: &LoadOptions<'_>) -> Result<Spec, SpecErrors> {
    load_with_dag(source, registry, options).map(|(spec, _)| spec)
}

/// Reads and checks a pipeline and returns its graph too, which the check needs anyway.
///
/// # Errors
/// As [`load`].
pub fn load_with_dag(
    source: &SourceText,
    registry: &Registry,
    options: &LoadOptions<'_>,
) -> Result<(Spec, Dag), SpecErrors> {
    let mut sources = Sources::new(&source.name, &source.text, options.profile.as_deref(), &options.sets);
    let loaded = read(source, registry, options, &mut sources);
    match (sources.into_errors(), loaded) {
        (None, Some(loaded)) => Ok(loaded),
        (Some(errors), _) => Err(errors),
        (None, None) => unreachable!("nothing is left out without an error"),
    }
}

fn read(
    source: &SourceText,
    registry: &Registry,
    options: &LoadOptions<'_>,
    sources: &mut Sources,
) -> Option<(Spec, Dag)> {
    let mut document = parse(&source.text, sources)?;
    // Only a text that has one is walked: pointers for every value of a large file take their time.
    if secret::password_in(&source.text).is_some() {
        for (key, value) in &document {
            refuse_passwords(value, &join("", key), "pipeline.yaml", sources);
        }
    }
    merge::apply_profile(&mut document, options.profile.as_deref(), sources);
    merge::apply_sets(&mut document, &options.sets, sources);
    check_version(&document, sources);

    let stages = take_mapping(&mut document, "stages", "names to stages", sources);
    let vars = take_mapping(&mut document, "vars", "names to values", sources);
    let nothing = Map::new();
    let outer = Scope { env: options.env, vars: &nothing, matrix: None, with: None, slots: None, item: false };
    let vars = interpolate::expand_mapping(&vars, "vars", &outer, "/vars", sources);
    let scope = Scope { vars: &vars, ..outer };
    let head = head(document, &scope, sources);

    let checked = check::stages(&stages, &head, &scope, registry, sources);
    let spec = Spec {
        name: head.name,
        roots: head.roots,
        pools: head.pools,
        link: head.link,
        sign: head.sign,
        openlineage: head.openlineage,
        stages: checked,
        overrides: options.sets.clone(),
        profile: options.profile.clone(),
    };
    match graph::link(&spec) {
        Ok(dag) => (sources.count() == 0).then_some((spec, dag)),
        Err(faults) => {
            links::place_faults(&spec, &faults, sources);
            None
        }
    }
}

/// Reads the text and reports what is wrong with it as YAML.
fn parse(text: &str, sources: &mut Sources) -> Option<Map<String, Value>> {
    let document = match raw::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let spans = sources.spans();
            let (message, at) = match (spans.second_document, error.place, &spans.syntax) {
                (Some(at), None, _) => {
                    ("one file holds one pipeline, but here a second document begins".to_owned(), at)
                }
                (_, Some((line, column)), _) => (error.message, offset(text, line, column)),
                (_, None, Some((message, at))) => (message.clone(), *at),
                (_, None, None) => (error.message, 0),
            };
            let end = text[at..].chars().next().map_or(at, |c| at + if c == '\n' { 0 } else { c.len_utf8() });
            let place = sources.in_file(at..end);
            let error = sources.fail_at(Some(place), Problem::Syntax(message));
            if text.lines().any(|line| line.starts_with('\t')) {
                error.help = Some("YAML is indented with spaces, never with tabs".to_owned());
            }
            return None;
        }
    };
    if document.duplicates {
        for duplicate in sources.spans().duplicates.clone() {
            let first = sources.in_file(duplicate.first);
            let second = sources.in_file(duplicate.second);
            let error = sources.fail_at(Some(second), Problem::DuplicateKey(duplicate.key));
            error.label = "again".to_owned();
            error.related = vec![(first, "first given here".to_owned())];
            error.help = Some("only one of them would count: remove one, or merge the two".to_owned());
        }
    }
    match document.value {
        Value::Object(map) => Some(map),
        Value::Null => {
            let place = sources.in_file(0..0);
            let error = sources.fail_at(Some(place), Problem::Syntax("there is no pipeline in this file".to_owned()));
            error.help = Some("`logweir init` writes a small one to begin with".to_owned());
            None
        }
        _ => {
            let problem =
                Problem::Syntax("a pipeline is a mapping: `version: 1`, `name: ...`, `stages: ...`".to_owned());
            sources.fail("", Part::Value, "", problem);
            None
        }
    }
}

/// Returns the byte offset of a line and column (from 1, in characters).
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = &text[start..];
    let within = rest.split('\n').next().unwrap_or_default();
    start + within.char_indices().nth(column.saturating_sub(1)).map_or(within.len(), |(at, _)| at)
}

fn check_version(document: &Map<String, Value>, sources: &mut Sources) {
    let help = "this program reads `version: 1`".to_owned();
    match document.get("version") {
        Some(Value::Number(number)) if number.as_u64() == Some(1) => {}
        Some(other) => {
            let problem = Problem::BadVersion(format!("version {other} of pipeline.yaml is not known"));
            sources.fail("/version", Part::Value, "", problem).help = Some(help);
        }
        None => {
            let problem = Problem::BadVersion("`version` is missing".to_owned());
            sources.fail("/version", Part::Value, "", problem).help = Some(help);
        }
    }
}

fn take_mapping(document: &mut Map<String, Value>, key: &str, what: &str, sources: &mut Sources) -> Map<String, Value> {
    match document.shift_remove(key) {
        Some(Value::Object(map)) => map,
        None | Some(Value::Null) => Map::new(),
        Some(_) => {
            let problem = Problem::BadValue(format!("`{key}` must map {what}"));
            sources.fail(&join("", key), Part::Value, "", problem);
            Map::new()
        }
    }
}

/// Interpolates and types everything above the stages.
fn head(document: Map<String, Value>, scope: &Scope<'_>, sources: &mut Sources) -> Head {
    let mut value: Map<String, Value> = document.into_iter().filter(|(_, value)| !value.is_null()).collect();
    for (key, value) in &mut value {
        let mode = if matches!(key.as_str(), "roots" | "name") { Mode::Text } else { Mode::Typed };
        if interpolate::wanted(value) {
            interpolate::expand(value, scope, mode, &join("", key), sources);
        }
    }
    // A missing version is reported already.
    value.entry("version").or_insert(Value::from(1));
    let mut value = Value::Object(value);
    let read: Option<raw::RawSpec> = typed(&mut value, "", "the pipeline", sources);
    let Some(read) = read else {
        // Root and pool names still serve the checks of the stages.
        let names = |key: &str| -> Vec<String> {
            value.get(key).and_then(Value::as_object).into_iter().flat_map(|map| map.keys().cloned()).collect()
        };
        return Head {
            name: String::new(),
            roots: names("roots").into_iter().map(|name| (name, Default::default())).collect(),
            pools: names("pools").into_iter().map(|name| (name, 1)).collect(),
            link: raw::Link::default(),
            sign: None,
            openlineage: None,
            sandbox: raw::Sandbox::Off,
        };
    };
    for (name, place) in &read.roots {
        if name == "lineage" || !check::is_name(name) {
            let problem = Problem::BadName { name: name.clone(), what: "a root" };
            sources.fail(&join("/roots", name), Part::Key, "", problem).help = Some(check::NAME_HELP.to_owned());
        }
        if place.is_empty() {
            let problem = Problem::BadPath(format!("root `{name}` has no place"));
            sources.fail(&join("/roots", name), Part::Value, "", problem);
        }
    }
    if let Some(executor) = read.executor.as_ref().filter(|executor| executor.name() != "local") {
        let problem = Problem::NotAvailable(format!("the executor `{}`", executor.name()));
        sources.fail("/executor", Part::Value, "", problem).help = Some("only `local` is available so far".to_owned());
    }
    let home = |place: String| match place.strip_prefix("~/") {
        Some(rest) => (scope.env)("HOME").map_or(place.clone(), |home| format!("{home}/{rest}")),
        None => place,
    };
    let (sign, openlineage) = read.lineage.map_or((None, None), |lineage| (lineage.sign, lineage.openlineage));
    Head {
        name: read.name.unwrap_or_else(|| "pipeline".to_owned()),
        roots: read.roots.into_iter().map(|(name, place)| (name, home(place).into())).collect(),
        pools: read.pools.into_iter().map(|(name, pool)| (name, pool.0.get())).collect::<IndexMap<_, _>>(),
        sign: sign.map(home).filter(|path| !path.is_empty()),
        openlineage: openlineage.and_then(|raw| receiver(raw, sources)),
        link: read.store.map(|store| store.link).unwrap_or_default(),
        sandbox: read.sandbox.unwrap_or_default(),
    }
}

/// Checks a receiver of OpenLineage events; none where its URL is empty.
fn receiver(raw: raw::RawOpenLineage, sources: &mut Sources) -> Option<super::OpenLineage> {
    let place = "/lineage/openlineage/url";
    let authority = raw.url.strip_prefix("http://").or_else(|| raw.url.strip_prefix("https://"));
    let authority = authority.and_then(|rest| rest.split(['/', '?', '#']).next());
    match authority {
        _ if raw.url.is_empty() => return None,
        Some(authority) if authority.contains('@') => {
            let problem = Problem::BadValue("the URL carries credentials".to_owned());
            let help = "name the variable that holds the key: `api_key_env: NAME`";
            sources.fail(place, Part::Value, "", problem).help = Some(help.to_owned());
        }
        Some(host) if !host.is_empty() && !host.starts_with(':') => {}
        _ => {
            let problem = Problem::BadValue(format!("`{}` is no http URL", raw.url));
            let help = "for instance http://127.0.0.1:5000/api/v1/lineage";
            sources.fail(place, Part::Value, "", problem).help = Some(help.to_owned());
        }
    }
    let timeout = raw.timeout.map_or(std::time::Duration::from_secs(5), |span| span.0);
    Some(super::OpenLineage { url: raw.url, timeout, api_key_env: raw.api_key_env })
}

/// Reads a value into a shape; reports every unknown key and every misfit.
pub(super) fn typed<T: DeserializeOwned + schemars::JsonSchema>(
    value: &mut Value,
    pointer: &str,
    place: &str,
    sources: &mut Sources,
) -> Option<T> {
    if let Ok(read) = T::deserialize(&*value) {
        return Some(read);
    }
    let schema = schemars::schema_for!(T).to_value();
    let mut unknown = Vec::new();
    raw::unknown_keys(&schema, &schema, value, "", &mut |at, key, known| {
        unknown.push((at.to_owned(), key.to_owned(), did_you_mean(key, known)));
    });
    for (at, key, help) in unknown {
        raw::remove(value, &at);
        let inside = match at.rsplit_once('/').map_or("", |(parent, _)| parent) {
            "" => place.to_owned(),
            parent => format!("`{}` of {place}", parent.trim_start_matches('/').replace('/', ".")),
        };
        let help =
            if key == "<<" { "merge keys are not read; repeat the lines, or use a profile".to_owned() } else { help };
        let problem = Problem::UnknownKey { key, place: inside };
        sources.fail(&format!("{pointer}{at}"), Part::Key, "", problem).help = Some(help);
    }
    match raw::read(value) {
        Ok(read) => Some(read),
        Err(misfits) => {
            for misfit in misfits {
                let key = misfit.pointer.trim_start_matches('/').replace('/', ".");
                let message = if key.is_empty() { misfit.message } else { format!("`{key}`: {}", misfit.message) };
                sources.fail(&format!("{pointer}{}", misfit.pointer), Part::Value, "", Problem::BadValue(message));
            }
            None
        }
    }
}

/// Reports every password in a value.
pub(super) fn refuse_passwords(value: &Value, pointer: &str, place: &'static str, sources: &mut Sources) {
    match value {
        Value::String(text) if secret::password_in(text).is_some() => {
            let help = "credentials come from LOGWEIR_POSTGRES, the PG* variables or a name in `secrets`";
            sources.fail(pointer, Part::Value, "", Problem::Password(place)).help = Some(help.to_owned());
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                refuse_passwords(item, &join(pointer, &index.to_string()), place, sources);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                refuse_passwords(item, &join(pointer, key), place, sources);
            }
        }
        _ => {}
    }
}
