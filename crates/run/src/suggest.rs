//! "Did you mean": the known name nearest to one that is not known.

/// The candidate nearest to `name`, if one is near enough to be worth suggesting.
///
/// Near means few letters changed, missing, added or swapped with their neighbour (Damerau-Levenshtein), at
/// most one in three of the letters; case and the difference between `-`, `_` and a space do not count.
/// Ties go to the earlier candidate.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = plain(name);
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&wanted, &plain(c)), c))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// The end of an error message: `: did you mean "x"?` or `: known are "a", "b"`.
pub(crate) fn hint(name: &str, candidates: &[&str]) -> String {
    if candidates.is_empty() {
        return ": there are none".to_owned();
    }
    match nearest(name, candidates.iter().copied()) {
        Some(near) => format!(": did you mean `{near}`?"),
        None => {
            let all: Vec<_> = candidates.iter().map(|c| format!("`{c}`")).collect();
            format!(": known are {}", all.join(", "))
        }
    }
}

fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace(['_', ' '], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far() {
        let keys = ["learning-rate", "weight-decay", "steps", "seed", "lr"];
        let near = |n| nearest(n, keys);
        assert_eq!(near("learnin-rate"), Some("learning-rate"));
        assert_eq!(near("learning_rate"), Some("learning-rate"));
        assert_eq!(near("Weight Decay"), Some("weight-decay"));
        assert_eq!(near("setps"), Some("steps"));
        assert_eq!(near("momentum"), None);
        assert_eq!(near("x"), None);
        assert_eq!(near(""), None);
        assert_eq!(nearest("ab", ["ax", "xb"]), Some("ax"), "ties go to the first");
        assert_eq!(nearest("a", []), None);
    }
}
