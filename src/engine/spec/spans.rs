//! Where each key and value of a YAML text stands: JSON pointer → byte ranges, from saphyr-parser's events.
//!
//! Built only when an error has to be shown: loading a good file never comes here. Children of an alias have no place
//! of their own; the reader falls back to the nearest ancestor that has one.

use std::collections::BTreeMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, Span};

/// The places of one key or list item.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    /// The key; for a list item its value.
    pub(super) key: Range<usize>,
    /// The value; its first line where it spans several.
    pub(super) value: Range<usize>,
    /// Where the whole value ends.
    pub(super) end: usize,
}

/// A key that occurs twice.
#[derive(Clone, Debug)]
pub(super) struct Duplicate {
    /// The key.
    pub(super) key: String,
    /// Its JSON pointer.
    pub(super) pointer: String,
    /// The first place.
    pub(super) first: Range<usize>,
    /// The second place.
    pub(super) second: Range<usize>,
}

/// All places of a text.
#[derive(Default, Debug)]
pub(super) struct Spans {
    spots: BTreeMap<String, Spot>,
    /// Keys given twice, in the order of the text.
    pub(super) duplicates: Vec<Duplicate>,
    /// Where a second document begins, if there is one.
    pub(super) second_document: Option<usize>,
    /// What the parser made of text it could not read.
    pub(super) syntax: Option<(String, usize)>,
}

enum Container {
    /// The key waiting for its value.
    Mapping(Option<(String, Range<usize>)>),
    Sequence(usize),
}

struct Open {
    container: Container,
    pointer: String,
    key: Range<usize>,
    start: usize,
    /// Complex keys (`? [a]`) are read over.
    in_key: bool,
}

impl Spans {
    /// Reads a text as far as it can be read.
    pub(super) fn of(text: &str) -> Self {
        let bytes = ByteIndex::of(text);
        let mut spans = Self::default();
        let mut stack: Vec<Open> = Vec::new();
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let at = bytes.of_char(error.marker().index());
                    spans.syntax = Some((error.info().to_owned(), at));
                    break;
                }
            };
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents == 2 {
                        spans.second_document = Some(bytes.range(&span).start);
                        break;
                    }
                }
                Event::Scalar(value, ..) => {
                    let range = bytes.range(&span);
                    if let Some(Open { container: Container::Mapping(key @ None), pointer, .. }) = stack.last_mut() {
                        let inner = join(pointer, &value);
                        let name = value.into_owned();
                        if let Some(spot) = spans.spots.get(&inner) {
                            let first = spot.key.clone();
                            spans.note_duplicate(Duplicate {
                                key: name.clone(),
                                pointer: inner,
                                first,
                                second: range.clone(),
                            });
                        } else {
                            // Entered already now, so that a repeated key is seen whatever its value is.
                            spans
                                .spots
                                .insert(inner, Spot { key: range.clone(), value: range.clone(), end: range.end });
                        }
                        *key = Some((name, range));
                    } else if let Some((pointer, key)) = place_of_value(&mut stack, &range) {
                        spans.spots.insert(pointer, Spot { key, end: range.end, value: one_line(text, range) });
                    }
                }
                Event::Alias(_) => {
                    let range = bytes.range(&span);
                    if let Some((pointer, key)) = place_of_value(&mut stack, &range) {
                        spans.spots.insert(pointer, Spot { key, end: range.end, value: range });
                    }
                }
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    let range = bytes.range(&span);
                    let in_key = matches!(stack.last(), Some(Open { container: Container::Mapping(None), .. }));
                    let (pointer, key) = if in_key {
                        (String::from("\u{0}"), range.clone())
                    } else {
                        place_of_value(&mut stack, &range).unwrap_or((String::new(), range.clone()))
                    };
                    let container = match event {
                        Event::MappingStart(..) => Container::Mapping(None),
                        _ => Container::Sequence(0),
                    };
                    stack.push(Open { container, pointer, key, start: range.start, in_key });
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    let end = bytes.range(&span).end;
                    if let Some(open) = stack.pop() {
                        let range = open.start..end.max(open.start);
                        if open.in_key {
                            if let Some(Open { container: Container::Mapping(key @ None), .. }) = stack.last_mut() {
                                *key = Some(("?".to_owned(), range));
                            }
                        } else {
                            spans.spots.insert(
                                open.pointer,
                                Spot { key: open.key, end: range.end, value: one_line(text, range) },
                            );
                        }
                    }
                }
                _ => {}
            }
        }
        spans
    }

    /// Keeps a repeated key, unless it lies in a value that is repeated as a whole.
    fn note_duplicate(&mut self, found: Duplicate) {
        let inside = |outer: &Duplicate| found.pointer.strip_prefix(&outer.pointer).is_some_and(|r| r.starts_with('/'));
        if !self.duplicates.iter().any(inside) {
            self.duplicates.push(found);
        }
    }

    /// Returns the place of exactly this pointer.
    pub(super) fn get(&self, pointer: &str) -> Option<&Spot> {
        self.spots.get(pointer)
    }
}

/// Appends one escaped segment to a JSON pointer.
pub(super) fn join(pointer: &str, segment: &str) -> String {
    if segment.contains(['~', '/']) {
        format!("{pointer}/{}", segment.replace('~', "~0").replace('/', "~1"))
    } else {
        format!("{pointer}/{segment}")
    }
}

fn place_of_value(stack: &mut [Open], range: &Range<usize>) -> Option<(String, Range<usize>)> {
    let open = stack.last_mut()?;
    match &mut open.container {
        Container::Mapping(key) => {
            let (name, span) = key.take()?;
            Some((join(&open.pointer, &name), span))
        }
        Container::Sequence(next) => {
            let pointer = format!("{}/{next}", open.pointer);
            *next += 1;
            Some((pointer, range.clone()))
        }
    }
}

/// Cuts a range to its first line, so that a caret marks it rather than a bracket.
fn one_line(text: &str, range: Range<usize>) -> Range<usize> {
    let inside = text.get(range.clone()).unwrap_or_default();
    let line = inside.split('\n').next().unwrap_or_default().trim_end();
    range.start..range.start + line.len()
}

/// Character index → byte index.
struct ByteIndex {
    /// Byte offset of each character; empty for ASCII text.
    offsets: Vec<usize>,
    len: usize,
}

impl ByteIndex {
    fn of(text: &str) -> Self {
        let offsets = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect() };
        Self { offsets, len: text.len() }
    }

    fn of_char(&self, index: usize) -> usize {
        if self.offsets.is_empty() { index.min(self.len) } else { self.offsets.get(index).copied().unwrap_or(self.len) }
    }

    fn range(&self, span: &Span) -> Range<usize> {
        let start = self.of_char(span.start.index());
        start..self.of_char(span.end.index()).max(start)
    }
}
