//! A bundle as records: lineage questions where the project is not.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use crate::bundle::Bundle;
use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::Decision;
use crate::fast::FastMap;
use crate::lineage::{ActionView, Records};
use crate::manifest::Manifest;
use crate::map::COLLECTOR;
use crate::questions::{Place, State};

/// The state of a bundle's run.
pub(crate) struct Offline<'b> {
    bundle: &'b Bundle,
    actions: Vec<Rc<ActionView>>,
    /// Which actions are of the run's state.
    here: Vec<bool>,
    /// Output path → actions that wrote it, the latest last.
    made: BTreeMap<String, Vec<usize>>,
    manifests: FastMap<Digest, Arc<Manifest>>,
}

impl<'b> Offline<'b> {
    pub(crate) fn new(bundle: &'b Bundle) -> Self {
        let mut decisions = vec![None; bundle.actions.len()];
        for stage in bundle.stages.values() {
            if let Some(decision) = stage.action.and_then(|action| decisions.get_mut(action)) {
                *decision = Some(stage.decision);
            }
        }
        let view = |(entry, decision): (&crate::runlog::ActionEntry, &Option<Decision>)| {
            Rc::new(ActionView::new(entry.clone(), *decision))
        };
        let actions: Vec<Rc<ActionView>> = bundle.actions.iter().zip(&decisions).map(view).collect();
        let mut made: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (number, action) in actions.iter().enumerate() {
            for output in action.outputs.values() {
                made.entry(output.path.clone()).or_default().push(number);
            }
        }
        let manifest = |(digest, text): (&Digest, &String)| {
            let manifest = Manifest::parse(text).filter(|manifest| manifest.digest() == *digest)?;
            Some((*digest, Arc::new(manifest)))
        };
        let here = decisions.iter().map(Option::is_some).collect();
        Self { bundle, actions, here, made, manifests: bundle.directories.iter().filter_map(manifest).collect() }
    }

    /// Returns the actions of the state.
    pub(crate) fn actions(&self) -> Vec<Rc<ActionView>> {
        let here = self.actions.iter().zip(&self.here).filter(|(_, here)| **here);
        here.map(|(action, _)| Rc::clone(action)).collect()
    }

    /// Returns actions (of the state, or all, the latest first) with the output that is or holds a path.
    fn writers<'p>(&self, path: &'p str, all: bool) -> Vec<(usize, Digest, Option<&'p str>)> {
        let bare = path.trim_end_matches('/');
        let mut found = Vec::new();
        let mut add = |place: &str, inside: Option<&'p str>| {
            for number in self.made.get(place).into_iter().flatten().rev().filter(|n| all || self.here[**n]) {
                let outputs = self.actions[*number].outputs.values().filter(|output| output.path == place);
                found.extend(outputs.map(|output| (*number, output.digest, inside)));
            }
        };
        add(bare, None);
        add(&format!("{bare}/"), None);
        bare.rmatch_indices('/').for_each(|(at, _)| add(&bare[..=at], Some(&bare[at + 1..])));
        found
    }

    fn collects(&self, number: usize) -> bool {
        self.actions[number].record.kind.as_deref() == Some(COLLECTOR)
    }
}

impl Records for Offline<'_> {
    fn maker(&self, path: &str, digest: &Digest) -> Result<Option<Rc<ActionView>>, EngineError> {
        let gives = |(number, output, inside): &(usize, Digest, Option<&str>)| match inside {
            None => output == digest,
            Some(_) if self.collects(*number) => false,
            Some(inside) => self.manifests.get(output).is_some_and(|files| {
                files.files.get(*inside).map_or_else(|| files.below(inside).digest(), |fact| fact.digest) == *digest
            }),
        };
        let found = self.writers(path, false).into_iter().find(gives);
        let found = found.or_else(|| self.writers(path, true).into_iter().find(gives));
        Ok(found.map(|(number, _, _)| Rc::clone(&self.actions[number])))
    }

    fn digest_of(&self, path: &str) -> Result<Option<Digest>, EngineError> {
        let recorded = self.recorded(path)?;
        let recorded = if recorded.is_none() { self.read_by_some(path)? } else { recorded };
        Ok(recorded.map(|(_, digest)| digest))
    }

    fn files(&self, _path: &str, digest: &Digest) -> Result<Option<Arc<Manifest>>, EngineError> {
        Ok(self.manifests.get(digest).cloned())
    }
}

