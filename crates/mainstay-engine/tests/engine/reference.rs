//! Greedy answers are those of the reference implementation.

use crate::fixture::{ALL, engine, greedy, run, settings};
use mainstay_engine::{Finish, KvPrecision, Sampling, Settings, Work};

#[test]
fn greedy_tokens_are_those_of_the_reference() {
    for name in ALL {
        let (prompt, expected) = greedy(name);
        let mut engine = engine(name, settings());
        let work = Work {
            prompt,
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            max_tokens: expected.len(),
            ..Work::default()
        };
        let answer = run(&mut engine, vec![work]).remove(0);
        let same = answer.tokens.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        println!("{name}: {same} of {} greedy tokens identical", expected.len());
        assert_eq!(answer.tokens, expected, "{name}");
        assert_eq!(answer.finish, Some(Finish::Length));
    }
}

#[test]
fn the_model_card_counts_what_the_cache_holds() {
    let bytes = |name, kv| engine(name, Settings { kv, ..settings() }).model().kv_bytes_per_token;
    // layers x (kv_lora + rope) x bytes, and layers x kv_heads x head x 2 x bytes.
    assert_eq!(bytes("deepseek-v3", KvPrecision::F16), 3 * (32 + 16) * 2);
    assert_eq!(bytes("qwen3", KvPrecision::F32), 2 * 2 * 32 * 2 * 4);
    let engine = engine("deepseek-v3", settings());
    let card = engine.model();
    assert_eq!((card.parameters, card.vocabulary, card.context), (314_032 + 32, 320, 512));
    assert_eq!(
        (card.architecture.as_str(), &card.end_tokens[..]),
        ("DeepseekV3ForCausalLM", &[1][..])
    );
}
