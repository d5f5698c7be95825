//! Drain: groups message forms by a tree of fixed depth, and names for each form the template it belongs to.
//!
//! Source: P. He et al., *Drain: An Online Log Parsing Approach with Fixed Depth Tree*, ICWS 2017, with these changes.
//! - It works on distinct *forms* (messages whose variables are masked already, see `logs::mask`) in order of first
//!   appearance, so that the result does not depend on how a log was cut and most lines cost one table look-up.
//! - A wildcard that both sides share counts half a word.
//! - When all forms are in, a position where a group's forms differ is variable only if it takes enough different words
//!   ([`Limits::min_values`]), or a wildcard is among them, or they are units of size, or they differ only in the types
//!   of their wildcards; else its words are part of templates of their own. So `VM started` and `VM stopped` stay two
//!   templates, while forty user names, or `KB` and `MB`, become one wildcard.
//! - Each form is then matched against the finished templates, the most specific first. [`Matcher`] does the same for
//!   logs seen later, so that a line has the same template in a batch and when it is scored alone.
//! - Templates of an earlier log can be gone on from (module `extend`).

mod extend;

use std::collections::{BTreeMap, BTreeSet};

pub use extend::{Extended, extend};

/// The wildcard of positions where forms of one template differ.
pub const ANY: &str = "<*>";

/// How alike forms of one template must be, and the shape of the tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Levels of the tree, at least 3: the number of words, `depth - 2` leading words, the leaf.
    pub depth: usize,
    /// Least share of equal words, above 0 and at most 1.
    pub similarity: f64,
    /// Most children of an inner node; further words share one child.
    pub max_children: usize,
    /// Fewest different words that make a position variable.
    pub min_values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 4, similarity: 0.5, max_children: 100, min_values: 8 }
    }
}

/// Groups forms (in order of first appearance) and returns the texts of their templates, in order of the first form.
pub fn mine(forms: &[&str], limits: Limits) -> Vec<String> {
    let tree = Tree::of(forms, limits);
    let mut texts: Vec<(usize, String)> = Vec::new();
    let mut seen = BTreeSet::new();
    for group in &tree.groups {
        for (number, text) in group.split(forms, limits.min_values) {
            if seen.insert(text.clone()) {
                texts.push((number, text));
            }
        }
    }
    texts.sort_unstable();
    texts.into_iter().map(|(_, text)| text).collect()
}

fn words(form: &str) -> Vec<&str> {
    form.split(' ').collect()
}

