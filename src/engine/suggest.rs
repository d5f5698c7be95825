//! "Did you mean": the nearest known name by edit distance.

/// Returns a hint for an unknown `name`: the nearest of `known`, or the list of them when there are few.
pub fn did_you_mean(name: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), *k))
        .filter(|(distance, k)| *distance <= 1 + k.len().max(name.len()) / 4)
        .min();
    match near {
        Some((_, k)) => format!("did you mean `{k}`?"),
        None if known.is_empty() => "no names are known here".to_owned(),
        None if known.len() <= 24 => format!("known names: {}", known.join(", ")),
        None => format!("there are {} known names, none of them near", known.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_nearest_and_lists_few() {
        assert_eq!(did_you_mean("prase", &["parse", "label"]), "did you mean `parse`?");
        assert_eq!(did_you_mean("zzz", &["parse", "label"]), "known names: parse, label");
    }
}
