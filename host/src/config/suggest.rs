//! Words for problems: what was probably meant, and what there is to choose from.

/// The candidate that is so near to a word that it was probably meant.
pub(crate) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    // Distances cost the product of both lengths; nobody means a name by a word this long.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    let short = candidates.filter(|candidate| candidate.len() <= 64);
    let near = short.map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate));
    let (distance, best) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= (word.chars().count() / 3).clamp(1, 3)).then_some(best)
}

/// The question that suggestions are worded as.
pub(crate) fn did_you_mean(meant: &str) -> String {
    format!("did you mean `{meant}`?")
}

/// Words as they stand in a message: the first dozen.
pub(crate) fn listed<'c>(words: impl Iterator<Item = &'c str>) -> String {
    let mut words: Vec<_> = words.take(13).collect();
    let more = words.len() > 12;
    words.truncate(12);
    if words.is_empty() {
        "none".to_owned()
    } else {
        format!("{}{}", words.join(", "), if more { ", …" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_is_suggested() {
        let from = |word| nearest(word, ["endpoints", "listen", "take", "x"].into_iter());
        assert_eq!(from("endpoint"), Some("endpoints"));
        assert_eq!(from("Listen"), Some("listen"));
        assert_eq!(from("lisetn"), Some("listen"));
        assert_eq!(from("tkae"), Some("take"));
        assert_eq!(from("colour"), None);
        assert_eq!(from(&"e".repeat(100)), None);
    }

    #[test]
    fn a_list_is_cut_after_a_dozen() {
        assert_eq!(listed(["a"; 12].into_iter()), "a, a, a, a, a, a, a, a, a, a, a, a");
        assert!(listed(["a"; 13].into_iter()).ends_with("a, …"));
        assert_eq!(listed([].into_iter()), "none");
    }
}
