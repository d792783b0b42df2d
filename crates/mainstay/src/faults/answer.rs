//! The words the fault server says: a fixed function of the prompt, so that a test can compute
//! the whole answer and compare it to what its client got, character by character.
//!
//! The words mix ASCII, Chinese, emoji, quotes, backslashes and line ends, because those are what
//! a relay breaks first. Token 20 is always `海`, whose three bytes F30 cuts apart.

use sha2::{Digest, Sha256};

/// Tokens in a normal answer, as in Failover Bench.
pub const NORMAL_TOKENS: usize = 60;

/// Position of the three-byte character that F30 cuts.
pub const SPLIT_TOKEN: usize = 20;

const WORDS: [&str; 40] = [
    " the",
    " harbour",
    " keeps",
    " a",
    " light",
    " for",
    " ships",
    ",",
    " and",
    " every",
    " captain",
    " knows",
    "大海",
    "灯塔",
    "不会",
    "熄灭",
    "。",
    " \u{1f6a2}",
    " \u{1f30a}",
    " \"north\"",
    " C:\\tide\\chart",
    "\n",
    "\n\n",
    "\t-",
    " 3.14",
    " it's",
    " </b>",
    " {\"k\":1}",
    " naïve",
    " Ångström",
    " 航海",
    "者",
    " \u{1f468}\u{200d}\u{2708}\u{fe0f}",
    " wait",
    " [DONE]",
    " data:",
    " 100%",
    " a/b",
    ".",
    " storm",
];

/// The 60 tokens of the normal answer to `prompt` (the text of the last user message).
pub fn answer_text(prompt: &str) -> Vec<String> {
    answer_tokens(prompt, NORMAL_TOKENS)
}

/// The first `count` tokens of the answer to `prompt`; a longer answer begins with the shorter.
pub fn answer_tokens(prompt: &str, count: usize) -> Vec<String> {
    let seed = seed_of(prompt);
    (0..count).map(|i| token(seed, i)).collect()
}

/// The answer in JSON mode: `count` tokens that together are one object.
pub fn json_tokens(prompt: &str, count: usize) -> Vec<String> {
    let count = count.max(3);
    let words = answer_tokens(prompt, count - 2);
    let mut tokens = vec!["{\"answer\": \"".to_owned()];
    tokens.extend(words.iter().map(|word| {
        let quoted = serde_json::to_string(word).expect("a string is JSON");
        quoted[1..quoted.len() - 1].to_owned()
    }));
    tokens.push("\"}".to_owned());
    tokens
}

/// The thinking that comes before the answer in F31.
pub fn reasoning_tokens(prompt: &str, count: usize) -> Vec<String> {
    answer_tokens(&format!("{prompt}\u{1}reasoning"), count)
}

/// What is left of `tokens` after `prefix`, the prefix ending anywhere, inside a token too.
/// `None` if `prefix` is not how they begin.
pub fn after_prefix(tokens: &[String], prefix: &str) -> Option<Vec<String>> {
    let mut rest = prefix;
    for (i, token) in tokens.iter().enumerate() {
        if let Some(shorter) = rest.strip_prefix(token.as_str()) {
            rest = shorter;
            continue;
        }
        let tail = token.strip_prefix(rest)?;
        let mut left = vec![tail.to_owned()];
        left.extend_from_slice(&tokens[i + 1..]);
        return Some(left);
    }
    rest.is_empty().then(Vec::new)
}

/// SHA-256 of `text` in lower-case hexadecimal digits.
pub fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number that depends on `text` alone.
pub fn seed_of(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    u64::from_be_bytes(digest[..8].try_into().expect("eight bytes"))
}

/// SplitMix64: the `i`-th number of the sequence that starts at `seed`.
pub fn mix(seed: u64, i: u64) -> u64 {
    let mut z = seed.wrapping_add(i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn token(seed: u64, i: usize) -> String {
    match i {
        0 => "Tide".to_owned(),
        SPLIT_TOKEN => "海".to_owned(),
        // A number now and then makes every position recognizable: a lost or doubled token shows.
        _ if i % 7 == 3 => format!(" t{i}"),
        _ => WORDS[(mix(seed, i as u64) % WORDS.len() as u64) as usize].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_depends_on_the_prompt_alone() {
        assert_eq!(answer_text("a"), answer_text("a"));
        assert_ne!(answer_text("a"), answer_text("b"));
        assert_eq!(answer_text("a").len(), NORMAL_TOKENS);
        assert_eq!(answer_text("a")[SPLIT_TOKEN], "海");
        assert_eq!(answer_text("a")[..], answer_tokens("a", 100)[..NORMAL_TOKENS]);
    }

    #[test]
    fn a_prefix_may_end_inside_a_token() {
        let tokens = answer_text("x");
        let whole = tokens.concat();
        for (cut, _) in whole.char_indices() {
            let left = after_prefix(&tokens, &whole[..cut]).expect("a prefix");
            assert_eq!(left.concat(), whole[cut..]);
        }
        assert_eq!(after_prefix(&tokens, &whole), Some(Vec::new()));
        assert_eq!(after_prefix(&tokens, "Sorry"), None);
    }

    #[test]
    fn the_json_answer_parses() {
        for prompt in ["a", "b", "c", "d"] {
            let text = json_tokens(prompt, NORMAL_TOKENS).concat();
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(value["answer"], answer_tokens(prompt, NORMAL_TOKENS - 2).concat());
        }
    }
}
