//! Mapped stages: which files their items take, and what the items made together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Gathered, Known, Lack, PieceOf, Prepared, Survey, Wanted, declared};
use crate::digest::Digest;
use crate::error::EngineError;
use crate::event::{Decision, Reason, ReasonKind};
use crate::index::ResultOutput;
use crate::manifest::{FileFact, Manifest};
use crate::map::{self, Expansion, Item, ItemFile, is_collector};
use crate::pieces;
use crate::plan::PlanRow;
use crate::snapshot::{Listing, Rests, State, Unit};
use crate::spec::{InputRef, MapSpec, ProjectPath, StageSpec};
use crate::stage::Made;
use crate::suggest::did_you_mean;
use crate::wiring::Link;

impl<'a> Survey<'a> {
    /// Returns how many stages and items there are.
    pub fn count(&self) -> usize {
        self.spec.stages.len() + self.mapped.items.len()
    }

    /// Returns an item; `None` for what is a stage of the pipeline itself.
    pub fn item(&self, index: usize) -> Option<&'a Item> {
        Some(*self.mapped.items.get(index.checked_sub(self.spec.stages.len())?)?)
    }

    /// Returns a stage or item.
    pub fn stage(&self, index: usize) -> &'a StageSpec {
        let spec = self.spec;
        self.item(index).map_or_else(|| &spec.stages[index], |item| &item.spec)
    }

    /// Returns the built-in stage; items share that of the mapped stage.
    pub fn made(&self, index: usize) -> Option<&'a Made> {
        let prepared: &'a [Prepared] = self.prepared;
        prepared[self.parent(index).unwrap_or(index)].made.as_ref()
    }

    /// Returns the mapped stage of an item.
    pub fn parent(&self, index: usize) -> Option<usize> {
        self.item(index).map(|item| item.parent[0])
    }

    /// Returns what waits for a stage or item.
    pub fn after(&self, index: usize) -> &'a [usize] {
        let wiring = self.wiring;
        self.item(index).map_or_else(|| &wiring.after[index][..], |item| &item.parent)
    }

    /// Returns whether only some items of a mapped stage are wanted.
    pub fn is_partial(&self, stage: usize) -> bool {
        self.mapped.asked.only.contains_key(&stage)
    }

    /// Returns whether the user spoke of single items of a stage.
    pub(super) fn asks_for_items(&self, stage: usize) -> bool {
        self.is_partial(stage) || self.mapped.asked.force.contains_key(&stage)
    }

    /// Returns the mapped stage that an action was an item of, by its full name; whether it still is does not matter.
    pub fn mapped_in(&self, name: &str) -> Option<usize> {
        let mut stages = self.mapped.expansions.stages();
        stages.find(|stage| map::label_in(&self.spec.stages[*stage].name, name).is_some())
    }

    /// Returns whether a record of an item is to be kept though this run did not speak of the item: its mapped stage was
    /// not looked into, or in part only.
    pub fn keeps_item(&self, name: &str) -> bool {
        let Some(stage) = self.mapped_in(name) else {
            // The items of a frozen stage are what its locked outputs were made by.
            return self
                .spec
                .stages
                .iter()
                .any(|stage| stage.map.is_some() && stage.policy.frozen && map::label_in(&stage.name, name).is_some());
        };
        match self.mapped.expansions.get(stage) {
            Some(expansion) if !self.is_partial(stage) => expansion.names.contains_key(name),
            _ => true,
        }
    }

    /// Returns the snapshot's units of the items of a mapped stage that is fresh by it.
    pub fn fresh_items(&self, stage: usize) -> Vec<Unit<'a>> {
        let Some(before) = self.before.as_ref().filter(|before| before.fresh[stage]) else { return Vec::new() };
        before.snapshot.items_of(self.spec.stages.len(), stage).copied().collect()
    }

    /// A lineage document names every item upstream of it: the mapped stages there are looked into, fresh or not.
    pub(super) fn decide_maps_of_documents(&self, fresh: &mut [bool]) {
        let documents = |stage: &StageSpec| {
            stage.inputs.values().flat_map(|input| &input.refs).any(|what| matches!(what, InputRef::Lineage(_)))
        };
        if self.mapped.expansions.stages().next().is_none() {
            return;
        }
        let reading: Vec<usize> =
            (0..fresh.len()).filter(|index| !fresh[*index] && documents(&self.spec.stages[*index])).collect();
        let upstream = self.wiring.with_upstream(&reading);
        for stage in self.mapped.expansions.stages().filter(|stage| upstream[*stage]) {
            fresh[stage] = false;
        }
    }

    /// Finds the items of a mapped stage whose upstream stages are known; returns their numbers.
    ///
    /// # Errors
    /// Files are missing or unreadable; two items get in each other's way; an item that was asked for is none.
    pub fn expand(&mut self, stage: usize) -> Result<Range<usize>, Lack> {
        if let Some(range) = self.mapped.ranges.get(&stage) {
            return Ok(range.clone());
        }
        let (spec, expansions) = (&self.spec.stages[stage], self.mapped.expansions);
        let map = spec.map.as_ref().expect("only mapped stages have items");
        let shared = self.gather_slots(stage, Some(&map.slot))?;
        let mut found = Gathered::default();
        let files = self.item_files(stage, map, &mut found)?;
        let map::Made { items, names, makers } = map::expand(stage, spec, map, files)?;
        let expansion = Expansion { items, shared, listed: found.places, names, makers };
        let expansion = expansions.keep(stage, expansion);
        self.look_at_outputs(expansion)?;
        let range = self.count()..self.count() + expansion.items.len();
        let forced = self.forced[stage];
        for item in &expansion.items {
            let asked = self.mapped.asked.force.get(&stage).is_some_and(|names| names.contains(&item.spec.name));
            self.forced.push(if asked { Some("--force") } else { forced });
            self.known.push(None);
            self.mapped.items.push(item);
        }
        self.mapped.ranges.insert(stage, range.clone());
        let named = self.mapped.asked.force.get(&stage).into_iter().flatten();
        if let Some(unknown) =
            named.into_iter().find(|name| expansion.items.iter().all(|item| item.spec.name != **name))
        {
            return Err(unknown_item(expansion, unknown).into());
        }
        Ok(range)
    }

    /// Returns the items of an expanded stage that are wanted.
    ///
    /// # Errors
    /// What was asked for is no item.
    pub fn wanted(&self, stage: usize) -> Result<Vec<usize>, EngineError> {
        let range = self.mapped.ranges.get(&stage).cloned().unwrap_or_default();
        let Some(only) = self.mapped.asked.only.get(&stage) else { return Ok(range.collect()) };
        let expansion = self.mapped.expansions.get(stage).expect("it has a range");
        let mut wanted = BTreeSet::new();
        for what in only {
            let is_meant = |item: &Item| match what {
                Wanted::Item(name) => item.spec.name == *name,
                Wanted::Path(path) => item.spec.outputs.values().any(|output| {
                    let made = output.path.path.as_str();
                    let inside = |inner: &str, outer: &str| {
                        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                    };
                    inside(made, path) || (output.directory && inside(path, made))
                }),
            };
            let meant: Vec<usize> =
                range.clone().zip(&expansion.items).filter(|(_, i)| is_meant(i)).map(|(n, _)| n).collect();
            if meant.is_empty() {
                let (Wanted::Item(name) | Wanted::Path(name)) = what;
                return Err(unknown_item(expansion, name));
            }
            wanted.extend(meant);
        }
        Ok(wanted.into_iter().collect())
    }

    /// Looks at the outputs of all items at once, on all cores.
    fn look_at_outputs(&mut self, expansion: &Expansion) -> Result<(), EngineError> {
        let outputs = expansion.items.iter().flat_map(|item| item.spec.outputs.values()).filter(|o| !o.directory);
        let files: Vec<(&str, PathBuf)> = outputs.map(|o| (o.path.path.as_str(), self.places.place(&o.path))).collect();
        self.memo.look_at_all(&files)
    }

    /// Lists the files of the mapped slot, sorted by path; each with how it is met.
    fn item_files(&mut self, stage: usize, map: &MapSpec, found: &mut Gathered) -> Result<Vec<ItemFile>, Lack> {
        let (spec, wiring) = (&self.spec.stages[stage], self.wiring);
        let (number, slot, input) = spec.inputs.get_full(&map.slot).expect("checked with the pipeline");
        let base = map::base(&input.refs);
        let mut paths = BTreeSet::new();
        for wire in wiring.wires[stage].iter().filter(|wire| wire.slot == number) {
            let reference = &input.refs[wire.reference];
            let (mut here, mut empty_is_fine) = (BTreeSet::new(), input.optional);
            match (&wire.link, reference) {
                (Link::Output(output), InputRef::File(path) | InputRef::Directory(path)) => {
                    empty_is_fine = true;
                    if self.output(*output).directory {
                        here.extend(inside(path, &*self.manifest(*output)?));
                    } else {
                        here.insert(path.clone());
                    }
                }
                (Link::Inside(output, relative), InputRef::File(path)) => {
                    let made = self.manifest(*output)?.files.contains_key(relative);
                    here.extend(made.then(|| path.clone()));
                }
                (Link::Inside(output, relative), InputRef::Directory(path)) => {
                    here.extend(inside(path, &self.manifest(*output)?.below(relative)));
                }
                (Link::SourceFile, InputRef::File(path)) => {
                    if self.places.file(&mut self.memo, &path.to_string())?.is_some() {
                        here.insert(path.clone());
                    } else {
                        found.places.push((self.places.memo_name(&path.to_string()), State::Absent));
                    }
                }
                (Link::SourceDirectory(outputs), InputRef::Directory(path)) => {
                    if let Some(manifest) = self.directory(path, outputs, found)? {
                        empty_is_fine = true;
                        here.extend(inside(path, &manifest));
                    }
                }
                (Link::Pattern { matching, within }, InputRef::Glob(path)) => {
                    let mut files = BTreeMap::new();
                    self.pattern(path, matching, within, &mut files, found)?;
                    here.extend(files.into_keys().map(|logical| {
                        let Ok(path) = ProjectPath::try_from(logical);
                        path
                    }));
                }
                (link, reference) => {
                    let text = format!("input `{slot}` of `{}`: {reference:?} is wired as {link:?}", spec.name);
                    return Err(EngineError::Internal(text).into());
                }
            }
            if here.is_empty() && !empty_is_fine {
                return Err(Lack::Missing(self.missing(stage, slot, reference)));
            }
            paths.append(&mut here);
        }
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let link = match wiring.producer(self.spec, &path.to_string()) {
                None => Link::SourceFile,
                Some((output, None)) => Link::Output(output),
                Some((output, Some(relative))) => Link::Inside(output, relative),
            };
            let file = ItemFile { relative: map::relative(&path, base.as_ref()), path, link, piece: None };
            match map.split {
                None => files.push(file),
                Some(size) => files.extend(self.cut(&file, size)?),
            }
        }
        Ok(files)
    }

    /// Cuts a file into pieces.
    fn cut(&mut self, file: &ItemFile, size: u64) -> Result<Vec<ItemFile>, EngineError> {
        let Some(whole) = self.content(&file.path, &file.link)? else { return Ok(Vec::new()) };
        let place = self.places.place(&file.path);
        let pieces = pieces::of(&self.cache, &place, whole, size)?;
        Ok(pieces.into_iter().map(|piece| ItemFile { piece: Some(piece), ..file.clone() }).collect())
    }

    /// Returns what the content of an item's file is now.
    fn content(&mut self, path: &ProjectPath, link: &Link) -> Result<Option<FileFact>, EngineError> {
        Ok(match link {
            Link::Output(output) => Some(self.output(*output).fact),
            Link::Inside(output, relative) => self.manifest(*output)?.files.get(relative).copied(),
            _ => self.places.file(&mut self.memo, &path.to_string())?,
        })
    }

    /// Gathers the inputs of an item: what all have in common, and its file.
    pub(super) fn gather_item(&mut self, item: &Item) -> Result<Gathered, Lack> {
        let stage = item.parent[0];
        let expansion = self.mapped.expansions.get(stage).expect("items are of expanded stages");
        let shared = &expansion.shared;
        let mut gathered = Gathered {
            slots: shared.slots.clone(),
            documents: shared.documents.clone(),
            watched: shared.watched.clone(),
            // Stored once for all items, when they begin.
            ..Gathered::default()
        };
        let map = self.spec.stages[stage].map.as_ref().expect("only mapped stages have items");
        let file = &item.file;
        let digest = match (&file.piece, self.content(&file.path, &file.link)?) {
            (_, None) => {
                let reference = InputRef::File(file.path.clone());
                return Err(Lack::Missing(self.missing(stage, &map.slot, &reference)));
            }
            (Some(piece), Some(_)) => {
                let memo_name = (file.link == Link::SourceFile).then(|| self.places.memo_name(&file.path.to_string()));
                let (slot, logical) = (map.slot.clone(), file.logical());
                let file = (self.places.place(&file.path), memo_name);
                gathered.piece = Some(PieceOf { slot, logical, file, piece: *piece });
                piece.digest
            }
            (None, Some(fact)) => {
                if file.link == Link::SourceFile {
                    gathered.watched.push(file.path.to_string());
                }
                fact.digest
            }
        };
        gathered.slots.insert(map.slot.clone(), Some(BTreeMap::from([(file.logical(), digest)])));
        Ok(gathered)
    }

    /// Puts together what the items of a mapped stage made; `None` while one of them is not known.
    pub fn collect(&self, stage: usize) -> Option<(Digest, Known)> {
        let expansion = self.mapped.expansions.get(stage)?;
        let range = self.mapped.ranges.get(&stage)?.clone();
        let spec = &self.spec.stages[stage];
        let mut manifests: BTreeMap<String, Manifest> =
            spec.outputs.keys().map(|slot| (slot.clone(), Manifest::default())).collect();
        for (number, item) in range.zip(&expansion.items) {
            let known = self.known[number].as_ref()?;
            for (slot, output) in &item.spec.outputs {
                let (manifest, made) = (manifests.get_mut(slot)?, known.outputs.get(slot)?);
                let relative = output.path.path[spec.outputs[slot].path.path.len() + 1..].to_owned();
                if made.directory {
                    let inside = match known.manifests.get(slot) {
                        Some(inside) => Arc::clone(inside),
                        None => Arc::new(self.store.manifest(&made.fact.digest).ok()?),
                    };
                    manifest
                        .files
                        .extend(inside.files.iter().map(|(path, fact)| (format!("{relative}/{path}"), *fact)));
                } else {
                    manifest.files.insert(relative, made.fact);
                }
            }
        }
        let manifests: BTreeMap<String, Arc<Manifest>> =
            manifests.into_iter().map(|(slot, manifest)| (slot, Arc::new(manifest))).collect();
        let digests: BTreeMap<String, (String, Digest)> = manifests
            .iter()
            .map(|(slot, manifest)| (slot.clone(), (spec.outputs[slot].path.path.clone(), manifest.digest())))
            .collect();
        let record = Arc::new(map::collected(&digests));
        let output = |(slot, manifest): (&String, &Arc<Manifest>)| {
            let fact = FileFact { digest: digests[slot].1, size: manifest.size(), executable: false };
            (slot.clone(), ResultOutput { fact, directory: true })
        };
        let outputs = manifests.iter().map(output).collect();
        let key = record.key();
        Some((key, Known { key, record, outputs, manifests }))
    }

    /// Returns what is on disk in the directories of an expanded stage and made by no item: paths relative to the
    /// project, files before the folders they are in.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn strays(&self, stage: usize) -> Result<Vec<String>, EngineError> {
        let Some(expansion) = self.mapped.expansions.get(stage) else { return Ok(Vec::new()) };
        let mut strays = Vec::new();
        for output in self.spec.stages[stage].outputs.values() {
            let top = self.places.place(&output.path);
            if !top.is_dir() {
                continue;
            }
            stray_below(&top, &output.path.path, expansion, &mut strays).map_err(EngineError::io("read", &top))?;
        }
        Ok(strays)
    }

    /// Returns what the freshness of a mapped stage rests on beside its items: the files there are, and nothing else in
    /// its directories.
    pub fn rests_of_map(&self, stage: usize) -> Result<Rests, EngineError> {
        let mut rests = Rests::new();
        let Some(expansion) = self.mapped.expansions.get(stage) else { return Ok(rests) };
        rests.extend(expansion.listed.iter().cloned());
        rests.extend(expansion.shared.places.iter().cloned());
        let Some(known) = &self.known[stage] else { return Ok(rests) };
        for (slot, output) in &self.spec.stages[stage].outputs {
            let path = &output.path.path;
            let made = Listing::new(known.manifests[slot].files.keys().map(String::as_str), Vec::new(), 0);
            // What is there by now counts only if it is just that.
            let now = self.places.listing(&self.memo, path)?.filter(|now| now.names == made.names);
            rests.push((path.clone(), State::Tree(now.unwrap_or(made))));
        }
        Ok(rests)
    }

    /// Says what would happen to the items of a mapped stage, and to what else is in its directories.
    pub(super) fn plan_items(&mut self, stage: usize, rows: &mut Vec<PlanRow>) -> Result<(), EngineError> {
        self.expand(stage)?;
        for item in self.wanted(stage)? {
            rows.push(self.plan_one(item)?);
        }
        if self.is_partial(stage) {
            return Ok(());
        }
        let Some((key, known)) = self.collect(stage) else { return Ok(()) };
        self.known[stage] = Some(known);
        let spec = &self.spec.stages[stage];
        let mut reasons: Vec<Reason> =
            self.strays(stage)?.into_iter().map(|path| Reason::plain(ReasonKind::Output, path)).collect();
        let absent = spec.outputs.values().filter(|output| !self.places.place(&output.path).is_dir());
        if self.mapped.ranges[&stage].is_empty() {
            reasons.extend(absent.map(|o| Reason::plain(ReasonKind::Output, declared(&o.path, true))));
        }
        if !reasons.is_empty() {
            let (name, decision) = (spec.name.clone(), Decision::Restore);
            rows.push(PlanRow { name, decision, reasons, key: Some(key), seconds: None });
        }
        Ok(())
    }

    /// Returns the item that makes a path inside the directory of an expanded stage.
    pub(crate) fn maker_in(&self, stage: usize, path: &str) -> Option<usize> {
        let expansion = self.mapped.expansions.get(stage)?;
        let outer = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
        let number = std::iter::once(path).chain(outer).find_map(|path| expansion.makers.get(path))?;
        Some(self.mapped.ranges.get(&stage)?.start + number)
    }

    /// Whether a stage of the pipeline is one whose items take its place.
    pub fn is_collector(&self, index: usize) -> bool {
        self.spec.stages.get(index).is_some_and(is_collector)
    }
}