/// Whether a word holds a wildcard, built-in or of the user's.
fn is_variable(word: &str) -> bool {
    word.match_indices('<').any(|(at, _)| {
        let rest = &word[at + 1..];
        rest.starts_with("*>")
            || rest
                .find('>')
                .is_some_and(|end| end > 0 && rest[..end].bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    })
}

/// Whether all of a word is a value: it starts with a wildcard.
fn is_value(word: &str) -> bool {
    let word = word.trim_start_matches(['/', '(', '[', '"', '\'']);
    word.starts_with('<') && is_variable(word)
}

/// Whether a word is a unit of size: how a number is written depends on how large it is.
fn is_unit(word: &str) -> bool {
    let word = word.trim_end_matches([',', '.', ';', ')', ']']);
    matches!(word, "B" | "KB" | "MB" | "GB" | "TB" | "KiB" | "MiB" | "GiB" | "TiB" | "kB" | "bytes")
}

/// Whether words are equal but for the types of their wildcards: `v<ip>` and `v<num>` are both versions.
fn are_of_one_shape(words: &BTreeSet<&str>) -> bool {
    let mut shapes = words.iter().map(|word| shape(word));
    let first = shapes.next();
    first.as_ref().is_some_and(|first| first.contains(ANY)) && shapes.all(|shape| Some(shape) == first)
}

/// A word with every wildcard written `<*>`.
fn shape(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('<') {
        let inner = &rest[at + 1..];
        match inner.find('>').filter(|&end| is_variable(&rest[at..at + end + 2]) && !inner[..end].contains('<')) {
            Some(end) => {
                out.push_str(&rest[..at]);
                out.push_str(ANY);
                rest = &inner[end + 1..];
            }
            None => {
                out.push_str(&rest[..=at]);
                rest = inner;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A node of the tree: inner nodes have children by word, leaves list groups.
#[derive(Default)]
struct Node {
    children: BTreeMap<String, Node>,
    groups: Vec<usize>,
}

/// Forms that look alike.
struct Group {
    template: Vec<String>,
    members: Vec<usize>,
}

struct Tree {
    limits: Limits,
    roots: BTreeMap<usize, Node>,
    groups: Vec<Group>,
}

impl Tree {
    fn of(forms: &[&str], limits: Limits) -> Self {
        let mut tree = Self { limits, roots: BTreeMap::new(), groups: Vec::new() };
        for (number, form) in forms.iter().enumerate() {
            tree.add(number, form);
        }
        tree
    }

    fn add(&mut self, number: usize, form: &str) {
        let words = words(form);
        let leaf = leaf(&mut self.roots, &words, &self.limits);
        let mut best: Option<(f64, usize, usize)> = None;
        for &group in &leaf.groups {
            let (alike, wild) = similarity(&self.groups[group].template, &words);
            // Ties go to the group with more wildcards, as in the paper, then to the older one.
            if best.is_none_or(|(a, w, _)| alike > a || (alike == a && wild > w)) {
                best = Some((alike, wild, group));
            }
        }
        if let Some((alike, _, group)) = best
            && alike >= self.limits.similarity
        {
            let group = &mut self.groups[group];
            for (mine, word) in group.template.iter_mut().zip(&words) {
                if mine != word && mine != ANY {
                    ANY.clone_into(mine);
                }
            }
            group.members.push(number);
            return;
        }
        leaf.groups.push(self.groups.len());
        let template = words.iter().map(|&w| w.to_owned()).collect();
        self.groups.push(Group { template, members: vec![number] });
    }
}

fn leaf<'a>(roots: &'a mut BTreeMap<usize, Node>, words: &[&str], limits: &Limits) -> &'a mut Node {
    let mut node = roots.entry(words.len()).or_default();
    for word in words.iter().take(limits.depth.saturating_sub(2)) {
        let key = if is_variable(word) { ANY } else { *word };
        // The last free place is kept for the child that takes all further words.
        let full = node.children.len() + 1 >= limits.max_children;
        let key = if node.children.contains_key(key) || !full { key } else { ANY };
        node = node.children.entry(key.to_owned()).or_default();
    }
    node
}

/// Returns the share of agreeing words (shared wildcards count half, also in the total) and the number of `<*>`.
fn similarity(template: &[String], words: &[&str]) -> (f64, usize) {
    let (mut same, mut all, mut wild) = (0.0, 0.0, 0);
    for (mine, word) in template.iter().zip(words) {
        if mine == ANY {
            wild += 1;
            all += 0.5;
        } else if mine == word {
            let weight = if is_variable(word) { 0.5 } else { 1.0 };
            same += weight;
            all += weight;
        } else {
            all += 1.0;
        }
    }
    if all == 0.0 { (1.0, wild) } else { (same / all, wild) }
}

impl Group {
    /// Returns the group's templates, each with its first form: see [`Limits::min_values`].
    fn split(&self, forms: &[&str], min_values: usize) -> Vec<(usize, String)> {
        let mut texts: BTreeMap<String, usize> = BTreeMap::new();
        for (text, &number) in self.texts(forms, min_values).into_iter().zip(&self.members) {
            texts.entry(text).or_insert(number);
        }
        texts.into_iter().map(|(text, number)| (number, text)).collect()
    }

    /// Returns the template of each member.
    fn texts(&self, forms: &[&str], min_values: usize) -> Vec<String> {
        let members: Vec<Vec<&str>> = self.members.iter().map(|&m| words(forms[m])).collect();
        let variable: Vec<Option<String>> = (0..self.template.len())
            .map(|i| {
                if self.template[i] != ANY {
                    return None;
                }
                let values: BTreeSet<&str> = members.iter().map(|m| m[i]).collect();
                let key = shared_key(&values);
                let variable = values.len() > 1
                    && (values.len() >= min_values
                        || values.iter().any(|w| is_value(w.strip_prefix(key).unwrap_or(w)))
                        || values.iter().all(|w| is_unit(w))
                        || are_of_one_shape(&values));
                variable.then(|| format!("{key}{ANY}"))
            })
            .collect();
        let text = |member: &Vec<&str>| {
            let text: Vec<&str> =
                member.iter().zip(&variable).map(|(word, variable)| variable.as_deref().unwrap_or(word)).collect();
            text.join(" ")
        };
        members.iter().map(text).collect()
    }
}

/// Returns the `key=` that all words start with, else nothing.
fn shared_key<'a>(words: &BTreeSet<&'a str>) -> &'a str {
    let key = |word: &'a str| word.find('=').map_or("", |at| &word[..=at]);
    let mut keys = words.iter().map(|w| key(w));
    let first = keys.next().unwrap_or_default();
    if keys.all(|k| k == first) { first } else { "" }
}

/// Finds the template of a form: of all that match it as a whole the one with most words spelt out, then the first.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    exact: BTreeMap<String, usize>,
    by_start: BTreeMap<(usize, String), Vec<usize>>,
    templates: Vec<Vec<String>>,
}

