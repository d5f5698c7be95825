//! Templates that are known already, extended by new forms.
//!
//! Two things may happen: a known template becomes more general, or a new one is added. Neither may take a form away
//! from the known template that matches it, or ids would not be stable. Of the templates that match a form the one with
//! most words spelt out wins, then the first: an order that does not depend on the form. So it is enough to compare a
//! candidate with every known template that some form could match as well ([`Pattern::meets`]):
//! - a new template must come behind each of them;
//! - a template made more general must do so too, and none of them may have come behind it before (what it won with the
//!   words it gives up would go to that one).
//!
//! Where that does not hold, forms become templates of their own, word for word, which match nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::{ANY, Limits, Tree, key_of, words};

/// Known templates and new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// The known templates in their order, some more general than before.
    pub known: Vec<String>,
    /// New templates, in order of their first form.
    pub new: Vec<String>,
}

/// Groups forms that no known template matches, in order of first appearance, with each other and with the known templates.
///
/// Every form that a known template matches has the same one in the result, and every one of `forms` has one.
pub fn extend(known: &[&str], forms: &[&str], limits: Limits) -> Extended {
    let all: Vec<&str> = known.iter().chain(forms).copied().collect();
    let tree = Tree::of(&all, limits);
    let mut patterns: Vec<Pattern> = known.iter().map(|text| Pattern::new(text)).collect();
    let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, pattern) in patterns.iter().enumerate() {
        by_length.entry(pattern.words.len()).or_default().push(number);
    }
    let alike = |pattern: &Pattern| by_length.get(&pattern.words.len()).map_or(&[][..], Vec::as_slice);

    let mut candidates: Vec<(usize, String, Vec<usize>)> = Vec::new();
    let mut alone: Vec<usize> = Vec::new();
    for group in &tree.groups {
        let mut texts: BTreeMap<String, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (text, &member) in group.texts(&all, limits.min_values).into_iter().zip(&group.members) {
            let (old, new) = texts.entry(text).or_default();
            if member < known.len() { old.push(member) } else { new.push(member) }
        }
        for (text, (old, new)) in texts {
            match (old.first(), new.first()) {
                (Some(&number), Some(_)) => {
                    let wider = Pattern::new(&text);
                    let mut met =
                        alike(&wider).iter().filter(|&&other| other != number && wider.meets(&patterns[other]));
                    let keeps = met.all(|&other| {
                        let lost = patterns[number].meets(&patterns[other])
                            && patterns[number].rank(number) < patterns[other].rank(other);
                        patterns[other].rank(other) < wider.rank(number) && !lost
                    });
                    if keeps {
                        patterns[number] = wider;
                    } else {
                        alone.extend(new);
                    }
                }
                (None, Some(&first)) => candidates.push((first, text, new)),
                (_, None) => {}
            }
        }
    }
    let mut new: Vec<(usize, String)> = Vec::new();
    for (first, text, members) in candidates {
        let pattern = Pattern::new(&text);
        let takes =
            |other: usize| patterns[other].meets(&pattern) && pattern.rank(all.len()) < patterns[other].rank(other);
        if alike(&pattern).iter().any(|&other| takes(other)) {
            alone.extend(members);
        } else {
            new.push((first, text));
        }
    }
    new.extend(alone.into_iter().map(|number| (number, all[number].to_owned())));
    new.sort_unstable();
    let mut seen = BTreeSet::new();
    new.retain(|(_, text)| seen.insert(text.clone()));
    Extended {
        known: patterns.into_iter().map(|pattern| pattern.words.join(" ")).collect(),
        new: new.into_iter().map(|(_, text)| text).collect(),
    }
}

