//! Where the source inputs of a pipeline lie on disk, for whoever wants to know when they change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::sources::Places;
use crate::spec::{InputRef, ProjectPath, Spec};
use crate::wiring::{Link, Wiring, literal_prefix, matcher};

/// A place a pipeline reads that no stage makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// One file, there or not.
    File(PathBuf),
    /// A folder and all below it.
    Folder(PathBuf),
    /// All files that match a pattern.
    Matching(Pattern),
}

/// A pattern below a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    root: PathBuf,
    glob: String,
}

impl Pattern {
    /// Returns the folder that holds all files that match.
    pub fn folder(&self) -> PathBuf {
        let literal = literal_prefix(&self.glob);
        self.root.join(&literal[..literal.rfind('/').unwrap_or(0)])
    }

    /// Returns whether a file, by its absolute path, matches.
    pub fn matches(&self, file: &Path) -> bool {
        // A pattern that is none has been refused before.
        file.strip_prefix(&self.root).is_ok_and(|below| matcher(&self.glob).is_ok_and(|m| m.is_match(below)))
    }
}

/// Returns the places of the source inputs of the selected stages, sorted, each once.
pub(crate) fn of(spec: &Spec, wiring: &Wiring, places: &Places, selected: &[bool]) -> Vec<Source> {
    let mut found = BTreeSet::new();
    for (index, stage) in spec.stages.iter().enumerate().filter(|(index, _)| selected[*index]) {
        for wire in &wiring.wires[index] {
            let reference = &stage.inputs[wire.slot].refs[wire.reference];
            found.extend(match (&wire.link, reference) {
                (Link::SourceFile, InputRef::File(path)) => Some(Source::File(places.place(path))),
                (Link::SourceDirectory(_), InputRef::Directory(path)) => Some(Source::Folder(places.place(path))),
                (Link::Pattern { .. }, InputRef::Glob(path)) => {
                    let root = places.place(&ProjectPath { root: path.root.clone(), path: String::new() });
                    Some(Source::Matching(Pattern { root, glob: path.path.clone() }))
                }
                _ => None,
            });
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, LoadOptions, SourceText};
    use crate::stage::Registry;

    #[test]
    fn files_directories_and_folders_of_patterns_are_sources_and_outputs_are_not() {
        let text = "version: 1\nname: t\nroots: { raw: /logs }\nstages:\n  \
                    a: { run: x, in: { i: src/a.txt, d: conf/, g: \"raw:app/*.log\" }, out: { o: out/a } }\n  \
                    b: { run: x, in: { i: out/a, t: \"*.txt\", again: src/a.txt }, out: { o: out/b } }\n";
        let source = SourceText { name: "pipeline.yaml".into(), text: text.into() };
        let options = LoadOptions { profile: None, sets: Vec::new(), env: &|_| None };
        let spec = spec::load(&source, &Registry::default(), &options).unwrap();
        let (wiring, places) = (Wiring::new(&spec).unwrap(), Places::new(Path::new("/p"), &spec));
        let file = |path: &str| Source::File(path.into());
        let folder = |path: &str| Source::Folder(path.into());
        let all = of(&spec, &wiring, &places, &[true, true]);
        let pattern = |root: &str, glob: &str| Pattern { root: root.into(), glob: glob.into() };
        let (logs, texts) = (pattern("/logs", "app/*.log"), pattern("/p", "*.txt"));
        let matching = |pattern: &Pattern| Source::Matching(pattern.clone());
        assert_eq!(all, [file("/p/src/a.txt"), folder("/p/conf"), matching(&logs), matching(&texts)]);
        assert_eq!(of(&spec, &wiring, &places, &[false, true]), [file("/p/src/a.txt"), matching(&texts)]);
        assert_eq!((logs.folder(), texts.folder()), ("/logs/app".into(), "/p".into()));
        assert!(logs.matches(Path::new("/logs/app/x.log")) && !logs.matches(Path::new("/logs/app/x.log.swp")));
    }
}
