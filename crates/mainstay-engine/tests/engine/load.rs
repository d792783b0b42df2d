//! Many streams at once: the short form of `examples/engine_load`.

use crate::fixture::{engine, run, settings};
use crate::streams::{Load, Streams};
use mainstay_engine::{Settings, Work};

#[test]
fn many_streams_lose_no_page_and_none_starves_or_fails_by_another() {
    let per_token = engine("qwen3", settings()).model().kv_bytes_per_token;
    let cache_bytes = per_token * 400;
    let tight = Settings { cache_bytes, batch_max: 16, waiting_max: 64, ..settings() };
    let mut engine = engine("qwen3", tight);
    let load = Load {
        streams: 64,
        seed: 7,
        prompt_max: 120,
        answer_max: 60,
        ids: (10, 310),
        leaves: 5,
        breaks: 20,
    };
    let mut streams = Streams::new(load);
    for _ in 0..300 {
        streams.step(&mut engine);
    }
    streams.drain(&mut engine);
    let seen = &streams.seen;
    assert!(seen.whole > 40 && seen.left > 4 && seen.broken > 2, "{seen:?}");
    assert!(seen.cached > 0);
    for (work, answer) in std::mem::take(&mut streams.kept) {
        let alone = run(&mut engine, vec![Work { salt: 1, ..work }]).remove(0);
        assert_eq!(alone.tokens, answer);
    }
}
