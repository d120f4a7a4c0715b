//! Guesses which known word is meant by an unknown one. The guess is only for an error.

/// "did you mean …" where one of `known` is near, else the whole list.
pub fn hint(word: &str, known: &[&str]) -> String {
    match near_miss(word, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("allowed are {}", known.join(", ")),
    }
}

/// The one of `known` that is so near to `word` that it is probably meant.
pub fn near_miss<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let (edits, near) = nearest(word, known)?;
    (edits <= 1 + near.len() / 4).then_some(near)
}

/// How many edits the nearest of `known` is away, and that word.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<(usize, &'k str)> {
    // A word that is far too long is no near miss, and its distance takes the square of its length to find.
    known.iter().filter(|_| word.len() <= 64).map(|k| (strsim::osa_distance(word, k), *k)).min()
}
