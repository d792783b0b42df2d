//! What models say: a text that depends on the weights, the request and the choice alone.
//!
//! So the whole answer is known before it is given, and a joint can be judged against it. Two
//! sites with the same weights say the same; other weights say it differently from the first word.

use mainstay_core::names::RequestId;
use mainstay_core::rng::Rng;

/// Pieces as tokenizers cut them: within words, with spaces, of one to four bytes a character.
const PIECES: [&str; 32] = [
    "the", " sea", " is", " wide", ", ", "and", " night", "ing", "ed", " of", "海", "風", " 是",
    "é", "ü", " naïve", "\n", "\n\n", "1", "42", ".", " \"", "\"", "🌊", " so", " it", "s", " a",
    " Δ", "—", "tion", " un",
];

/// The tokens of the answer that `weights` give to `request`.
pub fn answer(weights: u64, (request, choice): (RequestId, u32), tokens: u32) -> Vec<&'static str> {
    let mut rng = Rng::new(weights ^ request.0.rotate_left(20) ^ (u64::from(choice) << 50));
    (0..tokens).map(|_| PIECES[rng.below(PIECES.len() as u64) as usize]).collect()
}

/// How the same weights go on after `text`, and whether `text` is theirs: the rest of their own
/// answer where it begins with `text`, else their own words from the `told`-th token on.
pub fn continuation(
    weights: u64,
    (request, choices): (RequestId, u32),
    tokens: u32,
    (text, told): (&str, u32),
) -> (Vec<String>, bool) {
    for choice in 0..choices {
        let mut at = 0;
        let mut rest = Vec::new();
        let whole = answer(weights, (request, choice), tokens);
        if !whole.concat().starts_with(text) {
            continue;
        }
        for piece in whole {
            let end = at + piece.len();
            if end > text.len() {
                rest.push(piece[text.len().saturating_sub(at)..].to_string());
            }
            at = end;
        }
        return (rest, true);
    }
    let own = answer(weights, (request, 0), tokens);
    (own.iter().skip(told as usize).map(|piece| piece.to_string()).collect(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_weights_go_on_where_they_were() {
        let request = RequestId(7);
        let whole = answer(1, (request, 0), 60).concat();
        for (at, _) in whole.char_indices() {
            let (rest, is_own) = continuation(1, (request, 1), 60, (&whole[..at], 0));
            assert!(is_own);
            assert_eq!(format!("{}{}", &whole[..at], rest.concat()), whole);
        }
        assert!(!continuation(2, (request, 1), 60, (&whole[..20], 5)).1);
    }
}