/// The words of a template.
struct Pattern {
    words: Vec<String>,
    /// Words that are spelt out.
    fixed: usize,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let words: Vec<String> = words(text).into_iter().map(str::to_owned).collect();
        let fixed = words.iter().filter(|word| *word != ANY && key_of(word).is_none()).count();
        Self { words, fixed }
    }

    /// Returns its place among the templates that match a form: the least is the form's template.
    fn rank(&self, number: usize) -> (std::cmp::Reverse<usize>, usize) {
        (std::cmp::Reverse(self.fixed), number)
    }

    /// Returns whether some form matches both.
    fn meets(&self, other: &Self) -> bool {
        let meet = |(a, b): (&String, &String)| {
            let begins = |key: Option<&str>, word: &str| key.is_some_and(|key| word.starts_with(key));
            a == b || a == ANY || b == ANY || begins(key_of(a), b) || begins(key_of(b), a)
        };
        self.words.len() == other.words.len() && self.words.iter().zip(&other.words).all(meet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::{Matcher, mine};
    use proptest::prelude::*;

    fn limits(min_values: usize) -> Limits {
        Limits { min_values, ..Limits::default() }
    }

    #[test]
    fn a_known_template_becomes_more_general_and_keeps_its_place() {
        let got = extend(&["session of ann closed", "disk full"], &["session of bob closed", "new thing"], limits(2));
        assert_eq!(got.known, ["session of <*> closed", "disk full"]);
        assert_eq!(got.new, ["new thing"]);
        // Too few values: a template of its own.
        let got = extend(&["session of ann closed"], &["session of bob closed"], limits(3));
        assert_eq!(
            (got.known, got.new),
            (vec!["session of ann closed".to_owned()], vec!["session of bob closed".to_owned()])
        );
    }

    #[test]
    fn of_known_templates_that_would_become_one_each_keeps_its_id() {
        let got = extend(&["in is user ann", "in is user bob"], &["in is user cyd", "in is user dan"], limits(3));
        assert_eq!(got.known, ["in is user <*>", "in is user bob"]);
        assert_eq!(got.new, [""; 0]);
        let matcher = Matcher::new(got.known.iter().map(String::as_str));
        assert_eq!(
            ["in is user ann", "in is user bob", "in is user eve"].map(|f| matcher.find(f)),
            [Some(0), Some(1), Some(0)]
        );
    }

    #[test]
    fn nothing_takes_a_form_from_a_known_template() {
        // `a <*> x y` would be more specific than what `a b x y` has; so the forms stay alone.
        let known = ["a b <*> <*>"];
        let forms = ["a c x y", "a d x y", "a e x y"];
        let got = extend(&known, &forms, limits(3));
        assert_eq!(
            (got.known.as_slice(), got.new.as_slice()),
            (&known.map(str::to_owned)[..], &forms.map(str::to_owned)[..])
        );
    }

    #[test]
    fn without_known_templates_it_is_mining() {
        let forms = ["user ann is in", "user bob is in", "bye"];
        assert_eq!(extend(&[], &forms, limits(2)), Extended { known: Vec::new(), new: mine(&forms, limits(2)) });
    }

    /// Messages of few different words, so that they meet often.
    fn messages(most: usize) -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[ab]( |=)([a-f]|<num>)( ([a-h]|<num>)){0,3}", 1..most)
    }

    proptest! {
        #[test]
        fn forms_keep_their_templates_over_any_number_of_extensions(
            first in messages(30),
            later in prop::collection::vec(messages(30), 1..4),
            others in messages(60),
            min_values in 2usize..5,
        ) {
            let text = |forms: &[String]| mine(&forms.iter().map(String::as_str).collect::<Vec<_>>(), limits(min_values));
            let mut known = text(&first);
            for forms in &later {
                let before = Matcher::new(known.iter().map(String::as_str));
                let mut seen = BTreeSet::new();
                let unknown: Vec<&str> =
                    forms.iter().map(String::as_str).filter(|f| before.find(f).is_none() && seen.insert(*f)).collect();
                let texts: Vec<&str> = known.iter().map(String::as_str).collect();
                let got = extend(&texts, &unknown, limits(min_values));
                prop_assert_eq!(got.known.len(), known.len());
                let extended: Vec<String> = got.known.into_iter().chain(got.new).collect();
                let after = Matcher::new(extended.iter().map(String::as_str));
                for form in first.iter().chain(later.iter().flatten()).chain(&others) {
                    if let Some(number) = before.find(form) {
                        prop_assert_eq!(after.find(form), Some(number), "{}: {:?} -> {:?}", form, &known, &extended);
                    }
                }
                for form in forms {
                    prop_assert!(after.find(form).is_some(), "{}", form);
                }
                known = extended;
            }
        }
    }
}
