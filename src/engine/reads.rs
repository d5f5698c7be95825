//! Where the source inputs of a pipeline lie on disk, for whoever wants to know when they change.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::sources::Places;
use crate::spec::{InputRef, Spec};
use crate::wiring::{Link, Wiring, literal_prefix};

/// A place a pipeline reads that no stage makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// One file, there or not.
    File(PathBuf),
    /// A folder and all below it: a directory input, or where the files of a pattern are looked for.
    Folder(PathBuf),
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
                    let mut folder = path.clone();
                    let literal = literal_prefix(&path.path);
                    folder.path.truncate(literal.rfind('/').unwrap_or(0));
                    Some(Source::Folder(places.place(&folder)))
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
    use std::path::Path;

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
        assert_eq!(all, [file("/p/src/a.txt"), folder("/logs/app"), folder("/p"), folder("/p/conf")]);
        assert_eq!(of(&spec, &wiring, &places, &[false, true]), [file("/p/src/a.txt"), folder("/p")]);
    }
}