impl Matcher {
    /// Takes the texts of templates; their numbers are their places.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut matcher = Self::default();
        for (number, text) in texts.into_iter().enumerate() {
            let template: Vec<String> = words(text).into_iter().map(str::to_owned).collect();
            let open = template[0].contains(ANY);
            let start = if open { ANY.to_owned() } else { template[0].clone() };
            matcher.exact.entry(text.to_owned()).or_insert(number);
            matcher.by_start.entry((template.len(), start)).or_default().push(number);
            matcher.templates.push(template);
        }
        matcher
    }

    /// Returns the number of the form's template.
    pub fn find(&self, form: &str) -> Option<usize> {
        if let Some(&number) = self.exact.get(form) {
            return Some(number);
        }
        let words = words(form);
        let mut best: Option<(usize, usize)> = None;
        for start in [words[0], ANY] {
            for &number in self.by_start.get(&(words.len(), start.to_owned())).into_iter().flatten() {
                let Some(equal) = agreement(&self.templates[number], &words) else { continue };
                if best.is_none_or(|(most, first)| equal > most || (equal == most && number < first)) {
                    best = Some((equal, number));
                }
            }
        }
        best.map(|(_, number)| number)
    }
}

/// Returns how many words are equal, or `None` if the template does not match.
fn agreement(template: &[String], words: &[&str]) -> Option<usize> {
    let mut equal = 0;
    for (mine, word) in template.iter().zip(words) {
        if mine == word {
            equal += 1;
        } else if mine != ANY {
            let key = key_of(mine)?;
            if !word.starts_with(key) {
                return None;
            }
        }
    }
    Some(equal)
}

/// Returns the `key=` of a word `key=<*>`.
fn key_of(word: &str) -> Option<&str> {
    word.strip_suffix(ANY).filter(|key| key.ends_with('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(min_values: usize) -> Limits {
        Limits { min_values, ..Limits::default() }
    }

    #[test]
    fn forms_that_differ_in_a_variable_word_share_a_template() {
        let forms = ["session of user ann was closed", "session of user bob was closed", "disk full"];
        assert_eq!(mine(&forms, limits(2)), ["session of user <*> was closed", "disk full"]);
    }

    #[test]
    fn few_values_are_words_of_the_template() {
        let forms = ["VM was started (event)", "VM was stopped (event)"];
        assert_eq!(mine(&forms, limits(3)), forms);
        assert_eq!(mine(&forms, limits(2)), ["VM was <*> (event)"]);
    }

    #[test]
    fn a_position_that_holds_a_wildcard_is_variable() {
        let forms = ["login failed; host=<ip> uid=<num>", "login failed; host=a.org uid=<num>"];
        assert_eq!(mine(&forms, limits(9)), ["login failed; host=<*> uid=<num>"]);
    }

    #[test]
    fn units_and_types_of_wildcards_are_no_words_of_a_template() {
        let forms = ["size <num> B, free <num> KB)", "size <num> KB, free <num> MB)", "size <num> KB, free <num> KB)"];
        assert_eq!(mine(&forms, limits(9)), ["size <num> <*> free <num> <*>"]);
        let forms = ["loaded the stack v<num> of x<y> now", "loaded the stack v<ip> of x<y> now"];
        assert_eq!(mine(&forms, limits(9)), ["loaded the stack <*> of x<y> now"]);
        assert_eq!(shape("a<b<num>,<ip>><>"), "a<b<*>,<*>><>");
    }

    #[test]
    fn further_words_share_a_child_when_a_node_is_full() {
        let forms: Vec<String> = (0..9u8).map(|i| format!("{} one two three", char::from(b'a' + i))).collect();
        let forms: Vec<&str> = forms.iter().map(String::as_str).collect();
        // Two children for `a` and `b`; the rest shares one, whose seven values make one template.
        let mined = mine(&forms, Limits { max_children: 3, min_values: 4, ..Limits::default() });
        assert_eq!(mined, ["a one two three", "b one two three", "<*> one two three"]);
    }

    #[test]
    fn the_most_specific_template_matches() {
        let matcher = Matcher::new(["a <*> c", "a b <*>", "<*> b c", "k=<*> x"]);
        assert_eq!(matcher.find("a b c"), Some(0));
        assert_eq!(matcher.find("a b d"), Some(1));
        assert_eq!(matcher.find("z b c"), Some(2));
        assert_eq!(matcher.find("k=5 x"), Some(3));
        assert_eq!(matcher.find("j=5 x"), None);
        assert_eq!(matcher.find("a b"), None);
    }

    #[test]
    fn wildcards_are_told_from_other_angles() {
        assert!(is_variable("<num>") && is_variable("x<ip>,") && is_variable("<*>") && is_variable("<my_mask>"));
        assert!(!is_variable("<memory:") && !is_variable("a<b") && !is_variable("<>") && !is_variable("<Init>"));
    }

    proptest! {
        #[test]
        fn every_form_has_a_template_and_mining_repeats(forms in prop::collection::vec("[ab](( |=)([a-d]|<num>)){0,4}", 1..40)) {
            let forms: Vec<&str> = forms.iter().map(String::as_str).collect();
            let texts = mine(&forms, limits(3));
            prop_assert_eq!(&texts, &mine(&forms, limits(3)));
            let matcher = Matcher::new(texts.iter().map(String::as_str));
            for form in &forms {
                prop_assert!(matcher.find(form).is_some(), "{}", form);
            }
        }
    }
}
