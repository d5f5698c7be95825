//! Paths of pipeline.yaml: `data/x.csv`, `data/x/`, `raw:2026/*.log`, `lineage:reports/metrics.json`.

use indexmap::IndexMap;

use super::error::Problem;
use super::{InputRef, Output, ProjectPath};
use crate::suggest::did_you_mean;

type Refusal = (Problem, Option<String>);

/// Characters that make a path a pattern.
const PATTERN: [char; 4] = ['*', '?', '[', '{'];

/// Reads an entry of an input slot.
pub(super) fn input<V>(text: &str, roots: &IndexMap<String, V>) -> Result<InputRef, Refusal> {
    if let Some(target) = text.strip_prefix("lineage:") {
        let (path, directory) = path(target, roots)?;
        if path.path.contains(PATTERN) {
            let problem = Problem::BadPath(format!("`{text}` is a pattern, but lineage is of one artifact"));
            return Err((problem, None));
        }
        let _ = directory;
        return Ok(InputRef::Lineage(path));
    }
    let (path, directory) = path(text, roots)?;
    if path.path.contains(PATTERN) {
        if directory {
            let help = format!("to take the files in them write `{text}*`");
            return Err((Problem::BadPath(format!("`{text}` is a pattern of directories")), Some(help)));
        }
        return match glob(&path.path) {
            Ok(_) => Ok(InputRef::Glob(path)),
            Err(error) => Err((Problem::BadPath(format!("`{text}` is no pattern: {}", error.kind())), None)),
        };
    }
    Ok(if directory { InputRef::Directory(path) } else { InputRef::File(path) })
}

/// Reads an output.
pub(super) fn output<V>(text: &str, roots: &IndexMap<String, V>) -> Result<Output, Refusal> {
    let (path, directory) = path(text, roots)?;
    if path.root.is_some() || text.starts_with("lineage:") {
        let help = Some("outputs lie in the project".to_owned());
        return Err((Problem::BadPath(format!("`{text}` lies in a root, which is only read")), help));
    }
    if path.path.contains(PATTERN) {
        let help = Some("an output is one path, or a directory with a trailing slash".to_owned());
        return Err((Problem::BadPath(format!("`{text}` is a pattern, not an output")), help));
    }
    let first = path.path.split('/').next().unwrap_or_default();
    if matches!(first, "cache" | ".git") {
        return Err((Problem::BadPath(format!("`{text}` lies in `{first}/`, which stages do not write to")), None));
    }
    Ok(Output { path, directory })
}

/// Builds the matcher of a pattern: `*` and `?` stay within a directory, `**` does not.
///
/// # Errors
/// The pattern is malformed.
pub(crate) fn glob(pattern: &str) -> Result<globset::GlobMatcher, globset::Error> {
    Ok(globset::GlobBuilder::new(pattern).literal_separator(true).backslash_escape(false).build()?.compile_matcher())
}

/// Reads a path; the flag says whether it ended in a slash.
fn path<V>(text: &str, roots: &IndexMap<String, V>) -> Result<(ProjectPath, bool), Refusal> {
    let (root, rest) = match text.split_once(':') {
        Some((root, rest)) if !root.contains(['/', '\\']) => {
            if !roots.contains_key(root) {
                let known: Vec<&str> = roots.keys().map(String::as_str).collect();
                let help =
                    if roots.is_empty() { "declare it under `roots`".to_owned() } else { did_you_mean(root, &known) };
                return Err((Problem::UnknownRoot(root.to_owned()), Some(help)));
            }
            (Some(root.to_owned()), rest)
        }
        Some(_) if text.contains(':') => {
            let help = Some("`:` separates a root from a path; it cannot be part of a path in the project".to_owned());
            return Err((Problem::BadPath(format!("`{text}` holds a `:`")), help));
        }
        _ => (None, text),
    };
    if rest.starts_with('/') || rest.starts_with('~') {
        let help = match root {
            Some(_) => "a path in a root is relative to it",
            None => "paths are relative to the project; name the place under `roots` and write `root:path`",
        };
        return Err((Problem::BadPath(format!("`{text}` lies outside the project")), Some(help.to_owned())));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let help = "name the place under `roots` and write `root:path`".to_owned();
                return Err((Problem::BadPath(format!("`{text}` leads out of the project through `..`")), Some(help)));
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        let problem = format!("`{text}` is no path below {}", if root.is_some() { "the root" } else { "the project" });
        return Err((Problem::BadPath(problem), None));
    }
    if rest.contains(['\0', '\n']) {
        return Err((Problem::BadPath("a path has no line breaks".to_owned()), None));
    }
    let directory = rest.ends_with('/') || rest.ends_with("/.");
    // Most paths are clean already.
    let path = if parts.len() == 1 { parts[0].to_owned() } else { parts.join("/") };
    Ok((ProjectPath { root, path }, directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> IndexMap<String, ()> {
        IndexMap::from([("raw".to_owned(), ())])
    }

    fn at(root: Option<&str>, path: &str) -> ProjectPath {
        ProjectPath { root: root.map(str::to_owned), path: path.to_owned() }
    }

    #[test]
    fn forms_of_inputs() {
        let read = |text| input(text, &roots()).ok().unwrap();
        assert_eq!(read("./a//b.csv"), InputRef::File(at(None, "a/b.csv")));
        assert_eq!(read("a/b/"), InputRef::Directory(at(None, "a/b")));
        assert_eq!(read("raw:x*.log"), InputRef::Glob(at(Some("raw"), "x*.log")));
        assert_eq!(read("raw:12:30.log"), InputRef::File(at(Some("raw"), "12:30.log")));
        assert_eq!(read("lineage:a/b.json"), InputRef::Lineage(at(None, "a/b.json")));
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for text in ["/etc/passwd", "../x", "a/../../x", "~/x", "raw:/x", "raw:../x", "", ".", "rwa:x", "a/b:c", "a[b"]
        {
            assert!(input(text, &roots()).is_err(), "{text}");
        }
        for text in ["raw:x", "a*", "cache/x", ".git/x", "/x"] {
            assert!(output(text, &roots()).is_err(), "{text}");
        }
    }
}
