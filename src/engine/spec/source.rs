//! Where a value of the merged document comes from: pipeline.yaml, a profile in it, or the command line.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

use super::error::{Place, Problem, SpecError, SpecErrors, Text};
use super::secret;
use super::spans::Spans;

/// Which part of an entry an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Its key.
    Key,
    /// Its value.
    Value,
}

/// One `--set K=V`, or `--profile NAME`, and where it stands in the command line as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Argument {
    /// JSON pointer of K; empty until it is known to be good.
    pub(super) pointer: String,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

/// The texts a pipeline is read from, and everything found wrong with them.
pub(super) struct Sources {
    file: Arc<Text>,
    line: Arc<Text>,
    /// The selected profile.
    profile: Option<String>,
    /// One per `--set`, in order.
    pub(super) sets: Vec<Argument>,
    /// The name after `--profile`.
    pub(super) profile_argument: Range<usize>,
    spans: OnceCell<Spans>,
    errors: Vec<SpecError>,
}

impl Sources {
    /// Takes the file and the arguments.
    pub(super) fn new(name: &str, text: &str, profile: Option<&str>, sets: &[String]) -> Self {
        let mut line = String::new();
        let mut profile_argument = 0..0;
        if let Some(profile) = profile {
            line.push_str("--profile ");
            profile_argument = line.len()..line.len() + profile.len();
            line.push_str(profile);
        }
        let mut arguments = Vec::new();
        for set in sets {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str("--set ");
            let start = line.len();
            // A caret cannot point into a text of several lines.
            line.push_str(&set.replace(['\n', '\r'], " "));
            let equals = start + set.find('=').unwrap_or(set.len());
            arguments.push(Argument {
                pointer: String::new(),
                key: start..equals,
                value: (equals + 1).min(line.len())..line.len(),
            });
        }
        Self {
            // Passwords are masked, so that the report of one does not print it again.
            file: Arc::new(Text::new(name, &secret::masked(text))),
            line: Arc::new(Text::new("command line", &secret::masked(&line))),
            profile: profile.map(str::to_owned),
            sets: arguments,
            profile_argument,
            spans: OnceCell::new(),
            errors: Vec::new(),
        }
    }

    /// Returns the places of the file's keys and values.
    pub(super) fn spans(&self) -> &Spans {
        self.spans.get_or_init(|| Spans::of(self.file.as_str()))
    }

    /// Returns a place of the file.
    pub(super) fn in_file(&self, span: Range<usize>) -> Place {
        Place { text: Arc::clone(&self.file), span }
    }

    /// Returns a place of the command line.
    pub(super) fn in_line(&self, span: Range<usize>) -> Place {
        Place { text: Arc::clone(&self.line), span }
    }

    /// Returns where the entry of this pointer was written last, or its nearest ancestor.
    pub(super) fn locate(&self, pointer: &str, part: Part) -> Place {
        self.locate_whole(pointer, part).0
    }

    /// As [`Self::locate`], with the end of the whole value where the place is cut to its first line.
    fn locate_whole(&self, pointer: &str, part: Part) -> (Place, usize) {
        let mut at = pointer;
        let mut part = part;
        loop {
            for set in self.sets.iter().rev().filter(|set| !set.pointer.is_empty()) {
                if below(at, &set.pointer) {
                    let key = part == Part::Key && at.len() == set.pointer.len();
                    let span = if key { &set.key } else { &set.value };
                    return (self.in_line(span.clone()), span.end);
                }
            }
            let of_profile = self.profile.as_ref().map(|name| super::spans::join("/profiles", name) + at);
            let candidates = of_profile.as_deref().filter(|_| !at.is_empty()).into_iter().chain([at]);
            for candidate in candidates {
                if let Some(spot) = self.spans().get(candidate) {
                    let span = if part == Part::Key { &spot.key } else { &spot.value };
                    return (self.in_file(span.clone()), spot.end.max(span.end));
                }
            }
            // A mapping that only a longer `--set` brought into being.
            if let Some(set) = self.sets.iter().rev().find(|set| !at.is_empty() && below(&set.pointer, at)) {
                return (self.in_line(set.key.clone()), set.key.end);
            }
            // The entry is not there: its parent is what lacks it.
            let Some(cut) = at.rfind('/') else { return (self.in_file(0..0), 0) };
            at = &at[..cut];
            part = Part::Key;
        }
    }

    /// Records an error at an entry; `needle` narrows the caret to a part of the value.
    pub(super) fn fail(&mut self, pointer: &str, part: Part, needle: &str, problem: Problem) -> &mut SpecError {
        let (mut place, end) = self.locate_whole(pointer, part);
        if !needle.is_empty()
            && let Some(inside) = place.text.as_str().get(place.span.start..end)
            && let Some(at) = inside.find(needle)
        {
            let start = place.span.start + at;
            place.span = start..start + needle.len();
        }
        self.fail_at(Some(place), problem)
    }

    /// Records an error at a place.
    pub(super) fn fail_at(&mut self, place: Option<Place>, problem: Problem) -> &mut SpecError {
        // Combinations of a matrix share their text: report each thing once.
        let same = |old: &SpecError| {
            old.problem == problem
                && old.place.as_ref().map(|p| (p.span.clone(), p.text.name.as_str()))
                    == place.as_ref().map(|p| (p.span.clone(), p.text.name.as_str()))
        };
        let index = match self.errors.iter().position(same) {
            Some(index) => index,
            None => {
                let mut error = SpecError::new(problem);
                error.place = place;
                self.errors.push(error);
                self.errors.len() - 1
            }
        };
        &mut self.errors[index]
    }

    /// Returns how many errors there are so far.
    pub(super) fn count(&self) -> usize {
        self.errors.len()
    }

    /// Returns all errors in the order of their places, the command line's first.
    pub(super) fn into_errors(self) -> Option<SpecErrors> {
        if self.errors.is_empty() {
            return None;
        }
        let mut errors = self.errors;
        errors.sort_by_key(|error| {
            let place = error.place.as_ref();
            (place.is_some_and(|p| !Arc::ptr_eq(&p.text, &self.line)), place.map_or(0, |p| p.span.start))
        });
        Some(SpecErrors { errors, file: self.file.name.clone() })
    }
}

/// Whether `pointer` is `ancestor` or below it.
fn below(pointer: &str, ancestor: &str) -> bool {
    pointer.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
