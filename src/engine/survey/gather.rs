//! Collects the inputs of a stage: files looked at, outputs as their stages made them, lineage documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Gathered, Lack, Survey, declared};
use crate::digest::Digest;
use crate::error::{EngineError, MissingInput};
use crate::index::ResultOutput;
use crate::lineage;
use crate::manifest::Manifest;
use crate::snapshot::{Listing, State};
use crate::spec::{InputRef, ProjectPath};
use crate::stage::Arity;
use crate::wiring::{Link, OutputId, local_root, matcher};

impl Survey<'_> {
    pub(super) fn missing(&self, stage: usize, slot: &str, reference: &InputRef) -> MissingInput {
        let (InputRef::File(path) | InputRef::Directory(path) | InputRef::Glob(path) | InputRef::Lineage(path)) =
            reference;
        let place = self.places.place(path);
        let help = match (&path.root, reference) {
            (_, InputRef::File(_)) if place.is_dir() => format!("it is a folder: write `{path}/` to take all of it"),
            (Some(root), _) => match self.places.named(root) {
                Some(place) if !place.exists() => {
                    format!("root `{root}` is set to `{}`, which is not there", place.display())
                }
                _ => format!("check root `{root}` in the pipeline file"),
            },
            (None, _) => "put it there, or correct the path in the pipeline file".to_owned(),
        };
        let stage = self.spec.stages[stage].name.clone();
        MissingInput { stage, slot: slot.to_owned(), path: path.to_string(), file: place, help }
    }

    /// Gathers the inputs of a stage all of whose upstream stages are known.
    pub(super) fn gather(&mut self, index: usize) -> Result<Gathered, Lack> {
        match self.item(index) {
            Some(item) => self.gather_item(item),
            None => self.gather_slots(index, None),
        }
    }

    /// Gathers the inputs of a stage, but for one slot.
    pub(super) fn gather_slots(&mut self, index: usize, but: Option<&str>) -> Result<Gathered, Lack> {
        let (spec, wiring) = (self.spec, self.wiring);
        let stage = &spec.stages[index];
        for &upstream in &wiring.data[index] {
            if self.known[upstream].is_none() && !self.recall(upstream) {
                let text = format!("`{}` is decided before `{}` is known", stage.name, spec.stages[upstream].name);
                return Err(EngineError::Internal(text).into());
            }
        }
        if stage.inputs.values().flat_map(|input| &input.refs).any(|what| matches!(what, InputRef::Lineage(_))) {
            self.recall_upstream(index)?;
        }
        let mut gathered = Gathered::default();
        let mut slots: Vec<BTreeMap<String, Digest>> = vec![BTreeMap::new(); stage.inputs.len()];
        for wire in &wiring.wires[index] {
            let (slot, input) = stage.inputs.get_index(wire.slot).expect("wires name slots of their stage");
            if but == Some(slot) {
                continue;
            }
            let reference = &input.refs[wire.reference];
            // The files of this reference alone: another one of the slot may name the same.
            let mut found = BTreeMap::new();
            let files = &mut found;
            match (&wire.link, reference) {
                (link, InputRef::Lineage(path)) => {
                    if let Some((logical, text)) = self.document(link, path, &mut gathered)? {
                        files.insert(logical.clone(), Digest::of_bytes(text.as_bytes()));
                        gathered.documents.push((slot.clone(), logical, text));
                    }
                }
                (Link::Output(output), InputRef::File(path) | InputRef::Directory(path)) => {
                    let made = self.output(*output);
                    files.insert(declared(path, made.directory), made.fact.digest);
                }
                (Link::Inside(output, relative), InputRef::File(path)) => {
                    if let Some(fact) = self.manifest(*output)?.files.get(relative) {
                        files.insert(path.to_string(), fact.digest);
                    }
                }
                (Link::Inside(output, relative), InputRef::Directory(path)) => {
                    let part = self.manifest(*output)?.below(relative);
                    if !part.files.is_empty() {
                        files.insert(declared(path, true), part.digest());
                        gathered.manifests.push(part);
                    }
                }
                (Link::SourceFile, InputRef::File(path)) => {
                    let logical = path.to_string();
                    match self.places.file(&mut self.memo, &logical)? {
                        Some(fact) => {
                            gathered.watched.push(logical.clone());
                            files.insert(logical, fact.digest);
                        }
                        None => gathered.places.push((self.places.memo_name(&logical), State::Absent)),
                    }
                }
                (Link::SourceDirectory(outputs), InputRef::Directory(path)) => {
                    if let Some(manifest) = self.directory(path, outputs, &mut gathered)? {
                        files.insert(declared(path, true), manifest.digest());
                        gathered.manifests.push(manifest);
                    }
                }
                (Link::Pattern { matching, within }, InputRef::Glob(path)) => {
                    self.pattern(path, matching, within, files, &mut gathered)?;
                }
                (link, reference) => {
                    let text = format!("input `{slot}` of `{}`: {reference:?} is wired as {link:?}", stage.name);
                    return Err(EngineError::Internal(text).into());
                }
            }
            if found.is_empty() && !input.optional {
                return Err(Lack::Missing(self.missing(index, slot, reference)));
            }
            slots[wire.slot].append(&mut found);
        }
        for ((slot, input), files) in stage.inputs.iter().zip(slots).filter(|((slot, _), _)| but != Some(slot)) {
            if input.arity == Arity::File && files.len() > 1 {
                let files = files.into_keys().collect();
                return Err(EngineError::TooManyInputs { stage: stage.name.clone(), slot: slot.clone(), files }.into());
            }
            gathered.slots.insert(slot.clone(), (!files.is_empty()).then_some(files));
        }
        gathered.watched.sort_unstable();
        gathered.watched.dedup();
        Ok(gathered)
    }

    pub(super) fn output(&self, output: OutputId) -> &ResultOutput {
        let slot = self.slot(output);
        let known = self.known[output.stage].as_ref().expect("upstream stages are known before a stage is decided");
        known.outputs.get(slot).expect("every declared output was published")
    }

    fn slot(&self, output: OutputId) -> &str {
        self.spec.stages[output.stage].outputs.get_index(output.slot).expect("wires name slots of their stage").0
    }

    /// Returns what an output directory holds.
    pub(super) fn manifest(&mut self, output: OutputId) -> Result<Arc<Manifest>, EngineError> {
        let slot = self.slot(output).to_owned();
        let known = self.known[output.stage].as_ref().expect("upstream stages are known before a stage is decided");
        if let Some(manifest) = known.manifests.get(&slot) {
            return Ok(Arc::clone(manifest));
        }
        let digest = self.output(output).fact.digest;
        let manifest = Arc::new(self.store.manifest(&digest)?);
        let known = self.known[output.stage].as_mut().expect("known a moment ago");
        known.manifests.insert(slot, Arc::clone(&manifest));
        Ok(manifest)
    }

    /// Returns the files of a source directory, with the outputs in it as their stages made them.
    pub(super) fn directory(
        &mut self,
        path: &ProjectPath,
        outputs: &[OutputId],
        gathered: &mut Gathered,
    ) -> Result<Option<Manifest>, EngineError> {
        let logical = path.to_string();
        let name = self.places.memo_name(&logical);
        let mut manifest = match self.places.directory(&mut self.memo, &logical)? {
            Some(folder) => {
                gathered.places.push((name, State::Tree(folder.listing)));
                folder.manifest
            }
            None => {
                gathered.places.push((name, State::Absent));
                Manifest::default()
            }
        };
        let watched = &mut gathered.watched;
        let local = crate::wiring::local(self.spec, path).map(|path| format!("{path}/")).unwrap_or_default();
        for output in outputs {
            let declared = &self.spec.stages[output.stage].outputs[output.slot].path.path;
            let Some(relative) = declared.strip_prefix(&local).map(str::to_owned) else { continue };
            let made = self.output(*output).clone();
            if made.directory {
                let inside = self.manifest(*output)?;
                let prefix = format!("{relative}/");
                manifest.files.retain(|path, _| !path.starts_with(&prefix));
                manifest.files.extend(inside.files.iter().map(|(path, fact)| (format!("{prefix}{path}"), *fact)));
            } else {
                manifest.files.insert(relative, made.fact);
            }
        }
        let is_output = |relative: &str| self.wiring.producer(self.spec, &format!("{local}{relative}")).is_some();
        if outputs.is_empty() {
            watched.extend(manifest.files.keys().map(|relative| format!("{logical}/{relative}")));
        } else {
            let sources = manifest.files.keys().filter(|relative| !is_output(relative));
            watched.extend(sources.map(|relative| format!("{logical}/{relative}")));
        }
        Ok((!manifest.files.is_empty() || self.places.place(path).is_dir()).then_some(manifest))
    }

    /// Adds all files a pattern matches: outputs as their stages made them, and source files on disk.
    pub(super) fn pattern(
        &mut self,
        path: &ProjectPath,
        matching: &[OutputId],
        within: &[OutputId],
        files: &mut BTreeMap<String, Digest>,
        gathered: &mut Gathered,
    ) -> Result<(), EngineError> {
        let local_pattern = crate::wiring::local(self.spec, path).map(|p| p.into_owned());
        let place = path.root.as_deref().and_then(|root| local_root(self.spec, root));
        let logical = |local: &str| match (&path.root, &place) {
            (Some(root), Some(place)) => {
                format!("{root}:{}", local.strip_prefix(place.as_str()).unwrap_or(local).trim_start_matches('/'))
            }
            _ => local.to_owned(),
        };
        for output in matching {
            let digest = self.output(*output).fact.digest;
            files.insert(logical(&self.spec.stages[output.stage].outputs[output.slot].path.path), digest);
        }
        if let Some(pattern) = &local_pattern {
            let matcher = matcher(pattern)?;
            for output in within {
                let folder = self.spec.stages[output.stage].outputs[output.slot].path.path.clone();
                for (relative, fact) in &self.manifest(*output)?.files {
                    let local = format!("{folder}/{relative}");
                    if matcher.is_match(&local) {
                        files.insert(logical(&local), fact.digest);
                    }
                }
            }
        }
        let found = self.places.matches(path)?;
        let names = found.names.iter().map(String::as_str);
        let listing = Listing::new(names, found.folders, self.memo.seen());
        gathered.places.push((path.to_string(), State::Pattern(listing)));
        for found in found.names {
            if self.wiring.producer(self.spec, &found).is_some() {
                continue;
            }
            if let Some(fact) = self.places.file(&mut self.memo, &found)? {
                files.insert(found.clone(), fact.digest);
                gathered.watched.push(found);
            }
        }
        Ok(())
    }

    /// Returns the canonical lineage document of an artifact: logical path and text. `None` if there is no such file.
    fn document(
        &mut self,
        link: &Link,
        path: &ProjectPath,
        gathered: &mut Gathered,
    ) -> Result<Option<(String, String)>, EngineError> {
        let target = match link {
            Link::Output(output) => self.output(*output).fact.digest,
            Link::Inside(output, relative) => match self.manifest(*output)?.files.get(relative) {
                Some(fact) => fact.digest,
                None => return Ok(None),
            },
            _ => match self.places.file(&mut self.memo, &path.to_string())? {
                Some(fact) => {
                    gathered.watched.push(path.to_string());
                    fact.digest
                }
                None => {
                    gathered.places.push((self.places.memo_name(&path.to_string()), State::Absent));
                    return Ok(None);
                }
            },
        };
        let text = lineage::canonical(self, &path.to_string(), target, link)?;
        Ok(Some((format!("lineage:{path}"), text)))
    }
}