impl State for Offline<'_> {
    fn recorded(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError> {
        let bare = path.trim_end_matches('/');
        for (number, digest, inside) in self.writers(path, false) {
            let Some(inside) = inside else {
                let output = self.actions[number].outputs.values().find(|output| output.digest == digest);
                return Ok(output.map(|output| (output.path.clone(), digest)));
            };
            let Some(files) = self.manifests.get(&digest) else { continue };
            if let Some(fact) = files.files.get(inside) {
                return Ok(Some((bare.to_owned(), fact.digest)));
            }
            let part = files.below(inside);
            if !part.files.is_empty() {
                return Ok(Some((format!("{bare}/"), part.digest())));
            }
        }
        Ok(None)
    }

    fn read_by_some(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError> {
        let bare = path.trim_end_matches('/');
        let folder = format!("{bare}/");
        let here = self.actions.iter().zip(&self.here).filter(|(_, here)| **here);
        let mut files = here.flat_map(|(action, _)| action.record.inputs.values().flatten());
        Ok(files.find_map(|files| {
            [bare, &folder].into_iter().find_map(|path| files.get(path).map(|digest| (path.to_owned(), *digest)))
        }))
    }

    fn made_by_some(&self, path: &str) -> Result<Option<(String, Digest)>, EngineError> {
        let found = self.writers(path, true).into_iter().find(|(_, _, inside)| inside.is_none());
        Ok(found.map(|(_, digest, _)| (path.to_owned(), digest)))
    }

    fn places(&self, digest: &Digest) -> Result<Vec<Place>, EngineError> {
        let mut found = Vec::new();
        for (number, action) in self.actions.iter().enumerate().rev() {
            let mut add = |made: bool, path: String| {
                found.push(Place { path, made, here: self.here[number], run: action.run.clone() });
            };
            for output in action.outputs.values() {
                if output.digest == *digest {
                    add(true, output.path.clone());
                }
                let files = self.manifests.get(&output.digest).filter(|_| !self.collects(number));
                for (inside, fact) in files.iter().flat_map(|files| &files.files) {
                    if fact.digest == *digest {
                        add(true, format!("{}{inside}", output.path));
                    }
                }
            }
            for (path, read) in action.record.inputs.values().flatten().flatten() {
                if read == digest && !self.collects(number) {
                    add(false, path.clone());
                }
            }
        }
        found.sort_by_key(|place| !place.here);
        Ok(found)
    }

    fn of_key(&self, key: &Digest) -> Result<Option<Rc<ActionView>>, EngineError> {
        let numbers = || (0..self.actions.len()).rev().filter(|number| self.actions[*number].key == *key);
        let found = numbers().find(|number| self.here[*number]).or_else(|| numbers().next());
        Ok(found.map(|number| Rc::clone(&self.actions[number])))
    }

    fn beginning(&self, digits: &str) -> Result<BTreeSet<Digest>, EngineError> {
        let mut found = BTreeSet::new();
        for action in &self.actions {
            found.insert(action.key);
            found.extend(action.outputs.values().map(|output| output.digest));
            found.extend(action.record.inputs.values().flatten().flatten().map(|(_, digest)| *digest));
        }
        found.extend(self.manifests.values().flat_map(|files| files.files.values().map(|fact| fact.digest)));
        found.retain(|digest| digest.to_string().starts_with(digits));
        Ok(found)
    }

    fn roots(&self) -> &BTreeMap<String, String> {
        &self.bundle.run.roots
    }

    fn paths(&self) -> Result<BTreeSet<String>, EngineError> {
        let mut paths: BTreeSet<String> = self.made.keys().cloned().collect();
        let read = self.actions.iter().flat_map(|action| action.record.inputs.values().flatten());
        paths.extend(read.flat_map(BTreeMap::keys).cloned());
        Ok(paths)
    }

    fn bytes(&self, _digest: &Digest) -> Option<Vec<u8>> {
        None
    }
}