/// Returns the paths of the files in a directory.
fn inside(folder: &ProjectPath, manifest: &Manifest) -> Vec<ProjectPath> {
    let path =
        |relative: &String| ProjectPath { root: folder.root.clone(), path: format!("{}/{relative}", folder.path) };
    manifest.files.keys().map(path).collect()
}

fn unknown_item(expansion: &Expansion, name: &str) -> EngineError {
    let known: Vec<&str> = expansion.items.iter().map(|item| item.spec.name.as_str()).collect();
    let help = if known.is_empty() { "the map has no items now".to_owned() } else { did_you_mean(name, &known) };
    EngineError::UnknownTarget { target: name.to_owned(), help }
}

/// Lists what no item makes in a folder of the project named `name`. Links are not followed: they are no items' work.
fn stray_below(folder: &Path, name: &str, expansion: &Expansion, strays: &mut Vec<String>) -> io::Result<()> {
    // Not recursive: folders of a user may be deep.
    let mut open = vec![(folder.to_path_buf(), name.to_owned())];
    let mut empty = Vec::new();
    while let Some((folder, name)) = open.pop() {
        let mut entries: Vec<fs::DirEntry> = fs::read_dir(&folder)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = format!("{name}/{}", entry.file_name().to_string_lossy());
            if expansion.makers.contains_key(&path) {
                // A folder in the place of a file is in its way; a directory output is compared by its item.
                let is_file = expansion.items[expansion.makers[&path]].spec.outputs.values();
                let is_file = is_file.into_iter().any(|output| output.path.path == path && !output.directory);
                if is_file && entry.file_type()?.is_dir() {
                    strays.push(path);
                }
                continue;
            }
            if entry.file_type()?.is_dir() {
                let prefix = format!("{path}/");
                let holds =
                    expansion.makers.range(prefix.clone()..).next().is_some_and(|(made, _)| made.starts_with(&prefix));
                if holds {
                    open.push((entry.path(), path));
                } else {
                    empty.push(path);
                }
            } else {
                strays.push(path);
            }
        }
    }
    strays.extend(empty);
    Ok(())
}
